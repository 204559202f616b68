//! Integer convolution: tiles of up to 14 pixels x 32 output channels.

use core::arch::x86_64::*;

use super::finish::{Target, clamp_round, finish16, residual_pixel};
use super::{entry, unroll};
use crate::kernels::conv::{Panel, RowTaps};
use crate::kernels::{Band, ConvU8Args, Epilogue};

/// Most pixels in a tile: 28 accumulators, two weight vectors and a broadcast fill 31 of 32 registers.
const TILE: usize = 14;

/// Maps up to this wide read each weight panel few times: panels go in the outer loop, and the next one is
/// fetched into the cache while one is used.
const SMALL_MAP: usize = 14;

/// What all tiles of a layer share.
struct Walk<'a> {
    epilogue: &'a Epilogue,
    /// Bytes between input pixels of neighbouring outputs.
    pixel_step: usize,
    /// Bytes between kernel rows.
    row_step: usize,
    /// Bytes between runs of a kernel row.
    run_step: usize,
    /// Bytes between input rows of neighbouring output rows.
    segment_step: usize,
    rows: usize,
    runs: usize,
    quads: usize,
    /// Elements between output pixels, and output rows.
    out_step: usize,
    out_segment: usize,
    residual_step: usize,
    residual_segment: usize,
    /// Bytes ahead at which weights are prefetched.
    prefetch: usize,
}

/// One tile.
#[derive(Clone, Copy)]
struct Tile {
    input: *const u8,
    weights: *const i8,
    init: *const i32,
    panel: Panel,
    target: Target,
    residual: *const u8,
}

/// Sums of `SEG` rows of `MR` pixels x `NV` vectors of 16 output channels.
///
/// # Safety
/// AVX-512 VNNI; all reads that `walk` describes are inside their buffers; `SEG * MR <= 14`, `NV <= 2`.
#[inline(always)]
unsafe fn accumulate<const SEG: usize, const MR: usize, const NV: usize>(
    walk: &Walk<'_>,
    tile: &Tile,
) -> [[__m512i; NV]; TILE] {
    // SAFETY: the caller's contract.
    unsafe {
        let start: [__m512i; NV] = core::array::from_fn(|j| _mm512_loadu_si512(tile.init.add(j * 16).cast()));
        let mut acc = [start; TILE];
        let mut w = tile.weights;
        let step = walk.pixel_step;
        for _ in 0..tile.panel.passes {
            for ky in 0..walk.rows {
                let row = tile.input.add(ky * walk.row_step);
                for run in 0..walk.runs {
                    let mut p = row.add(run * walk.run_step);
                    for _ in 0..walk.quads {
                        let wv: [__m512i; NV] =
                            core::array::from_fn(|j| _mm512_load_si512(w.add(j * 64).cast()));
                        for j in 0..NV {
                            _mm_prefetch::<_MM_HINT_T0>(w.wrapping_add(walk.prefetch + j * 64));
                        }
                        for i in 0..SEG * MR {
                            let at = if i < MR {
                                p.add(i * step)
                            } else {
                                p.add(walk.segment_step + (i - MR) * step)
                            };
                            let x = _mm512_set1_epi32(at.cast::<i32>().read_unaligned());
                            for j in 0..NV {
                                acc[i][j] = _mm512_dpbusd_epi32(acc[i][j], x, wv[j]);
                            }
                        }
                        w = w.add(NV * 64);
                        p = p.add(4);
                    }
                }
            }
        }
        acc
    }
}

