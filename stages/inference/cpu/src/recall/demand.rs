//! Which elements of each value are needed.

use super::places::{image, pixel, repeated};
use super::{Expression, Rule};

/// Memory that a request evaluates values again in.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    /// Elements in doubt.
    pub(super) doubts: Vec<u32>,
    pub(super) tables: Vec<Table>,
    /// What several elements have in common: pixels, rows.
    pub(super) keys: Vec<u64>,
    pub(super) columns: Vec<f32>,
    /// Operands of element-wise operations, and their result.
    pub(super) operands: [Vec<f32>; 3],
}

/// The elements of a value that are needed.
#[derive(Debug, Default)]
pub(super) struct Table {
    /// In logical order; those that are not needed are anything.
    pub values: Vec<f32>,
    pub wanted: Vec<u32>,
    /// A bit for each wanted element.
    marks: Vec<u64>,
}

impl Table {
    fn reset(&mut self, elements: usize) {
        if self.values.len() < elements {
            self.values.resize(elements, 0.0);
            self.marks.resize(elements.div_ceil(64), 0);
        }
    }

    fn want(&mut self, at: usize) {
        let (word, bit) = (&mut self.marks[at / 64], 1 << (at % 64));
        if *word & bit == 0 {
            *word |= bit;
            self.wanted.push(at as u32);
        }
    }

    fn forget(&mut self) {
        for &at in &self.wanted {
            self.marks[at as usize / 64] = 0;
        }
        self.wanted.clear();
    }
}

impl Memory {
    /// Asks for elements of the value `source`, and for all that they come from.
    pub(super) fn demand(&mut self, expressions: &[Expression], source: usize, doubts: &[u32]) {
        if self.tables.len() < expressions.len() {
            self.tables.resize_with(expressions.len(), Table::default);
        }
        for (table, expression) in self.tables.iter_mut().zip(expressions) {
            if !expression.in_memory() {
                table.reset(expression.shape.iter().product());
            }
        }
        if expressions[source].in_memory() {
            return;
        }
        doubts
            .iter()
            .for_each(|&at| self.tables[source].want(at as usize));
        for at in (0..=source).rev() {
            let (earlier, rest) = self.tables.split_at_mut(at);
            let mut ask = Ask {
                expressions,
                tables: earlier,
            };
            ask.inputs_of(&expressions[at], &rest[0].wanted, &mut self.keys);
        }
    }

    /// Nothing is needed any more.
    pub(super) fn forget(&mut self) {
        self.tables.iter_mut().for_each(Table::forget);
    }
}

struct Ask<'a> {
    expressions: &'a [Expression],
    tables: &'a mut [Table],
}

