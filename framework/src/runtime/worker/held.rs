//! What a worker has taken and not yet settled, where the supervisor can reach it: a call that does not return must
//! not keep its packets.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use super::Pending;
use crate::ledger::{Claim, lock};
use crate::packet::{Packet, PacketId, StreamId};

/// Which packet: its id, with the index of the stream in place of the name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Key {
    pub(super) stream: usize,
    epoch: u32,
    seq: u64,
}

/// A packet taken and not yet settled.
pub(crate) struct Holding {
    pub(super) key: Key,
    pub(super) claim: Claim,
    pub(super) number: u64,
    /// The packet, where it is kept in case that it fails.
    pub(super) packet: Option<Box<Packet>>,
}

/// What names a packet: a key, or the id that an instance gives back.
pub(super) trait Names {
    fn names(&self, key: &Key, streams: &[StreamId]) -> bool;
}

impl Names for Key {
    fn names(&self, key: &Key, _: &[StreamId]) -> bool {
        self == key
    }
}

impl Names for PacketId {
    fn names(&self, key: &Key, streams: &[StreamId]) -> bool {
        self.seq == key.seq && self.epoch == key.epoch && streams.get(key.stream) == Some(&self.stream)
    }
}

impl Key {
    pub(super) fn new(id: &PacketId, stream: usize) -> Self {
        Self {
            stream,
            epoch: id.epoch,
            seq: id.seq,
        }
    }

    /// The id in full.
    pub(super) fn id(&self, streams: &[StreamId]) -> PacketId {
        PacketId {
            stream: streams.get(self.stream).cloned().unwrap_or_else(|| "".into()),
            epoch: self.epoch,
            seq: self.seq,
        }
    }
}

/// What a worker hands over to the one that takes its place.
pub(crate) struct Desk {
    state: Mutex<State>,
    /// Streams that are to be flushed before the worker is done.
    pub(super) unflushed: AtomicUsize,
    pending: Mutex<Vec<Pending>>,
    /// Number of packets held and things pending, for those who only look.
    held: AtomicUsize,
    due: AtomicUsize,
    /// Names of the pipeline's streams.
    streams: Arc<[StreamId]>,
}

#[derive(Default)]
struct State {
    /// Oldest first; most instances hold one at most.
    held: Vec<Holding>,
    /// Packets of a failed batch that are not at work yet.
    aside: VecDeque<Holding>,
    /// When the call under way began, time spent waiting for room downstream left out.
    busy: Option<Instant>,
    /// The call waits for room downstream: its time stands still.
    paused: bool,
    abandoned: bool,
}

/// What the supervisor finds at a desk.
pub(crate) enum Found {
    /// Nothing that could take too long.
    Idle,
    /// A call that may go on until then.
    Until(Instant),
    /// A call that took too long; the desk is cleared, and what its worker still gives is not taken any more.
    Overdue(Vec<Holding>),
}

