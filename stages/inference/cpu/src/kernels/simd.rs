//! Vectors of 128, 256 and 512 bits behind one trait, for kernels that are written once and compiled for each
//! instruction set.
//!
//! Everything generic is `#[inline(always)]` without a target feature, and is instantiated from entry points that
//! have them (`sets.rs`): the two attributes cannot stand together. Accumulators stay in registers only where every
//! loop over them is unrolled, which the epilogues do with a macro.
#![allow(
    clippy::needless_range_loop,
    reason = "indices count accumulators, weights and pixels alike; iterators keep accumulators in memory"
)]

pub(super) mod conv;
pub(super) mod conv_f32;
pub(super) mod depthwise;
pub(super) mod depthwise_f32;
mod dots;
pub(super) mod finish;
mod literal;
pub(super) mod peak;
pub(super) mod pixelwise;
pub(super) mod pool;
mod v128;
mod v256;
mod v512;

pub(super) use dots::{Avx2, Avx512Bw, Avx512Vnni, AvxVnni, Evex256, Sse42};
pub(super) use v128::V128;
pub(super) use v256::V256;
pub(super) use v512::V512;

/// A vector register as kernels use it: 32-bit integers, bytes, or f32.
///
/// Byte order of [`unpack8`](Self::unpack8), [`unpack16`](Self::unpack16) and the packs is that of the 128-bit
/// parts of a register, each on its own. *Panel order* of two vectors of sums: vector `v`, 128-bit part `l`, element
/// `i` is channel `8 l + 4 v + i`, so that packing both to words gives channels in order.
///
/// # Safety
/// Of all functions: the processor has the instruction set; the elements named lie in readable or writable memory.
pub(super) trait Vector: Copy + 'static {
    /// Integers.
    type I: Copy;
    /// f32.
    type F: Copy;
    /// A yes or no for each element.
    type M: Copy;
    /// 32-bit elements.
    const LANES: usize;
    /// Whether there are 32 registers, not 16.
    const MANY_REGISTERS: bool;
    /// Whether [`fused`](Self::fused) is an instruction.
    const FUSED: bool;

    unsafe fn zero() -> Self::I;
    unsafe fn splat(value: i32) -> Self::I;
    /// Four bytes, repeated.
    unsafe fn splat4(p: *const u8) -> Self::I;
    /// A whole aligned vector.
    unsafe fn load(p: *const u8) -> Self::I;
    /// A whole vector of sums anywhere.
    unsafe fn loadu(p: *const i32) -> Self::I;
    /// A whole vector of sums anywhere.
    unsafe fn store(p: *mut i32, v: Self::I);
    unsafe fn add(a: Self::I, b: Self::I) -> Self::I;
    /// `acc` plus the products of unsigned bytes `x` and signed bytes `w`, four to an element. Two products are
    /// added in 16 bits and must not leave them.
    unsafe fn dot_pairs(acc: Self::I, x: Self::I, w: Self::I) -> Self::I;
    unsafe fn to_f32(v: Self::I) -> Self::F;
    /// To the nearest, ties to even.
    unsafe fn to_i32(v: Self::F) -> Self::I;

    /// The first `n` bytes (all of a vector where `n` is more), the rest 0.
    unsafe fn load_bytes(p: *const u8, n: usize) -> Self::I;
    /// Stores the first `n` bytes.
    unsafe fn store_bytes(p: *mut u8, n: usize, v: Self::I);
    unsafe fn max_u8(a: Self::I, b: Self::I) -> Self::I;
    unsafe fn min_u8(a: Self::I, b: Self::I) -> Self::I;
    /// Interleaves bytes of the lower and of the upper halves.
    unsafe fn unpack8(a: Self::I, b: Self::I) -> (Self::I, Self::I);
    /// Interleaves words of the lower and of the upper halves.
    unsafe fn unpack16(a: Self::I, b: Self::I) -> (Self::I, Self::I);
    /// 32-bit elements to words, saturating.
    unsafe fn pack32(a: Self::I, b: Self::I) -> Self::I;
    /// Words to unsigned bytes, saturating.
    unsafe fn pack16(a: Self::I, b: Self::I) -> Self::I;

    unsafe fn splat16(value: i16) -> Self::I;
    /// Of words.
    unsafe fn sub16(a: Self::I, b: Self::I) -> Self::I;
    /// Products of words, added in pairs.
    unsafe fn madd16(a: Self::I, b: Self::I) -> Self::I;
    /// All elements, wrapping.
    unsafe fn sum(v: Self::I) -> i32;

    /// The first `n` of [`LANES`](Self::LANES) codes as integers, the rest 0.
    unsafe fn load_codes(p: *const u8, n: usize) -> Self::I;
    /// The first `n` of two vectors of codes, in panel order.
    unsafe fn load_codes2(p: *const u8, n: usize) -> [Self::I; 2];
    /// Saturates to bytes, clamps to the bytes at `low` and `high` (whole vectors of codes), stores the first `n`.
    unsafe fn store_codes(p: *mut u8, n: usize, v: Self::I, low: *const u8, high: *const u8);
    /// Two vectors in panel order as codes, saturated; whole.
    unsafe fn store_whole2(p: *mut u8, v: [Self::I; 2]);
    /// The same for two vectors in panel order.
    unsafe fn store_codes2(p: *mut u8, n: usize, v: [Self::I; 2], low: *const u8, high: *const u8);
    /// Two vectors in panel order as vectors of neighbouring channels.
    unsafe fn ordered(v: [Self::I; 2]) -> [Self::I; 2];

    unsafe fn splat_f32(value: f32) -> Self::F;
    unsafe fn load_f32(p: *const f32) -> Self::F;
    /// The first `n` elements, the rest 0.
    unsafe fn load_some_f32(p: *const f32, n: usize) -> Self::F;
    /// Stores the first `n` elements.
    unsafe fn store_f32(p: *mut f32, n: usize, v: Self::F);
    unsafe fn add_f32(a: Self::F, b: Self::F) -> Self::F;
    unsafe fn sub_f32(a: Self::F, b: Self::F) -> Self::F;
    unsafe fn mul_f32(a: Self::F, b: Self::F) -> Self::F;
    unsafe fn div_f32(a: Self::F, b: Self::F) -> Self::F;
    /// `a > b ? a : b`.
    unsafe fn max_f32(a: Self::F, b: Self::F) -> Self::F;
    /// `a < b ? a : b`.
    unsafe fn min_f32(a: Self::F, b: Self::F) -> Self::F;
    unsafe fn abs_f32(v: Self::F) -> Self::F;
    /// To the nearest whole number, ties to even.
    unsafe fn round_f32(v: Self::F) -> Self::F;
    /// `a * b + c`, rounded once. Where there is no instruction for that, sets bits of `in_doubt` if an element may
    /// have been rounded twice; such a result is to be dropped.
    unsafe fn fused(a: Self::F, b: Self::F, c: Self::F, in_doubt: &mut Self::I) -> Self::F;
    /// Whether any bit is set.
    unsafe fn any(v: Self::I) -> bool;
    /// What is left of a value after [`round_f32`](Self::round_f32), for |v| < 2^22.
    unsafe fn apart_f32(v: Self::F) -> Self::F;
    /// `a * b + c`, rounded once or twice.
    unsafe fn multiply_add(a: Self::F, b: Self::F, c: Self::F) -> Self::F;
    /// Where `a > b`.
    unsafe fn greater(a: Self::F, b: Self::F) -> Self::M;
    /// Where `a > b` and `c > d`.
    unsafe fn both_greater(a: Self::F, b: Self::F, c: Self::F, d: Self::F) -> Self::M;
    unsafe fn nowhere() -> Self::M;
    unsafe fn either(a: Self::M, b: Self::M) -> Self::M;
    /// Bit `i`: element `i`.
    unsafe fn bits(v: Self::M) -> u32;
    /// Byte `B` of each 32-bit element, unsigned, as f32.
    unsafe fn byte<const B: u32>(v: Self::I) -> Self::F;
    /// Byte `B` of each 32-bit element, signed, as f32.
    unsafe fn signed_byte<const B: u32>(v: Self::I) -> Self::F;
}

