//! A queue by streams: the consumer picks the stream whose oldest packet it takes.
//!
//! Batches need it, so that one busy stream does not fill them, and joins, which take the same place of a stream from
//! several edges. It counts bytes as well as packets, and holds **tombstones** where a join comes later on the way: a
//! packet that was dropped leaves its place behind, so that the join does not wait for it. Neighbouring tombstones
//! are one entry with a count, and between two entries of that sort stands a packet, so that a queue of `capacity`
//! packets has at most `2 * capacity + streams` entries however many packets were dropped.
//!
//! One thread at a time takes from it: replicas that share it pass a baton. Whoever waits, waits for a bell that is
//! rung after each change; a bell that was rung for nothing costs a look.

use std::collections::VecDeque;
use std::time::Duration;

use super::bell::Bell;
use super::core::Core;
use super::edge::Envelope;
use crate::config::plan::{Overflow, QueueSpec};
use crate::ledger::lock;
use crate::sync::Mutex;
use crate::sync::atomic::{AtomicUsize, Ordering};

pub(crate) struct FairLane {
    pub(super) policy: Overflow,
    capacity: usize,
    bytes: u64,
    /// Whether dropped packets leave a tombstone.
    marks: bool,
    state: Mutex<State>,
    /// Packets waiting, for those who only look.
    waiting: AtomicUsize,
    /// Rung when there is more room.
    room: Bell,
    /// Rung when there is something to take; shared by all lanes of the consumer.
    ready: Bell,
    /// Place of each stream of the pipeline among those of the lane.
    place_of: Vec<Option<usize>>,
}

struct State {
    streams: Vec<StreamQueue>,
    packets: usize,
    /// Most packets that waited at one time.
    deepest: usize,
    bytes: u64,
    /// Numbers packets as they come.
    arrivals: u64,
}

struct StreamQueue {
    /// Index of the stream in the pipeline.
    stream: usize,
    entries: VecDeque<Entry>,
    /// Its end has been taken.
    ended: bool,
}

enum Entry {
    Packet {
        envelope: Envelope,
        arrival: u64,
    },
    /// That many packets will not come.
    Gone(u64),
    End,
}

/// The oldest entry of a stream, as the consumer sees it before it takes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Front {
    /// A packet of that epoch, whose payload has that shape.
    Packet {
        shape: u64,
        epoch: u32,
    },
    /// That many packets will not come.
    Gone(u64),
    End,
}

/// What a consumer has taken.
pub(crate) enum Taken {
    Packet(Envelope),
    /// That many packets will not come.
    Gone(u64),
    End,
}

fn front(queue: &StreamQueue) -> Option<Front> {
    Some(match queue.entries.front()? {
        Entry::Packet { envelope, .. } => Front::Packet {
            shape: envelope.packet.raw_payload().shape_key(),
            epoch: envelope.packet.header.id.epoch,
        },
        Entry::Gone(count) => Front::Gone(*count),
        Entry::End => Front::End,
    })
}

fn size(envelope: &Envelope) -> u64 {
    envelope.packet.raw_payload().bytes() as u64
}

impl FairLane {
    /// A lane for the given streams of the pipeline's `all`. `spec` says its size, `policy` what happens when it is
    /// full: an edge may have one policy for some streams and another one for others.
    pub(crate) fn new(
        policy: Overflow,
        spec: QueueSpec,
        streams: &[usize],
        all: usize,
        marks: bool,
        ready: Bell,
    ) -> Self {
        let mut place_of = vec![None; all];
        for (place, &stream) in streams.iter().enumerate() {
            if let Some(entry) = place_of.get_mut(stream) {
                *entry = Some(place);
            }
        }
        let queue = |stream: &usize| StreamQueue {
            stream: *stream,
            entries: VecDeque::new(),
            ended: false,
        };
        Self {
            policy,
            capacity: spec.capacity,
            bytes: spec.bytes.unwrap_or(u64::MAX),
            marks,
            state: Mutex::new(State {
                streams: streams.iter().map(queue).collect(),
                packets: 0,
                deepest: 0,
                bytes: 0,
                arrivals: 0,
            }),
            waiting: AtomicUsize::new(0),
            room: Bell::new(),
            ready,
            place_of,
        }
    }

