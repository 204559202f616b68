//! Drawing on an RGB frame. Everything is cut off at the frame's edges; numbers that are not finite draw
//! nothing.

use flow_frame::{BBox, Frame};

use super::font::Font;
use super::palette::ink_on;

pub(super) type Color = [u8; 3];

pub(super) struct Canvas<'a> {
    width: i64,
    height: i64,
    stride: usize,
    pixels: &'a mut [u8],
}

/// A rectangle in whole pixels, right and bottom exclusive.
#[derive(Clone, Copy)]
pub(super) struct Rect {
    left: i64,
    top: i64,
    right: i64,
    bottom: i64,
}

impl Rect {
    fn meets(&self, other: &Self) -> bool {
        self.left < other.right
            && other.left < self.right
            && self.top < other.bottom
            && other.top < self.bottom
    }
}

impl<'a> Canvas<'a> {
    /// A canvas over an RGB frame.
    pub(super) fn new(frame: &'a mut Frame) -> Self {
        let layout = frame.plane_layout(0);
        Self {
            width: (layout.row_bytes / 3) as i64,
            height: layout.rows as i64,
            stride: layout.stride,
            pixels: frame.plane_mut(0),
        }
    }

    /// The four sides of a box, drawn inwards.
    pub(super) fn frame(&mut self, b: BBox, thickness: f32, color: Color) {
        let Some(r) = rect(b) else { return };
        let t = thickness.max(1.0) as i64;
        for side in [
            Rect {
                bottom: r.bottom.min(r.top + t),
                ..r
            },
            Rect {
                top: r.top.max(r.bottom - t),
                ..r
            },
            Rect {
                right: r.right.min(r.left + t),
                ..r
            },
            Rect {
                left: r.left.max(r.right - t),
                ..r
            },
        ] {
            self.fill(side, color, 255);
        }
    }

    /// A text on its own ground: above the box, else inside at its top, else below; moved into the frame. It must
    /// not cover tags drawn before, which `taken` holds; where every place would, the text is left out.
    pub(super) fn tag(&mut self, font: &Font, text: &str, b: BBox, color: Color, taken: &mut Vec<Rect>) {
        let Some(r) = rect(b) else { return };
        let pad = i64::from(font.height() / 5).max(1);
        let width = i64::from(font.width(text)) + 2 * pad;
        let height = i64::from(font.height()) + 2 * pad;
        let left = r.left.min(self.width - width).max(0);
        let ground = [r.top - height, r.top, r.bottom]
            .into_iter()
            .filter(|top| *top >= 0 && top + height <= self.height)
            .map(|top| Rect {
                left,
                top,
                right: left + width,
                bottom: top + height,
            })
            .find(|ground| !taken.iter().any(|t| t.meets(ground)));
        if let Some(ground) = ground {
            taken.push(ground);
            self.fill(ground, color, 255);
            self.text(font, text, left + pad, ground.top + pad, ink_on(color));
        }
    }

    /// Lines of text on a dark ground in the top left corner; those that do not fit below are left out.
    pub(super) fn panel(&mut self, font: &Font, lines: &[String]) {
        let line = i64::from(font.height()) * 3 / 2;
        let pad = line / 2;
        let fitting = ((self.height - 2 * pad) / line).max(1) as usize;
        let lines = &lines[..lines.len().min(fitting)];
        let Some(width) = lines.iter().map(|l| i64::from(font.width(l))).max() else {
            return;
        };
        let ground = Rect {
            left: 0,
            top: 0,
            right: (width + 2 * pad).min(self.width),
            bottom: lines.len() as i64 * line + pad,
        };
        self.fill(ground, [16; 3], 190);
        for (i, text) in (0..).zip(lines) {
            let ink = if i == 0 { [255; 3] } else { [200; 3] };
            self.text(font, text, pad, pad + i * line, ink);
        }
    }

