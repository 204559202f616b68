//! Single values of a model, evaluated again in its own f32 arithmetic.
//!
//! Where a quantization reads real values that come from integer sums through operations of their own (an activation,
//! a normalization, a sum of several convolutions), the values next to ties are evaluated again from the codes that
//! the sums were taken of. This is the general way, for any operation whose elements depend on few others; kernels
//! that end in codes have a faster one ([`crate::kernels::literal`]).

use flow_model::ops::fake_quantize::{Formula, level_by};
use flow_model::{Op, Tensor};

use crate::dense::Geometry;
use crate::kernels::literal::{Taps, Values, fused};
use crate::lower::IndexMap;
use crate::placement::Placement;

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
    Each(Op, Vec<usize>),
    /// FakeQuantize: the value that is quantized, its four limits, levels and formula.
    Round(usize, [usize; 4], u32, Formula),
    /// Elements of another value: in order, or each from where the map says.
    Moved(usize, Option<IndexMap>),
    /// Parts side by side along an axis.
    Joined(Vec<usize>, usize),
    /// An operation along axis 1: the value, the operation and its further inputs.
    Channels(usize, Op, Vec<Tensor>),
    /// A sum over a window of taps, per channel; see [`Pooled`].
    Window(usize, Taps, Pooled),
    /// A convolution, transposed or not: data, taps, `[inputs, outputs]` of a group, terms of a chain, columns of the
    /// kernel, and weights `[output][input of its group][kernel]`.
    Convolution(usize, Taps, [usize; 2], usize, usize, Vec<f32>),
    /// A matrix product, and terms of a chain.
    Product([usize; 2], Geometry, usize),
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
pub(crate) type Leaves<'a> = [(&'a [u8], &'a Placement)];

/// Elements evaluated together: bounds the memory of indices.
const TOGETHER: usize = 64;

/// Added to a level and taken away again, it rounds to whole numbers, ties to even.
const ROUNDING: f32 = 12_582_912.0;

/// Values that are looked at together.
const PIECE: usize = 32;

impl Recall {
    /// Evaluates again what lies next to a tie among the real values `from`, and puts its codes into `to`. Returns how
    /// many there were.
    pub fn settle(
        &self,
        (from, from_place): (&[f32], &Placement),
        (to, to_place): (&mut [u8], &Placement),
        leaves: &Leaves<'_>,
    ) -> usize {
        let shape = from_place.shape();
        let count: usize = shape.iter().product();
        let (from_at, to_at) = (Offsets::new(from_place), Offsets::new(to_place));
        let inner: usize = self.axis.map_or(1, |a| shape[a + 1..].iter().product());
        let level = |at: usize| match self.axis {
            Some(axis) => at / inner.max(1) % shape[axis],
            None => 0,
        };
        let last = (self.levels - 1) as f32;
        let in_doubt = |x: f32, [scale, shift, margin]: [f32; 3]| {
            let t = x * scale + shift;
            // Far from the levels the rounding is none, and does not count.
            let off = (t - (t + ROUNDING - ROUNDING)).abs();
            (off > 0.5 - margin) & (t > -1.0) & (t < last + 1.0) | (margin >= 0.5) | t.is_nan()
        };
        let mut doubts = Vec::new();
        // Row by row of the last axis; the rows of a dense tensor in pieces of which most hold nothing in doubt.
        let (length, stride) = from_at.axes.first().copied().unwrap_or((1, 1));
        let along = self.axis.is_some_and(|axis| axis + 1 == shape.len());
        for row in (0..count).step_by(length.max(1)) {
            let first = from_at.of(row);
            if stride == 1 && !along {
                let detection = self.detection[level(row)];
                for (piece, values) in from[first..first + length].chunks(PIECE).enumerate() {
                    if values.iter().fold(false, |any, &x| any | in_doubt(x, detection)) {
                        let at = row + piece * PIECE;
                        let places = values
                            .iter()
                            .enumerate()
                            .filter(|(_, x)| in_doubt(**x, detection));
                        doubts.extend(places.map(|(i, _)| (at + i) as u32));
                    }
                }
                continue;
            }
            for i in 0..length {
                if in_doubt(from[first + i * stride], self.detection[level(row + i)]) {
                    doubts.push((row + i) as u32);
                }
            }
        }
        for some in doubts.chunks(TOGETHER) {
            let x = self.values(self.source, some, leaves);
            let [low, high, ol, oh] = self.limits.map(|l| self.repeated(l, &shape, some, leaves));
            for (i, &at) in some.iter().enumerate() {
                // All levels mean the same where the output interval has no width: codes are 0 then.
                let code = match ol[i] == oh[i] {
                    true => 0.0,
                    false => level_by(self.formula, x[i], low[i], high[i], self.levels),
                };
                to[to_at.of(at as usize)] = code as i32 as u8;
            }
        }
        doubts.len()
    }

