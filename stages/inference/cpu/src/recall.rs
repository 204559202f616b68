//! Single values of a model, evaluated again in its own f32 arithmetic.
//!
//! Where a quantization reads real values that come from integer sums through operations of their own (an activation,
//! a normalization, a sum of several convolutions), the values next to ties are evaluated again from the codes that
//! the sums were taken of. This is the general way, for any operation whose elements depend on few others; kernels
//! that end in codes have a faster one ([`crate::kernels::literal`]).
//!
//! From what is in doubt back to the codes it is asked which elements of each value are needed ([`demand`]); then each is
//! evaluated once ([`evaluate`]).

mod convolution;
mod demand;
mod evaluate;
mod groups;
mod places;

use flow_model::ops::fake_quantize::{Formula, level_by};
use flow_model::{Op, Tensor};

use crate::dense::Geometry;
use crate::kernels::KernelTable;
use crate::kernels::functions::{Binary, Unary};
use crate::kernels::literal::{Products, Taps, Values};
use crate::kernels::ties::ROUNDING;
use crate::kernels::versions::{Simd, versions};
use crate::lower::IndexMap;

pub(crate) use demand::Memory;
use evaluate::Reader;
pub(crate) use groups::{Grouped, Groups};
pub(crate) use places::Offsets;

/// How a value of the model comes about.
#[derive(Debug)]
pub(crate) enum Rule {
    /// Codes in memory: leaf of that index, and axis along which they mean different values.
    Codes(usize, Values, Option<usize>),
    /// Real values in memory.
    Real(usize),
    /// Constant; it repeats along axes of length 1.
    Constant(Vec<f32>),
    /// An operation element by element, on operands that repeat along axes of length 1.
    Each(Each, Vec<usize>),
    /// FakeQuantize: the value that is quantized, its four limits, levels and formula.
    Round(usize, [usize; 4], u32, Formula),
    /// Elements of another value: in order, or each from where the map says.
    Moved(usize, Option<IndexMap>),
    /// Parts side by side along an axis.
    Joined(Vec<usize>, usize),
    /// An operation along axis 1: the value, the operation and its further inputs.
    Channels(usize, Op, Vec<Tensor>),
    /// What becomes of groups of elements of a value.
    Groups(usize, Groups, Grouped),
    /// A sum over a window of taps, per channel; see [`Pooled`].
    Window(usize, Taps, Pooled),
    /// A convolution, transposed or not, of a value.
    Convolution(usize, Products),
    /// A matrix product, and terms of a chain.
    Product([usize; 2], Geometry, usize),
}

/// An element-wise operation.
#[derive(Debug)]
pub(crate) enum Each {
    /// A function of one operand, and its parameter.
    One(Unary, f64),
    /// The value within bounds.
    Clamp(f32, f32),
    /// A function of two operands.
    Two(Binary),
    /// Any other, by the reference evaluator.
    Other(Op),
}

/// What becomes of the values in a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pooled {
    Maximum,
    /// Their mean, over those inside or over all places.
    Mean {
        inside: bool,
    },
}

/// A value of the model.
#[derive(Debug)]
pub(crate) struct Expression {
    pub shape: Vec<usize>,
    pub rule: Rule,
}

/// How the codes of a quantization are evaluated again.
#[derive(Debug)]
pub(crate) struct Recall {
    /// Each reads earlier ones.
    pub expressions: Vec<Expression>,
    /// What is quantized.
    pub source: usize,
    /// The four limits.
    pub limits: [usize; 4],
    pub levels: u32,
    pub formula: Formula,
    /// Per channel of the step what its own values are multiplied with, what is added to give levels, and the distance
    /// from a tie, in steps, within which a value is in doubt.
    pub detection: Vec<[f32; 3]>,
    /// Axis of the channels.
    pub axis: Option<usize>,
}

/// Tensors in memory: the bytes of each leaf, and where its elements lie.
pub(crate) type Leaves<'a> = (&'a [&'a [u8]], &'a [Offsets]);

/// Values that are looked at together.
const PIECE: usize = 32;

versions!(
    /// Adds to `doubts` the indices, from `first` on, of the values that lie next to a tie: of `x * scale + shift`, nearer than a
    /// margin, between the levels 0 and `last`.
    fn detect(doubts: &mut Vec<u32>, values: &[f32], first: u32, constants: [f32; 3], last: f32) = detect_any
);

