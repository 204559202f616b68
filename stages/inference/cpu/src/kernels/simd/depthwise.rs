//! Integer depthwise convolution: four vectors of channels at a time, four taps in each dot product.
//!
//! Four neighbouring pixels are interleaved so that every 32-bit element holds four taps of one channel. With
//! stride 1 the same interleave serves several outputs, whose weights are shifted by a slot each.

use std::ops::Range;

use super::finish::{Target, finish_vector, residual_pixel, round_noting};
use super::{Dot, Vector, unroll};
use crate::kernels::depthwise::{Interleaved, SeveralPixels, Slots};
use crate::kernels::ties::{Doubts, LANES, bits, note};
use crate::kernels::{DepthwiseU8Args, Epilogue};

/// Outputs in a row that share an interleave, by pixel slots.
const MAX_SLOTS: usize = 16;

/// Sums of one pixel, in unpack order: 128-bit part `l` of vector `v` holds channels `16 l + 4 v ..`.
type Sums<V> = [<V as Vector>::I; 4];

/// The function for epilogues that are not plain: 64 sums or fewer in unpack order. Returns which channels are in doubt.
pub(in super::super) type FinishFn = unsafe fn(*const i32, &Block<'_>, Target, *const u8) -> u64;

/// One position of a block of channels.
struct Spot<'a> {
    input: *const u8,
    row_step: usize,
    rows: usize,
    /// Groups of four slots.
    quads: usize,
    /// Byte offset of each pixel slot.
    slots: &'a [usize; MAX_SLOTS],
    /// Channels to load.
    channels: usize,
    weights: *const i8,
    /// Where the parts of each (row, quad) begin and end, in groups of `outputs` x 4 vectors.
    starts: *const u32,
    /// Whether every quad is one part.
    whole: bool,
    init: *const i32,
}

/// Interleaves four pixels: element `i` of 128-bit part `l` of vector `v` holds the four codes of channel
/// `16 l + 4 v + i`.
///
/// # Safety
/// Those of [`Vector`]; the channels of the four pixels readable.
#[inline(always)]
unsafe fn interleave<V: Vector>(p: *const u8, slots: &[usize; 4], channels: usize) -> Sums<V> {
    // SAFETY: the caller's contract.
    unsafe {
        let a = V::load_bytes(p.add(slots[0]), channels);
        let b = V::load_bytes(p.add(slots[1]), channels);
        let c = V::load_bytes(p.add(slots[2]), channels);
        let d = V::load_bytes(p.add(slots[3]), channels);
        let ((ab_lo, ab_hi), (cd_lo, cd_hi)) = (V::unpack8(a, b), V::unpack8(c, d));
        let ((v0, v1), (v2, v3)) = (V::unpack16(ab_lo, cd_lo), V::unpack16(ab_hi, cd_hi));
        [v0, v1, v2, v3]
    }
}

/// Adds the products of one interleave to `J` outputs, for each part of the weights of quad `index`.
///
/// # Safety
/// As [`accumulate`].
#[inline(always)]
unsafe fn add_products<D: Dot, const J: usize>(
    acc: &mut [Sums<D::V>; J],
    taps: Sums<D::V>,
    spot: &Spot<'_>,
    index: usize,
) {
    // SAFETY: the caller's contract.
    unsafe {
        let bytes = D::V::LANES * 4;
        let (from, to) = (*spot.starts.add(index), *spot.starts.add(index + 1));
        for part in from..to {
            let w = spot.weights.add(part as usize * J * 4 * bytes);
            for j in 0..J {
                for v in 0..4 {
                    let weights = D::V::load(w.add((j * 4 + v) * bytes).cast());
                    acc[j][v] = D::dot(acc[j][v], taps[v], weights);
                }
            }
        }
    }
}

/// Where the sums of a block start.
///
/// # Safety
/// As [`accumulate`].
#[inline(always)]
unsafe fn start<V: Vector>(init: *const i32) -> Sums<V> {
    // SAFETY: the caller's contract.
    unsafe {
        let mut sums = [V::zero(); 4];
        for v in 0..4 {
            sums[v] = V::load(init.add(v * V::LANES).cast());
        }
        sums
    }
}

/// The weights of the first quad of a block of which every quad is one part.
///
/// # Safety
/// As [`accumulate`].
#[inline(always)]
unsafe fn whole_weights<D: Dot, const J: usize>(spot: &Spot<'_>) -> *const i8 {
    // SAFETY: the caller's contract.
    unsafe { spot.weights.add(*spot.starts as usize * J * D::V::LANES * 16) }
}

