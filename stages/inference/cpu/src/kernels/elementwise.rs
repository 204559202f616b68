//! Arguments of kernels that treat each element or pixel on its own, and of copies.

use super::error::expect_len;
use super::{AlignedVec, ArgError, Epilogue, Output, View, ViewMut, epilogue::per_channel};

/// Same height, width and channels.
fn expect_same(a: &super::Layout, b: &super::Layout) -> Result<(), ArgError> {
    expect_len("output height", a.height, b.height)?;
    expect_len("output width", a.width, b.width)?;
    expect_len("output channels", a.channels, b.channels)
}

/// Codes through an [`Epilogue`], `acc` being the code: requantization, dequantization, and addition of two
/// inputs (the second is the residual).
#[derive(Debug)]
pub struct AffineU8Args<'a> {
    pub(crate) epilogue: &'a Epilogue,
    pub(crate) input: View<'a, u8>,
    pub(crate) residual: Option<View<'a, u8>>,
    pub(crate) output: Output<'a>,
}

impl<'a> AffineU8Args<'a> {
    /// Checks the arguments.
    ///
    /// # Errors
    /// [`ArgError`] where shapes differ or the residual is missing or too many.
    pub fn new(
        epilogue: &'a Epilogue,
        input: View<'a, u8>,
        residual: Option<View<'a, u8>>,
        output: Output<'a>,
    ) -> Result<Self, ArgError> {
        expect_same(input.layout(), output.layout())?;
        output.check(epilogue, residual.as_ref())?;
        Ok(Self {
            epilogue,
            input,
            residual,
            output,
        })
    }
}

/// Codes through a table.
#[derive(Debug)]
pub struct LookupArgs<'a> {
    pub(crate) table: &'a [u8; 256],
    pub(crate) input: View<'a, u8>,
    pub(crate) output: ViewMut<'a, u8>,
}

impl<'a> LookupArgs<'a> {
    /// Checks the arguments; `table` is indexed by the stored code.
    ///
    /// # Errors
    /// [`ArgError`] where shapes differ.
    pub fn new(table: &'a [u8; 256], input: View<'a, u8>, output: ViewMut<'a, u8>) -> Result<Self, ArgError> {
        expect_same(input.layout(), output.layout())?;
        Ok(Self { table, input, output })
    }
}

/// Copy with integer magnification: nearest upsampling, concatenation and channel slices (factor 1).
#[derive(Debug)]
pub struct CopyArgs<'a, T> {
    pub(crate) factor: [usize; 2],
    pub(crate) input: View<'a, T>,
    pub(crate) output: ViewMut<'a, T>,
}

impl<'a, T> CopyArgs<'a, T> {
    /// Checks the arguments: output = input times `factor` (y, x), same channels.
    ///
    /// # Errors
    /// [`ArgError`] where shapes do not fit.
    pub fn new(factor: [usize; 2], input: View<'a, T>, output: ViewMut<'a, T>) -> Result<Self, ArgError> {
        let (i, o) = (input.layout(), output.layout());
        expect_len("output height", i.height.saturating_mul(factor[0]), o.height)?;
        expect_len("output width", i.width.saturating_mul(factor[1]), o.width)?;
        expect_len("output channels", i.channels, o.channels)?;
        Ok(Self {
            factor,
            input,
            output,
        })
    }
}

/// Quantization of f32 to codes with FakeQuantize's own order of operations:
/// `q = base + round_ties_even((clamp(x, il, ih) - il) / (ih - il) * (levels - 1))`.
#[derive(Debug, Clone)]
pub struct Quantizer {
    pub(crate) channels: usize,
    /// Input low limits, per channel.
    pub(crate) low: AlignedVec<f32>,
    pub(crate) high: AlignedVec<f32>,
    pub(crate) steps: f32,
    pub(crate) base: f32,
}

impl Quantizer {
    /// Limits hold one value or one per channel; `base` is the stored code of `input_low` (signed codes are
    /// stored + 128). Limits may be inverted (`low > high`).
    ///
    /// # Errors
    /// [`ArgError`] for lengths that do not fit, limits that are equal or not finite, or codes outside
    /// 0..=255.
    pub fn new(
        channels: usize,
        input_low: &[f32],
        input_high: &[f32],
        levels: u32,
        base: u8,
    ) -> Result<Self, ArgError> {
        let low = per_channel("quantize low limits", input_low, channels)?;
        let high = per_channel("quantize high limits", input_high, channels)?;
        for (&l, &h) in low[..channels].iter().zip(&high[..channels]) {
            if !(h - l).is_finite() || h == l {
                return Err(ArgError::Value {
                    what: "quantize interval",
                    expected: "finite limits that differ",
                    found: l.into(),
                });
            }
        }
        if levels < 2 || u32::from(base) + levels > 256 {
            return Err(ArgError::Value {
                what: "quantize levels",
                expected: "codes within 0..=255",
                found: levels.into(),
            });
        }
        Ok(Self {
            channels,
            low,
            high,
            steps: (levels - 1) as f32,
            base: f32::from(base),
        })
    }

    /// The stored code of `x` in channel `c`.
    #[inline(always)]
    pub(crate) fn code(&self, x: f32, c: usize) -> u8 {
        let (il, ih) = (self.low[c], self.high[c]);
        let x = super::epilogue::clamp(x, il.min(ih), il.max(ih));
        (((x - il) / (ih - il) * self.steps).round_ties_even() + self.base) as u8
    }
}

/// Checked arguments of a [`Quantizer`].
#[derive(Debug)]
pub struct QuantizeArgs<'a> {
    pub(crate) quantizer: &'a Quantizer,
    pub(crate) input: View<'a, f32>,
    pub(crate) output: ViewMut<'a, u8>,
}

impl<'a> QuantizeArgs<'a> {
    /// Checks the arguments.
    ///
    /// # Errors
    /// [`ArgError`] where shapes differ.
    pub fn new(
        quantizer: &'a Quantizer,
        input: View<'a, f32>,
        output: ViewMut<'a, u8>,
    ) -> Result<Self, ArgError> {
        expect_same(input.layout(), output.layout())?;
        expect_len("quantize channels", quantizer.channels, input.layout().channels)?;
        Ok(Self {
            quantizer,
            input,
            output,
        })
    }
}
