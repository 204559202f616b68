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

use std::collections::VecDeque;
use std::sync::Mutex;

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::ledger::lock;

pub(crate) struct Resequencer<T> {
    streams: Vec<Stream<T>>,
}

struct Stream<T> {
    state: Mutex<State<T>>,
    credit: Sender<()>,
    credits: Receiver<()>,
}

struct State<T> {
    next: u64,
    /// Numbers that have not left, ascending; `None` until settled. At most `window` and one more.
    waiting: VecDeque<(u64, Option<T>)>,
    /// One worker at a time takes what is ready downstream, so that nothing overtakes.
    releasing: bool,
    end: End,
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
    /// Everything has left.
    End,
}

impl<T> Resequencer<T> {
    /// For that many streams, with `window` credits each.
    pub(crate) fn new(streams: usize, window: usize) -> Self {
        let stream = |_| {
            let (credit, credits) = bounded(window.max(1));
            for _ in 0..window.max(1) {
                // The channel has room for exactly these.
                let _ = credit.try_send(());
            }
            Stream {
                state: Mutex::new(State {
                    next: 0,
                    waiting: VecDeque::new(),
                    releasing: false,
                    end: End::Open,
                }),
                credit,
                credits,
            }
        };
        Self {
            streams: (0..streams).map(stream).collect(),
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
        state.waiting.push_back((number, None));
        number
    }

    /// The credits of a stream; one is received before work on a packet begins.
    pub(crate) fn credits(&self, stream: usize) -> Option<&Receiver<()>> {
        self.streams.get(stream).map(|stream| &stream.credits)
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
        if item.is_some() {
            if let Some(entry) = state.waiting.get_mut(place) {
                entry.1 = item;
            }
        } else {
            state.waiting.remove(place);
            let _ = stream.credit.try_send(());
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
            let released = match state.waiting.front_mut().map(|(_, item)| item.take()) {
                Some(Some(item)) => {
                    state.waiting.pop_front();
                    Released::Item(item)
                }
                None if state.end == End::Due => {
                    state.end = End::Sent;
                    Released::End
                }
                Some(None) | None => break,
            };
            state.releasing = true;
            drop(state);
            let payload = matches!(released, Released::Item(_));
            forward(released);
            if payload {
                let _ = stream.credit.try_send(());
            }
            state = lock(&stream.state);
        }
        state.releasing = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn drain(order: &Resequencer<u64>) -> Vec<Option<u64>> {
        let mut left = Vec::new();
        order.release(0, |released| {
            left.push(match released {
                Released::Item(item) => Some(item),
                Released::End => None,
            });
        });
        left
    }

    #[test]
    fn a_gap_holds_back_what_follows_until_it_is_settled() {
        let order = Resequencer::new(1, 4);
        for n in 0..3 {
            assert_eq!(order.number(0), n);
        }
        order.settle(0, 2, Some(2));
        order.settle(0, 1, Some(1));
        order.end(0);
        assert_eq!(drain(&order), []);
        order.settle(0, 0, None);
        assert_eq!(drain(&order), [Some(1), Some(2), None]);
        assert_eq!(drain(&order), []);
    }

    proptest! {
        /// Whatever the order in which numbers are settled, items leave in the order of their numbers, the end
        /// last and once, and every credit comes back.
        #[test]
        fn items_leave_in_order(
            kept in prop::collection::vec(any::<bool>(), 1..40),
            seed in any::<u64>(),
        ) {
            let count = kept.len();
            let order = Resequencer::new(1, count);
            let credits = order.credits(0).unwrap();
            for _ in 0..count {
                order.number(0);
                credits.try_recv().unwrap();
            }
            prop_assert!(credits.try_recv().is_err());
            let mut numbers: Vec<usize> = (0..count).collect();
            let mut state = seed | 1;
            for i in (1..count).rev() {
                state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                numbers.swap(i, (state >> 33) as usize % (i + 1));
            }
            let mut left = Vec::new();
            for &n in &numbers {
                order.settle(0, n as u64, kept[n].then_some(n as u64));
                left.extend(drain(&order));
            }
            order.end(0);
            left.extend(drain(&order));
            let mut expected: Vec<Option<u64>> =
                (0..count).filter(|n| kept[*n]).map(|n| Some(n as u64)).collect();
            expected.push(None);
            prop_assert_eq!(left, expected);
            prop_assert_eq!(credits.len(), count);
        }
    }
}
