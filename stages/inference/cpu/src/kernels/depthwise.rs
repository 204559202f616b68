//! Integer depthwise convolution: one filter per channel.

use super::epilogue::CHANNEL_BLOCK;
use super::error::expect_len;
use super::weights::{Centred, Packing, split};
use super::{AlignedVec, ArgError, Epilogue, KernelTable, Output, View, Weights, Window};

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
    /// For layers whose pixels fill a block only in part, where pixels lie without gaps.
    pub(crate) several: Option<Box<SeveralPixels>>,
}

/// Several neighbouring pixels as one of as many times the channels.
#[derive(Debug, Clone)]
pub(crate) struct SeveralPixels {
    /// How many.
    pub pixels: usize,
    /// The same weights for each.
    pub packed: Interleaved,
    pub epilogue: Epilogue,
}

/// Most pixels that are treated as one.
const MAX_PIXELS: usize = 8;

impl SeveralPixels {
    /// How many pixels fill blocks of `width` channels altogether, where one fills less than three quarters; or `None`.
    fn pixels(channels: usize, width: usize) -> Option<usize> {
        let all = channels.next_multiple_of(width);
        let fill = (1..=MAX_PIXELS).find(|pixels| (channels * pixels).is_multiple_of(width))?;
        (channels * 4 < all * 3).then_some(fill)
    }

    /// For a plain epilogue whose rounding may come first; `taps` are `[tap][padded channel]`.
    fn new(
        packing: Packing,
        window: &Window,
        taps: &[i16],
        centred: &Centred,
        epilogue: &Epilogue,
    ) -> Result<Option<Self>, ArgError> {
        let channels = epilogue.channels;
        let one = centred.init.len();
        let Some(pixels) = Self::pixels(channels, packing.lanes * 4) else {
            return Ok(None);
        };
        if window.stride[1] != 1 || !epilogue.is_plain() {
            return Ok(None);
        }
        let padded = (channels * pixels).next_multiple_of(CHANNEL_BLOCK) + CHANNEL_BLOCK;
        let mut init = AlignedVec::zeroed(padded);
        let mut repeated = AlignedVec::zeroed(padded * window.taps());
        for c in 0..channels * pixels {
            init[c] = centred.init[c % channels];
            for tap in 0..window.taps() {
                repeated[tap * padded + c] = taps[tap * one + c % channels];
            }
        }
        let centred = Centred {
            values: Vec::new(),
            init,
            magnitude: centred.magnitude.repeat(pixels),
        };
        let epilogue = epilogue.repeated(pixels);
        let packed = Interleaved::new(packing, window, &repeated, &centred, &epilogue)?;
        Ok(packed.round_first.then_some(Self {
            pixels,
            packed,
            epilogue,
        }))
    }
}

/// Weights for kernels that interleave pixels, in blocks of four vectors of channels in unpack order.
#[derive(Debug, Clone)]
pub(crate) struct Interleaved {
    /// Groups of four pixel slots.
    pub quads: usize,
    /// For one output at a time; empty where `several` is that already.
    pub one: Slots,
    /// For as many outputs as the slots serve.
    pub several: Slots,
    pub init: AlignedVec<i32>,
    pub scale: AlignedVec<f32>,
    pub bias: AlignedVec<f32>,
    /// [`Ties::near_values`](super::ties::Ties::near_values), for plain codes; empty without ties.
    pub near: AlignedVec<f32>,
    /// Rounding may come before the clamp; see [`Epilogue::fits_i32`].
    pub round_first: bool,
}

/// Weights of outputs that share pixel slots: `[block][ky][quad][part][output][4 vectors][lane][4 slots]`.
#[derive(Debug, Clone, Default)]
pub(crate) struct Slots {
    /// Outputs.
    pub outputs: usize,
    pub weights: AlignedVec<i8>,
    /// First part of each `[block][ky][quad]`, and the number of all: most weights need one part.
    pub starts: Vec<u32>,
    /// Whether all need one part.
    pub whole: bool,
}

/// Channel in a block of four vectors that stands at `place` after unpacking bytes, then words, of 128-bit parts:
/// vector `v`, part `l`, element `i` is channel `16 l + 4 v + i`.
fn unpacked(place: usize, lanes: usize) -> usize {
    let (v, l, i) = (place / lanes, place % lanes / 4, place % 4);
    16 * l + 4 * v + i
}

