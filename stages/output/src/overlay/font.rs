//! Letters: the 8x8 bitmaps of `font8x8`, smoothed to any height.

use std::collections::HashMap;

use font8x8::legacy::{BASIC_LEGACY, LATIN_LEGACY};

/// Letters of one height, as coverage from 0 to 255.
pub(super) struct Font {
    height: u32,
    glyphs: HashMap<char, Vec<u8>>,
}

impl Font {
    /// Letters of `height` by `height` pixels.
    pub(super) fn new(height: u32) -> Self {
        let basic = (0u32..).zip(&BASIC_LEGACY).skip(0x20);
        let latin = (0xa0u32..).zip(&LATIN_LEGACY);
        let glyphs = basic
            .chain(latin)
            .filter_map(|(code, bitmap)| Some((char::from_u32(code)?, smooth(bitmap, height))))
            .collect();
        Self { height, glyphs }
    }

    /// Height of a line, and width of a letter, in pixels.
    pub(super) fn height(&self) -> u32 {
        self.height
    }

    /// Coverage of a letter, row by row; a question mark where there is none.
    pub(super) fn glyph(&self, c: char) -> &[u8] {
        self.glyphs
            .get(&c)
            .or_else(|| self.glyphs.get(&'?'))
            .map_or(&[], Vec::as_slice)
    }

    /// Distance from a letter to the next.
    pub(super) fn advance(&self) -> u32 {
        self.height
    }
}

/// Scales a bitmap: linear between the centres of its pixels, then sharpened to an edge about one pixel wide.
fn smooth(bitmap: &[u8; 8], height: u32) -> Vec<u8> {
    let at = |x: i32, y: i32| {
        let inside = (0..8).contains(&x) && (0..8).contains(&y);
        f32::from(u8::from(inside && (bitmap[y as usize] >> x) & 1 == 1))
    };
    let scale = 8.0 / height as f32;
    // Coverage rises from 0 to 1 over one target pixel: the slope of the interpolation is one per bitmap pixel.
    let slope = (1.0 / scale).max(1.0);
    let mut out = Vec::with_capacity((height * height) as usize);
    for ty in 0..height {
        for tx in 0..height {
            let (x, y) = ((tx as f32 + 0.5) * scale - 0.5, (ty as f32 + 0.5) * scale - 0.5);
            let (x0, y0) = (x.floor(), y.floor());
            let (fx, fy) = (x - x0, y - y0);
            let (x0, y0) = (x0 as i32, y0 as i32);
            let top = at(x0, y0) * (1.0 - fx) + at(x0 + 1, y0) * fx;
            let bottom = at(x0, y0 + 1) * (1.0 - fx) + at(x0 + 1, y0 + 1) * fx;
            let level = top * (1.0 - fy) + bottom * fy;
            let coverage = ((level - 0.45) * slope + 0.5).clamp(0.0, 1.0);
            out.push((coverage * 255.0) as u8);
        }
    }
    out
}