    /// Some elements of a value, by their indices in logical order.
    fn values(&self, of: usize, at: &[u32], leaves: &Leaves<'_>) -> Vec<f32> {
        let Expression { shape, rule } = &self.expressions[of];
        match rule {
            Rule::Codes(leaf, values, axis) => {
                let (bytes, place) = leaves[*leaf];
                let offsets = Offsets::new(place);
                let (inner, length) = match axis {
                    Some(axis) => (shape[axis + 1..].iter().product::<usize>(), shape[*axis]),
                    None => (1, 1),
                };
                let of = |&i: &u32| values.of(bytes[offsets.of(i as usize)], i as usize / inner % length);
                at.iter().map(of).collect()
            }
            Rule::Real(leaf) => {
                let (bytes, place) = leaves[*leaf];
                let offsets = Offsets::new(place);
                let of = |&i: &u32| {
                    let first = offsets.of(i as usize) * 4;
                    f32::from_le_bytes(std::array::from_fn(|k| bytes[first + k]))
                };
                at.iter().map(of).collect()
            }
            Rule::Constant(values) => at.iter().map(|&i| values[i as usize]).collect(),
            Rule::Each(op, inputs) => {
                let tensors: Option<Vec<Tensor>> = inputs
                    .iter()
                    .map(|&input| {
                        let values = self.repeated(input, shape, at, leaves);
                        Tensor::from_slice(&[1, at.len()], &values).ok()
                    })
                    .collect();
                let result = tensors.and_then(|t| flow_model::ops::evaluate(op, &t).ok());
                result
                    .and_then(|r| r.first().map(Tensor::to_f32))
                    .unwrap_or_default()
            }
            Rule::Round(input, limits, levels, formula) => {
                let x = self.repeated(*input, shape, at, leaves);
                let [low, high, ol, oh] = limits.map(|l| self.repeated(l, shape, at, leaves));
                let of = |i: usize| {
                    let level = level_by(*formula, x[i], low[i], high[i], *levels);
                    fused::<false>(level, (oh[i] - ol[i]) / (levels - 1) as f32, ol[i])
                };
                (0..at.len()).map(of).collect()
            }
            Rule::Moved(input, None) => self.values(*input, at, leaves),
            Rule::Moved(input, Some(map)) => {
                let from: Vec<u32> = at.iter().map(|&i| map[i as usize]).collect();
                self.values(*input, &from, leaves)
            }
            Rule::Joined(inputs, axis) => self.joined(inputs, *axis, shape, at, leaves),
            Rule::Channels(input, op, others) => self.channels(*input, op, others, shape, at, leaves),
            Rule::Window(input, taps, pooled) => {
                let of = |&i: &u32| {
                    let [n, c, y, x] = pixel(shape, i as usize);
                    let [channels, height, width] = self.image(*input);
                    let mut inside = Vec::new();
                    taps.visit([height, width], [y, x], |_, y, x| {
                        inside.push((((n * channels + c) * height + y) * width + x) as u32);
                    });
                    let values = self.values(*input, &inside, leaves);
                    match pooled {
                        Pooled::Maximum => values.into_iter().fold(f32::NEG_INFINITY, f32::max),
                        Pooled::Mean { inside } => {
                            let count = if *inside {
                                values.len().max(1)
                            } else {
                                taps.places().len()
                            };
                            values.iter().fold(0.0, |sum, v| sum + v) / count as f32
                        }
                    }
                };
                at.iter().map(of).collect()
            }
            Rule::Convolution(input, taps, [inputs, outputs], block, columns, weights) => {
                let [channels, height, width] = self.image(*input);
                let all = taps.places().len();
                let of = |&i: &u32| {
                    let [n, c, y, x] = pixel(shape, i as usize);
                    let first = n * channels + c / outputs * inputs;
                    let (mut read, mut terms) = (Vec::new(), Vec::new());
                    taps.visit([height, width], [y, x], |tap, y, x| {
                        let [ky, kx] = taps.places()[tap];
                        for input in 0..*inputs {
                            read.push((((first + input) * height + y) * width + x) as u32);
                            let weight = weights[(c * inputs + input) * all + ky * columns + kx];
                            terms.push((tap * inputs + input, weight));
                        }
                    });
                    let values = self.values(*input, &read, leaves);
                    chain(
                        terms
                            .iter()
                            .zip(values)
                            .map(|(&(term, w), v)| (term / block, v, w)),
                    )
                };
                at.iter().map(of).collect()
            }
            Rule::Product([a, b], geometry, block) => {
                let [rows, inner, columns] = geometry.size;
                let of = |&i: &u32| {
                    let (row, column) = (i as usize / columns % rows, i as usize % columns);
                    let [first_a, first_b] = geometry.matrices[i as usize / columns / rows];
                    let (left, right) = (geometry.left, geometry.right);
                    let of_a = (0..inner).map(|k| (first_a + row * left[0] + k * left[1]) as u32);
                    let of_b = (0..inner).map(|k| (first_b + k * right[0] + column * right[1]) as u32);
                    let a = self.values(*a, &of_a.collect::<Vec<_>>(), leaves);
                    let b = self.values(*b, &of_b.collect::<Vec<_>>(), leaves);
                    chain(
                        a.into_iter()
                            .zip(b)
                            .enumerate()
                            .map(|(k, (a, b))| (k / block, a, b)),
                    )
                };
                at.iter().map(of).collect()
            }
        }
    }

