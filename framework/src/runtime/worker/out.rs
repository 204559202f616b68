//! What an instance says about the packets it was given.

use std::time::Duration;

use super::held::{Held, Holding};
use crate::error::StageError;
use crate::metrics::Meter;
use crate::packet::{Header, Packet, PacketId};
use crate::runtime::component::Component;
use crate::runtime::core::Core;
use crate::runtime::event;
use crate::stage::Emitter;

/// What an instance sees of its worker.
pub(super) struct Out<'a> {
    pub(super) core: &'a Core,
    pub(super) component: &'a Component,
    pub(super) replica: usize,
    pub(super) meter: &'a Meter,
    pub(super) held: &'a mut Held,
    /// Time spent waiting for room downstream.
    pub(super) blocked: Duration,
}

impl Out<'_> {
    pub(super) fn fail_holding(&mut self, holding: Holding, error: &StageError, attempts: u32) {
        event::Failed {
            component: &self.component.name,
            required: self.component.required,
            replica: self.replica,
            id: &holding.id,
            attempts,
            error,
            on_error: &self.component.on_error,
        }
        .emit(self.core, self.meter, holding.claim);
        self.blocked += self
            .component
            .exit
            .skip(self.core, holding.stream, holding.number);
    }

    pub(super) fn drop_holding(&mut self, holding: Holding, reason: &'static str) {
        event::Dropped {
            component: &self.component.name,
            id: &holding.id,
            reason,
        }
        .emit(self.meter, holding.claim);
        self.blocked += self
            .component
            .exit
            .skip(self.core, holding.stream, holding.number);
    }

    pub(super) fn lose_holding(&mut self, holding: Holding) {
        self.violated(&holding.id, "had not settled, by the flush, the packet")
            .emit_lost(self.core, self.meter, holding.claim);
        self.blocked += self
            .component
            .exit
            .skip(self.core, holding.stream, holding.number);
    }

    fn violated<'b>(&'b self, id: &'b PacketId, deed: &'static str) -> event::Violated<'b> {
        event::Violated {
            component: &self.component.name,
            replica: self.replica,
            id,
            deed,
        }
    }
}

impl Emitter for Out<'_> {
    fn emit(&mut self, packet: Packet) {
        let Some(holding) = self.held.take(&packet.header.id) else {
            self.violated(
                &packet.header.id,
                "emitted, unknown or already settled, the packet",
            )
            .emit(self.core);
            return;
        };
        self.meter.passed.bump();
        let exit = &self.component.exit;
        self.blocked += exit.emit(self.core, holding.stream, holding.number, packet, holding.claim);
    }

    fn drop_packet(&mut self, header: &Header, reason: &'static str) {
        let Some(holding) = self.held.take(&header.id) else {
            self.violated(&header.id, "dropped, unknown or already settled, the packet")
                .emit(self.core);
            return;
        };
        self.drop_holding(holding, reason);
    }

    fn fail(&mut self, header: &Header, error: StageError) {
        match self.held.take(&header.id) {
            Some(holding) => self.fail_holding(holding, &error, 1),
            None => self
                .violated(&header.id, "failed, unknown or already settled, the packet")
                .emit(self.core),
        }
    }
}
