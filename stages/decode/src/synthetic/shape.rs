//! The shapes that objects have: signed distances and surfaces.

use std::f32::consts::PI;

use super::random::value_noise;

/// Class of an object; the index is its class number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    Ball,
    Crate,
    Star,
    Ring,
    Cone,
    Cross,
}

/// Names of the classes, in the order of their numbers.
pub const CLASS_NAMES: [&str; 6] = ["ball", "crate", "star", "ring", "cone", "cross"];

impl Shape {
    pub const ALL: [Self; 6] = [
        Self::Ball,
        Self::Crate,
        Self::Star,
        Self::Ring,
        Self::Cone,
        Self::Cross,
    ];

    /// Largest tilt in radians: things that stand on the ground lean only a little.
    pub fn max_tilt(self) -> f32 {
        match self {
            Self::Crate => 0.45,
            Self::Cone => 0.3,
            _ => PI,
        }
    }

    /// Signed distance from `(x, y)` to the outline, negative inside, in units of the object's radius.
    pub fn distance(self, x: f32, y: f32) -> f32 {
        let r = x.hypot(y);
        match self {
            Self::Ball => r - 1.0,
            Self::Ring => (r - 0.74).abs() - 0.26,
            Self::Crate => {
                let (qx, qy) = (x.abs() - 0.8, y.abs() - 0.8);
                qx.max(0.0).hypot(qy.max(0.0)) + qx.max(qy).min(0.0) - 0.08
            }
            Self::Cone => {
                // Two slanted sides and a flat bottom.
                let (nx, ny) = (0.927, -0.375);
                let side = x.abs() * nx + (y + 1.0) * ny;
                side.max(y - 0.9)
            }
            Self::Cross => {
                let (ax, ay) = (x.abs(), y.abs());
                let bar = |long: f32, short: f32| (long - 1.0).max(short - 0.34);
                bar(ax, ay).min(bar(ay, ax))
            }
            Self::Star => {
                // Fold the plane into half a point of the star, then measure to its one edge.
                let sector = PI / 5.0;
                let angle = (x.atan2(-y)).rem_euclid(2.0 * sector);
                let folded = if angle > sector {
                    2.0 * sector - angle
                } else {
                    angle
                };
                let (px, py) = (r * folded.cos(), r * folded.sin());
                let (ix, iy) = (0.45 * sector.cos(), 0.45 * sector.sin());
                let (ex, ey) = (ix - 1.0, iy);
                let length = ex.hypot(ey);
                ((px - 1.0) * ey - py * ex) / length
            }
        }
    }

    /// Colour factor at a point inside: 0 takes the first colour, 1 the second; and the shading from dark
    /// (below 1) to light.
    pub fn surface(self, x: f32, y: f32, pattern: u8, seed: u64) -> (f32, f32) {
        let r = x.hypot(y);
        let grain = 0.88 + 0.24 * value_noise(x * 7.0 + 31.0, y * 7.0, seed);
        let step = |v: f32| f32::from(u8::from(v > 0.0));
        let printed = match pattern {
            0 => 0.0,
            1 => step((x * 7.0).sin()),
            2 => step((x * 6.0).sin() * (y * 6.0).sin()),
            _ => step(value_noise(x * 3.0 + 9.0, y * 3.0, seed ^ 7) - 0.55),
        };
        let (mix, shade) = match self {
            Self::Ball => {
                let z = (1.0 - (r * r).min(1.0)).sqrt();
                let light = (0.62 * z - 0.45 * x - 0.55 * y).max(0.0);
                (printed, 0.35 + 0.85 * light)
            }
            Self::Ring => {
                let across = ((r - 0.74) / 0.26).clamp(-1.0, 1.0);
                let sector = step((x.atan2(y) * 4.0).sin());
                (
                    if pattern == 0 { 0.0 } else { sector },
                    0.55 + 0.5 * (1.0 - across * across).sqrt(),
                )
            }
            Self::Crate => {
                let frame = step(x.abs().max(y.abs()) - 0.62);
                let brace = step(0.12 - (x - y).abs());
                let plank = 0.75 + 0.25 * step((y * 9.0).sin() + 0.85);
                (frame.max(brace) * 0.6, plank * (0.95 - 0.15 * y))
            }
            Self::Cone => {
                let stripe = step((y * 5.5 + 0.6).sin());
                (stripe, 0.75 - 0.35 * x)
            }
            Self::Star => (printed * 0.7, 1.05 - 0.35 * r - 0.1 * y),
            Self::Cross => (printed, 0.95 - 0.12 * x - 0.2 * y),
        };
        (mix, shade * grain)
    }
}
