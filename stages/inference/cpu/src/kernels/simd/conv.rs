//! Integer convolution: tiles of pixels x two vectors of output channels.

mod amx;

pub(in super::super) use amx::peak;

use super::finish::{Target, far, finish_vector, residual_pixel};
use super::{Dot, Vector, unroll};
use crate::kernels::conv::{Lanes, Panel, RowTaps};
use crate::kernels::ties::{Doubts, bits, note};
use crate::kernels::{Band, ConvU8, ConvU8Args, Epilogue};

/// Most pixels in a tile of any instruction set.
const MAX_TILE: usize = 14;

/// Maps up to this wide read each weight panel few times: panels go in the outer loop, and the next one is
/// fetched into the cache while one is used.
const SMALL_MAP: usize = 14;

/// What all tiles of a layer share.
pub(in super::super) struct Walk<'a> {
    conv: &'a ConvU8,
    epilogue: &'a Epilogue,
    lanes: &'a Lanes,
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
    /// Whether values in doubt are noted.
    notes: bool,
    finish: FinishFn,
}

/// One tile.
#[derive(Clone, Copy)]
pub(in super::super) struct Tile {
    input: *const u8,
    weights: *const i8,
    panel: Panel,
    target: Target,
    residual: *const u8,
    /// Output row and column of the first pixel.
    at: (usize, usize),
    /// Codes without inner rounding, residual, table, masked channels or ties.
    plain: bool,
}

/// Pixels of a tile as [`finish_tile`] finds their sums.
#[derive(Clone, Copy)]
pub(in super::super) struct Pixels {
    count: usize,
    per_row: usize,
}

