//! The way from network input back to the source frame.

/// Affine map, without rotation, from network-input pixels to source-frame pixels:
/// `x_source = x_input * scale_x + offset_x`, the same for y. Pixel coordinates are continuous, with (0, 0)
/// the top left corner of the top left pixel. Attached to a packet by preprocess stages, read by postprocess
/// stages.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Geometry {
    /// Source pixels per input pixel, horizontally.
    pub scale_x: f32,
    /// Source pixels per input pixel, vertically.
    pub scale_y: f32,
    /// Source x of the input's left edge.
    pub offset_x: f32,
    /// Source y of the input's top edge.
    pub offset_y: f32,
    /// Width and height of the network input in pixels.
    pub input: (u32, u32),
    /// Width and height of the source frame in pixels.
    pub source: (u32, u32),
}

impl Geometry {
    /// The map of a frame onto itself.
    pub fn identity(width: u32, height: u32) -> Self {
        Self {
            scale_x: 1.0,
            scale_y: 1.0,
            offset_x: 0.0,
            offset_y: 0.0,
            input: (width, height),
            source: (width, height),
        }
    }

    /// A point of the network input, in pixels, as a point of the source frame, clamped to it.
    pub fn to_source(&self, x: f32, y: f32) -> (f32, f32) {
        let (sx, sy) = self.to_source_unclamped(x, y);
        (
            sx.clamp(0.0, self.source.0 as f32),
            sy.clamp(0.0, self.source.1 as f32),
        )
    }

    /// The same without the clamp.
    pub fn to_source_unclamped(&self, x: f32, y: f32) -> (f32, f32) {
        (x * self.scale_x + self.offset_x, y * self.scale_y + self.offset_y)
    }

    /// The map of a further step: `next` leads from the final input to this map's input.
    #[must_use]
    pub fn then(&self, next: &Self) -> Self {
        Self {
            scale_x: self.scale_x * next.scale_x,
            scale_y: self.scale_y * next.scale_y,
            offset_x: next.offset_x * self.scale_x + self.offset_x,
            offset_y: next.offset_y * self.scale_y + self.offset_y,
            input: next.input,
            source: self.source,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_compose() {
        // crop 100x50 at (10, 20), then resize it to 50x50
        let crop = Geometry {
            offset_x: 10.0,
            offset_y: 20.0,
            input: (100, 50),
            ..Geometry::identity(640, 480)
        };
        let resize = Geometry {
            scale_x: 2.0,
            scale_y: 1.0,
            input: (50, 50),
            ..Geometry::identity(100, 50)
        };
        let both = crop.then(&resize);
        assert_eq!(both.to_source(50.0, 50.0), (110.0, 70.0));
        assert_eq!(both.input, (50, 50));
        assert_eq!(both.source, (640, 480));
    }
}
