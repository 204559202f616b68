//! The epilogue of blocks of channels.

use super::super::Vector;
use super::super::finish::{Target, finish_vector, round_noting};
use super::sums::Sums;
use crate::kernels::Epilogue;
use crate::kernels::depthwise::Interleaved;
use crate::kernels::ties::{Doubts, LANES, bits, note};

/// The function for epilogues that are not plain: 64 sums or fewer in unpack order. Returns which channels are in doubt.
pub(in super::super::super) type FinishFn = unsafe fn(*const i32, &Block<'_>, Target, *const u8) -> u64;

/// A block of channels: what its epilogue needs.
pub(in super::super::super) struct Block<'a> {
    pub(super) epilogue: &'a Epilogue,
    pub(super) packed: &'a Interleaved,
    /// First channel.
    pub(super) first: usize,
    /// Channels in use.
    pub(super) channels: usize,
    /// Channels of a pixel; several pixels may be treated as one.
    pub(super) pixel: usize,
    /// Codes without inner rounding, residual or table.
    pub(super) plain: bool,
    /// Whether values in doubt are noted.
    pub(super) notes: bool,
    pub(super) finish_any: FinishFn,
}

/// Writes the outputs of one pixel.
///
/// # Safety
/// Those of [`Vector`]; the channels of the block lie inside `target` and `residual`.
#[inline(always)]
pub(super) unsafe fn finish<V: Vector>(
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
pub(in super::super::super) unsafe fn finish_any<V: Vector>(
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
