//! Depthwise convolutions.

use super::super::super::View;
use super::super::{Arithmetic, Doubt, LANES, Lines, SIDE, fused_by};
use super::{Decode, Sums, Taps, size, vector};

/// A depthwise convolution, transposed or not.
#[derive(Debug, Clone)]
pub(crate) struct Depthwise {
    taps: Taps,
    /// Terms are taps in order.
    weights: Lines,
}

impl Depthwise {
    /// With weights `[channel][kernel row][kernel column]`, `columns` of the last. `None` if their number is another.
    pub fn new(taps: Taps, columns: usize, channels: usize, given: &[f32]) -> Option<Self> {
        let all = taps.places().len();
        if all == 0 || given.len() != all.checked_mul(channels)? {
            return None;
        }
        let order: Vec<usize> = taps.places().iter().map(|[ky, kx]| ky * columns + kx).collect();
        let weights = Lines::new(given, all, &order)?;
        Some(Self { taps, weights })
    }

    /// # Safety
    /// Those of [`Arithmetic`].
    #[inline(always)]
    pub(super) unsafe fn evaluate<A: Arithmetic>(
        &self,
        view: &View<'_, u8>,
        (doubts, channels): (&[Doubt], usize),
        decode: Decode<'_>,
    ) -> Sums {
        let mut sums = [[0.0_f32; LANES]; SIDE];
        let all = self.taps.places().len();
        for (sums, doubt) in sums.iter_mut().zip(doubts) {
            let channel = doubt.channel as usize;
            let weights = self.weights.line(channel, all, 0, all);
            let (mut part, mut chain) = ([0.0_f32; LANES], 0);
            self.taps.visit(size(view), doubt.pixel(), |tap, y, x| {
                if tap / self.taps.chain() != chain {
                    chain = tap / self.taps.chain();
                    add(sums, &mut part);
                }
                let values = vector::<A>(view, (y, x), channel, channels, decode);
                for i in 0..LANES {
                    part[i] = fused_by::<A>(values[i], weights.at(tap, i), part[i]);
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