    /// Channels, rows and columns of an image.
    fn image(&self, of: usize) -> [usize; 3] {
        match self.expressions[of].shape[..] {
            [_, c, h, w] => [c, h, w],
            [_, c, w] => [c, 1, w],
            _ => [1, 1, 1],
        }
    }

    /// Elements of a value that repeats along axes of length 1, by their indices in `shape`.
    fn repeated(&self, of: usize, shape: &[usize], at: &[u32], leaves: &Leaves<'_>) -> Vec<f32> {
        let own = &self.expressions[of].shape;
        if own == shape {
            return self.values(of, at, leaves);
        }
        let missing = shape.len().saturating_sub(own.len());
        let index = |&at: &u32| {
            let (mut rest, mut index, mut stride) = (at as usize, 0, 1);
            for axis in (0..shape.len()).rev() {
                let i = rest % shape[axis];
                rest /= shape[axis];
                if let Some(own_axis) = axis.checked_sub(missing) {
                    index += if own[own_axis] == 1 { 0 } else { i * stride };
                    stride *= own[own_axis];
                }
            }
            index as u32
        };
        self.values(of, &at.iter().map(index).collect::<Vec<_>>(), leaves)
    }

    fn joined(
        &self,
        inputs: &[usize],
        axis: usize,
        shape: &[usize],
        at: &[u32],
        leaves: &Leaves<'_>,
    ) -> Vec<f32> {
        let inner: usize = shape[axis + 1..].iter().product();
        let mut out = vec![0.0; at.len()];
        let mut start = 0;
        for &input in inputs {
            let length = self.expressions[input].shape[axis];
            let (mut places, mut own) = (Vec::new(), Vec::new());
            for (to, &i) in at.iter().enumerate() {
                let (before, along, behind) = (
                    i as usize / inner / shape[axis],
                    i as usize / inner % shape[axis],
                    i as usize % inner,
                );
                if (start..start + length).contains(&along) {
                    places.push(to);
                    own.push(((before * length + along - start) * inner + behind) as u32);
                }
            }
            if !own.is_empty() {
                for (to, value) in places.into_iter().zip(self.values(input, &own, leaves)) {
                    out[to] = value;
                }
            }
            start += length;
        }
        out
    }

