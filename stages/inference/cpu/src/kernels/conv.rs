//! Integer convolution: packed weights, checked arguments.

use std::ops::Range;

use super::error::expect_len;
use super::steps::Steps;
use super::weights::{Packing, parts, split};
use super::{AlignedVec, ArgError, Channels, Epilogue, KernelTable, Output, View, Weights, Window};

/// A block of output channels whose weights lie together.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Panel {
    /// Index of its first byte in the packed weights.
    pub weights: usize,
    /// Index of its first lane in the arrays of [`Lanes`].
    pub arrays: usize,
    /// First output channel.
    pub first: usize,
    /// Output channels in use.
    pub channels: usize,
    /// Output channels in memory: one vector or two.
    pub lanes: usize,
    /// Channels of a vector.
    pub vector: usize,
    /// Group it belongs to.
    pub group: usize,
    /// Bytes of its packed weights.
    pub bytes: usize,
    /// Whether some quad has more parts than one; see [`split`].
    pub is_split: bool,
    /// Index of its first entry in [`ConvU8::counts`], and in [`ConvU8::offsets`].
    pub counts: usize,
    pub offsets: usize,
}

impl Panel {
    /// Output channel, relative to the first, of lane `lane`.
    ///
    /// In a panel of two vectors, vector `v`, 128-bit part `l`, element `i` is channel `8 l + 4 v + i`: packing both
    /// vectors of sums to words yields channels in order.
    pub(crate) fn channel(&self, lane: usize) -> usize {
        if self.lanes == self.vector {
            return lane;
        }
        lane % self.vector / 4 * 8 + lane / self.vector * 4 + lane % 4
    }
}

/// Per-channel arrays in the order of the panels' lanes.
#[derive(Debug, Clone)]
pub(crate) struct Lanes {
    pub init: AlignedVec<i32>,
    pub scale: AlignedVec<f32>,
    pub bias: AlignedVec<f32>,
    pub mid_scale: AlignedVec<f32>,
    pub mid_offset: AlignedVec<f32>,
    pub residual_scale: AlignedVec<f32>,
    pub residual_offset: AlignedVec<f32>,
    /// Those of [`Ties`](super::ties::Ties); empty without.
    pub near: AlignedVec<f32>,
    pub mid_near: AlignedVec<f32>,
    pub spread: AlignedVec<f32>,
}

impl Lanes {
    fn new(panels: &[Panel], init: &[i32], e: &Epilogue) -> Self {
        let len = panels.last().map_or(0, |p| p.arrays + p.lanes);
        let places = || {
            panels
                .iter()
                .flat_map(|p| (0..p.lanes).map(move |lane| (p.arrays + lane, p.first + p.channel(lane))))
        };
        let reorder = |values: Option<&AlignedVec<f32>>| {
            let mut out = AlignedVec::zeroed(values.map_or(0, |_| len));
            if let Some(values) = values {
                places().for_each(|(lane, c)| out[lane] = values[c]);
            }
            out
        };
        let near = e.ties.as_ref().map(|ties| match e.is_plain() {
            true => ties.near_values(&e.bias),
            false => ties.near.clone(),
        });
        let mut start = AlignedVec::zeroed(len);
        places().for_each(|(lane, c)| start[lane] = init[c]);
        Self {
            init: start,
            scale: reorder(Some(&e.scale)),
            bias: reorder(Some(&e.bias)),
            mid_scale: reorder(e.mid.as_ref().map(|m| &m.scale)),
            mid_offset: reorder(e.mid.as_ref().map(|m| &m.offset)),
            residual_scale: reorder(e.residual.as_ref().map(|r| &r.scale)),
            residual_offset: reorder(e.residual.as_ref().map(|r| &r.offset)),
            near: reorder(near.as_ref()),
            mid_near: reorder(e.ties.as_ref().map(|t| &t.mid_near).filter(|n| !n.is_empty())),
            spread: reorder(e.ties.as_ref().map(|t| &t.spread)),
        }
    }
}

/// How the taps of a kernel row lie in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RowTaps {
    /// One run of bytes over all taps, pixels `stride` bytes apart.
    Joined {
        /// Pixel stride of the input.
        stride: usize,
    },
    /// One run per tap.
    Separate,
}

