//! Batches: several packets in one call, picked over the streams in turn.
//!
//! A batch opens with the first packet that is taken and closes at the first of: it is full; it has been open for
//! `max_wait`; every stream that goes on has given `per_stream_max`; the earliest deadline of its packets, less what
//! a call takes; a stream ends; another replica asks for something; what waits is of another shape or epoch. One
//! replica at a time puts a batch together, so that two do not share what would fill one.

use std::time::{Duration, Instant};

use super::held::{Holding, Key};
use super::{Pending, Worker};
use crate::clock::Timer;
use crate::config::plan::BatchSpec;
use crate::ledger::{Loss, Reason};
use crate::metrics::{BatchClose, Call};
use crate::packet::Packet;
use crate::runtime::edge::Envelope;
use crate::runtime::fair::{Front, Taken};
use crate::runtime::inlet::{Next, Waited, Ways};

/// Calls whose times say how long the next one will take.
const CALLS: usize = 64;

/// A batch under way, and what one needs to put together the next.
#[derive(Default)]
pub(super) struct Batch {
    packets: Vec<Packet>,
    /// Stream of each packet, and when it was queued.
    queued: Vec<(usize, Instant)>,
    /// By stream: packets in the batch, and the epoch of the last one.
    given: Vec<(usize, u32)>,
    shape: u64,
    opened: Option<Instant>,
    /// The earliest capture in it.
    captured: Option<Instant>,
    service: ServiceTimes,
}

/// Times of the last calls.
#[derive(Default)]
struct ServiceTimes {
    times: Vec<Duration>,
    next: usize,
    p95: Duration,
}

impl ServiceTimes {
    fn record(&mut self, time: Duration) {
        match self.times.get_mut(self.next) {
            Some(slot) => *slot = time,
            None => self.times.push(time),
        }
        self.next = (self.next + 1) % CALLS;
        // Sorting on each call would cost more than the estimate is worth.
        if self.next.is_multiple_of(8) || self.times.len() < 8 {
            let mut sorted = [Duration::ZERO; CALLS];
            let count = self.times.len().min(CALLS);
            let sorted = sorted.get_mut(..count).unwrap_or_default();
            sorted.copy_from_slice(self.times.get(..count).unwrap_or_default());
            sorted.sort_unstable();
            self.p95 = sorted.get(count * 95 / 100).copied().unwrap_or_default();
        }
    }
}

impl Batch {
    pub(super) fn new(streams: usize) -> Self {
        Self {
            given: vec![(0, 0); streams],
            ..Self::default()
        }
    }

    fn given(&self, stream: usize) -> (usize, u32) {
        self.given.get(stream).copied().unwrap_or_default()
    }

    fn clear(&mut self) {
        self.packets.clear();
        self.queued.clear();
        self.given.fill((0, 0));
        self.opened = None;
        self.captured = None;
    }
}

impl Worker {
    /// Puts a batch together and runs it, or does what comes first. `false`: the run is cut short.
    pub(super) fn batch_turn(&mut self, spec: &BatchSpec) -> bool {
        match self.inlet.take_turn(&self.core) {
            None => {}
            Some(Next::Control(control)) => {
                self.told(control);
                return true;
            }
            Some(_) => return false,
        }
        let close = self.form(spec);
        self.inlet.pass_on();
        let Some(close) = close else {
            self.abort_batch();
            return false;
        };
        self.run_batch(spec, close);
        self.catch_up();
        true
    }

    /// Takes packets until the batch closes; `None`: the run is cut short.
    fn form(&mut self, spec: &BatchSpec) -> Option<BatchClose> {
        loop {
            if self.batch.packets.len() >= spec.max {
                return Some(BatchClose::Full);
            }
            if let Some(asked) = self.desk.waits() {
                return Some(if asked { BatchClose::Asked } else { BatchClose::End });
            }
            match self.pick(spec) {
                Some((stream, Taken::Packet(envelope))) => {
                    if !self.add(stream, envelope) {
                        return None;
                    }
                    continue;
                }
                Some((stream, Taken::Gone(count))) => {
                    self.component.exit.note_gone(stream, count);
                    self.component.exit.pass_gone(&self.core, stream);
                    continue;
                }
                Some((stream, Taken::End)) => {
                    self.desk.later(Pending::End(stream));
                    continue;
                }
                None => {}
            }
            let timer = match self.closing(spec) {
                Err(close) => return Some(close),
                Ok(Some(at)) => self.core.clock.timer(at),
                Ok(None) => Timer::never(),
            };
            let Ways::Fair(lanes) = &self.inlet.ways else {
                return None;
            };
            match lanes.wait(&self.core, &self.inlet.control, &timer) {
                Waited::Rung | Waited::Expired => {}
                Waited::Told(control) => self.desk.later(Pending::Told(control)),
                Waited::CutShort => return None,
            }
        }
    }

