//! f32 convolution: tiles of pixels x two vectors of output channels.

use super::{Vector, unroll};
use crate::kernels::conv_f32::PanelF32;
use crate::kernels::literal::fused;
use crate::kernels::{Band, ConvF32Args, EpilogueF32};

/// Most pixels in a tile of any instruction set.
const MAX_TILE: usize = 14;

/// Maps up to this wide keep one weight panel in the cache for the whole map.
const SMALL_MAP: usize = 14;

/// What all tiles of a layer share; steps count elements.
pub(in super::super) struct Walk<'a> {
    epilogue: &'a EpilogueF32,
    pixel_step: usize,
    row_step: usize,
    tap_step: usize,
    rows: usize,
    taps: usize,
    inputs: usize,
    /// Inputs of a tap that are summed before they are added to the rest.
    block: usize,
    out_step: usize,
    residual_step: usize,
}

pub(in super::super) struct Tile {
    input: *const f32,
    weights: *const f32,
    panel: PanelF32,
    out: *mut f32,
    /// Null where there is none.
    residual: *const f32,
}

pub(in super::super) type TileFn = unsafe fn(&Walk<'_>, &Tile);

/// Tile functions of an instruction set: `[vectors - 1][pixels - 1]`.
pub(in super::super) struct Tiles {
    /// For sums that are one chain.
    pub whole: [&'static [TileFn]; 2],
    /// For sums of several blocks: fewer pixels, since the sum of the blocks stays in registers too.
    pub in_blocks: [&'static [TileFn]; 2],
}

/// `MR` pixels x `NV` vectors of output channels; `BLOCKS`: inputs are summed in blocks. Both in one function would leave
/// accumulators in memory.
///
/// # Safety
/// Those of [`Vector`]; all reads that `walk` describes and all writes of the tile are inside their buffers.
#[inline(always)]
pub(in super::super) unsafe fn tile<V: Vector, const MR: usize, const NV: usize, const BLOCKS: bool>(
    walk: &Walk<'_>,
    tile: &Tile,
) {
    // SAFETY: the caller's contract; epilogue arrays are padded by a block.
    unsafe {
        let mut acc = [[V::splat_f32(0.0); NV]; MAX_TILE];
        let mut blocks = [[V::splat_f32(0.0); NV]; MAX_TILE];
        let mut in_doubt = V::zero();
        let mut w = tile.weights;
        let step = walk.pixel_step;
        for ky in 0..walk.rows {
            for kx in 0..walk.taps {
                let mut p = tile.input.add(ky * walk.row_step + kx * walk.tap_step);
                let mut left = walk.inputs;
                loop {
                    let count = if BLOCKS { left.min(walk.block) } else { left };
                    for _ in 0..count {
                        let mut wv = [V::splat_f32(0.0); NV];
                        for j in 0..NV {
                            wv[j] = V::load_f32(w.add(j * V::LANES));
                        }
                        unroll!([0 1 2 3 4 5 6 7 8 9 10 11 12 13] I => {
                            if I < MR {
                                let x = V::splat_f32(*p.add(I * step));
                                for j in 0..NV {
                                    acc[I][j] = V::fused(x, wv[j], acc[I][j], &mut in_doubt);
                                }
                            }
                        });
                        w = w.add(NV * V::LANES);
                        p = p.add(1);
                    }
                    left -= count;
                    if !BLOCKS || left == 0 {
                        break;
                    }
                    unroll!([0 1 2 3 4 5 6 7 8 9 10 11 12 13] I => {
                        if I < MR {
                            for j in 0..NV {
                                blocks[I][j] = V::add_f32(blocks[I][j], acc[I][j]);
                                acc[I][j] = V::splat_f32(0.0);
                            }
                        }
                    });
                }
            }
        }
        if BLOCKS {
            unroll!([0 1 2 3 4 5 6 7 8 9 10 11 12 13] I => {
                if I < MR {
                    for j in 0..NV {
                        acc[I][j] = V::add_f32(blocks[I][j], acc[I][j]);
                    }
                }
            });
        }
        if !V::FUSED && V::any(in_doubt) {
            unroll!([0 1 2 3 4 5 6 7 8 9 10 11 12 13] I => {
                if I < MR {
                    for j in 0..NV {
                        let sums = exact_sums(walk, tile, I, j * V::LANES, NV * V::LANES);
                        acc[I][j] = V::load_f32(sums.as_ptr());
                    }
                }
            });
        }
        unroll!([0 1 2 3 4 5 6 7 8 9 10 11 12 13] I => {
            if I < MR {
                for j in 0..NV {
                    let c = tile.panel.first + j * V::LANES;
                    let used = tile.panel.channels.saturating_sub(j * V::LANES);
                    let residual = tile.residual.wrapping_add(I * walk.residual_step);
                    let out = tile.out.add(I * walk.out_step);
                    finish::<V>(walk.epilogue, acc[I][j], c, used, out, residual);
                }
            }
        });
    }
}

/// Sums of pixel `i` and up to 16 lanes from `first` on, of `lanes`, without an instruction that multiplies and adds.
///
/// # Safety
/// As [`tile`].
#[cold]
#[inline(never)]
unsafe fn exact_sums(walk: &Walk<'_>, tile: &Tile, i: usize, first: usize, lanes: usize) -> [f32; 16] {
    let mut sums = [0.0; 16];
    let mut blocks = [0.0; 16];
    let mut w = tile.weights.wrapping_add(first);
    for ky in 0..walk.rows {
        for kx in 0..walk.taps {
            let at = i * walk.pixel_step + ky * walk.row_step + kx * walk.tap_step;
            for c in 0..walk.inputs {
                if c > 0 && c % walk.block == 0 {
                    blocks
                        .iter_mut()
                        .zip(&mut sums)
                        .for_each(|(block, sum)| *block += std::mem::take(sum));
                }
                for (lane, sum) in sums[..(lanes - first).min(16)].iter_mut().enumerate() {
                    // SAFETY: the caller's contract.
                    *sum = unsafe { fused::<false>(*tile.input.add(at + c), *w.add(lane), *sum) };
                }
                w = w.wrapping_add(lanes);
            }
        }
    }
    if walk.inputs > walk.block {
        sums.iter_mut()
            .zip(&blocks)
            .for_each(|(sum, block)| *sum += block);
    }
    sums
}

/// # Safety
/// Those of [`Vector`]; `used` channels from `c` on exist in the pixels `out` and `residual` point to.
#[inline(always)]
pub(super) unsafe fn finish<V: Vector>(
    e: &EpilogueF32,
    sums: V::F,
    c: usize,
    used: usize,
    out: *mut f32,
    residual: *const f32,
) {
    // SAFETY: the caller's contract; epilogue arrays are padded by a block.
    unsafe {
        let mut f = V::add_f32(sums, V::load_f32(e.bias.as_ptr().add(c)));
        if !residual.is_null() {
            f = V::add_f32(f, V::load_some_f32(residual.add(c), used));
        }
        // Limits come first: NaN, the second operand, stays.
        let f = V::max_f32(V::load_f32(e.low.as_ptr().add(c)), f);
        let f = V::min_f32(V::load_f32(e.high.as_ptr().add(c)), f);
        V::store_f32(out.add(c), used, f);
    }
}

/// Runs a band with the tile functions of an instruction set.
///
/// # Safety
/// The processor has the instruction set of `tiles`, whose vectors have `lanes` elements.
pub(in super::super) unsafe fn run(args: &mut ConvF32Args<'_>, band: &Band, tiles: &Tiles, lanes: usize) {
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
        block: conv.block,
        out_step: output.pixel_stride,
        residual_step: residual.map_or(0, |(_, l)| l.pixel_stride),
    };
    let tiles = if walk.inputs > walk.block {
        &tiles.in_blocks
    } else {
        &tiles.whole
    };
    let run = |panel: &PanelF32, y: usize| {
        let tiles = tiles[panel.lanes / lanes - 1];
        let mut x = 0;
        while x < output.width {
            let left = output.width - x;
            let pixels = left.div_ceil(left.div_ceil(tiles.len()));
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
            unsafe { tiles[pixels - 1](&walk, &tile) };
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
