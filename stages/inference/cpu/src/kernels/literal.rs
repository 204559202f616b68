//! Rounding as the model's own f32 arithmetic rounds.
//!
//! A sum of integers is exact; the f32 operations that a quantized model is made of round at every step, so
//! that a value near the middle between two codes may fall on the other side. [`Literal`] finishes exact sums as
//! an [`Epilogue`] does, marks vectors of 16 channels in which some value lies within `margin` of such a tie, and
//! evaluates those again in f32, operation by operation, in the order that `docs/numerics.md` states.

use super::{AlignedVec, Epilogue, Layout, View, ViewMut, Window};

/// Channels evaluated together.
pub(crate) const LANES: usize = 16;

/// Pixels evaluated side by side, to hide the latency of a chain of additions.
const SIDE: usize = 4;

/// A FakeQuantize, per channel and padded to whole vectors.
#[derive(Debug, Clone)]
pub(crate) struct Levels {
    /// Whether `x * scale + shift` is rounded once.
    pub fused: bool,
    /// Index of the last level.
    pub last: f32,
    /// The smaller input limit: level 0 at and below it.
    pub least: AlignedVec<f32>,
    /// The larger input limit: the last level above it.
    pub most: AlignedVec<f32>,
    pub scale: AlignedVec<f32>,
    pub shift: AlignedVec<f32>,
    pub output_scale: AlignedVec<f32>,
    pub output_low: AlignedVec<f32>,
}

/// The input side of a FakeQuantize in one channel.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Level {
    pub fused: bool,
    pub last: f32,
    pub least: f32,
    pub most: f32,
    pub scale: f32,
    pub shift: f32,
}

impl Level {
    /// The level of `x`; NaN falls on level 0.
    #[inline(always)]
    pub(crate) fn of(&self, x: f32) -> f32 {
        let scaled = if self.fused {
            x.mul_add(self.scale, self.shift)
        } else {
            x * self.scale + self.shift
        };
        let level = scaled.round_ties_even();
        let level = if level > 0.0 { level } else { 0.0 };
        let level = if level < self.last { level } else { self.last };
        let level = if x > self.most { self.last } else { level };
        if x <= self.least { 0.0 } else { level }
    }
}

impl Levels {
    /// The same for one channel.
    pub(crate) fn channel(&self, c: usize) -> Level {
        Level {
            fused: self.fused,
            last: self.last,
            least: self.least[c],
            most: self.most[c],
            scale: self.scale[c],
            shift: self.shift[c],
        }
    }

    /// The level of `x` in channel `c`.
    #[inline(always)]
    fn level(&self, x: f32, c: usize) -> f32 {
        self.channel(c).of(x)
    }

    /// The value of a level in channel `c`.
    #[inline(always)]
    fn value(&self, level: f32, c: usize) -> f32 {
        level.mul_add(self.output_scale[c], self.output_low[c])
    }
}

/// What stored codes mean: the values of 256 codes for all channels, or for each channel.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Values(pub Vec<f32>);

impl Values {
    /// Channels with values of their own; 1 if all have the same.
    pub(crate) fn channels(&self) -> usize {
        self.0.len() / 256
    }

    /// The value of a code in channel `c`.
    #[inline(always)]
    fn of(&self, code: u8, c: usize) -> f32 {
        let first = if self.0.len() == 256 { 0 } else { c * 256 };
        self.0[first + usize::from(code)]
    }
}

/// An operation of the model between a sum and the last FakeQuantize.
#[derive(Debug, Clone)]
pub(crate) enum Operation {
    Add(AlignedVec<f32>),
    Subtract(AlignedVec<f32>),
    Multiply(AlignedVec<f32>),
    Divide(AlignedVec<f32>),
    Relu,
    Clamp(f32, f32),
    Round(Levels),
    /// Adds the value of the second operand's code.
    AddOperand(Values),
    /// Subtracts it.
    SubtractOperand(Values),
}

/// What is evaluated before the operations.
#[derive(Debug, Clone)]
pub(crate) enum Root {
    /// Convolution with all input channels; `block` of them are summed apart before they are added.
    Dense { inputs: usize, block: usize },
    /// Depthwise convolution.
    Depthwise,
    /// The value of the code itself.
    Identity,
    /// The mean over the window, inside the image: summed pixel by pixel, or row by row and then the rows.
    Mean { by_rows: bool },
}

