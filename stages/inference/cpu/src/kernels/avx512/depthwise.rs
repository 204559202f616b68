//! Integer depthwise convolution: 64 channels at a time, four taps in each dot product.
//!
//! Four neighbouring pixels are interleaved so that every 32-bit element holds four taps of one channel. With
//! stride 1 the same interleave serves several outputs, whose weights are shifted by a slot each.

use core::arch::x86_64::*;
use std::ops::Range;

use super::finish::{Target, finish16, mask64, residual_pixel};
use super::{entry, unroll};
use crate::kernels::depthwise::Interleaved;
use crate::kernels::{DepthwiseU8Args, Epilogue};

/// Outputs in a row that share an interleave, by pixel slots.
const MAX_SLOTS: usize = 16;

entry!(
    /// Integer depthwise convolution.
    depthwise_u8, depthwise, (args: &mut DepthwiseU8Args<'_>, rows: Range<usize>)
);

/// One position of a block of 64 channels.
struct Spot<'a> {
    input: *const u8,
    row_step: usize,
    rows: usize,
    /// Byte offset of each pixel slot.
    slots: &'a [usize; MAX_SLOTS],
    load: __mmask64,
    /// `[pass][row][output][quad][4 vectors]` of 64 bytes.
    weights: *const i8,
    passes: usize,
    init: *const i32,
}

/// Interleaves four pixels of 64 channels: element `i` of 128-bit lane `l` of vector `v` holds the four codes of
/// channel `16 l + 4 v + i`.
///
/// # Safety
/// AVX-512BW; the four pixels readable under the mask.
#[inline(always)]
unsafe fn interleave(p: *const u8, slots: &[usize], mask: __mmask64) -> [__m512i; 4] {
    // SAFETY: the caller's contract.
    unsafe {
        let a = _mm512_maskz_loadu_epi8(mask, p.add(slots[0]).cast());
        let b = _mm512_maskz_loadu_epi8(mask, p.add(slots[1]).cast());
        let c = _mm512_maskz_loadu_epi8(mask, p.add(slots[2]).cast());
        let d = _mm512_maskz_loadu_epi8(mask, p.add(slots[3]).cast());
        let (ab_lo, ab_hi) = (_mm512_unpacklo_epi8(a, b), _mm512_unpackhi_epi8(a, b));
        let (cd_lo, cd_hi) = (_mm512_unpacklo_epi8(c, d), _mm512_unpackhi_epi8(c, d));
        [
            _mm512_unpacklo_epi16(ab_lo, cd_lo),
            _mm512_unpackhi_epi16(ab_lo, cd_lo),
            _mm512_unpacklo_epi16(ab_hi, cd_hi),
            _mm512_unpackhi_epi16(ab_hi, cd_hi),
        ]
    }
}

/// Sums of two neighbouring outputs in each of two rows, with stride and dilation 1 down: every interleave
/// serves up to four outputs.
///
/// # Safety
/// As [`accumulate`], for one kernel row more.
#[inline(always)]
unsafe fn accumulate_two_rows(spot: &Spot<'_>) -> [[[__m512i; 4]; 2]; 2] {
    // SAFETY: the caller's contract.
    unsafe {
        let start: [__m512i; 4] = core::array::from_fn(|v| _mm512_load_si512(spot.init.add(v * 16).cast()));
        let mut acc = [[start; 2]; 2];
        let mut w = spot.weights;
        for _ in 0..spot.passes {
            for row in 0..=spot.rows {
                let taps = interleave(spot.input.add(row * spot.row_step), &spot.slots[..4], spot.load);
                for r in 0..2 {
                    if row >= r && row - r < spot.rows {
                        let w = w.add((row - r) * 8 * 64);
                        for j in 0..2 {
                            for v in 0..4 {
                                let weights = _mm512_load_si512(w.add((j * 4 + v) * 64).cast());
                                acc[r][j][v] = _mm512_dpbusd_epi32(acc[r][j][v], taps[v], weights);
                            }
                        }
                    }
                }
            }
            w = w.add(spot.rows * 8 * 64);
        }
        acc
    }
}

