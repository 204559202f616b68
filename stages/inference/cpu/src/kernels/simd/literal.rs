//! The arithmetic of [`Literal`](crate::kernels::literal::Literal) on vectors.

use super::Vector;
use crate::kernels::literal::{Arithmetic, LANES, Line, Portable, SIDE};

impl<V: Vector> Arithmetic for V {
    const FMA: bool = V::FUSED;

    #[inline(always)]
    unsafe fn chain(
        terms: usize,
        weights: [Line<'_>; SIDE],
        columns: [&[f32]; SIDE],
    ) -> [[f32; LANES]; SIDE] {
        let mut out = [[0.0; LANES]; SIDE];
        let mut exact = true;
        // All vectors of a layer have weights of one kind.
        let (mut codes, mut values) = ([std::ptr::null(); SIDE], [std::ptr::null(); SIDE]);
        let (mut scales, mut columns_at) = ([std::ptr::null(); SIDE], [std::ptr::null(); SIDE]);
        for side in 0..SIDE {
            columns_at[side] = columns[side][..terms].as_ptr();
            match weights[side] {
                Line::Values(line) => values[side] = line[..terms * LANES].as_ptr(),
                Line::Codes(line, scale) => {
                    (codes[side], scales[side]) = (line[..terms * LANES].as_ptr(), scale.as_ptr());
                }
            }
        }
        // SAFETY: the caller's contract; every line has `terms` vectors, every column `terms` values, as was checked.
        unsafe {
            for first in (0..LANES).step_by(V::LANES) {
                let mut in_doubt = V::zero();
                let mut acc = [V::splat_f32(0.0); SIDE];
                if matches!(weights[0], Line::Codes(..)) {
                    let mut scale = acc;
                    for side in 0..SIDE {
                        scale[side] = V::load_f32(scales[side].add(first));
                    }
                    for term in 0..terms {
                        for side in 0..SIDE {
                            let w = V::to_f32(V::load_signed(codes[side].add(term * LANES + first)));
                            let x = V::splat_f32(*columns_at[side].add(term));
                            acc[side] = V::fused(x, V::mul_f32(w, scale[side]), acc[side], &mut in_doubt);
                        }
                    }
                } else {
                    for term in 0..terms {
                        for side in 0..SIDE {
                            let w = V::load_f32(values[side].add(term * LANES + first));
                            let x = V::splat_f32(*columns_at[side].add(term));
                            acc[side] = V::fused(x, w, acc[side], &mut in_doubt);
                        }
                    }
                }
                for side in 0..SIDE {
                    V::store_f32(out[side].as_mut_ptr().add(first), V::LANES, acc[side]);
                }
                exact &= V::FUSED || !V::any(in_doubt);
            }
            if !exact {
                return Portable::chain(terms, weights, columns);
            }
        }
        out
    }
}
