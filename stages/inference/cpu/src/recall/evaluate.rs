//! The values of elements, from those that they come from.

use flow_model::Tensor;
use flow_model::ops::fake_quantize::level_by;

use super::demand::{Memory, Table, distinct, first_channel, part};
use super::places::{Offsets, image, pixel, repeated};
use super::{Each, Expression, Grouped, Groups, Leaves, Pooled, Rule};
use crate::kernels::KernelTable;
use crate::kernels::literal::fused;
use crate::kernels::versions::Simd;

/// What elements are read from, besides the values computed so far.
pub(super) struct Reader<'a> {
    pub expressions: &'a [Expression],
    leaves: &'a [&'a [u8]],
    offsets: &'a [Offsets],
    pub kernels: &'a KernelTable,
    simd: Simd,
}

impl Expression {
    /// Whether its elements can be read without computing any.
    pub(super) fn in_memory(&self) -> bool {
        matches!(self.rule, Rule::Codes(..) | Rule::Real(_) | Rule::Constant(_))
    }
}

impl<'a> Reader<'a> {
    pub fn new(
        expressions: &'a [Expression],
        (leaves, offsets): Leaves<'a>,
        (simd, kernels): (Simd, &'a KernelTable),
    ) -> Self {
        Self {
            expressions,
            leaves,
            offsets,
            kernels,
            simd,
        }
    }

    /// An element of a value in memory, or of one that has been computed.
    pub fn get(&self, tables: &[Table], of: usize, at: usize) -> f32 {
        let Expression { shape, rule } = &self.expressions[of];
        match rule {
            Rule::Codes(leaf, values, axis) => {
                let channel = axis.map_or(0, |axis| {
                    at / shape[axis + 1..].iter().product::<usize>() % shape[axis]
                });
                values.of(self.leaves[*leaf][self.offsets[*leaf].of(at)], channel)
            }
            Rule::Real(leaf) => {
                let first = self.offsets[*leaf].of(at) * 4;
                f32::from_le_bytes(std::array::from_fn(|k| self.leaves[*leaf][first + k]))
            }
            Rule::Constant(values) => values[at],
            _ => tables[of].values[at],
        }
    }

    /// Elements of neighbouring channels of an image, from the one at `at` on.
    pub fn channels(&self, tables: &[Table], of: usize, at: usize, to: &mut [f32]) {
        let Expression { shape, rule } = &self.expressions[of];
        let inner: usize = shape[2..].iter().product();
        match rule {
            Rule::Codes(leaf, values, axis) if matches!(axis, None | Some(1)) => {
                let offsets = &self.offsets[*leaf];
                let stride = offsets.axes[shape.len() - 2].1;
                let codes = &self.leaves[*leaf][offsets.of(at)..];
                let first = axis.map_or(0, |_| at / inner % shape[1]);
                match <&[f32; 256]>::try_from(&values.0[..]) {
                    Ok(table) if stride == 1 => {
                        for (to, &code) in to.iter_mut().zip(codes) {
                            *to = table[usize::from(code)];
                        }
                    }
                    _ => {
                        for (c, (to, &code)) in to.iter_mut().zip(codes.iter().step_by(stride)).enumerate() {
                            *to = values.of(code, first + c);
                        }
                    }
                }
            }
            Rule::Codes(..) | Rule::Real(_) | Rule::Constant(_) => {
                for (c, to) in to.iter_mut().enumerate() {
                    *to = self.get(tables, of, at + c * inner);
                }
            }
            _ => {
                let values = tables[of].values[at..].iter().step_by(inner);
                to.iter_mut().zip(values).for_each(|(to, &value)| *to = value);
            }
        }
    }
}

impl Memory {
    /// An element that has been asked for.
    pub(super) fn of(&self, reader: &Reader<'_>, of: usize, at: usize) -> f32 {
        reader.get(&self.tables, of, at)
    }