/// Sums of `J` neighbouring outputs from `4 * Q` pixel slots, in unpack order: vector `v` holds channels
/// `16 * lane + 4 * v + i`.
///
/// # Safety
/// AVX-512 VNNI; all slots of all rows readable under the mask.
#[inline(always)]
unsafe fn accumulate<const J: usize, const Q: usize>(spot: &Spot<'_>) -> [[__m512i; 4]; J] {
    // SAFETY: the caller's contract.
    unsafe {
        let start: [__m512i; 4] = core::array::from_fn(|v| _mm512_load_si512(spot.init.add(v * 16).cast()));
        let mut acc = [start; J];
        let mut w = spot.weights;
        for _ in 0..spot.passes {
            for row in 0..spot.rows {
                let p = spot.input.add(row * spot.row_step);
                for q in 0..Q {
                    let taps = interleave(p, &spot.slots[4 * q..4 * q + 4], spot.load);
                    for j in 0..J {
                        for v in 0..4 {
                            let weights = _mm512_load_si512(w.add(((j * Q + q) * 4 + v) * 64).cast());
                            acc[j][v] = _mm512_dpbusd_epi32(acc[j][v], taps[v], weights);
                        }
                    }
                }
                w = w.add(J * Q * 4 * 64);
            }
        }
        acc
    }
}

/// A block of 64 channels: what its epilogue needs.
struct Block<'a> {
    epilogue: &'a Epilogue,
    packed: &'a Interleaved,
    /// First channel.
    first: usize,
    /// Channels in use.
    channels: usize,
    /// Codes without inner rounding, residual or table.
    plain: bool,
}

/// Writes 64 outputs of one pixel.
///
/// # Safety
/// AVX-512F, BW, VL; the channels of the block lie inside `target` and `residual`.
#[inline(always)]
unsafe fn finish(acc: [__m512i; 4], block: &Block<'_>, target: Target, residual: *const u8) {
    // SAFETY: the caller's contract; the arrays are padded to blocks.
    unsafe {
        match target {
            Target::U8(out) if block.plain => finish_plain(acc, block, out.add(block.first)),
            _ => finish_any(acc, block, target, residual),
        }
    }
}

/// Writes 64 plain codes at `out`.
///
/// # Safety
/// As [`finish`].
#[inline(always)]
unsafe fn finish_plain(acc: [__m512i; 4], block: &Block<'_>, out: *mut u8) {
    let (packed, c) = (block.packed, block.first);
    // SAFETY: the caller's contract; the arrays hold 64 floats from `c` on.
    unsafe {
        let (scale, bias) = (packed.scale.as_ptr().add(c), packed.bias.as_ptr().add(c));
        let low = _mm512_load_si512(block.epilogue.low_code.as_ptr().add(c).cast());
        let high = _mm512_load_si512(block.epilogue.high_code.as_ptr().add(c).cast());
        let mut q = acc;
        for v in 0..4 {
            let f = _mm512_mul_ps(_mm512_cvtepi32_ps(acc[v]), _mm512_load_ps(scale.add(v * 16)));
            let f = _mm512_add_ps(f, _mm512_load_ps(bias.add(v * 16)));
            q[v] = _mm512_cvtps_epi32(f);
        }
        // Packing undoes the order of the unpacking, and saturates.
        let codes = _mm512_packus_epi16(_mm512_packs_epi32(q[0], q[1]), _mm512_packs_epi32(q[2], q[3]));
        let codes = _mm512_min_epu8(_mm512_max_epu8(codes, low), high);
        if block.channels >= 64 {
            _mm512_storeu_si512(out.cast(), codes);
        } else {
            _mm512_mask_storeu_epi8(out.cast(), mask64(block.channels), codes);
        }
    }
}

/// Writes 64 outputs through any epilogue.
///
/// # Safety
/// As [`finish`].
#[inline(never)]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
unsafe fn finish_any(acc: [__m512i; 4], block: &Block<'_>, target: Target, residual: *const u8) {
    let mut sums = [_mm_setzero_si128(); 16];
    for v in 0..4 {
        sums[v] = _mm512_extracti32x4_epi32::<0>(acc[v]);
        sums[4 + v] = _mm512_extracti32x4_epi32::<1>(acc[v]);
        sums[8 + v] = _mm512_extracti32x4_epi32::<2>(acc[v]);
        sums[12 + v] = _mm512_extracti32x4_epi32::<3>(acc[v]);
    }
    for v in 0..block.channels.div_ceil(16) {
        let (c, used) = (block.first + v * 16, block.channels - v * 16);
        // SAFETY: the caller's contract; `sums` holds 64 sums.
        unsafe {
            let sums = _mm512_loadu_si512(sums.as_ptr().add(v * 4).cast());
            finish16(block.epilogue, sums, c, used, 1.0, target, residual);
        }
    }
}