/// How codes come about, to the last bit.
#[derive(Debug, Clone)]
pub(crate) struct Literal {
    pub root: Root,
    pub window: Window,
    /// `[channel / 16][tap][input][16]`.
    pub weights: AlignedVec<f32>,
    /// What stored codes of the data mean.
    pub values: Values,
    pub operations: Vec<Operation>,
    pub levels: Levels,
    /// How exact sums are finished; with its table.
    pub epilogue: Epilogue,
    /// Distance from a tie, in codes, within which the first rounding is in doubt; per channel, padded.
    pub margin: AlignedVec<f32>,
    /// The same for the last rounding.
    pub last_margin: AlignedVec<f32>,
}

/// Codes of `rows` of the output from `sums`, f32 of `stride` per pixel, as [`Epilogue`] finishes them; notes
/// vectors in doubt in `doubts` as (first channel, row, column).
#[inline(always)]
#[allow(clippy::too_many_arguments, reason = "one loop of `Literal::run`")]
fn finish(
    literal: &Literal,
    sums: &[f32],
    stride: usize,
    first_row: usize,
    rows: usize,
    residual: Option<&View<'_, u8>>,
    output: &mut ViewMut<'_, u8>,
    doubts: &mut Vec<Doubt>,
) {
    let e = &literal.epilogue;
    let (width, channels) = (output.layout().width, output.layout().channels);
    for y in 0..rows {
        for x in 0..width {
            let pixel = &sums[(y * width + x) * stride..][..stride];
            for (block, sums) in pixel.chunks_exact(LANES).enumerate() {
                let c = block * LANES;
                let used = LANES.min(channels - c);
                let array = |a: &AlignedVec<f32>| -> [f32; LANES] {
                    let mut v = [0.0; LANES];
                    v.copy_from_slice(&a[c..c + LANES]);
                    v
                };
                let mut f = [0.0; LANES];
                f.copy_from_slice(sums);
                let mut doubt = [false; LANES];
                if let Some(mid) = &e.mid {
                    let (scale, offset, margin) =
                        (array(&mid.scale), array(&mid.offset), array(&literal.margin));
                    for i in 0..LANES {
                        let rounded = f[i].round_ties_even();
                        doubt[i] |= (f[i] - rounded).abs() > 0.5 - margin[i]
                            && f[i] > mid.low - 1.0
                            && f[i] < mid.high + 1.0;
                        f[i] = super::epilogue::clamp(f[i], mid.low, mid.high).round_ties_even() * scale[i]
                            + offset[i];
                    }
                }
                if let (Some(r), Some(view)) = (&e.residual, residual) {
                    let (scale, offset) = (array(&r.scale), array(&r.offset));
                    let mut codes = [0_u8; LANES];
                    for (i, code) in codes[..used].iter_mut().enumerate() {
                        *code = view.at((first_row + y) as isize, x as isize, c + i);
                    }
                    for i in 0..LANES {
                        f[i] += f32::from(codes[i]) * scale[i] + offset[i];
                    }
                }
                let (low, high, margin) = (array(&e.low), array(&e.high), array(&literal.last_margin));
                let mut codes = [0_u8; LANES];
                for i in 0..LANES {
                    let rounded = f[i].round_ties_even();
                    doubt[i] |= (f[i] - rounded).abs() > 0.5 - margin[i]
                        && f[i] > low[i] - margin[i]
                        && f[i] < high[i] + margin[i];
                    codes[i] = super::epilogue::clamp(f[i], low[i], high[i]).round_ties_even() as i32 as u8;
                }
                if let Some(table) = &e.table {
                    codes.iter_mut().for_each(|q| *q = table[usize::from(*q)]);
                }
                // SAFETY: pixel and channels lie in the output, whose view was checked.
                unsafe {
                    let to = output.pixel(first_row + y, x).add(c);
                    std::ptr::copy_nonoverlapping(codes.as_ptr(), to, used);
                }
                if doubt[..used].iter().any(|&d| d) {
                    doubts.push(Doubt {
                        channel: c as u32,
                        row: (first_row + y) as u32,
                        column: x as u32,
                    });
                }
            }
        }
    }
}

/// [`finish`] and [`finish_avx512`].
type Finish =
    fn(&Literal, &[f32], usize, usize, usize, Option<&View<'_, u8>>, &mut ViewMut<'_, u8>, &mut Vec<Doubt>);

