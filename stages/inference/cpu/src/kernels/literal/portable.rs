//! The arithmetic of [`Literal`](super::Literal) in plain Rust.

use super::{Arithmetic, LANES, Line, SIDE, fused};

/// Any processor.
pub(crate) struct Portable;

impl Arithmetic for Portable {
    const FMA: bool = false;

    unsafe fn chain(
        terms: usize,
        weights: [Line<'_>; SIDE],
        columns: [&[f32]; SIDE],
    ) -> [[f32; LANES]; SIDE] {
        let mut sums = [[0.0; LANES]; SIDE];
        for ((sums, weights), column) in sums.iter_mut().zip(weights).zip(columns) {
            for (term, &x) in column[..terms].iter().enumerate() {
                for (lane, sum) in sums.iter_mut().enumerate() {
                    *sum = fused::<false>(x, weights.at(term, lane), *sum);
                }
            }
        }
        sums
    }
}
