//! What networks find, in the coordinates of the source frame.

use std::sync::Arc;

use flow::packet::{Packet, Payload, PayloadFile};
use flow::ports::PortType;

use crate::{CLASSES, DETECTIONS, KEY_POINTS};

/// An axis-aligned box in source-frame pixels; `x1 <= x2`, `y1 <= y2`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BBox {
    /// Left edge.
    pub x1: f32,
    /// Top edge.
    pub y1: f32,
    /// Right edge.
    pub x2: f32,
    /// Bottom edge.
    pub y2: f32,
}

impl BBox {
    /// Width times height.
    pub fn area(&self) -> f32 {
        (self.x2 - self.x1).max(0.0) * (self.y2 - self.y1).max(0.0)
    }

    /// Intersection over union, from 0 to 1; 0 when both are empty.
    pub fn iou(&self, other: &Self) -> f32 {
        let inner = Self {
            x1: self.x1.max(other.x1),
            y1: self.y1.max(other.y1),
            x2: self.x2.min(other.x2),
            y2: self.y2.min(other.y2),
        };
        let i = inner.area();
        let union = self.area() + other.area() - i;
        if union > 0.0 { i / union } else { 0.0 }
    }
}

/// One labelled box.
#[derive(Debug, Clone, PartialEq)]
pub struct Detection {
    /// Where.
    pub bbox: BBox,
    /// Index of the class.
    pub class: u32,
    /// Name of the class; empty when the pipeline names no labels.
    pub label: Arc<str>,
    /// Confidence from 0 to 1.
    pub score: f32,
    /// Identity over time, where a tracker has run.
    pub track: Option<u64>,
}

/// The boxes found in one frame; none is a normal result.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Detections {
    /// Boxes, best score first.
    pub items: Vec<Detection>,
}

/// One class of a whole picture.
#[derive(Debug, Clone, PartialEq)]
pub struct Class {
    /// Index of the class.
    pub class: u32,
    /// Name of the class; empty when the pipeline names no labels.
    pub label: Arc<str>,
    /// Probability from 0 to 1.
    pub score: f32,
}

/// The best classes of one picture.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Classes {
    /// Classes, best first.
    pub items: Vec<Class>,
}

/// One key point in source-frame pixels.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct KeyPoint {
    /// Horizontal place.
    pub x: f32,
    /// Vertical place.
    pub y: f32,
    /// Confidence from 0 to 1.
    pub score: f32,
}

/// The key points of one body.
#[derive(Debug, Clone, PartialEq)]
pub struct Pose {
    /// Points in the order of [`KeyPoints::names`].
    pub points: Vec<KeyPoint>,
    /// Confidence of the whole pose from 0 to 1.
    pub score: f32,
}

/// The bodies found in one frame.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct KeyPoints {
    /// Poses, best first.
    pub poses: Vec<Pose>,
    /// Names of the points.
    pub names: Arc<[&'static str]>,
    /// Pairs of points that a skeleton joins.
    pub edges: Arc<[(usize, usize)]>,
}

/// What is truly in a synthetic frame; an attachment.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct GroundTruth {
    /// True boxes, with score 1.
    pub items: Vec<Detection>,
}

impl Payload for Detections {
    fn port_type(&self) -> PortType {
        DETECTIONS
    }
    fn bytes(&self) -> usize {
        self.items.len() * size_of::<Detection>()
    }
    fn files(&self, packet: &Packet) -> Vec<PayloadFile> {
        crate::files::attached(packet).into_iter().collect()
    }
}

impl Payload for Classes {
    fn port_type(&self) -> PortType {
        CLASSES
    }
    fn bytes(&self) -> usize {
        self.items.len() * size_of::<Class>()
    }
    fn files(&self, packet: &Packet) -> Vec<PayloadFile> {
        crate::files::attached(packet).into_iter().collect()
    }
}

impl Payload for KeyPoints {
    fn port_type(&self) -> PortType {
        KEY_POINTS
    }
    fn bytes(&self) -> usize {
        self.poses
            .iter()
            .map(|p| p.points.len() * size_of::<KeyPoint>())
            .sum()
    }
    fn files(&self, packet: &Packet) -> Vec<PayloadFile> {
        crate::files::attached(packet).into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn iou_of_half_overlap_is_a_third() {
        let a = BBox {
            x1: 0.0,
            y1: 0.0,
            x2: 2.0,
            y2: 1.0,
        };
        let b = BBox {
            x1: 1.0,
            y1: 0.0,
            x2: 3.0,
            y2: 1.0,
        };
        assert!((a.iou(&b) - 1.0 / 3.0).abs() < 1e-6);
        assert_eq!(
            a.iou(&BBox {
                x1: 5.0,
                y1: 5.0,
                x2: 6.0,
                y2: 6.0
            }),
            0.0
        );
    }
}
