//! Sums of a depthwise convolution.

use super::super::{Dot, Vector, unroll};

/// Outputs in a row that share an interleave, by pixel slots.
pub(super) const MAX_SLOTS: usize = 16;

/// Sums of one pixel, in unpack order: 128-bit part `l` of vector `v` holds channels `16 l + 4 v ..`.
pub(super) type Sums<V> = [<V as Vector>::I; 4];

/// One position of a block of channels.
pub(super) struct Spot<'a> {
    pub input: *const u8,
    pub row_step: usize,
    pub rows: usize,
    /// Groups of four slots.
    pub quads: usize,
    /// Byte offset of each pixel slot.
    pub slots: &'a [usize; MAX_SLOTS],
    /// Channels to load.
    pub channels: usize,
    pub weights: *const i8,
    /// Where the parts of each (row, quad) begin and end, in groups of `outputs` x 4 vectors.
    pub starts: *const u32,
    /// Whether every quad is one part.
    pub whole: bool,
    pub init: *const i32,
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
pub(super) unsafe fn accumulate_two_rows<D: Dot>(spot: &Spot<'_>) -> [[Sums<D::V>; 2]; 2] {
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
pub(super) unsafe fn accumulate<D: Dot, const J: usize>(spot: &Spot<'_>) -> [Sums<D::V>; J] {
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
