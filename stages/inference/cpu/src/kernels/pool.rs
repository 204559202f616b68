//! Arguments of pooling. Windows are clipped to the image: no halo is read.

use super::error::expect_len;
use super::{ArgError, Epilogue, Output, View, ViewMut, Window};

/// Checks that every output's window meets the image.
fn check_windows(window: &Window, input: &super::Layout, output: &super::Layout) -> Result<(), ArgError> {
    window.check()?;
    for (axis, inputs, outputs) in [(0, input.height, output.height), (1, input.width, output.width)] {
        let start = (outputs - 1)
            .checked_mul(window.stride[axis])
            .ok_or(ArgError::Overflow("output"))?;
        let first_reach = (window.kernel[axis] - 1) * window.dilation[axis];
        if start >= inputs + window.pad_begin[axis]
            || first_reach < window.pad_begin[axis]
            || window.dilation[axis] > 1 && (window.pad_begin[axis] > 0 || start + first_reach >= inputs)
        {
            return Err(ArgError::Mismatch {
                what: "pooling windows that touch no pixel",
                expected: 0,
                found: 1,
            });
        }
    }
    Ok(())
}

/// Checked arguments of maximum pooling of `T`.
#[derive(Debug)]
pub struct MaxPoolArgs<'a, T> {
    pub(crate) window: Window,
    pub(crate) input: View<'a, T>,
    pub(crate) output: ViewMut<'a, T>,
}

impl<'a, T> MaxPoolArgs<'a, T> {
    /// Checks the arguments.
    ///
    /// # Errors
    /// [`ArgError`] where channels differ or a window holds no pixel.
    pub fn new(window: Window, input: View<'a, T>, output: ViewMut<'a, T>) -> Result<Self, ArgError> {
        expect_len(
            "output channels",
            input.layout().channels,
            output.layout().channels,
        )?;
        check_windows(&window, input.layout(), output.layout())?;
        Ok(Self {
            window,
            input,
            output,
        })
    }
}

/// What an average pool divides by, and what padding counts as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AverageOver {
    /// The pixels of the image in the window; padding does not count.
    Valid,
    /// All taps; padding counts as the code given, the zero point of the input.
    All {
        /// Zero point of the input as stored.
        pad_code: u8,
    },
    /// Nothing: the sum over the pixels of the image in the window.
    Nothing,
}

/// Checked arguments of average pooling: the exact sum of codes through an epilogue whose scale is divided
/// by the number of codes (by 1 for [`AverageOver::Nothing`]): `f = sum as f32 * (scale[c] / count as f32) + bias[c]`, then as any epilogue.
#[derive(Debug)]
pub struct AvgPoolArgs<'a> {
    pub(crate) window: Window,
    pub(crate) over: AverageOver,
    pub(crate) epilogue: &'a Epilogue,
    pub(crate) input: View<'a, u8>,
    pub(crate) output: Output<'a>,
}

impl<'a> AvgPoolArgs<'a> {
    /// Checks the arguments. A global pool is a window of the image's size.
    ///
    /// # Errors
    /// [`ArgError`] where channels differ, a window holds no pixel or more than 2^23 taps, or the epilogue
    /// wants a residual.
    pub fn new(
        window: Window,
        over: AverageOver,
        epilogue: &'a Epilogue,
        input: View<'a, u8>,
        output: Output<'a>,
    ) -> Result<Self, ArgError> {
        expect_len("input channels", epilogue.channels, input.layout().channels)?;
        output.check(epilogue, None)?;
        check_windows(&window, input.layout(), output.layout())?;
        if window.taps() > 1 << 23 {
            return Err(ArgError::Accumulator {
                taps: window.taps(),
                limit: 1 << 23,
            });
        }
        Ok(Self {
            window,
            over,
            epilogue,
            input,
            output,
        })
    }
}
