//! A bell wakes one thread that waits for it: the way in which queues say that there is something to take, or room.

use std::time::Duration;

use super::core::Core;
use crate::sync::{Receiver, Sender, bounded, select};

/// Wakes one who waits; rung twice, it wakes once. Whoever is woken looks again: it may have been for nothing.
#[derive(Clone)]
pub(crate) struct Bell {
    ring: Sender<()>,
    pub(crate) rung: Receiver<()>,
}

impl Bell {
    pub(crate) fn new() -> Self {
        let (ring, rung) = bounded(1);
        Self { ring, rung }
    }

    pub(crate) fn ring(&self) {
        // Full: it has been rung already.
        let _ = self.ring.try_send(());
    }

    /// Waits until it is rung or the run is cut short. Returns how long that took.
    pub(crate) fn wait(&self, core: &Core) -> Duration {
        let began = core.clock.now();
        select! {
            recv(self.rung) -> _ => {}
            recv(core.cut_short) -> _ => {}
        }
        core.clock.now().duration_since(began)
    }
}
