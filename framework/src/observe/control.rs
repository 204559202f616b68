//! Changes to a run: stages whose instances are replaced between two packets.
//!
//! A replica lets go of what it holds back, as at the end of a stream, opens a new instance, and only then closes the old
//! one: where the new one cannot be had, the old one goes on. The ledger holds throughout.

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
    build: Mutex<Arc<Build<dyn Stage>>>,
    /// By replica: the request that it has answered.
    answered: Mutex<Vec<u64>>,
    refused: Mutex<Option<String>>,
}

/// Where the replacement of a stage stands.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Replacement {
    /// Requests so far.
    pub asked: u64,
    /// Replicas that have not answered the last one: they do so at their next packet.
    pub pending: usize,
    /// Why a replica went on with its old instance, if one did.
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
                build: Mutex::new(Arc::new(std::mem::replace(&mut part.build, unbuilt))),
                // A replica that no stream reaches is never opened, and has nothing to answer.
                answered: Mutex::new(vec![u64::MAX; component.replica_count()]),
                refused: Mutex::default(),
            });
            stages.push(Self {
                name: component.name.to_string(),
                shared: shared.clone(),
            });
            part.build = Box::new(move |replica| {
                let (asked, build) = shared.latest();
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
        self.shared.ask(None);
    }

    /// Builds the instances anew, from another preparation.
    pub fn replace(&self, part: Prepared<dyn Stage>) {
        self.shared.ask(Some(Arc::new(part.build)));
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
    fn ask(&self, build: Option<Arc<Build<dyn Stage>>>) {
        *lock(&self.refused) = None;
        let mut current = lock(&self.build);
        if let Some(build) = build {
            *current = build;
        }
        self.asked.fetch_add(1, Ordering::Release);
    }

    /// The last request and what it builds.
    fn latest(&self) -> (u64, Arc<Build<dyn Stage>>) {
        let build = lock(&self.build);
        (self.asked.load(Ordering::Acquire), build.clone())
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
        if self.shared.asked.load(Ordering::Relaxed) != self.answered {
            let (asked, build) = self.shared.latest();
            let refused = self.replace(&build, out).err();
            if let Some(error) = &refused {
                tracing::warn!(code = error.code.0, "The instance is not replaced: {error}");
            }
            self.answered = asked;
            self.shared.answer(self.replica, asked, refused);
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
