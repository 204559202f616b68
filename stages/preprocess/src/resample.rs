//! Scaling of interleaved 8-bit rows.

mod area;
mod bilinear;
mod nearest;

use schemars::JsonSchema;
use serde::Deserialize;

use area::Area;
use bilinear::Bilinear;
use nearest::Nearest;

/// How a picture is scaled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, serde::Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Filter {
    /// The pixel at the scaled place, as OpenCV's `INTER_NEAREST`.
    Nearest,
    /// Linear between two pixels each way, as OpenCV's `INTER_LINEAR`; what most networks were validated with.
    #[default]
    Bilinear,
    /// Average of the covered box, as OpenCV's `INTER_AREA` where the picture shrinks; no aliasing.
    Area,
}

/// Order of the samples of a row that a [`Resampler`] hands out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowOrder {
    /// `c0 c1 c2 c0 c1 c2 ...`
    Interleaved,
    /// All of channel 0, then all of channel 1, ...
    Planar,
}

/// Gives the rows of a picture, each `width * channels` interleaved samples.
pub trait Rows {
    /// Row `y`, counted from the top.
    fn row(&mut self, y: usize) -> &[u8];
}

/// Scales pictures of one size to another; holds the tables and row buffers, so that a run allocates nothing.
pub struct Resampler {
    method: Method,
    out_rows: usize,
    row: Vec<u8>,
    order: RowOrder,
}

enum Method {
    Nearest(Nearest),
    Bilinear(Bilinear),
    Area(Area),
}

impl Resampler {
    /// Prepares scaling from `source` to `target` (width, height; each at least 1 and at most
    /// [`flow_frame::Frame::MAX_SIDE`]) of pictures with `channels` (1 or 3) interleaved channels.
    pub fn new(
        source: (u32, u32),
        target: (u32, u32),
        channels: usize,
        filter: Filter,
        order: RowOrder,
    ) -> Self {
        // Every filter is a copy at scale 1.
        let method = match filter {
            _ if source == target => Method::Nearest(Nearest::new(source, target, channels)),
            Filter::Nearest => Method::Nearest(Nearest::new(source, target, channels)),
            Filter::Bilinear => Method::Bilinear(Bilinear::new(source, target, channels, order)),
            Filter::Area => Method::Area(Area::new(source, target, channels)),
        };
        Self {
            method,
            out_rows: target.1 as usize,
            row: vec![0; target.0 as usize * channels],
            order,
        }
    }

    /// Scales the picture that `rows` gives; `emit` takes each target row with its number, top to bottom.
    pub fn run(&mut self, rows: &mut dyn Rows, mut emit: impl FnMut(usize, &[u8])) {
        if let Method::Bilinear(m) = &mut self.method {
            m.begin();
        }
        for y in 0..self.out_rows {
            match &mut self.method {
                Method::Nearest(m) => m.row(rows, y, self.order, &mut self.row),
                Method::Bilinear(m) => m.row(rows, y, &mut self.row),
                Method::Area(m) => m.row(rows, y, self.order, &mut self.row),
            }
            emit(y, &self.row);
        }
    }
}

#[cfg(test)]
pub(crate) struct Picture<'a> {
    pub samples: &'a [u8],
    pub row: usize,
}

#[cfg(test)]
impl Rows for Picture<'_> {
    fn row(&mut self, y: usize) -> &[u8] {
        &self.samples[y * self.row..][..self.row]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn scale(
        samples: &[u8],
        source: (u32, u32),
        target: (u32, u32),
        channels: usize,
        filter: Filter,
        order: RowOrder,
    ) -> Vec<u8> {
        let mut out = Vec::new();
        let mut picture = Picture {
            samples,
            row: source.0 as usize * channels,
        };
        Resampler::new(source, target, channels, filter, order)
            .run(&mut picture, |_, row| out.extend_from_slice(row));
        out
    }

    fn any_filter() -> impl Strategy<Value = Filter> {
        prop_oneof![Just(Filter::Nearest), Just(Filter::Bilinear), Just(Filter::Area)]
    }

    proptest! {
        #[test]
        fn a_constant_picture_stays_constant(
            value: u8, sw in 1u32..40, sh in 1u32..40, tw in 1u32..40, th in 1u32..40,
            rgb: bool, filter in any_filter(),
        ) {
            let channels = if rgb { 3 } else { 1 };
            let samples = vec![value; (sw * sh) as usize * channels];
            let out = scale(&samples, (sw, sh), (tw, th), channels, filter, RowOrder::Interleaved);
            prop_assert_eq!(out, vec![value; (tw * th) as usize * channels]);
        }

        #[test]
        fn planar_rows_hold_what_interleaved_rows_hold(
            samples in proptest::collection::vec(any::<u8>(), 13 * 9 * 3),
            tw in 1u32..30, th in 1u32..30, filter in any_filter(),
        ) {
            let mixed = scale(&samples, (13, 9), (tw, th), 3, filter, RowOrder::Interleaved);
            let planar = scale(&samples, (13, 9), (tw, th), 3, filter, RowOrder::Planar);
            let w = tw as usize;
            for (row_m, row_p) in mixed.chunks(3 * w).zip(planar.chunks(3 * w)) {
                for x in 0..w {
                    for c in 0..3 {
                        prop_assert_eq!(row_m[3 * x + c], row_p[c * w + x]);
                    }
                }
            }
        }

        #[test]
        fn no_filter_leaves_the_range_of_the_samples(
            samples in proptest::collection::vec(40u8..=90, 11 * 7), tw in 1u32..30, th in 1u32..30,
            filter in any_filter(),
        ) {
            let out = scale(&samples, (11, 7), (tw, th), 1, filter, RowOrder::Interleaved);
            let (low, high) = (samples.iter().min(), samples.iter().max());
            prop_assert!(out.iter().min() >= low && out.iter().max() <= high);
        }
    }

    // Expected values printed by OpenCV 5.0 (cv2.resize of the same bytes).
    #[test]
    fn bilinear_and_nearest_equal_opencv() {
        let samples: Vec<u8> = (0..5 * 4u32).map(|i| (i * i * 37 % 256) as u8).collect();
        let bilinear = scale(
            &samples,
            (5, 4),
            (3, 6),
            1,
            Filter::Bilinear,
            RowOrder::Interleaved,
        );
        let nearest = scale(
            &samples,
            (5, 4),
            (3, 6),
            1,
            Filter::Nearest,
            RowOrder::Interleaved,
        );
        assert_eq!(bilinear, BILINEAR_5X4_TO_3X6);
        assert_eq!(nearest, NEAREST_5X4_TO_3X6);
    }

    include!("resample/opencv_values.rs");

    #[test]
    fn area_of_whole_boxes_is_their_mean() {
        let samples = [10, 20, 30, 40, 50, 60, 70, 81];
        let out = scale(&samples, (4, 2), (2, 1), 1, Filter::Area, RowOrder::Interleaved);
        // (10+20+50+60)/4 = 35; (30+40+70+81)/4 = 55.25
        assert_eq!(out, [35, 55]);
        // a width of 1 is the mean of everything: 361 / 8 = 45.125
        let out = scale(&samples, (4, 2), (1, 1), 1, Filter::Area, RowOrder::Interleaved);
        assert_eq!(out, [45]);
        // boxes that share a pixel: (10 + 20/2) / 1.5 and (20/2 + 30) / 1.5
        let out = scale(
            &samples[..3],
            (3, 1),
            (2, 1),
            1,
            Filter::Area,
            RowOrder::Interleaved,
        );
        assert_eq!(out, [13, 27]);
    }
}