/// Adds the products of one interleave to `J` outputs, with the one part of its weights.
///
/// # Safety
/// As [`accumulate`].
#[inline(always)]
unsafe fn add_whole<D: Dot, const J: usize>(acc: &mut [Sums<D::V>; J], taps: Sums<D::V>, w: *const i8) {
    // SAFETY: the caller's contract.
    unsafe {
        unroll!([0 1 2 3] I => {
            if I < J {
                for v in 0..4 {
                    let weights = D::V::load(w.add((I * 4 + v) * D::V::LANES * 4).cast());
                    acc[I][v] = D::dot(acc[I][v], taps[v], weights);
                }
            }
        });
    }
}

/// Sums of two neighbouring outputs in each of two rows, with stride and dilation 1 down: every interleave
/// serves up to four outputs.
///
/// # Safety
/// As [`accumulate`], for one kernel row more.
#[inline(always)]
unsafe fn accumulate_two_rows<D: Dot>(spot: &Spot<'_>) -> [[Sums<D::V>; 2]; 2] {
    // SAFETY: the caller's contract.
    unsafe {
        let mut acc = [[start::<D::V>(spot.init); 2]; 2];
        if spot.whole && spot.rows == 3 {
            let w = whole_weights::<D, 2>(spot);
            let row_bytes = 2 * D::V::LANES * 16;
            unroll!([0 1 2 3] R => {
                let p = spot.input.add(R * spot.row_step);
                let taps = interleave::<D::V>(p, &spot.slots.as_chunks().0[0], spot.channels);
                if R < 3 {
                    add_whole::<D, 2>(&mut acc[0], taps, w.add(R * row_bytes));
                }
                if R != 0 {
                    add_whole::<D, 2>(&mut acc[1], taps, w.add((R - 1) * row_bytes));
                }
            });
            return acc;
        }
        for row in 0..=spot.rows {
            let p = spot.input.add(row * spot.row_step);
            let taps = interleave::<D::V>(p, &spot.slots.as_chunks().0[0], spot.channels);
            for r in 0..2 {
                if row >= r && row - r < spot.rows {
                    add_products::<D, 2>(&mut acc[r], taps, spot, row - r);
                }
            }
        }
        acc
    }
}

/// Sums of `J` neighbouring outputs.
///
/// # Safety
/// Those of [`Vector`]; all slots of all rows readable, weights and starts those of the block.
#[inline(always)]
unsafe fn accumulate<D: Dot, const J: usize>(spot: &Spot<'_>) -> [Sums<D::V>; J] {
    // SAFETY: the caller's contract.
    unsafe {
        match (spot.whole, spot.rows, spot.quads) {
            (true, 3, 1) => accumulate_whole::<D, J, 3, 1>(spot),
            (true, 5, 2) => accumulate_whole::<D, J, 5, 2>(spot),
            _ => {
                let mut acc = [start::<D::V>(spot.init); J];
                for row in 0..spot.rows {
                    let p = spot.input.add(row * spot.row_step);
                    for (q, slots) in spot.slots.as_chunks().0[..spot.quads].iter().enumerate() {
                        let taps = interleave::<D::V>(p, slots, spot.channels);
                        add_products::<D, J>(&mut acc, taps, spot, row * spot.quads + q);
                    }
                }
                acc
            }
        }
    }
}

/// [`accumulate`] for a kernel of `ROWS` rows of `QUADS` quads, each of one part.
///
/// # Safety
/// As [`accumulate`].
#[inline(always)]
unsafe fn accumulate_whole<D: Dot, const J: usize, const ROWS: usize, const QUADS: usize>(
    spot: &Spot<'_>,
) -> [Sums<D::V>; J] {
    // SAFETY: the caller's contract.
    unsafe {
        let mut acc = [start::<D::V>(spot.init); J];
        let w = whole_weights::<D, J>(spot);
        let slots = spot.slots.as_chunks().0;
        unroll!([0 1 2 3 4] R => {
            if R < ROWS {
                unroll!([0 1] Q => {
                    if Q < QUADS {
                        let p = spot.input.add(R * spot.row_step);
                        let taps = interleave::<D::V>(p, &slots[Q], spot.channels);
                        let w = w.add((R * QUADS + Q) * J * D::V::LANES * 16);
                        add_whole::<D, J>(&mut acc, taps, w);
                    }
                });
            }
        });
        acc
    }
}

/// A block of channels: what its epilogue needs.
pub(in super::super) struct Block<'a> {
    epilogue: &'a Epilogue,
    packed: &'a Interleaved,
    /// First channel.
    first: usize,
    /// Channels in use.
    channels: usize,
    /// Channels of a pixel; several pixels may be treated as one.
    pixel: usize,
    /// Codes without inner rounding, residual or table.
    plain: bool,
    /// Whether values in doubt are noted.
    notes: bool,
    finish_any: FinishFn,
}

