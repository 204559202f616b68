//! The worker of a stage or a sink: one thread that owns one instance.
//!
//! It holds the instance to its contract of one outcome per packet: what it has taken and not settled stands in
//! [`Held`], and whatever is left there when a stream has been flushed is booked as a broken contract.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::select;

use super::component::{Component, guard};
use super::core::Core;
use super::edge::Envelope;
use super::event;
use super::inlet::{Control, Inlet, Next};
use crate::config::plan::OnError;
use crate::error::{Code, StageError};
use crate::ledger::{Claim, Loss, Reason};
use crate::metrics::Meter;
use crate::packet::{Header, Packet, PacketId};
use crate::registry::{PreparedComponent, Role};
use crate::stage::{Emitter, Sink, Stage, WorkerContext};

/// Most packets that one instance may hold back; far beyond the delay of any decoder.
const HELD_BACK: usize = 4096;

enum Instance {
    Stage(Box<dyn Stage>),
    Sink(Box<dyn Sink>),
}

/// A packet taken and not yet settled.
struct Holding {
    id: PacketId,
    claim: Claim,
    stream: usize,
    number: u64,
}

/// Packets taken and not yet settled, oldest first; most instances hold one at most.
#[derive(Default)]
struct Held(Vec<Holding>);

impl Held {
    fn take(&mut self, id: &PacketId) -> Option<Holding> {
        let same = |h: &Holding| h.id.seq == id.seq && h.id.epoch == id.epoch && h.id.stream == id.stream;
        let place = self.0.iter().position(same)?;
        Some(self.0.remove(place))
    }

    fn take_stream(&mut self, stream: usize) -> Option<Holding> {
        let place = self.0.iter().position(|h| h.stream == stream)?;
        Some(self.0.remove(place))
    }
}

pub(crate) struct Worker {
    core: Arc<Core>,
    component: Arc<Component>,
    replica: usize,
    meter: Arc<Meter>,
    inlet: Inlet,
    cx: WorkerContext,
    instance: Option<Instance>,
    /// Why there is no instance.
    dead: Option<StageError>,
    held: Held,
    /// Epoch of each stream, once a packet has come.
    epochs: Vec<Option<u32>>,
    /// Streams whose packets may come to this worker.
    streams: Vec<usize>,
    /// How many of them are to be flushed before this worker is done.
    unflushed: usize,
    /// Told while waiting for a credit, to be done after the packet in hand.
    deferred: Vec<Control>,
}

impl Worker {
    pub(crate) fn new(
        core: Arc<Core>,
        component: Arc<Component>,
        inlet: Inlet,
        cx: WorkerContext,
        streams: Vec<usize>,
    ) -> Self {
        let replica = cx.replica;
        Self {
            meter: component.meters.get(replica).cloned().unwrap_or_default(),
            epochs: vec![None; component.streams.len()],
            core,
            component,
            replica,
            inlet,
            cx,
            instance: None,
            dead: None,
            held: Held::default(),
            unflushed: streams.len(),
            streams,
            deferred: Vec::new(),
        }
    }

    /// Builds and opens the instance.
    pub(crate) fn open(&mut self) {
        if let Err(error) = self.build() {
            let ended = event::Ended {
                component: &self.component.name,
                error: &error,
            };
            if self.component.required {
                ended.emit(&self.core);
            } else {
                ended.emit_optional(&self.core);
            }
            self.dead = Some(error);
        }
    }

    /// Works until every stream has ended or the run is cut short.
    pub(crate) fn run(mut self) {
        while self.unflushed > 0 {
            match self.inlet.next(&self.core, &self.component.exit) {
                Next::Packet(envelope, number) => self.take(envelope, number),
                Next::End(stream) => {
                    if self.component.stream_ended(stream) {
                        self.end(stream);
                    }
                }
                Next::Control(control) => self.told(control),
                Next::Aborted => break,
            }
        }
        if self.core.is_aborted() {
            for _ in &self.held.0 {
                self.meter.aborted.bump();
            }
            // Not closed: what a sink has written must not look whole.
            self.discard();
            return;
        }
        self.close();
    }

    /// The last edge has brought the end of a stream.
    fn end(&mut self, stream: usize) {
        if self.component.controls.is_empty() {
            self.flush(stream);
            return;
        }
        for control in &self.component.controls {
            // One request and one flush per stream at most are under way, and there is room for both.
            let _ = control.try_send(Control::Flush(stream));
        }
    }

