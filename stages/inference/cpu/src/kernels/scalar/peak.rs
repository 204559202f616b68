//! The peak of portable code.

use std::hint::black_box;

/// Chains side by side.
const CHAINS: usize = 16;

/// Multiply-accumulates of 8 bits; returns their number.
pub(crate) fn peak_u8(steps: usize) -> u64 {
    let (x, w) = black_box(([3_u8; CHAINS], [3_i8; CHAINS]));
    let mut acc = [0_i32; CHAINS];
    for _ in 0..steps {
        for ((acc, &x), &w) in acc.iter_mut().zip(&x).zip(&w) {
            *acc = acc.wrapping_add(black_box(i32::from(x)) * i32::from(w));
        }
    }
    black_box(acc);
    (steps * CHAINS) as u64
}

/// The same of f32.
pub(crate) fn peak_f32(steps: usize) -> u64 {
    let half = black_box(0.5_f32);
    let mut acc = [half; CHAINS];
    for _ in 0..steps {
        acc.iter_mut().for_each(|acc| *acc = *acc * half + half);
    }
    black_box(acc);
    (steps * CHAINS) as u64
}
