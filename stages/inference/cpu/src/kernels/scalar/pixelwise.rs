//! Kernels that treat each pixel on its own.

use std::ops::Range;

use super::finish;
use crate::kernels::{AffineU8Args, CopyArgs, LookupArgs, QuantizeArgs};

pub(crate) fn affine_u8(args: &mut AffineU8Args<'_>, rows: Range<usize>) {
    let l = *args.input.layout();
    for y in rows {
        for x in 0..l.width {
            for c in 0..l.channels {
                let sum = i32::from(args.input.at(y as isize, x as isize, c));
                finish(
                    args.epilogue,
                    &mut args.output,
                    args.residual.as_ref(),
                    (y, x),
                    c,
                    (&[sum], 0.0),
                );
            }
        }
    }
}

pub(crate) fn lookup_u8(args: &mut LookupArgs<'_>, rows: Range<usize>) {
    let l = *args.input.layout();
    for y in rows {
        for x in 0..l.width {
            for c in 0..l.channels {
                let code = args.table[usize::from(args.input.at(y as isize, x as isize, c))];
                // SAFETY: (y, x, c) lies in the output, whose view was checked.
                unsafe { *args.output.pixel(y, x).add(c) = code };
            }
        }
    }
}

pub(crate) fn copy<T: Copy>(args: &mut CopyArgs<'_, T>, rows: Range<usize>) {
    let (l, o) = (*args.input.layout(), *args.output.layout());
    let dense = l.pixel_stride == l.channels && o.pixel_stride == o.channels && args.factor[1] == 1;
    let (pixels, run) = if dense {
        (1, l.channels * l.width)
    } else {
        (o.width, l.channels)
    };
    for y in rows {
        for x in 0..pixels {
            let (iy, ix) = (y / args.factor[0], x / args.factor[1]);
            // SAFETY: input and output pixels lie in their views, which were checked; where the views were made
            // over one buffer, their maker promised that they do not overlap.
            unsafe {
                let from = args.input.origin().add(iy * l.row_pitch + ix * l.pixel_stride);
                std::ptr::copy_nonoverlapping(from, args.output.pixel(y, x), run);
            }
        }
    }
}

pub(crate) fn quantize(args: &mut QuantizeArgs<'_>, rows: Range<usize>) {
    let l = *args.input.layout();
    for y in rows {
        for x in 0..l.width {
            for c in 0..l.channels {
                let code = args.quantizer.code(args.input.at(y as isize, x as isize, c), c);
                // SAFETY: (y, x, c) lies in the output, whose view was checked.
                unsafe { *args.output.pixel(y, x).add(c) = code };
            }
        }
    }
}
