//! Non-maximum suppression.

use std::cmp::Ordering;

use flow_frame::BBox;
use schemars::JsonSchema;
use serde::Deserialize;

/// A box that a network proposes, in any one coordinate system.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Candidate {
    /// Where.
    pub bbox: BBox,
    /// Index of the class.
    pub class: u32,
    /// Confidence.
    pub score: f32,
}

impl Candidate {
    /// Whether all numbers are finite and the box is not empty.
    pub fn is_sound(&self) -> bool {
        let BBox { x1, y1, x2, y2 } = self.bbox;
        [x1, y1, x2, y2, self.score].iter().all(|v| v.is_finite()) && x2 > x1 && y2 > y1
    }

    /// Best score first; equal scores by class, then by place, so that the order does not depend on the order
    /// in which candidates were found.
    fn rank(&self, other: &Self) -> Ordering {
        other
            .score
            .total_cmp(&self.score)
            .then(self.class.cmp(&other.class))
            .then(self.bbox.x1.total_cmp(&other.bbox.x1))
            .then(self.bbox.y1.total_cmp(&other.bbox.y1))
            .then(self.bbox.x2.total_cmp(&other.bbox.x2))
            .then(self.bbox.y2.total_cmp(&other.bbox.y2))
    }
}

/// Which boxes suppress each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, serde::Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum NmsMode {
    /// Boxes of the same class.
    #[default]
    PerClass,
    /// All boxes.
    Agnostic,
    /// None.
    Off,
}

/// Sorts candidates best first, drops each that overlaps a better one by more than `iou`, and keeps at most
/// `max`. The result is a subset of the input and does not depend on its order.
pub fn nms(candidates: &mut Vec<Candidate>, mode: NmsMode, iou: f32, max: usize) {
    candidates.sort_unstable_by(Candidate::rank);
    let mut kept = 0;
    for i in 0..candidates.len() {
        if kept == max {
            break;
        }
        let this = candidates[i];
        let suppressed = candidates[..kept].iter().any(|better| match mode {
            NmsMode::Off => false,
            NmsMode::PerClass if better.class != this.class => false,
            NmsMode::PerClass | NmsMode::Agnostic => better.bbox.iou(&this.bbox) > iou,
        });
        if !suppressed {
            candidates[kept] = this;
            kept += 1;
        }
    }
    candidates.truncate(kept);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn candidate() -> impl Strategy<Value = Candidate> {
        // Few distinct scores, so that ties are common.
        (0f32..50.0, 0f32..50.0, 1f32..30.0, 1f32..30.0, 0u32..3, 0u32..5).prop_map(
            |(x, y, w, h, class, score)| Candidate {
                bbox: BBox {
                    x1: x,
                    y1: y,
                    x2: x + w,
                    y2: y + h,
                },
                class,
                score: score as f32 / 5.0,
            },
        )
    }

    fn any_mode() -> impl Strategy<Value = NmsMode> {
        prop_oneof![
            Just(NmsMode::PerClass),
            Just(NmsMode::Agnostic),
            Just(NmsMode::Off)
        ]
    }

    fn clash(a: &Candidate, b: &Candidate, mode: NmsMode, iou: f32) -> bool {
        let same = mode == NmsMode::Agnostic || (mode == NmsMode::PerClass && a.class == b.class);
        same && a.bbox.iou(&b.bbox) > iou
    }

    proptest! {
        #[test]
        fn laws(
            all in proptest::collection::vec(candidate(), 0..40), mode in any_mode(), iou in 0f32..1.0,
            max in 0usize..50, seed: u64,
        ) {
            let mut kept = all.clone();
            nms(&mut kept, mode, iou, max);
            prop_assert!(kept.len() <= max);
            prop_assert!(kept.windows(2).all(|w| w[0].score >= w[1].score));
            for (i, a) in kept.iter().enumerate() {
                prop_assert!(all.contains(a));
                prop_assert!(kept[..i].iter().all(|b| !clash(a, b, mode, iou)));
            }
            // what is gone overlaps a better one that stayed, unless the limit cut it off
            if kept.len() < max {
                for a in all.iter().filter(|a| !kept.contains(a)) {
                    prop_assert!(kept.iter().any(|b| b.score >= a.score && clash(a, b, mode, iou)));
                }
            }
            let mut shuffled = all.clone();
            let mut state = seed;
            for i in (1..shuffled.len()).rev() {
                state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                shuffled.swap(i, (state >> 33) as usize % (i + 1));
            }
            nms(&mut shuffled, mode, iou, max);
            prop_assert_eq!(kept, shuffled);
        }
    }
}
