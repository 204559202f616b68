//! What a worker has taken and not yet settled.

use crate::ledger::Claim;
use crate::packet::PacketId;

/// A packet taken and not yet settled.
pub(super) struct Holding {
    pub(super) id: PacketId,
    pub(super) claim: Claim,
    pub(super) stream: usize,
    pub(super) number: u64,
}

/// Packets taken and not yet settled, oldest first; most instances hold one at most.
#[derive(Default)]
pub(super) struct Held(pub(super) Vec<Holding>);

impl Held {
    pub(super) fn take(&mut self, id: &PacketId) -> Option<Holding> {
        let same = |h: &Holding| h.id.seq == id.seq && h.id.epoch == id.epoch && h.id.stream == id.stream;
        let place = self.0.iter().position(same)?;
        Some(self.0.remove(place))
    }

    pub(super) fn take_stream(&mut self, stream: usize) -> Option<Holding> {
        let place = self.0.iter().position(|h| h.stream == stream)?;
        Some(self.0.remove(place))
    }
}
