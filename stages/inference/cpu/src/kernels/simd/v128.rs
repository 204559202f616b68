//! 128-bit vectors, SSE4.2.

use core::arch::x86_64::*;

use super::{Vector, copy_few, operations};
use crate::kernels::literal::{EXTRA_BITS, MIDDLE, TINY};

/// Vectors of 128 bits.
#[derive(Clone, Copy)]
pub(in super::super) struct V128;

/// The first `n` of 16 bytes.
///
/// # Safety
/// SSE2; `n` bytes readable.
#[inline(always)]
unsafe fn some(p: *const u8, n: usize) -> __m128i {
    // SAFETY: the caller's contract; fewer than 16 bytes go through a buffer.
    unsafe {
        if n >= 16 {
            return _mm_loadu_si128(p.cast());
        }
        let mut buffer = [0_u8; 16];
        copy_few(p, buffer.as_mut_ptr(), n);
        _mm_loadu_si128(buffer.as_ptr().cast())
    }
}

/// Stores the first `n` of 16 bytes.
///
/// # Safety
/// SSE2; `n` bytes writable.
#[inline(always)]
unsafe fn store_some(p: *mut u8, n: usize, v: __m128i) {
    // SAFETY: the caller's contract.
    unsafe {
        match n {
            16.. => _mm_storeu_si128(p.cast(), v),
            8 => _mm_storel_epi64(p.cast(), v),
            4 => p.cast::<i32>().write_unaligned(_mm_cvtsi128_si32(v)),
            _ => {
                let mut buffer = [0_u8; 16];
                _mm_storeu_si128(buffer.as_mut_ptr().cast(), v);
                copy_few(buffer.as_ptr(), p, n);
            }
        }
    }
}

/// 8 bytes, or the first `n`.
///
/// # Safety
/// SSE2; that many bytes readable.
#[inline(always)]
unsafe fn eight(p: *const u8, n: usize) -> __m128i {
    // SAFETY: the caller's contract.
    unsafe {
        if n >= 8 {
            _mm_loadl_epi64(p.cast())
        } else {
            some(p, n)
        }
    }
}

/// `a * b + c` of the two lower elements, in f64, and bits that are set where rounding to f64 may matter (see
/// [`fused`](crate::kernels::literal::fused)).
///
/// # Safety
/// SSE4.1.
#[inline(always)]
unsafe fn fused_pair(a: __m128, b: __m128, c: __m128) -> (__m128, __m128i) {
    // SAFETY: the caller's contract.
    unsafe {
        let sum = _mm_add_pd(_mm_mul_pd(_mm_cvtps_pd(a), _mm_cvtps_pd(b)), _mm_cvtps_pd(c));
        let extra = _mm_and_si128(_mm_castpd_si128(sum), _mm_set1_epi64x(EXTRA_BITS as i64));
        let middle = _mm_cmpeq_epi64(extra, _mm_set1_epi64x(MIDDLE as i64));
        let tiny = _mm_cmplt_pd(_mm_andnot_pd(_mm_set1_pd(-0.0), sum), _mm_set1_pd(TINY));
        let tiny = _mm_and_pd(tiny, _mm_cmpneq_pd(sum, _mm_setzero_pd()));
        (_mm_cvtpd_ps(sum), _mm_or_si128(middle, _mm_castpd_si128(tiny)))
    }
}

impl Vector for V128 {
    type I = __m128i;
    type F = __m128;
    type M = __m128;
    const LANES: usize = 4;
    const MANY_REGISTERS: bool = false;
    const FUSED: bool = false;