pub(in super::super) type TileFn = unsafe fn(&Walk<'_>, &Tile, &mut Doubts);
pub(in super::super) type FinishFn = unsafe fn(&Walk<'_>, &Tile, *const i32, Pixels, &mut Doubts);

/// Tile functions of an instruction set: `[vectors - 1][pixels in a row - 1]`.
pub(in super::super) struct Tiles {
    /// One row, panels that are split.
    pub listed: [&'static [TileFn]; 2],
    pub one_row: [&'static [TileFn]; 2],
    pub two_rows: [&'static [TileFn]; 2],
    pub finish: FinishFn,
    /// Whether sums come from products of tiles where that pays.
    pub products: bool,
}

/// Adds the products of four bytes of each pixel.
///
/// # Safety
/// As [`accumulate`].
#[inline(always)]
unsafe fn quad<D: Dot, const SEG: usize, const MR: usize, const NV: usize>(
    acc: &mut [[<D::V as Vector>::I; NV]; MAX_TILE],
    walk: &Walk<'_>,
    p: *const u8,
    w: *const i8,
) {
    // SAFETY: the caller's contract.
    unsafe {
        let bytes = D::V::LANES * 4;
        let mut wv = [D::V::zero(); NV];
        for j in 0..NV {
            wv[j] = D::V::load(w.add(j * bytes).cast());
        }
        for line in 0..(NV * bytes).div_ceil(64) {
            use core::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            _mm_prefetch::<_MM_HINT_T0>(w.wrapping_add(walk.prefetch + line * 64));
        }
        for i in 0..SEG * MR {
            let at = if i < MR {
                p.add(i * walk.pixel_step)
            } else {
                p.add(walk.segment_step + (i - MR) * walk.pixel_step)
            };
            let x = D::V::splat4(at);
            for j in 0..NV {
                acc[i][j] = D::dot(acc[i][j], x, wv[j]);
            }
        }
    }
}

/// Sums of `SEG` rows of `MR` pixels x `NV` vectors of output channels; `LIST`: of a panel that may be split. Both in
/// one function would leave accumulators in memory.
///
/// # Safety
/// Those of [`Vector`]; all reads that `walk` describes are inside their buffers; `SEG * MR <= MAX_TILE`.
#[inline(always)]
unsafe fn accumulate<D: Dot, const SEG: usize, const MR: usize, const NV: usize, const LIST: bool>(
    walk: &Walk<'_>,
    tile: &Tile,
) -> [[<D::V as Vector>::I; NV]; MAX_TILE] {
    // SAFETY: the caller's contract; counts and offsets are those the weights were packed by.
    unsafe {
        let panel = &tile.panel;
        let init = walk.lanes.init.as_ptr().add(panel.arrays);
        let mut start = [D::V::zero(); NV];
        for j in 0..NV {
            start[j] = D::V::load(init.add(j * D::V::LANES).cast());
        }
        let mut acc = [start; MAX_TILE];
        let mut w = tile.weights;
        let step = NV * D::V::LANES * 4;
        if LIST {
            let mut counts = walk.conv.counts.as_ptr().add(panel.counts);
            let mut offsets = walk.conv.offsets.as_ptr().add(panel.offsets);
            for ky in 0..walk.rows {
                for run in 0..walk.runs {
                    let p = tile.input.add(ky * walk.row_step + run * walk.run_step);
                    for _ in 0..*counts {
                        quad::<D, SEG, MR, NV>(&mut acc, walk, p.add(*offsets as usize), w);
                        offsets = offsets.add(1);
                        w = w.add(step);
                    }
                    counts = counts.add(1);
                }
            }
        } else {
            for ky in 0..walk.rows {
                for run in 0..walk.runs {
                    let mut p = tile.input.add(ky * walk.row_step + run * walk.run_step);
                    for _ in 0..walk.quads {
                        quad::<D, SEG, MR, NV>(&mut acc, walk, p, w);
                        p = p.add(4);
                        w = w.add(step);
                    }
                }
            }
        }
        acc
    }
}

/// A tile: plain codes go from registers to memory, sums of other epilogues through a buffer in the L1 cache.
///
/// # Safety
/// As [`accumulate`]; the outputs lie inside their buffer.
#[inline(always)]
pub(in super::super) unsafe fn tile<
    D: Dot,
    const SEG: usize,
    const MR: usize,
    const NV: usize,
    const LIST: bool,
>(
    walk: &Walk<'_>,
    tile: &Tile,
    doubts: &mut Doubts,
) {
    // SAFETY: the caller's contract; epilogue arrays are padded by a block, and `sums` holds the sums of a tile.
    unsafe {
        let acc = accumulate::<D, SEG, MR, NV, LIST>(walk, tile);
        let lanes = D::V::LANES;
        match tile.target {
            Target::U8(out) if tile.plain => {
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
                            let f = D::V::mul_f32(D::V::to_f32(acc[I][j]), D::V::load_f32(scale.add(j * lanes)));
                            q[j] = D::V::to_i32(D::V::add_f32(f, D::V::load_f32(bias.add(j * lanes))));
                        }
                        store_codes::<D::V, NV>(q, low, high, out, NV * lanes);
                    }
                });
            }
            _ => {
                let mut sums = [[start_of_sums(); 2]; MAX_TILE];
                let sums = sums.as_mut_ptr().cast::<i32>();
                unroll!([0 1 2 3 4 5 6 7 8 9 10 11 12 13] I => {
                    if I < SEG * MR {
                        for j in 0..NV {
                            D::V::store(sums.add((I * NV + j) * lanes), acc[I][j]);
                        }
                    }
                });
                let pixels = Pixels {
                    count: SEG * MR,
                    per_row: MR,
                };
                (walk.finish)(walk, tile, sums, pixels, doubts);
            }
        }
    }
}

/// The sums of a vector of the widest kind, not yet written.
#[inline(always)]
fn start_of_sums() -> std::mem::MaybeUninit<[i32; 16]> {
    std::mem::MaybeUninit::uninit()
}

/// Saturates rounded sums to codes between the limits, and writes the first `channels` of them in order.
///
/// # Safety
/// Those of [`Vector`]; limits of whole vectors at `low` and `high`; `channels` bytes at `out` writable.
#[inline(always)]
unsafe fn store_codes<V: Vector, const NV: usize>(
    q: [V::I; NV],
    low: *const u8,
    high: *const u8,
    out: *mut u8,
    channels: usize,
) {
    // SAFETY: the caller's contract.
    unsafe {
        if NV == 2 {
            V::store_codes2(out, channels, [q[0], q[NV - 1]], low, high);
        } else {
            V::store_codes(out, channels, q[0], low, high);
        }
    }
}

/// Any epilogue, for the tile whose sums lie at `sums`: `[pixel][vector]`.
///
/// # Safety
/// As [`tile`]; the sums of the tile are readable.
#[inline(always)]
pub(in super::super) unsafe fn finish_tile<V: Vector>(
    walk: &Walk<'_>,
    tile: &Tile,
    sums: *const i32,
    pixels: Pixels,
    doubts: &mut Doubts,
) {
    let (e, panel) = (walk.epilogue, &tile.panel);
    let vectors = panel.lanes / V::LANES;
    // SAFETY: the caller's contract.
    unsafe {
        if let Target::U8(out) = tile.target
            && walk.conv.round_first
            && e.table.is_none()
        {
            let codes = Codes {
                walk,
                tile,
                sums,
                out,
                pixels,
            };
            return match (e.mid.is_some(), e.residual.is_some(), vectors) {
                (false, false, 1) => finish_codes::<V, false, false, 1>(codes, doubts),
                (false, true, 1) => finish_codes::<V, false, true, 1>(codes, doubts),
                (true, false, 1) => finish_codes::<V, true, false, 1>(codes, doubts),
                (true, true, 1) => finish_codes::<V, true, true, 1>(codes, doubts),
                (false, false, _) => finish_codes::<V, false, false, 2>(codes, doubts),
                (false, true, _) => finish_codes::<V, false, true, 2>(codes, doubts),
                (true, false, _) => finish_codes::<V, true, false, 2>(codes, doubts),
                (true, true, _) => finish_codes::<V, true, true, 2>(codes, doubts),
            };
        }
        for i in 0..pixels.count {
            let (segment, x) = (i / pixels.per_row, i % pixels.per_row);
            let target = tile.target.add(segment * walk.out_segment + x * walk.out_step);
            let residual = tile
                .residual
                .wrapping_add(segment * walk.residual_segment + x * walk.residual_step);
            let at = sums.add(i * panel.lanes);
            let first = V::loadu(at);
            let ordered = match vectors {
                1 => [first; 2],
                _ => V::ordered([first, V::loadu(at.add(V::LANES))]),
            };
            for j in 0..vectors {
                let (c, used) = (
                    panel.first + j * V::LANES,
                    panel.channels.saturating_sub(j * V::LANES),
                );
                if used > 0 {
                    let in_doubt = finish_vector::<V>(e, ordered[j], c, used, 1.0, target, residual);
                    if walk.notes && in_doubt != 0 {
                        let pixel = (tile.at.0 + segment, tile.at.1 + x);
                        let mut sums = [0_i32; 16];
                        V::store(sums.as_mut_ptr(), ordered[j]);
                        let code = |c| e.residual.as_ref().map_or(0, |_| *residual.add(c));
                        let places = bits(in_doubt).filter(|&i| i < used);
                        let doubt = |i| Some((c + i, e.doubt(sums[i], c + i, code(c + i))?));
                        note(doubts, pixel, places.filter_map(doubt));
                    }
                }
            }
        }
    }
}

/// What [`finish_codes`] finishes.
struct Codes<'a, 'b> {
    walk: &'a Walk<'b>,
    tile: &'a Tile,
    sums: *const i32,
    out: *mut u8,
    pixels: Pixels,
}

/// Codes of a tile, without table.
///
/// # Safety
/// As [`finish_tile`]; the epilogue has an inner rounding if `MID` and a residual if `RES`.
#[inline(always)]
unsafe fn finish_codes<V: Vector, const MID: bool, const RES: bool, const NV: usize>(
    codes: Codes<'_, '_>,
    doubts: &mut Doubts,
) {
    // SAFETY: the caller's contract; ties are noted only where the epilogue knows them.
    unsafe {
        if codes.walk.notes {
            codes_of::<V, MID, RES, NV, true>(codes, doubts);
        } else {
            codes_of::<V, MID, RES, NV, false>(codes, doubts);
        }
    }
}

/// [`finish_codes`], noting values in doubt if `TIES`. Per-channel arrays stay in registers over the pixels.
///
/// # Safety
/// As [`finish_codes`]; the epilogue knows ties if `TIES`.
#[inline(always)]
unsafe fn codes_of<V: Vector, const MID: bool, const RES: bool, const NV: usize, const TIES: bool>(
    Codes {
        walk,
        tile,
        sums: mut sum,
        out,
        pixels,
    }: Codes<'_, '_>,
    doubts: &mut Doubts,
) {
    let (e, lanes) = (walk.epilogue, walk.lanes);
    let (c, channels) = (tile.panel.first, tile.panel.channels);
    // SAFETY: the caller's contract; arrays are as long as the lanes of all panels where they are used, and
    // limits are padded by a block.
    unsafe {
        let (mid_low, mid_high) = match &e.mid {
            Some(mid) => (V::splat_f32(mid.low), V::splat_f32(mid.high)),
            None => (V::splat_f32(0.0), V::splat_f32(0.0)),
        };
        let rounds = e.mid.as_ref().is_some_and(|mid| mid.rounds);
        let scale = load_lanes::<V, NV>(&lanes.scale, tile.panel.arrays, true);
        let bias = load_lanes::<V, NV>(&lanes.bias, tile.panel.arrays, true);
        let mid_scale = load_lanes::<V, NV>(&lanes.mid_scale, tile.panel.arrays, MID);
        let mid_offset = load_lanes::<V, NV>(&lanes.mid_offset, tile.panel.arrays, MID);
        let res_scale = load_lanes::<V, NV>(&lanes.residual_scale, tile.panel.arrays, RES);
        let res_offset = load_lanes::<V, NV>(&lanes.residual_offset, tile.panel.arrays, RES);
        let near = load_lanes::<V, NV>(&lanes.near, tile.panel.arrays, TIES);
        let mid_near = load_lanes::<V, NV>(&lanes.mid_near, tile.panel.arrays, TIES && MID && rounds);
        let (low, high) = (e.low_code.as_ptr().add(c), e.high_code.as_ptr().add(c));
        for segment in 0..pixels.count / pixels.per_row {
            let mut out = out.add(segment * walk.out_segment + c);
            let mut residual = tile.residual.wrapping_add(segment * walk.residual_segment + c);
            for x in 0..pixels.per_row {
                let mut in_doubt = [0; NV];
                let mut codes = [V::zero(); NV];
                if RES && NV == 2 {
                    let both = V::load_codes2(residual, channels);
                    codes[0] = both[0];
                    codes[NV - 1] = both[1];
                } else if RES {
                    codes[0] = V::load_codes(residual, channels);
                }
                let mut q = codes;
                for j in 0..NV {
                    let f = V::to_f32(V::loadu(sum.add(j * V::LANES)));
                    let mut f = V::add_f32(V::mul_f32(f, scale[j]), bias[j]);
                    if MID {
                        f = V::min_f32(V::max_f32(f, mid_low), mid_high);
                        if rounds {
                            let level = V::round_f32(f);
                            if TIES {
                                in_doubt[j] |= far::<V>(f, level, mid_near[j]);
                            }
                            f = level;
                        }
                        f = V::add_f32(V::mul_f32(f, mid_scale[j]), mid_offset[j]);
                    }
                    if RES {
                        let r = V::mul_f32(V::to_f32(codes[j]), res_scale[j]);
                        f = V::add_f32(f, V::add_f32(r, res_offset[j]));
                    }
                    q[j] = V::to_i32(f);
                    if TIES {
                        // Codes beyond the limits, which are in no doubt, are sorted out where they are noted.
                        in_doubt[j] |= far::<V>(f, V::to_f32(q[j]), near[j]);
                    }
                }
                store_codes::<V, NV>(q, low, high, out, channels);
                if TIES && in_doubt[0] | in_doubt[NV - 1] != 0 {
                    let pixel = (tile.at.0 + segment, tile.at.1 + x);
                    let residual = if RES { residual } else { std::ptr::null() };
                    note_lanes::<V>(doubts, pixel, (e, &tile.panel), &in_doubt, (sum, residual));
                }
                sum = sum.add(NV * V::LANES);
                out = out.wrapping_add(walk.out_step);
                residual = residual.wrapping_add(walk.residual_step);
            }
        }
    }
}

/// Notes the channels of lanes in doubt, a bit for each lane of each vector.
///
/// # Safety
/// The sums of the panel and its channels of the residual, unless null, are readable.
#[cold]
#[inline(never)]
unsafe fn note_lanes<V: Vector>(
    doubts: &mut Doubts,
    pixel: (usize, usize),
    (e, panel): (&Epilogue, &Panel),
    in_doubt: &[u32],
    (sums, residual): (*const i32, *const u8),
) {
    for (v, &mask) in in_doubt.iter().enumerate() {
        let lanes = bits(mask).map(|bit| (v * V::LANES + bit, panel.channel(v * panel.vector + bit)));
        let doubt = |(lane, c): (usize, usize)| {
            // SAFETY: the caller's contract; the lane is one of the panel, the channel was compared.
            let (sum, code) = unsafe {
                let code = if residual.is_null() { 0 } else { *residual.add(c) };
                (*sums.add(lane), code)
            };
            Some((panel.first + c, e.doubt(sum, panel.first + c, code)?))
        };
        note(
            doubts,
            pixel,
            lanes.filter(|&(_, c)| c < panel.channels).filter_map(doubt),
        );
    }
}

/// `NV` vectors from index `at` of `values`, or zeros.
///
/// # Safety
/// Those of [`Vector`]; the vectors lie inside `values` if `used`.
#[inline(always)]
unsafe fn load_lanes<V: Vector, const NV: usize>(values: &[f32], at: usize, used: bool) -> [V::F; NV] {
    // SAFETY: the caller's contract.
    unsafe {
        let mut out = [V::splat_f32(0.0); NV];
        for j in 0..NV {
            if used {
                out[j] = V::load_f32(values.as_ptr().add(at + j * V::LANES));
            }
        }
        out
    }
}

/// Runs a band with the tile functions of an instruction set.
///
/// # Safety
/// The processor has the instruction set of `tiles`, whose vectors have `lanes` elements.
pub(in super::super) unsafe fn run(args: &mut ConvU8Args<'_>, band: &Band, tiles: &Tiles, lanes: usize) {
    let (rows, panels) = args.limit(band);
    let mut noted = args.output.take_doubts();
    let (mut none, notes) = (Doubts::new(), noted.is_some());
    let doubts = noted.as_mut().unwrap_or(&mut none);
    let conv = args.conv;
    let e = &conv.epilogue;
    let w = &conv.window;
    let input = *args.input.layout();
    let output = *args.output.layout();
    let residual = args.residual.as_ref().map(|r| *r.layout());
    let joined = matches!(conv.row_taps, RowTaps::Joined { .. });
    let small = output.width <= SMALL_MAP;
    let mut walk = Walk {
        conv,
        epilogue: e,
        lanes: &conv.lanes,
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
        notes,
        finish: tiles.finish,
    };
    let plain = e.is_plain() && conv.round_first && !notes;
    let group_inputs = conv.channels.input / conv.channels.groups;
    let pitch = input.row_pitch as isize;
    let stride = input.pixel_stride as isize;
    let grid = amx::Grid::new(&walk, output.width, rows.len(), tiles);
    let small = small || grid.is_some() && output.width <= amx::SMALL_MAP;
    let mut run = |panel: &Panel, rows: std::ops::Range<usize>| {
        let vectors = panel.lanes / lanes;
        let (one_row, two_rows): (&[TileFn], &[TileFn]) = if panel.is_split {
            (tiles.listed[vectors - 1], &[])
        } else {
            (tiles.one_row[vectors - 1], tiles.two_rows[vectors - 1])
        };
        walk.prefetch = if small { panel.bytes } else { 0 };
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
                at: (y, x),
                plain: plain && panel.channels == panel.lanes,
            }
        };
        if let Some(grid) = &grid {
            // SAFETY: the arguments' constructor found every read and write of these rows inside their buffers.
            return unsafe { grid.run(&walk, panel, rows, tile_at, doubts) };
        }
        let mut y = rows.start;
        while y < rows.end {
            if output.width <= two_rows.len() && y + 1 < rows.end {
                let tile = tile_at(y, 0);
                // SAFETY: the arguments' constructor found every read and write of these two rows inside
                // their buffers.
                unsafe { two_rows[output.width - 1](&walk, &tile, doubts) };
                y += 2;
                continue;
            }
            let mut x = 0;
            while x < output.width {
                let left = output.width - x;
                // Equal tiles, so that no narrow one is left over.
                let pixels = left.div_ceil(left.div_ceil(one_row.len()));
                let tile = tile_at(y, x);
                // SAFETY: the arguments' constructor found every read and write of this row inside their
                // buffers.
                unsafe { one_row[pixels - 1](&walk, &tile, doubts) };
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
    args.output.note(noted);
}