    fn told(&mut self, control: Control) {
        match control {
            Control::Flush(stream) => self.flush(stream),
            Control::Settle(stream) => {
                self.component.answering(stream, self.replica);
                self.settle(stream);
            }
        }
    }

    fn take(&mut self, envelope: Envelope, number: u64) {
        let began = Instant::now();
        self.meter.taken.bump();
        let Envelope {
            packet,
            claim,
            stream,
            queued,
        } = envelope;
        let wait = began.duration_since(queued);
        let credited = self.acquire_credit(stream);
        self.inlet.pass_on();
        if !credited {
            self.meter.aborted.bump();
            claim.lose(Loss::Dropped(Reason::Aborted));
            return;
        }
        let id = packet.header.id.clone();
        self.notice_epoch(stream, id.epoch);
        self.held.0.push(Holding {
            id: id.clone(),
            claim,
            stream,
            number,
        });
        let began = Instant::now();
        let blocked = self.process(packet, &id);
        let ended = Instant::now();
        let service = ended.duration_since(began).saturating_sub(blocked);
        self.meter.served(Some(wait), began, service, ended);
        if self.held.0.len() > HELD_BACK {
            let message = format!(
                "`{}` holds back {HELD_BACK} packets; a stage must settle what it takes within bounds",
                self.component.name
            );
            self.fail_instance(StageError::fatal(Code("E0405"), message));
        }
        while let Some(control) = self.deferred.pop() {
            self.told(control);
        }
    }

    /// Waits for a credit of the stream, where its order is kept; `false`: the run is cut short.
    fn acquire_credit(&mut self, stream: usize) -> bool {
        let component = self.component.clone();
        let credits = component.exit.order.as_ref().and_then(|o| o.credits(stream));
        let Some(credits) = credits else {
            return true;
        };
        if credits.try_recv().is_ok() {
            return true;
        }
        // Whoever holds back the oldest packet must settle it, or the wait would never end.
        self.settle(stream);
        component.ask_to_settle(stream, self.replica);
        loop {
            let control = select! {
                recv(credits) -> _ => return true,
                recv(self.core.cut_short) -> _ => return false,
                recv(self.inlet.control) -> control => control,
            };
            match control {
                Ok(Control::Settle(stream)) => self.told(Control::Settle(stream)),
                Ok(flush) => self.deferred.push(flush),
                Err(_) => return false,
            }
        }
    }

    /// Tells a stage when a stream has started anew.
    fn notice_epoch(&mut self, stream: usize, epoch: u32) {
        let Some(known) = self.epochs.get_mut(stream) else {
            return;
        };
        if known.replace(epoch).is_none_or(|known| known == epoch) {
            return;
        }
        let name = self.component.stream(stream);
        let outcome = self.call("discontinuity", |instance, out| match instance {
            Instance::Stage(stage) => stage.discontinuity(&name, out),
            Instance::Sink(_) => Ok(()),
        });
        if let Err(error) = outcome {
            self.stream_call_failed(error);
        }
    }

