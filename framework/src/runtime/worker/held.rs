//! What a worker has taken and not yet settled, where the supervisor can reach it: a call that does not return must
//! not keep its packets.

use std::collections::VecDeque;
use std::sync::atomic::AtomicUsize;
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use super::Pending;
use crate::ledger::{Claim, lock};
use crate::packet::PacketId;

/// A packet taken and not yet settled.
pub(crate) struct Holding {
    pub(super) id: PacketId,
    pub(super) claim: Claim,
    pub(super) stream: usize,
    pub(super) number: u64,
}

/// What a worker hands over to the one that takes its place.
pub(crate) struct Desk {
    state: Mutex<State>,
    /// Streams that are to be flushed before the worker is done.
    pub(super) unflushed: AtomicUsize,
    pending: Mutex<Vec<Pending>>,
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
    pub(super) fn new(streams: usize) -> Self {
        Self {
            state: Mutex::default(),
            unflushed: AtomicUsize::new(streams),
            pending: Mutex::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    pub(super) fn push(&self, holding: Holding) {
        self.state().held.push(holding);
    }

    pub(super) fn has(&self, id: &PacketId) -> bool {
        self.state().held.iter().any(|holding| holding.is(id))
    }

    pub(super) fn has_stream(&self, stream: usize) -> bool {
        self.state().held.iter().any(|holding| holding.stream == stream)
    }

    pub(super) fn len(&self) -> usize {
        let state = self.state();
        state.held.len() + state.aside.len()
    }

    pub(super) fn take(&self, id: &PacketId) -> Option<Holding> {
        let mut state = self.state();
        let place = state.held.iter().position(|holding| holding.is(id))?;
        Some(state.held.remove(place))
    }

    pub(super) fn take_stream(&self, stream: usize) -> Option<Holding> {
        let mut state = self.state();
        let place = state.held.iter().position(|holding| holding.stream == stream)?;
        Some(state.held.remove(place))
    }

    pub(super) fn take_all(&self) -> Vec<Holding> {
        std::mem::take(&mut self.state().held)
    }

    /// Puts packets out of reach of what fails before their turn comes.
    pub(super) fn put_aside<'a>(&self, ids: impl Iterator<Item = &'a PacketId>) {
        let mut state = self.state();
        for id in ids {
            if let Some(place) = state.held.iter().position(|holding| holding.is(id)) {
                let holding = state.held.remove(place);
                state.aside.push_back(holding);
            }
        }
    }

    /// Takes the next packet back, if it is that one.
    pub(super) fn take_up(&self, id: &PacketId) -> bool {
        let mut state = self.state();
        if !state.aside.front().is_some_and(|holding| holding.is(id)) {
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
        let place = state.held.iter().position(|holding| holding.is(id))?;
        state.paused = true;
        Some(state.held.remove(place))
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
                Found::Overdue(held.into_iter().chain(aside).collect())
            }
        }
    }

    /// A desk for the worker that takes over, with what was left to do.
    pub(super) fn inherit(&self) -> Self {
        let unflushed = self.unflushed.load(std::sync::atomic::Ordering::Acquire);
        let desk = Self::new(unflushed);
        *lock(&desk.pending) = std::mem::take(&mut *lock(&self.pending));
        desk
    }

    pub(super) fn later(&self, what: Pending) {
        lock(&self.pending).push(what);
    }

    /// Whether something waits to be done, and whether a replica asked for it.
    pub(super) fn waits(&self) -> Option<bool> {
        let pending = lock(&self.pending);
        let asked = pending.iter().any(|p| matches!(p, Pending::Told(_)));
        (!pending.is_empty()).then_some(asked)
    }

    pub(super) fn next(&self) -> Option<Pending> {
        let mut pending = lock(&self.pending);
        (!pending.is_empty()).then(|| pending.remove(0))
    }
}

impl Holding {
    fn is(&self, id: &PacketId) -> bool {
        self.id.seq == id.seq && self.id.epoch == id.epoch && self.id.stream == id.stream
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    fn holding(seq: u64) -> Holding {
        Holding {
            id: PacketId {
                stream: "cam".into(),
                epoch: 0,
                seq,
            },
            claim: Claim::none(),
            stream: 0,
            number: seq,
        }
    }

    #[test]
    fn the_time_of_a_call_stands_still_while_it_waits_for_room_downstream() {
        let (desk, start) = (Desk::new(1), Instant::now());
        desk.push(holding(0));
        desk.begin(start);
        assert!(matches!(desk.look(start + S, 2 * S), Found::Until(at) if at == start + 2 * S));
        assert!(desk.settle(&holding(0).id).is_some());
        assert!(matches!(desk.look(start + 9 * S, 2 * S), Found::Idle));
        desk.resume(8 * S);
        assert!(matches!(desk.look(start + 9 * S, 2 * S), Found::Until(at) if at == start + 10 * S));
        assert!(desk.finish());
        assert!(matches!(desk.look(start + 99 * S, 2 * S), Found::Idle));
    }

    #[test]
    fn an_overdue_call_loses_its_packets_once_and_gives_none_any_more() {
        let (desk, start) = (Desk::new(1), Instant::now());
        (0..3).for_each(|seq| desk.push(holding(seq)));
        desk.begin(start);
        desk.put_aside([holding(1).id, holding(2).id].iter());
        let Found::Overdue(packets) = desk.look(start + S, S) else {
            panic!("it took as long as it may");
        };
        assert_eq!(packets.iter().map(|p| p.number).collect::<Vec<_>>(), [0, 1, 2]);
        assert!(matches!(desk.look(start + 2 * S, S), Found::Idle));
        assert!(desk.settle(&holding(0).id).is_none() && desk.is_abandoned() && !desk.finish());
    }
}
