//! f32 convolution with fused multiply-add: tiles of up to 14 pixels x 32 output channels; depthwise.

use core::arch::x86_64::*;
use std::ops::Range;

use super::finish::mask16;
use super::{entry, unroll};
use crate::kernels::conv_f32::PanelF32;
use crate::kernels::{Band, ConvF32Args, DepthwiseF32Args, EpilogueF32};

const TILE: usize = 14;

/// Maps up to this wide keep one weight panel in the cache for the whole map.
const SMALL_MAP: usize = 14;

/// What all tiles of a layer share; steps count elements.
struct Walk<'a> {
    epilogue: &'a EpilogueF32,
    pixel_step: usize,
    row_step: usize,
    tap_step: usize,
    rows: usize,
    taps: usize,
    inputs: usize,
    out_step: usize,
    residual_step: usize,
}

struct Tile {
    input: *const f32,
    weights: *const f32,
    panel: PanelF32,
    out: *mut f32,
    /// Null where there is none.
    residual: *const f32,
}

/// # Safety
/// AVX-512F; all reads that `walk` describes and all writes of the tile are inside their buffers.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
unsafe fn tile<const MR: usize, const NV: usize>(walk: &Walk<'_>, tile: &Tile) {
    // SAFETY: the caller's contract; epilogue arrays are padded by a block.
    unsafe {
        let mut acc = [[_mm512_setzero_ps(); NV]; TILE];
        let mut w = tile.weights;
        let step = walk.pixel_step;
        for ky in 0..walk.rows {
            for kx in 0..walk.taps {
                let mut p = tile.input.add(ky * walk.row_step + kx * walk.tap_step);
                for _ in 0..walk.inputs {
                    let wv: [__m512; NV] = core::array::from_fn(|j| _mm512_load_ps(w.add(j * 16)));
                    unroll!([0 1 2 3 4 5 6 7 8 9 10 11 12 13] I => {
                        if I < MR {
                            let x = _mm512_set1_ps(*p.add(I * step));
                            for j in 0..NV {
                                acc[I][j] = _mm512_fmadd_ps(x, wv[j], acc[I][j]);
                            }
                        }
                    });
                    w = w.add(NV * 16);
                    p = p.add(1);
                }
            }
        }
        unroll!([0 1 2 3 4 5 6 7 8 9 10 11 12 13] I => {
            if I < MR {
                for j in 0..NV {
                    let c = tile.panel.first + j * 16;
                    let mask = mask16(tile.panel.channels.saturating_sub(j * 16));
                    let residual = tile.residual.wrapping_add(I * walk.residual_step);
                    finish(walk.epilogue, acc[I][j], c, mask, tile.out.add(I * walk.out_step), residual);
                }
            }
        });
    }
}

/// # Safety
/// AVX-512F; channels `c ..` under the mask exist in the pixels `out` and `residual` point to.
#[inline(always)]
unsafe fn finish(
    e: &EpilogueF32,
    sums: __m512,
    c: usize,
    mask: __mmask16,
    out: *mut f32,
    residual: *const f32,
) {
    // SAFETY: the caller's contract; epilogue arrays are padded by a block.
    unsafe {
        let mut f = _mm512_add_ps(sums, _mm512_loadu_ps(e.bias.as_ptr().add(c)));
        if !residual.is_null() {
            f = _mm512_add_ps(f, _mm512_maskz_loadu_ps(mask, residual.add(c)));
        }
        // Limits come first: NaN, the second operand, stays.
        let f = _mm512_max_ps(_mm512_loadu_ps(e.low.as_ptr().add(c)), f);
        let f = _mm512_min_ps(_mm512_loadu_ps(e.high.as_ptr().add(c)), f);
        _mm512_mask_storeu_ps(out.add(c), mask, f);
    }
}

