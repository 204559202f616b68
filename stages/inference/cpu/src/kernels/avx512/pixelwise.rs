//! Kernels that treat each pixel on its own.

use core::arch::x86_64::*;
use std::ops::Range;

use super::entry;
use super::finish::{Target, finish16, mask16, residual_pixel};
use crate::kernels::{AffineU8Args, QuantizeArgs};

entry!(
    /// Requantization, dequantization, addition.
    affine_u8, affine, (args: &mut AffineU8Args<'_>, rows: Range<usize>)
);

/// # Safety
/// AVX-512BW.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
unsafe fn affine(args: &mut AffineU8Args<'_>, rows: Range<usize>) {
    let l = *args.input.layout();
    for y in rows {
        for x in 0..l.width {
            let from = args
                .input
                .origin()
                .wrapping_add(y * l.row_pitch + x * l.pixel_stride);
            let target = Target::pixel(&args.output, y, x);
            let residual = residual_pixel(args.residual.as_ref(), y, x);
            for c in (0..l.channels).step_by(16) {
                let used = l.channels - c;
                // SAFETY: (y, x) lies in all images, which were checked; channels are masked.
                unsafe {
                    let codes = _mm_maskz_loadu_epi8(mask16(used), from.add(c).cast());
                    finish16(
                        args.epilogue,
                        _mm512_cvtepu8_epi32(codes),
                        c,
                        used,
                        1.0,
                        target,
                        residual,
                    );
                }
            }
        }
    }
}

entry!(
    /// f32 to codes.
    quantize, quantize_rows, (args: &mut QuantizeArgs<'_>, rows: Range<usize>)
);

/// # Safety
/// AVX-512BW.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
unsafe fn quantize_rows(args: &mut QuantizeArgs<'_>, rows: Range<usize>) {
    let l = *args.input.layout();
    let z = args.quantizer;
    let (steps, base) = (_mm512_set1_ps(z.steps), _mm512_set1_ps(z.base));
    for y in rows {
        for x in 0..l.width {
            let from = args
                .input
                .origin()
                .wrapping_add(y * l.row_pitch + x * l.pixel_stride);
            let out = args.output.pixel(y, x);
            for c in (0..l.channels).step_by(16) {
                let mask = mask16(l.channels - c);
                // SAFETY: (y, x) lies in both images, which were checked; channels are masked and the
                // quantizer's arrays padded.
                unsafe {
                    let il = _mm512_loadu_ps(z.low.as_ptr().add(c));
                    let ih = _mm512_loadu_ps(z.high.as_ptr().add(c));
                    let v = _mm512_maskz_loadu_ps(mask, from.add(c));
                    let v = _mm512_max_ps(v, _mm512_min_ps(il, ih));
                    let v = _mm512_min_ps(v, _mm512_max_ps(il, ih));
                    let f = _mm512_div_ps(_mm512_sub_ps(v, il), _mm512_sub_ps(ih, il));
                    let f = _mm512_roundscale_ps::<8>(_mm512_mul_ps(f, steps));
                    let q = _mm512_cvtps_epi32(_mm512_add_ps(f, base));
                    _mm_mask_storeu_epi8(out.add(c).cast(), mask, _mm512_cvtepi32_epi8(q));
                }
            }
        }
    }
}
