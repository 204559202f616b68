//! Kernels that treat each pixel on its own.

use std::ops::Range;

use super::Vector;
use super::finish::{Target, finish_vector, residual_pixel};
use crate::kernels::ties::{Doubts, bits, note};
use crate::kernels::{AffineU8Args, QuantizeArgs};

/// Requantization, dequantization, addition.
///
/// # Safety
/// Those of [`Vector`].
#[inline(always)]
pub(in super::super) unsafe fn affine_u8<V: Vector>(args: &mut AffineU8Args<'_>, rows: Range<usize>) {
    let mut noted = args.output.take_doubts();
    let (mut none, notes) = (Doubts::new(), noted.is_some());
    let doubts = noted.as_mut().unwrap_or(&mut none);
    let l = *args.input.layout();
    for y in rows {
        for x in 0..l.width {
            let from = args
                .input
                .origin()
                .wrapping_add(y * l.row_pitch + x * l.pixel_stride);
            let target = Target::pixel(&args.output, y, x);
            let residual = residual_pixel(args.residual.as_ref(), y, x);
            for c in (0..l.channels).step_by(V::LANES) {
                let used = l.channels - c;
                // SAFETY: (y, x) lies in all images, which were checked; only their channels are accessed.
                unsafe {
                    let codes = V::load_codes(from.add(c), used);
                    let in_doubt = finish_vector::<V>(args.epilogue, codes, c, used, 1.0, target, residual);
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

/// f32 to codes.
///
/// # Safety
/// Those of [`Vector`].
#[inline(always)]
pub(in super::super) unsafe fn quantize<V: Vector>(args: &mut QuantizeArgs<'_>, rows: Range<usize>) {
    let l = *args.input.layout();
    let z = args.quantizer;
    let (none, all) = ([0_u8; 16], [u8::MAX; 16]);
    for y in rows {
        for x in 0..l.width {
            let from = args
                .input
                .origin()
                .wrapping_add(y * l.row_pitch + x * l.pixel_stride);
            let out = args.output.pixel(y, x);
            for c in (0..l.channels).step_by(V::LANES) {
                let used = l.channels - c;
                // SAFETY: (y, x) lies in both images, which were checked; only their channels are accessed, and
                // the quantizer's arrays are padded.
                unsafe {
                    let (steps, base) = (V::splat_f32(z.steps), V::splat_f32(z.base));
                    let il = V::load_f32(z.low.as_ptr().add(c));
                    let ih = V::load_f32(z.high.as_ptr().add(c));
                    let v = V::load_some_f32(from.add(c), used);
                    let v = V::max_f32(v, V::min_f32(il, ih));
                    let v = V::min_f32(v, V::max_f32(il, ih));
                    let f = V::div_f32(V::sub_f32(v, il), V::sub_f32(ih, il));
                    let f = V::round_f32(V::mul_f32(f, steps));
                    let q = V::to_i32(V::add_f32(f, base));
                    V::store_codes(out.add(c), used, q, none.as_ptr(), all.as_ptr());
                }
            }
        }
    }
}
