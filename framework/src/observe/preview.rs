//! The last packet of a stage, kept when somebody looks.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use super::tap::{self, Observer};
use crate::config::plan::{Component, PreparedPipeline};
use crate::ledger::lock;
use crate::packet::Packet;

/// Turns a packet into a JPEG picture; `None`: it holds none.
pub type Encode = fn(&Packet) -> Option<Vec<u8>>;

/// A stage whose packets can be looked at.
#[derive(Clone)]
pub struct Preview {
    /// Name of the stage.
    pub stage: String,
    slot: Arc<Slot>,
}

#[derive(Default)]
struct Slot {
    /// Somebody has looked since the last packet was kept.
    wanted: AtomicBool,
    packet: Mutex<Option<Packet>>,
}

impl Observer for Slot {
    fn packet(&self, packet: &Packet) {
        if self.wanted.load(Ordering::Relaxed) && self.wanted.swap(false, Ordering::Relaxed) {
            *lock(&self.packet) = Some(packet.clone());
        }
    }
}

impl Preview {
    /// Offers previews of the stages for which `offers` says so. What a stage emits costs one load of a flag more.
    pub fn offer(prepared: &mut PreparedPipeline, offers: impl Fn(&Component) -> bool) -> Vec<Self> {
        let components = prepared.pipeline.components.iter().enumerate();
        let chosen = components.filter(|(_, component)| offers(component));
        let chosen: Vec<(usize, String)> = chosen.map(|(index, c)| (index, c.name.to_string())).collect();
        chosen
            .into_iter()
            .map(|(index, stage)| {
                let slot = Arc::new(Slot::default());
                tap::emitted(prepared, index, slot.clone());
                Self { stage, slot }
            })
            .collect()
    }

    /// The last packet that was kept, if there is one, and asks for another to be kept.
    pub(super) fn look(&self) -> Option<Packet> {
        self.slot.wanted.store(true, Ordering::Relaxed);
        lock(&self.slot.packet).clone()
    }
}