/// A tile of codes without inner rounding, residual, table or masked channels.
///
/// # Safety
/// As [`accumulate`]; the outputs lie inside their buffer.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
unsafe fn plain<const SEG: usize, const MR: usize, const NV: usize>(walk: &Walk<'_>, tile: &Tile) {
    // SAFETY: the caller's contract; epilogue arrays are padded by a block.
    unsafe {
        let acc = accumulate::<SEG, MR, NV>(walk, tile);
        let Target::U8(out) = tile.target else { return };
        let c = tile.panel.first;
        let e = walk.epilogue;
        let (scale, bias) = (e.scale.as_ptr().add(c), e.bias.as_ptr().add(c));
        let (low, high) = (e.low.as_ptr().add(c), e.high.as_ptr().add(c));
        unroll!([0 1 2 3 4 5 6 7 8 9 10 11 12 13] I => {
            if I < SEG * MR {
                let out = out.add((I / MR) * walk.out_segment + (I % MR) * walk.out_step + c);
                for j in 0..NV {
                    let f = _mm512_mul_ps(_mm512_cvtepi32_ps(acc[I][j]), _mm512_loadu_ps(scale.add(j * 16)));
                    let f = _mm512_add_ps(f, _mm512_loadu_ps(bias.add(j * 16)));
                    let q = clamp_round(f, low.add(j * 16), high.add(j * 16));
                    _mm_storeu_si128(out.add(j * 16).cast(), _mm512_cvtepi32_epi8(q));
                }
            }
        });
    }
}

/// A tile with any epilogue: sums go through a buffer in the L1 cache.
///
/// # Safety
/// As [`plain`].
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
unsafe fn general<const SEG: usize, const MR: usize, const NV: usize>(walk: &Walk<'_>, tile: &Tile) {
    let mut sums = [_mm512_setzero_si512(); TILE * 2];
    // SAFETY: the caller's contract.
    unsafe {
        let acc = accumulate::<SEG, MR, NV>(walk, tile);
        unroll!([0 1 2 3 4 5 6 7 8 9 10 11 12 13] I => {
            if I < SEG * MR {
                for j in 0..NV {
                    sums[I * NV + j] = acc[I][j];
                }
            }
        });
        finish_tile(walk, tile, &sums, SEG * MR, MR, NV);
    }
}