    /// Packets waiting.
    pub(crate) fn len(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Most packets that waited at one time.
    pub(super) fn deepest(&self) -> usize {
        lock(&self.state).deepest
    }

    fn place(&self, stream: usize) -> Option<usize> {
        self.place_of.get(stream).copied().flatten()
    }

    /// Queues a packet; whatever has to be dropped for it goes to `lose`. Returns the time spent waiting.
    pub(super) fn send(&self, core: &Core, envelope: Envelope, lose: &mut dyn FnMut(Envelope)) -> Duration {
        let Some(place) = self.place(envelope.stream) else {
            return Duration::ZERO;
        };
        let size = size(&envelope);
        let mut state = lock(&self.state);
        match self.policy {
            Overflow::Block => {
                let mut waited = Duration::ZERO;
                while !self.has_room(&state, size) {
                    drop(state);
                    waited += self.room.wait(core);
                    if core.is_aborted() {
                        return waited;
                    }
                    state = lock(&self.state);
                }
                state.push(place, envelope, size);
                if self.has_room(&state, 0) {
                    // Another producer may be waiting as well.
                    self.room.ring();
                }
                self.note(&state);
                drop(state);
                self.ready.ring();
                if self.capacity == 0 {
                    waited += self.wait_until_taken(core);
                }
                return waited;
            }
            Overflow::DropNewest | Overflow::Fail => {
                if !self.has_room(&state, size) {
                    state.gone(place, 1, self.marks);
                    drop(state);
                    if self.marks {
                        self.ready.ring();
                    }
                    lose(envelope);
                    return Duration::ZERO;
                }
            }
            Overflow::DropOldest => {
                while !self.has_room(&state, size) {
                    let Some(oldest) = state.oldest() else { break };
                    if let Some(lost) = state.drop_front(oldest, self.marks) {
                        lose(lost);
                    }
                }
            }
            Overflow::Latest => {
                if let Some(lost) = state.drop_front(place, self.marks) {
                    lose(lost);
                }
            }
        }
        state.push(place, envelope, size);
        self.note(&state);
        drop(state);
        self.ready.ring();
        Duration::ZERO
    }

    /// Whether a packet of that size fits; one that is larger than all fits alone.
    fn has_room(&self, state: &State, size: u64) -> bool {
        state.packets == 0 || state.packets < self.capacity && state.bytes.saturating_add(size) <= self.bytes
    }

    /// Waits until nothing waits any more.
    fn wait_until_taken(&self, core: &Core) -> Duration {
        let mut waited = Duration::ZERO;
        while lock(&self.state).packets > 0 && !core.is_aborted() {
            waited += self.room.wait(core);
        }
        // Another producer may be waiting for the same.
        self.room.ring();
        waited
    }

    /// Packets of the stream that were dropped before they came here.
    pub(crate) fn gone(&self, stream: usize, count: u64) {
        if let Some(place) = self.place(stream) {
            lock(&self.state).gone(place, count, self.marks);
            self.ready.ring();
        }
    }

    /// The stream ends behind all that waits.
    pub(crate) fn end(&self, stream: usize) {
        if let Some(place) = self.place(stream) {
            let mut state = lock(&self.state);
            if let Some(queue) = state.streams.get_mut(place) {
                queue.entries.push_back(Entry::End);
            }
            drop(state);
            self.ready.ring();
        }
    }

    fn note(&self, state: &State) {
        self.waiting.store(state.packets, Ordering::Relaxed);
    }

    /// Calls `look` with each stream that has something to take, and what that is.
    pub(crate) fn fronts(&self, look: &mut dyn FnMut(usize, Front)) {
        let state = lock(&self.state);
        for queue in &state.streams {
            if let Some(front) = front(queue) {
                look(queue.stream, front);
            }
        }
    }

    /// The oldest entry of a stream.
    pub(crate) fn front(&self, stream: usize) -> Option<Front> {
        let place = self.place(stream)?;
        front(lock(&self.state).streams.get(place)?)
    }

    /// Whether the end of a stream has been taken, by whichever replica.
    pub(crate) fn has_ended(&self, stream: usize) -> bool {
        let place = self.place(stream);
        place.is_some_and(|place| {
            lock(&self.state)
                .streams
                .get(place)
                .is_some_and(|queue| queue.ended)
        })
    }

    /// Whether the stream comes this way.
    pub(crate) fn has(&self, stream: usize) -> bool {
        self.place(stream).is_some()
    }

    /// Takes the oldest entry of a stream; of several tombstones, at most that many.
    pub(crate) fn take(&self, stream: usize, tombstones: u64) -> Option<Taken> {
        let place = self.place(stream)?;
        let mut state = lock(&self.state);
        let taken = match state.streams.get_mut(place)?.entries.front_mut()? {
            Entry::Gone(n) if *n > tombstones => {
                *n -= tombstones;
                return Some(Taken::Gone(tombstones));
            }
            _ => state.pop(place)?,
        };
        self.note(&state);
        drop(state);
        if matches!(taken, Taken::Packet(_)) {
            self.room.ring();
        }
        Some(taken)
    }
}

impl State {
    fn push(&mut self, place: usize, envelope: Envelope, size: u64) {
        let arrival = self.arrivals;
        if let Some(queue) = self.streams.get_mut(place) {
            queue.entries.push_back(Entry::Packet { envelope, arrival });
            self.packets += 1;
            self.deepest = self.deepest.max(self.packets);
            self.bytes += size;
            self.arrivals += 1;
        }
    }