/// [`finish`] with 512-bit instructions.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
#[allow(clippy::too_many_arguments, reason = "as `finish`")]
fn finish_avx512(
    literal: &Literal,
    sums: &[f32],
    stride: usize,
    first_row: usize,
    rows: usize,
    residual: Option<&View<'_, u8>>,
    output: &mut ViewMut<'_, u8>,
    doubts: &mut Vec<Doubt>,
) {
    use core::arch::x86_64::*;
    let e = &literal.epilogue;
    let (width, channels) = (output.layout().width, output.layout().channels);
    let half = _mm512_set1_ps(0.5);
    for y in 0..rows {
        for x in 0..width {
            let pixel = &sums[(y * width + x) * stride..][..stride];
            let row = first_row + y;
            let codes_at = residual.map_or(std::ptr::null(), |view| {
                let l = view.layout();
                view.origin().wrapping_add(row * l.row_pitch + x * l.pixel_stride)
            });
            let to = output.pixel(row, x);
            for (block, sums) in pixel.chunks_exact(LANES).enumerate() {
                let c = block * LANES;
                let used = LANES.min(channels - c);
                let mask: __mmask16 = if used == LANES { u16::MAX } else { (1 << used) - 1 };
                // SAFETY: 16 sums; per-channel arrays are padded by a block; pixels lie in views that were
                // checked and are accessed under the mask.
                unsafe {
                    let array = |a: &AlignedVec<f32>| _mm512_loadu_ps(a.as_ptr().add(c));
                    let mut f = _mm512_loadu_ps(sums.as_ptr());
                    let mut doubt: __mmask16 = 0;
                    if let Some(mid) = &e.mid {
                        let (low, high) = (_mm512_set1_ps(mid.low), _mm512_set1_ps(mid.high));
                        let one = _mm512_set1_ps(1.0);
                        let off = _mm512_abs_ps(_mm512_sub_ps(f, _mm512_roundscale_ps::<8>(f)));
                        let near = _mm512_sub_ps(half, array(&literal.margin));
                        doubt |= _mm512_cmp_ps_mask::<_CMP_GT_OQ>(off, near)
                            & _mm512_cmp_ps_mask::<_CMP_GT_OQ>(f, _mm512_sub_ps(low, one))
                            & _mm512_cmp_ps_mask::<_CMP_LT_OQ>(f, _mm512_add_ps(high, one));
                        f = _mm512_roundscale_ps::<8>(_mm512_min_ps(_mm512_max_ps(f, low), high));
                        f = _mm512_add_ps(_mm512_mul_ps(f, array(&mid.scale)), array(&mid.offset));
                    }
                    if let Some(r) = &e.residual {
                        let codes = _mm_maskz_loadu_epi8(mask, codes_at.add(c).cast());
                        let codes = _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(codes));
                        let r = _mm512_add_ps(_mm512_mul_ps(codes, array(&r.scale)), array(&r.offset));
                        f = _mm512_add_ps(f, r);
                    }
                    let (low, high, margin) = (array(&e.low), array(&e.high), array(&literal.last_margin));
                    let off = _mm512_abs_ps(_mm512_sub_ps(f, _mm512_roundscale_ps::<8>(f)));
                    doubt |= _mm512_cmp_ps_mask::<_CMP_GT_OQ>(off, _mm512_sub_ps(half, margin))
                        & _mm512_cmp_ps_mask::<_CMP_GT_OQ>(f, _mm512_sub_ps(low, margin))
                        & _mm512_cmp_ps_mask::<_CMP_LT_OQ>(f, _mm512_add_ps(high, margin));
                    let f = _mm512_min_ps(_mm512_max_ps(f, low), high);
                    let codes = _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(f));
                    _mm_mask_storeu_epi8(to.add(c).cast(), mask, codes);
                    if let Some(table) = &e.table {
                        for i in c..c + used {
                            *to.add(i) = table[usize::from(*to.add(i))];
                        }
                    }
                    if doubt & mask != 0 {
                        doubts.push(Doubt {
                            channel: c as u32,
                            row: row as u32,
                            column: x as u32,
                        });
                    }
                }
            }
        }
    }
}

/// A vector to evaluate again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Doubt {
    channel: u32,
    row: u32,
    column: u32,
}

/// Memory that [`Literal`] works in.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    pub sums: Vec<f32>,
    pub doubts: Vec<Doubt>,
    columns: Vec<f32>,
    /// Vectors finished and vectors evaluated again.
    pub counts: [u64; 2],
}

/// Taps of the window over output pixel `(row, column)` that lie inside the image: index and place.
#[inline(always)]
fn taps(
    window: &Window,
    input: &Layout,
    row: usize,
    column: usize,
    mut tap: impl FnMut(usize, isize, isize),
) {
    for ky in 0..window.kernel[0] {
        let y = (row * window.stride[0] + ky * window.dilation[0]) as isize - window.pad_begin[0] as isize;
        if y < 0 || y >= input.height as isize {
            continue;
        }
        for kx in 0..window.kernel[1] {
            let x =
                (column * window.stride[1] + kx * window.dilation[1]) as isize - window.pad_begin[1] as isize;
            if x >= 0 && x < input.width as isize {
                tap(ky * window.kernel[1] + kx, y, x);
            }
        }
    }
}

