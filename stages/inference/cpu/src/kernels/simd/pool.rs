//! Pooling.

use std::ops::Range;

use super::Vector;
use super::finish::{Target, finish_vector};
use crate::kernels::ties::{Doubts, bits, note};
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

/// Maximum of `width` channels at a time: `load(p, n)` and `store(p, n, v)` the first `n`.
#[inline(always)]
fn max_pool<T, W: Copy>(
    args: &mut MaxPoolArgs<'_, T>,
    rows: Range<usize>,
    width: usize,
    load: impl Fn(*const T, usize) -> W,
    max: impl Fn(W, W) -> W,
    store: impl Fn(*mut T, usize, W),
) {
    let l = *args.input.layout();
    let row_step = args.window.dilation[0] * l.row_pitch;
    let tap_step = args.window.dilation[1] * l.pixel_stride;
    for y in rows {
        let (iy, taps_down) = clip(&args.window, 0, y, l.height);
        for x in 0..args.output.layout().width {
            let (ix, taps_across) = clip(&args.window, 1, x, l.width);
            let start = args
                .input
                .origin()
                .wrapping_add(iy * l.row_pitch + ix * l.pixel_stride);
            let out = args.output.pixel(y, x);
            for c in (0..l.channels).step_by(width) {
                let n = l.channels - c;
                let mut most = load(start.wrapping_add(c), n);
                for ky in 0..taps_down {
                    for kx in 0..taps_across {
                        let p = start.wrapping_add(ky * row_step + kx * tap_step + c);
                        most = max(most, load(p, n));
                    }
                }
                store(out.wrapping_add(c), n, most);
            }
        }
    }
}

/// Maximum of codes.
///
/// # Safety
/// Those of [`Vector`].
#[inline(always)]
pub(in super::super) unsafe fn max_pool_u8<V: Vector>(args: &mut MaxPoolArgs<'_, u8>, rows: Range<usize>) {
    // SAFETY: windows are clipped to the image, and only its channels are accessed.
    unsafe {
        max_pool(
            args,
            rows,
            V::LANES * 4,
            |p, n| V::load_bytes(p, n),
            |a, b| V::max_u8(a, b),
            |p, n, v| V::store_bytes(p, n, v),
        );
    }
}

/// Maximum of f32.
///
/// # Safety
/// Those of [`Vector`].
#[inline(always)]
pub(in super::super) unsafe fn max_pool_f32<V: Vector>(args: &mut MaxPoolArgs<'_, f32>, rows: Range<usize>) {
    // SAFETY: as in `max_pool_u8`.
    unsafe {
        max_pool(
            args,
            rows,
            V::LANES,
            |p, n| V::load_some_f32(p, n),
            |a, b| V::max_f32(a, b),
            |p, n, v| V::store_f32(p, n, v),
        );
    }
}

/// Mean of codes.
///
/// # Safety
/// Those of [`Vector`].
#[inline(always)]
pub(in super::super) unsafe fn avg_pool_u8<V: Vector>(args: &mut AvgPoolArgs<'_>, rows: Range<usize>) {
    let mut noted = args.output.take_doubts();
    let (mut none, notes) = (Doubts::new(), noted.is_some());
    let doubts = noted.as_mut().unwrap_or(&mut none);
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
                AverageOver::Nothing => (0, 1),
                AverageOver::All { pad_code } => ((taps - valid) as i32 * i32::from(pad_code), taps),
            };
            let from = args
                .input
                .origin()
                .wrapping_add(iy * l.row_pitch + ix * l.pixel_stride);
            let target = Target::pixel(&args.output, y, x);
            for c in (0..l.channels).step_by(V::LANES) {
                let used = l.channels - c;
                // SAFETY: windows are clipped to the image, and only its channels are accessed.
                unsafe {
                    let mut sums = V::splat(start);
                    for ky in 0..height {
                        for kx in 0..width {
                            let p = from.add(ky * row_step + kx * tap_step + c);
                            sums = V::add(sums, V::load_codes(p, used));
                        }
                    }
                    let no_residual = std::ptr::null();
                    let in_doubt =
                        finish_vector::<V>(args.epilogue, sums, c, used, count as f32, target, no_residual);
                    if notes && in_doubt != 0 {
                        bits(in_doubt)
                            .filter(|&i| i < used)
                            .for_each(|i| note(doubts, (y, x), c + i));
                    }
                }
            }
        }
    }
    args.output.note(noted);
}