    /// Takes what fits into the batch: from the stream that has given least, and of equal ones from that which has
    /// waited longest.
    fn pick(&mut self, spec: &BatchSpec) -> Option<(usize, Taken)> {
        let (batch, order) = (&self.batch, self.component.exit.order.as_ref());
        let empty = batch.packets.is_empty();
        let rank = |stream: usize, front: Front| match front {
            // These take no place.
            Front::Gone(_) | Front::End => Some(0),
            Front::Packet { shape, epoch } => {
                let (given, of_epoch) = batch.given(stream);
                let credits = order.and_then(|order| order.credits(stream));
                let credited = credits.is_none_or(|credits| !credits.is_empty());
                let fits = empty || shape == batch.shape && (given == 0 || epoch == of_epoch);
                // A batch may not wait for a credit that one of its own packets has.
                if !fits || given >= spec.per_stream_max || !(empty || credited) {
                    return None;
                }
                let given = u32::try_from(given).unwrap_or(u32::MAX);
                Some(given.saturating_add(if credited { 0 } else { 1 << 16 }))
            }
        };
        let Ways::Fair(lanes) = &mut self.inlet.ways else {
            return None;
        };
        lanes.pick(&rank)
    }

    /// Nothing more can be had now: why the batch closes, or until when it stays open.
    fn closing(&self, spec: &BatchSpec) -> Result<Option<Instant>, BatchClose> {
        let batch = &self.batch;
        let Some(opened) = batch.opened else {
            return Ok(None);
        };
        let now = self.core.clock.now();
        let deadline = self.component.limits.deadline.zip(batch.captured);
        let latest = deadline
            .and_then(|(deadline, captured)| captured.checked_add(deadline))
            .map(|at| at.checked_sub(batch.service.p95).unwrap_or(now));
        if latest.is_some_and(|latest| latest <= now) {
            return Err(BatchClose::Deadline);
        }
        let Some(until) = opened.checked_add(spec.max_wait) else {
            return Ok(latest);
        };
        if until <= now {
            return Err(BatchClose::Wait);
        }
        let mut going = self.streams.iter().filter(|s| !self.component.has_ended(**s));
        if going.all(|stream| batch.given(*stream).0 >= spec.per_stream_max) {
            return Err(BatchClose::Streams);
        }
        let Ways::Fair(lanes) = &self.inlet.ways else {
            return Err(BatchClose::Full);
        };
        // What waits and has its turn is of another shape or epoch: it would wait for nothing.
        let mut other = false;
        lanes.fronts(&mut |stream, front| {
            other |= matches!(front, Front::Packet { .. }) && batch.given(stream).0 < spec.per_stream_max;
        });
        if other {
            return Err(BatchClose::Mixed);
        }
        Ok(Some(latest.map_or(until, |latest| latest.min(until))))
    }

    /// Adds a packet that was picked; `false`: the run is cut short.
    fn add(&mut self, stream: usize, envelope: Envelope) -> bool {
        let Envelope {
            packet,
            claim,
            queued,
            ..
        } = envelope;
        self.meter.taken.bump();
        let order = self.component.exit.order.as_ref();
        let number = order.map_or(0, |order| order.number(stream));
        if !self.acquire_credit(stream) {
            self.meter.aborted.bump();
            claim.lose(Loss::Dropped(Reason::Aborted));
            return false;
        }
        let header = &packet.header;
        let key = Key::new(&header.id, stream);
        let Some(claim) = self.admit(header, key, number, claim) else {
            return !self.core.is_aborted();
        };
        let kept = self.component.keep(&packet);
        self.desk.push(Holding {
            key,
            claim,
            number,
            packet: kept,
        });
        let batch = &mut self.batch;
        if batch.packets.is_empty() {
            batch.shape = packet.raw_payload().shape_key();
            batch.opened = Some(self.core.clock.now());
        }
        batch.captured = batch.captured.into_iter().chain([header.captured]).min();
        if let Some((given, epoch)) = batch.given.get_mut(stream) {
            *given += 1;
            *epoch = header.id.epoch;
        }
        batch.packets.push(packet);
        batch.queued.push((stream, queued));
        true
    }