    fn gone(&mut self, place: usize, count: u64, marks: bool) {
        let Some(queue) = self.streams.get_mut(place).filter(|_| marks) else {
            return;
        };
        match queue.entries.back_mut() {
            Some(Entry::Gone(n)) => *n += count,
            _ => queue.entries.push_back(Entry::Gone(count)),
        }
    }

    /// Place of the stream whose oldest packet came before those of all others.
    fn oldest(&self) -> Option<usize> {
        let first = |queue: &StreamQueue| {
            queue.entries.iter().find_map(|entry| match entry {
                Entry::Packet { arrival, .. } => Some(*arrival),
                _ => None,
            })
        };
        let places = self.streams.iter().enumerate();
        places
            .filter_map(|(place, queue)| Some((first(queue)?, place)))
            .min()
            .map(|(_, place)| place)
    }

    /// Drops the oldest packet of a stream; a tombstone takes its place.
    fn drop_front(&mut self, place: usize, marks: bool) -> Option<Envelope> {
        let queue = self.streams.get_mut(place)?;
        let at = queue
            .entries
            .iter()
            .position(|e| matches!(e, Entry::Packet { .. }))?;
        let Some(Entry::Packet { envelope, .. }) = queue.entries.remove(at) else {
            return None;
        };
        self.packets -= 1;
        self.bytes = self.bytes.saturating_sub(size(&envelope));
        if marks {
            // Neighbours become one.
            let mut count = 1;
            let mut place = at;
            if let Some(Entry::Gone(n)) = queue.entries.get(at) {
                count += n;
                queue.entries.remove(at);
            }
            if let Some(Entry::Gone(n)) = at.checked_sub(1).and_then(|before| queue.entries.get(before)) {
                count += n;
                place = at - 1;
                queue.entries.remove(place);
            }
            queue.entries.insert(place, Entry::Gone(count));
        }
        Some(envelope)
    }

    fn pop(&mut self, place: usize) -> Option<Taken> {
        let queue = self.streams.get_mut(place)?;
        match queue.entries.pop_front()? {
            Entry::Packet { envelope, .. } => {
                self.packets -= 1;
                self.bytes = self.bytes.saturating_sub(size(&envelope));
                Some(Taken::Packet(envelope))
            }
            Entry::Gone(n) => Some(Taken::Gone(n)),
            Entry::End => {
                queue.ended = true;
                Some(Taken::End)
            }
        }
    }
}
