//! Rounding as the model's own f32 arithmetic rounds.
//!
//! A sum of integers is exact; the f32 operations that a quantized model is made of round at every step, so
//! that a value near the middle between two codes may fall on the other side. Kernels note the vectors of 16 channels in
//! which some value lies near such a [tie](super::ties); [`Literal`] evaluates those again in f32, operation by operation,
//! in the order that `docs/numerics.md` states.

mod fused;
mod lines;
mod portable;
mod root;
mod size;

pub(crate) use fused::{EXTRA_BITS, MIDDLE, TINY, fused};
pub(crate) use lines::{Line, Lines, QUAD};
pub(crate) use portable::Portable;
pub(crate) use root::{Count, Data, Depthwise, Matrices, Products, Root, Taps, Windows};
use root::{Decode, Memory};
pub(crate) use size::{RestsArgs, Size};

use super::ties::unite;
pub(crate) use super::ties::{Doubt, Doubts, LANES, Refined};
use super::{AlignedVec, View, ViewMut};

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

    /// The levels of values of those channels.
    #[inline(always)]
    fn levels<const FMA: bool>(&self, x: [f32; LANES], at: &Places) -> [f32; LANES] {
        let (least, most) = (at.pick(&self.least), at.pick(&self.most));
        let (scale, shift) = (at.pick(&self.scale), at.pick(&self.shift));
        let mut out = [0.0; LANES];
        for i in 0..LANES {
            let level = Level {
                fused: self.fused,
                last: self.last,
                least: least[i],
                most: most[i],
                scale: scale[i],
                shift: shift[i],
            };
            out[i] = level.of::<FMA>(x[i]);
        }
        out
    }

    /// The values of levels of those channels.
    #[inline(always)]
    fn values<const FMA: bool>(&self, level: [f32; LANES], at: &Places) -> [f32; LANES] {
        let (scale, low) = (at.pick(&self.output_scale), at.pick(&self.output_low));
        let mut out = [0.0; LANES];
        for i in 0..LANES {
            out[i] = fused::<FMA>(level[i], scale[i], low[i]);
        }
        out
    }
}

/// The channels of [`LANES`] values.
#[derive(Debug, Clone, Copy)]
enum Places {
    /// Neighbours, from this one on.
    From(usize),
    Each([usize; LANES]),
}

impl Places {
    /// What is said of them, in values padded to whole vectors.
    #[inline(always)]
    fn pick(&self, values: &[f32]) -> [f32; LANES] {
        match self {
            Self::From(c) => values[*c..].first_chunk().copied().unwrap_or([0.0; LANES]),
            Self::Each(channels) => channels.map(|c| values[c]),
        }
    }

    #[inline(always)]
    fn at(&self, lane: usize) -> usize {
        match self {
            Self::From(c) => c + lane,
            Self::Each(channels) => channels[lane],
        }
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

    /// `[z, scale, low]` where every code means `fma(code - z, scale, low)`.
    pub(crate) fn affine(&self) -> Option<[f32; 3]> {
        let [table] = self.0.as_chunks::<256>().0 else {
            return None;
        };
        let near = |scale: f32| [scale, scale.next_up(), scale.next_down()];
        [0, 1].into_iter().find_map(|z| {
            let low = table[z];
            let whole = (table[255] - low) / (255 - z) as f32;
            let step = table[z + 1] - low;
            near(step).into_iter().chain(near(whole)).find_map(|scale| {
                let means = |code: usize| (code as f32 - z as f32).mul_add(scale, low);
                (0..256)
                    .all(|code| means(code).to_bits() == table[code].to_bits())
                    .then_some([z as f32, scale, low])
            })
        })
    }

    /// The value of a code in channel `c`.
    #[inline(always)]
    pub(crate) fn of(&self, code: u8, c: usize) -> f32 {
        let first = if self.0.len() == 256 { 0 } else { c * 256 };
        self.0[first + usize::from(code)]
    }
}

/// An operation of the model between a sum and the last FakeQuantize.
#[derive(Debug, Clone)]
pub(crate) enum Operation {
    Add(AlignedVec<f32>),
    Subtract(AlignedVec<f32>),
    /// The constant less the value.
    SubtractFrom(AlignedVec<f32>),
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

/// How codes come about, to the last bit.
#[derive(Debug, Clone)]
pub(crate) struct Literal {
    pub root: Root,
    /// What stored codes of the data mean.
    pub values: Values,
    /// That of [`Values::affine`].
    pub affine: Option<[f32; 3]>,
    pub operations: Vec<Operation>,
    pub levels: Levels,
    /// Channels of the output.
    pub channels: usize,
    /// From levels to codes, where a table stands behind the last rounding.
    pub table: Option<Box<[u8; 256]>>,
    /// Distance from a tie, in codes, within which the first rounding is in doubt; per channel, padded.
    pub margin: AlignedVec<f32>,
    /// The same for the last rounding.
    pub last_margin: AlignedVec<f32>,
    /// What is known better of the first rounding, where it is.
    pub refined: Option<Refined>,
    /// How the size of the data of sums of products is found; unknown for other roots.
    pub size: Option<Size>,
}

/// The f32 arithmetic of an instruction set. All give the same bits.
///
/// # Safety
/// Of all functions: the processor has the instruction set.
pub(crate) trait Arithmetic {
    /// Whether code is compiled for processors that multiply and add in one instruction.
    const FMA: bool;