/// Writes the outputs of one pixel.
///
/// # Safety
/// Those of [`Vector`]; the channels of the block lie inside `target` and `residual`.
#[inline(always)]
unsafe fn finish<V: Vector>(
    acc: Sums<V>,
    block: &Block<'_>,
    (target, residual): (Target, *const u8),
    pixel: (usize, usize),
    doubts: &mut Doubts,
) {
    // SAFETY: the caller's contract; the arrays are padded to blocks.
    unsafe {
        match target {
            Target::U8(out) if block.plain && !block.notes => {
                finish_plain::<V, false>(acc, block, out.add(block.first));
            }
            Target::U8(out) if block.plain => {
                let in_doubt = finish_plain::<V, true>(acc, block, out.add(block.first));
                if in_doubt != 0 {
                    note_block::<V>(&acc, block, in_doubt, pixel, doubts);
                }
            }
            _ => {
                let mut sums = [0_i32; 64];
                for v in 0..4 {
                    V::store(sums.as_mut_ptr().add(v * V::LANES), acc[v]);
                }
                let in_doubt = (block.finish_any)(sums.as_ptr(), block, target, residual);
                if block.notes && in_doubt != 0 {
                    let sum = |c: usize| sums[c % 16 / 4 * V::LANES + c / 16 * 4 + c % 4];
                    let code = |c| block.epilogue.residual.as_ref().map_or(0, |_| *residual.add(c));
                    for i in (0..block.channels).filter(|c| in_doubt >> c & 1 != 0) {
                        let c = block.first + i;
                        if block.epilogue.doubt(sum(i), c, code(c), 0.0) {
                            note(doubts, pixel, c);
                        }
                    }
                }
            }
        }
    }
}

/// Notes what is in doubt where bits of `in_doubt` say that elements of any of the vectors may be.
///
/// # Safety
/// Those of [`Vector`].
#[cold]
#[inline(never)]
unsafe fn note_block<V: Vector>(
    acc: &Sums<V>,
    block: &Block<'_>,
    in_doubt: u32,
    pixel: (usize, usize),
    doubts: &mut Doubts,
) {
    let mut sums = [[0_i32; 16]; 4];
    for v in 0..4 {
        // SAFETY: the caller's contract; a vector has at most 16 elements.
        unsafe { V::store(sums[v].as_mut_ptr(), acc[v]) };
    }
    // Bits 4 l .. of any vector are channels 16 l ..
    for bit in bits(in_doubt) {
        for v in 0..4 {
            let i = bit / 4 * LANES + 4 * v + bit % 4;
            if i >= block.channels {
                continue;
            }
            let c = block.first + i;
            if block.epilogue.doubt(sums[v][bit], c, 0, 0.0) {
                let (further, c) = (c / block.pixel, c % block.pixel);
                note(doubts, (pixel.0, pixel.1 + further), c);
            }
        }
    }
}

/// Writes plain codes at `out`. If `TIES`, returns in which elements of the vectors, taken together, a value is in doubt.
///
/// # Safety
/// As [`finish`].
#[inline(always)]
unsafe fn finish_plain<V: Vector, const TIES: bool>(acc: Sums<V>, block: &Block<'_>, out: *mut u8) -> u32 {
    let (packed, c) = (block.packed, block.first);
    // SAFETY: the caller's contract; the arrays hold a block of floats from `c` on.
    unsafe {
        let (scale, bias) = (packed.scale.as_ptr().add(c), packed.bias.as_ptr().add(c));
        let low = V::load(block.epilogue.low_code.as_ptr().add(c));
        let high = V::load(block.epilogue.high_code.as_ptr().add(c));
        let mut q = acc;
        let mut in_doubt = V::nowhere();
        let (lowest, slope) = match &block.epilogue.ties {
            Some(ties) if TIES => (V::splat_f32(ties.lowest), V::splat_f32(ties.slope)),
            _ => (V::splat_f32(0.0), V::splat_f32(0.0)),
        };
        for v in 0..4 {
            let at = c + v * V::LANES;
            let affine = (
                V::load_f32(scale.add(v * V::LANES)),
                V::load_f32(bias.add(v * V::LANES)),
            );
            if TIES {
                let near = V::load_f32(packed.near.as_ptr().add(at));
                let (code, doubtful) = round_noting::<V>(acc[v], affine, (near, slope, lowest));
                q[v] = code;
                in_doubt = V::either(in_doubt, doubtful);
            } else {
                q[v] = V::to_i32(V::add_f32(V::mul_f32(V::to_f32(acc[v]), affine.0), affine.1));
            }
        }
        // Packing undoes the order of the unpacking, and saturates.
        let codes = V::pack16(V::pack32(q[0], q[1]), V::pack32(q[2], q[3]));
        let codes = V::min_u8(V::max_u8(codes, low), high);
        V::store_bytes(out, block.channels, codes);
        V::bits(in_doubt)
    }
}