impl Ask<'_> {
    fn want(&mut self, of: usize, at: usize) {
        if !self.expressions[of].in_memory() {
            self.tables[of].want(at);
        }
    }

    /// What the wanted elements of an expression are computed from.
    fn inputs_of(&mut self, expression: &Expression, wanted: &[u32], keys: &mut Vec<u64>) {
        let shape = &expression.shape;
        let elements = wanted.iter().map(|&at| at as usize);
        match &expression.rule {
            Rule::Codes(..) | Rule::Real(_) | Rule::Constant(_) => (),
            Rule::Each(_, inputs) => inputs.iter().for_each(|&input| {
                self.repeated(input, shape, wanted);
            }),
            Rule::Round(input, limits, ..) => {
                for &of in [*input].iter().chain(limits) {
                    self.repeated(of, shape, wanted);
                }
            }
            Rule::Moved(input, map) => elements.for_each(|at| {
                self.want(*input, map.as_ref().map_or(at, |map| map[at] as usize));
            }),
            Rule::Joined(inputs, axis) => {
                let expressions = self.expressions;
                elements.for_each(|at| {
                    if let Some((input, at)) = part(expressions, inputs, (shape, *axis), at) {
                        self.want(input, at);
                    }
                });
            }
            Rule::Channels(input, ..) => {
                let (channels, inner) = (shape[1], shape[2..].iter().product::<usize>());
                distinct(keys, elements.map(|at| first_channel(at, channels, inner)));
                for &first in keys.iter() {
                    (0..channels).for_each(|c| self.want(*input, first as usize + c * inner));
                }
            }
            Rule::Groups(input, groups, _) => {
                distinct(keys, elements.map(|at| groups.first(at)));
                for &first in keys.iter() {
                    groups
                        .members(first as usize)
                        .for_each(|at| self.want(*input, at));
                }
            }
            Rule::Window(input, taps, _) => {
                let [channels, height, width] = image(&self.expressions[*input].shape);
                elements.for_each(|at| {
                    let [n, c, y, x] = pixel(shape, at);
                    taps.visit([height, width], [y, x], |_, y, x| {
                        self.want(*input, ((n * channels + c) * height + y) * width + x);
                    });
                });
            }
            Rule::Convolution(input, products) => {
                if self.expressions[*input].in_memory() {
                    return;
                }
                let [channels, height, width] = image(&self.expressions[*input].shape);
                // Once for all outputs of a group on a pixel.
                let outputs = products.outputs();
                distinct(
                    keys,
                    elements.map(|at| {
                        let [n, c, y, x] = pixel(shape, at);
                        let [all, rows, columns] = image(shape);
                        let group = c / outputs * outputs;
                        ((n * all + group) * rows + y) * columns + x
                    }),
                );
                for &key in keys.iter() {
                    let [n, c, y, x] = pixel(shape, key as usize);
                    let first = n * channels + c / outputs * products.inputs();
                    products.taps().visit([height, width], [y, x], |_, y, x| {
                        for input_channel in first..first + products.inputs() {
                            self.want(*input, (input_channel * height + y) * width + x);
                        }
                    });
                }
            }
            Rule::Product([a, b], geometry, _) => {
                let [rows, inner, columns] = geometry.size;
                let (left, right) = (geometry.left, geometry.right);
                let first = |at: usize, side: usize| geometry.matrices[at / columns / rows][side];
                if !self.expressions[*a].in_memory() {
                    distinct(
                        keys,
                        elements
                            .clone()
                            .map(|at| first(at, 0) + at / columns % rows * left[0]),
                    );
                    for &row in keys.iter() {
                        (0..inner).for_each(|k| self.want(*a, row as usize + k * left[1]));
                    }
                }
                if !self.expressions[*b].in_memory() {
                    distinct(keys, elements.map(|at| first(at, 1) + at % columns * right[1]));
                    for &column in keys.iter() {
                        (0..inner).for_each(|k| self.want(*b, column as usize + k * right[0]));
                    }
                }
            }
        }
    }

    fn repeated(&mut self, of: usize, shape: &[usize], wanted: &[u32]) {
        let Expression { shape: own, .. } = &self.expressions[of];
        if !self.expressions[of].in_memory() {
            for &at in wanted {
                self.tables[of].want(repeated(own, shape, at as usize));
            }
        }
    }
}

/// Sorted, each once.
pub(super) fn distinct(keys: &mut Vec<u64>, of: impl Iterator<Item = usize>) {
    keys.clear();
    keys.extend(of.map(|key| key as u64));
    keys.sort_unstable();
    keys.dedup();
}

/// Element in channel 0 of the pixel of an element.
pub(super) fn first_channel(at: usize, channels: usize, inner: usize) -> usize {
    at / inner / channels * channels * inner + at % inner
}

/// The part that an element of parts side by side along an axis lies in, and its index there.
pub(super) fn part(
    expressions: &[Expression],
    inputs: &[usize],
    (shape, axis): (&[usize], usize),
    at: usize,
) -> Option<(usize, usize)> {
    let inner: usize = shape[axis + 1..].iter().product();
    let (before, along, behind) = (at / inner / shape[axis], at / inner % shape[axis], at % inner);
    let mut start = 0;
    for &input in inputs {
        let length = expressions[input].shape[axis];
        if along < start + length {
            return Some((input, (before * length + along - start) * inner + behind));
        }
        start += length;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(shape: &[usize], rule: Rule) -> Expression {
        Expression {
            shape: shape.to_vec(),
            rule,
        }
    }

    #[test]
    fn what_several_elements_need_is_computed_once() {
        let expressions = [
            value(&[1, 2, 1, 2], Rule::Constant(vec![0.0; 4])),
            value(&[1, 2, 1, 2], Rule::Moved(0, None)),
            value(&[1, 4, 1, 2], Rule::Joined(vec![1, 1], 1)),
        ];
        let mut memory = Memory::default();
        for _ in 0..2 {
            // Channels 1 and 3 of the right pixel are both channel 1 of the part.
            memory.demand(&expressions, 2, &[3, 7]);
            assert_eq!(memory.tables[2].wanted, [3, 7]);
            assert_eq!(memory.tables[1].wanted, [3]);
            assert!(
                memory.tables[0].wanted.is_empty(),
                "what is in memory is not computed"
            );
            memory.forget();
            assert!(memory.tables.iter().all(|t| t.wanted.is_empty()));
        }
    }
}
