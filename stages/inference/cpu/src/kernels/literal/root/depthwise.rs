//! Depthwise convolutions.

use super::super::super::{AlignedVec, View};
use super::super::{Arithmetic, Doubt, LANES, SIDE, Values, fused_by};
use super::{Sums, Taps, size};

/// A depthwise convolution, transposed or not.
#[derive(Debug, Clone)]
pub(crate) struct Depthwise {
    taps: Taps,
    /// `[channel / 16][tap in order][16]`.
    weights: AlignedVec<f32>,
}

impl Depthwise {
    /// With weights `[channel][kernel row][kernel column]`, `columns` of the last. `None` if their number is another.
    pub fn new(taps: Taps, columns: usize, channels: usize, given: &[f32]) -> Option<Self> {
        let all = taps.places().len();
        if all == 0 || given.len() != all.checked_mul(channels)? {
            return None;
        }
        let mut weights = AlignedVec::zeroed(channels.next_multiple_of(LANES).checked_mul(all)?);
        for (channel, kernel) in given.chunks_exact(all).enumerate() {
            for (index, [ky, kx]) in taps.places().iter().enumerate() {
                let to = (channel / LANES * all + index) * LANES + channel % LANES;
                weights[to] = kernel[ky * columns + kx];
            }
        }
        Some(Self { taps, weights })
    }

    /// # Safety
    /// Those of [`Arithmetic`].
    #[inline(always)]
    pub(super) unsafe fn evaluate<A: Arithmetic>(
        &self,
        view: &View<'_, u8>,
        (doubts, used): (&[Doubt], usize),
        values: &Values,
    ) -> Sums {
        let mut sums = [[0.0_f32; LANES]; SIDE];
        let channel = doubts[0].channel as usize;
        let all = self.taps.places().len();
        let weights = &self.weights[channel * all..][..all * LANES];
        for (sums, doubt) in sums.iter_mut().zip(doubts) {
            let (mut part, mut chain) = ([0.0_f32; LANES], 0);
            self.taps.visit(size(view), doubt.pixel(), |tap, y, x| {
                if tap / self.taps.chain() != chain {
                    chain = tap / self.taps.chain();
                    add(sums, &mut part);
                }
                for i in 0..used {
                    let value = values.of(view.at(y as isize, x as isize, channel + i), channel + i);
                    part[i] = fused_by::<A>(value, weights[tap * LANES + i], part[i]);
                }
            });
            add(sums, &mut part);
        }
        sums
    }
}

/// Adds a chain and begins the next.
#[inline(always)]
fn add(sums: &mut [f32; LANES], part: &mut [f32; LANES]) {
    for (sum, part) in sums.iter_mut().zip(part) {
        *sum += std::mem::take(part);
    }
}
