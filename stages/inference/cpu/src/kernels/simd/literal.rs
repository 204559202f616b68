//! The arithmetic of [`Literal`](crate::kernels::literal::Literal) on vectors.

use super::Vector;
use crate::kernels::literal::{Arithmetic, LANES, Portable, SIDE};

impl<V: Vector> Arithmetic for V {
    const FMA: bool = V::FUSED;

    #[inline(always)]
    unsafe fn chain(weights: &[f32], columns: &[f32]) -> [[f32; LANES]; SIDE] {
        let mut out = [[0.0; LANES]; SIDE];
        // SAFETY: the caller's contract; a term has `LANES` weights and `SIDE` columns.
        unsafe {
            let mut in_doubt = V::zero();
            // Four vectors of each side at most stay in registers.
            for first in (0..LANES).step_by(V::LANES) {
                let mut acc = [V::splat_f32(0.0); SIDE];
                for (w, x) in weights.chunks_exact(LANES).zip(columns.chunks_exact(SIDE)) {
                    let w = V::load_f32(w.as_ptr().add(first));
                    for side in 0..SIDE {
                        acc[side] = V::fused(V::splat_f32(x[side]), w, acc[side], &mut in_doubt);
                    }
                }
                for side in 0..SIDE {
                    V::store_f32(out[side].as_mut_ptr().add(first), V::LANES, acc[side]);
                }
            }
            if !V::FUSED && V::any(in_doubt) {
                return Portable::chain(weights, columns);
            }
        }
        out
    }
}