    /// Computes all that has been asked for, up to the value `source`.
    pub(super) fn evaluate(&mut self, reader: &Reader<'_>, source: usize) {
        for (at, expression) in reader.expressions[..=source].iter().enumerate() {
            let (earlier, rest) = self.tables.split_at_mut(at);
            let Table { values, wanted, .. } = &mut rest[0];
            if wanted.is_empty() {
                continue;
            }
            match &expression.rule {
                Rule::Convolution(input, products) => {
                    let columns = (&mut self.keys, &mut self.columns);
                    let convolution = super::convolution::Convolution {
                        reader,
                        tables: earlier,
                        input: *input,
                        products,
                        shape: &expression.shape,
                    };
                    convolution.evaluate(wanted, values, columns);
                }
                rule => {
                    let now = Now {
                        reader,
                        tables: earlier,
                        shape: &expression.shape,
                    };
                    if let Rule::Each(each, inputs) = rule {
                        now.each((each, inputs), wanted, values, &mut self.operands);
                        continue;
                    }
                    if let Rule::Groups(input, groups, grouped) = rule {
                        let [group, given, _] = &mut self.operands;
                        let (keys, group) = (&mut self.keys, (group, given));
                        now.groups((*input, groups, grouped), wanted, values, keys, group);
                        continue;
                    }
                    now.evaluate(&expression.rule, wanted, values, &mut self.keys);
                }
            }
        }
    }
}

/// One value of which elements are computed.
struct Now<'a> {
    reader: &'a Reader<'a>,
    tables: &'a [Table],
    shape: &'a [usize],
}

