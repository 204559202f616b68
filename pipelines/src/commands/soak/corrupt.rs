//! Damage to packets on purpose.

use std::sync::Arc;

use flow::packet::Payload;
use flow_frame::{Buffer, Encoded};

/// Flips some bits of an encoded unit, or cuts it short; frames, which have no form to break, are failed instead.
pub fn corrupt(payload: &Arc<dyn Payload>, number: u64) -> Option<Arc<dyn Payload>> {
    let any: &dyn std::any::Any = &**payload;
    let unit: &Encoded = any.downcast_ref()?;
    let mut bytes = unit.data.to_vec();
    if bytes.is_empty() {
        return None;
    }
    let mut state = number | 1;
    let mut next = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 16) as usize % below
    };
    if next(4) == 0 {
        let keep = next(bytes.len());
        bytes.truncate(keep.max(1));
    }
    for _ in 0..1 + next(8) {
        let (place, bit) = (next(bytes.len()), next(8));
        if let Some(byte) = bytes.get_mut(place) {
            *byte ^= 1 << bit;
        }
    }
    Some(Arc::new(Encoded {
        codec: unit.codec,
        data: Buffer::copy_of(&bytes),
        keyframe: unit.keyframe,
        origin: unit.origin.clone(),
    }))
}
