//! An edge: the bounded queues between one producer and one consumer.
//!
//! An edge has one lane for each group of replicas that share packets (one for `route: any`, one for each replica
//! otherwise), and in each group one lane for the streams its policy may drop and one for those that must wait.
//! A lane keeps the packets of a stream in order, and its end after all of them.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::core::Core;
use super::event;
use super::fair::FairLane;
use super::fifo::FifoLane;
use super::report::EdgeReport;
use crate::config::plan::Overflow;
use crate::ledger::Claim;
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
    /// Whether it tells of packets that will not come, since a join waits for them.
    pub(crate) marks: bool,
    pub(crate) lanes: Vec<Lane>,
    /// Lane of each stream of the pipeline; `None`: the stream does not come this way.
    pub(crate) lane_of: Vec<Option<usize>>,
    pub(crate) meter: EdgeMeter,
}

impl Edge {
    /// Queues a packet, following the policy where there is no room. Returns how long the caller waited.
    pub(crate) fn send(&self, core: &Core, envelope: Envelope) -> Duration {
        let Some(lane) = self.lane(envelope.stream) else {
            self.meter.offered();
            // Letting the claim go makes a packet of a stream that was never announced a ledger mismatch.
            return Duration::ZERO;
        };
        let fails = lane.policy() == Overflow::Fail;
        let mut lose = |lost| {
            self.meter.dropped();
            event::Overflowed { edge: self, fails }.emit(core, lost);
        };
        match &lane.queue {
            Queue::Fifo(fifo) => fifo.send(core, envelope, &mut lose),
            Queue::Fair(fair) => {
                self.meter.offered();
                fair.send(core, envelope, &mut lose)
            }
        }
    }

    /// Queues the end of a stream, behind all its packets.
    pub(crate) fn end(&self, stream: usize) {
        match self.lane(stream).map(|lane| &lane.queue) {
            Some(Queue::Fifo(fifo)) => fifo.end(stream),
            Some(Queue::Fair(fair)) => fair.end(stream),
            None => {}
        }
    }

    /// Tells that packets of a stream will not come, in their place behind those before.
    pub(crate) fn gone(&self, stream: usize, count: u64) {
        if let Some(Queue::Fair(fair)) = self.lane(stream).map(|lane| &lane.queue) {
            fair.gone(stream, count);
        }
    }

    fn lane(&self, stream: usize) -> Option<&Lane> {
        let lane = self.lane_of.get(stream).copied().flatten()?;
        self.lanes.get(lane)
    }

    pub(crate) fn report(&self) -> EdgeReport {
        let fifos = || self.lanes.iter().filter_map(Lane::fifo);
        let taken = fifos().map(FifoLane::taken).sum::<u64>();
        let offered = fifos().map(FifoLane::offered).sum::<u64>();
        EdgeReport {
            name: self.name.clone(),
            offered: offered + self.meter.offered.load(Ordering::Relaxed),
            dropped: self.meter.dropped.load(Ordering::Relaxed),
            taken: taken + self.meter.taken.load(Ordering::Relaxed),
            deepest: self.lanes.iter().map(Lane::deepest).max().unwrap_or_default(),
        }
    }

    pub(crate) fn leads_to(&self, component: &str) -> bool {
        self.to == component
    }

    /// Packets and ends waiting now.
    pub(crate) fn depth(&self) -> usize {
        self.lanes.iter().map(Lane::len).sum()
    }
}

/// One bounded queue.
pub(crate) struct Lane {
    /// Which replica takes from it; `None`: all of them.
    pub(crate) replica: Option<usize>,
    pub(crate) queue: Queue,
}

/// How a lane is built.
pub(crate) enum Queue {
    /// Packets come out as they went in.
    Fifo(Box<FifoLane>),
    /// The consumer picks the stream.
    Fair(FairLane),
}

impl Lane {
    fn policy(&self) -> Overflow {
        match &self.queue {
            Queue::Fifo(fifo) => fifo.policy,
            Queue::Fair(fair) => fair.policy,
        }
    }

    /// Packets waiting now, and ends.
    pub(crate) fn len(&self) -> usize {
        match &self.queue {
            Queue::Fifo(fifo) => fifo.len(),
            Queue::Fair(fair) => fair.len(),
        }
    }

    /// Most packets that waited at one time.
    fn deepest(&self) -> usize {
        match &self.queue {
            Queue::Fifo(fifo) => fifo.deepest(),
            Queue::Fair(fair) => fair.deepest(),
        }
    }

    /// The queue in order of arrival, where it is one.
    pub(crate) fn fifo(&self) -> Option<&FifoLane> {
        match &self.queue {
            Queue::Fifo(fifo) => Some(fifo),
            Queue::Fair(_) => None,
        }
    }

    /// The queue by streams, where it is one.
    pub(crate) fn fair(&self) -> Option<&FairLane> {
        match &self.queue {
            Queue::Fair(fair) => Some(fair),
            Queue::Fifo(_) => None,
        }
    }
}
