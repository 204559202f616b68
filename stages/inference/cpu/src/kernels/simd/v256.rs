//! 256-bit vectors, AVX2 and FMA.

use core::arch::x86_64::*;

use super::{Vector, copy_few, operations};

/// Vectors of 256 bits.
#[derive(Clone, Copy)]
pub(in super::super) struct V256;

/// The first `n` of 32 bytes.
///
/// # Safety
/// AVX2; `n` bytes readable.
#[inline(always)]
unsafe fn some(p: *const u8, n: usize) -> __m256i {
    // SAFETY: the caller's contract; odd numbers of bytes go through a buffer.
    unsafe {
        match n {
            32.. => _mm256_loadu_si256(p.cast()),
            16 => _mm256_zextsi128_si256(_mm_loadu_si128(p.cast())),
            _ => {
                let mut buffer = [0_u8; 32];
                copy_few(p, buffer.as_mut_ptr(), n);
                _mm256_loadu_si256(buffer.as_ptr().cast())
            }
        }
    }
}

/// Stores the first `n` of 32 bytes.
///
/// # Safety
/// AVX2; `n` bytes writable.
#[inline(always)]
unsafe fn store_some(p: *mut u8, n: usize, v: __m256i) {
    // SAFETY: the caller's contract.
    unsafe {
        match n {
            32.. => _mm256_storeu_si256(p.cast(), v),
            16 => _mm_storeu_si128(p.cast(), _mm256_castsi256_si128(v)),
            8 => _mm_storel_epi64(p.cast(), _mm256_castsi256_si128(v)),
            _ => {
                let mut buffer = [0_u8; 32];
                _mm256_storeu_si256(buffer.as_mut_ptr().cast(), v);
                copy_few(buffer.as_ptr(), p, n);
            }
        }
    }
}

/// Clamps the low 16 or 8 bytes of `codes` and stores the first `n`.
///
/// # Safety
/// AVX2; `n` bytes writable, 16 limits readable.
#[inline(always)]
unsafe fn clamp_and_store(p: *mut u8, n: usize, codes: __m128i, low: *const u8, high: *const u8) {
    // SAFETY: the caller's contract.
    unsafe {
        let codes = _mm_max_epu8(codes, _mm_loadu_si128(low.cast()));
        let codes = _mm_min_epu8(codes, _mm_loadu_si128(high.cast()));
        match n {
            16.. => _mm_storeu_si128(p.cast(), codes),
            8 => _mm_storel_epi64(p.cast(), codes),
            _ => store_some(p, n, _mm256_castsi128_si256(codes)),
        }
    }
}

impl Vector for V256 {
    type I = __m256i;
    type F = __m256;
    type M = __m256;
    const LANES: usize = 8;
    const MANY_REGISTERS: bool = false;
    const FUSED: bool = true;

    operations! {
        zero() -> __m256i = _mm256_setzero_si256();
        splat(value: i32) -> __m256i = _mm256_set1_epi32(value);
        splat4(p: *const u8) -> __m256i = _mm256_set1_epi32(p.cast::<i32>().read_unaligned());
        load(p: *const u8) -> __m256i = _mm256_load_si256(p.cast());
        loadu(p: *const i32) -> __m256i = _mm256_loadu_si256(p.cast());
        store(p: *mut i32, v: __m256i) = _mm256_storeu_si256(p.cast(), v);
        add(a: __m256i, b: __m256i) -> __m256i = _mm256_add_epi32(a, b);
        dot_pairs(acc: __m256i, x: __m256i, w: __m256i) -> __m256i =
            _mm256_add_epi32(acc, _mm256_madd_epi16(_mm256_maddubs_epi16(x, w), _mm256_set1_epi16(1)));
        to_f32(v: __m256i) -> __m256 = _mm256_cvtepi32_ps(v);
        to_i32(v: __m256) -> __m256i = _mm256_cvtps_epi32(v);

        load_bytes(p: *const u8, n: usize) -> __m256i = some(p, n);
        store_bytes(p: *mut u8, n: usize, v: __m256i) = store_some(p, n, v);
        max_u8(a: __m256i, b: __m256i) -> __m256i = _mm256_max_epu8(a, b);
        min_u8(a: __m256i, b: __m256i) -> __m256i = _mm256_min_epu8(a, b);
        unpack8(a: __m256i, b: __m256i) -> (__m256i, __m256i) =
            (_mm256_unpacklo_epi8(a, b), _mm256_unpackhi_epi8(a, b));
        unpack16(a: __m256i, b: __m256i) -> (__m256i, __m256i) =
            (_mm256_unpacklo_epi16(a, b), _mm256_unpackhi_epi16(a, b));
        pack32(a: __m256i, b: __m256i) -> __m256i = _mm256_packs_epi32(a, b);
        pack16(a: __m256i, b: __m256i) -> __m256i = _mm256_packus_epi16(a, b);

        splat16(value: i16) -> __m256i = _mm256_set1_epi16(value);
        sub16(a: __m256i, b: __m256i) -> __m256i = _mm256_sub_epi16(a, b);
        madd16(a: __m256i, b: __m256i) -> __m256i = _mm256_madd_epi16(a, b);
        sum(v: __m256i) -> i32 = {
            let four = _mm_add_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256::<1>(v));
            let two = _mm_add_epi32(four, _mm_shuffle_epi32::<0b1110>(four));
            _mm_cvtsi128_si32(_mm_add_epi32(two, _mm_shuffle_epi32::<1>(two)))
        };