impl Literal {
    /// The f32 results of the root for up to [`SIDE`] vectors of the same channels.
    #[inline(always)]
    fn roots(&self, input: &View<'_, u8>, doubts: &[Doubt], columns: &mut Vec<f32>) -> [[f32; LANES]; SIDE] {
        let mut sums = [[0.0_f32; LANES]; SIDE];
        let channel = doubts[0].channel as usize;
        let used = LANES.min(self.epilogue.channels - channel);
        let layout = *input.layout();
        let all = self.window.taps();
        match self.root {
            Root::Dense { inputs, block } => {
                let length = all * inputs;
                let weights = &self.weights[channel * length..][..length * LANES];
                columns.clear();
                columns.resize(length * SIDE, 0.0);
                for (side, doubt) in doubts.iter().enumerate() {
                    taps(
                        &self.window,
                        &layout,
                        doubt.row as usize,
                        doubt.column as usize,
                        |tap, y, x| {
                            for ic in 0..inputs {
                                let code = input.at(y, x, ic);
                                columns[(tap * inputs + ic) * SIDE + side] = self.values.of(code, ic);
                            }
                        },
                    );
                }
                let blocks = weights.chunks(block.saturating_mul(LANES));
                for (weights, columns) in blocks.zip(columns.chunks(block.saturating_mul(SIDE))) {
                    let mut part = [[0.0_f32; LANES]; SIDE];
                    for (w, x) in weights.chunks_exact(LANES).zip(columns.chunks_exact(SIDE)) {
                        for side in 0..SIDE {
                            for i in 0..LANES {
                                part[side][i] = x[side].mul_add(w[i], part[side][i]);
                            }
                        }
                    }
                    for side in 0..SIDE {
                        for i in 0..LANES {
                            sums[side][i] += part[side][i];
                        }
                    }
                }
            }
            Root::Depthwise => {
                let weights = &self.weights[channel * all..][..all * LANES];
                for (sums, doubt) in sums.iter_mut().zip(doubts) {
                    taps(
                        &self.window,
                        &layout,
                        doubt.row as usize,
                        doubt.column as usize,
                        |tap, y, x| {
                            for i in 0..used {
                                let value = self.values.of(input.at(y, x, channel + i), channel + i);
                                sums[i] = value.mul_add(weights[tap * LANES + i], sums[i]);
                            }
                        },
                    );
                }
            }
            Root::Identity => {
                for (sums, doubt) in sums.iter_mut().zip(doubts) {
                    for (i, sum) in sums[..used].iter_mut().enumerate() {
                        let code = input.at(doubt.row as isize, doubt.column as isize, channel + i);
                        *sum = self.values.of(code, channel + i);
                    }
                }
            }
            Root::Mean { by_rows } => {
                for (sums, doubt) in sums.iter_mut().zip(doubts) {
                    let (mut count, mut row) = (0_u32, None);
                    let mut of_row = [0.0_f32; LANES];
                    taps(
                        &self.window,
                        &layout,
                        doubt.row as usize,
                        doubt.column as usize,
                        |_, y, x| {
                            count += 1;
                            if by_rows && row != Some(y) {
                                sums.iter_mut()
                                    .zip(&mut of_row)
                                    .for_each(|(s, r)| *s += std::mem::take(r));
                                row = Some(y);
                            }
                            let to = if by_rows { &mut of_row } else { &mut *sums };
                            for (i, sum) in to[..used].iter_mut().enumerate() {
                                *sum += self.values.of(input.at(y, x, channel + i), channel + i);
                            }
                        },
                    );
                    for (sum, of_row) in sums.iter_mut().zip(of_row) {
                        *sum = (*sum + of_row) / count.max(1) as f32;
                    }
                }
            }
        }
        sums
    }