/// The epilogue of [`general`], shared by all tile sizes.
///
/// # Safety
/// As [`plain`].
#[inline(never)]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
unsafe fn finish_tile(
    walk: &Walk<'_>,
    tile: &Tile,
    sums: &[__m512i; TILE * 2],
    pixels: usize,
    per_row: usize,
    vectors: usize,
) {
    let e = walk.epilogue;
    if let (Target::U8(out), None, true) = (tile.target, &e.table, tile.panel.channels == vectors * 16) {
        let target = PixelRows {
            out,
            per_row,
            pixels,
            vectors,
        };
        // SAFETY: the caller's contract; the epilogue has the parts that the constants name.
        return unsafe {
            match (&e.mid, &e.residual) {
                (Some(_), Some(_)) => finish_codes::<true, true>(walk, tile, sums, &target),
                (Some(_), None) => finish_codes::<true, false>(walk, tile, sums, &target),
                (None, Some(_)) => finish_codes::<false, true>(walk, tile, sums, &target),
                (None, None) => finish_codes::<false, false>(walk, tile, sums, &target),
            }
        };
    }
    for i in 0..pixels {
        let (segment, x) = (i / per_row, i % per_row);
        // SAFETY: the caller's contract.
        unsafe {
            let target = tile.target.add(segment * walk.out_segment + x * walk.out_step);
            let residual = tile
                .residual
                .wrapping_add(segment * walk.residual_segment + x * walk.residual_step);
            for j in 0..vectors {
                let used = tile.panel.channels.saturating_sub(j * 16);
                let c = tile.panel.first + j * 16;
                finish16(
                    walk.epilogue,
                    sums[i * vectors + j],
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

/// The outputs of a tile.
struct PixelRows {
    out: *mut u8,
    per_row: usize,
    pixels: usize,
    vectors: usize,
}

/// Codes of a whole tile, without table; channels outside, so that their arrays stay in registers.
///
/// # Safety
/// As [`plain`]; the epilogue has an inner rounding if `MID` and a residual if `RES`.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
unsafe fn finish_codes<const MID: bool, const RES: bool>(
    walk: &Walk<'_>,
    tile: &Tile,
    sums: &[__m512i; TILE * 2],
    t: &PixelRows,
) {
    let e = walk.epilogue;
    let zero = _mm512_setzero_ps();
    for j in 0..t.vectors {
        let c = tile.panel.first + j * 16;
        // SAFETY: the caller's contract; epilogue arrays are padded by a block.
        unsafe {
            let scale = _mm512_loadu_ps(e.scale.as_ptr().add(c));
            let bias = _mm512_loadu_ps(e.bias.as_ptr().add(c));
            let low = _mm512_loadu_ps(e.low.as_ptr().add(c));
            let high = _mm512_loadu_ps(e.high.as_ptr().add(c));
            let [mut mid_low, mut mid_high, mut mid_scale, mut mid_offset] = [zero; 4];
            if let (true, Some(mid)) = (MID, &e.mid) {
                mid_low = _mm512_set1_ps(mid.low);
                mid_high = _mm512_set1_ps(mid.high);
                mid_scale = _mm512_loadu_ps(mid.scale.as_ptr().add(c));
                mid_offset = _mm512_loadu_ps(mid.offset.as_ptr().add(c));
            }
            let [mut res_scale, mut res_offset] = [zero; 2];
            if let (true, Some(r)) = (RES, &e.residual) {
                res_scale = _mm512_loadu_ps(r.scale.as_ptr().add(c));
                res_offset = _mm512_loadu_ps(r.offset.as_ptr().add(c));
            }
            let mut i = 0;
            for segment in 0..t.pixels / t.per_row {
                let mut out = t.out.add(segment * walk.out_segment + c);
                let mut residual = tile.residual.wrapping_add(segment * walk.residual_segment + c);
                for _ in 0..t.per_row {
                    let f = _mm512_cvtepi32_ps(sums[i * t.vectors + j]);
                    let mut f = _mm512_add_ps(_mm512_mul_ps(f, scale), bias);
                    if MID {
                        f = _mm512_min_ps(_mm512_max_ps(f, mid_low), mid_high);
                        f = _mm512_roundscale_ps::<8>(f);
                        f = _mm512_add_ps(_mm512_mul_ps(f, mid_scale), mid_offset);
                    }
                    if RES {
                        let codes = _mm512_cvtepu8_epi32(_mm_loadu_si128(residual.cast()));
                        let r = _mm512_mul_ps(_mm512_cvtepi32_ps(codes), res_scale);
                        f = _mm512_add_ps(f, _mm512_add_ps(r, res_offset));
                    }
                    let q = _mm512_cvtps_epi32(_mm512_min_ps(_mm512_max_ps(f, low), high));
                    _mm_storeu_si128(out.cast(), _mm512_cvtepi32_epi8(q));
                    i += 1;
                    out = out.wrapping_add(walk.out_step);
                    residual = residual.wrapping_add(walk.residual_step);
                }
            }
        }
    }
}

type TileFn = unsafe fn(&Walk<'_>, &Tile);

/// Tile functions of `SEG` rows by number of pixels in a row, `NV` vectors wide.
macro_rules! tiles {
    ($kernel:ident, $seg:literal, $nv:literal, $($mr:literal)*) => {
        [$($kernel::<$seg, $mr, $nv> as TileFn),*]
    };
}

/// `[general][vectors - 1][pixels - 1]`.
static ONE_ROW: [[[TileFn; TILE]; 2]; 2] = [
    [
        tiles!(plain, 1, 1, 1 2 3 4 5 6 7 8 9 10 11 12 13 14),
        tiles!(plain, 1, 2, 1 2 3 4 5 6 7 8 9 10 11 12 13 14),
    ],
    [
        tiles!(general, 1, 1, 1 2 3 4 5 6 7 8 9 10 11 12 13 14),
        tiles!(general, 1, 2, 1 2 3 4 5 6 7 8 9 10 11 12 13 14),
    ],
];

/// Two rows of up to seven pixels.
static TWO_ROWS: [[[TileFn; TILE / 2]; 2]; 2] = [
    [
        tiles!(plain, 2, 1, 1 2 3 4 5 6 7),
        tiles!(plain, 2, 2, 1 2 3 4 5 6 7),
    ],
    [
        tiles!(general, 2, 1, 1 2 3 4 5 6 7),
        tiles!(general, 2, 2, 1 2 3 4 5 6 7),
    ],
];

entry!(
    /// Integer convolution.
    conv_u8, conv, (args: &mut ConvU8Args<'_>, band: &Band)
);

/// # Safety
/// AVX-512 VNNI.
unsafe fn conv(args: &mut ConvU8Args<'_>, band: &Band) {
    let (rows, panels) = args.limit(band);
    let conv = args.conv;
    let e = &conv.epilogue;
    let w = &conv.window;
    let input = *args.input.layout();
    let output = *args.output.layout();
    let residual = args.residual.as_ref().map(|r| *r.layout());
    let joined = matches!(conv.row_taps, RowTaps::Joined { .. });
    let panel_bytes = |panel: &Panel| panel.passes * w.kernel[0] * conv.runs * conv.quads * panel.lanes * 4;
    let small = output.width <= SMALL_MAP;
    let mut walk = Walk {
        epilogue: e,
        pixel_step: w.stride[1] * input.pixel_stride,
        row_step: w.dilation[0] * input.row_pitch,
        run_step: if joined {
            0
        } else {
            w.dilation[1] * input.pixel_stride
        },
        segment_step: w.stride[0] * input.row_pitch,
        rows: w.kernel[0],
        runs: conv.runs,
        quads: conv.quads,
        out_step: output.pixel_stride,
        out_segment: output.row_pitch,
        residual_step: residual.map_or(0, |r| r.pixel_stride),
        residual_segment: residual.map_or(0, |r| r.row_pitch),
        prefetch: 0,
    };
    let plain = e.is_plain();
    let group_inputs = conv.channels.input / conv.channels.groups;
    let pitch = input.row_pitch as isize;
    let stride = input.pixel_stride as isize;
    let mut run = |panel: &Panel, rows: std::ops::Range<usize>| {
        let nv = panel.lanes / 16;
        let kind = usize::from(!plain || panel.channels != panel.lanes);
        walk.prefetch = if small { panel_bytes(panel) } else { 0 };
        let tile_at = |y: usize, x: usize| {
            let iy = (y * w.stride[0]) as isize - w.pad_begin[0] as isize;
            let ix = (x * w.stride[1]) as isize - w.pad_begin[1] as isize;
            Tile {
                input: args
                    .input
                    .origin()
                    .wrapping_offset(iy * pitch + ix * stride)
                    .wrapping_add(panel.group * group_inputs),
                weights: conv.weights[panel.weights..].as_ptr(),
                init: conv.init[panel.first..].as_ptr(),
                panel: *panel,
                target: Target::pixel(&args.output, y, x),
                residual: residual_pixel(args.residual.as_ref(), y, x),
            }
        };
        let mut y = rows.start;
        while y < rows.end {
            if output.width <= TILE / 2 && y + 1 < rows.end {
                let tile = tile_at(y, 0);
                // SAFETY: the arguments' constructor found every read and write of these two rows inside
                // their buffers.
                unsafe { TWO_ROWS[kind][nv - 1][output.width - 1](&walk, &tile) };
                y += 2;
                continue;
            }
            let mut x = 0;
            while x < output.width {
                let left = output.width - x;
                // Equal tiles, so that no narrow one is left over.
                let pixels = left.div_ceil(left.div_ceil(TILE));
                let tile = tile_at(y, x);
                // SAFETY: the arguments' constructor found every read and write of this row inside their
                // buffers.
                unsafe { ONE_ROW[kind][nv - 1][pixels - 1](&walk, &tile) };
                x += pixels;
            }
            y += 1;
        }
    };
    if small {
        for panel in panels {
            run(panel, rows.clone());
        }
    } else {
        for y in rows {
            for panel in panels {
                run(panel, y..y + 1);
            }
        }
    }
}
