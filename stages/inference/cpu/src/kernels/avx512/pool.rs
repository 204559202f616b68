//! Pooling of codes.

use core::arch::x86_64::*;
use std::ops::Range;

use super::entry;
use super::finish::{Target, finish16, mask16, mask64};
use crate::kernels::{AverageOver, AvgPoolArgs, MaxPoolArgs, Window};

/// First input coordinate along `axis` of output `o` inside an image of `len`, and the number of taps inside.
fn clip(window: &Window, axis: usize, o: usize, len: usize) -> (usize, usize) {
    let (pad, step, taps) = (window.pad_begin[axis], window.dilation[axis], window.kernel[axis]);
    let start = o * window.stride[axis];
    let skipped = pad.saturating_sub(start).div_ceil(step).min(taps);
    let first = start + skipped * step - pad;
    let inside = len.saturating_sub(first).div_ceil(step);
    (first, inside.min(taps - skipped))
}

entry!(
    /// Maximum pooling.
    max_pool_u8, max_pool, (args: &mut MaxPoolArgs<'_, u8>, rows: Range<usize>)
);

/// # Safety
/// AVX-512BW.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
unsafe fn max_pool(args: &mut MaxPoolArgs<'_, u8>, rows: Range<usize>) {
    let l = *args.input.layout();
    let row_step = args.window.dilation[0] * l.row_pitch;
    let tap_step = args.window.dilation[1] * l.pixel_stride;
    for y in rows {
        let (iy, height) = clip(&args.window, 0, y, l.height);
        for x in 0..args.output.layout().width {
            let (ix, width) = clip(&args.window, 1, x, l.width);
            let start = args
                .input
                .origin()
                .wrapping_add(iy * l.row_pitch + ix * l.pixel_stride);
            let out = args.output.pixel(y, x);
            for c in (0..l.channels).step_by(64) {
                let mask = mask64(l.channels - c);
                // SAFETY: windows are clipped to the image; channels are masked.
                unsafe {
                    let mut max = _mm512_setzero_si512();
                    for ky in 0..height {
                        for kx in 0..width {
                            let p = start.add(ky * row_step + kx * tap_step + c);
                            max = _mm512_max_epu8(max, _mm512_maskz_loadu_epi8(mask, p.cast()));
                        }
                    }
                    if mask == u64::MAX {
                        _mm512_storeu_si512(out.add(c).cast(), max);
                    } else {
                        _mm512_mask_storeu_epi8(out.add(c).cast(), mask, max);
                    }
                }
            }
        }
    }
}

entry!(
    /// Average pooling.
    avg_pool_u8, avg_pool, (args: &mut AvgPoolArgs<'_>, rows: Range<usize>)
);

/// # Safety
/// AVX-512BW.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
unsafe fn avg_pool(args: &mut AvgPoolArgs<'_>, rows: Range<usize>) {
    let l = *args.input.layout();
    let taps = args.window.taps();
    let row_step = args.window.dilation[0] * l.row_pitch;
    let tap_step = args.window.dilation[1] * l.pixel_stride;
    for y in rows {
        let (iy, height) = clip(&args.window, 0, y, l.height);
        for x in 0..args.output.layout().width {
            let (ix, width) = clip(&args.window, 1, x, l.width);
            let valid = height * width;
            let (start, count) = match args.over {
                AverageOver::Valid => (0, valid),
                AverageOver::All { pad_code } => ((taps - valid) as i32 * i32::from(pad_code), taps),
            };
            let from = args
                .input
                .origin()
                .wrapping_add(iy * l.row_pitch + ix * l.pixel_stride);
            let target = Target::pixel(&args.output, y, x);
            for c in (0..l.channels).step_by(16) {
                let used = l.channels - c;
                // SAFETY: windows are clipped to the image; channels are masked.
                unsafe {
                    let mut sums = _mm512_set1_epi32(start);
                    for ky in 0..height {
                        for kx in 0..width {
                            let p = from.add(ky * row_step + kx * tap_step + c);
                            let codes = _mm_maskz_loadu_epi8(mask16(used), p.cast());
                            sums = _mm512_add_epi32(sums, _mm512_cvtepu8_epi32(codes));
                        }
                    }
                    finish16(
                        args.epilogue,
                        sums,
                        c,
                        used,
                        count as f32,
                        target,
                        std::ptr::null(),
                    );
                }
            }
        }
    }
}
