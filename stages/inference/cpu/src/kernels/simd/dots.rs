//! The dot products of the instruction sets.

use core::arch::x86_64::*;

use super::{Dot, V128, V256, V512, Vector};

/// A [`Dot`] over vectors `$vector`.
macro_rules! dots {
    ($($(#[$doc:meta])* $name:ident: $vector:ty, pairs $pairs:literal = |$acc:ident, $x:ident, $w:ident| $body:expr;)*) => {
        $(
            $(#[$doc])*
            #[derive(Clone, Copy)]
            pub(in super::super) struct $name;

            impl Dot for $name {
                type V = $vector;
                const PAIRS: bool = $pairs;
                #[inline(always)]
                unsafe fn dot(
                    $acc: <$vector as Vector>::I,
                    $x: <$vector as Vector>::I,
                    $w: <$vector as Vector>::I,
                ) -> <$vector as Vector>::I {
                    // SAFETY: the contract of the trait.
                    unsafe { $body }
                }
            }
        )*
    };
}

dots! {
    /// SSE4.2: `pmaddubsw`, `pmaddwd`.
    Sse42: V128, pairs true = |acc, x, w| V128::dot_pairs(acc, x, w);
    /// AVX2: `vpmaddubsw`, `vpmaddwd`.
    Avx2: V256, pairs true = |acc, x, w| V256::dot_pairs(acc, x, w);
    /// `vpdpbusd` in its VEX form.
    AvxVnni: V256, pairs false = |acc, x, w| _mm256_dpbusd_avx_epi32(acc, x, w);
    /// The same in its EVEX form, for processors with AVX-512 VNNI that lack the other.
    Evex256: V256, pairs false = |acc, x, w| _mm256_dpbusd_epi32(acc, x, w);
    /// AVX-512BW: `vpmaddubsw`, `vpmaddwd`.
    Avx512Bw: V512, pairs true = |acc, x, w| V512::dot_pairs(acc, x, w);
    /// `vpdpbusd` on 512 bits.
    Avx512Vnni: V512, pairs false = |acc, x, w| _mm512_dpbusd_epi32(acc, x, w);
}
