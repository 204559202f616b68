//! Products of two activations.

use super::super::{Arithmetic, Doubt, LANES, SIDE, Values};
use super::{Memory, Sums};

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
        (doubts, used): (&[Doubt], usize),
        values: &Values,
        memory: &mut Memory,
    ) -> Sums {
        let mut sums = [[0.0_f32; LANES]; SIDE];
        let Memory { columns, weights } = memory;
        columns.clear();
        columns.resize(self.inner * SIDE, 0.0);
        weights.clear();
        weights.resize(self.inner * LANES, 0.0);
        let channel = doubts[0].channel as usize;
        for k in 0..self.inner {
            for (side, doubt) in doubts.iter().enumerate() {
                let code = left[doubt.row as usize * self.left[0] + k * self.left[1]];
                columns[k * SIDE + side] = values.of(code, 0);
            }
            for i in 0..used {
                let code = right[k * self.right[0] + (channel + i) * self.right[1]];
                weights[k * LANES + i] = self.values.of(code, 0);
            }
        }
        let blocks = weights.chunks(self.block.saturating_mul(LANES));
        for (weights, columns) in blocks.zip(columns.chunks(self.block.saturating_mul(SIDE))) {
            // SAFETY: the caller's contract.
            let part = unsafe { A::chain(weights, columns) };
            for side in 0..SIDE {
                for i in 0..LANES {
                    sums[side][i] += part[side][i];
                }
            }
        }
        sums
    }
}
