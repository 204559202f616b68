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
            let far = values[first..].iter().fold(0, |far, w| w.unsigned_abs().max(far));
            if far > 255
                && let Some(&w) = values[first..].iter().find(|w| w.unsigned_abs() == far)
            {
                return Err(ArgError::Value {
                    what: "a weight less its zero point",
                    expected: "-255..=255",
                    found: w.into(),
                });
            }
            let sum: i32 = values[first..].iter().map(|&w| i32::from(w)).sum();
            // Fits: `taps` is at most `MAX_TAPS`.
            let magnitudes: u32 = values[first..].iter().map(|&w| u32::from(w.unsigned_abs())).sum();
            magnitude.push(255.0 * f64::from(magnitudes));
            init[oc] = -of(self.data_zero_point, oc) * sum;
        }
        Ok(Centred {
            values,
            init,
            magnitude,
        })
    }
}

/// How an instruction set wants weights packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Packing {
    /// 32-bit elements of a vector.
    pub lanes: usize,
    /// Whether products are added in pairs of 16 bits, which must not saturate: neither the positive nor the negative
    /// weights of a pair may add up to more than 128, the largest that 255 may be multiplied by.
    pub pairs: bool,
    /// Whether there are 32 registers, not 16.
    pub many_registers: bool,
    /// Whether tiles are multiplied, which take several quads at once.
    pub tiles: bool,
}

/// Takes from `rest`, four neighbouring weights, what one multiplication can hold: 8 bits each, and with `pairs`
/// nothing that could saturate.
fn take_part(rest: &mut [i16; 4], pairs: bool) -> [i8; 4] {
    let mut part = rest.map(|w| w.clamp(-128, 127));
    if pairs {
        for [a, b] in part.as_chunks_mut().0 {
            *b = (*b).clamp(-128 - (*a).min(0), 128 - (*a).max(0));
        }
    }
    for (rest, part) in rest.iter_mut().zip(part) {
        *rest -= part;
    }
    part.map(|w| w as i8)
}

/// Appends groups of four weights as parts that add up to them, each part `[group][4]`: one part unless a weight
/// leaves 8 bits or a pair could saturate, but at least `parts`. `rest` is zero afterwards.
pub(crate) fn split(rest: &mut [[i16; 4]], pairs: bool, parts: usize, packed: &mut Vec<i8>) {
    for part in 1.. {
        let mut left = 0;
        for rest in rest.iter_mut() {
            packed.extend(take_part(rest, pairs));
            left |= rest.iter().fold(0, |all, &w| all | w);
        }
        if left == 0 && part >= parts {
            return;
        }
    }
}

/// The parts of a weight, as [`split`] makes them without pairs.
pub(crate) fn parts(weight: i16) -> usize {
    match weight {
        -128..=127 => 1,
        -256..=254 => 2,
        _ => 3,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_add_up_and_no_pair_of_them_can_saturate() {
        let values = [
            -255, -254, -129, -128, -127, -64, -1, 0, 1, 64, 65, 127, 128, 254, 255,
        ];
        for pairs in [false, true] {
            for (a, b) in values.into_iter().flat_map(|a| values.map(|b| (a, b))) {
                let mut packed = Vec::new();
                split(&mut [[a, b, b, a]], pairs, 1, &mut packed);
                let mut sum = [0_i16; 4];
                for part in packed.as_chunks::<4>().0 {
                    let part = part.map(i16::from);
                    sum.iter_mut().zip(part).for_each(|(s, w)| *s += w);
                    for [a, b] in part.as_chunks().0 {
                        assert!(!pairs || a.max(&0) + b.max(&0) <= 128, "{part:?}");
                        assert!(!pairs || a.min(&0) + b.min(&0) >= -128, "{part:?}");
                    }
                }
                assert_eq!(sum, [a, b, b, a]);
                let few = packed.len() / 4;
                assert!(few <= if pairs { 4 } else { 3 }, "{few} parts for {a}, {b}");
            }
        }
    }

    #[test]
    fn weights_that_fit_are_one_part() {
        let mut packed = Vec::new();
        split(
            &mut [[64, 64, -128, 127], [127, 1, -127, -1]],
            true,
            1,
            &mut packed,
        );
        assert_eq!(packed, [64, 64, -128, 127, 127, 1, -127, -1]);
    }
}