type TileFn = unsafe fn(&Walk<'_>, &Tile);

macro_rules! tiles {
    ($nv:literal, $($mr:literal)*) => { [$(tile::<$mr, $nv> as TileFn),*] };
}

static TILES: [[TileFn; TILE]; 2] = [
    tiles!(1, 1 2 3 4 5 6 7 8 9 10 11 12 13 14),
    tiles!(2, 1 2 3 4 5 6 7 8 9 10 11 12 13 14),
];

entry!(
    /// f32 convolution.
    conv_f32, conv, (args: &mut ConvF32Args<'_>, band: &Band)
);

/// # Safety
/// AVX-512F.
unsafe fn conv(args: &mut ConvF32Args<'_>, band: &Band) {
    let (rows, panels) = args.limit(band);
    let conv = args.conv;
    let w = &conv.window;
    let input = *args.input.layout();
    let output = *args.output.layout();
    let residual = args.residual.as_ref().map(|r| (r.origin(), *r.layout()));
    let group_inputs = conv.channels.input / conv.channels.groups;
    let joined = conv.channels.groups == 1 && w.dilation[1] == 1 && input.pixel_stride == group_inputs;
    let walk = Walk {
        epilogue: &conv.epilogue,
        pixel_step: w.stride[1] * input.pixel_stride,
        row_step: w.dilation[0] * input.row_pitch,
        tap_step: w.dilation[1] * input.pixel_stride,
        rows: w.kernel[0],
        taps: if joined { 1 } else { w.kernel[1] },
        inputs: if joined {
            group_inputs * w.kernel[1]
        } else {
            group_inputs
        },
        out_step: output.pixel_stride,
        residual_step: residual.map_or(0, |(_, l)| l.pixel_stride),
    };
    let run = |panel: &PanelF32, y: usize| {
        let mut x = 0;
        while x < output.width {
            let left = output.width - x;
            let pixels = left.div_ceil(left.div_ceil(TILE));
            let iy = (y * w.stride[0]) as isize - w.pad_begin[0] as isize;
            let ix = (x * w.stride[1]) as isize - w.pad_begin[1] as isize;
            let at = iy * input.row_pitch as isize + ix * input.pixel_stride as isize;
            let tile = Tile {
                input: args
                    .input
                    .origin()
                    .wrapping_offset(at)
                    .wrapping_add(panel.group * group_inputs),
                weights: conv.weights[panel.weights..].as_ptr(),
                panel: *panel,
                out: args.output.pixel(y, x),
                residual: residual.map_or(std::ptr::null(), |(origin, l)| {
                    origin.wrapping_add(y * l.row_pitch + x * l.pixel_stride)
                }),
            };
            // SAFETY: the arguments' constructor found every read and write of this row inside its buffers.
            unsafe { TILES[panel.lanes / 16 - 1][pixels - 1](&walk, &tile) };
            x += pixels;
        }
    };
    if output.width <= SMALL_MAP {
        for panel in panels {
            rows.clone().for_each(|y| run(panel, y));
        }
    } else {
        for y in rows {
            panels.iter().for_each(|panel| run(panel, y));
        }
    }
}

entry!(
    /// f32 depthwise convolution.
    depthwise_f32, depthwise, (args: &mut DepthwiseF32Args<'_>, rows: Range<usize>)
);

/// # Safety
/// AVX-512F.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
unsafe fn depthwise(args: &mut DepthwiseF32Args<'_>, rows: Range<usize>) {
    let conv = args.conv;
    let w = &conv.window;
    let input = *args.input.layout();
    let channels = conv.epilogue.channels;
    for y in rows {
        let iy = (y * w.stride[0]) as isize - w.pad_begin[0] as isize;
        for x in 0..args.output.layout().width {
            let ix = (x * w.stride[1]) as isize - w.pad_begin[1] as isize;
            let at = iy * input.row_pitch as isize + ix * input.pixel_stride as isize;
            let start = args.input.origin().wrapping_offset(at);
            let residual = args.residual.as_ref().map_or(std::ptr::null(), |r| {
                r.origin()
                    .wrapping_add(y * r.layout().row_pitch + x * r.layout().pixel_stride)
            });
            for c in (0..channels).step_by(16) {
                let mask = mask16(channels - c);
                // SAFETY: the arguments' constructor found all taps inside image and halo and the pixel inside
                // the output; channels are masked, weights padded.
                unsafe {
                    let mut acc = _mm512_setzero_ps();
                    for ky in 0..w.kernel[0] {
                        for kx in 0..w.kernel[1] {
                            let p = start.add(
                                ky * w.dilation[0] * input.row_pitch
                                    + kx * w.dilation[1] * input.pixel_stride
                                    + c,
                            );
                            let tap = conv.taps.as_ptr().add((ky * w.kernel[1] + kx) * conv.padded + c);
                            acc = _mm512_fmadd_ps(_mm512_maskz_loadu_ps(mask, p), _mm512_load_ps(tap), acc);
                        }
                    }
                    finish(&conv.epilogue, acc, c, mask, args.output.pixel(y, x), residual);
                }
            }
        }
    }
}
