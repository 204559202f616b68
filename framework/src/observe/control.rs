//! Changes to a run: stages whose instances are replaced between two packets, and sources that are switched off and on.
//!
//! A replica lets go of what it holds back, as at the end of a stream, opens a new instance, and only then closes the old
//! one: where the new one cannot be had, the old one goes on, and whatever was changed with it is changed back. The ledger
//! holds throughout.

mod group;
mod source;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use serde::Serialize;

use crate::config::plan::PreparedPipeline;
use crate::error::StageError;
use crate::layer::StageLayer;
use crate::ledger::lock;
use crate::packet::Packet;
use crate::registry::{Build, Prepared, PreparedComponent};
use crate::stage::{Emitter, Stage, WorkerContext};

pub use group::Group;
pub use source::{SourceState, Switchable};

/// A stage whose instances can be replaced while it runs.
#[derive(Clone)]
pub struct Replaceable {
    /// Its name.
    pub name: String,
    shared: Arc<Shared>,
}

struct Shared {
    /// Raised by each request.
    asked: AtomicU64,
    current: Mutex<Current>,
    /// By replica: the request that it has answered.
    answered: Mutex<Vec<u64>>,
    refused: Mutex<Option<String>>,
}

/// What instances are built from, and what changes with it.
struct Current {
    build: Arc<Build<dyn Stage>>,
    group: Option<Arc<Group>>,
}

/// Where the replacement of a stage stands.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Replacement {
    /// Requests so far.
    pub asked: u64,
    /// Replicas that have not answered the last one: they do so at their next packet.
    pub pending: usize,
    /// Why the last request was refused or taken back, if it was: the old instances go on.
    pub refused: Option<String>,
}

impl Replaceable {
    /// Makes the stages of a pipeline replaceable. Each packet costs one load of a number more.
    pub fn all(prepared: &mut PreparedPipeline) -> Vec<Self> {
        let mut stages = Vec::new();
        for (part, component) in prepared.parts.iter_mut().zip(&prepared.pipeline.components) {
            let PreparedComponent::Stage(part) = part else {
                continue;
            };
            let unbuilt: Build<dyn Stage> = Box::new(|_| unreachable!("replaced at once"));
            let shared = Arc::new(Shared {
                asked: AtomicU64::new(0),
                current: Mutex::new(Current {
                    build: Arc::new(std::mem::replace(&mut part.build, unbuilt)),
                    group: None,
                }),
                // A replica that no stream reaches is never opened, and has nothing to answer.
                answered: Mutex::new(vec![u64::MAX; component.replica_count()]),
                refused: Mutex::default(),
            });
            stages.push(Self {
                name: component.name.to_string(),
                shared: shared.clone(),
            });
            part.build = Box::new(move |replica| {
                let (asked, build, _) = shared.latest();
                Ok(Box::new(Replaced {
                    inner: build(replica)?,
                    shared: shared.clone(),
                    answered: asked,
                    replica,
                    cx: None,
                }) as Box<dyn Stage>)
            });
        }
        stages
    }

    /// Builds the instances anew, as they are.
    pub fn restart(&self) {
        self.shared.ask(None, None);
    }

    /// Builds the instances anew, from another preparation. What changes with it in `group` is changed back if it cannot be
    /// had, as it is if any of those cannot.
    pub fn replace(&self, part: Prepared<dyn Stage>, group: &Arc<Group>) {
        let (shared, before) = (self.shared.clone(), lock(&self.shared.current).build.clone());
        group.add(self.name.clone(), move |why| shared.take_back(before, why));
        self.shared.ask(Some(Arc::new(part.build)), Some(group.clone()));
    }

    /// Where the last request stands.
    pub fn state(&self) -> Replacement {
        let asked = self.shared.asked.load(Ordering::Acquire);
        let answered = lock(&self.shared.answered);
        Replacement {
            asked,
            pending: answered.iter().filter(|answered| **answered < asked).count(),
            refused: lock(&self.shared.refused).clone(),
        }
    }
}

impl Shared {
    fn ask(&self, build: Option<Arc<Build<dyn Stage>>>, group: Option<Arc<Group>>) {
        *lock(&self.refused) = None;
        let mut current = lock(&self.current);
        if let Some(build) = build {
            current.build = build;
        }
        current.group = group;
        self.asked.fetch_add(1, Ordering::Release);
    }

    /// Goes back to what was before, for a reason.
    fn take_back(&self, build: Arc<Build<dyn Stage>>, why: &str) {
        self.ask(Some(build), None);
        *lock(&self.refused) = Some(why.to_owned());
    }

    /// The last request, what it builds, and what changes with it.
    fn latest(&self) -> (u64, Arc<Build<dyn Stage>>, Option<Arc<Group>>) {
        let current = lock(&self.current);
        let asked = self.asked.load(Ordering::Acquire);
        (asked, current.build.clone(), current.group.clone())
    }

    fn answer(&self, replica: usize, asked: u64, refused: Option<StageError>) {
        if let Some(answered) = lock(&self.answered).get_mut(replica) {
            *answered = asked;
        }
        if let Some(error) = refused {
            *lock(&self.refused) = Some(error.to_string());
        }
    }
}

struct Replaced {
    inner: Box<dyn Stage>,
    shared: Arc<Shared>,
    answered: u64,
    replica: usize,
    cx: Option<WorkerContext>,
}

impl Replaced {
    /// Replaces the instance, if that was asked for.
    fn heed(&mut self, out: &mut dyn Emitter) {
        if self.shared.asked.load(Ordering::Relaxed) == self.answered {
            return;
        }
        let (asked, build, group) = self.shared.latest();
        let refused = self.replace(&build, out).err();
        self.answered = asked;
        let Some(error) = refused else {
            return self.shared.answer(self.replica, asked, None);
        };
        tracing::warn!(code = error.code.0, "The instance is not replaced: {error}");
        self.shared.answer(self.replica, asked, Some(error.clone()));
        if let Some(group) = group
            && group.take_back(&error.to_string())
        {
            // This instance is still the old one: it need not be built again for that.
            let (now, ..) = self.shared.latest();
            self.answered = now;
            self.shared.answer(self.replica, now, None);
        }
    }

    fn replace(&mut self, build: &Build<dyn Stage>, out: &mut dyn Emitter) -> Result<(), StageError> {
        let Some(cx) = self.cx.clone() else {
            return Ok(());
        };
        let mut next = build(self.replica)?;
        next.open(&cx)?;
        for stream in &cx.streams {
            self.inner.flush(stream, out)?;
        }
        let mut old = std::mem::replace(&mut self.inner, next);
        old.close()
    }
}

impl StageLayer for Replaced {
    fn inner(&mut self) -> &mut dyn Stage {
        &mut *self.inner
    }

    fn open(&mut self, cx: &WorkerContext) -> Result<(), StageError> {
        self.cx = Some(cx.clone());
        self.shared.answer(self.replica, self.answered, None);
        self.inner.open(cx)
    }
    fn process(&mut self, packet: Packet, out: &mut dyn Emitter) -> Result<(), StageError> {
        self.heed(out);
        self.inner.process(packet, out)
    }
    fn process_batch(&mut self, packets: &[Packet], out: &mut dyn Emitter) -> Result<(), StageError> {
        self.heed(out);
        self.inner.process_batch(packets, out)
    }
}

#[cfg(test)]
mod tests;
