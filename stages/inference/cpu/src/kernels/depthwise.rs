//! Integer depthwise convolution: one filter per channel.

use super::error::expect_len;
use super::weights::{Centred, eight_bit_part, passes};
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
    pub(crate) packed: Interleaved,
    pub(crate) epilogue: Epilogue,
}

/// Weights for kernels that interleave pixels: blocks of 64 channels whose arrays stand in unpack order.
#[derive(Debug, Clone)]
pub(crate) struct Interleaved {
    /// Groups of four pixel slots.
    pub quads: usize,
    /// Outputs that share the slots in `several`.
    pub outputs: usize,
    /// 8-bit parts of the weights.
    pub passes: usize,
    /// `[block][pass][ky][1][quad][4 vectors][16 channels][4 slots]`.
    pub one: AlignedVec<i8>,
    /// `[block][pass][ky][output][quad][4 vectors][16 channels][4 slots]`; empty for one output.
    pub several: AlignedVec<i8>,
    pub init: AlignedVec<i32>,
    pub scale: AlignedVec<f32>,
    pub bias: AlignedVec<f32>,
    /// Rounding may come before the clamp; see [`Epilogue::fits_i32`].
    pub round_first: bool,
}

/// Channel in a block of 64 that stands at `place` after unpacking bytes, then words, of 128-bit lanes:
/// vector `v`, lane `l`, element `i` is channel `16 l + 4 v + i`.
fn unpacked(place: usize) -> usize {
    let (v, l, i) = (place / 16, place / 4 % 4, place % 4);
    16 * l + 4 * v + i
}

impl Interleaved {
    fn new(
        window: &Window,
        padded: usize,
        taps: &AlignedVec<i16>,
        Centred { init, magnitude, .. }: &Centred,
        epilogue: &Epilogue,
    ) -> Result<Self, ArgError> {
        let [kh, kw] = window.kernel;
        let close = window.stride[1] == 1 && window.dilation[1] == 1;
        let (quads, outputs) = match kw {
            2 | 3 if close => (1, 2),
            5 if close => (2, 4),
            7 if close => (2, 2),
            _ => (kw.div_ceil(4), 1),
        };
        let passes = taps.iter().map(|&w| passes(w)).max().unwrap_or(1).max(1);
        let blocks = padded / 64;
        let pack = |outputs: usize| -> Result<AlignedVec<i8>, ArgError> {
            let len = [blocks, passes, kh, outputs, quads, 256]
                .iter()
                .try_fold(1_usize, |n, &f| n.checked_mul(f))
                .ok_or(ArgError::Overflow("weights"))?;
            let mut packed = AlignedVec::zeroed(len);
            for (at, place) in packed.chunks_exact_mut(4).enumerate() {
                let (rest, n) = (at / 64, at % 64);
                let (rest, quad) = (rest / quads, rest % quads);
                let (rest, output) = (rest / outputs, rest % outputs);
                let (rest, ky) = (rest / kh, rest % kh);
                let (block, pass) = (rest / passes, rest % passes);
                let c = block * 64 + unpacked(n);
                for (slot, place) in place.iter_mut().enumerate() {
                    let kx = (quad * 4 + slot).wrapping_sub(output);
                    if kx < kw {
                        *place = eight_bit_part(taps[(ky * kw + kx) * padded + c], pass);
                    }
                }
            }
            Ok(packed)
        };
        let reorder = |values: &AlignedVec<f32>| {
            let mut out = AlignedVec::zeroed(padded);
            for (n, out) in out.iter_mut().enumerate() {
                *out = values[n / 64 * 64 + unpacked(n % 64)];
            }
            out
        };
        let mut start = AlignedVec::zeroed(padded);
        for (n, start) in start.iter_mut().enumerate() {
            *start = init[n / 64 * 64 + unpacked(n % 64)];
        }
        Ok(Self {
            quads,
            outputs,
            passes,
            one: pack(1)?,
            several: if outputs > 1 {
                pack(outputs)?
            } else {
                AlignedVec::zeroed(0)
            },
            init: start,
            scale: reorder(&epilogue.scale),
            bias: reorder(&epilogue.bias),
            round_first: epilogue.fits_i32(magnitude),
        })
    }
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
        let packed = Interleaved::new(&window, padded, &by_tap, &centred, &epilogue)?;
        Ok(Self {
            window,
            padded,
            taps: by_tap,
            init: centred.init,
            packed,
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
