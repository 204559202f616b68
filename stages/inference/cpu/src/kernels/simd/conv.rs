//! Integer convolution: tiles of pixels x two vectors of output channels.

mod amx;
mod finish;

pub(in super::super) use amx::peak;
pub(in super::super) use finish::finish_tile;

use super::finish::{Target, residual_pixel};
use super::{Dot, Vector, unroll};
use crate::kernels::conv::{Lanes, Panel, RowTaps};
use crate::kernels::ties::Doubts;
use crate::kernels::{Band, ConvU8, ConvU8Args, Epilogue};
use finish::store_codes;

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
    /// Elements between what is known of the data of output pixels, and output rows.
    rest_step: usize,
    rest_segment: usize,
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
    /// See [`ConvU8Args::with_rests`]: of the first pixel.
    rests: *const f32,
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

/// Runs a band with the tile functions of an instruction set.
///
/// # Safety
/// The processor has the instruction set of `tiles`, whose vectors have `lanes` elements.
pub(in super::super) unsafe fn run(args: &mut ConvU8Args<'_>, band: &Band, tiles: &Tiles, lanes: usize) {
    let (rows, panels) = args.limit(band);
    let (first_row, known) = (
        rows.start,
        args.rests.len() == rows.len() * args.output.layout().width,
    );
    let rests = if known { args.rests } else { &[0.0] };
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
        rest_step: usize::from(known),
        rest_segment: if known { output.width } else { 0 },
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
                rests: rests.as_ptr().wrapping_add(if known {
                    (y - first_row) * output.width + x
                } else {
                    0
                }),
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
