//! Sources that are switched off and on, and opened anew with other settings, while the others go on.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde::Serialize;

use super::Group;
use crate::config::plan::PreparedPipeline;
use crate::error::StageError;
use crate::ledger::lock;
use crate::registry::{Build, Prepared, PreparedComponent};
use crate::stage::{Progress, Source, SourceEmitter, WorkerContext};

/// How often a source that is off looks whether it is wanted again.
const TICK: Duration = Duration::from_millis(20);

/// A source that can be switched off and on.
///
/// Off, it is closed: a camera is let go of. Its stream does not end, but waits; on again it begins a new epoch, as after a
/// loss, so that trackers and decoders start anew.
#[derive(Clone)]
pub struct Switchable {
    /// Its name.
    pub name: String,
    shared: Arc<Shared>,
}

struct Shared {
    /// Raised by each request.
    asked: AtomicU64,
    wanted: Mutex<Wanted>,
    state: Mutex<State>,
}

struct Wanted {
    on: bool,
    build: Arc<Build<dyn Source>>,
    group: Option<Arc<Group>>,
}

#[derive(Default)]
struct State {
    on: bool,
    answered: u64,
    refused: Option<String>,
}

/// Where a source stands.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SourceState {
    /// Whether it is open.
    pub on: bool,
    /// Whether it has not answered the last request: it does so when it next reads.
    pub pending: bool,
    /// Why the last request was refused or taken back, if it was.
    pub refused: Option<String>,
}

impl Switchable {
    /// Makes the sources of a pipeline switchable.
    pub fn all(prepared: &mut PreparedPipeline) -> Vec<Self> {
        let mut sources = Vec::new();
        for (part, component) in prepared.parts.iter_mut().zip(&prepared.pipeline.components) {
            let PreparedComponent::Source(part) = part else {
                continue;
            };
            let unbuilt: Build<dyn Source> = Box::new(|_| unreachable!("replaced at once"));
            let shared = Arc::new(Shared {
                asked: AtomicU64::new(0),
                wanted: Mutex::new(Wanted {
                    on: true,
                    build: Arc::new(std::mem::replace(&mut part.build, unbuilt)),
                    group: None,
                }),
                state: Mutex::default(),
            });
            sources.push(Self {
                name: component.name.to_string(),
                shared: shared.clone(),
            });
            part.build = Box::new(move |_| {
                Ok(Box::new(Switched {
                    inner: None,
                    shared: shared.clone(),
                    answered: shared.asked.load(Ordering::Acquire),
                    cx: None,
                    began: false,
                }) as Box<dyn Source>)
            });
        }
        sources
    }

    /// Closes the source until it is switched on again.
    pub fn pause(&self) {
        self.shared.ask(|wanted| wanted.on = false);
    }

    /// Opens the source again, with a new epoch; one that is open is opened anew.
    pub fn start(&self) {
        self.shared.ask(|wanted| wanted.on = true);
    }

    /// Opens the source anew from another preparation, if it is on. What changes with it in `group` is changed back if it
    /// cannot be opened.
    pub fn replace(&self, part: Prepared<dyn Source>, group: &Arc<Group>) {
        let (shared, before) = (self.shared.clone(), lock(&self.shared.wanted).build.clone());
        group.add(self.name.clone(), move |why| {
            shared.ask(|wanted| wanted.build = before);
            lock(&shared.state).refused = Some(why.to_owned());
        });
        self.shared.ask(|wanted| {
            wanted.build = Arc::new(part.build);
            wanted.group = Some(group.clone());
        });
    }

    /// Where it stands.
    pub fn state(&self) -> SourceState {
        let asked = self.shared.asked.load(Ordering::Acquire);
        let state = lock(&self.shared.state);
        SourceState {
            on: state.on,
            pending: state.answered < asked,
            refused: state.refused.clone(),
        }
    }
}

impl Shared {
    fn ask(&self, change: impl FnOnce(&mut Wanted)) {
        lock(&self.state).refused = None;
        let mut wanted = lock(&self.wanted);
        wanted.group = None;
        change(&mut wanted);
        self.asked.fetch_add(1, Ordering::Release);
    }

    fn answer(&self, asked: u64, on: bool) {
        let mut state = lock(&self.state);
        (state.on, state.answered) = (on, asked);
    }
}

struct Switched {
    inner: Option<Box<dyn Source>>,
    shared: Arc<Shared>,
    answered: u64,
    cx: Option<WorkerContext>,
    /// Whether it has been open before: what comes next is another epoch.
    began: bool,
}

impl Switched {
    fn opened(&self, build: &Build<dyn Source>) -> Result<Box<dyn Source>, StageError> {
        let mut source = build(0)?;
        if let Some(cx) = &self.cx {
            source.open(cx)?;
        }
        Ok(source)
    }

    /// Does what was asked for.
    fn heed(&mut self, out: &mut dyn SourceEmitter) -> Result<(), StageError> {
        let (asked, on, build, group) = {
            let wanted = lock(&self.shared.wanted);
            let asked = self.shared.asked.load(Ordering::Acquire);
            (asked, wanted.on, wanted.build.clone(), wanted.group.clone())
        };
        self.answered = asked;
        if !on {
            let closed = self.inner.take().map_or(Ok(()), |mut inner| inner.close());
            self.shared.answer(asked, false);
            return closed;
        }
        match self.opened(&build) {
            Ok(next) => {
                let old = self.inner.replace(next);
                if std::mem::replace(&mut self.began, true) {
                    out.discontinuity();
                }
                self.shared.answer(asked, true);
                old.map_or(Ok(()), |mut old| old.close())
            }
            Err(error) => {
                tracing::warn!(code = error.code.0, "The source is not opened: {error}");
                self.shared.answer(asked, self.inner.is_some());
                lock(&self.shared.state).refused = Some(error.to_string());
                if let Some(group) = group
                    && group.take_back(&error.to_string())
                    && self.inner.is_some()
                {
                    // The old one is still open.
                    self.answered = self.shared.asked.load(Ordering::Acquire);
                    self.shared.answer(self.answered, true);
                }
                Ok(())
            }
        }
    }
}

impl Source for Switched {
    fn open(&mut self, cx: &WorkerContext) -> Result<(), StageError> {
        self.cx = Some(cx.clone());
        let (on, build) = {
            let wanted = lock(&self.shared.wanted);
            (wanted.on, wanted.build.clone())
        };
        if on {
            self.inner = Some(self.opened(&build)?);
            self.began = true;
        }
        self.shared.answer(self.answered, on);
        Ok(())
    }

    fn next(&mut self, out: &mut dyn SourceEmitter) -> Result<Progress, StageError> {
        if self.shared.asked.load(Ordering::Relaxed) != self.answered {
            self.heed(out)?;
        }
        match &mut self.inner {
            Some(inner) => inner.next(out),
            None => {
                std::thread::sleep(TICK);
                Ok(Progress::More)
            }
        }
    }

    fn idle(&self) -> bool {
        self.inner.as_ref().is_none_or(|inner| inner.idle())
    }

    fn size_hint(&self) -> Option<u64> {
        self.inner.as_ref().and_then(|inner| inner.size_hint())
    }

    fn close(&mut self) -> Result<(), StageError> {
        lock(&self.shared.state).on = false;
        self.inner.take().map_or(Ok(()), |mut inner| inner.close())
    }
}
