//! The epilogue on vectors of 16 sums.

use core::arch::x86_64::*;

use crate::kernels::{Epilogue, Output, View};

/// The first `n` of 16 lanes.
#[inline(always)]
pub(super) fn mask16(n: usize) -> __mmask16 {
    if n >= 16 { u16::MAX } else { (1 << n) - 1 }
}

/// The first `n` of 64 lanes.
#[inline(always)]
pub(super) fn mask64(n: usize) -> __mmask64 {
    if n >= 64 { u64::MAX } else { (1 << n) - 1 }
}

/// Where a pixel's outputs go and its residual comes from.
#[derive(Clone, Copy)]
pub(super) enum Target {
    U8(*mut u8),
    F32(*mut f32),
}

impl Target {
    /// The pixel `elements` further on.
    ///
    /// # Safety
    /// As [`pointer::add`].
    #[inline(always)]
    pub(super) unsafe fn add(self, elements: usize) -> Self {
        // SAFETY: the caller's contract.
        unsafe {
            match self {
                Target::U8(p) => Target::U8(p.add(elements)),
                Target::F32(p) => Target::F32(p.add(elements)),
            }
        }
    }

    /// Output pixel `(y, x)`.
    pub(super) fn pixel(output: &Output<'_>, y: usize, x: usize) -> Self {
        match output {
            Output::U8(view) => Target::U8(view.pixel(y, x)),
            Output::F32(view) => Target::F32(view.pixel(y, x)),
        }
    }
}

/// Residual pixel `(y, x)`, or null.
pub(super) fn residual_pixel(residual: Option<&View<'_, u8>>, y: usize, x: usize) -> *const u8 {
    residual.map_or(std::ptr::null(), |view| {
        let l = view.layout();
        view.origin().wrapping_add(y * l.row_pitch + x * l.pixel_stride)
    })
}

/// Writes the outputs of `channels` sums (at most 16) that begin at channel `c`.
///
/// `target` and `residual` point to channel 0 of their pixel; `count` divides the scale.
///
/// # Safety
/// AVX-512F, BW, VL; channel `c + channels - 1` exists in the epilogue and lies inside both pixels.
#[inline(always)]
pub(super) unsafe fn finish16(
    e: &Epilogue,
    sums: __m512i,
    c: usize,
    channels: usize,
    count: f32,
    target: Target,
    residual: *const u8,
) {
    let mask = mask16(channels);
    // SAFETY: epilogue arrays are padded by a block; pixels are accessed under the mask.
    unsafe {
        let mut scale = _mm512_loadu_ps(e.scale.as_ptr().add(c));
        if count != 1.0 {
            scale = _mm512_div_ps(scale, _mm512_set1_ps(count));
        }
        let mut f = _mm512_add_ps(
            _mm512_mul_ps(_mm512_cvtepi32_ps(sums), scale),
            _mm512_loadu_ps(e.bias.as_ptr().add(c)),
        );
        if let Some(mid) = &e.mid {
            f = _mm512_min_ps(
                _mm512_max_ps(f, _mm512_set1_ps(mid.low)),
                _mm512_set1_ps(mid.high),
            );
            f = _mm512_roundscale_ps::<8>(f);
            f = _mm512_add_ps(
                _mm512_mul_ps(f, _mm512_loadu_ps(mid.scale.as_ptr().add(c))),
                _mm512_loadu_ps(mid.offset.as_ptr().add(c)),
            );
        }
        if let Some(r) = &e.residual {
            let codes = _mm_maskz_loadu_epi8(mask, residual.add(c).cast());
            let codes = _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(codes));
            let r = _mm512_add_ps(
                _mm512_mul_ps(codes, _mm512_loadu_ps(r.scale.as_ptr().add(c))),
                _mm512_loadu_ps(r.offset.as_ptr().add(c)),
            );
            f = _mm512_add_ps(f, r);
        }
        match target {
            Target::U8(out) => {
                let f = _mm512_max_ps(f, _mm512_loadu_ps(e.low.as_ptr().add(c)));
                let f = _mm512_min_ps(f, _mm512_loadu_ps(e.high.as_ptr().add(c)));
                let out = out.add(c);
                let codes = _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(f));
                if mask == u16::MAX {
                    _mm_storeu_si128(out.cast(), codes);
                } else {
                    _mm_mask_storeu_epi8(out.cast(), mask, codes);
                }
                if let Some(table) = &e.table {
                    for i in 0..channels.min(16) {
                        *out.add(i) = table[usize::from(*out.add(i))];
                    }
                }
            }
            Target::F32(out) => {
                let f = _mm512_max_ps(f, _mm512_loadu_ps(e.low.as_ptr().add(c)));
                let f = _mm512_min_ps(f, _mm512_loadu_ps(e.high.as_ptr().add(c)));
                _mm512_mask_storeu_ps(out.add(c), mask, f);
            }
        }
    }
}
