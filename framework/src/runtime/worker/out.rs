//! What an instance says about the packets it was given.

use std::time::{Duration, Instant};

use super::held::{Desk, Holding, Names};
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
    pub(super) desk: &'a Desk,
    /// The packet at work, where no supervisor needs to reach it.
    pub(super) hand: &'a mut Option<Holding>,
    /// What time it is about, where that is good enough.
    pub(super) about: Option<Instant>,
    /// When the last packet was emitted, waiting for room included.
    pub(super) emitted: &'a mut Option<Instant>,
    /// Time spent waiting for room downstream.
    pub(super) blocked: Duration,
}

impl Out<'_> {
    /// Takes a packet that the instance settles.
    fn settle(&mut self, id: &PacketId) -> Option<Holding> {
        let streams = &self.component.streams;
        match self.hand.take_if(|holding| id.names(&holding.key, streams)) {
            Some(holding) => Some(holding),
            None => self.desk.settle(id),
        }
    }

    /// The instance goes on with its call.
    fn resume(&self, waited: Duration) {
        if self.component.timeout.is_some() {
            self.desk.resume(waited);
        }
    }

    pub(super) fn fail_holding(&mut self, holding: Holding, error: &StageError, attempts: u32) {
        event::Failed {
            component: &self.component.name,
            required: self.component.required,
            replica: self.replica,
            id: &holding.key.id(&self.component.streams),
            packet: holding.packet.as_deref(),
            attempts,
            error,
            on_error: &self.component.on_error,
        }
        .emit(self.core, self.meter, holding.claim);
        self.blocked += self
            .component
            .exit
            .skip(self.core, holding.key.stream, holding.number);
    }

    pub(super) fn drop_holding(&mut self, holding: Holding, reason: &'static str) {
        event::Dropped {
            component: &self.component.name,
            id: &holding.key.id(&self.component.streams),
            reason,
        }
        .emit(self.meter, holding.claim);
        self.blocked += self
            .component
            .exit
            .skip(self.core, holding.key.stream, holding.number);
    }

    pub(super) fn lose_holding(&mut self, holding: Holding) {
        let id = holding.key.id(&self.component.streams);
        self.violated(&id, "had not settled, by the flush, the packet")
            .emit_lost(self.core, self.meter, holding.claim);
        self.blocked += self
            .component
            .exit
            .skip(self.core, holding.key.stream, holding.number);
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
        let Some(holding) = self.settle(&packet.header.id) else {
            if self.desk.is_abandoned() {
                return;
            }
            self.violated(
                &packet.header.id,
                "emitted, unknown or already settled, the packet",
            )
            .emit(self.core);
            return;
        };
        self.meter.passed.bump();
        let exit = &self.component.exit;
        let now = self.about.unwrap_or_else(|| self.core.clock.now());
        let (stream, number) = (holding.key.stream, holding.number);
        let waited = exit.emit(self.core, stream, number, packet, holding.claim, now);
        self.resume(waited);
        self.blocked += waited;
        if self.about.is_none() {
            *self.emitted = Some(now + waited);
        }
    }

    fn drop_packet(&mut self, header: &Header, reason: &'static str) {
        let Some(holding) = self.settle(&header.id) else {
            if self.desk.is_abandoned() {
                return;
            }
            self.violated(&header.id, "dropped, unknown or already settled, the packet")
                .emit(self.core);
            return;
        };
        let before = self.blocked;
        self.drop_holding(holding, reason);
        self.resume(self.blocked.saturating_sub(before));
    }

    fn fail(&mut self, header: &Header, error: StageError) {
        match self.settle(&header.id) {
            Some(holding) => {
                let before = self.blocked;
                self.fail_holding(holding, &error, 1);
                self.resume(self.blocked.saturating_sub(before));
            }
            None if self.desk.is_abandoned() => {}
            None => self
                .violated(&header.id, "failed, unknown or already settled, the packet")
                .emit(self.core),
        }
    }
}
