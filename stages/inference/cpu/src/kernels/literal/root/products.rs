//! Sums of products with constant weights.

use super::super::super::View;
use super::super::{Arithmetic, Doubt, LANES, Lines, SIDE};
use super::{Decode, Sums, Taps, size};

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
    /// Terms are taps in order, in them inputs.
    weights: Lines,
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
        let order: Vec<usize> = taps
            .places()
            .iter()
            .flat_map(|&[ky, kx]| (0..inputs).map(move |input| input * all + ky * columns + kx))
            .collect();
        Some(Self {
            block: block.min(taps.chain().saturating_mul(inputs)),
            taps,
            inputs,
            outputs,
            weights: Lines::new(given, length, &order)?,
        })
    }

    /// Terms of a sum.
    pub fn length(&self) -> usize {
        self.taps.places().len() * self.inputs
    }

    /// In the order of the sum.
    pub fn taps(&self) -> &Taps {
        &self.taps
    }

    /// Input channels of a group.
    pub fn inputs(&self) -> usize {
        self.inputs
    }

    /// Output channels of a group.
    pub fn outputs(&self) -> usize {
        self.outputs
    }

    /// Terms that are summed apart before they are added to the rest.
    pub fn block(&self) -> usize {
        self.block
    }

    /// Terms are taps in order, in them inputs.
    pub fn weights(&self) -> &Lines {
        &self.weights
    }

    /// For vectors of any channels.
    ///
    /// # Safety
    /// Those of [`Arithmetic`].
    #[inline(always)]
    pub(super) unsafe fn evaluate<A: Arithmetic>(
        &self,
        view: &View<'_, u8>,
        (doubts, channels): (&[Doubt], usize),
        decode: Decode<'_>,
        columns: &mut Vec<f32>,
    ) -> Sums {
        let mut sums = [[0.0_f32; LANES]; SIDE];
        let length = self.length();
        columns.resize(length * SIDE, 0.0);
        // A vector may reach over several groups: each has a column of its own, and gives its own lanes.
        let reach = |doubt: &Doubt| {
            let channel = doubt.channel as usize;
            let used = LANES.min(channels - channel);
            (channel + used - 1) / self.outputs - channel / self.outputs
        };
        for step in 0..=doubts.iter().map(reach).max().unwrap_or(0) {
            let group = |doubt: &Doubt| doubt.channel as usize / self.outputs + step;
            for (column, doubt) in columns.chunks_exact_mut(length).zip(doubts) {
                // Taps in the padding add nothing.
                column.fill(0.0);
                let first = group(doubt) * self.inputs;
                if first >= view.layout().channels {
                    continue;
                }
                self.taps.visit(size(view), doubt.pixel(), |tap, y, x| {
                    let codes = &view.pixel(y, x)[first..first + self.inputs];
                    decode.all::<A>(codes, first, &mut column[tap * self.inputs..][..self.inputs]);
                });
            }
            let mut start = 0;
            while start < length {
                let terms = self.block.min(length - start);
                let of = |side: usize| doubts[side.min(doubts.len() - 1)].channel as usize;
                let lines = std::array::from_fn(|side| self.weights.line(of(side), length, start, terms));
                let parts = std::array::from_fn(|side| &columns[side * length + start..][..terms]);
                // SAFETY: the caller's contract.
                let part = unsafe { A::chain(terms, lines, parts) };
                for ((sums, part), doubt) in sums.iter_mut().zip(&part).zip(doubts) {
                    let (channel, group) = (doubt.channel as usize, group(doubt));
                    if self.outputs.is_multiple_of(LANES) || self.outputs >= channels {
                        sums.iter_mut().zip(part).for_each(|(sum, part)| *sum += part);
                        continue;
                    }
                    let from = (group * self.outputs).saturating_sub(channel);
                    let to = ((group + 1) * self.outputs).saturating_sub(channel).min(LANES);
                    for i in from..to {
                        sums[i] += part[i];
                    }
                }
                start += terms;
            }
        }
        sums
    }
}