impl Desk {
    /// For a worker that is to flush that many streams.
    pub(super) fn new(unflushed: usize, streams: Arc<[StreamId]>) -> Self {
        Self {
            state: Mutex::default(),
            unflushed: AtomicUsize::new(unflushed),
            pending: Mutex::default(),
            held: AtomicUsize::new(0),
            due: AtomicUsize::new(0),
            streams,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    pub(super) fn push(&self, holding: Holding) {
        let mut state = self.state();
        state.held.push(holding);
        self.note(&state);
    }

    fn note(&self, state: &State) {
        self.held
            .store(state.held.len() + state.aside.len(), Ordering::Relaxed);
    }

    fn place(&self, state: &State, which: &impl Names) -> Option<usize> {
        let mut held = state.held.iter();
        held.position(|holding| which.names(&holding.key, &self.streams))
    }

    pub(super) fn has(&self, which: &impl Names) -> bool {
        self.place(&self.state(), which).is_some()
    }

    pub(super) fn has_stream(&self, stream: usize) -> bool {
        self.state()
            .held
            .iter()
            .any(|holding| holding.key.stream == stream)
    }

    /// Packets held.
    pub(super) fn len(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }

    pub(super) fn take(&self, which: &impl Names) -> Option<Holding> {
        let mut state = self.state();
        let place = self.place(&state, which)?;
        let holding = state.held.remove(place);
        self.note(&state);
        Some(holding)
    }

    pub(super) fn take_stream(&self, stream: usize) -> Option<Holding> {
        let mut state = self.state();
        let place = state
            .held
            .iter()
            .position(|holding| holding.key.stream == stream)?;
        let holding = state.held.remove(place);
        self.note(&state);
        Some(holding)
    }

    pub(super) fn take_all(&self) -> Vec<Holding> {
        let mut state = self.state();
        let all = std::mem::take(&mut state.held);
        self.note(&state);
        all
    }

    /// Puts packets out of reach of what fails before their turn comes.
    pub(super) fn put_aside<'a>(&self, ids: impl Iterator<Item = &'a PacketId>) {
        let mut state = self.state();
        for id in ids {
            if let Some(place) = self.place(&state, id) {
                let holding = state.held.remove(place);
                state.aside.push_back(holding);
            }
        }
    }

    /// Takes the next packet back, if it is that one.
    pub(super) fn take_up(&self, key: &Key) -> bool {
        let mut state = self.state();
        if state.aside.front().is_none_or(|holding| holding.key != *key) {
            return false;
        }
        let next = state.aside.pop_front();
        state.held.extend(next);
        true
    }

    /// A call that may take too long begins.
    pub(super) fn begin(&self, now: Instant) {
        let mut state = self.state();
        state.busy = Some(now);
        state.paused = false;
    }

    /// The call has returned; `false`: too late, the worker has been replaced.
    pub(super) fn finish(&self) -> bool {
        let mut state = self.state();
        state.busy = None;
        !state.abandoned
    }

    /// Takes a packet that the call settles, which may wait for room downstream from now on.
    pub(super) fn settle(&self, id: &PacketId) -> Option<Holding> {
        let mut state = self.state();
        let place = self.place(&state, id)?;
        state.paused = true;
        let holding = state.held.remove(place);
        self.note(&state);
        Some(holding)
    }

    /// The call goes on after waiting for so long.
    pub(super) fn resume(&self, waited: Duration) {
        let mut state = self.state();
        state.paused = false;
        state.busy = state.busy.and_then(|since| since.checked_add(waited));
    }

    pub(super) fn is_abandoned(&self) -> bool {
        self.state().abandoned
    }

    /// Looks whether the call under way has taken longer than `limit`.
    pub(crate) fn look(&self, now: Instant, limit: Duration) -> Found {
        let mut state = self.state();
        let Some(since) = state.busy.filter(|_| !state.paused && !state.abandoned) else {
            return Found::Idle;
        };
        match since.checked_add(limit) {
            None => Found::Idle,
            Some(until) if until > now => Found::Until(until),
            Some(_) => {
                state.abandoned = true;
                let aside = std::mem::take(&mut state.aside);
                let held = std::mem::take(&mut state.held);
                self.note(&state);
                Found::Overdue(held.into_iter().chain(aside).collect())
            }
        }
    }

    /// A desk for the worker that takes over, with what was left to do.
    pub(super) fn inherit(&self) -> Self {
        let unflushed = self.unflushed.load(Ordering::Acquire);
        let desk = Self::new(unflushed, self.streams.clone());
        let pending = std::mem::take(&mut *lock(&self.pending));
        pending.into_iter().for_each(|what| desk.later(what));
        desk
    }

    pub(super) fn later(&self, what: Pending) {
        let mut pending = lock(&self.pending);
        pending.push(what);
        self.due.store(pending.len(), Ordering::Relaxed);
    }

    /// Whether something waits to be done, and whether a replica asked for it.
    pub(super) fn waits(&self) -> Option<bool> {
        if self.due.load(Ordering::Relaxed) == 0 {
            return None;
        }
        let pending = lock(&self.pending);
        let asked = pending.iter().any(|p| matches!(p, Pending::Told(_)));
        (!pending.is_empty()).then_some(asked)
    }

    pub(super) fn next(&self) -> Option<Pending> {
        if self.due.load(Ordering::Relaxed) == 0 {
            return None;
        }
        let mut pending = lock(&self.pending);
        let next = (!pending.is_empty()).then(|| pending.remove(0));
        self.due.store(pending.len(), Ordering::Relaxed);
        next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    fn id(seq: u64) -> PacketId {
        PacketId {
            stream: "cam".into(),
            epoch: 0,
            seq,
        }
    }

    fn holding(seq: u64) -> Holding {
        Holding {
            key: Key::new(&id(seq), 0),
            claim: Claim::none(),
            number: seq,
            packet: None,
        }
    }

    fn desk() -> Desk {
        Desk::new(1, ["cam".into()].into())
    }

    #[test]
    fn the_time_of_a_call_stands_still_while_it_waits_for_room_downstream() {
        let (desk, start) = (desk(), Instant::now());
        desk.push(holding(0));
        desk.begin(start);
        assert!(matches!(desk.look(start + S, 2 * S), Found::Until(at) if at == start + 2 * S));
        assert!(desk.settle(&id(0)).is_some());
        assert!(matches!(desk.look(start + 9 * S, 2 * S), Found::Idle));
        desk.resume(8 * S);
        assert!(matches!(desk.look(start + 9 * S, 2 * S), Found::Until(at) if at == start + 10 * S));
        assert!(desk.finish());
        assert!(matches!(desk.look(start + 99 * S, 2 * S), Found::Idle));
    }

    #[test]
    fn an_overdue_call_loses_its_packets_once_and_gives_none_any_more() {
        let (desk, start) = (desk(), Instant::now());
        (0..3).for_each(|seq| desk.push(holding(seq)));
        desk.begin(start);
        desk.put_aside([id(1), id(2)].iter());
        let Found::Overdue(packets) = desk.look(start + S, S) else {
            panic!("it took as long as it may");
        };
        assert_eq!(packets.iter().map(|p| p.number).collect::<Vec<_>>(), [0, 1, 2]);
        assert!(matches!(desk.look(start + 2 * S, S), Found::Idle));
        assert!(desk.settle(&id(0)).is_none() && desk.is_abandoned() && !desk.finish());
    }
}