impl Slots {
    /// Packs `taps`, `[tap][padded channel]`.
    fn new(
        packing: Packing,
        window: &Window,
        padded: usize,
        taps: &[i16],
        outputs: usize,
        quads: usize,
    ) -> Result<Self, ArgError> {
        let [kh, kw] = window.kernel;
        let width = packing.lanes * 4;
        let mut weights = Vec::new();
        let mut starts = vec![0];
        let mut rest = vec![[0_i16; 4]; outputs * width];
        for block in 0..padded / width {
            for (ky, quad) in (0..kh).flat_map(|ky| (0..quads).map(move |quad| (ky, quad))) {
                for (at, rest) in rest.iter_mut().enumerate() {
                    let (output, place) = (at / width, at % width);
                    let c = block * width + unpacked(place, packing.lanes);
                    for (slot, rest) in rest.iter_mut().enumerate() {
                        let kx = (quad * 4 + slot).wrapping_sub(output);
                        *rest = if kx < kw {
                            taps[(ky * kw + kx) * padded + c]
                        } else {
                            0
                        };
                    }
                }
                split(&mut rest, packing.pairs, 1, &mut weights);
                let parts = weights.len() / (outputs * width * 4);
                starts.push(u32::try_from(parts).map_err(|_| ArgError::Overflow("weights"))?);
            }
        }
        Ok(Self {
            outputs,
            weights: AlignedVec::from_slice(&weights),
            whole: starts.iter().enumerate().all(|(i, &start)| start as usize == i),
            starts,
        })
    }
}

impl Interleaved {
    fn new(
        packing: Packing,
        window: &Window,
        taps: &[i16],
        Centred { init, magnitude, .. }: &Centred,
        epilogue: &Epilogue,
    ) -> Result<Self, ArgError> {
        let kw = window.kernel[1];
        let padded = init.len();
        let close = window.stride[1] == 1 && window.dilation[1] == 1;
        let (quads, outputs) = match kw {
            2 | 3 if close => (1, 2),
            5 if close => (2, if packing.many_registers { 4 } else { 2 }),
            7 if close => (2, 2),
            _ => (kw.div_ceil(4), 1),
        };
        let slots = |outputs| Slots::new(packing, window, padded, taps, outputs, quads);
        let width = packing.lanes * 4;
        let channel = |n: usize| n / width * width + unpacked(n % width, packing.lanes);
        let reorder = |values: &AlignedVec<f32>| {
            let mut out = AlignedVec::zeroed(padded);
            (0..padded).for_each(|n| out[n] = values[channel(n)]);
            out
        };
        let near = epilogue
            .ties
            .as_ref()
            .map(|ties| ties.near_values(&epilogue.bias));
        let mut start = AlignedVec::zeroed(padded);
        (0..padded).for_each(|n| start[n] = init[channel(n)]);
        Ok(Self {
            quads,
            one: if outputs > 1 { slots(1)? } else { Slots::default() },
            several: slots(outputs)?,
            init: start,
            scale: reorder(&epilogue.scale),
            bias: reorder(&epilogue.bias),
            near: near.map_or_else(|| AlignedVec::zeroed(0), |near| reorder(&near)),
            round_first: epilogue.fits_i32(magnitude),
        })
    }
}

impl DepthwiseU8 {
    /// Packs `weights`, codes `[channels][1][kernel_y][kernel_x]`, for `table`.
    ///
    /// # Errors
    /// [`ArgError`] for lengths that do not fit or zero points out of range.
    pub fn new(
        table: &KernelTable,
        window: Window,
        weights: &Weights<'_>,
        epilogue: Epilogue,
    ) -> Result<Self, ArgError> {
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
        let packed = Interleaved::new(table.packing, &window, &by_tap, &centred, &epilogue)?;
        let several = SeveralPixels::new(table.packing, &window, &by_tap, &centred, &epilogue)?;
        Ok(Self {
            window,
            padded,
            taps: by_tap,
            init: centred.init,
            packed,
            epilogue,
            several: several.map(Box::new),
        })
    }

    /// Bytes of packed weights.
    pub fn weight_bytes(&self) -> usize {
        self.packed.several.weights.len() + self.packed.one.weights.len()
    }

    /// The epilogue.
    pub fn epilogue(&self) -> &Epilogue {
        &self.epilogue
    }

    /// Multiplications that were added so that none can leave its range, in percent, rounded up.
    pub fn split_percent(&self) -> usize {
        let groups = self.packed.several.starts.len() - 1;
        let parts = self.packed.several.starts.last().map_or(0, |&n| n as usize);
        ((parts - groups) * 100).div_ceil(groups.max(1))
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
