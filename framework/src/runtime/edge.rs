//! An edge: the bounded queues between one producer and one consumer.
//!
//! An edge has one lane for each group of replicas that share packets (one for `route: any`, one for each replica
//! otherwise), and in each group one lane for the streams its policy may drop and one for those that must wait.
//! A lane keeps the packets of a stream in order, and its end after all of them.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use crossbeam::utils::Backoff;
use crossbeam_channel::{Receiver, Sender, TrySendError, bounded, select};

use super::core::Core;
use super::event;
use super::report::EdgeReport;
use crate::config::plan::Overflow;
use crate::ledger::{Claim, lock};
use crate::metrics::EdgeMeter;
use crate::packet::Packet;

/// A packet on its way along an edge.
pub(crate) struct Envelope {
    pub(crate) packet: Packet,
    pub(crate) claim: Claim,
    /// Index of the packet's stream in the pipeline.
    pub(crate) stream: usize,
    /// When it was queued.
    pub(crate) queued: Instant,
}

/// What travels in a lane's channel.
pub(crate) enum Item {
    Packet(Envelope),
    /// The slot of that number has been filled ([`Overflow::Latest`]).
    Slot(usize),
    /// The stream has ended.
    End(usize),
}

/// What a consumer finds in a lane.
pub(crate) enum Arrival {
    Packet(Envelope),
    End(usize),
}

/// The edge between two components.
pub(crate) struct Edge {
    /// `producer -> consumer`.
    pub(crate) name: String,
    /// Name of the consumer.
    pub(crate) to: String,
    /// Whether it leads to a required sink, so that its packets carry claims.
    pub(crate) required: bool,
    pub(crate) lanes: Vec<Lane>,
    /// Lane of each stream of the pipeline; `None`: the stream does not come this way.
    pub(crate) lane_of: Vec<Option<usize>>,
    pub(crate) meter: EdgeMeter,
}

impl Edge {
    /// Queues a packet, following the policy where there is no room. Returns how long the caller waited.
    pub(crate) fn send(&self, core: &Core, envelope: Envelope) -> Duration {
        self.meter.offered();
        let Some(lane) = self.lane(envelope.stream) else {
            // Letting the claim go makes a packet of a stream that was never announced a ledger mismatch.
            return Duration::ZERO;
        };
        let waited = lane.send(core, envelope, &mut |lost| {
            self.meter.dropped();
            let fails = lane.policy == Overflow::Fail;
            event::Overflowed { edge: self, fails }.emit(core, lost);
        });
        self.meter.depth(lane.rx.len());
        waited
    }

    /// Queues the end of a stream, behind all its packets.
    pub(crate) fn end(&self, core: &Core, stream: usize) {
        if let Some(lane) = self.lane(stream) {
            lane.send_item(core, Item::End(stream));
        }
    }

    fn lane(&self, stream: usize) -> Option<&Lane> {
        let lane = self.lane_of.get(stream).copied().flatten()?;
        self.lanes.get(lane)
    }

    pub(crate) fn report(&self) -> EdgeReport {
        EdgeReport {
            name: self.name.clone(),
            offered: self.meter.offered.load(Ordering::Relaxed),
            dropped: self.meter.dropped.load(Ordering::Relaxed),
            taken: self.meter.taken.load(Ordering::Relaxed),
            deepest: self.meter.deepest.load(Ordering::Relaxed),
        }
    }

    pub(crate) fn leads_to(&self, component: &str) -> bool {
        self.to == component
    }

    /// Packets and ends waiting now.
    pub(crate) fn depth(&self) -> usize {
        self.lanes.iter().map(|lane| lane.rx.len()).sum()
    }
}

/// One bounded queue.
pub(crate) struct Lane {
    /// Which replica takes from it; `None`: all of them.
    pub(crate) replica: Option<usize>,
    policy: Overflow,
    capacity: usize,
    tx: Sender<Item>,
    pub(crate) rx: Receiver<Item>,
    /// Packets waiting, where the channel has room beyond them for the ends of streams.
    waiting: AtomicUsize,
    slots: Box<[Slot]>,
    /// Slot of each stream of the pipeline that has one.
    slot_of: Vec<Option<usize>>,
}

/// The newest packet of one stream.
#[derive(Default)]
struct Slot(Mutex<Option<Envelope>>);

