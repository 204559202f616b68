//! Integer depthwise convolution: one filter per channel.

use super::error::expect_len;
use super::{AlignedVec, ArgError, Epilogue, Output, View, Weights, Window};

/// A depthwise convolution (groups = input channels = output channels).
#[derive(Debug, Clone)]
pub struct DepthwiseU8 {
    pub(crate) window: Window,
    /// Channels padded to whole blocks.
    pub(crate) padded: usize,
    /// Centred weights `[tap][padded channel]`.
    pub(crate) taps: AlignedVec<i16>,
    pub(crate) init: AlignedVec<i32>,
    pub(crate) epilogue: Epilogue,
}

impl DepthwiseU8 {
    /// Arranges `weights`, codes `[channels][1][kernel_y][kernel_x]`.
    ///
    /// # Errors
    /// [`ArgError`] for lengths that do not fit or zero points out of range.
    pub fn new(window: Window, weights: &Weights<'_>, epilogue: Epilogue) -> Result<Self, ArgError> {
        window.check()?;
        let channels = epilogue.channels;
        let taps = window.taps();
        let centred = weights.centre(channels, taps)?;
        let padded = centred.init.len();
        let len = padded.checked_mul(taps).ok_or(ArgError::Overflow("weights"))?;
        let mut by_tap = AlignedVec::zeroed(len);
        for c in 0..channels {
            for tap in 0..taps {
                by_tap[tap * padded + c] = centred.values[c * taps + tap];
            }
        }
        Ok(Self {
            window,
            padded,
            taps: by_tap,
            init: centred.init,
            epilogue,
        })
    }

    /// The epilogue.
    pub fn epilogue(&self) -> &Epilogue {
        &self.epilogue
    }
}

/// Checked arguments of one run of a [`DepthwiseU8`].
#[derive(Debug)]
pub struct DepthwiseU8Args<'a> {
    pub(crate) conv: &'a DepthwiseU8,
    pub(crate) input: View<'a, u8>,
    pub(crate) residual: Option<View<'a, u8>>,
    pub(crate) output: Output<'a>,
}

impl<'a> DepthwiseU8Args<'a> {
    /// Checks once that every read and write lies in its buffer.
    ///
    /// # Errors
    /// [`ArgError`] naming what does not fit.
    pub fn new(
        conv: &'a DepthwiseU8,
        input: View<'a, u8>,
        residual: Option<View<'a, u8>>,
        output: Output<'a>,
    ) -> Result<Self, ArgError> {
        expect_len("input channels", conv.epilogue.channels, input.layout().channels)?;
        output.check(&conv.epilogue, residual.as_ref())?;
        conv.window.check_reads(input.layout(), output.layout())?;
        Ok(Self {
            conv,
            input,
            residual,
            output,
        })
    }
}