    fn run_batch(&mut self, spec: &BatchSpec, close: BatchClose) {
        self.drop_expired();
        let packets = std::mem::take(&mut self.batch.packets);
        if !packets.is_empty() {
            self.meter
                .batched(packets.len(), spec.padded(packets.len()), close);
            let now = self.core.clock.now();
            for place in 0..packets.len() {
                let (Some(packet), Some(&(stream, queued))) =
                    (packets.get(place), self.batch.queued.get(place))
                else {
                    continue;
                };
                self.meter.waited(now.saturating_duration_since(queued));
                self.notice(stream, packet);
            }
            let began = self.core.clock.now();
            let blocked = self.process_batch(&packets);
            let ended = self.core.clock.now();
            let service = ended.duration_since(began).saturating_sub(blocked);
            self.meter.served(&Call {
                wait: None,
                began,
                service,
                blocked,
                ended,
                age: None,
            });
            self.batch.service.record(service);
        }
        self.batch.packets = packets;
        self.batch.clear();
    }

    /// Packets that have grown too old while the batch was open.
    fn drop_expired(&mut self) {
        if self.component.limits.deadline.is_none() {
            return;
        }
        let now = self.core.clock.now();
        let mut place = 0;
        while let Some(packet) = self.batch.packets.get(place) {
            if !self.component.limits.expired(packet.header.captured, now) {
                place += 1;
                continue;
            }
            let packet = self.batch.packets.remove(place);
            self.batch.queued.remove(place);
            if let Some(holding) = self.desk.take(&packet.header.id) {
                self.out().drop_holding(holding, super::DEADLINE);
            }
        }
    }

    /// Calls the stage with all packets. If that fails, those that were not settled are processed one by one, so that
    /// only what is at fault fails. Returns the time spent waiting for room downstream.
    fn process_batch(&mut self, packets: &[Packet]) -> Duration {
        let queued = std::mem::take(&mut self.batch.queued);
        let blocked = self.process_all(packets, &queued);
        self.batch.queued = queued;
        blocked
    }

    fn process_all(&mut self, packets: &[Packet], queued: &[(usize, Instant)]) -> Duration {
        let mut blocked = Duration::ZERO;
        let keys = packets.iter().zip(queued);
        let keys = keys.map(|(packet, (stream, _))| (packet, Key::new(&packet.header.id, *stream)));
        if let [packet] = packets
            && let Some((stream, _)) = queued.first()
        {
            let key = Key::new(&packet.header.id, *stream);
            return self.process(packet.clone(), key).blocked;
        }
        let mut failed = None;
        if self.dead.is_none() {
            let outcome = self.call_watched("process_batch", &mut blocked, |instance, out| match instance {
                super::Instance::Stage(stage) => stage.process_batch(packets, out),
                super::Instance::Sink(_) => Ok(()),
            });
            match outcome {
                Ok(()) => return blocked,
                Err(_) if self.replaced => return blocked,
                Err(error) => failed = Some(error),
            }
        }
        self.desk
            .put_aside(packets.iter().map(|packet| &packet.header.id));
        if let Some(error) = failed {
            self.meter.rerun.bump();
            tracing::debug!(
                component = &*self.component.name,
                packets = packets.len(),
                code = error.code.0,
                "Batch failed, its packets are processed one by one: {error}"
            );
            if !error.recoverable {
                self.fail_instance(error);
            }
        }
        for (packet, key) in keys {
            if !self.replaced && self.desk.take_up(&key) {
                blocked += self.process(packet.clone(), key).blocked;
            }
        }
        blocked
    }

    /// The run is cut short: what the batch holds counts as aborted with all else that is held.
    fn abort_batch(&mut self) {
        self.batch.clear();
    }
}
