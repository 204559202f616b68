//! f32 depthwise convolution: neighbouring outputs of one vector of channels side by side.
//!
//! Each output adds its taps one after the other, as `docs/numerics.md` states; several outputs hide the latency of
//! that. With stride and dilation 1 every input pixel is loaded once per kernel row, and used by all outputs that it
//! touches.

use std::ops::Range;

use super::conv_f32::finish;
use super::{Vector, unroll};
use crate::kernels::DepthwiseF32Args;
use crate::kernels::literal::fused;

/// Outputs side by side.
const SIDE: usize = 8;

/// A vector of channels of neighbouring outputs; steps count elements.
struct Spot {
    input: *const f32,
    /// Between the inputs of neighbouring outputs.
    pixel_step: usize,
    row_step: usize,
    tap_step: usize,
    rows: usize,
    taps: usize,
    weights: *const f32,
    /// Between the weights of neighbouring taps.
    weight_step: usize,
    /// Channels in use.
    used: usize,
}

/// Sums of [`SIDE`] outputs.
///
/// # Safety
/// Those of [`Vector`]; all taps of these outputs are readable, weights are padded to vectors.
#[inline(always)]
unsafe fn sums<V: Vector>(spot: &Spot) -> [V::F; SIDE] {
    // SAFETY: the caller's contract.
    unsafe {
        let mut acc = [V::splat_f32(0.0); SIDE];
        let mut none = V::zero();
        let mut w = spot.weights;
        for ky in 0..spot.rows {
            for kx in 0..spot.taps {
                let p = spot.input.add(ky * spot.row_step + kx * spot.tap_step);
                let tap = V::load_f32(w);
                unroll!([0 1 2 3 4 5 6 7] I => {
                    let x = V::load_some_f32(p.add(I * spot.pixel_step), spot.used);
                    acc[I] = V::fused(x, tap, acc[I], &mut none);
                });
                w = w.add(spot.weight_step);
            }
        }
        acc
    }
}

/// The same for `KW` taps across with stride and dilation 1.
///
/// # Safety
/// As [`sums`].
#[inline(always)]
unsafe fn sums_close<V: Vector, const KW: usize>(spot: &Spot) -> [V::F; SIDE] {
    // SAFETY: the caller's contract.
    unsafe {
        let mut acc = [V::splat_f32(0.0); SIDE];
        let mut none = V::zero();
        for ky in 0..spot.rows {
            let p = spot.input.add(ky * spot.row_step);
            let mut w = [V::splat_f32(0.0); KW];
            for kx in 0..KW {
                w[kx] = V::load_f32(spot.weights.add((ky * KW + kx) * spot.weight_step));
            }
            unroll!([0 1 2 3 4 5 6 7 8 9 10 11] J => {
                if J < SIDE + KW - 1 {
                    let x = V::load_some_f32(p.add(J * spot.tap_step), spot.used);
                    for kx in 0..KW {
                        if (kx..kx + SIDE).contains(&J) {
                            acc[J - kx] = V::fused(x, w[kx], acc[J - kx], &mut none);
                        }
                    }
                }
            });
        }
        acc
    }
}

/// The sum of one output, right also where products cannot be multiplied and added in one instruction.
///
/// # Safety
/// As [`sums`], for one output.
#[inline(always)]
unsafe fn sum<V: Vector>(spot: &Spot) -> V::F {
    let taps = (0..spot.rows * spot.taps).map(|tap| {
        let at = tap / spot.taps * spot.row_step + tap % spot.taps * spot.tap_step;
        let weights = spot.weights.wrapping_add(tap * spot.weight_step);
        (spot.input.wrapping_add(at), weights)
    });
    // SAFETY: the caller's contract.
    unsafe {
        let mut acc = V::splat_f32(0.0);
        let mut in_doubt = V::zero();
        for (p, tap) in taps.clone() {
            let x = V::load_some_f32(p, spot.used);
            acc = V::fused(x, V::load_f32(tap), acc, &mut in_doubt);
        }
        if !V::FUSED && V::any(in_doubt) {
            let mut exact = [0.0; 16];
            for (p, tap) in taps {
                for (lane, sum) in exact[..spot.used.min(V::LANES)].iter_mut().enumerate() {
                    *sum = fused::<false>(*p.add(lane), *tap.add(lane), *sum);
                }
            }
            acc = V::load_f32(exact.as_ptr());
        }
        acc
    }
}

/// # Safety
/// Those of [`Vector`].
#[inline(always)]
pub(in super::super) unsafe fn depthwise<V: Vector>(args: &mut DepthwiseF32Args<'_>, rows: Range<usize>) {
    let conv = args.conv;
    let w = &conv.window;
    let input = *args.input.layout();
    let output = *args.output.layout();
    let channels = conv.epilogue.channels;
    let close = w.stride[1] == 1 && w.dilation[1] == 1;
    for y in rows {
        let iy = (y * w.stride[0]) as isize - w.pad_begin[0] as isize;
        let mut x = 0;
        while x < output.width {
            let several = V::FUSED && output.width >= SIDE;
            if several {
                // The last outputs overlap those before them.
                x = x.min(output.width - SIDE);
            }
            let ix = (x * w.stride[1]) as isize - w.pad_begin[1] as isize;
            let at = iy * input.row_pitch as isize + ix * input.pixel_stride as isize;
            let start = args.input.origin().wrapping_offset(at);
            let residual = |x: usize| {
                args.residual.as_ref().map_or(std::ptr::null(), |r| {
                    r.origin()
                        .wrapping_add(y * r.layout().row_pitch + x * r.layout().pixel_stride)
                })
            };
            for c in (0..channels).step_by(V::LANES) {
                let spot = Spot {
                    input: start.wrapping_add(c),
                    pixel_step: w.stride[1] * input.pixel_stride,
                    row_step: w.dilation[0] * input.row_pitch,
                    tap_step: w.dilation[1] * input.pixel_stride,
                    rows: w.kernel[0],
                    taps: w.kernel[1],
                    weights: conv.taps.as_ptr().wrapping_add(c),
                    weight_step: conv.padded,
                    used: channels - c,
                };
                // SAFETY: the arguments' constructor found all taps inside image and halo and the pixels inside
                // the output; only their channels are accessed, weights are padded.
                unsafe {
                    if several {
                        let acc = match w.kernel[1] {
                            3 if close => sums_close::<V, 3>(&spot),
                            5 if close => sums_close::<V, 5>(&spot),
                            _ => sums::<V>(&spot),
                        };
                        unroll!([0 1 2 3 4 5 6 7] I => {
                            let out = args.output.pixel(y, x + I);
                            finish::<V>(&conv.epilogue, acc[I], c, spot.used, out, residual(x + I));
                        });
                    } else {
                        let acc = sum::<V>(&spot);
                        let out = args.output.pixel(y, x);
                        finish::<V>(&conv.epilogue, acc, c, spot.used, out, residual(x));
                    }
                }
            }
            x += if several { SIDE } else { 1 };
        }
    }
}
