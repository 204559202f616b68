//! Puts what several replicas give back into the order in which they took it, per stream.
//!
//! A packet is numbered when a replica takes it, in the order of the queue, and leaves when every packet of its
//! stream with a lower number has left or has been settled otherwise. Numbers are given here rather than taken
//! from `seq`: edges keep the order of a stream, so a packet that was dropped before has no number that anyone
//! could wait for, and a decoder that emits pictures in display order keeps that order.
//!
//! Memory is bounded by credit, not by time: a replica may work on a packet only with one of `window` credits
//! of its stream, and the credit comes back when the packet leaves or is settled otherwise. Credits are had in the
//! order of numbers, so that the lowest number always has one. A replica that must wait for a credit first settles
//! what it holds back itself and asks the others to do so. So the packet with the lowest number is always at work in
//! some replica or on its way downstream, and the wait ends.
//!
//! Where a join comes later on the way, a packet that was settled otherwise leaves its place behind as a tombstone,
//! in order with the others. Tombstones take no credit; neighbours are one entry with a count, so that there are at
//! most `window + 1` entries between packets.

use std::collections::VecDeque;

use crate::ledger::lock;
use crate::sync::{Mutex, Receiver, Sender, bounded};

pub(crate) struct Resequencer<T> {
    streams: Vec<Stream<T>>,
    /// Whether what is settled otherwise leaves a tombstone.
    marks: bool,
}

struct Stream<T> {
    state: Mutex<State<T>>,
    /// `None`: one worker takes the stream, and what it holds back is bounded elsewhere.
    credit: Option<(Sender<()>, Receiver<()>)>,
}

struct State<T> {
    next: u64,
    /// Numbers that have not left, ascending.
    waiting: VecDeque<(u64, Place<T>)>,
    /// One worker at a time takes what is ready downstream, so that nothing overtakes.
    releasing: bool,
    end: End,
}

enum Place<T> {
    Unsettled,
    Item(T),
    /// That many packets, from this number on, will not leave.
    Gone(u64),
}

#[derive(PartialEq)]
enum End {
    Open,
    Due,
    Sent,
}

/// What leaves a stream.
pub(crate) enum Released<T> {
    Item(T),
    /// That many packets will not leave.
    Gone(u64),
    /// Everything has left.
    End,
}

impl<T> Resequencer<T> {
    /// For that many streams, with `window` credits each; `None`: credits are not needed.
    pub(crate) fn new(streams: usize, window: Option<usize>, marks: bool) -> Self {
        let stream = |_| {
            let credit = window.map(|window| {
                let (credit, credits) = bounded(window.max(1));
                for _ in 0..window.max(1) {
                    // The channel has room for exactly these.
                    let _ = credit.try_send(());
                }
                (credit, credits)
            });
            Stream {
                state: Mutex::new(State {
                    next: 0,
                    waiting: VecDeque::new(),
                    releasing: false,
                    end: End::Open,
                }),
                credit,
            }
        };
        Self {
            streams: (0..streams).map(stream).collect(),
            marks,
        }
    }

    /// Numbers the next packet of a stream. Callers take turns, so that numbers follow the queue.
    pub(crate) fn number(&self, stream: usize) -> u64 {
        let Some(stream) = self.streams.get(stream) else {
            return 0;
        };
        let mut state = lock(&stream.state);
        let number = state.next;
        state.next += 1;
        state.waiting.push_back((number, Place::Unsettled));
        number
    }

    /// That many packets of a stream, in place of the next one, will not come; callers take turns with those of
    /// [`number`](Self::number).
    pub(crate) fn gone(&self, stream: usize, count: u64) {
        let Some(stream) = self.streams.get(stream).filter(|_| self.marks) else {
            return;
        };
        let mut state = lock(&stream.state);
        let number = state.next;
        state.next += 1;
        state.waiting.push_back((number, Place::Gone(count)));
        let last = state.waiting.len() - 1;
        state.merge(last);
    }

    /// The credits of a stream; one is received before work on a packet begins.
    pub(crate) fn credits(&self, stream: usize) -> Option<&Receiver<()>> {
        let (_, credits) = self.streams.get(stream)?.credit.as_ref()?;
        Some(credits)
    }

    /// Settles a number: with what shall leave, or with nothing.
    pub(crate) fn settle(&self, stream: usize, number: u64, item: Option<T>) {
        let Some(stream) = self.streams.get(stream) else {
            return;
        };
        let mut state = lock(&stream.state);
        let Ok(place) = state.waiting.binary_search_by_key(&number, |(n, _)| *n) else {
            return;
        };
        let Some(item) = item else {
            if self.marks {
                if let Some(entry) = state.waiting.get_mut(place) {
                    entry.1 = Place::Gone(1);
                }
                state.merge(place);
            } else {
                state.waiting.remove(place);
            }
            stream.give_back();
            return;
        };
        if let Some(entry) = state.waiting.get_mut(place) {
            entry.1 = Place::Item(item);
        }
    }

    /// All numbers of the stream are settled: the end leaves behind the last of them.
    pub(crate) fn end(&self, stream: usize) {
        if let Some(stream) = self.streams.get(stream) {
            let mut state = lock(&stream.state);
            if state.end == End::Open {
                state.end = End::Due;
            }
        }
    }

    /// Hands everything of the stream that is ready to `forward`, in order and without holding a lock, unless
    /// another worker is doing so already.
    pub(crate) fn release(&self, stream: usize, mut forward: impl FnMut(Released<T>)) {
        let Some(stream) = self.streams.get(stream) else {
            return;
        };
        let mut state = lock(&stream.state);
        if state.releasing {
            return;
        }
        loop {
            let settled = state.waiting.front().map(|(_, p)| !matches!(p, Place::Unsettled));
            let released = match settled {
                Some(true) => match state.waiting.pop_front() {
                    Some((_, Place::Item(item))) => Released::Item(item),
                    Some((_, Place::Gone(count))) => Released::Gone(count),
                    Some((_, Place::Unsettled)) | None => break,
                },
                None if state.end == End::Due => {
                    state.end = End::Sent;
                    Released::End
                }
                Some(false) | None => break,
            };
            state.releasing = true;
            drop(state);
            let payload = matches!(released, Released::Item(_));
            forward(released);
            if payload {
                stream.give_back();
            }
            state = lock(&stream.state);
        }
        state.releasing = false;
    }
}

impl<T> Stream<T> {
    fn give_back(&self) {
        if let Some((credit, _)) = &self.credit {
            let _ = credit.try_send(());
        }
    }
}

impl<T> State<T> {
    /// Makes the tombstone at that place one with those beside it.
    fn merge(&mut self, place: usize) {
        let count = |state: &Self, place: usize| match state.waiting.get(place) {
            Some((_, Place::Gone(count))) => Some(*count),
            _ => None,
        };
        let mut place = place;
        if let Some(before) = place.checked_sub(1)
            && count(self, before).is_some()
        {
            place = before;
        }
        while let (Some(here), Some(next)) = (count(self, place), count(self, place + 1)) {
            if let Some(entry) = self.waiting.get_mut(place) {
                entry.1 = Place::Gone(here + next);
            }
            self.waiting.remove(place + 1);
        }
    }
}
