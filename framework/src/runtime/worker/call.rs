//! Calls into the instance.

use std::time::{Duration, Instant};

use super::out::Out;
use super::{Instance, Worker};
use crate::config::plan::OnError;
use crate::error::StageError;
use crate::packet::{Packet, PacketId};
use crate::registry::Role;
use crate::runtime::component::guard;

impl Worker {
    /// Gives a packet to the instance, again as often as `on_error` says. Returns the time spent waiting for room
    /// downstream.
    pub(super) fn process(&mut self, packet: Packet, id: &PacketId) -> Duration {
        let component = self.component.clone();
        let retries = match &component.on_error {
            OnError::Retry { max, .. } => *max,
            _ => 0,
        };
        let mut packet = packet;
        let mut attempts = 1;
        let mut blocked = Duration::ZERO;
        loop {
            if let Some(error) = self.dead.clone() {
                self.fail(id, &error, attempts);
                return blocked;
            }
            let captured = packet.header.captured;
            let spare = (attempts <= retries).then(|| packet.clone());
            let outcome = self.call_watched("process", &mut blocked, |instance, out| match instance {
                Instance::Stage(stage) => stage.process(packet, out),
                Instance::Sink(sink) => sink.consume(packet),
            });
            if self.replaced {
                return blocked;
            }
            let error = match outcome {
                Ok(()) => {
                    if component.role == Role::Sink {
                        self.acknowledge(id, captured);
                    }
                    return blocked;
                }
                Err(error) => error,
            };
            let settled = !self.desk.has(id);
            let again = spare.filter(|_| !settled);
            if again.is_none() {
                if settled {
                    self.core.warn(format!(
                        "`{}` reported an error after it had settled the packet: {error}",
                        component.name
                    ));
                } else {
                    self.fail(id, &error, attempts);
                }
            }
            if !error.recoverable {
                let kept = self.desk.take(id);
                self.fail_instance(error);
                kept.into_iter().for_each(|holding| self.desk.push(holding));
            }
            match again {
                Some(again) => packet = again,
                None => return blocked,
            }
            attempts += 1;
        }
    }

    pub(super) fn acknowledge(&mut self, id: &PacketId, captured: Instant) {
        if let Some(holding) = self.desk.take(id) {
            self.meter.passed.bump();
            let age = self.core.clock.now().saturating_duration_since(captured);
            self.meter.delivered(age);
            holding.claim.acknowledge();
        }
    }

    /// Settles a packet as failed.
    pub(super) fn fail(&mut self, id: &PacketId, error: &StageError, attempts: u32) {
        if let Some(holding) = self.desk.take(id) {
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
            blocked: Duration::ZERO,
        }
    }
}
