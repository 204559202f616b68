//! Products of two activations.

use super::super::{Arithmetic, Doubt, LANES, Line, SIDE, Values};
use super::{Decode, Memory, Sums};

/// A product of two matrices of codes. The row of a doubt is the row of the product, its channel the column.
#[derive(Debug, Clone)]
pub(crate) struct Matrices {
    /// Terms of a sum.
    pub inner: usize,
    /// Terms that are summed apart before they are added to the rest.
    pub block: usize,
    /// Distances of rows and columns in the first factor.
    pub left: [usize; 2],
    /// In the second.
    pub right: [usize; 2],
    /// What codes of the second factor mean.
    pub values: Values,
}

impl Matrices {
    /// # Safety
    /// Those of [`Arithmetic`].
    #[inline(always)]
    pub(super) unsafe fn evaluate<A: Arithmetic>(
        &self,
        [left, right]: [&[u8]; 2],
        (doubts, channels): (&[Doubt], usize),
        decode: Decode<'_>,
        memory: &mut Memory,
    ) -> Sums {
        let mut sums = [[0.0_f32; LANES]; SIDE];
        let Memory { columns, weights, .. } = memory;
        columns.clear();
        columns.resize(self.inner * SIDE, 0.0);
        weights.clear();
        weights.resize(self.inner * LANES * SIDE, 0.0);
        for (side, doubt) in doubts.iter().enumerate() {
            let channel = doubt.channel as usize;
            let column = &mut columns[side * self.inner..][..self.inner];
            let line = &mut weights[side * self.inner * LANES..][..self.inner * LANES];
            for (k, (value, line)) in column.iter_mut().zip(line.chunks_exact_mut(LANES)).enumerate() {
                let code = left[doubt.row as usize * self.left[0] + k * self.left[1]];
                decode.all::<A>(&[code], 0, std::slice::from_mut(value));
                for (i, weight) in line[..LANES.min(channels - channel)].iter_mut().enumerate() {
                    let code = right[k * self.right[0] + (channel + i) * self.right[1]];
                    *weight = self.values.of(code, 0);
                }
            }
        }
        let mut start = 0;
        while start < self.inner {
            let terms = self.block.min(self.inner - start);
            let lines = std::array::from_fn(|side| {
                Line::Values(&weights[(side * self.inner + start) * LANES..][..terms * LANES])
            });
            let parts = std::array::from_fn(|side| &columns[side * self.inner + start..][..terms]);
            // SAFETY: the caller's contract.
            let part = unsafe { A::chain(terms, lines, parts) };
            for (sums, part) in sums.iter_mut().zip(part) {
                sums.iter_mut().zip(part).for_each(|(sum, part)| *sum += part);
            }
            start += terms;
        }
        sums
    }
}
