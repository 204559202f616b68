//! Sums of products with constant weights.

use super::super::super::{AlignedVec, View};
use super::super::{Arithmetic, Doubt, LANES, SIDE, Values};
use super::{Sums, Taps, size};

/// A convolution, a transposed convolution or a matrix product.
#[derive(Debug, Clone)]
pub(crate) struct Products {
    taps: Taps,
    /// Input channels of a group.
    inputs: usize,
    /// Output channels of a group.
    outputs: usize,
    /// Terms that are summed apart before they are added to the rest.
    block: usize,
    /// `[channel / 16][tap in order][input][16]`.
    weights: AlignedVec<f32>,
}

impl Products {
    /// With weights `[output channel][input of its group][kernel row][kernel column]`; `block` terms are summed
    /// apart. `None` if their number is another.
    pub fn new(
        taps: Taps,
        columns: usize,
        [inputs, outputs, channels]: [usize; 3],
        block: usize,
        given: &[f32],
    ) -> Option<Self> {
        let all = taps.places().len();
        let length = all.checked_mul(inputs)?;
        if outputs == 0 || length == 0 || given.len() != length.checked_mul(channels)? {
            return None;
        }
        let mut weights = AlignedVec::zeroed(channels.next_multiple_of(LANES).checked_mul(length)?);
        for (channel, kernel) in given.chunks_exact(length).enumerate() {
            let (vector, lane) = (channel / LANES, channel % LANES);
            for (index, [ky, kx]) in taps.places().iter().enumerate() {
                for input in 0..inputs {
                    let to = ((vector * all + index) * inputs + input) * LANES + lane;
                    weights[to] = kernel[input * all + ky * columns + kx];
                }
            }
        }
        Some(Self {
            block: block.min(taps.chain().saturating_mul(inputs)),
            taps,
            inputs,
            outputs,
            weights,
        })
    }

    /// # Safety
    /// Those of [`Arithmetic`].
    #[inline(always)]
    pub(super) unsafe fn evaluate<A: Arithmetic>(
        &self,
        view: &View<'_, u8>,
        (doubts, used): (&[Doubt], usize),
        values: &Values,
        columns: &mut Vec<f32>,
    ) -> Sums {
        let mut sums = [[0.0_f32; LANES]; SIDE];
        let channel = doubts[0].channel as usize;
        let length = self.taps.places().len() * self.inputs;
        let weights = &self.weights[channel * length..][..length * LANES];
        // A vector may reach over several groups: each has columns of its own, and gives its own lanes.
        for group in channel / self.outputs..=(channel + used - 1) / self.outputs {
            let first = group * self.inputs;
            columns.clear();
            columns.resize(length * SIDE, 0.0);
            for (side, doubt) in doubts.iter().enumerate() {
                self.taps.visit(size(view), doubt.pixel(), |tap, y, x| {
                    for input in 0..self.inputs {
                        let value = values.of(view.at(y as isize, x as isize, first + input), first + input);
                        columns[(tap * self.inputs + input) * SIDE + side] = value;
                    }
                });
            }
            let lanes = (group * self.outputs).saturating_sub(channel)
                ..((group + 1) * self.outputs - channel).min(LANES);
            let blocks = weights.chunks(self.block.saturating_mul(LANES));
            for (weights, columns) in blocks.zip(columns.chunks(self.block.saturating_mul(SIDE))) {
                // SAFETY: the caller's contract.
                let part = unsafe { A::chain(weights, columns) };
                for side in 0..SIDE {
                    for i in lanes.clone() {
                        sums[side][i] += part[side][i];
                    }
                }
            }
        }
        sums
    }
}
