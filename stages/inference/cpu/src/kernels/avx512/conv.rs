//! Integer convolution: tiles of up to 14 pixels x 32 output channels.

use core::arch::x86_64::*;

use super::finish::{Target, finish16, mask16, residual_pixel};
use super::{entry, unroll};
use crate::kernels::conv::{Lanes, Panel, RowTaps};
use crate::kernels::{Band, ConvU8Args, Epilogue};

/// Most pixels in a tile: 28 accumulators, two weight vectors and a broadcast fill 31 of 32 registers.
const TILE: usize = 14;

/// Maps up to this wide read each weight panel few times: panels go in the outer loop, and the next one is
/// fetched into the cache while one is used.
const SMALL_MAP: usize = 14;

/// What all tiles of a layer share.
struct Walk<'a> {
    epilogue: &'a Epilogue,
    lanes: &'a Lanes,
    /// Rounding may come before the clamp.
    round_first: bool,
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
        let init = walk.lanes.init.as_ptr().add(tile.panel.arrays);
        let start: [__m512i; NV] = core::array::from_fn(|j| _mm512_load_si512(init.add(j * 16).cast()));
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
        let (c, arrays) = (tile.panel.first, tile.panel.arrays);
        let scale = walk.lanes.scale.as_ptr().add(arrays);
        let bias = walk.lanes.bias.as_ptr().add(arrays);
        let low = walk.epilogue.low_code.as_ptr().add(c);
        let high = walk.epilogue.high_code.as_ptr().add(c);
        unroll!([0 1 2 3 4 5 6 7 8 9 10 11 12 13] I => {
            if I < SEG * MR {
                let out = out.add((I / MR) * walk.out_segment + (I % MR) * walk.out_step + c);
                let mut q = acc[I];
                for j in 0..NV {
                    let f = _mm512_mul_ps(_mm512_cvtepi32_ps(acc[I][j]), _mm512_load_ps(scale.add(j * 16)));
                    q[j] = _mm512_cvtps_epi32(_mm512_add_ps(f, _mm512_load_ps(bias.add(j * 16))));
                }
                store_codes(q, low, high, out, NV * 16);
            }
        });
    }
}

