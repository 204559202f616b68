//! The way out of a component: fan-out to its consumers, in order where the component asks for it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::core::Core;
use super::edge::{Edge, Envelope};
use super::resequencer::{Released, Resequencer};
use crate::ledger::Claim;
use crate::packet::Packet;

/// Shared by all replicas of a component.
pub(crate) struct Exit {
    /// Edges to the consumers, those that carry claims last.
    edges: Vec<Arc<Edge>>,
    /// Puts the packets of each stream back into the order in which the replicas took them.
    pub(crate) order: Option<Resequencer<Outgoing>>,
}

/// A packet on its way out.
pub(crate) struct Outgoing {
    packet: Packet,
    claim: Claim,
}

impl Exit {
    pub(crate) fn new(mut edges: Vec<Arc<Edge>>, order: Option<Resequencer<Outgoing>>) -> Self {
        edges.sort_by_key(|edge| edge.required);
        Self { edges, order }
    }

    /// Sends a packet that was taken with that number, `now`. Returns how long the caller waited for room.
    pub(crate) fn emit(
        &self,
        core: &Core,
        stream: usize,
        number: u64,
        packet: Packet,
        claim: Claim,
        now: Instant,
    ) -> Duration {
        match &self.order {
            None => self.fan_out(core, stream, packet, claim, now),
            Some(order) => {
                order.settle(stream, number, Some(Outgoing { packet, claim }));
                self.release(core, order, stream)
            }
        }
    }

    /// The packet taken with that number will not come.
    pub(crate) fn skip(&self, core: &Core, stream: usize, number: u64) -> Duration {
        match &self.order {
            None => Duration::ZERO,
            Some(order) => {
                order.settle(stream, number, None);
                self.release(core, order, stream)
            }
        }
    }

    /// That many packets of the stream were dropped before they came here. Noted by whoever takes packets, in its
    /// turn; [`pass_gone`](Self::pass_gone) follows.
    pub(crate) fn note_gone(&self, stream: usize, count: u64) {
        if let Some(order) = &self.order {
            order.gone(stream, count);
        }
    }

    /// Lets noted tombstones leave, once their turn has come.
    pub(crate) fn pass_gone(&self, core: &Core, stream: usize) {
        if let Some(order) = &self.order {
            self.release(core, order, stream);
        }
    }

    /// All packets of the stream have been settled.
    pub(crate) fn end(&self, core: &Core, stream: usize) {
        match &self.order {
            None => self.fan_out_end(stream),
            Some(order) => {
                order.end(stream);
                self.release(core, order, stream);
            }
        }
    }

    fn release(&self, core: &Core, order: &Resequencer<Outgoing>, stream: usize) -> Duration {
        let mut waited = Duration::ZERO;
        order.release(stream, |released| match released {
            Released::Item(Outgoing { packet, claim }) => {
                waited += self.fan_out(core, stream, packet, claim, core.clock.now());
            }
            Released::Gone(count) => {
                let marked = self.edges.iter().filter(|edge| edge.marks);
                marked.for_each(|edge| edge.gone(stream, count));
            }
            Released::End => self.fan_out_end(stream),
        });
        waited
    }

    fn fan_out(&self, core: &Core, stream: usize, packet: Packet, claim: Claim, queued: Instant) -> Duration {
        let Some((last, others)) = self.edges.split_last() else {
            return Duration::ZERO;
        };
        let mut waited = Duration::ZERO;
        for edge in others {
            let envelope = Envelope {
                packet: packet.clone(),
                claim: if edge.required {
                    claim.fork()
                } else {
                    Claim::none()
                },
                stream,
                queued: queued + waited,
            };
            waited += edge.send(core, envelope);
        }
        // No edge carries claims only where the packet came with none.
        let envelope = Envelope {
            packet,
            claim,
            stream,
            queued: queued + waited,
        };
        waited + last.send(core, envelope)
    }

    fn fan_out_end(&self, stream: usize) {
        for edge in &self.edges {
            edge.end(stream);
        }
    }
}