/// An integer convolution with weights packed for one instruction set.
///
/// Packed order: `[panel][ky][run in row][quad of bytes][part][lane][4]`, a run being the taps of a kernel
/// row where they are contiguous in NHWC memory, else a tap. Quads are filled with zero weights. For products of tiles
/// quads go in steps, all quads of a step for each part: `[step][part][quad][lane][4]`.
#[derive(Debug, Clone)]
pub struct ConvU8 {
    pub(crate) window: Window,
    pub(crate) channels: Channels,
    pub(crate) row_taps: RowTaps,
    /// Runs in a kernel row.
    pub(crate) runs: usize,
    /// Groups of four bytes in a run.
    pub(crate) quads: usize,
    /// Groups that are multiplied at once; `counts` are multiples of it.
    pub(crate) step: usize,
    /// Groups of a panel where none has more parts than one.
    unsplit: usize,
    pub(crate) weights: AlignedVec<i8>,
    /// `[ky][run]` of a panel: parts of quads. Panels that are not split share the first.
    pub(crate) counts: Vec<u32>,
    /// Byte offset of each part's quad in its run.
    pub(crate) offsets: Vec<u32>,
    pub(crate) lanes: Lanes,
    pub(crate) panels: Vec<Panel>,
    pub(crate) epilogue: Epilogue,
    /// Rounding may come before the clamp; see [`Epilogue::fits_i32`].
    pub(crate) round_first: bool,
}