    /// For [`SIDE`] vectors each the sum of the products of its weights and its column, `terms` of both, one after the
    /// other and each rounded once.
    unsafe fn chain(terms: usize, weights: [Line<'_>; SIDE], columns: [&[f32]; SIDE])
    -> [[f32; LANES]; SIDE];

    /// Goes on with a sum in each lane, each of its own data and weights, one term after the other and each rounded once.
    /// Only for arithmetic that has the instruction ([`FMA`](Self::FMA)).
    unsafe fn of_codes(sums: &mut [f32; LANES], coded: &Coded<'_>);

    /// The sum of `(code - zero)^2`, at most `u32::MAX`; `zero` is a code.
    unsafe fn squares(codes: &[u8], zero: i16) -> u32;
}

/// Terms of [`LANES`] sums.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Coded<'a> {
    pub terms: usize,
    /// Codes of the data, four terms to a word.
    pub data: &'a [[[u8; QUAD]; LANES]],
    /// What they mean: that of [`Values::affine`].
    pub affine: [f32; 3],
    /// Codes of the weights.
    pub weights: &'a [[[i8; QUAD]; LANES]],
    /// What is multiplied to them.
    pub scale: &'a [f32; LANES],
}

/// [`Arithmetic::chain`] of a processor's instruction set.
pub(crate) type Chain = fn(&mut [[f32; LANES]; SIDE], usize, [Line<'_>; SIDE], [&[f32]; SIDE]);

/// Arguments of [`Literal::settle`].
#[derive(Debug)]
pub(crate) struct LiteralArgs<'a, 'b> {
    pub literal: &'a Literal,
    /// The data.
    pub input: Data<'a>,
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
    memory: Memory,
    /// See [`RestsArgs`].
    pub rests: Vec<f32>,
    pub squares: Vec<u32>,
    /// Vectors finished and vectors evaluated again.
    pub counts: [u64; 2],
}

impl Literal {
    /// [`Arithmetic::chain`] into memory of the caller's.
    ///
    /// # Safety
    /// Those of [`Arithmetic`].
    #[inline(always)]
    pub(crate) unsafe fn chain<A: Arithmetic>(
        to: &mut [[f32; LANES]; SIDE],
        terms: usize,
        weights: [Line<'_>; SIDE],
        columns: [&[f32]; SIDE],
    ) {
        // SAFETY: the caller's contract.
        *to = unsafe { A::chain(terms, weights, columns) };
    }

    /// The codes of values of those channels, from the root's results.
    #[inline(always)]
    fn codes<const FMA: bool>(&self, mut f: [f32; LANES], at: &Places, operand: &[u8; LANES]) -> [u8; LANES] {
        macro_rules! each {
            (|$v:ident, $i:ident| $body:expr) => {
                for $i in 0..LANES {
                    let $v = f[$i];
                    f[$i] = $body;
                }
            };
        }
        let array = |values: &AlignedVec<f32>| at.pick(values);
        let last = self.channels - 1;
        for operation in &self.operations {
            match operation {
                Operation::Add(a) => {
                    let a = array(a);
                    each!(|v, i| v + a[i]);
                }
                Operation::Subtract(a) => {
                    let a = array(a);
                    each!(|v, i| v - a[i]);
                }
                Operation::SubtractFrom(a) => {
                    let a = array(a);
                    each!(|v, i| a[i] - v);
                }
                Operation::Multiply(a) => {
                    let a = array(a);
                    each!(|v, i| v * a[i]);
                }
                Operation::Divide(a) => {
                    let a = array(a);
                    each!(|v, i| v / a[i]);
                }
                Operation::Relu => each!(|v, i| if v < 0.0 { 0.0 } else { v }),
                Operation::Clamp(low, high) => each!(|v, i| super::epilogue::clamp(v, *low, *high)),
                Operation::Round(levels) => {
                    f = levels.values::<FMA>(levels.levels::<FMA>(f, at), at);
                }
                Operation::AddOperand(table) => {
                    each!(|v, i| v + table.of(operand[i], at.at(i).min(last)));
                }
                Operation::SubtractOperand(table) => {
                    each!(|v, i| v - table.of(operand[i], at.at(i).min(last)));
                }
            }
        }
        let codes = self.levels.levels::<FMA>(f, at).map(|level| level as i32 as u8);
        match &self.table {
            Some(table) => codes.map(|code| table[usize::from(code)]),
            None => codes,
        }
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
        let decode = match literal.affine {
            Some(affine) if A::FMA => Decode::Affine(affine),
            _ => Decode::Table(&literal.values),
        };
        let memory = &mut scratch.memory;
        if let (Root::Products(products), Data::Image(view)) = (&literal.root, *input) {
            for doubts in scratch.doubts.chunks(LANES) {
                // SAFETY: the caller's contract.
                let sums = unsafe { products.evaluate::<A>(view, doubts, (decode, &literal.values), memory) };
                let (mut channels, mut operands) = ([0; LANES], [0; LANES]);
                for (lane, doubt) in doubts.iter().enumerate() {
                    channels[lane] = doubt.channel as usize;
                    if let Some(view) = operand {
                        let [y, x] = doubt.pixel();
                        operands[lane] = view.pixel(y, x)[channels[lane]];
                    }
                }
                let at = Places::Each(channels);
                let codes = if A::FMA {
                    literal.codes::<true>(sums, &at, &operands)
                } else {
                    literal.codes::<false>(sums, &at, &operands)
                };
                for ((doubt, channel), code) in doubts.iter().zip(channels).zip(codes) {
                    // SAFETY: the doubt was noted for a pixel and a channel of this output.
                    unsafe {
                        *output
                            .pixel(doubt.row as usize, doubt.column as usize)
                            .add(channel) = code
                    };
                }
            }
            scratch.counts[1] += scratch.doubts.len() as u64;
            scratch.doubts.clear();
            return;
        }
        unite(&mut scratch.doubts);
        scratch.counts[1] += scratch.doubts.len() as u64;
        let channels = literal.channels;
        for doubts in scratch.doubts.chunks(SIDE) {
            // SAFETY: the caller's contract.
            let sums = unsafe {
                literal
                    .root
                    .evaluate::<A>(*input, (doubts, channels), decode, memory)
            };
            for (sums, doubt) in sums.into_iter().zip(doubts) {
                let c = doubt.channel as usize;
                let used = LANES.min(channels - c);
                let mut codes = [0; LANES];
                if let Some(view) = operand {
                    let [y, x] = doubt.pixel();
                    codes[..used].copy_from_slice(&view.pixel(y, x)[c..c + used]);
                }
                let at = Places::From(c);
                let codes = if A::FMA {
                    literal.codes::<true>(sums, &at, &codes)
                } else {
                    literal.codes::<false>(sums, &at, &codes)
                };
                // SAFETY: the doubt was noted for a pixel and channels of this output.
                unsafe {
                    let to = output.pixel(doubt.row as usize, doubt.column as usize).add(c);
                    std::ptr::copy_nonoverlapping(codes.as_ptr(), to, used);
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
