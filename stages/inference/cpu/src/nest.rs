//! Loop nests over strided operands: what every element-wise step and every copy runs on.

/// One loop: its length and how far each operand moves per turn, in elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Loop<const N: usize> {
    /// Number of turns.
    pub count: usize,
    /// Step of each operand.
    pub strides: [usize; N],
}

/// Nested loops over `N` operands, outermost first; operand 0 is the one written.
///
/// Loops of length 1 are dropped, loops are sorted by how far they move, and neighbours that walk all operands
/// without a gap become one, so that the innermost loop is as long and as local as it can be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Nest<const N: usize> {
    offsets: [usize; N],
    outer: Vec<Loop<N>>,
    inner: Loop<N>,
}

impl<const N: usize> Nest<N> {
    /// The nest over `shape`; `strides[k][axis]` belongs to operand `k` (0 repeats along that axis).
    pub fn new(shape: &[usize], offsets: [usize; N], strides: [&[usize]; N]) -> Self {
        let loops = (0..shape.len())
            .map(|axis| Loop {
                count: shape[axis],
                strides: std::array::from_fn(|k| strides[k][axis]),
            })
            .collect();
        Self::of_loops(offsets, loops)
    }

    /// The nest of given loops, in any order.
    pub fn of_loops(offsets: [usize; N], mut loops: Vec<Loop<N>>) -> Self {
        if loops.iter().any(|l| l.count == 0) {
            return Self {
                offsets,
                outer: Vec::new(),
                inner: Loop {
                    count: 0,
                    strides: [0; N],
                },
            };
        }
        loops.retain(|l| l.count > 1);
        loops.sort_by_key(|l| std::cmp::Reverse(l.strides.iter().sum::<usize>()));
        let mut merged: Vec<Loop<N>> = Vec::with_capacity(loops.len());
        for l in loops {
            match merged.last_mut() {
                Some(last) if (0..N).all(|k| last.strides[k] == l.strides[k] * l.count) => {
                    *last = Loop {
                        count: last.count * l.count,
                        strides: l.strides,
                    };
                }
                _ => merged.push(l),
            }
        }
        let inner = merged.pop().unwrap_or(Loop {
            count: 1,
            strides: [1; N],
        });
        Self {
            offsets,
            outer: merged,
            inner,
        }
    }

    /// The nest of given loops as they stand, outermost first.
    pub fn in_order(offsets: [usize; N], mut loops: Vec<Loop<N>>) -> Self {
        let inner = loops.pop().unwrap_or(Loop {
            count: 1,
            strides: [1; N],
        });
        Self {
            offsets,
            outer: loops,
            inner,
        }
    }

    /// Without that loop, if there is one that `is_one`; the innermost stays.
    pub fn without(&self, is_one: impl Fn(&Loop<N>) -> bool) -> Option<(Loop<N>, Self)> {
        let at = self.outer.iter().position(is_one)?;
        let mut rest = self.clone();
        Some((rest.outer.remove(at), rest))
    }

    /// The innermost loop.
    pub fn inner(&self) -> Loop<N> {
        self.inner
    }

    /// The offsets of each innermost row. A loop over them is compiled with what stands in it, for the same instruction
    /// set.
    pub fn each_row(&self) -> Rows<'_, N> {
        Rows {
            outer: &self.outer,
            at: self.offsets,
            turns: [0; MAX_LOOPS],
            done: self.inner.count == 0 || self.outer.iter().any(|l| l.count == 0),
        }
    }

    /// Calls `f` with the offsets of each innermost row.
    pub fn rows(&self, mut f: impl FnMut([usize; N])) {
        if self.inner.count == 0 {
            return;
        }
        walk(&self.outer, self.offsets, &mut f);
    }
}

/// Loops of a nest: a tensor has fewer axes.
const MAX_LOOPS: usize = 64;

/// See [`Nest::each_row`].
pub(crate) struct Rows<'a, const N: usize> {
    outer: &'a [Loop<N>],
    at: [usize; N],
    /// Finished turns of each outer loop.
    turns: [usize; MAX_LOOPS],
    done: bool,
}

impl<const N: usize> Iterator for Rows<'_, N> {
    type Item = [usize; N];

    fn next(&mut self) -> Option<[usize; N]> {
        if self.done {
            return None;
        }
        let row = self.at;
        for (l, turns) in self.outer.iter().zip(&mut self.turns).rev() {
            *turns += 1;
            if *turns < l.count {
                self.at.iter_mut().zip(l.strides).for_each(|(at, s)| *at += s);
                return Some(row);
            }
            *turns = 0;
            let whole = l.count - 1;
            self.at
                .iter_mut()
                .zip(l.strides)
                .for_each(|(at, s)| *at -= s * whole);
        }
        self.done = true;
        Some(row)
    }
}

fn walk<const N: usize>(loops: &[Loop<N>], mut at: [usize; N], f: &mut impl FnMut([usize; N])) {
    let Some((first, rest)) = loops.split_first() else {
        return f(at);
    };
    for _ in 0..first.count {
        walk(rest, at, f);
        for (at, stride) in at.iter_mut().zip(first.strides) {
            *at += stride;
        }
    }
}

/// Strides of a dense row-major tensor, in elements.
pub(crate) fn row_major(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1; shape.len()];
    for axis in (1..shape.len()).rev() {
        strides[axis - 1] = strides[axis] * shape[axis];
    }
    strides
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dense_operands_become_one_loop() {
        let shape = [2, 3, 4];
        let strides = row_major(&shape);
        let nest = Nest::new(&shape, [0, 0], [&strides, &strides]);
        assert_eq!(
            nest.inner(),
            Loop {
                count: 24,
                strides: [1, 1]
            }
        );
    }

    #[test]
    fn a_transpose_visits_every_element_once() {
        let nest = Nest::new(&[2, 3], [0, 5], [&[3, 1], &[1, 2]]);
        let mut pairs = Vec::new();
        let inner = nest.inner();
        nest.rows(|[d, s]| {
            for i in 0..inner.count {
                pairs.push((d + i * inner.strides[0], s + i * inner.strides[1]));
            }
        });
        assert_eq!(pairs, [(0, 5), (1, 7), (2, 9), (3, 6), (4, 8), (5, 10)]);
    }

    #[test]
    fn rows_are_the_same_one_by_one() {
        let shape = [2, 3, 2, 4];
        let dense = row_major(&shape);
        let nests = [
            Nest::new(&shape, [1, 2], [&dense, &[1, 16, 2, 48]]),
            Nest::new(&shape, [0, 0], [&dense, &[0, 4, 0, 1]]),
            Nest::new(&[5], [3, 0], [&[2], &[1]]),
            Nest::new(&[2, 0], [0, 0], [&[1, 2], &[1, 2]]),
        ];
        for nest in nests {
            let mut rows = Vec::new();
            nest.rows(|row| rows.push(row));
            assert_eq!(nest.each_row().collect::<Vec<_>>(), rows, "{nest:?}");
        }
    }

    #[test]
    fn an_empty_shape_is_one_element_and_an_empty_axis_none() {
        let mut rows = 0;
        Nest::<1>::new(&[], [7], [&[]]).rows(|[d]| {
            assert_eq!(d, 7);
            rows += 1;
        });
        Nest::<1>::new(&[0, 3], [0], [&[3, 1]]).rows(|_| rows += 10);
        assert_eq!(rows, 1);
    }
}