impl ConvU8 {
    /// Packs `weights` for `table`.
    ///
    /// `input_pixel_stride` is the pixel stride of the input it will run on: rows of taps that are contiguous
    /// there become one run.
    ///
    /// # Errors
    /// [`ArgError`] for lengths that do not fit, zero points out of range, or sums that could overflow.
    pub fn new(
        table: &KernelTable,
        window: Window,
        channels: Channels,
        weights: &Weights<'_>,
        epilogue: Epilogue,
        input_pixel_stride: usize,
    ) -> Result<Self, ArgError> {
        window.check()?;
        channels.check()?;
        expect_len("epilogue channels", channels.output, epilogue.channels)?;
        if weights.data_zero_point.len() != 1 {
            expect_len(
                "data zero points of a convolution",
                1,
                weights.data_zero_point.len(),
            )?;
        }
        let group_inputs = channels.input / channels.groups;
        let group_outputs = channels.output / channels.groups;
        let [kh, kw] = window.kernel;
        let taps = window
            .taps()
            .checked_mul(group_inputs)
            .ok_or(ArgError::Overflow("weights"))?;
        let centred = weights.centre(channels.output, taps)?;

        let separate = group_inputs.div_ceil(4);
        let joined = (kw - 1)
            .checked_mul(input_pixel_stride)
            .and_then(|n| n.checked_add(group_inputs))
            .ok_or(ArgError::Overflow("weights"))?
            .div_ceil(4);
        let join = kw > 1
            && channels.groups == 1
            && window.dilation[1] == 1
            && input_pixel_stride >= group_inputs
            && joined.saturating_mul(8) <= (separate * kw).saturating_mul(9);
        let (row_taps, runs, quads) = if join {
            let stride = input_pixel_stride;
            (RowTaps::Joined { stride }, 1, joined)
        } else {
            (RowTaps::Separate, kw, separate)
        };

        let Packing {
            lanes: vector,
            pairs,
            tiles,
            ..
        } = table.packing;
        let steps = if tiles {
            Steps::tiles(quads)
        } else {
            Steps::single(quads)
        };
        let segments = kh.checked_mul(runs).ok_or(ArgError::Overflow("weights"))?;
        let unsplit = segments
            .checked_mul(steps.quads.len())
            .ok_or(ArgError::Overflow("weights"))?;
        let last = quads.saturating_mul(4);
        u32::try_from(last).map_err(|_| ArgError::Overflow("weights"))?;
        let mut conv = Self {
            window,
            channels,
            row_taps,
            runs,
            quads,
            step: steps.length,
            unsplit,
            weights: AlignedVec::zeroed(0),
            counts: vec![quads as u32; segments],
            offsets: (0..segments).flat_map(|_| (0..last as u32).step_by(4)).collect(),
            lanes: Lanes::new(&[], &[], &epilogue),
            panels: Vec::new(),
            round_first: epilogue.fits_i32(&centred.magnitude),
            epilogue,
        };
        // Where a byte of a run lies in the weights of an output channel and kernel row.
        let places: Vec<Option<usize>> = (0..runs * last)
            .map(|at| {
                let (run, byte) = (at / last, at % last);
                let (kx, ic) = match row_taps {
                    RowTaps::Joined { stride } => (byte / stride, byte % stride),
                    RowTaps::Separate => (run, byte),
                };
                (ic < group_inputs && kx < kw).then_some(ic * kh * kw + kx)
            })
            .collect();
        // Tiles share one list of quads: a step has as many parts as any weight that it multiplies.
        let per_segment = steps.quads.len() / steps.length;
        let mut least = vec![1; segments * per_segment];
        if tiles {
            let mut step_of = vec![0; taps];
            for (at, &(quad, counts)) in (0..segments).flat_map(|_| &steps.quads).enumerate() {
                let segment = at / steps.quads.len();
                let (ky, run) = (segment / runs, segment % runs);
                for place in places[run * last + quad * 4..][..4]
                    .iter()
                    .flatten()
                    .filter(|_| counts)
                {
                    step_of[place + ky * kw] = at / steps.length;
                }
            }
            for weights in centred.values.chunks_exact(taps) {
                for (&weight, &step) in weights.iter().zip(&step_of) {
                    least[step] = parts(weight).max(least[step]);
                }
            }
            conv.counts.clear();
            conv.offsets.clear();
            for parts in least.chunks_exact(per_segment) {
                conv.counts
                    .push((parts.iter().sum::<usize>() * steps.length) as u32);
                for (quads, &parts) in steps.quads.chunks_exact(steps.length).zip(parts) {
                    for _ in 0..parts {
                        conv.offsets
                            .extend(quads.iter().map(|&(quad, _)| quad as u32 * 4));
                    }
                }
            }
        }
        let mut packed: Vec<i8> = Vec::new();
        let (mut arrays, mut rest) = (0, Vec::new());
        for group in 0..channels.groups {
            let mut done = 0;
            while done < group_outputs {
                let left = group_outputs - done;
                let lanes = if left <= vector { vector } else { 2 * vector };
                let mut panel = Panel {
                    weights: packed.len(),
                    arrays,
                    first: group * group_outputs + done,
                    channels: left.min(lanes),
                    lanes,
                    vector,
                    group,
                    bytes: 0,
                    is_split: false,
                    counts: conv.counts.len(),
                    offsets: conv.offsets.len(),
                };
                let codes = &centred.values[panel.first * taps..][..panel.channels * taps];
                let whole = if tiles {
                    least.iter().all(|&parts| parts == 1)
                } else {
                    !pairs && codes.iter().all(|w| (-128..=127).contains(w))
                };
                if whole {
                    // Every quad is one part.
                    packed.resize(panel.weights + unsplit * lanes * 4, 0);
                    pack_whole(
                        &mut packed[panel.weights..],
                        &panel,
                        codes,
                        (&places, last),
                        &steps.quads,
                        [kw, segments, runs],
                    );
                    panel.bytes = packed.len() - panel.weights;
                    panel.is_split = unsplit > segments * quads;
                    (panel.counts, panel.offsets) = (0, 0);
                    conv.panels.push(panel);
                    arrays += lanes;
                    done += panel.channels;
                    continue;
                }
                for (step, quads) in (0..segments)
                    .flat_map(|_| steps.quads.chunks_exact(steps.length))
                    .enumerate()
                {
                    let segment = step / per_segment;
                    let (ky, run) = (segment / runs, segment % runs);
                    rest.clear();
                    for &(quad, counts) in quads {
                        let places = &places[run * last + quad * 4..][..4];
                        rest.extend((0..lanes).map(|lane| {
                            let oc = panel.channel(lane);
                            [0, 1, 2, 3].map(|i| match places[i] {
                                Some(at) if counts && oc < panel.channels => {
                                    centred.values[(panel.first + oc) * taps + at + ky * kw]
                                }
                                _ => 0,
                            })
                        }));
                    }
                    let start = packed.len();
                    split(&mut rest, pairs, least[step], &mut packed);
                    if !tiles {
                        let parts = (packed.len() - start) / (lanes * 4);
                        conv.offsets
                            .extend(std::iter::repeat_n(quads[0].0 as u32 * 4, parts));
                        if step % per_segment == 0 {
                            conv.counts.push(0);
                        }
                        if let Some(count) = conv.counts.last_mut() {
                            *count += parts as u32;
                        }
                    }
                }
                // What all panels share: without tiles, quads of one part.
                panel.is_split = if tiles {
                    conv.offsets.len() != segments * quads
                } else {
                    conv.offsets.len() - panel.offsets > unsplit
                };
                if tiles || !panel.is_split {
                    conv.offsets.truncate(panel.offsets);
                    conv.counts.truncate(panel.counts);
                    (panel.counts, panel.offsets) = (0, 0);
                }
                panel.bytes = packed.len() - panel.weights;
                conv.panels.push(panel);
                arrays += lanes;
                done += panel.channels;
            }
        }
        conv.weights = AlignedVec::from_slice(&packed);
        conv.lanes = Lanes::new(&conv.panels, &centred.init, &conv.epilogue);
        Ok(conv)
    }

    /// Number of blocks of output channels, the unit in which a team splits them.
    pub fn panels(&self) -> usize {
        self.panels.len()
    }

    /// First output channel of a block, if there is such a block.
    pub fn first_channel(&self, panel: usize) -> Option<usize> {
        self.panels.get(panel).map(|panel| panel.first)
    }

    /// Bytes of packed weights.
    pub fn weight_bytes(&self) -> usize {
        self.weights.len()
    }

