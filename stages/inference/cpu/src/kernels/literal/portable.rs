//! The arithmetic of [`Literal`](super::Literal) in plain Rust.

use super::{Arithmetic, LANES, SIDE, fused};

/// Any processor.
pub(crate) struct Portable;

impl Arithmetic for Portable {
    const FMA: bool = false;

    unsafe fn chain(weights: &[f32], columns: &[f32]) -> [[f32; LANES]; SIDE] {
        let mut sums = [[0.0; LANES]; SIDE];
        for (w, x) in weights.chunks_exact(LANES).zip(columns.chunks_exact(SIDE)) {
            for (sums, &x) in sums.iter_mut().zip(x) {
                for (sum, &w) in sums.iter_mut().zip(w) {
                    *sum = fused::<false>(x, w, *sum);
                }
            }
        }
        sums
    }
}