/// An end or a filled slot never waits for room: that many streams need that many places.
fn room(capacity: usize, streams: usize) -> usize {
    capacity.saturating_add(streams)
}

impl Lane {
    /// A lane for the given streams of the pipeline's `all`.
    pub(crate) fn new(
        replica: Option<usize>,
        policy: Overflow,
        capacity: usize,
        streams: &[usize],
        all: usize,
    ) -> Self {
        let (tx, rx) = match policy {
            Overflow::Block => bounded(capacity),
            Overflow::Latest => bounded(room(streams.len(), streams.len())),
            Overflow::DropOldest | Overflow::DropNewest | Overflow::Fail => {
                bounded(room(capacity.max(1), streams.len()))
            }
        };
        let slotted = if policy == Overflow::Latest { streams } else { &[] };
        let mut slot_of = vec![None; if slotted.is_empty() { 0 } else { all }];
        for (slot, &stream) in slotted.iter().enumerate() {
            if let Some(entry) = slot_of.get_mut(stream) {
                *entry = Some(slot);
            }
        }
        Self {
            replica,
            policy,
            capacity: capacity.max(1),
            tx,
            rx,
            waiting: AtomicUsize::new(0),
            slots: slotted.iter().map(|_| Slot::default()).collect(),
            slot_of,
        }
    }

    /// Queues a packet; whatever has to be dropped for it goes to `lose`. Returns the time spent waiting.
    fn send(&self, core: &Core, envelope: Envelope, lose: &mut dyn FnMut(Envelope)) -> Duration {
        match self.policy {
            Overflow::Block => return self.send_item(core, Item::Packet(envelope)),
            Overflow::DropNewest | Overflow::Fail => {
                if !self.admit() {
                    lose(envelope);
                    return Duration::ZERO;
                }
            }
            Overflow::DropOldest => {
                let backoff = Backoff::new();
                while !self.admit() {
                    match self.rx.try_recv() {
                        Ok(Item::Packet(oldest)) => {
                            self.waiting.fetch_sub(1, Ordering::AcqRel);
                            lose(oldest);
                        }
                        // An end is the last item of its stream, so it may go behind the packets of others.
                        Ok(item) => {
                            self.send_item(core, item);
                        }
                        // The consumer has just taken a packet and is about to say so.
                        Err(_) => backoff.snooze(),
                    }
                    if core.is_aborted() {
                        return Duration::ZERO;
                    }
                }
            }
            Overflow::Latest => {
                let slot = self.slot_of.get(envelope.stream).copied().flatten();
                let Some((index, slot)) = slot.and_then(|i| Some((i, self.slots.get(i)?))) else {
                    return Duration::ZERO;
                };
                match slot.lock().replace(envelope) {
                    Some(older) => lose(older),
                    None => return self.send_item(core, Item::Slot(index)),
                }
                return Duration::ZERO;
            }
        }
        self.send_item(core, Item::Packet(envelope))
    }

    /// Takes a place for one packet, if one is free.
    fn admit(&self) -> bool {
        let more = |n| (n < self.capacity).then_some(n + 1);
        self.waiting
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, more)
            .is_ok()
    }

    /// Sends an item, waiting for room unless the run is cut short.
    fn send_item(&self, core: &Core, item: Item) -> Duration {
        let item = match self.tx.try_send(item) {
            Ok(()) => return Duration::ZERO,
            Err(TrySendError::Full(item) | TrySendError::Disconnected(item)) => item,
        };
        let began = Instant::now();
        select! {
            send(self.tx, item) -> _ => {}
            recv(core.cut_short) -> _ => {}
        }
        began.elapsed()
    }

    /// What an item taken from this lane stands for.
    pub(crate) fn open(&self, item: Item) -> Option<Arrival> {
        match item {
            Item::Packet(envelope) => {
                if self.policy != Overflow::Block {
                    self.waiting.fetch_sub(1, Ordering::AcqRel);
                }
                Some(Arrival::Packet(envelope))
            }
            Item::Slot(index) => Some(Arrival::Packet(self.slots.get(index)?.lock().take()?)),
            Item::End(stream) => Some(Arrival::End(stream)),
        }
    }
}

impl Slot {
    fn lock(&self) -> MutexGuard<'_, Option<Envelope>> {
        lock(&self.0)
    }
}