    /// The codes of one vector, from the root's result.
    #[inline(always)]
    fn codes(&self, mut f: [f32; LANES], c: usize, operand: &[u8; LANES]) -> [u8; LANES] {
        let each = |f: &mut [f32; LANES], g: &dyn Fn(f32, usize) -> f32| {
            f.iter_mut().enumerate().for_each(|(i, v)| *v = g(*v, i));
        };
        for operation in &self.operations {
            match operation {
                Operation::Add(a) => each(&mut f, &|v, i| v + a[c + i]),
                Operation::Subtract(a) => each(&mut f, &|v, i| v - a[c + i]),
                Operation::Multiply(a) => each(&mut f, &|v, i| v * a[c + i]),
                Operation::Divide(a) => each(&mut f, &|v, i| v / a[c + i]),
                Operation::Relu => each(&mut f, &|v, _| if v < 0.0 { 0.0 } else { v }),
                Operation::Clamp(low, high) => each(&mut f, &|v, _| super::epilogue::clamp(v, *low, *high)),
                Operation::Round(levels) => each(&mut f, &|v, i| levels.value(levels.level(v, c + i), c + i)),
                Operation::AddOperand(table) => each(&mut f, &|v, i| {
                    v + table.of(operand[i], (c + i).min(self.epilogue.channels - 1))
                }),
                Operation::SubtractOperand(table) => each(&mut f, &|v, i| {
                    v - table.of(operand[i], (c + i).min(self.epilogue.channels - 1))
                }),
            }
        }
        std::array::from_fn(|i| {
            let code = self.levels.level(f[i], c + i) as i32 as u8;
            match &self.epilogue.table {
                Some(table) => table[usize::from(code)],
                None => code,
            }
        })
    }

    #[inline(always)]
    fn settle(
        &self,
        input: &View<'_, u8>,
        operand: Option<&View<'_, u8>>,
        output: &mut ViewMut<'_, u8>,
        scratch: &mut Scratch,
    ) {
        scratch.doubts.sort_unstable();
        for same in scratch.doubts.chunk_by(|a, b| a.channel == b.channel) {
            for doubts in same.chunks(SIDE) {
                let sums = self.roots(input, doubts, &mut scratch.columns);
                for (sums, doubt) in sums.into_iter().zip(doubts) {
                    let c = doubt.channel as usize;
                    let used = LANES.min(self.epilogue.channels - c);
                    let mut codes = [0; LANES];
                    if let Some(view) = operand {
                        for (i, code) in codes[..used].iter_mut().enumerate() {
                            *code = view.at(doubt.row as isize, doubt.column as isize, c + i);
                        }
                    }
                    let codes = self.codes(sums, c, &codes);
                    // SAFETY: the doubt was noted for a pixel and channels of this output.
                    unsafe {
                        let to = output.pixel(doubt.row as usize, doubt.column as usize).add(c);
                        std::ptr::copy_nonoverlapping(codes.as_ptr(), to, used);
                    }
                }
            }
        }
        scratch.doubts.clear();
    }

    /// Finishes `rows` rows of `output` from row `first_row` on: `scratch.sums` holds their sums, scaled and
    /// shifted into codes, `stride` (a multiple of 16) per pixel. Vectors in doubt are evaluated again after the
    /// last row, many side by side.
    pub(crate) fn run(
        &self,
        input: &View<'_, u8>,
        operand: Option<&View<'_, u8>>,
        output: &mut ViewMut<'_, u8>,
        [first_row, rows]: [usize; 2],
        stride: usize,
        scratch: &mut Scratch,
    ) {
        #[cfg(target_arch = "x86_64")]
        if super::Isa::Avx512Bw.is_supported() {
            // SAFETY: the processor has the features.
            return unsafe { self.run_avx512(input, operand, output, [first_row, rows], stride, scratch) };
        }
        self.run_here(input, operand, output, [first_row, rows], stride, scratch, finish);
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512vl,avx512dq")]
    fn run_avx512(
        &self,
        input: &View<'_, u8>,
        operand: Option<&View<'_, u8>>,
        output: &mut ViewMut<'_, u8>,
        rows: [usize; 2],
        stride: usize,
        scratch: &mut Scratch,
    ) {
        let finish: Finish = |literal, sums, stride, first_row, rows, residual, output, doubts| {
            finish_avx512(literal, sums, stride, first_row, rows, residual, output, doubts);
        };
        self.run_here(input, operand, output, rows, stride, scratch, finish);
    }

    #[inline(always)]
    #[allow(clippy::too_many_arguments, reason = "`run` and a function")]
    fn run_here(
        &self,
        input: &View<'_, u8>,
        operand: Option<&View<'_, u8>>,
        output: &mut ViewMut<'_, u8>,
        [first_row, rows]: [usize; 2],
        stride: usize,
        scratch: &mut Scratch,
        finish: Finish,
    ) {
        let mut doubts = std::mem::take(&mut scratch.doubts);
        finish(
            self,
            &scratch.sums,
            stride,
            first_row,
            rows,
            operand,
            output,
            &mut doubts,
        );
        scratch.counts[0] += (rows * output.layout().width * stride / LANES) as u64;
        scratch.doubts = doubts;
        if first_row + rows == output.layout().height {
            scratch.counts[1] += scratch.doubts.len() as u64;
            self.settle(input, operand, output, scratch);
        }
    }
}
