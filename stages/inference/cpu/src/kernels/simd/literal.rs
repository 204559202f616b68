//! The arithmetic of [`Literal`](crate::kernels::literal::Literal) on vectors.

use super::{Vector, unroll};
use crate::kernels::literal::{Arithmetic, Coded, LANES, Line, Portable, QUAD, SIDE};

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
        // All vectors of a layer have weights of one kind, which begin at the same term.
        let (mut codes, mut values) = ([std::ptr::null::<i8>(); SIDE], [std::ptr::null(); SIDE]);
        let (mut scales, mut columns_at) = ([std::ptr::null(); SIDE], [std::ptr::null(); SIDE]);
        let mut skipped = 0;
        for side in 0..SIDE {
            columns_at[side] = columns[side][..terms].as_ptr();
            match weights[side] {
                Line::Values(line) => values[side] = line[..terms * LANES].as_ptr(),
                Line::Codes { quads, skip, scale } => {
                    skipped = skip;
                    let quads = &quads[..(skip + terms).div_ceil(QUAD)];
                    (codes[side], scales[side]) = (quads.as_ptr().cast(), scale.as_ptr());
                }
            }
        }
        // SAFETY: the caller's contract; every line has `terms` vectors, every column `terms` values, as was checked.
        unsafe {
            for first in (0..LANES).step_by(V::LANES) {
                let mut in_doubt = V::zero();
                let mut acc = [V::splat_f32(0.0); SIDE];
                if matches!(weights[0], Line::Codes { .. }) {
                    let mut scale = acc;
                    for side in 0..SIDE {
                        scale[side] = V::load_f32(scales[side].add(first));
                    }
                    for quad in 0..(skipped + terms).div_ceil(QUAD) {
                        let mut words = [V::zero(); SIDE];
                        for side in 0..SIDE {
                            let at = codes[side].add((quad * LANES + first) * QUAD);
                            words[side] = V::loadu(at.cast());
                        }
                        unroll!([0 1 2 3] B => {
                            let term = (quad * QUAD + B).wrapping_sub(skipped);
                            if term < terms {
                                for side in 0..SIDE {
                                    let w = V::signed_byte::<{ B as u32 }>(words[side]);
                                    let x = V::splat_f32(*columns_at[side].add(term));
                                    acc[side] = V::fused(x, V::mul_f32(w, scale[side]), acc[side], &mut in_doubt);
                                }
                            }
                        });
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

    #[inline(always)]
    unsafe fn squares(codes: &[u8], zero: i16) -> u32 {
        let mut all = 0_u32;
        // Sums of 2^14 squares of 2^16 fit.
        for codes in codes.chunks(1 << 14) {
            // SAFETY: the caller's contract; only the codes are read.
            unsafe {
                let (none, zeros) = (V::zero(), V::splat16(zero));
                let mut sums = [V::zero(); 2];
                let width = V::LANES * 4;
                for at in (0..codes.len()).step_by(width) {
                    let bytes = V::load_bytes(codes.as_ptr().add(at), codes.len() - at);
                    let (low, high) = V::unpack8(bytes, none);
                    let (low, high) = (V::sub16(low, zeros), V::sub16(high, zeros));
                    sums[0] = V::add(sums[0], V::madd16(low, low));
                    sums[1] = V::add(sums[1], V::madd16(high, high));
                }
                // Bytes behind the last code were zero.
                let behind = codes.len().next_multiple_of(width) - codes.len();
                let sum = V::sum(V::add(sums[0], sums[1])) as u32;
                all = all
                    .saturating_add(sum.wrapping_sub(behind as u32 * u32::from(zero.unsigned_abs()).pow(2)));
            }
        }
        all
    }

    #[inline(always)]
    unsafe fn of_codes(sums: &mut [f32; LANES], coded: &Coded<'_>) {
        let quads = coded.terms.div_ceil(QUAD);
        let (data, weights) = (coded.data[..quads].as_ptr(), coded.weights[..quads].as_ptr());
        // SAFETY: the caller's contract; there are as many quads, as was checked, of as many lanes.
        unsafe {
            for first in (0..LANES).step_by(V::LANES) {
                let [z, data_scale, data_low] = coded.affine.map(|value| V::splat_f32(value));
                let scale = V::load_f32(coded.scale.as_ptr().add(first));
                let mut acc = V::load_f32(sums.as_ptr().add(first));
                // Arithmetic without the instruction does not come here.
                let mut in_doubt = V::zero();
                for quad in 0..quads {
                    let x = V::loadu(data.add(quad).cast::<i32>().add(first));
                    let w = V::loadu(weights.add(quad).cast::<i32>().add(first));
                    unroll!([0 1 2 3] B => {
                        if quad * QUAD + B < coded.terms {
                            let x = V::sub_f32(V::byte::<{ B as u32 }>(x), z);
                            let x = V::fused(x, data_scale, data_low, &mut in_doubt);
                            let w = V::mul_f32(V::signed_byte::<{ B as u32 }>(w), scale);
                            acc = V::fused(x, w, acc, &mut in_doubt);
                        }
                    });
                }
                V::store_f32(sums.as_mut_ptr().add(first), V::LANES, acc);
            }
        }
    }
}