    /// A line with round ends.
    pub(super) fn line(&mut self, a: (f32, f32), b: (f32, f32), thickness: f32, color: Color) {
        let radius = thickness / 2.0;
        let (dx, dy) = (b.0 - a.0, b.1 - a.1);
        let length2 = dx * dx + dy * dy;
        let area = BBox {
            x1: a.0.min(b.0) - radius - 1.0,
            y1: a.1.min(b.1) - radius - 1.0,
            x2: a.0.max(b.0) + radius + 2.0,
            y2: a.1.max(b.1) + radius + 2.0,
        };
        self.shade(area, color, |x, y| {
            // Distance to the nearest point of the segment.
            let along = ((x - a.0) * dx + (y - a.1) * dy) / length2.max(f32::MIN_POSITIVE);
            let along = along.clamp(0.0, 1.0);
            let (ex, ey) = (x - a.0 - along * dx, y - a.1 - along * dy);
            radius + 0.5 - (ex * ex + ey * ey).sqrt()
        });
    }

    /// A filled circle.
    pub(super) fn dot(&mut self, at: (f32, f32), radius: f32, color: Color) {
        self.line(at, at, 2.0 * radius, color);
    }

    fn text(&mut self, font: &Font, text: &str, left: i64, top: i64, ink: Color) {
        let mut x0 = left;
        for glyph in font.set(text) {
            if x0 >= self.width {
                break;
            }
            let width = i64::from(glyph.width);
            for (k, &coverage) in (0..).zip(&glyph.coverage) {
                if coverage > 0 {
                    self.blend(x0 + k % width, top + k / width, ink, u32::from(coverage));
                }
            }
            x0 += width;
        }
    }

    /// Blends `color` with the coverage (0 to 1, else clamped) that `cover` gives for the centre of each pixel.
    fn shade(&mut self, area: BBox, color: Color, cover: impl Fn(f32, f32) -> f32) {
        let Some(r) = rect(area) else { return };
        let r = self.cut(r);
        for y in r.top..r.bottom {
            for x in r.left..r.right {
                let coverage = cover(x as f32 + 0.5, y as f32 + 0.5).clamp(0.0, 1.0);
                if coverage > 0.0 {
                    self.blend(x, y, color, (coverage * 255.0) as u32);
                }
            }
        }
    }

    fn fill(&mut self, r: Rect, color: Color, coverage: u32) {
        let r = self.cut(r);
        for y in r.top..r.bottom {
            let row = &mut self.pixels[y as usize * self.stride..];
            let pixels = row[3 * r.left as usize..3 * r.right as usize].chunks_exact_mut(3);
            pixels.for_each(|p| mix(p, color, coverage));
        }
    }

    fn cut(&self, r: Rect) -> Rect {
        Rect {
            left: r.left.clamp(0, self.width),
            top: r.top.clamp(0, self.height),
            right: r.right.clamp(0, self.width),
            bottom: r.bottom.clamp(0, self.height),
        }
    }

    fn blend(&mut self, x: i64, y: i64, color: Color, coverage: u32) {
        if !(0..self.width).contains(&x) || !(0..self.height).contains(&y) {
            return;
        }
        let at = y as usize * self.stride + 3 * x as usize;
        mix(&mut self.pixels[at..at + 3], color, coverage);
    }
}

/// Lays `color` over a pixel with a coverage from 0 to 255.
fn mix(pixel: &mut [u8], color: Color, coverage: u32) {
    for (p, c) in pixel.iter_mut().zip(color) {
        *p = ((u32::from(*p) * (255 - coverage) + u32::from(c) * coverage + 127) / 255) as u8;
    }
}

/// The pixels that a box covers; `None` if it has none or is not finite.
fn rect(b: BBox) -> Option<Rect> {
    // Far beyond any frame, and far from overflow.
    let far = |v: f32| v.clamp(-1e6, 1e6).round() as i64;
    let finite = [b.x1, b.y1, b.x2, b.y2].iter().all(|v| v.is_finite());
    let r = Rect {
        left: far(b.x1),
        top: far(b.y1),
        right: far(b.x2),
        bottom: far(b.y2),
    };
    (finite && r.left < r.right && r.top < r.bottom).then_some(r)
}