    /// The operation on the channels of each pixel asked for, as a batch of images of one pixel.
    fn channels(
        &self,
        input: usize,
        op: &Op,
        others: &[Tensor],
        shape: &[usize],
        at: &[u32],
        leaves: &Leaves<'_>,
    ) -> Vec<f32> {
        let (channels, inner) = (shape[1], shape[2..].iter().product::<usize>());
        let first = |i: usize| i / inner / channels * channels * inner + i % inner;
        let mut pixels: Vec<usize> = at.iter().map(|&i| first(i as usize)).collect();
        pixels.sort_unstable();
        pixels.dedup();
        let read: Vec<u32> = pixels
            .iter()
            .flat_map(|&p| (0..channels).map(move |c| (p + c * inner) as u32))
            .collect();
        let values = self.values(input, &read, leaves);
        let mut one = vec![1; shape.len()];
        (one[0], one[1]) = (pixels.len(), channels);
        let result = Tensor::from_slice(&one, &values).ok().and_then(|tensor| {
            let inputs = [&[tensor][..], others].concat();
            flow_model::ops::evaluate(op, &inputs).ok()
        });
        let result = result
            .and_then(|r| r.first().map(Tensor::to_f32))
            .unwrap_or_default();
        let of = |&i: &u32| {
            let pixel = pixels.binary_search(&first(i as usize)).unwrap_or(0);
            let channel = i as usize / inner % channels;
            result
                .get(pixel * channels + channel)
                .copied()
                .unwrap_or(f32::NAN)
        };
        at.iter().map(of).collect()
    }
}

/// Picture, channel, row and column of an element.
fn pixel(shape: &[usize], at: usize) -> [usize; 4] {
    let (height, width) = match *shape {
        [_, _, h, w] => (h, w),
        [_, _, w] => (1, w),
        _ => (1, 1),
    };
    [
        at / (shape[1] * height * width),
        at / (height * width) % shape[1],
        at / width % height,
        at % width,
    ]
}

/// Products added one after the other, each rounded once; each block from 0, then added to the rest.
fn chain(terms: impl Iterator<Item = (usize, f32, f32)>) -> f32 {
    let (mut sum, mut part, mut block) = (0.0_f32, 0.0_f32, 0);
    for (of, a, b) in terms {
        if of != block {
            sum += std::mem::take(&mut part);
            block = of;
        }
        part = fused::<false>(a, b, part);
    }
    sum + part
}

/// From indices in logical order to places in memory.
struct Offsets {
    first: usize,
    axes: Vec<(usize, usize)>,
}

impl Offsets {
    fn new(place: &Placement) -> Self {
        Self {
            first: place.offset(),
            axes: place.shape().into_iter().zip(place.strides()).rev().collect(),
        }
    }

    fn of(&self, at: usize) -> usize {
        let (mut rest, mut offset) = (at, self.first);
        for &(length, stride) in &self.axes {
            offset += rest % length * stride;
            rest /= length;
        }
        offset
    }
}
