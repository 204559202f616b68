//! The first inference, the measured loop, and the counters of its requests.

use std::time::Duration;

use flow_inference::{Engine, EngineError, InferQueue, LayerCounter, QueueOptions, Session, StepTime};

use super::measure::{self, Group, Limits, Measured};
use super::settings::{self, Settings};

/// What the loops run.
pub struct Loops<'a> {
    /// One network per group.
    pub engines: &'a [Engine],
    /// What iterations run.
    pub groups: &'a [Group],
    /// Whether streams are pinned and layers timed.
    pub settings: &'a Settings,
    /// When to stop.
    pub limits: &'a Limits,
    /// Threads.
    pub streams: usize,
    /// Requests in flight.
    pub requests: usize,
    /// Whether a first inference comes before.
    pub warm_up: bool,
}

/// What they gave.
pub struct Outcome {
    /// Time of the first inference.
    pub first: Option<Duration>,
    /// Latencies and counts.
    pub measured: Measured,
    /// The counters of each request, where layers are timed.
    pub counters: Vec<Vec<LayerCounter>>,
    /// Mean times of the steps of the first request.
    pub times: Vec<StepTime>,
}

impl Outcome {
    fn new(first: Option<Duration>, measured: Measured, engine: &Engine, sessions: &[&Session]) -> Self {
        let times: Vec<_> = sessions
            .iter()
            .filter_map(|s| Some(s.profile()?.mean()))
            .collect();
        Self {
            first,
            measured,
            counters: times.iter().map(|t| engine.counters(t)).collect(),
            times: times.into_iter().next().unwrap_or_default(),
        }
    }
}

impl Loops<'_> {
    /// One request in this thread.
    ///
    /// # Errors
    /// [`EngineError`] of a run that fails.
    pub fn sync(&self) -> Result<Outcome, EngineError> {
        let engine = &self.engines[0];
        let mut session = if self.settings.profile {
            engine.profiled_session()
        } else {
            engine.session()
        };
        if self.settings.pin
            && let Some(&cpu) = settings::cpus().first()
        {
            let report = flow::pins::pin_current_thread("main".into(), &[cpu]);
            if !report.ok {
                tracing::warn!("{report}");
            }
        }
        let mut first = None;
        if self.warm_up {
            let once = Limits {
                iterations: Some(1),
                duration: None,
                ..*self.limits
            };
            first = Some(measure::sync(&mut session, &self.groups[0], &once)?.total);
            session.clear_profile();
        }
        let measured = measure::sync(&mut session, &self.groups[0], self.limits)?;
        Ok(Outcome::new(first, measured, engine, &[&session]))
    }

    /// Requests on streams.
    ///
    /// # Errors
    /// [`EngineError`] of a run that fails.
    pub fn queued(&self) -> Result<Outcome, EngineError> {
        let options = QueueOptions {
            requests: self.requests,
            streams: self.streams,
            profiled: self.settings.profile,
            cpus: if self.settings.pin {
                settings::cpus()
            } else {
                Vec::new()
            },
        };
        let mut queue = InferQueue::new(self.engines, &options)?;
        let mut first = None;
        if self.warm_up {
            let once = Limits {
                iterations: Some(self.groups.len()),
                duration: None,
                ..*self.limits
            };
            let run = measure::queued(&mut queue, self.groups, 1, &once)?;
            first = run.latencies.first().copied();
            queue.sessions_mut().flatten().for_each(Session::clear_profile);
        }
        let measured = measure::queued(&mut queue, self.groups, self.requests, self.limits)?;
        let sessions: Vec<&Session> = queue.sessions_mut().filter_map(|s| s.first()).collect();
        Ok(Outcome::new(first, measured, &self.engines[0], &sessions))
    }
}
