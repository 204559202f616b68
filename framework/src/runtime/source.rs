//! The worker of a source: reads one stream and numbers its packets.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::component::{Component, guard};
use super::core::Core;
use super::event;
use crate::error::StageError;
use crate::metrics::Meter;
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
        if let Err(error) = self.read() {
            let ended = event::Ended {
                component: &self.component.name,
                error: &error,
            };
            // The others go on: one camera that fails must not take the rest with it.
            ended.emit_streams(&self.core, &[self.stream]);
        }
        self.component.exit.end(&self.core, self.stream);
    }

    fn read(&self) -> Result<(), StageError> {
        let name = &*self.component.name;
        let PreparedComponent::Source(part) = &self.component.part else {
            unreachable!("stages and sinks have workers of their own");
        };
        if !self.core.wants(self.stream) {
            return Ok(());
        }
        let mut source = guard(name, "build", || (part.build)(0))?;
        let read = self.read_all(&mut *source);
        let closed = guard(name, "close", || source.close());
        let dropped = guard(name, "drop", || {
            drop(source);
            Ok(())
        });
        read.and(closed).and(dropped)
    }

    fn read_all(&self, source: &mut dyn Source) -> Result<(), StageError> {
        let name = &*self.component.name;
        guard(name, "open", || source.open(&self.cx))?;
        if let Some(expected) = source.size_hint() {
            self.expected.store(expected, Ordering::Relaxed);
        }
        let mut out = SourceOut {
            worker: self,
            id: self.component.stream(self.stream),
            epoch: 0,
            seq: 0,
            blocked: Duration::ZERO,
            given: false,
        };
        while self.core.wants(self.stream) {
            let began = self.core.clock.now();
            out.blocked = Duration::ZERO;
            out.given = false;
            let progress = guard(name, "next", || source.next(&mut out));
            if out.given {
                let ended = self.core.clock.now();
                let service = ended.duration_since(began).saturating_sub(out.blocked);
                self.meter.served(None, began, service, ended);
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

struct SourceOut<'a> {
    worker: &'a SourceWorker,
    id: StreamId,
    epoch: u32,
    seq: u64,
    /// Time spent waiting for room downstream.
    blocked: Duration,
    /// Whether this call gave anything.
    given: bool,
}

impl SourceOut<'_> {
    fn next_header(&mut self, pts: Option<Duration>) -> Header {
        let id = PacketId {
            stream: self.id.clone(),
            epoch: self.epoch,
            seq: self.seq,
        };
        self.seq += 1;
        self.given = true;
        self.worker.meter.taken.bump();
        Header {
            id,
            captured: self.worker.core.clock.now(),
            pts,
        }
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
        let mut packet = Packet::new(self.next_header(pts), payload);
        attach(&mut packet);
        worker.meter.passed.bump();
        let claim = account.enter();
        self.blocked += worker
            .component
            .exit
            .emit(&worker.core, worker.stream, 0, packet, claim);
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
            attempts: 1,
            error: &error,
            on_error: &worker.component.on_error,
        }
        .emit(&worker.core, &worker.meter, account.enter());
    }

    fn discontinuity(&mut self) {
        self.epoch += 1;
        self.seq = 0;
    }
}