/// Saturates rounded sums to codes between the limits, and writes the first `channels` of them in order.
///
/// # Safety
/// AVX-512BW, VL; `NV * 16` limits at `low` and `high`; `channels` bytes at `out` writable.
#[inline(always)]
unsafe fn store_codes<const NV: usize>(
    q: [__m512i; NV],
    low: *const u8,
    high: *const u8,
    out: *mut u8,
    channels: usize,
) {
    // SAFETY: the caller's contract.
    unsafe {
        if NV == 2 {
            let words = _mm512_packs_epi32(q[0], q[1]);
            let codes = _mm512_cvtusepi16_epi8(_mm512_max_epi16(words, _mm512_setzero_si512()));
            let codes = _mm256_max_epu8(codes, _mm256_loadu_si256(low.cast()));
            let codes = _mm256_min_epu8(codes, _mm256_loadu_si256(high.cast()));
            if channels == 32 {
                _mm256_storeu_si256(out.cast(), codes);
            } else {
                _mm256_mask_storeu_epi8(out.cast(), (1 << channels) - 1, codes);
            }
        } else {
            let codes = _mm512_cvtusepi32_epi8(_mm512_max_epi32(q[0], _mm512_setzero_si512()));
            let codes = _mm_max_epu8(codes, _mm_loadu_si128(low.cast()));
            let codes = _mm_min_epu8(codes, _mm_loadu_si128(high.cast()));
            if channels == 16 {
                _mm_storeu_si128(out.cast(), codes);
            } else {
                _mm_mask_storeu_epi8(out.cast(), (1 << channels) - 1, codes);
            }
        }
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
    if let (Target::U8(out), None, true) = (tile.target, &e.table, walk.round_first) {
        let rows = PixelRows { out, per_row, pixels };
        // SAFETY: the caller's contract; the epilogue has the parts that the constants name.
        return unsafe {
            match (e.mid.is_some(), e.residual.is_some(), vectors) {
                (true, true, 2) => finish_codes::<true, true, 2>(walk, tile, sums, &rows),
                (true, true, _) => finish_codes::<true, true, 1>(walk, tile, sums, &rows),
                (true, false, 2) => finish_codes::<true, false, 2>(walk, tile, sums, &rows),
                (true, false, _) => finish_codes::<true, false, 1>(walk, tile, sums, &rows),
                (false, true, 2) => finish_codes::<false, true, 2>(walk, tile, sums, &rows),
                (false, true, _) => finish_codes::<false, true, 1>(walk, tile, sums, &rows),
                (false, false, 2) => finish_codes::<false, false, 2>(walk, tile, sums, &rows),
                (false, false, _) => finish_codes::<false, false, 1>(walk, tile, sums, &rows),
            }
        };
    }
    // Lanes of two vectors in channel order; see `Panel::channel`.
    let first = _mm512_setr_epi32(0, 1, 2, 3, 16, 17, 18, 19, 4, 5, 6, 7, 20, 21, 22, 23);
    let second = _mm512_add_epi32(first, _mm512_set1_epi32(8));
    for i in 0..pixels {
        let (segment, x) = (i / per_row, i % per_row);
        // SAFETY: the caller's contract.
        unsafe {
            let target = tile.target.add(segment * walk.out_segment + x * walk.out_step);
            let residual = tile
                .residual
                .wrapping_add(segment * walk.residual_segment + x * walk.residual_step);
            for j in 0..vectors.min(tile.panel.channels.div_ceil(16)) {
                let used = tile.panel.channels - j * 16;
                let c = tile.panel.first + j * 16;
                let at = i * vectors;
                let sums = match (vectors, j) {
                    (2, 0) => _mm512_permutex2var_epi32(sums[at], first, sums[at + 1]),
                    (2, _) => _mm512_permutex2var_epi32(sums[at], second, sums[at + 1]),
                    _ => sums[at],
                };
                finish16(e, sums, c, used, 1.0, target, residual);
            }
        }
    }
}

/// The outputs of a tile.
struct PixelRows {
    out: *mut u8,
    per_row: usize,
    pixels: usize,
}

/// Codes of a tile, without table. Per-channel arrays stay in registers over the pixels.
///
/// # Safety
/// As [`plain`]; the epilogue has an inner rounding if `MID` and a residual if `RES`.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
unsafe fn finish_codes<const MID: bool, const RES: bool, const NV: usize>(
    walk: &Walk<'_>,
    tile: &Tile,
    sums: &[__m512i; TILE * 2],
    rows: &PixelRows,
) {
    let (e, lanes) = (walk.epilogue, walk.lanes);
    let (c, channels) = (tile.panel.first, tile.panel.channels);
    let (mid_low, mid_high) = match &e.mid {
        Some(mid) => (_mm512_set1_ps(mid.low), _mm512_set1_ps(mid.high)),
        None => (_mm512_setzero_ps(), _mm512_setzero_ps()),
    };
    // SAFETY: the caller's contract; arrays are as long as the lanes of all panels where they are used, and
    // limits are padded by a block.
    unsafe {
        let scale = load_lanes::<NV>(&lanes.scale, tile.panel.arrays, true);
        let bias = load_lanes::<NV>(&lanes.bias, tile.panel.arrays, true);
        let mid_scale = load_lanes::<NV>(&lanes.mid_scale, tile.panel.arrays, MID);
        let mid_offset = load_lanes::<NV>(&lanes.mid_offset, tile.panel.arrays, MID);
        let res_scale = load_lanes::<NV>(&lanes.residual_scale, tile.panel.arrays, RES);
        let res_offset = load_lanes::<NV>(&lanes.residual_offset, tile.panel.arrays, RES);
        let (low, high) = (e.low_code.as_ptr().add(c), e.high_code.as_ptr().add(c));
        let mut sum = sums.as_ptr();
        for segment in 0..rows.pixels / rows.per_row {
            let mut out = rows.out.add(segment * walk.out_segment + c);
            let mut residual = tile.residual.wrapping_add(segment * walk.residual_segment + c);
            for _ in 0..rows.per_row {
                let codes = if RES {
                    residual_codes::<NV>(residual, channels)
                } else {
                    [_mm512_setzero_si512(); NV]
                };
                let mut q = codes;
                for j in 0..NV {
                    let f = _mm512_cvtepi32_ps(*sum.add(j));
                    let mut f = _mm512_add_ps(_mm512_mul_ps(f, scale[j]), bias[j]);
                    if MID {
                        f = _mm512_min_ps(_mm512_max_ps(f, mid_low), mid_high);
                        f = _mm512_roundscale_ps::<8>(f);
                        f = _mm512_add_ps(_mm512_mul_ps(f, mid_scale[j]), mid_offset[j]);
                    }
                    if RES {
                        let r = _mm512_mul_ps(_mm512_cvtepi32_ps(codes[j]), res_scale[j]);
                        f = _mm512_add_ps(f, _mm512_add_ps(r, res_offset[j]));
                    }
                    q[j] = _mm512_cvtps_epi32(f);
                }
                store_codes(q, low, high, out, channels);
                sum = sum.add(NV);
                out = out.wrapping_add(walk.out_step);
                residual = residual.wrapping_add(walk.residual_step);
            }
        }
    }
}

/// `NV` vectors from index `at` of `values`, or zeros.
///
/// # Safety
/// AVX-512F; the vectors lie inside `values` if `used`.
#[inline(always)]
unsafe fn load_lanes<const NV: usize>(values: &[f32], at: usize, used: bool) -> [__m512; NV] {
    // SAFETY: the caller's contract.
    unsafe {
        let mut out = [_mm512_setzero_ps(); NV];
        for j in 0..NV {
            if used {
                out[j] = _mm512_load_ps(values.as_ptr().add(at + j * 16));
            }
        }
        out
    }
}

/// The first `channels` codes of a residual pixel as i32, in the order of the lanes of a panel.
///
/// # Safety
/// AVX-512BW, VL; `channels` bytes readable.
#[inline(always)]
unsafe fn residual_codes<const NV: usize>(residual: *const u8, channels: usize) -> [__m512i; NV] {
    // SAFETY: the caller's contract.
    unsafe {
        let mut codes = [_mm512_setzero_si512(); NV];
        if NV == 2 {
            let mask = if channels == 32 {
                u32::MAX
            } else {
                (1 << channels) - 1
            };
            let words = _mm512_cvtepu8_epi16(_mm256_maskz_loadu_epi8(mask, residual.cast()));
            codes[0] = _mm512_unpacklo_epi16(words, _mm512_setzero_si512());
            codes[1] = _mm512_unpackhi_epi16(words, _mm512_setzero_si512());
        } else {
            codes[0] = _mm512_cvtepu8_epi32(_mm_maskz_loadu_epi8(mask16(channels), residual.cast()));
        }
        codes
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
        lanes: &conv.lanes,
        round_first: conv.round_first,
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
    let plain = e.is_plain() && conv.round_first;
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