    /// Gives a packet to the instance, again as often as `on_error` says. Returns the time spent waiting for room
    /// downstream.
    fn process(&mut self, packet: Packet, id: &PacketId) -> Duration {
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
            let outcome = self.call_timed("process", &mut blocked, |instance, out| match instance {
                Instance::Stage(stage) => stage.process(packet, out),
                Instance::Sink(sink) => sink.consume(packet),
            });
            let error = match outcome {
                Ok(()) => {
                    if component.role == Role::Sink {
                        self.acknowledge(id, captured);
                    }
                    return blocked;
                }
                Err(error) => error,
            };
            let settled = !self.held.0.iter().any(|h| h.id == *id);
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
                let kept = self.held.take(id);
                self.fail_instance(error);
                self.held.0.extend(kept);
            }
            match again {
                Some(again) => packet = again,
                None => return blocked,
            }
            attempts += 1;
        }
    }

    fn acknowledge(&mut self, id: &PacketId, captured: Instant) {
        if let Some(holding) = self.held.take(id) {
            self.meter.passed.bump();
            self.meter.delivered(captured.elapsed());
            holding.claim.acknowledge();
        }
    }

    /// Settles a packet as failed.
    fn fail(&mut self, id: &PacketId, error: &StageError, attempts: u32) {
        if let Some(holding) = self.held.take(id) {
            self.out().fail_holding(holding, error, attempts);
        }
    }

    /// Makes the instance settle what it holds back of a stream.
    fn settle(&mut self, stream: usize) {
        if !self.held.0.iter().any(|h| h.stream == stream) {
            return;
        }
        let name = self.component.stream(stream);
        let outcome = self.call("flush", |instance, out| match instance {
            Instance::Stage(stage) => stage.flush(&name, out),
            Instance::Sink(_) => Ok(()),
        });
        self.flushed(stream, outcome);
    }

    /// The stream has ended.
    fn flush(&mut self, stream: usize) {
        let name = self.component.stream(stream);
        let outcome = self.call("flush", |instance, out| match instance {
            Instance::Stage(stage) => stage.flush(&name, out),
            Instance::Sink(sink) => sink.end_of_stream(&name),
        });
        self.flushed(stream, outcome);
        self.unflushed = self.unflushed.saturating_sub(1);
        if self.component.stream_flushed(stream) {
            self.component.exit.end(&self.core, stream);
        }
    }

    fn flushed(&mut self, stream: usize, outcome: Result<(), StageError>) {
        while let Some(holding) = self.held.take_stream(stream) {
            let mut out = self.out();
            match &outcome {
                Err(error) => out.fail_holding(holding, error, 1),
                Ok(()) => out.lose_holding(holding),
            }
        }
        if let Err(error) = outcome {
            self.stream_call_failed(error);
        }
    }

    /// A call that concerned no single packet has failed.
    fn stream_call_failed(&mut self, error: StageError) {
        if self.component.role == Role::Sink || self.component.on_error == OnError::Fail {
            // What the sink has written of the stream may be incomplete.
            self.ended(&error);
        } else {
            tracing::error!(
                component = &*self.component.name,
                replica = self.replica,
                code = error.code.0,
                "Flush failed: {error}"
            );
            self.core.warn(format!("`{}`: {error}", self.component.name));
        }
        if !error.recoverable {
            self.fail_instance(error);
        }
    }

    /// The instance cannot go on: what it held back is lost with it, and it is rebuilt within the budget. A sink is
    /// not: its output would start over and look whole.
    fn fail_instance(&mut self, error: StageError) {
        self.discard();
        for holding in std::mem::take(&mut self.held.0) {
            let message = format!("`{}` was rebuilt while it held the packet", self.component.name);
            let mut lost = StageError::packet(Code("E0403"), message);
            lost.source = Some(Arc::new(error.clone()));
            self.out().fail_holding(holding, &lost, 1);
        }
        if self.component.role == Role::Sink {
            return self.die(error);
        }
        if !self.component.may_restart() {
            let spent = self.component.budget_spent(&error);
            return self.die(spent);
        }
        event::Restarting {
            component: &self.component.name,
            replica: self.replica,
            error: &error,
        }
        .emit(&self.component.restarts);
        if let Err(error) = self.build() {
            self.die(error);
        }
    }

    /// From now on every packet fails.
    fn die(&mut self, error: StageError) {
        self.discard();
        self.ended(&error);
        self.dead = Some(error);
    }

    fn ended(&self, error: &StageError) {
        let ended = event::Ended {
            component: &self.component.name,
            error,
        };
        if !self.component.required {
            ended.emit_optional(&self.core);
        } else if self.component.per_stream && self.component.role == Role::Stage {
            ended.emit_streams(&self.core, &self.streams);
        } else {
            ended.emit(&self.core);
        }
    }

    fn build(&mut self) -> Result<(), StageError> {
        let name = &*self.component.name;
        let replica = self.replica;
        let mut instance = guard(name, "build", || match &self.component.part {
            PreparedComponent::Stage(part) => (part.build)(replica).map(Instance::Stage),
            PreparedComponent::Sink(part) => (part.build)(replica).map(Instance::Sink),
            PreparedComponent::Source(_) => unreachable!("sources have workers of their own"),
        })?;
        let cx = &self.cx;
        let opened = guard(name, "open", || match &mut instance {
            Instance::Stage(stage) => stage.open(cx),
            Instance::Sink(sink) => sink.open(cx),
        });
        self.instance = Some(instance);
        if opened.is_err() {
            self.discard();
        }
        opened
    }

    /// Drops the instance, whatever it does meanwhile.
    fn discard(&mut self) {
        if let Some(instance) = self.instance.take() {
            let dropped = guard(&self.component.name, "drop", || {
                drop(instance);
                Ok(())
            });
            if let Err(error) = dropped {
                self.core.warn(error.message);
            }
        }
    }

    fn close(&mut self) {
        let closed = match &mut self.instance {
            None => return,
            Some(instance) => guard(&self.component.name, "close", || match instance {
                Instance::Stage(stage) => stage.close(),
                Instance::Sink(sink) => sink.close(),
            }),
        };
        self.discard();
        if let Err(error) = closed {
            match self.component.role {
                Role::Sink => self.ended(&error),
                _ => self.core.warn(format!("`{}`: {error}", self.component.name)),
            }
        }
    }

    fn call(
        &mut self,
        name: &str,
        f: impl FnOnce(&mut Instance, &mut Out<'_>) -> Result<(), StageError>,
    ) -> Result<(), StageError> {
        let mut blocked = Duration::ZERO;
        self.call_timed(name, &mut blocked, f)
    }

    /// Calls into the instance, if there is one; adds the time spent waiting for room downstream to `blocked`.
    fn call_timed(
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
            held: &mut self.held,
            blocked: Duration::ZERO,
        };
        let Some(instance) = &mut self.instance else {
            return Ok(());
        };
        let outcome = guard(&self.component.name, name, || f(instance, &mut out));
        *blocked += out.blocked;
        outcome
    }

    fn out(&mut self) -> Out<'_> {
        Out {
            core: &self.core,
            component: &self.component,
            replica: self.replica,
            meter: &self.meter,
            held: &mut self.held,
            blocked: Duration::ZERO,
        }
    }
}

