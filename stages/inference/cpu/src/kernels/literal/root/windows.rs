//! Sums and means over windows.

use super::super::super::View;
use super::super::{Arithmetic, Doubt, LANES, SIDE};
use super::{Decode, Sums, Taps, size, vector};

/// What a sum is divided by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Count {
    /// Nothing.
    One,
    /// The pixels of the window inside the image.
    Inside,
    /// All taps, those in the padding too.
    All,
}

/// The sum over a window, inside the image: pixel by pixel, or row by row and then the rows.
#[derive(Debug, Clone)]
pub(crate) struct Windows {
    pub taps: Taps,
    pub by_rows: bool,
    pub divided_by: Count,
}

impl Windows {
    #[inline(always)]
    pub(super) fn evaluate<A: Arithmetic>(
        &self,
        view: &View<'_, u8>,
        (doubts, channels): (&[Doubt], usize),
        decode: Decode<'_>,
    ) -> Sums {
        let mut sums = [[0.0_f32; LANES]; SIDE];
        for (sums, doubt) in sums.iter_mut().zip(doubts) {
            let channel = doubt.channel as usize;
            let (mut count, mut row) = (0_usize, None);
            let mut of_row = [0.0_f32; LANES];
            self.taps.visit(size(view), doubt.pixel(), |_, y, x| {
                count += 1;
                if self.by_rows && row != Some(y) {
                    sums.iter_mut()
                        .zip(&mut of_row)
                        .for_each(|(s, r)| *s += std::mem::take(r));
                    row = Some(y);
                }
                let to = if self.by_rows { &mut of_row } else { &mut *sums };
                let values = vector::<A>(view, (y, x), channel, channels, decode);
                to.iter_mut().zip(values).for_each(|(sum, value)| *sum += value);
            });
            let count = match self.divided_by {
                Count::One => 1,
                Count::Inside => count.max(1),
                Count::All => self.taps.places().len(),
            };
            for (sum, of_row) in sums.iter_mut().zip(of_row) {
                *sum = (*sum + of_row) / count as f32;
            }
        }
        sums
    }
}
