//! Rounding as the model's own f32 arithmetic rounds.
//!
//! A sum of integers is exact; the f32 operations that a quantized model is made of round at every step, so
//! that a value near the middle between two codes may fall on the other side. Kernels note the vectors of 16 channels in
//! which some value lies near such a [tie](super::ties); [`Literal`] evaluates those again in f32, operation by operation,
//! in the order that `docs/numerics.md` states.

mod fused;
mod portable;

pub(crate) use fused::{EXTRA_BITS, MIDDLE, TINY, fused};
pub(crate) use portable::Portable;

pub(crate) use super::ties::{Doubt, Doubts, LANES};
use super::{AlignedVec, Epilogue, Layout, View, ViewMut, Window};

/// Pixels evaluated side by side, to hide the latency of a chain of additions.
pub(crate) const SIDE: usize = 4;

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
    /// The level of `x`; NaN falls on level 0. `FMA` as for [`fused`].
    #[inline(always)]
    pub(crate) fn of<const FMA: bool>(&self, x: f32) -> f32 {
        let scaled = if self.fused {
            fused::<FMA>(x, self.scale, self.shift)
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
    fn level<const FMA: bool>(&self, x: f32, c: usize) -> f32 {
        self.channel(c).of::<FMA>(x)
    }

    /// The value of a level in channel `c`.
    #[inline(always)]
    fn value<const FMA: bool>(&self, level: f32, c: usize) -> f32 {
        fused::<FMA>(level, self.output_scale[c], self.output_low[c])
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
    /// The sum over the window, inside the image: pixel by pixel, or row by row and then the rows; the mean if it is
    /// `divided` by their count.
    Sum { by_rows: bool, divided: bool },
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

/// The f32 arithmetic of an instruction set. All give the same bits.
///
/// # Safety
/// Of all functions: the processor has the instruction set.
pub(crate) trait Arithmetic {
    /// Whether code is compiled for processors that multiply and add in one instruction.
    const FMA: bool;

    /// Adds to [`SIDE`] vectors the products of `weights`, `[term][LANES]`, and `columns`, `[term][SIDE]`, one after
    /// the other and each rounded once.
    unsafe fn chain(weights: &[f32], columns: &[f32]) -> [[f32; LANES]; SIDE];
}

/// Arguments of [`Literal::settle`].
#[derive(Debug)]
pub(crate) struct LiteralArgs<'a, 'b> {
    pub literal: &'a Literal,
    /// The data.
    pub input: &'a View<'a, u8>,
    /// The residual.
    pub operand: Option<&'a View<'a, u8>>,
    pub output: &'a mut ViewMut<'b, u8>,
    /// What is in doubt.
    pub scratch: &'a mut Scratch,
}

/// Memory that [`Literal`] works in.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    pub doubts: Doubts,
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
    ///
    /// # Safety
    /// Those of [`Arithmetic`].
    #[inline(always)]
    unsafe fn roots<A: Arithmetic>(
        &self,
        input: &View<'_, u8>,
        doubts: &[Doubt],
        columns: &mut Vec<f32>,
    ) -> [[f32; LANES]; SIDE] {
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
                    // SAFETY: the caller's contract.
                    let part = unsafe { A::chain(weights, columns) };
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
                                sums[i] = fused_by::<A>(value, weights[tap * LANES + i], sums[i]);
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
            Root::Sum { by_rows, divided } => {
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
                        *sum += of_row;
                        if divided {
                            *sum /= count.max(1) as f32;
                        }
                    }
                }
            }
        }
        sums
    }

    /// The codes of one vector, from the root's result.
    #[inline(always)]
    fn codes<const FMA: bool>(&self, mut f: [f32; LANES], c: usize, operand: &[u8; LANES]) -> [u8; LANES] {
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
                Operation::Round(levels) => each(&mut f, &|v, i| {
                    levels.value::<FMA>(levels.level::<FMA>(v, c + i), c + i)
                }),
                Operation::AddOperand(table) => each(&mut f, &|v, i| {
                    v + table.of(operand[i], (c + i).min(self.epilogue.channels - 1))
                }),
                Operation::SubtractOperand(table) => each(&mut f, &|v, i| {
                    v - table.of(operand[i], (c + i).min(self.epilogue.channels - 1))
                }),
            }
        }
        std::array::from_fn(|i| {
            let code = self.levels.level::<FMA>(f[i], c + i) as i32 as u8;
            match &self.epilogue.table {
                Some(table) => table[usize::from(code)],
                None => code,
            }
        })
    }

    /// Evaluates again what is in doubt.
    ///
    /// # Safety
    /// Those of [`Arithmetic`].
    #[inline(always)]
    pub(crate) unsafe fn settle<A: Arithmetic>(args: &mut LiteralArgs<'_, '_>) {
        let LiteralArgs {
            literal,
            input,
            operand,
            output,
            scratch,
            ..
        } = args;
        scratch.doubts.sort_unstable();
        scratch.doubts.dedup();
        scratch.counts[1] += scratch.doubts.len() as u64;
        for same in scratch.doubts.chunk_by(|a, b| a.channel == b.channel) {
            for doubts in same.chunks(SIDE) {
                // SAFETY: the caller's contract.
                let sums = unsafe { literal.roots::<A>(input, doubts, &mut scratch.columns) };
                for (sums, doubt) in sums.into_iter().zip(doubts) {
                    let c = doubt.channel as usize;
                    let used = LANES.min(literal.epilogue.channels - c);
                    let mut codes = [0; LANES];
                    if let Some(view) = operand {
                        for (i, code) in codes[..used].iter_mut().enumerate() {
                            *code = view.at(doubt.row as isize, doubt.column as isize, c + i);
                        }
                    }
                    let codes = if A::FMA {
                        literal.codes::<true>(sums, c, &codes)
                    } else {
                        literal.codes::<false>(sums, c, &codes)
                    };
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
}

/// [`fused`] as `A` has it.
#[inline(always)]
fn fused_by<A: Arithmetic>(a: f32, b: f32, c: f32) -> f32 {
    if A::FMA {
        fused::<true>(a, b, c)
    } else {
        fused::<false>(a, b, c)
    }
}
