//! The worker of a source: reads one stream and numbers its packets.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::component::{Component, guard, random};
use super::core::Core;
use super::event;
use crate::error::{Code, StageError};
use crate::metrics::{Call, Calls, Meter};
use crate::packet::{Header, Packet, PacketId, Payload, StreamId};
use crate::registry::PreparedComponent;
use crate::stage::{Progress, Source, SourceEmitter, WorkerContext};

/// Stands for a number of packets that the source does not know.
pub(crate) const UNKNOWN: u64 = u64::MAX;

pub(crate) struct SourceWorker {
    core: Arc<Core>,
    component: Arc<Component>,
    meter: Arc<Meter>,
    cx: WorkerContext,
    stream: usize,
    /// Number of packets the source will give.
    expected: Arc<AtomicU64>,
}

impl SourceWorker {
    pub(crate) fn new(
        core: Arc<Core>,
        component: Arc<Component>,
        cx: WorkerContext,
        stream: usize,
        expected: Arc<AtomicU64>,
    ) -> Self {
        Self {
            meter: component.meters.first().cloned().unwrap_or_default(),
            core,
            component,
            cx,
            stream,
            expected,
        }
    }

    /// Reads until the stream ends, the pipeline stops, or the source can do no more.
    pub(crate) fn run(self) {
        self.core.ready.store(true, Ordering::Relaxed);
        let mut position = Position::default();
        let mut attempts = 0;
        loop {
            let before = position;
            let outcome = self.read(&mut position);
            if position != before {
                attempts = 0;
            }
            let lost = match outcome {
                Err(error) => error,
                // The world does not end: a live source that does was lost.
                Ok(()) if self.component.live && self.component.reconnect.is_some() => {
                    StageError::fatal(Code("E0414"), format!("`{}` ended", self.component.name))
                }
                Ok(()) => break,
            };
            if !self.core.wants(self.stream) && lost.code == Code("E0414") {
                break;
            }
            let again = self.waits_for_another(&lost, attempts);
            if self.core.is_aborted() {
                break;
            }
            if !again {
                let ended = event::Ended {
                    component: &self.component.name,
                    error: &lost,
                };
                // The others go on: one camera that fails must not take the rest with it.
                ended.emit_streams(&self.core, &[self.stream]);
                break;
            }
            if !self.core.wants(self.stream) {
                break;
            }
            attempts = attempts.saturating_add(1);
            if position.seq > 0 {
                position = Position {
                    epoch: position.epoch + 1,
                    seq: 0,
                };
            }
        }
        self.component.exit.end(&self.core, self.stream);
    }

    /// Waits until a source that was lost may be opened again; `false`: it is not.
    fn waits_for_another(&self, lost: &StageError, attempts: u32) -> bool {
        let Some(spec) = &self.component.reconnect else {
            return false;
        };
        if spec.attempts.is_some_and(|limit| attempts >= limit) {
            return false;
        }
        let wait = spec.backoff.wait(attempts, random());
        event::Reconnecting {
            component: &self.component.name,
            error: lost,
            wait,
        }
        .emit(&self.component.restarts);
        match self.core.clock.now().checked_add(wait) {
            Some(until) if !wait.is_zero() => self.core.wait_until_or_stop(until),
            _ => !self.core.is_aborted(),
        }
    }

    fn read(&self, position: &mut Position) -> Result<(), StageError> {
        let name = &*self.component.name;
        let PreparedComponent::Source(part) = &self.component.part else {
            unreachable!("stages and sinks have workers of their own");
        };
        if !self.core.wants(self.stream) {
            return Ok(());
        }
        let mut source = guard(name, "build", || (part.build)(0))?;
        let read = self.read_all(&mut *source, position);
        let closed = guard(name, "close", || source.close());
        let dropped = guard(name, "drop", || {
            drop(source);
            Ok(())
        });
        read.and(closed).and(dropped)
    }

