//! GridSample: pixels at places that another input says.

use std::ops::RangeInclusive;

use super::attributes::{Attributes, word_of};
use super::support::{self, Input};
use crate::error::OpError;
use crate::graph::OutputInfo;
use crate::op::Op;
use crate::operation::Operation;
use crate::tensor::Tensor;

/// How pixels around a place are mixed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Bilinear,
    Nearest,
    Bicubic,
}

/// What lies outside the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Padding {
    Zeros,
    Border,
    Reflection,
}

const MODES: &[(&str, Mode)] = &[
    ("bilinear", Mode::Bilinear),
    ("nearest", Mode::Nearest),
    ("bicubic", Mode::Bicubic),
];

const PADDINGS: &[(&str, Padding)] = &[
    ("zeros", Padding::Zeros),
    ("border", Padding::Border),
    ("reflection", Padding::Reflection),
];

/// GridSample-9: data `[N, C, H, W]`, grid `[N, OH, OW, 2]` of places (x, y) in -1 to 1; output `[N, C, OH, OW]`.
#[derive(Debug, Clone)]
struct GridSample {
    /// -1 and 1 are the middles of the outermost pixels rather than their outer edges.
    align_corners: bool,
    mode: Mode,
    padding: Padding,
}

/// Reads an operation of this family; `None` if it is of another.
pub(crate) fn parse(a: &Attributes) -> Result<Option<Op>, OpError> {
    if a.kind != "GridSample" {
        return Ok(None);
    }
    Ok(Some(Op::standard(GridSample {
        align_corners: a.flag("align_corners", Some(false))?,
        mode: a.word("mode", MODES, Some(Mode::Bilinear))?,
        padding: a.word("padding_mode", PADDINGS, Some(Padding::Zeros))?,
    })))
}

impl GridSample {
    /// The pixel at an index along an axis; `None` outside where that counts as zero.
    fn pixel(&self, at: f64, length: usize) -> Option<usize> {
        let last = length as f64 - 1.0;
        let inside = match self.padding {
            Padding::Zeros if !(0.0..=last).contains(&at) => return None,
            Padding::Zeros | Padding::Border => at.clamp(0.0, last),
            Padding::Reflection if self.align_corners => {
                let period = (2.0 * last).max(1.0);
                let folded = at.rem_euclid(period);
                folded.min(period - folded)
            }
            Padding::Reflection => {
                let period = 2.0 * length as f64;
                let folded = at.rem_euclid(period);
                folded.min(period - 1.0 - folded)
            }
        };
        Some(inside.clamp(0.0, last) as usize)
    }

    /// Pixels along an axis and their weights for a coordinate in -1 to 1.
    fn taps(&self, coordinate: f64, length: usize) -> Vec<(Option<usize>, f64)> {
        let l = length as f64;
        let x = if self.align_corners {
            (coordinate + 1.0) / 2.0 * (l - 1.0)
        } else {
            ((coordinate + 1.0) * l - 1.0) / 2.0
        };
        let floor = x.floor();
        let d = x - floor;
        match self.mode {
            Mode::Nearest => vec![(self.pixel(x.round_ties_even(), length), 1.0)],
            Mode::Bilinear => vec![
                (self.pixel(floor, length), 1.0 - d),
                (self.pixel(floor + 1.0, length), d),
            ],
            Mode::Bicubic => {
                // Keys' kernel with the coefficient -0.75.
                let a = -0.75;
                let near = |d: f64| ((a + 2.0) * d - (a + 3.0)) * d * d + 1.0;
                let far = |d: f64| ((a * d - 5.0 * a) * d + 8.0 * a) * d - 4.0 * a;
                [
                    (-1.0, far(1.0 + d)),
                    (0.0, near(d)),
                    (1.0, near(1.0 - d)),
                    (2.0, far(2.0 - d)),
                ]
                .map(|(k, weight)| (self.pixel(floor + k, length), weight))
                .to_vec()
            }
        }
    }
}

impl Operation for GridSample {
    fn type_name(&self) -> &'static str {
        "GridSample"
    }

    fn opset(&self) -> u32 {
        9
    }

    fn attributes(&self) -> Vec<(&'static str, String)> {
        vec![
            ("align_corners", self.align_corners.to_string()),
            ("mode", word_of(MODES, &self.mode)),
            ("padding_mode", word_of(PADDINGS, &self.padding)),
        ]
    }

    fn input_count(&self) -> RangeInclusive<usize> {
        2..=2
    }

    fn infer(&self, inputs: &[Input]) -> Result<Vec<OutputInfo>, OpError> {
        let [batch, channels, ..] = support::dims::<4>(&inputs[0], "the data")?;
        let [places, height, width, two] = support::dims::<4>(&inputs[1], "the grid")?;
        support::floats(&inputs[1], "the grid")?;
        support::same_dim(two, Some(2), "coordinates of the grid")?;
        let batch = support::same_dim(batch, places, "batches of data and grid")?;
        Ok(vec![support::output(
            inputs[0].element_type,
            vec![batch, channels, height, width],
        )])
    }

    fn evaluate(&self, inputs: &[Tensor], outputs: &[OutputInfo]) -> Result<Vec<Tensor>, OpError> {
        let shape = support::fixed(&outputs[0])?;
        let [_, channels, height, width] = support::lengths(&inputs[0], "the data")?;
        let (data, grid) = (inputs[0].to_f64(), inputs[1].to_f64());
        let pixels = shape[2] * shape[3];
        let mut values = vec![0.0; support::product(&shape)];
        for (at, place) in grid.chunks_exact(2).enumerate() {
            let (columns, rows) = (self.taps(place[0], width), self.taps(place[1], height));
            let (n, pixel) = (at / pixels, at % pixels);
            for c in 0..channels {
                let plane = &data[(n * channels + c) * height * width..][..height * width];
                let mut sum = 0.0;
                for &(y, wy) in &rows {
                    for &(x, wx) in &columns {
                        if let (Some(y), Some(x)) = (y, x) {
                            sum += plane[y * width + x] * wx * wy;
                        }
                    }
                }
                values[(n * channels + c) * pixels + pixel] = sum;
            }
        }
        Ok(vec![Tensor::from_f64(inputs[0].element_type(), &shape, &values)?])
    }
}