    operations! {
        zero() -> __m128i = _mm_setzero_si128();
        splat(value: i32) -> __m128i = _mm_set1_epi32(value);
        splat4(p: *const u8) -> __m128i = _mm_set1_epi32(p.cast::<i32>().read_unaligned());
        load(p: *const u8) -> __m128i = _mm_load_si128(p.cast());
        loadu(p: *const i32) -> __m128i = _mm_loadu_si128(p.cast());
        store(p: *mut i32, v: __m128i) = _mm_storeu_si128(p.cast(), v);
        add(a: __m128i, b: __m128i) -> __m128i = _mm_add_epi32(a, b);
        dot_pairs(acc: __m128i, x: __m128i, w: __m128i) -> __m128i =
            _mm_add_epi32(acc, _mm_madd_epi16(_mm_maddubs_epi16(x, w), _mm_set1_epi16(1)));
        to_f32(v: __m128i) -> __m128 = _mm_cvtepi32_ps(v);
        to_i32(v: __m128) -> __m128i = _mm_cvtps_epi32(v);

        load_bytes(p: *const u8, n: usize) -> __m128i = some(p, n);
        store_bytes(p: *mut u8, n: usize, v: __m128i) = store_some(p, n, v);
        max_u8(a: __m128i, b: __m128i) -> __m128i = _mm_max_epu8(a, b);
        min_u8(a: __m128i, b: __m128i) -> __m128i = _mm_min_epu8(a, b);
        unpack8(a: __m128i, b: __m128i) -> (__m128i, __m128i) =
            (_mm_unpacklo_epi8(a, b), _mm_unpackhi_epi8(a, b));
        unpack16(a: __m128i, b: __m128i) -> (__m128i, __m128i) =
            (_mm_unpacklo_epi16(a, b), _mm_unpackhi_epi16(a, b));
        pack32(a: __m128i, b: __m128i) -> __m128i = _mm_packs_epi32(a, b);
        pack16(a: __m128i, b: __m128i) -> __m128i = _mm_packus_epi16(a, b);

        splat16(value: i16) -> __m128i = _mm_set1_epi16(value);
        sub16(a: __m128i, b: __m128i) -> __m128i = _mm_sub_epi16(a, b);
        madd16(a: __m128i, b: __m128i) -> __m128i = _mm_madd_epi16(a, b);
        sum(v: __m128i) -> i32 = {
            let two = _mm_add_epi32(v, _mm_shuffle_epi32::<0b1110>(v));
            _mm_cvtsi128_si32(_mm_add_epi32(two, _mm_shuffle_epi32::<1>(two)))
        };

        load_codes(p: *const u8, n: usize) -> __m128i = _mm_cvtepu8_epi32(if n >= 4 {
            _mm_cvtsi32_si128(p.cast::<i32>().read_unaligned())
        } else {
            some(p, n)
        });
        load_codes2(p: *const u8, n: usize) -> [__m128i; 2] = {
            let codes = eight(p, n);
            [_mm_cvtepu8_epi32(codes), _mm_cvtepu8_epi32(_mm_srli_si128::<4>(codes))]
        };
        store_codes(p: *mut u8, n: usize, v: __m128i, low: *const u8, high: *const u8) = {
            let words = _mm_packs_epi32(v, v);
            let codes = _mm_packus_epi16(words, words);
            let codes = _mm_max_epu8(codes, _mm_cvtsi32_si128(low.cast::<i32>().read_unaligned()));
            let codes = _mm_min_epu8(codes, _mm_cvtsi32_si128(high.cast::<i32>().read_unaligned()));
            store_some(p, n.min(4), codes)
        };
        store_whole2(p: *mut u8, v: [__m128i; 2]) = {
            let words = _mm_packs_epi32(v[0], v[1]);
            _mm_storel_epi64(p.cast(), _mm_packus_epi16(words, words));
        };
        store_codes2(p: *mut u8, n: usize, v: [__m128i; 2], low: *const u8, high: *const u8) = {
            let words = _mm_packs_epi32(v[0], v[1]);
            let codes = _mm_packus_epi16(words, words);
            let codes = _mm_max_epu8(codes, _mm_loadl_epi64(low.cast()));
            let codes = _mm_min_epu8(codes, _mm_loadl_epi64(high.cast()));
            store_some(p, n.min(8), codes)
        };
        ordered(v: [__m128i; 2]) -> [__m128i; 2] = v;

        splat_f32(value: f32) -> __m128 = _mm_set1_ps(value);
        load_f32(p: *const f32) -> __m128 = _mm_loadu_ps(p);
        load_some_f32(p: *const f32, n: usize) -> __m128 = _mm_castsi128_ps(some(p.cast(), n.saturating_mul(4)));
        store_f32(p: *mut f32, n: usize, v: __m128) = store_some(p.cast(), n.saturating_mul(4), _mm_castps_si128(v));
        add_f32(a: __m128, b: __m128) -> __m128 = _mm_add_ps(a, b);
        sub_f32(a: __m128, b: __m128) -> __m128 = _mm_sub_ps(a, b);
        mul_f32(a: __m128, b: __m128) -> __m128 = _mm_mul_ps(a, b);
        div_f32(a: __m128, b: __m128) -> __m128 = _mm_div_ps(a, b);
        max_f32(a: __m128, b: __m128) -> __m128 = _mm_max_ps(a, b);
        min_f32(a: __m128, b: __m128) -> __m128 = _mm_min_ps(a, b);
        abs_f32(v: __m128) -> __m128 = _mm_andnot_ps(_mm_set1_ps(-0.0), v);
        round_f32(v: __m128) -> __m128 = _mm_round_ps::<8>(v);
        fused(a: __m128, b: __m128, c: __m128, in_doubt: &mut __m128i) -> __m128 = {
            let (low, doubt_low) = fused_pair(a, b, c);
            let upper = |v| _mm_movehl_ps(v, v);
            let (high, doubt_high) = fused_pair(upper(a), upper(b), upper(c));
            *in_doubt = _mm_or_si128(*in_doubt, _mm_or_si128(doubt_low, doubt_high));
            _mm_movelh_ps(low, high)
        };
        any(v: __m128i) -> bool = _mm_testz_si128(v, v) == 0;
        apart_f32(v: __m128) -> __m128 = _mm_sub_ps(v, _mm_round_ps::<8>(v));
        multiply_add(a: __m128, b: __m128, c: __m128) -> __m128 = _mm_add_ps(_mm_mul_ps(a, b), c);
        greater(a: __m128, b: __m128) -> __m128 = _mm_cmpgt_ps(a, b);
        both_greater(a: __m128, b: __m128, c: __m128, d: __m128) -> __m128 =
            _mm_and_ps(_mm_cmpgt_ps(a, b), _mm_cmpgt_ps(c, d));
        nowhere() -> __m128 = _mm_setzero_ps();
        either(a: __m128, b: __m128) -> __m128 = _mm_or_ps(a, b);
        bits(v: __m128) -> u32 = _mm_movemask_ps(v) as u32;
    }

    #[inline(always)]
    unsafe fn byte<const B: u32>(v: __m128i) -> __m128 {
        // SAFETY: the contract of the trait.
        unsafe {
            _mm_cvtepi32_ps(_mm_and_si128(
                _mm_srl_epi32(v, _mm_cvtsi32_si128(B as i32 * 8)),
                _mm_set1_epi32(255),
            ))
        }
    }

    #[inline(always)]
    unsafe fn signed_byte<const B: u32>(v: __m128i) -> __m128 {
        // SAFETY: the contract of the trait.
        unsafe {
            _mm_cvtepi32_ps(_mm_srai_epi32::<24>(_mm_sll_epi32(
                v,
                _mm_cvtsi32_si128(24 - B as i32 * 8),
            )))
        }
    }
}
