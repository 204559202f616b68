//! The arithmetic of [`Literal`](super::Literal) in plain Rust.

use super::{Arithmetic, Coded, LANES, Line, QUAD, SIDE, fused};

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

    unsafe fn squares(codes: &[u8], zero: i16) -> u32 {
        let square = |code: &u8| u32::from((i16::from(*code) - zero).unsigned_abs()).pow(2);
        codes.iter().map(square).fold(0, u32::saturating_add)
    }

    unsafe fn of_codes(sums: &mut [f32; LANES], coded: &Coded<'_>) {
        let [z, data_scale, data_low] = coded.affine;
        for term in 0..coded.terms {
            let (data, weights) = (&coded.data[term / QUAD], &coded.weights[term / QUAD]);
            for (lane, sum) in sums.iter_mut().enumerate() {
                let x = fused::<false>(f32::from(data[lane][term % QUAD]) - z, data_scale, data_low);
                *sum = fused::<false>(x, f32::from(weights[lane][term % QUAD]) * coded.scale[lane], *sum);
            }
        }
    }
}