#[inline(always)]
fn detect_any(
    doubts: &mut Vec<u32>,
    values: &[f32],
    first: u32,
    [scale, shift, margin]: [f32; 3],
    last: f32,
) {
    let in_doubt = |x: f32| {
        let t = x * scale + shift;
        // Far from the levels the rounding is none, and does not count.
        let off = (t - (t + ROUNDING - ROUNDING)).abs();
        u32::from((off > 0.5 - margin) & (t > -1.0) & (t < last + 1.0) | (margin >= 0.5) | t.is_nan())
    };
    for (piece, values) in values.chunks(PIECE).enumerate() {
        // Most pieces hold nothing in doubt.
        if values.iter().fold(0, |any, &x| any | in_doubt(x)) != 0 {
            let at = first + (piece * PIECE) as u32;
            let places = (at..).zip(values).filter(|(_, x)| in_doubt(**x) != 0);
            doubts.extend(places.map(|(at, _)| at));
        }
    }
}

impl Recall {
    /// Elements of what is quantized.
    pub fn elements(&self) -> usize {
        self.expressions[self.source].shape.iter().product()
    }

    /// Evaluates again what lies next to a tie among the real values `from`, and puts its codes into `to`. Returns how
    /// many there were.
    pub fn settle(
        &self,
        (from, from_at): (&[f32], &Offsets),
        (to, to_at): (&mut [u8], &Offsets),
        leaves: Leaves<'_>,
        (simd, kernels): (Simd, &KernelTable),
        memory: &mut Memory,
    ) -> usize {
        let shape = &self.expressions[self.source].shape;
        let count = self.elements();
        let inner: usize = self.axis.map_or(1, |a| shape[a + 1..].iter().product());
        let level = |at: usize| match self.axis {
            Some(axis) => at / inner.max(1) % shape[axis],
            None => 0,
        };
        let last = (self.levels - 1) as f32;
        let mut doubts = std::mem::take(&mut memory.doubts);
        doubts.clear();
        // In runs of elements that lie together, or else row by row of the last axis.
        let together = from_at.together(self.axis.map(|axis| shape.len() - 1 - axis));
        let (length, stride) = from_at.axes.first().copied().unwrap_or((1, 1));
        let varies = self.axis.is_some_and(|axis| axis + 1 == shape.len());
        if together > 1 {
            for at in (0..count).step_by(together) {
                let (first, constants) = (from_at.of(at), self.detection[level(at)]);
                let values = &from[first..first + together];
                detect(simd, &mut doubts, values, at as u32, constants, last);
            }
        } else {
            // Rows may be short: values of several are looked at together, as long as the constants are the same.
            let (mut values, mut filled, mut channel) = ([0.0; PIECE], 0, 0);
            for row in (0..count).step_by(length.max(1)) {
                let first = from_at.of(row);
                for i in 0..length {
                    let own = if varies || i == 0 { level(row + i) } else { channel };
                    if filled == PIECE || own != channel {
                        let at = (row + i - filled) as u32;
                        detect(
                            simd,
                            &mut doubts,
                            &values[..filled],
                            at,
                            self.detection[channel],
                            last,
                        );
                        filled = 0;
                    }
                    channel = own;
                    values[filled] = from[first + i * stride];
                    filled += 1;
                }
            }
            let at = (count - filled) as u32;
            detect(
                simd,
                &mut doubts,
                &values[..filled],
                at,
                self.detection[channel],
                last,
            );
        }
        let again = doubts.len();
        if again > 0 {
            memory.demand(&self.expressions, self.source, &doubts);
            let reader = Reader::new(&self.expressions, leaves, (simd, kernels));
            memory.evaluate(&reader, self.source);
            for &at in &doubts {
                let x = memory.of(&reader, self.source, at as usize);
                let [low, high, ol, oh] = self.limits.map(|l| {
                    let place = places::repeated(&self.expressions[l].shape, shape, at as usize);
                    memory.of(&reader, l, place)
                });
                // All levels mean the same where the output interval has no width: codes are 0 then.
                let code = match ol == oh {
                    true => 0.0,
                    false => level_by(self.formula, x, low, high, self.levels),
                };
                to[to_at.of(at as usize)] = code as i32 as u8;
            }
            memory.forget();
        }
        memory.doubts = doubts;
        again
    }
}
