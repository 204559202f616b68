//! Weight codes as the graph holds them, before packing.

use super::{AlignedVec, ArgError, error::expect_len};

/// Weight codes, row-major `[out_channels][in_channels / groups][kernel_y][kernel_x]`.
#[derive(Debug, Clone, Copy)]
pub enum WeightCodes<'a> {
    /// Signed codes.
    I8(&'a [i8]),
    /// Unsigned codes.
    U8(&'a [u8]),
}

/// Integer weights with their zero points, and the zero point of the data they meet.
#[derive(Debug, Clone, Copy)]
pub struct Weights<'a> {
    /// The codes.
    pub codes: WeightCodes<'a>,
    /// Zero points of the codes: one, or one per output channel.
    pub zero_point: &'a [i32],
    /// Zero point of the data as stored, 0..=255 (signed data is stored + 128, and so is its zero point):
    /// one, or for depthwise convolution one per channel.
    pub data_zero_point: &'a [i32],
}

/// Input and output channels of a convolution.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Channels {
    /// Input channels.
    pub input: usize,
    /// Output channels.
    pub output: usize,
    /// Groups; divides both.
    pub groups: usize,
}

impl Channels {
    /// One group.
    pub fn dense(input: usize, output: usize) -> Self {
        Self {
            input,
            output,
            groups: 1,
        }
    }

    /// # Errors
    /// [`ArgError`] for zeros or groups that do not divide the channels.
    pub(crate) fn check(&self) -> Result<(), ArgError> {
        if self.input == 0 || self.output == 0 || self.groups == 0 {
            return Err(ArgError::Empty);
        }
        expect_len("input channels modulo groups", 0, self.input % self.groups)?;
        expect_len("output channels modulo groups", 0, self.output % self.groups)
    }
}

/// Most products of a u8 and a centred weight (|w| <= 255) whose sum and zero point correction surely fit
/// an i32.
pub const MAX_TAPS: usize = i32::MAX as usize / (255 * 255);

/// Weights less their zero points: -255..=255, `[out_channels][taps]`, and the zero point of the data.
pub(crate) struct Centred {
    pub values: Vec<i16>,
    /// Per output channel, one block of padding: `-data_zero_point * sum(weights)`, where a sum starts.
    pub init: AlignedVec<i32>,
    /// Per output channel: no sum is larger in absolute value.
    pub magnitude: Vec<f64>,
}

impl Weights<'_> {
    /// Subtracts zero points. `taps` = products per output.
    pub(crate) fn centre(&self, out_channels: usize, taps: usize) -> Result<Centred, ArgError> {
        if taps > MAX_TAPS {
            return Err(ArgError::Accumulator {
                taps,
                limit: MAX_TAPS,
            });
        }
        let len = out_channels
            .checked_mul(taps)
            .ok_or(ArgError::Overflow("weights"))?;
        let found = match self.codes {
            WeightCodes::I8(codes) => codes.len(),
            WeightCodes::U8(codes) => codes.len(),
        };
        expect_len("weight codes", len, found)?;
        let one_or_all = |what, points: &[i32], range: std::ops::RangeInclusive<i32>, expected| {
            if points.len() != 1 {
                expect_len(what, out_channels, points.len())?;
            }
            match points.iter().find(|z| !range.contains(z)) {
                Some(&z) => Err(ArgError::Value {
                    what,
                    expected,
                    found: z.into(),
                }),
                None => Ok(()),
            }
        };
        one_or_all(
            "weight zero points",
            self.zero_point,
            // Outside the codes where all of a channel's weights lie far from zero.
            -383..=510,
            "within 255 of a code of the weights",
        )?;
        one_or_all("data zero points", self.data_zero_point, 0..=255, "0..=255")?;
        let code = |i: usize| match self.codes {
            WeightCodes::I8(codes) => i16::from(codes[i]),
            WeightCodes::U8(codes) => i16::from(codes[i]),
        };
        let of = |points: &[i32], oc: usize| points[if points.len() == 1 { 0 } else { oc }];
        let mut values = Vec::with_capacity(len);
        let mut init = AlignedVec::zeroed(out_channels.next_multiple_of(64) + 64);
        let mut magnitude = Vec::with_capacity(out_channels);
        for oc in 0..out_channels {
            let zero = of(self.zero_point, oc) as i16;
            let first = values.len();
            values.extend((oc * taps..(oc + 1) * taps).map(|i| code(i) - zero));
            if let Some(&w) = values[first..].iter().find(|w| w.unsigned_abs() > 255) {
                return Err(ArgError::Value {
                    what: "a weight less its zero point",
                    expected: "-255..=255",
                    found: w.into(),
                });
            }
            let sum: i32 = values[first..].iter().map(|&w| i32::from(w)).sum();
            magnitude.push(
                values[first..]
                    .iter()
                    .map(|&w| 255.0 * f64::from(w.unsigned_abs()))
                    .sum(),
            );
            init[oc] = -of(self.data_zero_point, oc) * sum;
        }
        Ok(Centred {
            values,
            init,
            magnitude,
        })
    }
}

/// The part of a centred weight that pass `pass` of a kernel multiplies: eight-bit parts that add up to it.
pub(crate) fn eight_bit_part(weight: i16, pass: usize) -> i8 {
    let mut rest = weight;
    for _ in 0..pass {
        rest -= rest.clamp(-128, 127);
    }
    rest.clamp(-128, 127) as i8
}

/// Passes that a weight needs.
pub(crate) fn passes(weight: i16) -> usize {
    match weight {
        0 => 0,
        -128..=127 => 1,
        -256..=254 => 2,
        _ => 3,
    }
}
