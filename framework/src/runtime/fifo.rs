//! A queue whose packets leave in the order in which they came: the fast one, for consumers that take what comes.
//!
//! One lock guards it, taken once to queue a packet. A consumer that does not share the queue empties it into a
//! buffer of its own in one go, and works that off without any lock; packets there still wait, and are counted so.
//! Nobody is woken who does not sleep: a consumer says before it does, and so does a producer. Where nothing else can
//! depend on it, a producer that found the queue full sleeps until half of it is free, so that a fast pair does not
//! wake each other for every packet.

use std::collections::VecDeque;
use std::time::Duration;

use crossbeam::utils::CachePadded;

use super::bell::Bell;
use super::core::Core;
use super::edge::{Arrival, Envelope};
use super::inlet::YIELDS;
use crate::config::plan::Overflow;
use crate::ledger::lock;
use crate::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use crate::sync::{Mutex, MutexGuard, yield_now};

/// Queues below this size wake their producers for each free place: half of so little would be a long way to go.
const SMALL: usize = 16;

/// Packets taken ahead between two looks for a producer that waits for plenty of room.
const STRIDE: usize = 16;

/// Most entries for which memory is set aside at the start.
const SET_ASIDE: usize = 1024;

/// How a queue is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Use {
    /// One worker takes from it, and may take packets before their turn comes.
    pub(crate) ahead: bool,
    /// Nothing but the producer waits for room: it may sleep until there is plenty.
    pub(crate) lazy: bool,
}

/// What lies in the queue.
pub(crate) enum Item {
    Packet(Envelope),
    /// The slot of that number holds a packet ([`Overflow::Latest`]).
    Slot(usize),
    /// The stream has ended.
    End(usize),
}

pub(crate) struct FifoLane {
    pub(super) policy: Overflow,
    capacity: usize,
    /// Free places at which a producer that waits is woken.
    plenty: usize,
    take_ahead: bool,
    state: Mutex<State>,
    /// What is in the queue, for those who only look.
    queued: CachePadded<Queued>,
    /// Packets that the consumer has taken.
    ahead: CachePadded<Ahead>,
    /// Producers that wait for room.
    blocked: CachePadded<AtomicUsize>,
    /// Rung when there is more room.
    room: Bell,
    /// Rung when there is something to take; shared by all lanes of the consumer.
    ready: Bell,
    /// Slot of each stream of the pipeline that has one.
    slot_of: Vec<Option<usize>>,
}

/// Written by those who hold the lock.
#[derive(Default)]
struct Queued {
    items: AtomicUsize,
    packets: AtomicUsize,
    /// Packets handed over so far.
    offered: AtomicU64,
}

/// Written by the one consumer that takes packets ahead, else by those who hold the lock.
#[derive(Default)]
struct Ahead {
    /// Packets taken and not begun.
    left: AtomicUsize,
    /// Packets begun so far.
    taken: AtomicU64,
}

