//! The worker of a stage or a sink: one thread that owns one instance.
//!
//! It holds the instance to its contract of one outcome per packet: what it has taken and not settled stands in
//! [`Held`], and whatever is left there when a stream has been flushed is booked as a broken contract.

mod batch;
mod call;
pub(crate) mod held;
mod join;
mod lap;
mod life;
mod out;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use batch::Batch;
use crossbeam_channel::select;
use held::{Desk, Holding, Key};
use lap::Lap;

use super::component::Component;
use super::core::Core;
use super::edge::Envelope;
use super::event;
use super::inlet::{Control, Inlet, Next};
use super::limits::Verdict;
use crate::error::{Code, StageError};
use crate::ledger::{Claim, Loss, Reason};
use crate::metrics::{Call, Calls, Meter};
use crate::packet::{Header, Packet};
use crate::registry::Role;
use crate::stage::{Sink, Stage, WorkerContext};

/// Most packets that one instance may hold back; far beyond the delay of any decoder.
const HELD_BACK: usize = 4096;

/// Why a packet was dropped that was too old, or one too many.
const DEADLINE: &str = "deadline";
const RATE_LIMIT: &str = "rate_limit";

enum Instance {
    Stage(Box<dyn Stage>),
    Sink(Box<dyn Sink>),
}

/// What is to be done after the packets in hand.
enum Pending {
    Told(Control),
    /// An edge has brought the end of that stream.
    End(usize),
}

