//! Packets of one place of a stream that came on several edges, handed on as one.

use std::sync::Arc;

use super::Worker;
use crate::config::plan::Join;
use crate::error::{Code, StageError};
use crate::ledger::{Loss, Reason, UNPAIRED};
use crate::packet::{Joined, Packet};
use crate::runtime::edge::Envelope;
use crate::runtime::event;
use crate::runtime::join::Parts;

impl Worker {
    /// Takes what the edges brought for one place of a stream.
    pub(super) fn take_joined(&mut self, parts: Parts, number: u64) {
        let Parts { stream, parts } = parts;
        let whole = parts.iter().all(Option::is_some);
        let mut ids = parts.iter().flatten().map(|part| &part.packet.header.id);
        let first = ids.next();
        let alike = ids.all(|id| Some(id) == first);
        // A lossy queue may have dropped what was seen in it before it could be taken: then nothing came at all, and
        // the place is given up below like any other.
        let some = first.is_some();
        if some && alike && (whole || self.component.join == Some(Join::Any)) {
            if let Some(envelope) = joined(parts) {
                self.take(envelope, number, None);
            }
            return;
        }
        let credited = self.acquire_credit(stream);
        self.inlet.pass_on();
        for part in parts.into_iter().flatten() {
            self.meter.taken.bump();
            let Envelope { packet, claim, .. } = part;
            let id = &packet.header.id;
            if !credited {
                self.meter.aborted.bump();
                claim.lose(Loss::Dropped(Reason::Aborted));
            } else if alike {
                event::Dropped {
                    component: &self.component.name,
                    id,
                    reason: UNPAIRED,
                }
                .emit(&self.meter, claim);
            } else {
                let message = format!(
                    "the ways to `{}` do not keep the packets of stream `{}` in one order; a stage on one of them \
                     changes it",
                    self.component.name, id.stream
                );
                event::Failed {
                    component: &self.component.name,
                    required: self.component.required,
                    replica: self.replica,
                    id,
                    packet: Some(&packet),
                    attempts: 1,
                    error: &StageError::packet(Code("E0413"), message),
                    on_error: &self.component.on_error,
                }
                .emit(&self.core, &self.meter, claim);
            }
        }
        if credited {
            self.component.exit.skip(&self.core, stream, number);
            self.catch_up();
        }
    }
}

/// The first packet there is, with all of them attached. The claims of the others end: its own stands for them.
fn joined(parts: Vec<Option<Envelope>>) -> Option<Envelope> {
    let packets: Vec<Option<Packet>> = parts
        .iter()
        .map(|part| part.as_ref().map(|part| part.packet.clone()))
        .collect();
    let mut parts = parts.into_iter().flatten();
    let mut envelope = parts.next()?;
    for other in parts {
        envelope.queued = envelope.queued.min(other.queued);
        other.claim.acknowledge();
    }
    envelope.packet.attach(Arc::new(Joined { parts: packets }));
    Some(envelope)
}
