//! Integer depthwise convolution: 64 channels at a time, four taps in each dot product.
//!
//! Four neighbouring pixels are interleaved so that every 32-bit element holds four taps of one channel. With
//! stride 1 the same interleave serves several outputs, whose weights are shifted by a slot each.

use core::arch::x86_64::*;
use std::ops::Range;

use super::entry;
use super::finish::{Target, clamp_round, finish16, mask64, residual_pixel};
use crate::kernels::{DepthwiseU8Args, OutputKind};

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
                    let px =
                        |i: usize| _mm512_maskz_loadu_epi8(spot.load, p.add(spot.slots[4 * q + i]).cast());
                    let (a, b, c, d) = (px(0), px(1), px(2), px(3));
                    let (ab_lo, ab_hi) = (_mm512_unpacklo_epi8(a, b), _mm512_unpackhi_epi8(a, b));
                    let (cd_lo, cd_hi) = (_mm512_unpacklo_epi8(c, d), _mm512_unpackhi_epi8(c, d));
                    let taps = [
                        _mm512_unpacklo_epi16(ab_lo, cd_lo),
                        _mm512_unpackhi_epi16(ab_lo, cd_lo),
                        _mm512_unpacklo_epi16(ab_hi, cd_hi),
                        _mm512_unpackhi_epi16(ab_hi, cd_hi),
                    ];
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

/// Per-channel arrays of the block, in unpack order.
struct Block {
    scale: *const f32,
    bias: *const f32,
    low: *const f32,
    high: *const f32,
}

/// Writes 64 plain codes.
///
/// # Safety
/// AVX-512F, BW; the outputs under the mask lie inside their buffer.
#[inline(always)]
unsafe fn finish_plain(acc: [__m512i; 4], block: &Block, out: *mut u8, mask: __mmask64) {
    // SAFETY: the caller's contract; the arrays hold 64 floats each.
    unsafe {
        let q: [__m512i; 4] = core::array::from_fn(|v| {
            let f = _mm512_mul_ps(
                _mm512_cvtepi32_ps(acc[v]),
                _mm512_load_ps(block.scale.add(v * 16)),
            );
            let f = _mm512_add_ps(f, _mm512_load_ps(block.bias.add(v * 16)));
            clamp_round(f, block.low.add(v * 16), block.high.add(v * 16))
        });
        // Packing undoes the order of the unpacking.
        let codes = _mm512_packus_epi16(_mm512_packs_epi32(q[0], q[1]), _mm512_packs_epi32(q[2], q[3]));
        if mask == u64::MAX {
            _mm512_storeu_si512(out.cast(), codes);
        } else {
            _mm512_mask_storeu_epi8(out.cast(), mask, codes);
        }
    }
}

/// Sums in unpack order to channel order.
///
/// # Safety
/// AVX-512F.
#[inline(always)]
unsafe fn natural_order(acc: [__m512i; 4]) -> [__m512i; 4] {
    // SAFETY: the caller's contract; the array holds the 64 sums of four vectors.
    unsafe {
        let mut sums = [_mm_setzero_si128(); 16];
        for v in 0..4 {
            sums[v] = _mm512_extracti32x4_epi32::<0>(acc[v]);
            sums[4 + v] = _mm512_extracti32x4_epi32::<1>(acc[v]);
            sums[8 + v] = _mm512_extracti32x4_epi32::<2>(acc[v]);
            sums[12 + v] = _mm512_extracti32x4_epi32::<3>(acc[v]);
        }
        core::array::from_fn(|v| _mm512_loadu_si512(sums.as_ptr().add(v * 4).cast()))
    }
}

/// # Safety
/// AVX-512 VNNI.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
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
#[inline(always)]
unsafe fn run<const J: usize, const Q: usize>(args: &mut DepthwiseU8Args<'_>, rows: Range<usize>) {
    let conv = args.conv;
    let (e, packed, w) = (&conv.epilogue, &conv.packed, &conv.window);
    let input = *args.input.layout();
    let output = *args.output.layout();
    let plain = e.mid.is_none() && e.residual.is_none() && e.table.is_none() && e.output == OutputKind::U8;
    let tap_step = w.dilation[1] * input.pixel_stride;
    // Slots past the last tap have zero weights and may read any pixel; they repeat the last one.
    let slots = |taps: usize| core::array::from_fn(|i: usize| i.min(taps - 1) * tap_step);
    let (one, many): ([usize; MAX_SLOTS], [usize; MAX_SLOTS]) =
        (slots(w.kernel[1]), slots(w.kernel[1] + J - 1));
    let block_bytes = packed.passes * w.kernel[0] * Q * 4 * 64;
    for y in rows {
        let iy = (y * w.stride[0]) as isize - w.pad_begin[0] as isize;
        for block in 0..e.channels.div_ceil(64) {
            let c = block * 64;
            let used = (e.channels - c).min(64);
            let mask = mask64(used);
            let arrays = Block {
                scale: packed.scale[c..].as_ptr(),
                bias: packed.bias[c..].as_ptr(),
                low: packed.low[c..].as_ptr(),
                high: packed.high[c..].as_ptr(),
            };
            let mut x = 0;
            while x < output.width {
                let ix = (x * w.stride[1]) as isize - w.pad_begin[1] as isize;
                let at = iy * input.row_pitch as isize + ix * input.pixel_stride as isize;
                let several = J > 1 && x + J <= output.width;
                let spot = Spot {
                    input: args.input.origin().wrapping_offset(at).wrapping_add(c),
                    row_step: w.dilation[0] * input.row_pitch,
                    rows: w.kernel[0],
                    slots: if several { &many } else { &one },
                    load: mask,
                    weights: if several {
                        packed.several[block * J * block_bytes..].as_ptr()
                    } else {
                        packed.one[block * block_bytes..].as_ptr()
                    },
                    passes: packed.passes,
                    init: packed.init[c..].as_ptr(),
                };
                let finish = |acc: [__m512i; 4], x: usize| {
                    let target = Target::pixel(&args.output, y, x);
                    // SAFETY: the pixel lies in the output and the residual, which were checked.
                    unsafe {
                        match target {
                            Target::U8(out) if plain => finish_plain(acc, &arrays, out.add(c), mask),
                            _ => {
                                let residual = residual_pixel(args.residual.as_ref(), y, x);
                                for (v, sums) in natural_order(acc).into_iter().enumerate() {
                                    if v * 16 < used {
                                        finish16(e, sums, c + v * 16, used - v * 16, 1.0, target, residual);
                                    }
                                }
                            }
                        }
                    }
                };
                // SAFETY: the arguments' constructor found all taps of these outputs inside image and halo,
                // and the weights of block `block` are packed for them.
                unsafe {
                    if several {
                        for (j, acc) in accumulate::<J, Q>(&spot).into_iter().enumerate() {
                            finish(acc, x + j);
                        }
                        x += J;
                    } else {
                        let [acc] = accumulate::<1, Q>(&spot);
                        finish(acc, x);
                        x += 1;
                    }
                }
            }
        }
    }
}
