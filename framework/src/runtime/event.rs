//! Events: one struct each, whose `emit` both counts and logs, so that nothing is lost without being counted.
//!
//! Levels: ERROR means that data was lost against the declaration of the pipeline, WARN that something went wrong
//! and no data was lost. Drops that the pipeline declares (lossy queues, stages made to drop) are DEBUG.

use std::sync::atomic::Ordering;

use super::core::Core;
use super::dead_letter::DeadLetter;
use super::edge::{Edge, Envelope};
use crate::config::plan::OnError;
use crate::error::{Code, StageError};
use crate::ledger::{Claim, Loss, Reason};
use crate::metrics::Meter;
use crate::packet::{Packet, PacketId};

/// A queue had no room for a packet.
pub(crate) struct Overflowed<'a> {
    pub(crate) edge: &'a Edge,
    /// Whether that ends the pipeline.
    pub(crate) fails: bool,
}

impl Overflowed<'_> {
    pub(crate) fn emit(self, core: &Core, lost: Envelope) {
        let id = &lost.packet.header.id;
        tracing::debug!(
            edge = self.edge.name,
            stream = &*id.stream,
            epoch = id.epoch,
            seq = id.seq,
            "Packet dropped by a full queue."
        );
        if self.fails {
            let message = format!(
                "the queue {} is full and its overflow is `fail`; give it more capacity, or `overflow: block`",
                self.edge.name
            );
            let error = StageError::fatal(Code("E0407"), message);
            core.fail(&self.edge.name, &error);
        }
        lost.claim.lose(Loss::Dropped(Reason::Overflow));
    }
}

/// A stage settled a packet as dropped.
pub(crate) struct Dropped<'a> {
    pub(crate) component: &'a str,
    pub(crate) id: &'a PacketId,
    pub(crate) reason: &'static str,
}

impl Dropped<'_> {
    pub(crate) fn emit(self, meter: &Meter, claim: Claim) {
        tracing::debug!(
            component = self.component,
            stream = &*self.id.stream,
            epoch = self.id.epoch,
            seq = self.id.seq,
            reason = self.reason,
            "Packet dropped."
        );
        meter.dropped.bump();
        claim.lose(Loss::Dropped(Reason::Stage(self.reason)));
    }
}

/// A packet failed for good; `on_error` says what becomes of it.
pub(crate) struct Failed<'a> {
    pub(crate) component: &'a str,
    /// Whether a required sink waits for the packet: only then may its failure end the pipeline.
    pub(crate) required: bool,
    pub(crate) replica: usize,
    pub(crate) id: &'a PacketId,
    /// The packet, where it was kept.
    pub(crate) packet: Option<&'a Packet>,
    pub(crate) attempts: u32,
    pub(crate) error: &'a StageError,
    pub(crate) on_error: &'a OnError,
}

impl Failed<'_> {
    pub(crate) fn emit(self, core: &Core, meter: &Meter, claim: Claim) {
        meter.failed.bump();
        let nth = meter.failed.get();
        // A stage that fails on every packet must not flood the log: the 1st, 2nd, 4th, 8th, ... are named.
        if nth.is_power_of_two() {
            tracing::error!(
                component = self.component,
                replica = self.replica,
                stream = &*self.id.stream,
                epoch = self.id.epoch,
                seq = self.id.seq,
                code = self.error.code.0,
                failed = nth,
                "Packet failed: {}",
                self.error
            );
        }
        let action = self.on_error.last();
        if matches!(action, OnError::Fail) && self.required {
            core.fail(self.component, self.error);
        }
        let mut loss = Loss::Dropped(Reason::Error(self.error.code));
        if let OnError::DeadLetter(spec) = action {
            let letter = DeadLetter {
                pipeline: &core.pipeline,
                component: self.component,
                replica: self.replica,
                id: self.id,
                packet: self.packet,
                attempts: self.attempts,
                error: self.error,
            };
            match core.dead_letters.write(spec, &letter) {
                Ok(()) => loss = Loss::DeadLettered,
                Err(error) => core.fail(self.component, &error),
            }
        }
        claim.lose(loss);
    }
}

