//! Rows of a frame as grey, RGB or BGR samples.

use flow_frame::{ColorOrder, Frame, PixelFormat, Range, YuvToRgbError, yuv_to_rgb};

use crate::resample::Rows;

/// Reads the rows of one frame as interleaved samples, converting only rows that are asked for.
///
/// YUV is converted with the frame's own matrix and range; each chroma sample stands for all the pixels it
/// covers, and luma below black counts as black, as in OpenCV. Grey of a YUV frame is its luma stretched to 0..=255.
pub struct RowReader<'a> {
    frame: &'a Frame,
    order: ColorOrder,
    scratch: &'a mut Vec<u8>,
    luma: [u8; 256],
    failure: Option<YuvToRgbError>,
}

impl<'a> RowReader<'a> {
    /// Reads `frame`, preferably as `wanted`; [`RowReader::order`] says what the rows hold. `scratch` is
    /// working memory that the caller keeps from frame to frame.
    pub fn new(frame: &'a Frame, wanted: ColorOrder, scratch: &'a mut Vec<u8>) -> Self {
        let order = Self::order_of(frame.format(), wanted);
        scratch.resize(frame.width() as usize * channels(order), 0);
        Self {
            frame,
            order,
            scratch,
            luma: luma_table(frame),
            failure: None,
        }
    }

    /// What the rows of a frame in `format` hold when `wanted` is asked for: RGB and BGR frames keep their
    /// order and grey frames stay grey, since swapping and repeating channels is free later on.
    pub fn order_of(format: PixelFormat, wanted: ColorOrder) -> ColorOrder {
        match (format, wanted) {
            (_, ColorOrder::Gray) | (PixelFormat::Gray, _) => ColorOrder::Gray,
            (PixelFormat::Rgb, _) => ColorOrder::Rgb,
            (PixelFormat::Bgr, _) => ColorOrder::Bgr,
            (_, wanted) => wanted,
        }
    }

    /// What the rows hold.
    pub fn order(&self) -> ColorOrder {
        self.order
    }

    /// The fault of a row that could not be converted, if there was one; its samples are unspecified.
    pub fn failure(self) -> Option<YuvToRgbError> {
        self.failure
    }
}

impl Rows for RowReader<'_> {
    fn row(&mut self, y: usize) -> &[u8] {
        let source = self.frame.row(0, y);
        match (self.frame.format(), self.order) {
            (PixelFormat::Gray, _) => return source,
            (PixelFormat::Rgb, ColorOrder::Gray) => {
                for (o, p) in self.scratch.iter_mut().zip(source.chunks_exact(3)) {
                    *o = luma_of([p[0], p[1], p[2]]);
                }
            }
            (PixelFormat::Bgr, ColorOrder::Gray) => {
                for (o, p) in self.scratch.iter_mut().zip(source.chunks_exact(3)) {
                    *o = luma_of([p[2], p[1], p[0]]);
                }
            }
            (PixelFormat::Rgb | PixelFormat::Bgr, _) => return source,
            (_, ColorOrder::Gray) if self.frame.color().range == Range::Full => return source,
            (_, ColorOrder::Gray) => {
                for (o, &y) in self.scratch.iter_mut().zip(source) {
                    *o = self.luma[usize::from(y)];
                }
            }
            _ => {
                if let Err(e) = yuv_to_rgb(self.frame, y..y + 1, self.order, self.scratch) {
                    self.failure.get_or_insert(e);
                }
            }
        }
        self.scratch
    }
}

/// Number of samples of a pixel.
pub(crate) fn channels(order: ColorOrder) -> usize {
    match order {
        ColorOrder::Gray => 1,
        ColorOrder::Rgb | ColorOrder::Bgr => 3,
    }
}

/// BT.601 luma of an RGB colour in 15-bit fixed point, equal to OpenCV's `COLOR_RGB2GRAY`.
pub fn luma_of([r, g, b]: [u8; 3]) -> u8 {
    ((u32::from(r) * 9798 + u32::from(g) * 19235 + u32::from(b) * 3735 + (1 << 14)) >> 15) as u8
}

