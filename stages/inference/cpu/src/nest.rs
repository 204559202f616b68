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

    /// The innermost loop.
    pub fn inner(&self) -> Loop<N> {
        self.inner
    }

    /// Calls `f` with the offsets of each innermost row.
    pub fn rows(&self, mut f: impl FnMut([usize; N])) {
        if self.inner.count == 0 {
            return;
        }
        walk(&self.outer, self.offsets, &mut f);
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
