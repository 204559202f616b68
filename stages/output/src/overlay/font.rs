//! Letters: the 8x8 bitmaps of `font8x8`, narrowed, set with their own widths and smoothed to any height.

use std::collections::HashMap;

use font8x8::legacy::{BASIC_LEGACY, LATIN_LEGACY};

/// A blank as wide as a digit.
pub(super) const FIGURE_SPACE: char = '\u{2007}';

/// Letters of one height.
pub(super) struct Font {
    height: u32,
    glyphs: HashMap<char, Glyph>,
}

/// One letter.
pub(super) struct Glyph {
    /// Width in pixels, with the gap to the next letter.
    pub(super) width: u32,
    /// Coverage from 0 to 255, row by row, `width` in each.
    pub(super) coverage: Vec<u8>,
}

impl Font {
    /// Letters of `height` pixels.
    pub(super) fn new(height: u32) -> Self {
        let basic = (0u32..).zip(&BASIC_LEGACY).skip(0x20);
        let latin = (0xa0u32..).zip(&LATIN_LEGACY);
        let mut glyphs: HashMap<char, Glyph> = basic
            .chain(latin)
            .filter_map(|(code, bitmap)| Some((char::from_u32(code)?, bitmap)))
            .map(|(c, bitmap)| (c, Glyph::new(bitmap, columns(c, bitmap), height)))
            .collect();
        glyphs.insert(FIGURE_SPACE, Glyph::new(&[0; 8], DIGIT, height));
        Self { height, glyphs }
    }

    /// Height of a line in pixels.
    pub(super) fn height(&self) -> u32 {
        self.height
    }

    /// The letters of a text; a question mark for each that is missing.
    pub(super) fn set<'a>(&'a self, text: &'a str) -> impl Iterator<Item = &'a Glyph> {
        text.chars()
            .filter_map(|c| self.glyphs.get(&c).or_else(|| self.glyphs.get(&'?')))
    }

    /// Width of a text in pixels.
    pub(super) fn width(&self, text: &str) -> u32 {
        self.set(text).map(|g| g.width).sum()
    }
}

/// Columns of a bitmap, first and number, with a gap of one.
type Columns = (u32, u32);

/// Digits are equally wide, so that numbers stand in columns.
const DIGIT: Columns = (0, 8);
const SPACE: Columns = (0, 4);

fn columns(c: char, bitmap: &[u8; 8]) -> Columns {
    let used = bitmap.iter().fold(0, |all, row| all | row);
    match used {
        _ if c.is_ascii_digit() => DIGIT,
        0 => SPACE,
        _ => (
            used.trailing_zeros(),
            9 - used.trailing_zeros() - used.leading_zeros(),
        ),
    }
}

impl Glyph {
    /// Scales some columns of a bitmap: linear between the centres of its pixels, then sharpened to an edge about
    /// one pixel wide. Letters become three quarters as wide as their bitmaps.
    fn new(bitmap: &[u8; 8], (first, count): Columns, height: u32) -> Self {
        let at = |x: i32, y: i32| {
            let inside = (0..8).contains(&x) && (0..8).contains(&y);
            f32::from(u8::from(inside && (bitmap[y as usize] >> x) & 1 == 1))
        };
        let (scale_x, scale_y) = (8.0 / (0.75 * height as f32), 8.0 / height as f32);
        let width = ((count as f32 / scale_x).round() as u32).max(1);
        // Coverage rises from 0 to 1 over one pixel: interpolation alone takes a whole pixel of the bitmap.
        let slope = (1.0 / scale_x).max(1.0);
        let mut coverage = Vec::with_capacity((width * height) as usize);
        for ty in 0..height {
            for tx in 0..width {
                let x = (tx as f32 + 0.5) * scale_x - 0.5 + first as f32;
                let y = (ty as f32 + 0.5) * scale_y - 0.5;
                let (x0, y0) = (x.floor(), y.floor());
                let (fx, fy) = (x - x0, y - y0);
                let (x0, y0) = (x0 as i32, y0 as i32);
                let top = at(x0, y0) * (1.0 - fx) + at(x0 + 1, y0) * fx;
                let bottom = at(x0, y0 + 1) * (1.0 - fx) + at(x0 + 1, y0 + 1) * fx;
                let level = top * (1.0 - fy) + bottom * fy;
                coverage.push((((level - 0.45) * slope + 0.5).clamp(0.0, 1.0) * 255.0) as u8);
            }
        }
        Self { width, coverage }
    }
}
