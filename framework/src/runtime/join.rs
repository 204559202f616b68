//! Joins: what several edges bring of one stream, put together again.
//!
//! All ways from a fan-out to its join give one entry for each packet of the stream, in the order of the fan-out: the
//! packet, or a tombstone where it was dropped. So the n-th entries of all edges belong together, whatever ids
//! packets have, and a join waits for nothing but the slowest edge: no timer, and no buffer beyond the queues.

use std::sync::Arc;

use super::edge::{Edge, Envelope};
use super::exit::Exit;
use super::fair::{FairLane, Front, Taken};
use super::inlet::Next;

/// What each edge that carries a stream brought for one place of it; `None`: it was dropped on that way.
pub(crate) struct Parts {
    pub(crate) stream: usize,
    pub(crate) parts: Vec<Option<Envelope>>,
}

/// Where a join stands.
#[derive(Clone)]
pub(crate) struct Join {
    /// By stream: the lanes that carry it.
    carriers: Vec<Vec<usize>>,
    /// Stream that is asked first, so that none starves.
    turn: usize,
}

type Lanes = [(Arc<Edge>, usize)];

fn fair(lanes: &Lanes, index: usize) -> Option<(&Edge, &FairLane)> {
    let (edge, lane) = lanes.get(index)?;
    Some((edge, edge.lanes.get(*lane)?.fair()?))
}

impl Join {
    pub(crate) fn new(lanes: &Lanes, streams: usize) -> Self {
        let carriers = |stream| {
            let carries = |index: &usize| fair(lanes, *index).is_some_and(|(_, lane)| lane.has(stream));
            (0..lanes.len()).filter(carries).collect()
        };
        Self {
            carriers: (0..streams).map(carriers).collect(),
            turn: 0,
        }
    }

    /// The next place of any stream that all its edges have brought.
    pub(crate) fn next(&mut self, lanes: &Lanes, exit: &Exit) -> Option<Next> {
        let streams = self.carriers.len();
        for step in 0..streams {
            let stream = (self.turn + step) % streams;
            if let Some(next) = self.of_stream(stream, lanes, exit) {
                self.turn = stream + 1;
                return Some(next);
            }
        }
        None
    }

    fn of_stream(&mut self, stream: usize, lanes: &Lanes, exit: &Exit) -> Option<Next> {
        let carriers = self.carriers.get(stream)?;
        let mut gone = u64::MAX;
        let mut open = 0;
        for index in carriers {
            let (_, lane) = fair(lanes, *index)?;
            if lane.has_ended(stream) {
                continue;
            }
            match lane.front(stream)? {
                Front::End => {
                    lane.take(stream, 0);
                    return Some(Next::End(stream));
                }
                Front::Gone(count) => gone = gone.min(count),
                Front::Packet { .. } => gone = 0,
            }
            open += 1;
        }
        if open == 0 {
            return None;
        }
        let mut parts = Vec::with_capacity(carriers.len());
        for index in carriers {
            let (edge, lane) = fair(lanes, *index)?;
            parts.push(match lane.take(stream, gone.max(1)) {
                Some(Taken::Packet(envelope)) => {
                    edge.meter.taken();
                    Some(envelope)
                }
                _ => None,
            });
        }
        if gone > 0 {
            exit.note_gone(stream, gone);
            return Some(Next::Gone(stream));
        }
        let number = exit.order.as_ref().map_or(0, |order| order.number(stream));
        Some(Next::Joined(Parts { stream, parts }, number))
    }
}
