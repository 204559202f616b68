//! Convolutions.

use std::ops::Range;

use super::finish;
use crate::kernels::conv::RowTaps;
use crate::kernels::literal::fused;
use crate::kernels::{Band, ConvF32Args, ConvU8Args, DepthwiseF32Args, DepthwiseU8Args};

/// Widest panel of packed weights.
const MAX_LANES: usize = 64;

pub(crate) fn conv_u8(args: &mut ConvU8Args<'_>, band: &Band) {
    let (rows, panels) = args.limit(band);
    let first_row = rows.start;
    let conv = args.conv;
    let l = *args.input.layout();
    let w = &conv.window;
    let group_inputs = conv.channels.input / conv.channels.groups;
    let run_step = match conv.row_taps {
        RowTaps::Joined { .. } => 0,
        RowTaps::Separate => w.dilation[1] * l.pixel_stride,
    };
    for y in rows {
        for panel in panels {
            for x in 0..args.output.layout().width {
                let top = (y * w.stride[0]) as isize - w.pad_begin[0] as isize;
                let left = (x * w.stride[1]) as isize - w.pad_begin[1] as isize;
                let mut acc = [0_i32; MAX_LANES];
                let acc = &mut acc[..panel.lanes];
                acc.copy_from_slice(&conv.lanes.init[panel.arrays..panel.arrays + panel.lanes]);
                let step = panel.lanes * 4;
                let mut weights = conv.weights[panel.weights..][..panel.bytes].chunks_exact(step);
                let mut offsets = conv.offsets[panel.offsets..].iter();
                for (segment, &count) in conv.counts[panel.counts..][..w.kernel[0] * conv.runs]
                    .iter()
                    .enumerate()
                {
                    let (ky, run) = (segment / conv.runs, segment % conv.runs);
                    let start = (top + (ky * w.dilation[0]) as isize) * l.row_pitch as isize
                        + left * l.pixel_stride as isize
                        + (run * run_step + panel.group * group_inputs) as isize;
                    for (&offset, weights) in (&mut offsets).take(count as usize).zip(&mut weights) {
                        // SAFETY: `ConvU8Args::new` found the last such read inside the buffer, and the first one
                        // inside the halo.
                        let q = unsafe {
                            args.input
                                .origin()
                                .offset(start)
                                .add(offset as usize)
                                .cast::<[u8; 4]>()
                                .read()
                        };
                        for (acc, w) in acc.iter_mut().zip(weights.chunks_exact(4)) {
                            let dot: i32 = q.iter().zip(w).map(|(&q, &w)| i32::from(q) * i32::from(w)).sum();
                            *acc = acc.wrapping_add(dot);
                        }
                    }
                }
                let mut sums = [0_i32; MAX_LANES];
                for (lane, &acc) in acc.iter().enumerate() {
                    sums[panel.channel(lane)] = acc;
                }
                let sums = &sums[..panel.channels];
                let rest = (y - first_row) * args.output.layout().width + x;
                let rest = args.rests.get(rest).copied().unwrap_or(0.0);
                finish(
                    &conv.epilogue,
                    &mut args.output,
                    args.residual.as_ref(),
                    (y, x),
                    panel.first,
                    (sums, rest),
                );
            }
        }
    }
}

pub(crate) fn depthwise_u8(args: &mut DepthwiseU8Args<'_>, rows: Range<usize>) {
    let conv = args.conv;
    let w = &conv.window;
    let channels = conv.epilogue.channels;
    for y in rows {
        for x in 0..args.output.layout().width {
            for first in (0..channels).step_by(MAX_LANES) {
                let count = MAX_LANES.min(channels - first);
                let mut acc = [0_i32; MAX_LANES];
                acc[..count].copy_from_slice(&conv.init[first..first + count]);
                for ky in 0..w.kernel[0] {
                    for kx in 0..w.kernel[1] {
                        let iy = (y * w.stride[0] + ky * w.dilation[0]) as isize - w.pad_begin[0] as isize;
                        let ix = (x * w.stride[1] + kx * w.dilation[1]) as isize - w.pad_begin[1] as isize;
                        let taps = &conv.taps[(ky * w.kernel[1] + kx) * conv.padded + first..];
                        for (c, (acc, &tap)) in acc[..count].iter_mut().zip(taps).enumerate() {
                            let q = i32::from(args.input.at(iy, ix, first + c));
                            *acc = acc.wrapping_add(q * i32::from(tap));
                        }
                    }
                }
                finish(
                    &conv.epilogue,
                    &mut args.output,
                    args.residual.as_ref(),
                    (y, x),
                    first,
                    (&acc[..count], 0.0),
                );
            }
        }
    }
}

