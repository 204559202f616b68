//! A queue as a crossbeam channel: the fast one, for consumers that take packets as they come.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use crossbeam::utils::Backoff;
use crossbeam_channel::{Receiver, Sender, TrySendError, bounded, select};

use super::core::Core;
use super::edge::{Arrival, Envelope, Item};
use crate::config::plan::Overflow;
use crate::ledger::lock;

/// A bounded channel that any number of replicas may take from, packets in the order in which they came.
pub(crate) struct ChannelLane {
    pub(super) policy: Overflow,
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

impl ChannelLane {
    /// A lane for the given streams of the pipeline's `all`.
    pub(crate) fn new(policy: Overflow, capacity: usize, streams: &[usize], all: usize) -> Self {
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
    pub(super) fn send(&self, core: &Core, envelope: Envelope, lose: &mut dyn FnMut(Envelope)) -> Duration {
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
    pub(super) fn send_item(&self, core: &Core, item: Item) -> Duration {
        let item = match self.tx.try_send(item) {
            Ok(()) => return Duration::ZERO,
            Err(TrySendError::Full(item) | TrySendError::Disconnected(item)) => item,
        };
        let began = core.clock.now();
        select! {
            send(self.tx, item) -> _ => {}
            recv(core.cut_short) -> _ => {}
        }
        core.clock.now().duration_since(began)
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