    /// Multiplications that were added so that none can leave its range, in percent, rounded up.
    pub fn split_percent(&self) -> usize {
        let dense: usize = self.panels.iter().map(|p| self.unsplit * 4 * p.lanes).sum();
        ((self.weights.len() - dense) * 100).div_ceil(dense.max(1))
    }

    /// The epilogue.
    pub fn epilogue(&self) -> &Epilogue {
        &self.epilogue
    }
}

/// Packs a panel of which every quad is one part. `places` says where each of the `last` bytes of a run lies in the
/// weights of an output channel and kernel row; `quads` lists those of a run, and whether their weights count.
fn pack_whole(
    packed: &mut [i8],
    panel: &Panel,
    codes: &[i16],
    (places, last): (&[Option<usize>], usize),
    quads: &[(usize, bool)],
    [kw, segments, runs]: [usize; 3],
) {
    let taps = codes.len() / panel.channels;
    for lane in 0..panel.lanes {
        let oc = panel.channel(lane);
        if oc >= panel.channels {
            continue;
        }
        let codes = &codes[oc * taps..][..taps];
        for segment in 0..segments {
            let (ky, run) = (segment / runs, segment % runs);
            for (entry, &(quad, counts)) in quads.iter().enumerate() {
                let places = &places[run * last + quad * 4..][..if counts { 4 } else { 0 }];
                let at = ((segment * quads.len() + entry) * panel.lanes + lane) * 4;
                for (byte, place) in packed[at..at + 4].iter_mut().zip(places) {
                    if let Some(place) = place {
                        *byte = codes[place + ky * kw] as i8;
                    }
                }
            }
        }
    }
}

/// Part of an output: rows and, where the kernel has them, panels of channels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Band {
    /// Output rows.
    pub rows: Range<usize>,
    /// Panels of output channels.
    pub panels: Range<usize>,
}

/// Checked arguments of one run of a [`ConvU8`].
#[derive(Debug)]
pub struct ConvU8Args<'a> {
    pub(crate) conv: &'a ConvU8,
    pub(crate) input: View<'a, u8>,
    pub(crate) residual: Option<View<'a, u8>>,
    pub(crate) output: Output<'a>,
    /// For the output pixels of the band: see [`with_rests`](Self::with_rests).
    pub(crate) rests: &'a [f32],
}

impl<'a> ConvU8Args<'a> {
    /// Checks once that every read, those past the last channel included, and every write lies in its buffer.
    ///
    /// # Errors
    /// [`ArgError`] naming what does not fit.
    pub fn new(
        conv: &'a ConvU8,
        input: View<'a, u8>,
        residual: Option<View<'a, u8>>,
        output: Output<'a>,
    ) -> Result<Self, ArgError> {
        expect_len("input channels", conv.channels.input, input.layout().channels)?;
        output.check(&conv.epilogue, residual.as_ref())?;
        if let RowTaps::Joined { stride } = conv.row_taps {
            expect_len("input pixel stride", stride, input.layout().pixel_stride)?;
        }
        let (last_y, last_x) = conv.window.check_reads(input.layout(), output.layout())?;
        let group_inputs = conv.channels.input / conv.channels.groups;
        let first_x = match conv.row_taps {
            RowTaps::Joined { .. } => last_x - (conv.window.kernel[1] as isize - 1),
            RowTaps::Separate => last_x,
        };
        let l = input.layout();
        let end = last_y * l.row_pitch as isize
            + first_x * l.pixel_stride as isize
            + (conv.channels.input - group_inputs + 4 * conv.quads) as isize;
        if end > input.available() as isize {
            return Err(ArgError::OutOfBounds {
                what: "input with the slack after its last pixel",
                needed: usize::try_from(end).unwrap_or(0) + l.origin,
                available: input.buffer_len(),
            });
        }
        Ok(Self {
            conv,
            input,
            residual,
            output,
            rests: &[],
        })
    }

    /// With what the size of the data of each output pixel of the band falls short of the largest, as a share of that, row by
    /// row: fewer values are in doubt then.
    pub(crate) fn with_rests(mut self, rests: &'a [f32]) -> Self {
        self.rests = rests;
        self
    }

    /// All rows and panels.
    pub fn whole(&self) -> Band {
        Band {
            rows: 0..self.output.layout().height,
            panels: 0..self.conv.panels.len(),
        }
    }

    /// The part of `band` that exists.
    pub(crate) fn limit(&self, band: &Band) -> (Range<usize>, &'a [Panel]) {
        let height = self.output.layout().height;
        let rows = band.rows.start.min(height)..band.rows.end.min(height);
        let n = self.conv.panels.len();
        let end = band.panels.end.min(n);
        (rows, &self.conv.panels[band.panels.start.min(end)..end])
    }
}