/// # Safety
/// AVX-512 VNNI.
unsafe fn depthwise(args: &mut DepthwiseU8Args<'_>, rows: Range<usize>) {
    let packed = &args.conv.packed;
    // SAFETY: the caller's contract; the packing states which outputs and quads it holds.
    unsafe {
        match (packed.outputs, packed.quads) {
            (2, 1) => run::<2, 1>(args, rows),
            (4, 2) => run::<4, 2>(args, rows),
            (2, 2) => run::<2, 2>(args, rows),
            (_, 1) => run::<1, 1>(args, rows),
            (_, 2) => run::<1, 2>(args, rows),
            (_, 3) => run::<1, 3>(args, rows),
            (_, 4) => run::<1, 4>(args, rows),
            _ => crate::kernels::scalar::depthwise_u8(args, rows),
        }
    }
}

/// # Safety
/// AVX-512 VNNI; `J` and `Q` are those of the packed weights.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
unsafe fn run<const J: usize, const Q: usize>(args: &mut DepthwiseU8Args<'_>, rows: Range<usize>) {
    let conv = args.conv;
    let (e, packed, w) = (&conv.epilogue, &conv.packed, &conv.window);
    let input = *args.input.layout();
    let output = *args.output.layout();
    let tap_step = w.dilation[1] * input.pixel_stride;
    // Slots past the last tap have zero weights and may read any pixel; they repeat the last one.
    let slots = |taps: usize| core::array::from_fn(|i: usize| i.min(taps - 1) * tap_step);
    let (one, many): ([usize; MAX_SLOTS], [usize; MAX_SLOTS]) =
        (slots(w.kernel[1]), slots(w.kernel[1] + J - 1));
    let block_bytes = packed.passes * w.kernel[0] * Q * 4 * 64;
    let pairs = J == 2 && Q == 1 && w.stride[0] == 1 && w.dilation[0] == 1;
    let mut next = rows.start;
    while next < rows.end {
        let y = next;
        let two = pairs && y + 2 <= rows.end;
        next += 1 + usize::from(two);
        let iy = (y * w.stride[0]) as isize - w.pad_begin[0] as isize;
        for index in 0..e.channels.div_ceil(64) {
            let first = index * 64;
            let block = Block {
                epilogue: e,
                packed,
                first,
                channels: (e.channels - first).min(64),
                plain: e.is_plain() && packed.round_first,
            };
            let mut spot = Spot {
                input: std::ptr::null(),
                row_step: w.dilation[0] * input.row_pitch,
                rows: w.kernel[0],
                slots: &many,
                load: mask64(block.channels),
                weights: std::ptr::null(),
                passes: packed.passes,
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
                        spot.slots = &many;
                        spot.weights = packed.several.as_ptr().add(index * J * block_bytes);
                        let acc = accumulate_two_rows(&spot);
                        unroll!([0 1 2 3] I => {
                            let (y, x) = (y + I / 2, x + I % 2);
                            let target = Target::pixel(&args.output, y, x);
                            let residual = residual_pixel(args.residual.as_ref(), y, x);
                            finish(acc[I / 2][I % 2], &block, target, residual);
                        });
                        x += 2;
                    } else if J > 1 && x + J <= output.width {
                        spot.slots = &many;
                        spot.weights = packed.several.as_ptr().add(index * J * block_bytes);
                        let acc = accumulate::<J, Q>(&spot);
                        unroll!([0 1 2 3] I => {
                            if I < J {
                                let target = Target::pixel(&args.output, y, x + I);
                                let residual = residual_pixel(args.residual.as_ref(), y, x + I);
                                finish(acc[I], &block, target, residual);
                            }
                        });
                        x += J;
                    } else {
                        spot.slots = &one;
                        spot.weights = packed.one.as_ptr().add(index * block_bytes);
                        for y in y..next {
                            let [acc] = accumulate::<1, Q>(&spot);
                            let target = Target::pixel(&args.output, y, x);
                            finish(acc, &block, target, residual_pixel(args.residual.as_ref(), y, x));
                            spot.input = spot.input.wrapping_add(input.row_pitch);
                        }
                        x += 1;
                    }
                }
            }
        }
    }
}
