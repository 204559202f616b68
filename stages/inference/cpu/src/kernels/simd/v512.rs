//! 512-bit vectors, AVX-512 F, BW, VL and DQ.

use core::arch::x86_64::*;

use super::{Vector, operations};

/// Vectors of 512 bits.
#[derive(Clone, Copy)]
pub(in super::super) struct V512;

/// The first `n` of 16 lanes.
#[inline(always)]
fn mask16(n: usize) -> __mmask16 {
    if n >= 16 { u16::MAX } else { (1 << n) - 1 }
}

/// The first `n` of 32 lanes.
#[inline(always)]
fn mask32(n: usize) -> __mmask32 {
    if n >= 32 { u32::MAX } else { (1 << n) - 1 }
}

/// The first `n` of 64 lanes.
#[inline(always)]
fn mask64(n: usize) -> __mmask64 {
    if n >= 64 { u64::MAX } else { (1 << n) - 1 }
}

impl Vector for V512 {
    type I = __m512i;
    type F = __m512;
    type M = __mmask16;
    const LANES: usize = 16;
    const MANY_REGISTERS: bool = true;
    const FUSED: bool = true;

    operations! {
        zero() -> __m512i = _mm512_setzero_si512();
        splat(value: i32) -> __m512i = _mm512_set1_epi32(value);
        splat4(p: *const u8) -> __m512i = _mm512_set1_epi32(p.cast::<i32>().read_unaligned());
        load(p: *const u8) -> __m512i = _mm512_load_si512(p.cast());
        loadu(p: *const i32) -> __m512i = _mm512_loadu_si512(p.cast());
        store(p: *mut i32, v: __m512i) = _mm512_storeu_si512(p.cast(), v);
        add(a: __m512i, b: __m512i) -> __m512i = _mm512_add_epi32(a, b);
        dot_pairs(acc: __m512i, x: __m512i, w: __m512i) -> __m512i =
            _mm512_add_epi32(acc, _mm512_madd_epi16(_mm512_maddubs_epi16(x, w), _mm512_set1_epi16(1)));
        to_f32(v: __m512i) -> __m512 = _mm512_cvtepi32_ps(v);
        to_i32(v: __m512) -> __m512i = _mm512_cvtps_epi32(v);

        load_bytes(p: *const u8, n: usize) -> __m512i = _mm512_maskz_loadu_epi8(mask64(n), p.cast());
        store_bytes(p: *mut u8, n: usize, v: __m512i) = if n >= 64 {
            _mm512_storeu_si512(p.cast(), v);
        } else {
            _mm512_mask_storeu_epi8(p.cast(), mask64(n), v);
        };
        max_u8(a: __m512i, b: __m512i) -> __m512i = _mm512_max_epu8(a, b);
        min_u8(a: __m512i, b: __m512i) -> __m512i = _mm512_min_epu8(a, b);
        unpack8(a: __m512i, b: __m512i) -> (__m512i, __m512i) =
            (_mm512_unpacklo_epi8(a, b), _mm512_unpackhi_epi8(a, b));
        unpack16(a: __m512i, b: __m512i) -> (__m512i, __m512i) =
            (_mm512_unpacklo_epi16(a, b), _mm512_unpackhi_epi16(a, b));
        pack32(a: __m512i, b: __m512i) -> __m512i = _mm512_packs_epi32(a, b);
        pack16(a: __m512i, b: __m512i) -> __m512i = _mm512_packus_epi16(a, b);

        splat16(value: i16) -> __m512i = _mm512_set1_epi16(value);
        sub16(a: __m512i, b: __m512i) -> __m512i = _mm512_sub_epi16(a, b);
        madd16(a: __m512i, b: __m512i) -> __m512i = _mm512_madd_epi16(a, b);
        sum(v: __m512i) -> i32 = _mm512_reduce_add_epi32(v);

        load_codes(p: *const u8, n: usize) -> __m512i =
            _mm512_cvtepu8_epi32(_mm_maskz_loadu_epi8(mask16(n), p.cast()));
        load_codes2(p: *const u8, n: usize) -> [__m512i; 2] = {
            let words = _mm512_cvtepu8_epi16(_mm256_maskz_loadu_epi8(mask32(n), p.cast()));
            let zero = _mm512_setzero_si512();
            [_mm512_unpacklo_epi16(words, zero), _mm512_unpackhi_epi16(words, zero)]
        };
        store_codes(p: *mut u8, n: usize, v: __m512i, low: *const u8, high: *const u8) = {
            let codes = _mm512_cvtusepi32_epi8(_mm512_max_epi32(v, _mm512_setzero_si512()));
            let codes = _mm_max_epu8(codes, _mm_loadu_si128(low.cast()));
            let codes = _mm_min_epu8(codes, _mm_loadu_si128(high.cast()));
            if n >= 16 {
                _mm_storeu_si128(p.cast(), codes);
            } else {
                _mm_mask_storeu_epi8(p.cast(), mask16(n), codes);
            }
        };
        store_whole2(p: *mut u8, v: [__m512i; 2]) = {
            let words = _mm512_max_epi16(_mm512_packs_epi32(v[0], v[1]), _mm512_setzero_si512());
            _mm256_storeu_si256(p.cast(), _mm512_cvtusepi16_epi8(words));
        };
        store_codes2(p: *mut u8, n: usize, v: [__m512i; 2], low: *const u8, high: *const u8) = {
            let words = _mm512_packs_epi32(v[0], v[1]);
            let codes = _mm512_cvtusepi16_epi8(_mm512_max_epi16(words, _mm512_setzero_si512()));
            let codes = _mm256_max_epu8(codes, _mm256_loadu_si256(low.cast()));
            let codes = _mm256_min_epu8(codes, _mm256_loadu_si256(high.cast()));
            if n >= 32 {
                _mm256_storeu_si256(p.cast(), codes);
            } else {
                _mm256_mask_storeu_epi8(p.cast(), mask32(n), codes);
            }
        };
        ordered(v: [__m512i; 2]) -> [__m512i; 2] = {
            let first = _mm512_setr_epi32(0, 1, 2, 3, 16, 17, 18, 19, 4, 5, 6, 7, 20, 21, 22, 23);
            let second = _mm512_add_epi32(first, _mm512_set1_epi32(8));
            [
                _mm512_permutex2var_epi32(v[0], first, v[1]),
                _mm512_permutex2var_epi32(v[0], second, v[1]),
            ]
        };

        splat_f32(value: f32) -> __m512 = _mm512_set1_ps(value);
        load_f32(p: *const f32) -> __m512 = _mm512_loadu_ps(p);
        load_some_f32(p: *const f32, n: usize) -> __m512 = _mm512_maskz_loadu_ps(mask16(n), p);
        store_f32(p: *mut f32, n: usize, v: __m512) = _mm512_mask_storeu_ps(p, mask16(n), v);
        add_f32(a: __m512, b: __m512) -> __m512 = _mm512_add_ps(a, b);
        sub_f32(a: __m512, b: __m512) -> __m512 = _mm512_sub_ps(a, b);
        mul_f32(a: __m512, b: __m512) -> __m512 = _mm512_mul_ps(a, b);
        div_f32(a: __m512, b: __m512) -> __m512 = _mm512_div_ps(a, b);
        max_f32(a: __m512, b: __m512) -> __m512 = _mm512_max_ps(a, b);
        min_f32(a: __m512, b: __m512) -> __m512 = _mm512_min_ps(a, b);
        abs_f32(v: __m512) -> __m512 = _mm512_abs_ps(v);
        round_f32(v: __m512) -> __m512 = _mm512_roundscale_ps::<8>(v);
        fused(a: __m512, b: __m512, c: __m512, _in_doubt: &mut __m512i) -> __m512 = _mm512_fmadd_ps(a, b, c);
        any(v: __m512i) -> bool = _mm512_test_epi32_mask(v, v) != 0;
        apart_f32(v: __m512) -> __m512 = _mm512_reduce_ps::<8>(v);
        multiply_add(a: __m512, b: __m512, c: __m512) -> __m512 = _mm512_fmadd_ps(a, b, c);
        greater(a: __m512, b: __m512) -> __mmask16 = _mm512_cmp_ps_mask::<_CMP_GT_OQ>(a, b);
        both_greater(a: __m512, b: __m512, c: __m512, d: __m512) -> __mmask16 =
            _mm512_mask_cmp_ps_mask::<_CMP_GT_OQ>(_mm512_cmp_ps_mask::<_CMP_GT_OQ>(a, b), c, d);
        nowhere() -> __mmask16 = 0;
        either(a: __mmask16, b: __mmask16) -> __mmask16 = a | b;
        bits(v: __mmask16) -> u32 = u32::from(v);
    }

    #[inline(always)]
    unsafe fn byte<const B: u32>(v: __m512i) -> __m512 {
        // SAFETY: the contract of the trait.
        unsafe {
            _mm512_cvtepi32_ps(_mm512_and_si512(
                _mm512_srl_epi32(v, _mm_cvtsi32_si128(B as i32 * 8)),
                _mm512_set1_epi32(255),
            ))
        }
    }

    #[inline(always)]
    unsafe fn signed_byte<const B: u32>(v: __m512i) -> __m512 {
        // SAFETY: the contract of the trait.
        unsafe {
            _mm512_cvtepi32_ps(_mm512_srai_epi32::<24>(_mm512_sll_epi32(
                v,
                _mm_cvtsi32_si128(24 - B as i32 * 8),
            )))
        }
    }
}