/// Luma of the frame stretched to 0..=255.
fn luma_table(frame: &Frame) -> [u8; 256] {
    std::array::from_fn(|y| match frame.color().range {
        Range::Full => y as u8,
        Range::Limited => (((y as i32 - 16) * 255 + 109).div_euclid(219)).clamp(0, 255) as u8,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use flow_frame::{Buffer, ColorSpace, Matrix};
    use proptest::prelude::*;

    const YUV: [PixelFormat; 4] = [
        PixelFormat::I420,
        PixelFormat::I422,
        PixelFormat::I444,
        PixelFormat::Nv12,
    ];

    fn frame(w: u32, h: u32, format: PixelFormat, color: ColorSpace, bytes: &[u8]) -> Frame {
        let need = format.frame_bytes(w, h);
        let data: Vec<u8> = bytes.iter().copied().cycle().take(need).collect();
        Frame::packed(w, h, format, color, Buffer::copy_of(&data)).unwrap()
    }

    fn pixels(frame: &Frame, wanted: ColorOrder) -> Vec<u8> {
        let mut scratch = Vec::new();
        let mut reader = RowReader::new(frame, wanted, &mut scratch);
        let mut out = Vec::new();
        for y in 0..frame.height() as usize {
            out.extend_from_slice(reader.row(y));
        }
        assert!(reader.failure().is_none());
        out
    }

    /// The definition: ITU-T H.273, with Kr and Kb of the matrix. Luma below black counts as black.
    fn definition(color: ColorSpace, y: u8, u: u8, v: u8) -> [f64; 3] {
        let (kr, kb) = match color.matrix {
            Matrix::Bt601 => (0.299, 0.114),
            Matrix::Bt709 => (0.2126, 0.0722),
        };
        let (y, u, v) = (f64::from(y), f64::from(u) - 128.0, f64::from(v) - 128.0);
        let (y, u, v) = match color.range {
            Range::Limited => ((y - 16.0).max(0.0) / 219.0, u / 224.0, v / 224.0),
            Range::Full => (y / 255.0, u / 255.0, v / 255.0),
        };
        let r = y + 2.0 * (1.0 - kr) * v;
        let b = y + 2.0 * (1.0 - kb) * u;
        let g = (y - kr * r - kb * b) / (1.0 - kr - kb);
        [r, g, b].map(|c| (c * 255.0).clamp(0.0, 255.0))
    }

    fn sample(frame: &Frame, x: usize, y: usize) -> (u8, u8, u8) {
        let luma = frame.row(0, y)[x];
        match frame.format() {
            PixelFormat::I420 => (luma, frame.row(1, y / 2)[x / 2], frame.row(2, y / 2)[x / 2]),
            PixelFormat::I422 => (luma, frame.row(1, y)[x / 2], frame.row(2, y)[x / 2]),
            PixelFormat::I444 => (luma, frame.row(1, y)[x], frame.row(2, y)[x]),
            _ => {
                let row = frame.row(1, y / 2);
                (luma, row[x / 2 * 2], row[x / 2 * 2 + 1])
            }
        }
    }

    proptest! {
        #[test]
        fn yuv_follows_the_definition_within_two_levels(
            bytes in proptest::collection::vec(any::<u8>(), 1..600), w in 1u32..70, h in 1u32..6,
            format in prop::sample::select(&YUV[..]), bt709: bool, full: bool,
        ) {
            let color = ColorSpace {
                matrix: if bt709 { Matrix::Bt709 } else { Matrix::Bt601 },
                range: if full { Range::Full } else { Range::Limited },
            };
            let frame = frame(w, h, format, color, &bytes);
            let rgb = pixels(&frame, ColorOrder::Rgb);
            let bgr = pixels(&frame, ColorOrder::Bgr);
            for (i, p) in rgb.chunks(3).enumerate() {
                let (x, y) = (i % w as usize, i / w as usize);
                let (l, u, v) = sample(&frame, x, y);
                let want = definition(color, l, u, v);
                for c in 0..3 {
                    prop_assert!((f64::from(p[c]) - want[c]).abs() < 2.0, "{p:?} {want:?} at {x},{y}");
                }
                let mut swapped = [bgr[3 * i], bgr[3 * i + 1], bgr[3 * i + 2]];
                swapped.reverse();
                prop_assert_eq!(p, swapped);
            }
        }
    }

    #[test]
    fn black_and_white_are_reached_exactly() {
        for format in YUV {
            for (range, black, white) in [(Range::Limited, 16, 235), (Range::Full, 0, 255)] {
                for matrix in [Matrix::Bt601, Matrix::Bt709] {
                    for (luma, want) in [(black, 0), (white, 255)] {
                        let mut f = frame(7, 3, format, ColorSpace { matrix, range }, &[128]);
                        f.plane_mut(0).fill(luma);
                        assert_eq!(
                            pixels(&f, ColorOrder::Rgb),
                            vec![want; 63],
                            "{format:?} {range:?}"
                        );
                        assert_eq!(
                            pixels(&f, ColorOrder::Gray),
                            vec![want; 21],
                            "{format:?} {range:?}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn grey_of_rgb_weighs_as_opencv() {
        // cv2.cvtColor(..., cv2.COLOR_RGB2GRAY) of the same pixels
        let rgb = [255, 0, 0, 0, 255, 0, 0, 0, 255, 10, 200, 30, 255, 255, 255];
        let f = frame(5, 1, PixelFormat::Rgb, ColorSpace::JPEG, &rgb);
        assert_eq!(pixels(&f, ColorOrder::Gray), [76, 150, 29, 124, 255]);
        let f = frame(5, 1, PixelFormat::Bgr, ColorSpace::JPEG, &rgb);
        assert_eq!(pixels(&f, ColorOrder::Gray)[0], 29);
    }
}