        load_codes(p: *const u8, n: usize) -> __m256i = _mm256_cvtepu8_epi32(if n >= 8 {
            _mm_loadl_epi64(p.cast())
        } else {
            _mm256_castsi256_si128(some(p, n))
        });
        load_codes2(p: *const u8, n: usize) -> [__m256i; 2] = {
            let codes = if n >= 16 { _mm_loadu_si128(p.cast()) } else { _mm256_castsi256_si128(some(p, n)) };
            let words = _mm256_cvtepu8_epi16(codes);
            let zero = _mm256_setzero_si256();
            [_mm256_unpacklo_epi16(words, zero), _mm256_unpackhi_epi16(words, zero)]
        };
        store_codes(p: *mut u8, n: usize, v: __m256i, low: *const u8, high: *const u8) = {
            let words = _mm256_packs_epi32(v, v);
            let codes = _mm256_packus_epi16(words, words);
            let codes = _mm_unpacklo_epi32(_mm256_castsi256_si128(codes), _mm256_extracti128_si256::<1>(codes));
            clamp_and_store(p, n.min(8), codes, low, high)
        };
        store_whole2(p: *mut u8, v: [__m256i; 2]) = {
            let words = _mm256_packs_epi32(v[0], v[1]);
            let codes = _mm256_permute4x64_epi64::<0b1000>(_mm256_packus_epi16(words, words));
            _mm_storeu_si128(p.cast(), _mm256_castsi256_si128(codes));
        };
        store_codes2(p: *mut u8, n: usize, v: [__m256i; 2], low: *const u8, high: *const u8) = {
            let words = _mm256_packs_epi32(v[0], v[1]);
            let codes = _mm256_permute4x64_epi64::<0b1000>(_mm256_packus_epi16(words, words));
            clamp_and_store(p, n, _mm256_castsi256_si128(codes), low, high)
        };
        ordered(v: [__m256i; 2]) -> [__m256i; 2] = [
            _mm256_permute2x128_si256::<0x20>(v[0], v[1]),
            _mm256_permute2x128_si256::<0x31>(v[0], v[1]),
        ];

        splat_f32(value: f32) -> __m256 = _mm256_set1_ps(value);
        load_f32(p: *const f32) -> __m256 = _mm256_loadu_ps(p);
        load_some_f32(p: *const f32, n: usize) -> __m256 = _mm256_castsi256_ps(some(p.cast(), n.saturating_mul(4)));
        store_f32(p: *mut f32, n: usize, v: __m256) = store_some(p.cast(), n.saturating_mul(4), _mm256_castps_si256(v));
        add_f32(a: __m256, b: __m256) -> __m256 = _mm256_add_ps(a, b);
        sub_f32(a: __m256, b: __m256) -> __m256 = _mm256_sub_ps(a, b);
        mul_f32(a: __m256, b: __m256) -> __m256 = _mm256_mul_ps(a, b);
        div_f32(a: __m256, b: __m256) -> __m256 = _mm256_div_ps(a, b);
        max_f32(a: __m256, b: __m256) -> __m256 = _mm256_max_ps(a, b);
        min_f32(a: __m256, b: __m256) -> __m256 = _mm256_min_ps(a, b);
        abs_f32(v: __m256) -> __m256 = _mm256_andnot_ps(_mm256_set1_ps(-0.0), v);
        round_f32(v: __m256) -> __m256 = _mm256_round_ps::<8>(v);
        fused(a: __m256, b: __m256, c: __m256, _in_doubt: &mut __m256i) -> __m256 = _mm256_fmadd_ps(a, b, c);
        any(v: __m256i) -> bool = _mm256_testz_si256(v, v) == 0;
        apart_f32(v: __m256) -> __m256 = _mm256_sub_ps(v, _mm256_round_ps::<8>(v));
        multiply_add(a: __m256, b: __m256, c: __m256) -> __m256 = _mm256_fmadd_ps(a, b, c);
        greater(a: __m256, b: __m256) -> __m256 = _mm256_cmp_ps::<_CMP_GT_OQ>(a, b);
        both_greater(a: __m256, b: __m256, c: __m256, d: __m256) -> __m256 =
            _mm256_and_ps(_mm256_cmp_ps::<_CMP_GT_OQ>(a, b), _mm256_cmp_ps::<_CMP_GT_OQ>(c, d));
        nowhere() -> __m256 = _mm256_setzero_ps();
        either(a: __m256, b: __m256) -> __m256 = _mm256_or_ps(a, b);
        bits(v: __m256) -> u32 = _mm256_movemask_ps(v) as u32;
    }

    #[inline(always)]
    unsafe fn byte<const B: u32>(v: __m256i) -> __m256 {
        // SAFETY: the contract of the trait.
        unsafe {
            _mm256_cvtepi32_ps(_mm256_and_si256(
                _mm256_srl_epi32(v, _mm_cvtsi32_si128(B as i32 * 8)),
                _mm256_set1_epi32(255),
            ))
        }
    }

    #[inline(always)]
    unsafe fn signed_byte<const B: u32>(v: __m256i) -> __m256 {
        // SAFETY: the contract of the trait.
        unsafe {
            _mm256_cvtepi32_ps(_mm256_srai_epi32::<24>(_mm256_sll_epi32(
                v,
                _mm_cvtsi32_si128(24 - B as i32 * 8),
            )))
        }
    }
}