/// The dot product of an instruction set.
///
/// # Safety
/// As [`Vector`].
pub(super) trait Dot: Copy + 'static {
    type V: Vector;
    /// Whether products are added in pairs of 16 bits.
    const PAIRS: bool;
    /// `acc` plus the products of unsigned bytes `x` and signed bytes `w`, four to an element.
    unsafe fn dot(
        acc: <Self::V as Vector>::I,
        x: <Self::V as Vector>::I,
        w: <Self::V as Vector>::I,
    ) -> <Self::V as Vector>::I;
}

/// Defines functions of [`Vector`].
macro_rules! operations {
    ($($name:ident($($arg:ident: $type:ty),*) $(-> $result:ty)? = $body:expr;)*) => {
        $(
            #[inline(always)]
            #[allow(unused_unsafe, reason = "some bodies are safe")]
            unsafe fn $name($($arg: $type),*) $(-> $result)? {
                // SAFETY: the contract of the trait.
                unsafe { $body }
            }
        )*
    };
}
use operations;

/// Repeats a body for each of the numbers, as a constant.
macro_rules! unroll {
    ([$($n:literal)*] $i:ident => $body:block) => {
        $({ const $i: usize = $n; $body })*
    };
}
use unroll;

/// Copies `n < 32` bytes; no byte beyond is touched.
///
/// # Safety
/// `n` bytes readable and writable, not overlapping.
#[inline(always)]
unsafe fn copy_few(from: *const u8, to: *mut u8, n: usize) {
    // SAFETY: the caller's contract; the two halves of a size overlap where `n` is not their sum.
    unsafe {
        macro_rules! both_ends {
            ($type:ty) => {{
                let last = n - size_of::<$type>();
                let (a, b) = (
                    from.cast::<$type>().read_unaligned(),
                    from.add(last).cast::<$type>().read_unaligned(),
                );
                to.cast::<$type>().write_unaligned(a);
                to.add(last).cast::<$type>().write_unaligned(b);
            }};
        }
        match n {
            16.. => both_ends!(u128),
            8.. => both_ends!(u64),
            4.. => both_ends!(u32),
            2.. => both_ends!(u16),
            1 => *to = *from,
            0 => {}
        }
    }
}