    fn read_all(&self, source: &mut dyn Source, position: &mut Position) -> Result<(), StageError> {
        let name = &*self.component.name;
        guard(name, "open", || source.open(&self.cx))?;
        if let Some(expected) = source.size_hint() {
            self.expected.store(expected, Ordering::Relaxed);
        }
        let mut out = SourceOut {
            worker: self,
            id: self.component.stream(self.stream),
            position,
            blocked: Duration::ZERO,
            given: None,
        };
        let mut calls = Calls::new(self.meter.clone());
        let mut last = self.core.clock.now();
        let mut began = last;
        while self.core.wants(self.stream) {
            out.blocked = Duration::ZERO;
            out.given = None;
            let progress = guard(name, "next", || source.next(&mut out));
            if let Some(ended) = out.given {
                // What the source does after that counts as part of the next packet: that saves a look at the clock.
                let service = ended.saturating_duration_since(began).saturating_sub(out.blocked);
                let call = Call {
                    wait: None,
                    began,
                    service,
                    blocked: out.blocked,
                    ended,
                    age: None,
                };
                calls.add(call, matches!(progress, Ok(Progress::More)));
                (last, began) = (ended, ended);
            } else {
                calls.record();
                began = self.core.clock.now();
                if source.idle() {
                    last = began;
                }
                let idle = began.saturating_duration_since(last);
                if let Some(limit) = self.component.stall_timeout.filter(|limit| idle > *limit) {
                    let message = format!("`{name}` has given nothing for {limit:?}, its `stall_timeout`");
                    return Err(StageError::fatal(Code("E0415"), message));
                }
            }
            match progress {
                Ok(Progress::More) => {}
                Ok(Progress::End) => break,
                Err(error) if error.recoverable => out.fail(None, error),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// Where a stream stands, over all instances of its source.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Position {
    epoch: u32,
    seq: u64,
}

struct SourceOut<'a> {
    worker: &'a SourceWorker,
    id: StreamId,
    position: &'a mut Position,
    /// Time spent waiting for room downstream.
    blocked: Duration,
    /// When this call gave something last, waiting for room included.
    given: Option<Instant>,
}

impl SourceOut<'_> {
    fn next_header(&mut self, pts: Option<Duration>) -> Header {
        let id = PacketId {
            stream: self.id.clone(),
            epoch: self.position.epoch,
            seq: self.position.seq,
        };
        self.position.seq += 1;
        self.worker.meter.taken.bump();
        let captured = self.worker.core.clock.now();
        self.given = Some(captured);
        Header { id, captured, pts }
    }
}

impl SourceEmitter for SourceOut<'_> {
    fn emit(
        &mut self,
        pts: Option<Duration>,
        payload: Arc<dyn Payload>,
        attach: &mut dyn FnMut(&mut Packet),
    ) {
        let worker = self.worker;
        let Some(account) = worker.core.accounts.get(worker.stream) else {
            return;
        };
        let header = self.next_header(pts);
        let captured = header.captured;
        let mut packet = Packet::new(header, payload);
        attach(&mut packet);
        worker.meter.passed.bump();
        let claim = account.enter();
        let exit = &worker.component.exit;
        let waited = exit.emit(&worker.core, worker.stream, 0, packet, claim, captured);
        self.blocked += waited;
        self.given = Some(captured + waited);
    }

    fn fail(&mut self, pts: Option<Duration>, error: StageError) {
        let worker = self.worker;
        let Some(account) = worker.core.accounts.get(worker.stream) else {
            return;
        };
        let header = self.next_header(pts);
        event::Failed {
            component: &worker.component.name,
            required: worker.component.required,
            replica: 0,
            id: &header.id,
            packet: None,
            attempts: 1,
            error: &error,
            on_error: &worker.component.on_error,
        }
        .emit(&worker.core, &worker.meter, account.enter());
    }

    fn discontinuity(&mut self) {
        self.position.epoch += 1;
        self.position.seq = 0;
    }
}
