//! Calls into the instance.

use std::time::{Duration, Instant};

use super::held::{Holding, Key};
use super::out::Out;
use super::{Instance, Worker};
use crate::config::plan::{BackoffSpec, OnError};
use crate::error::StageError;
use crate::packet::Packet;
use crate::registry::Role;
use crate::runtime::component::{guard, random};

/// How a call for a packet went.
#[derive(Default)]
pub(super) struct Served {
    /// Time spent waiting for room downstream.
    pub(super) blocked: Duration,
    /// Capture of the packet, where a sink has taken it.
    pub(super) delivered: Option<Instant>,
}

impl Worker {
    /// Gives a packet to the instance, again as often as `on_error` says.
    pub(super) fn process(&mut self, packet: Packet, key: Key) -> Served {
        let (retries, backoff) = match &self.component.on_error {
            OnError::Retry { max, backoff, .. } => (*max, *backoff),
            _ => (0, BackoffSpec::default()),
        };
        let mut packet = packet;
        let mut attempts = 1;
        let mut served = Served::default();
        loop {
            if let Some(error) = self.dead.clone() {
                self.fail(&key, &error, attempts);
                return served;
            }
            let captured = packet.header.captured;
            let spare = (attempts <= retries).then(|| packet.clone());
            let outcome = self.call_watched("process", &mut served.blocked, |instance, out| match instance {
                Instance::Stage(stage) => stage.process(packet, out),
                Instance::Sink(sink) => sink.consume(packet),
            });
            if self.replaced {
                return served;
            }
            let error = match outcome {
                Ok(()) => {
                    if self.component.role == Role::Sink {
                        if let Some(holding) = self.let_go(&key) {
                            self.meter.passed.bump();
                            served.delivered = Some(captured);
                            match self.core.accounts.get(key.stream) {
                                Some(account) => holding.claim.acknowledge_in(account),
                                None => holding.claim.acknowledge(),
                            }
                        }
                    } else if let Some(holding) = self.hand.take() {
                        // It will settle the packet later.
                        self.desk.push(holding);
                    }
                    return served;
                }
                Err(error) => error,
            };
            let settled = self.hand.is_none() && !self.desk.has(&key);
            let again = spare.filter(|_| !settled);
            if again.is_none() {
                if settled {
                    self.core.warn(format!(
                        "`{}` reported an error after it had settled the packet: {error}",
                        self.component.name
                    ));
                } else {
                    self.fail(&key, &error, attempts);
                }
            }
            if !error.recoverable {
                let kept = self.let_go(&key);
                self.fail_instance(error);
                kept.into_iter().for_each(|holding| self.hold(holding));
            }
            match again {
                Some(again) => packet = again,
                None => return served,
            }
            served.blocked += self.wait_before(backoff.wait(attempts - 1, random()));
            attempts += 1;
        }
    }

    /// Waits before a packet is tried again; a stop ends the wait. Returns how long it took.
    fn wait_before(&self, wait: Duration) -> Duration {
        let began = self.core.clock.now();
        if let Some(until) = began.checked_add(wait).filter(|_| !wait.is_zero()) {
            self.core.wait_until_or_stop(until);
            return self.core.clock.now().saturating_duration_since(began);
        }
        Duration::ZERO
    }

    /// Takes a packet out of the hand, or from the desk.
    fn let_go(&mut self, key: &Key) -> Option<Holding> {
        match self.hand.take_if(|holding| holding.key == *key) {
            Some(holding) => Some(holding),
            None => self.desk.take(key),
        }
    }

    /// Settles a packet as failed.
    pub(super) fn fail(&mut self, key: &Key, error: &StageError, attempts: u32) {
        if let Some(holding) = self.let_go(key) {
            self.out().fail_holding(holding, error, attempts);
        }
    }

    pub(super) fn call(
        &mut self,
        name: &str,
        f: impl FnOnce(&mut Instance, &mut Out<'_>) -> Result<(), StageError>,
    ) -> Result<(), StageError> {
        let mut blocked = Duration::ZERO;
        self.call_timed(name, &mut blocked, f)
    }

    /// As [`call_timed`](Self::call_timed), for a call that ends within `timeout` or is not waited for.
    pub(super) fn call_watched(
        &mut self,
        name: &str,
        blocked: &mut Duration,
        f: impl FnOnce(&mut Instance, &mut Out<'_>) -> Result<(), StageError>,
    ) -> Result<(), StageError> {
        if self.component.timeout.is_none() {
            return self.call_timed(name, blocked, f);
        }
        self.desk.begin(self.core.clock.now());
        let outcome = self.call_timed(name, blocked, f);
        self.replaced = !self.desk.finish();
        outcome
    }

    /// Calls into the instance, if there is one; adds the time spent waiting for room downstream to `blocked`.
    pub(super) fn call_timed(
        &mut self,
        name: &str,
        blocked: &mut Duration,
        f: impl FnOnce(&mut Instance, &mut Out<'_>) -> Result<(), StageError>,
    ) -> Result<(), StageError> {
        let mut out = Out {
            core: &self.core,
            component: &self.component,
            replica: self.replica,
            meter: &self.meter,
            desk: &self.desk,
            hand: &mut self.hand,
            about: self.about,
            emitted: &mut self.emitted,
            blocked: Duration::ZERO,
        };
        let Some(instance) = &mut self.instance else {
            return Ok(());
        };
        let outcome = guard(&self.component.name, name, || f(instance, &mut out));
        *blocked += out.blocked;
        outcome
    }

    pub(super) fn out(&mut self) -> Out<'_> {
        Out {
            core: &self.core,
            component: &self.component,
            replica: self.replica,
            meter: &self.meter,
            desk: &self.desk,
            hand: &mut self.hand,
            about: self.about,
            emitted: &mut self.emitted,
            blocked: Duration::ZERO,
        }
    }
}