/// What a worker knows about a stream from the packet before.
#[derive(Clone, Copy, Default)]
struct Known {
    seen: bool,
    epoch: u32,
    shape: u64,
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
    desk: Arc<Desk>,
    /// The packet at work, where no supervisor needs to reach it.
    hand: Option<Holding>,
    /// When the last packet was done, if nothing has happened since.
    ended: Option<Instant>,
    /// When the instance last emitted a packet in the call under way, and was through with waiting for room.
    emitted: Option<Instant>,
    /// What time it is about, where that is good enough for what the instance emits.
    about: Option<Instant>,
    lap: Lap,
    calls: Calls,
    /// Its call took too long and another one has its place: it may not touch anything any more.
    replaced: bool,
    /// By stream.
    known: Vec<Known>,
    /// Streams whose packets may come to this worker.
    streams: Vec<usize>,
    batch: Batch,
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
        let meter = component.meters.get(replica).cloned().unwrap_or_default();
        Self {
            calls: Calls::new(meter.clone()),
            meter,
            known: vec![Known::default(); component.streams.len()],
            batch: Batch::new(component.streams.len()),
            desk: Arc::new(Desk::new(streams.len(), component.streams.clone())),
            hand: None,
            ended: None,
            emitted: None,
            about: None,
            lap: Lap::new(),
            core,
            component,
            replica,
            inlet,
            cx,
            instance: None,
            dead: None,
            replaced: false,
            streams,
        }
    }

    /// Builds and opens the instance.
    pub(crate) fn open(&mut self) {
        if let Err(error) = self.build() {
            if self.component.retries_opening() && self.component.role == Role::Stage {
                return self.rebuild(error);
            }
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

    /// What the supervisor watches.
    pub(crate) fn desk(&self) -> Arc<Desk> {
        self.desk.clone()
    }

    /// Takes the place of a worker whose call does not return.
    pub(crate) fn inherit(&mut self, desk: &Desk) {
        self.desk = Arc::new(desk.inherit());
    }

    /// Fails the packets that the other one had because its call took longer than `limit`, and builds an instance
    /// anew within the budget.
    pub(crate) fn take_over(&mut self, packets: Vec<Holding>, limit: Duration) {
        let message = format!(
            "`{}` took longer than its `timeout` of {limit:?}; its thread is left behind",
            self.component.name
        );
        let error = StageError::fatal(Code("E0412"), message);
        for holding in packets {
            self.out().fail_holding(holding, &error, 1);
        }
        self.rebuild(error);
    }

    fn goes_on(&self) -> bool {
        !self.replaced && self.desk.unflushed.load(Ordering::Acquire) > 0
    }

    /// Works until every stream has ended or the run is cut short.
    pub(crate) fn run(mut self) {
        let batch = self.component.batch.clone();
        while self.goes_on() {
            if let Some(spec) = &batch {
                if self.batch_turn(spec) {
                    continue;
                }
                break;
            }
            let next = self.inlet.next(&self.core, &self.component.exit);
            let ended = self.ended.take().filter(|_| !self.inlet.has_slept());
            if !matches!(next, Next::Packet(..)) {
                self.end_lap();
            }
            match next {
                Next::Packet(envelope, number) => self.take(envelope, number, ended),
                Next::End(stream) => self.ended_on_edge(stream),
                Next::Gone(stream) => self.component.exit.pass_gone(&self.core, stream),
                Next::Joined(parts, number) => self.take_joined(parts, number),
                Next::Control(control) => self.told(control),
                Next::Aborted => break,
            }
        }
        if self.replaced {
            self.discard();
            return;
        }
        if self.core.is_aborted() {
            for _ in 0..self.desk.len() {
                self.meter.aborted.bump();
            }
            // Not closed: what a sink has written must not look whole.
            self.discard();
            return;
        }
        self.close();
    }

    /// An edge has brought the end of a stream.
    fn ended_on_edge(&mut self, stream: usize) {
        if self.component.stream_ended(stream) {
            self.end(stream);
        }
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

    /// Takes a packet; `now`, where the caller knows what time it is.
    fn take(&mut self, envelope: Envelope, number: u64, now: Option<Instant>) {
        let taken = now.unwrap_or_else(|| self.core.clock.now());
        self.meter.taken.bump();
        let Envelope {
            packet,
            claim,
            stream,
            queued,
        } = envelope;
        let wait = taken.saturating_duration_since(queued);
        let credited = self.acquire_credit(stream);
        self.inlet.pass_on();
        if !credited {
            self.meter.aborted.bump();
            claim.lose(Loss::Dropped(Reason::Aborted));
            return;
        }
        let key = Key::new(&packet.header.id, stream);
        let Some(claim) = self.admit(&packet.header, key, number, claim) else {
            return self.catch_up();
        };
        let told = self.notice(stream, &packet);
        let waited = told || self.component.exit.order.is_some() || self.component.limits.any();
        let began = if waited { self.core.clock.now() } else { taken };
        let kept = self.component.keep(&packet);
        self.hold(Holding {
            key,
            claim,
            number,
            packet: kept,
        });
        self.emitted = None;
        let more = self.inlet.has_ahead();
        let timed = waited || !more || !self.lap.goes_on() || self.component.timeout.is_some();
        self.about = (!timed).then_some(began);
        let served = self.process(packet, key);
        self.about = None;
        if self.replaced {
            return;
        }
        if !timed && served.blocked.is_zero() {
            self.lap.add(wait, began, served.delivered);
            self.ended = Some(began);
            return self.catch_up();
        }
        // Where the next packet is at hand, what the instance did after it emitted this one counts as the next one's: that
        // saves a look at the clock.
        let ended = match self.emitted.take().filter(|_| more) {
            Some(emitted) => emitted,
            None => self.core.clock.now(),
        };
        let age = served
            .delivered
            .map(|captured| ended.saturating_duration_since(captured));
        let call = Call {
            wait: Some(wait),
            began,
            // The lap finds out.
            service: Duration::ZERO,
            blocked: served.blocked,
            ended,
            age,
        };
        // One that may be left behind keeps nothing back.
        let more = more && self.component.timeout.is_none();
        self.lap.end(call, more, &mut self.calls);
        self.ended = Some(ended);
        self.catch_up();
    }

    /// Puts a packet under the deadline and the rate limit of the component; `None`: it was settled.
    fn admit(&mut self, header: &Header, key: Key, number: u64, claim: Claim) -> Option<Claim> {
        let limits = &self.component.limits;
        if !limits.any() {
            return Some(claim);
        }
        let now = self.core.clock.now();
        let mut reason = limits.expired(header.captured, now).then_some(DEADLINE);
        if reason.is_none() {
            match limits.rate(key.stream, now) {
                Verdict::Take => {}
                Verdict::Drop => reason = Some(RATE_LIMIT),
                Verdict::WaitUntil(at) => {
                    if !self.core.wait_until(at) {
                        self.meter.aborted.bump();
                        claim.lose(Loss::Dropped(Reason::Aborted));
                        return None;
                    }
                    let expired = limits.expired(header.captured, self.core.clock.now());
                    reason = expired.then_some(DEADLINE);
                }
            }
        }
        let Some(reason) = reason else {
            return Some(claim);
        };
        let holding = Holding {
            key,
            claim,
            number,
            packet: None,
        };
        self.out().drop_holding(holding, reason);
        None
    }

    /// Remembers a packet that is about to be given to the instance.
    fn hold(&mut self, holding: Holding) {
        if self.component.timeout.is_some() {
            self.desk.push(holding);
        } else {
            self.hand = Some(holding);
        }
    }

    /// Something else than a packet at hand comes next: what the calls before it took is taken now.
    fn end_lap(&mut self) {
        if !self.lap.is_empty() {
            self.lap.end_now(self.core.clock.now(), &mut self.calls);
        }
    }

    /// Does what has come up while packets were in hand.
    fn catch_up(&mut self) {
        if self.replaced {
            return;
        }
        if self.desk.len() > HELD_BACK {
            let message = format!(
                "`{}` holds back {HELD_BACK} packets; a stage must settle what it takes within bounds",
                self.component.name
            );
            self.fail_instance(StageError::fatal(Code("E0405"), message));
        }
        while let Some(pending) = self.desk.next() {
            self.end_lap();
            self.ended = None;
            match pending {
                Pending::Told(control) => self.told(control),
                Pending::End(stream) => self.ended_on_edge(stream),
            }
        }
    }

    /// Waits for a credit of the stream, where its order is kept; `false`: the run is cut short.
    fn acquire_credit(&mut self, stream: usize) -> bool {
        let Some(order) = &self.component.exit.order else {
            return true;
        };
        if order
            .credits(stream)
            .is_none_or(|credits| credits.try_recv().is_ok())
        {
            return true;
        }
        let component = self.component.clone();
        let credits = component.exit.order.as_ref().and_then(|o| o.credits(stream));
        let Some(credits) = credits else {
            return true;
        };
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
                Ok(flush) => self.desk.later(Pending::Told(flush)),
                Err(_) => return false,
            }
        }
    }

    /// Tells the instance when a stream has started anew, or goes on in another shape; `true` if it did so.
    fn notice(&mut self, stream: usize, packet: &Packet) -> bool {
        let id = &packet.header.id;
        let shape = packet.raw_payload().shape_key();
        let Some(known) = self.known.get_mut(stream) else {
            return false;
        };
        let before = std::mem::replace(
            known,
            Known {
                seen: true,
                epoch: id.epoch,
                shape,
            },
        );
        let anew = before.seen && before.epoch != id.epoch;
        if anew {
            self.tell("discontinuity", |instance, out| match instance {
                Instance::Stage(stage) => stage.discontinuity(&id.stream, out),
                Instance::Sink(_) => Ok(()),
            });
        }
        let other = before.seen && before.shape != shape;
        if other {
            self.tell("shape_changed", |instance, out| match instance {
                Instance::Stage(stage) => stage.shape_changed(&id.stream, out),
                Instance::Sink(sink) => sink.shape_changed(&id.stream),
            });
        }
        anew || other
    }

    fn tell(
        &mut self,
        name: &str,
        f: impl FnOnce(&mut Instance, &mut out::Out<'_>) -> Result<(), StageError>,
    ) {
        if let Err(error) = self.call(name, f) {
            self.stream_call_failed(error);
        }
    }
}