/// Adds one to a count that nobody else writes meanwhile.
fn bump(count: &AtomicU64) {
    count.store(count.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
}

struct State {
    items: VecDeque<Item>,
    /// The newest packet of each stream that has a slot.
    slots: Vec<Option<Envelope>>,
    /// Packets among the items, those in slots included.
    packets: usize,
    /// No fewer than the consumer has taken and not begun.
    ahead: usize,
    /// Most packets that waited at one time.
    deepest: usize,
    /// Consumers that sleep until something comes, and whether the bell has been rung for them.
    sleepers: usize,
    rung: bool,
}

impl FifoLane {
    /// A lane for the given streams of the pipeline's `all`.
    pub(crate) fn new(
        policy: Overflow,
        capacity: usize,
        streams: &[usize],
        all: usize,
        ready: Bell,
        used: Use,
    ) -> Self {
        let slotted = if policy == Overflow::Latest { streams } else { &[] };
        let mut slot_of = vec![None; if slotted.is_empty() { 0 } else { all }];
        for (slot, &stream) in slotted.iter().enumerate() {
            if let Some(entry) = slot_of.get_mut(stream) {
                *entry = Some(slot);
            }
        }
        let lazy = used.lazy && capacity >= SMALL;
        Self {
            policy,
            capacity,
            plenty: if lazy { capacity / 2 } else { 1 },
            // Handing over waits until a packet is begun, and a lossy queue drops what waits, not what was taken.
            take_ahead: used.ahead && policy == Overflow::Block && capacity > 0,
            state: Mutex::new(State {
                items: VecDeque::with_capacity(capacity.saturating_add(streams.len()).min(SET_ASIDE)),
                slots: slotted.iter().map(|_| None).collect(),
                packets: 0,
                ahead: 0,
                deepest: 0,
                sleepers: 0,
                rung: false,
            }),
            queued: CachePadded::default(),
            ahead: CachePadded::default(),
            blocked: CachePadded::default(),
            room: Bell::new(),
            ready,
            slot_of,
        }
    }

    /// Packets and ends waiting.
    pub(crate) fn len(&self) -> usize {
        self.queued.items.load(Ordering::Relaxed) + self.ahead.left.load(Ordering::Relaxed)
    }

    /// Packets handed over so far, those that were dropped among them.
    pub(super) fn offered(&self) -> u64 {
        self.queued.offered.load(Ordering::Relaxed)
    }

    /// Packets that the consumer has begun.
    pub(super) fn taken(&self) -> u64 {
        self.ahead.taken.load(Ordering::Relaxed)
    }

    /// Says what is in the queue.
    fn note(&self, state: &State) {
        self.queued.packets.store(state.packets, Ordering::Relaxed);
        self.queued.items.store(state.items.len(), Ordering::Release);
    }

    /// Queues a packet; whatever has to be dropped for it goes to `lose`. Returns the time spent waiting.
    pub(super) fn send(&self, core: &Core, envelope: Envelope, lose: &mut dyn FnMut(Envelope)) -> Duration {
        let mut state = lock(&self.state);
        bump(&self.queued.offered);
        match self.policy {
            Overflow::Block => {
                if !self.has_room(&mut state) {
                    drop(state);
                    return self.wait_and_send(core, envelope);
                }
                self.push(&mut state, Item::Packet(envelope));
            }
            Overflow::DropNewest | Overflow::Fail => {
                if !self.has_room(&mut state) {
                    drop(state);
                    lose(envelope);
                    return Duration::ZERO;
                }
                self.push(&mut state, Item::Packet(envelope));
            }
            Overflow::DropOldest => {
                let oldest = if self.has_room(&mut state) {
                    None
                } else {
                    self.drop_oldest(&mut state)
                };
                self.push(&mut state, Item::Packet(envelope));
                self.wake(state);
                oldest.into_iter().for_each(lose);
                return Duration::ZERO;
            }
            Overflow::Latest => {
                let slot = self.slot_of.get(envelope.stream).copied().flatten();
                let Some((index, slot)) = slot.and_then(|i| Some((i, state.slots.get_mut(i)?))) else {
                    return Duration::ZERO;
                };
                match slot.replace(envelope) {
                    Some(older) => {
                        drop(state);
                        lose(older);
                        return Duration::ZERO;
                    }
                    None => self.push(&mut state, Item::Slot(index)),
                }
            }
        }
        self.wake(state);
        if self.policy == Overflow::Block && self.capacity == 0 {
            return self.wait_until_taken(core);
        }
        Duration::ZERO
    }

    /// Queues the end of a stream, behind all its packets; it takes no place.
    pub(super) fn end(&self, stream: usize) {
        let mut state = lock(&self.state);
        self.push(&mut state, Item::End(stream));
        self.wake(state);
    }

    fn push(&self, state: &mut State, item: Item) {
        state.packets += usize::from(!matches!(item, Item::End(_)));
        state.items.push_back(item);
        if state.packets + state.ahead > state.deepest {
            // The consumer has begun some of them since.
            state.ahead = self.ahead.left.load(Ordering::Relaxed);
            state.deepest = state.deepest.max(state.packets + state.ahead);
        }
        self.note(state);
    }

    /// Lets go of the queue, and wakes a consumer where one sleeps.
    fn wake(&self, mut state: MutexGuard<'_, State>) {
        let ring = state.sleepers > 0 && !state.rung;
        state.rung |= ring;
        drop(state);
        if ring {
            self.ready.ring();
        }
    }

    fn has_room(&self, state: &mut State) -> bool {
        let capacity = self.capacity.max(1);
        if state.packets + state.ahead < capacity {
            return true;
        }
        state.ahead = self.ahead.left.load(Ordering::SeqCst);
        state.packets + state.ahead < capacity
    }

    fn drop_oldest(&self, state: &mut State) -> Option<Envelope> {
        let oldest = state
            .items
            .iter()
            .position(|item| matches!(item, Item::Packet(_)))?;
        let Some(Item::Packet(envelope)) = state.items.remove(oldest) else {
            return None;
        };
        state.packets -= 1;
        Some(envelope)
    }

    /// The queue is full: waits until it is not. The envelope of a run that is cut short is let go.
    #[cold]
    fn wait_and_send(&self, core: &Core, envelope: Envelope) -> Duration {
        let began = core.clock.now();
        for _ in 0..YIELDS {
            yield_now();
            let mut state = lock(&self.state);
            if self.has_room(&mut state) {
                self.push(&mut state, Item::Packet(envelope));
                self.wake(state);
                let mut waited = core.clock.now().duration_since(began);
                if self.capacity == 0 {
                    waited += self.wait_until_taken(core);
                }
                return waited;
            }
        }
        let mut waited = core.clock.now().duration_since(began);
        // Said before looking again: a consumer that makes room afterwards rings.
        self.blocked.fetch_add(1, Ordering::SeqCst);
        let mut state = lock(&self.state);
        while !self.has_room(&mut state) {
            drop(state);
            waited += self.room.wait(core);
            if core.is_aborted() {
                self.blocked.fetch_sub(1, Ordering::SeqCst);
                return waited;
            }
            state = lock(&self.state);
        }
        self.push(&mut state, Item::Packet(envelope));
        let others = self.blocked.fetch_sub(1, Ordering::SeqCst) > 1;
        let more = others && self.has_room(&mut state);
        self.wake(state);
        if more {
            self.room.ring();
        }
        if self.capacity == 0 {
            waited += self.wait_until_taken(core);
        }
        waited
    }

    /// Waits until nothing waits any more.
    fn wait_until_taken(&self, core: &Core) -> Duration {
        let mut waited = Duration::ZERO;
        self.blocked.fetch_add(1, Ordering::SeqCst);
        while lock(&self.state).packets > 0 && !core.is_aborted() {
            waited += self.room.wait(core);
        }
        self.blocked.fetch_sub(1, Ordering::SeqCst);
        // Another producer may be waiting for the same.
        self.room.ring();
        waited
    }

    /// Takes the next item; one that may take ahead puts what follows into `ahead`.
    pub(crate) fn take(&self, ahead: &mut VecDeque<Item>) -> Option<Arrival> {
        if let Some(item) = ahead.pop_front() {
            return Some(self.begin(item));
        }
        if self.queued.items.load(Ordering::Acquire) == 0 {
            return None;
        }
        let mut state = lock(&self.state);
        if self.take_ahead {
            std::mem::swap(&mut state.items, ahead);
            state.ahead = state.packets;
            state.packets = 0;
            self.ahead.left.store(state.ahead, Ordering::SeqCst);
            self.note(&state);
            drop(state);
            return ahead.pop_front().map(|item| self.begin(item));
        }
        let arrival = match state.items.pop_front()? {
            Item::Packet(envelope) => Arrival::Packet(envelope),
            Item::End(stream) => Arrival::End(stream),
            Item::Slot(slot) => Arrival::Packet(state.slots.get_mut(slot)?.take()?),
        };
        let packet = matches!(arrival, Arrival::Packet(_));
        if packet {
            state.packets -= 1;
            bump(&self.ahead.taken);
        }
        self.note(&state);
        let free = self.capacity.max(1).saturating_sub(state.packets);
        // Others sleep while something is left: the bell wakes one at a time.
        let more = state.sleepers > 0 && !state.items.is_empty();
        drop(state);
        if more {
            self.ready.ring();
        }
        if packet && self.blocked.load(Ordering::SeqCst) > 0 && free >= self.plenty {
            self.room.ring();
        }
        Some(arrival)
    }

    /// The turn of an item that was taken ahead has come.
    fn begin(&self, item: Item) -> Arrival {
        match item {
            Item::Packet(envelope) => {
                // Only the consumer writes it.
                let left = self.ahead.left.load(Ordering::Relaxed).saturating_sub(1);
                bump(&self.ahead.taken);
                // A producer that may sleep until there is plenty of room is looked for now and then, and at the last.
                if self.plenty > 1 && !left.is_multiple_of(STRIDE) {
                    self.ahead.left.store(left, Ordering::Release);
                    return Arrival::Packet(envelope);
                }
                self.ahead.left.store(left, Ordering::SeqCst);
                if self.blocked.load(Ordering::SeqCst) > 0 {
                    let waiting = self.queued.packets.load(Ordering::Relaxed) + left;
                    if left == 0 || self.capacity.saturating_sub(waiting) >= self.plenty {
                        self.room.ring();
                    }
                }
                Arrival::Packet(envelope)
            }
            Item::End(stream) => Arrival::End(stream),
            Item::Slot(_) => unreachable!("queues with slots are not taken ahead"),
        }
    }

    /// A consumer is about to sleep; `false`: there is something to take.
    pub(crate) fn falls_asleep(&self) -> bool {
        let mut state = lock(&self.state);
        let empty = state.items.is_empty();
        state.sleepers += usize::from(empty);
        empty
    }

    /// A consumer that has fallen asleep is awake.
    pub(crate) fn wakes(&self) {
        let mut state = lock(&self.state);
        state.sleepers -= 1;
        state.rung = false;
    }

    /// Most packets that waited at one time.
    pub(super) fn deepest(&self) -> usize {
        lock(&self.state).deepest
    }
}