pub(crate) fn conv_f32(args: &mut ConvF32Args<'_>, band: &Band) {
    let (rows, panels) = args.limit(band);
    let conv = args.conv;
    let l = *args.input.layout();
    let w = &conv.window;
    let group_inputs = conv.channels.input / conv.channels.groups;
    for y in rows {
        for panel in panels {
            for x in 0..args.output.layout().width {
                let mut acc = [0.0_f32; MAX_LANES];
                let mut blocks = [0.0_f32; MAX_LANES];
                let acc = &mut acc[..panel.lanes];
                let count = w.taps() * group_inputs * panel.lanes;
                let mut weights =
                    conv.weights[panel.weights..panel.weights + count].chunks_exact(panel.lanes);
                for ky in 0..w.kernel[0] {
                    for kx in 0..w.kernel[1] {
                        let iy = (y * w.stride[0] + ky * w.dilation[0]) as isize - w.pad_begin[0] as isize;
                        let ix = (x * w.stride[1] + kx * w.dilation[1]) as isize - w.pad_begin[1] as isize;
                        let at = iy * l.row_pitch as isize + ix * l.pixel_stride as isize;
                        for (c, weights) in (0..group_inputs).zip(&mut weights) {
                            if c > 0 && c % conv.block == 0 {
                                let pairs = blocks.iter_mut().zip(acc.iter_mut());
                                pairs.for_each(|(block, acc)| *block += std::mem::take(acc));
                            }
                            // SAFETY: `ConvF32Args::new` found all windows inside image and halo.
                            let v = unsafe {
                                *args.input.origin().offset(at).add(panel.group * group_inputs + c)
                            };
                            for (acc, &w) in acc.iter_mut().zip(weights) {
                                *acc = fused::<false>(v, w, *acc);
                            }
                        }
                    }
                }
                if group_inputs > conv.block {
                    acc.iter_mut().zip(&blocks).for_each(|(acc, block)| *acc += block);
                }
                for (i, &sum) in acc[..panel.channels].iter().enumerate() {
                    let c = panel.first + i;
                    let r = args.residual.as_ref().map(|r| r.at(y as isize, x as isize, c));
                    // SAFETY: (y, x, c) lies in the output, whose view was checked.
                    unsafe { *args.output.pixel(y, x).add(c) = conv.epilogue.apply(sum, c, r) };
                }
            }
        }
    }
}

pub(crate) fn depthwise_f32(args: &mut DepthwiseF32Args<'_>, rows: Range<usize>) {
    let conv = args.conv;
    let w = &conv.window;
    let channels = conv.epilogue.channels;
    for y in rows {
        for x in 0..args.output.layout().width {
            for first in (0..channels).step_by(MAX_LANES) {
                let count = MAX_LANES.min(channels - first);
                let mut acc = [0.0_f32; MAX_LANES];
                for ky in 0..w.kernel[0] {
                    for kx in 0..w.kernel[1] {
                        let iy = (y * w.stride[0] + ky * w.dilation[0]) as isize - w.pad_begin[0] as isize;
                        let ix = (x * w.stride[1] + kx * w.dilation[1]) as isize - w.pad_begin[1] as isize;
                        let taps = &conv.taps[(ky * w.kernel[1] + kx) * conv.padded + first..];
                        for (c, (acc, &tap)) in acc[..count].iter_mut().zip(taps).enumerate() {
                            *acc = fused::<false>(args.input.at(iy, ix, first + c), tap, *acc);
                        }
                    }
                }
                for (i, &sum) in acc[..count].iter().enumerate() {
                    let c = first + i;
                    let r = args.residual.as_ref().map(|r| r.at(y as isize, x as isize, c));
                    // SAFETY: (y, x, c) lies in the output, whose view was checked.
                    unsafe { *args.output.pixel(y, x).add(c) = conv.epilogue.apply(sum, c, r) };
                }
            }
        }
    }
}
