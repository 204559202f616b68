//! Integer depthwise convolution: four vectors of channels at a time, four taps in each dot product.
//!
//! Four neighbouring pixels are interleaved so that every 32-bit element holds four taps of one channel. With
//! stride 1 the same interleave serves several outputs, whose weights are shifted by a slot each.

mod finish;
mod sums;

use std::ops::Range;

use super::finish::{Target, residual_pixel};
use super::{Dot, Vector, unroll};
use crate::kernels::DepthwiseU8Args;
use crate::kernels::depthwise::{SeveralPixels, Slots};
use crate::kernels::ties::Doubts;
use finish::finish;
pub(in super::super) use finish::{Block, FinishFn, finish_any};
use sums::{MAX_SLOTS, Spot, accumulate, accumulate_two_rows};

/// # Safety
/// Those of [`Vector`].
#[inline(always)]
pub(in super::super) unsafe fn depthwise<D: Dot>(
    args: &mut DepthwiseU8Args<'_>,
    rows: Range<usize>,
    finish_any: FinishFn,
) {
    let packed = &args.conv.packed;
    // SAFETY: the caller's contract; the packing states which outputs and quads it holds.
    unsafe {
        match packed.several.outputs {
            _ if packed.quads * 4 > MAX_SLOTS => crate::kernels::scalar::depthwise_u8(args, rows),
            4 => run::<D, 4>(args, rows, finish_any),
            2 => run::<D, 2>(args, rows, finish_any),
            _ => run::<D, 1>(args, rows, finish_any),
        }
    }
}

/// # Safety
/// Those of [`Vector`]; `J` is that of the packed weights, whose slots are at most [`MAX_SLOTS`].
#[inline(always)]
unsafe fn run<D: Dot, const J: usize>(
    args: &mut DepthwiseU8Args<'_>,
    rows: Range<usize>,
    finish_any: FinishFn,
) {
    let mut noted = args.output.take_doubts();
    let (mut none, notes) = (Doubts::new(), noted.is_some());
    let doubts = noted.as_mut().unwrap_or(&mut none);
    let conv = args.conv;
    let (e, packed, w) = (&conv.epilogue, &conv.packed, &conv.window);
    let input = *args.input.layout();
    let output = *args.output.layout();
    if let Some(several) = &conv.several
        && input.pixel_stride == e.channels
        && output.pixel_stride == e.channels
        && output.width >= several.pixels
    {
        // SAFETY: the caller's contract.
        unsafe { run_several::<D>(args, several, rows, doubts, (notes, finish_any)) };
        return args.output.note(noted);
    }
    let tap_step = w.dilation[1] * input.pixel_stride;
    // Slots past the last tap have zero weights and may read any pixel; they repeat the last one.
    let slots = |taps: usize| {
        let mut slots = [0; MAX_SLOTS];
        for (i, slot) in slots.iter_mut().enumerate() {
            *slot = i.min(taps - 1) * tap_step;
        }
        slots
    };
    let (one, many) = (slots(w.kernel[1]), slots(w.kernel[1] + J - 1));
    let width = D::V::LANES * 4;
    let pairs = D::V::MANY_REGISTERS && J == 2 && packed.quads == 1 && w.stride[0] == 1 && w.dilation[0] == 1;
    let mut next = rows.start;
    while next < rows.end {
        let y = next;
        let two = pairs && y + 2 <= rows.end;
        next += 1 + usize::from(two);
        let iy = (y * w.stride[0]) as isize - w.pad_begin[0] as isize;
        for index in 0..e.channels.div_ceil(width) {
            let first = index * width;
            let block = Block {
                epilogue: e,
                packed,
                first,
                channels: (e.channels - first).min(width),
                pixel: e.channels,
                plain: e.is_plain() && packed.round_first,
                notes,
                finish_any,
            };
            let starts = |slots: &Slots| slots.starts[index * w.kernel[0] * packed.quads..].as_ptr();
            let mut spot = Spot {
                input: std::ptr::null(),
                row_step: w.dilation[0] * input.row_pitch,
                rows: w.kernel[0],
                quads: packed.quads,
                slots: &many,
                channels: block.channels,
                weights: packed.several.weights.as_ptr(),
                starts: starts(&packed.several),
                whole: packed.several.whole,
                init: packed.init[first..].as_ptr(),
            };
            let mut x = 0;
            while x < output.width {
                let ix = (x * w.stride[1]) as isize - w.pad_begin[1] as isize;
                let at = iy * input.row_pitch as isize + ix * input.pixel_stride as isize;
                spot.input = args.input.origin().wrapping_offset(at).wrapping_add(first);
                // SAFETY: the arguments' constructor found all taps of these outputs inside image and halo, and
                // the outputs in their buffer; the weights of block `index` are packed for them.
                unsafe {
                    if two && x + 2 <= output.width {
                        let acc = accumulate_two_rows::<D>(&spot);
                        unroll!([0 1 2 3] I => {
                            let (y, x) = (y + I / 2, x + I % 2);
                            let target = Target::pixel(&args.output, y, x);
                            let residual = residual_pixel(args.residual.as_ref(), y, x);
                            finish::<D::V>(acc[I / 2][I % 2], &block, (target, residual), (y, x), doubts);
                        });
                        x += 2;
                    } else if x + J <= output.width && !two {
                        let acc = accumulate::<D, J>(&spot);
                        unroll!([0 1 2 3] I => {
                            if I < J {
                                let target = Target::pixel(&args.output, y, x + I);
                                let residual = residual_pixel(args.residual.as_ref(), y, x + I);
                                finish::<D::V>(acc[I], &block, (target, residual), (y, x + I), doubts);
                            }
                        });
                        x += J;
                    } else {
                        spot.slots = &one;
                        spot.weights = packed.one.weights.as_ptr();
                        spot.starts = starts(&packed.one);
                        spot.whole = packed.one.whole;
                        for y in y..next {
                            let [acc] = accumulate::<D, 1>(&spot);
                            let target = Target::pixel(&args.output, y, x);
                            let residual = residual_pixel(args.residual.as_ref(), y, x);
                            finish::<D::V>(acc, &block, (target, residual), (y, x), doubts);
                            spot.input = spot.input.wrapping_add(input.row_pitch);
                        }
                        x += 1;
                    }
                }
            }
        }
    }
    args.output.note(noted);
}