/// Writes the outputs of one pixel through any epilogue. Returns which channels are in doubt, a bit each.
///
/// # Safety
/// As [`finish`]; a block of sums at `sums`.
#[inline(always)]
pub(in super::super) unsafe fn finish_any<V: Vector>(
    sums: *const i32,
    block: &Block<'_>,
    target: Target,
    residual: *const u8,
) -> u64 {
    // SAFETY: the caller's contract; `ordered` holds a block of sums.
    unsafe {
        let mut ordered = [0_i32; 64];
        for part in 0..V::LANES / 4 {
            for v in 0..4 {
                let from = sums.add(v * V::LANES + part * 4).cast::<[i32; 4]>();
                ordered
                    .as_mut_ptr()
                    .add(part * 16 + v * 4)
                    .cast::<[i32; 4]>()
                    .write(from.read());
            }
        }
        let mut in_doubt = 0;
        for c in (0..block.channels).step_by(V::LANES) {
            let used = block.channels - c;
            let sums = V::loadu(ordered.as_ptr().add(c));
            let mask = finish_vector::<V>(block.epilogue, sums, block.first + c, used, 1.0, target, residual);
            in_doubt |= u64::from(mask) << c;
        }
        in_doubt
    }
}

/// # Safety
/// Those of [`Vector`].
#[inline(always)]
pub(in super::super) unsafe fn depthwise<D: Dot>(
    args: &mut DepthwiseU8Args<'_>,
    rows: Range<usize>,
    finish_any: FinishFn,
) {
    let packed = &args.conv.packed;
    // SAFETY: the caller's contract; the packing states which outputs and quads it holds.
    unsafe {
        match packed.several.outputs {
            _ if packed.quads * 4 > MAX_SLOTS => crate::kernels::scalar::depthwise_u8(args, rows),
            4 => run::<D, 4>(args, rows, finish_any),
            2 => run::<D, 2>(args, rows, finish_any),
            _ => run::<D, 1>(args, rows, finish_any),
        }
    }
}

/// # Safety
/// Those of [`Vector`]; `J` is that of the packed weights, whose slots are at most [`MAX_SLOTS`].
#[inline(always)]
unsafe fn run<D: Dot, const J: usize>(
    args: &mut DepthwiseU8Args<'_>,
    rows: Range<usize>,
    finish_any: FinishFn,
) {
    let mut noted = args.output.take_doubts();
    let (mut none, notes) = (Doubts::new(), noted.is_some());
    let doubts = noted.as_mut().unwrap_or(&mut none);
    let conv = args.conv;
    let (e, packed, w) = (&conv.epilogue, &conv.packed, &conv.window);
    let input = *args.input.layout();
    let output = *args.output.layout();
    if let Some(several) = &conv.several
        && input.pixel_stride == e.channels
        && output.pixel_stride == e.channels
        && output.width >= several.pixels
    {
        // SAFETY: the caller's contract.
        unsafe { run_several::<D>(args, several, rows, doubts, (notes, finish_any)) };
        return args.output.note(noted);
    }
    let tap_step = w.dilation[1] * input.pixel_stride;
    // Slots past the last tap have zero weights and may read any pixel; they repeat the last one.
    let slots = |taps: usize| {
        let mut slots = [0; MAX_SLOTS];
        for (i, slot) in slots.iter_mut().enumerate() {
            *slot = i.min(taps - 1) * tap_step;
        }
        slots
    };
    let (one, many) = (slots(w.kernel[1]), slots(w.kernel[1] + J - 1));
    let width = D::V::LANES * 4;
    let pairs = D::V::MANY_REGISTERS && J == 2 && packed.quads == 1 && w.stride[0] == 1 && w.dilation[0] == 1;
    let mut next = rows.start;
    while next < rows.end {
        let y = next;
        let two = pairs && y + 2 <= rows.end;
        next += 1 + usize::from(two);
        let iy = (y * w.stride[0]) as isize - w.pad_begin[0] as isize;
        for index in 0..e.channels.div_ceil(width) {
            let first = index * width;
            let block = Block {
                epilogue: e,
                packed,
                first,
                channels: (e.channels - first).min(width),
                pixel: e.channels,
                plain: e.is_plain() && packed.round_first,
                notes,
                finish_any,
            };
            let starts = |slots: &Slots| slots.starts[index * w.kernel[0] * packed.quads..].as_ptr();
            let mut spot = Spot {
                input: std::ptr::null(),
                row_step: w.dilation[0] * input.row_pitch,
                rows: w.kernel[0],
                quads: packed.quads,
                slots: &many,
                channels: block.channels,
                weights: packed.several.weights.as_ptr(),
                starts: starts(&packed.several),
                whole: packed.several.whole,
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
                        let acc = accumulate_two_rows::<D>(&spot);
                        unroll!([0 1 2 3] I => {
                            let (y, x) = (y + I / 2, x + I % 2);
                            let target = Target::pixel(&args.output, y, x);
                            let residual = residual_pixel(args.residual.as_ref(), y, x);
                            finish::<D::V>(acc[I / 2][I % 2], &block, (target, residual), (y, x), doubts);
                        });
                        x += 2;
                    } else if x + J <= output.width && !two {
                        let acc = accumulate::<D, J>(&spot);
                        unroll!([0 1 2 3] I => {
                            if I < J {
                                let target = Target::pixel(&args.output, y, x + I);
                                let residual = residual_pixel(args.residual.as_ref(), y, x + I);
                                finish::<D::V>(acc[I], &block, (target, residual), (y, x + I), doubts);
                            }
                        });
                        x += J;
                    } else {
                        spot.slots = &one;
                        spot.weights = packed.one.weights.as_ptr();
                        spot.starts = starts(&packed.one);
                        spot.whole = packed.one.whole;
                        for y in y..next {
                            let [acc] = accumulate::<D, 1>(&spot);
                            let target = Target::pixel(&args.output, y, x);
                            let residual = residual_pixel(args.residual.as_ref(), y, x);
                            finish::<D::V>(acc, &block, (target, residual), (y, x), doubts);
                            spot.input = spot.input.wrapping_add(input.row_pitch);
                        }
                        x += 1;
                    }
                }
            }
        }
    }
    args.output.note(noted);
}