/// A stage broke its contract of one outcome per packet.
pub(crate) struct Violated<'a> {
    pub(crate) component: &'a str,
    pub(crate) replica: usize,
    pub(crate) id: &'a PacketId,
    /// What it did.
    pub(crate) deed: &'static str,
}

impl Violated<'_> {
    pub(crate) fn emit(self, core: &Core) {
        let id = self.id;
        let message = format!(
            "`{}` (replica {}) {} of stream `{}`, epoch {}, seq {}",
            self.component, self.replica, self.deed, id.stream, id.epoch, id.seq
        );
        tracing::error!(code = "E0408", "Contract broken: {message}.");
        core.violated(message);
    }

    /// The packet has vanished inside the instance.
    pub(crate) fn emit_lost(self, core: &Core, meter: &Meter, claim: Claim) {
        meter.unaccounted.bump();
        claim.lose(Loss::Unaccounted);
        self.emit(core);
    }
}

/// An instance is rebuilt after a panic or an error it could not go on from.
pub(crate) struct Restarting<'a> {
    pub(crate) component: &'a str,
    pub(crate) replica: usize,
    pub(crate) error: &'a StageError,
}

impl Restarting<'_> {
    pub(crate) fn emit(self, restarts: &std::sync::atomic::AtomicU64) {
        restarts.fetch_add(1, Ordering::Relaxed);
        tracing::warn!(
            component = self.component,
            replica = self.replica,
            code = self.error.code.0,
            "Rebuilding the instance after: {}",
            self.error
        );
    }
}

/// A component cannot go on.
pub(crate) struct Ended<'a> {
    pub(crate) component: &'a str,
    pub(crate) error: &'a StageError,
}

impl Ended<'_> {
    /// The whole pipeline ends with it.
    pub(crate) fn emit(self, core: &Core) {
        tracing::error!(
            component = self.component,
            code = self.error.code.0,
            "Pipeline fails: {}",
            self.error
        );
        core.fail(self.component, self.error);
    }

    /// Only its streams end; the run fails once the others are done.
    pub(crate) fn emit_streams(self, core: &Core, streams: &[usize]) {
        tracing::error!(
            component = self.component,
            code = self.error.code.0,
            "Stream fails: {}",
            self.error
        );
        core.fail_streams(self.component, self.error, streams);
    }

    /// Only an optional branch ends with it.
    pub(crate) fn emit_optional(self, core: &Core) {
        tracing::warn!(
            component = self.component,
            code = self.error.code.0,
            "Optional component ends: {}",
            self.error
        );
        core.warn(format!("optional `{}` ended: {}", self.component, self.error));
    }
}

/// A worker's call took too long.
pub(crate) struct Wedged<'a> {
    pub(crate) worker: &'a str,
    pub(crate) packets: usize,
    pub(crate) limit: std::time::Duration,
}

impl Wedged<'_> {
    pub(crate) fn emit(self) {
        tracing::error!(
            worker = self.worker,
            packets = self.packets,
            code = "E0412",
            "The worker did not return within {:?} and is left behind.",
            self.limit
        );
    }
}

/// A source was lost and will be opened again.
pub(crate) struct Reconnecting<'a> {
    pub(crate) component: &'a str,
    pub(crate) error: &'a StageError,
    pub(crate) wait: std::time::Duration,
}

impl Reconnecting<'_> {
    pub(crate) fn emit(self, restarts: &std::sync::atomic::AtomicU64) {
        restarts.fetch_add(1, Ordering::Relaxed);
        tracing::warn!(
            component = self.component,
            code = self.error.code.0,
            "Source lost, opening it again after {:?}: {}",
            self.wait,
            self.error
        );
    }
}