/// What an instance sees of its worker.
struct Out<'a> {
    core: &'a Core,
    component: &'a Component,
    replica: usize,
    meter: &'a Meter,
    held: &'a mut Held,
    /// Time spent waiting for room downstream.
    blocked: Duration,
}

impl Out<'_> {
    fn fail_holding(&mut self, holding: Holding, error: &StageError, attempts: u32) {
        event::Failed {
            component: &self.component.name,
            required: self.component.required,
            replica: self.replica,
            id: &holding.id,
            attempts,
            error,
            on_error: &self.component.on_error,
        }
        .emit(self.core, self.meter, holding.claim);
        self.blocked += self
            .component
            .exit
            .skip(self.core, holding.stream, holding.number);
    }

    fn lose_holding(&mut self, holding: Holding) {
        self.violated(&holding.id, "had not settled, by the flush, the packet")
            .emit_lost(self.core, self.meter, holding.claim);
        self.blocked += self
            .component
            .exit
            .skip(self.core, holding.stream, holding.number);
    }

    fn violated<'b>(&'b self, id: &'b PacketId, deed: &'static str) -> event::Violated<'b> {
        event::Violated {
            component: &self.component.name,
            replica: self.replica,
            id,
            deed,
        }
    }
}

impl Emitter for Out<'_> {
    fn emit(&mut self, packet: Packet) {
        let Some(holding) = self.held.take(&packet.header.id) else {
            self.violated(
                &packet.header.id,
                "emitted, unknown or already settled, the packet",
            )
            .emit(self.core);
            return;
        };
        self.meter.passed.bump();
        let exit = &self.component.exit;
        self.blocked += exit.emit(self.core, holding.stream, holding.number, packet, holding.claim);
    }

    fn drop_packet(&mut self, header: &Header, reason: &'static str) {
        let Some(holding) = self.held.take(&header.id) else {
            self.violated(&header.id, "dropped, unknown or already settled, the packet")
                .emit(self.core);
            return;
        };
        event::Dropped {
            component: &self.component.name,
            id: &holding.id,
            reason,
        }
        .emit(self.meter, holding.claim);
        self.blocked += self
            .component
            .exit
            .skip(self.core, holding.stream, holding.number);
    }

    fn fail(&mut self, header: &Header, error: StageError) {
        match self.held.take(&header.id) {
            Some(holding) => self.fail_holding(holding, &error, 1),
            None => self
                .violated(&header.id, "failed, unknown or already settled, the packet")
                .emit(self.core),
        }
    }
}
