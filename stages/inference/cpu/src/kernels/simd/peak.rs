//! The peak of an instruction set: multiply-accumulates on registers alone.

use super::{Dot, Vector, unroll};

/// Chains side by side: enough to hide the latency of any instruction here, few enough for 16 registers.
const CHAINS: usize = 12;

/// Runs `steps` dot products on each chain; returns the number of products, 8 bits each.
///
/// # Safety
/// Those of [`Vector`].
#[inline(always)]
pub(in super::super) unsafe fn dots<D: Dot>(steps: usize) -> u64 {
    // SAFETY: the caller's contract.
    unsafe {
        let ones = std::hint::black_box(D::V::splat(0x0101_0101));
        let mut acc = [D::V::zero(); CHAINS];
        for _ in 0..steps {
            unroll!([0 1 2 3 4 5 6 7 8 9 10 11] I => {
                acc[I] = D::dot(acc[I], ones, ones);
            });
        }
        std::hint::black_box(acc);
        (steps * CHAINS * D::V::LANES * 4) as u64
    }
}

/// Runs `steps` multiplications with addition of f32 on each chain; returns their number.
///
/// # Safety
/// Those of [`Vector`].
#[inline(always)]
pub(in super::super) unsafe fn fused<V: Vector>(steps: usize) -> u64 {
    // SAFETY: the caller's contract.
    unsafe {
        let half = std::hint::black_box(V::splat_f32(0.5));
        let mut none = V::zero();
        let mut acc = [half; CHAINS];
        for _ in 0..steps {
            unroll!([0 1 2 3 4 5 6 7 8 9 10 11] I => {
                acc[I] = V::fused(acc[I], half, half, &mut none);
            });
        }
        std::hint::black_box((acc, none));
        (steps * CHAINS * V::LANES) as u64
    }
}
