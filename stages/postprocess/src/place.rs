//! From network-input coordinates to the source frame.

use flow::error::{Code, StageError};
use flow::packet::Packet;
use flow_frame::{BBox, Frame, Geometry};

/// Leads coordinates of a network input back to the frame it was made from.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Place {
    geometry: Geometry,
}

impl Place {
    /// By the packet's attachments: its [`Geometry`], else its source [`Frame`] taken as the whole input.
    pub fn of(packet: &Packet) -> Result<Self, StageError> {
        if let Some(geometry) = packet.attachment::<Geometry>() {
            return Ok(Self { geometry: *geometry });
        }
        if let Some(frame) = packet.attachment::<Frame>() {
            return Ok(Self {
                geometry: Geometry::identity(frame.width(), frame.height()),
            });
        }
        Err(StageError::packet(
            Code("E0453"),
            "the packet does not say how its tensor was made from a frame (attachment Geometry or Frame); use \
             `resize` or `letterbox`, or attach it in the stage that makes the tensor",
        ))
    }

    /// By a known geometry.
    pub fn new(geometry: Geometry) -> Self {
        Self { geometry }
    }

    /// Width and height of the network input in pixels.
    pub fn input(&self) -> (f32, f32) {
        (self.geometry.input.0 as f32, self.geometry.input.1 as f32)
    }

    /// A point in input pixels as a point in the source frame, clamped to it.
    pub fn point(&self, x: f32, y: f32) -> (f32, f32) {
        self.geometry.to_source(x, y)
    }

    /// A box in input pixels as a box in the source frame, clamped to it.
    pub fn bbox(&self, b: &BBox) -> BBox {
        let (x1, y1) = self.geometry.to_source(b.x1, b.y1);
        let (x2, y2) = self.geometry.to_source(b.x2, b.y2);
        BBox { x1, y1, x2, y2 }
    }
}