/// Several pixels at a time, as one of as many times the channels.
///
/// # Safety
/// Those of [`Vector`]; pixels of the arguments lie without gaps, and a row has as many.
#[inline(always)]
unsafe fn run_several<D: Dot>(
    args: &DepthwiseU8Args<'_>,
    several: &SeveralPixels,
    rows: Range<usize>,
    doubts: &mut Doubts,
    (notes, finish_any): (bool, FinishFn),
) {
    let SeveralPixels {
        pixels,
        packed,
        epilogue: e,
    } = several;
    let w = &args.conv.window;
    let (input, width) = (*args.input.layout(), args.output.layout().width);
    let tap_step = w.dilation[1] * input.pixel_stride;
    let slots = std::array::from_fn(|i| i.min(w.kernel[1] - 1) * tap_step);
    let one = if packed.several.outputs == 1 {
        &packed.several
    } else {
        &packed.one
    };
    let channels = D::V::LANES * 4;
    for y in rows {
        let iy = (y * w.stride[0]) as isize - w.pad_begin[0] as isize;
        for (index, first) in (0..e.channels).step_by(channels).enumerate() {
            let block = Block {
                epilogue: e,
                packed,
                first,
                channels: (e.channels - first).min(channels),
                pixel: e.channels / pixels,
                plain: true,
                notes,
                finish_any,
            };
            let mut spot = Spot {
                input: std::ptr::null(),
                row_step: w.dilation[0] * input.row_pitch,
                rows: w.kernel[0],
                quads: packed.quads,
                slots: &slots,
                channels: block.channels,
                weights: one.weights.as_ptr(),
                starts: one.starts[index * w.kernel[0] * packed.quads..].as_ptr(),
                whole: one.whole,
                init: packed.init[first..].as_ptr(),
            };
            for x in (0..width).step_by(*pixels) {
                // The last ones begin earlier rather than end behind the row.
                let x = x.min(width - pixels);
                let ix = x as isize - w.pad_begin[1] as isize;
                let at = iy * input.row_pitch as isize + ix * input.pixel_stride as isize;
                spot.input = args.input.origin().wrapping_offset(at).wrapping_add(first);
                let target = Target::pixel(&args.output, y, x);
                // SAFETY: the arguments' constructor found all taps of these outputs inside image and halo, and the
                // outputs in their buffer; pixels lie without gaps.
                unsafe {
                    let [acc] = accumulate::<D, 1>(&spot);
                    finish::<D::V>(acc, &block, (target, std::ptr::null()), (y, x), doubts);
                }
            }
        }
    }
}