impl Now<'_> {
    fn get(&self, of: usize, at: usize) -> f32 {
        self.reader.get(self.tables, of, at)
    }

    /// The element of a value that repeats along axes of length 1.
    fn repeated(&self, of: usize, at: usize) -> f32 {
        let own = &self.reader.expressions[of].shape;
        self.get(of, repeated(own, self.shape, at))
    }

    fn each(
        &self,
        (each, inputs): (&Each, &[usize]),
        wanted: &[u32],
        values: &mut [f32],
        [a, b, result]: &mut [Vec<f32>; 3],
    ) {
        let read = |of: usize, to: &mut Vec<f32>| {
            to.clear();
            to.extend(wanted.iter().map(|&at| self.repeated(of, at as usize)));
        };
        if let Some(&first) = inputs.first() {
            read(first, a);
        }
        if let Some(&second) = inputs.get(1) {
            read(second, b);
        }
        result.clear();
        result.resize(wanted.len(), f32::NAN);
        let simd = self.reader.simd;
        match each {
            Each::One(function, parameter) => function(simd, result, a, *parameter),
            Each::Clamp(min, max) => {
                for (to, &x) in result.iter_mut().zip(a.iter()) {
                    let x = if x < *min { *min } else { x };
                    *to = if x > *max { *max } else { x };
                }
            }
            Each::Two(function) => function(simd, result, a, b),
            Each::Other(op) => {
                let tensors: Option<Vec<Tensor>> = inputs
                    .iter()
                    .map(|&input| {
                        read(input, a);
                        Tensor::from_slice(&[1, wanted.len()], a).ok()
                    })
                    .collect();
                let found = tensors.and_then(|t| flow_model::ops::evaluate(op, &t).ok());
                if let Some(found) = found.as_ref().and_then(|found| found.first()) {
                    result.clear();
                    result.extend(found.to_f32());
                }
            }
        }
        for (&at, &value) in wanted.iter().zip(result.iter()) {
            values[at as usize] = value;
        }
    }

    /// The groups of the wanted elements as a whole.
    fn groups(
        &self,
        (input, groups, grouped): (usize, &Groups, &Grouped),
        wanted: &[u32],
        values: &mut [f32],
        keys: &mut Vec<u64>,
        (group, given): (&mut Vec<f32>, &mut Vec<f32>),
    ) {
        distinct(keys, wanted.iter().map(|&at| groups.first(at as usize)));
        for &first in keys.iter() {
            group.clear();
            group.extend(groups.members(first as usize).map(|at| self.get(input, at)));
            given.resize(group.len(), 0.0);
            grouped.apply(self.reader.simd, group, given);
            for (at, &value) in groups.members(first as usize).zip(group.iter()) {
                values[at] = value;
            }
        }
    }

    fn evaluate(&self, rule: &Rule, wanted: &[u32], values: &mut [f32], keys: &mut Vec<u64>) {
        let elements = wanted.iter().map(|&at| at as usize);
        match rule {
            Rule::Round(input, limits, levels, formula) => elements.for_each(|at| {
                let [low, high, ol, oh] = limits.map(|l| self.repeated(l, at));
                let level = level_by(*formula, self.repeated(*input, at), low, high, *levels);
                values[at] = fused::<false>(level, (oh - ol) / (levels - 1) as f32, ol);
            }),
            Rule::Moved(input, map) => elements.for_each(|at| {
                values[at] = self.get(*input, map.as_ref().map_or(at, |map| map[at] as usize));
            }),
            Rule::Joined(inputs, axis) => elements.for_each(|at| {
                let found = part(self.reader.expressions, inputs, (self.shape, *axis), at);
                values[at] = found.map_or(f32::NAN, |(input, at)| self.get(input, at));
            }),
            Rule::Channels(input, op, others) => {
                // The pixels asked for, as a batch of images of one pixel.
                let (channels, inner) = (self.shape[1], self.shape[2..].iter().product::<usize>());
                distinct(
                    keys,
                    elements.clone().map(|at| first_channel(at, channels, inner)),
                );
                let mut read = vec![0.0; keys.len() * channels];
                for (&first, to) in keys.iter().zip(read.chunks_exact_mut(channels)) {
                    self.reader.channels(self.tables, *input, first as usize, to);
                }
                let mut one = vec![1; self.shape.len()];
                (one[0], one[1]) = (keys.len(), channels);
                let result = Tensor::from_slice(&one, &read).ok().and_then(|tensor| {
                    let inputs = [&[tensor][..], others].concat();
                    flow_model::ops::evaluate(op, &inputs).ok()
                });
                let result = result.and_then(|r| r.first().map(Tensor::to_f32));
                let result = result.unwrap_or_default();
                for at in elements {
                    let pixel = keys.binary_search(&(first_channel(at, channels, inner) as u64));
                    let place = pixel.unwrap_or(0) * channels + at / inner % channels;
                    values[at] = result.get(place).copied().unwrap_or(f32::NAN);
                }
            }
            Rule::Window(input, taps, pooled) => {
                let [channels, height, width] = image(&self.reader.expressions[*input].shape);
                elements.for_each(|at| {
                    let [n, c, y, x] = pixel(self.shape, at);
                    let (mut count, mut sum, mut most) = (0, 0.0, f32::NEG_INFINITY);
                    taps.visit([height, width], [y, x], |_, y, x| {
                        let value = self.get(*input, ((n * channels + c) * height + y) * width + x);
                        (count, sum, most) = (count + 1, sum + value, most.max(value));
                    });
                    values[at] = match pooled {
                        Pooled::Maximum => most,
                        Pooled::Mean { inside: true } => sum / count.max(1) as f32,
                        Pooled::Mean { inside: false } => sum / taps.places().len() as f32,
                    };
                });
            }
            Rule::Product([a, b], geometry, block) => {
                let [rows, inner, columns] = geometry.size;
                let (left, right) = (geometry.left, geometry.right);
                elements.for_each(|at| {
                    let (row, column) = (at / columns % rows, at % columns);
                    let [first_a, first_b] = geometry.matrices[at / columns / rows];
                    values[at] = chain((0..inner).map(|k| {
                        let a = self.get(*a, first_a + row * left[0] + k * left[1]);
                        let b = self.get(*b, first_b + k * right[0] + column * right[1]);
                        (k / block, a, b)
                    }));
                });
            }
            Rule::Codes(..)
            | Rule::Real(_)
            | Rule::Constant(_)
            | Rule::Convolution(..)
            | Rule::Groups(..)
            | Rule::Each(..) => {}
        }
    }
}

/// Products added one after the other, each rounded once; each block from 0, then added to the rest.
pub(super) fn chain(terms: impl Iterator<Item = (usize, f32, f32)>) -> f32 {
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
