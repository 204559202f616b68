//! Network outputs to classes, boxes and key points in source-frame coordinates, and boxes to tracks.
//!
//! Stage kinds: [`classify`], [`detect`], [`key_points`] and [`track`]. Each of the first three takes the outputs of a network and leads what
//! it finds back to the source frame through the packet's `Geometry`. The work under the kinds is plain
//! functions: [`nms()`] for boxes, the decoders under [`detect`], [`classify::rank`].
//!
//! ```
//! use flow_frame::BBox;
//! use flow_postprocess::{Candidate, NmsMode, nms};
//!
//! let at = |x1, score| Candidate { bbox: BBox { x1, y1: 0.0, x2: x1 + 10.0, y2: 10.0 }, class: 0, score };
//! let mut found = vec![at(0.0, 0.7), at(1.0, 0.9), at(50.0, 0.6)];
//! nms(&mut found, NmsMode::PerClass, 0.5, 100);
//! assert_eq!(found, [at(1.0, 0.9), at(50.0, 0.6)]);
//! ```
#![deny(missing_docs)]

pub mod classify;
mod coco;
pub mod detect;
pub mod key_points;
mod labels;
mod nms;
mod outputs;
mod place;
pub mod track;
mod truth;

pub use labels::{Labels, LabelsKey};
pub use nms::{Candidate, NmsMode, nms};
pub use outputs::OutputKey;
pub use place::Place;

use flow::registry::Registry;

/// Registers the stage kinds `classify`, `detect`, `key_points`, `track` and `truth`.
pub fn register(registry: &mut Registry) {
    classify::register(registry);
    detect::register(registry);
    key_points::register(registry);
    track::register(registry);
    truth::register(registry);
}