/// Several pixels at a time, as one of as many times the channels.
///
/// # Safety
/// Those of [`Vector`]; pixels of the arguments lie without gaps, and a row has as many.
#[inline(always)]
unsafe fn run_several<D: Dot>(
    args: &DepthwiseU8Args<'_>,
    several: &SeveralPixels,
    rows: Range<usize>,
    doubts: &mut Doubts,
    (notes, finish_any): (bool, FinishFn),
) {
    let SeveralPixels {
        pixels,
        packed,
        epilogue: e,
    } = several;
    let w = &args.conv.window;
    let (input, width) = (*args.input.layout(), args.output.layout().width);
    let tap_step = w.dilation[1] * input.pixel_stride;
    let slots = std::array::from_fn(|i| i.min(w.kernel[1] - 1) * tap_step);
    let one = if packed.several.outputs == 1 {
        &packed.several
    } else {
        &packed.one
    };
    let channels = D::V::LANES * 4;
    for y in rows {
        let iy = (y * w.stride[0]) as isize - w.pad_begin[0] as isize;
        for (index, first) in (0..e.channels).step_by(channels).enumerate() {
            let block = Block {
                epilogue: e,
                packed,
                first,
                channels: (e.channels - first).min(channels),
                pixel: e.channels / pixels,
                plain: true,
                notes,
                finish_any,
            };
            let mut spot = Spot {
                input: std::ptr::null(),
                row_step: w.dilation[0] * input.row_pitch,
                rows: w.kernel[0],
                quads: packed.quads,
                slots: &slots,
                channels: block.channels,
                weights: one.weights.as_ptr(),
                starts: one.starts[index * w.kernel[0] * packed.quads..].as_ptr(),
                whole: one.whole,
                init: packed.init[first..].as_ptr(),
            };
            for x in (0..width).step_by(*pixels) {
                // The last ones begin earlier rather than end behind the row.
                let x = x.min(width - pixels);
                let ix = x as isize - w.pad_begin[1] as isize;
                let at = iy * input.row_pitch as isize + ix * input.pixel_stride as isize;
                spot.input = args.input.origin().wrapping_offset(at).wrapping_add(first);
                let target = Target::pixel(&args.output, y, x);
                // SAFETY: the arguments' constructor found all taps of these outputs inside image and halo, and the
                // outputs in their buffer; pixels lie without gaps.
                unsafe {
                    let [acc] = accumulate::<D, 1>(&spot);
                    finish::<D::V>(acc, &block, (target, std::ptr::null()), (y, x), doubts);
                }
            }
        }
    }
}
