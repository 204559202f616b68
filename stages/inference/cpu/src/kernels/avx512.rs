//! AVX-512 kernels; the integer ones need VNNI.
//!
//! Helpers are `#[inline(always)]` without a target feature, instantiated from entry points that have it: the
//! two attributes cannot stand together. Accumulators stay in registers only where every loop over them is
//! unrolled, which the epilogues do with a macro.
#![allow(
    clippy::needless_range_loop,
    reason = "indices count accumulators, weights and pixels alike; iterators keep accumulators in memory"
)]

mod conv;
mod conv_f32;
mod depthwise;
mod finish;
mod pixelwise;
mod pool;

pub(crate) use conv::conv_u8;
pub(crate) use conv_f32::{conv_f32, depthwise_f32};
pub(crate) use depthwise::depthwise_u8;
pub(crate) use pixelwise::{affine_u8, quantize};
pub(crate) use pool::{avg_pool_u8, max_pool_u8};

/// Declares the safe function that a kernel table holds for an `unsafe` entry point with target features.
macro_rules! entry {
    ($(#[$doc:meta])* $name:ident, $inner:path, ($($arg:ident: $type:ty),*)) => {
        $(#[$doc])*
        pub(crate) fn $name($($arg: $type),*) {
            // SAFETY: only the AVX-512 table refers to this function, and `KernelTable::select` hands that
            // table out on machines with these features alone.
            unsafe { $inner($($arg),*) }
        }
    };
}
pub(crate) use entry;

/// Repeats a body for each of the numbers, as a constant.
macro_rules! unroll {
    ([$($n:literal)*] $i:ident => $body:block) => {
        $({ const $i: usize = $n; $body })*
    };
}
pub(crate) use unroll;
