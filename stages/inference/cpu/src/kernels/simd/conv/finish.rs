//! The epilogue of tiles.

use super::super::Vector;
use super::super::finish::{far, finish_vector, round_noting};
use super::{Pixels, Target, Tile, Walk};
use crate::kernels::Epilogue;
use crate::kernels::conv::Panel;
use crate::kernels::ties::{Doubts, bits, note};

/// Saturates rounded sums to codes between the limits, and writes the first `channels` of them in order.
///
/// # Safety
/// Those of [`Vector`]; limits of whole vectors at `low` and `high`; `channels` bytes at `out` writable.
#[inline(always)]
pub(super) unsafe fn store_codes<V: Vector, const NV: usize>(
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
pub(in super::super::super) unsafe fn finish_tile<V: Vector>(
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
            let rest = *tile.rests.add(segment * walk.rest_segment + x * walk.rest_step);
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
                        bits(in_doubt)
                            .filter(|&i| i < used && e.doubt(sums[i], c + i, code(c + i), rest))
                            .for_each(|i| note(doubts, pixel, c + i));
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
        if codes.walk.notes && !MID && !RES {
            plain_noting::<V, NV>(codes, doubts);
        } else if codes.walk.notes {
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
        let spread = load_lanes::<V, NV>(&lanes.spread, tile.panel.arrays, TIES);
        // The low limit is mostly the same for all channels; where it is not, what lies beyond is sorted out later.
        let (lowest, slope) = match &e.ties {
            Some(ties) if TIES => (V::splat_f32(ties.lowest), V::splat_f32(ties.slope)),
            _ => (V::splat_f32(0.0), V::splat_f32(0.0)),
        };
        let (low, high) = (e.low_code.as_ptr().add(c), e.high_code.as_ptr().add(c));
        for segment in 0..pixels.count / pixels.per_row {
            let mut out = out.add(segment * walk.out_segment + c);
            let mut residual = tile.residual.wrapping_add(segment * walk.residual_segment + c);
            let mut rests = tile.rests.wrapping_add(segment * walk.rest_segment);
            for x in 0..pixels.per_row {
                let mut in_doubt = [V::nowhere(); NV];
                let mut codes = [V::zero(); NV];
                if RES && NV == 2 {
                    let both = V::load_codes2(residual, channels);
                    codes[0] = both[0];
                    codes[NV - 1] = both[1];
                } else if RES {
                    codes[0] = V::load_codes(residual, channels);
                }
                let mut q = codes;
                let rest = V::splat_f32(if TIES { *rests } else { 0.0 });
                for j in 0..NV {
                    let s = V::mul_f32(V::to_f32(V::loadu(sum.add(j * V::LANES))), scale[j]);
                    let mut f = V::add_f32(s, bias[j]);
                    if MID {
                        f = V::min_f32(V::max_f32(f, mid_low), mid_high);
                        if rounds {
                            if TIES {
                                let near = V::multiply_add(spread[j], rest, mid_near[j]);
                                in_doubt[j] = far::<V>(f, (s, slope), near, mid_low);
                            }
                            f = V::round_f32(f);
                        }
                        f = V::add_f32(V::mul_f32(f, mid_scale[j]), mid_offset[j]);
                    }
                    if RES {
                        let r = V::mul_f32(V::to_f32(codes[j]), res_scale[j]);
                        f = V::add_f32(f, V::add_f32(r, res_offset[j]));
                    }
                    q[j] = V::to_i32(f);
                    if TIES && MID && rounds {
                        let none = V::splat_f32(0.0);
                        let last = far::<V>(f, (none, none), near[j], lowest);
                        in_doubt[j] = V::either(in_doubt[j], last);
                    } else if TIES {
                        // Codes beyond the high limit, which are in no doubt, are sorted out where they are noted.
                        let near = V::multiply_add(spread[j], rest, near[j]);
                        in_doubt[j] = far::<V>(f, (s, slope), near, lowest);
                    }
                }
                store_codes::<V, NV>(q, low, high, out, channels);
                if TIES && V::bits(V::either(in_doubt[0], in_doubt[NV - 1])) != 0 {
                    let in_doubt = in_doubt.map(|mask| V::bits(mask));
                    let pixel = (tile.at.0 + segment, tile.at.1 + x);
                    let residual = if RES { residual } else { std::ptr::null() };
                    note_lanes::<V>(
                        doubts,
                        pixel,
                        (e, &tile.panel),
                        &in_doubt,
                        (sum, residual, *rests),
                    );
                }
                sum = sum.add(NV * V::LANES);
                out = out.wrapping_add(walk.out_step);
                residual = residual.wrapping_add(walk.residual_step);
                rests = rests.wrapping_add(walk.rest_step);
            }
        }
    }
}

/// Codes of a tile without inner rounding, second operand or table, noting values in doubt.
///
/// # Safety
/// As [`finish_codes`]; the epilogue knows ties.
#[inline(always)]
unsafe fn plain_noting<V: Vector, const NV: usize>(
    Codes {
        walk,
        tile,
        sums: mut sum,
        out,
        pixels,
    }: Codes<'_, '_>,
    doubts: &mut Doubts,
) {
    let (e, lanes, arrays) = (walk.epilogue, walk.lanes, tile.panel.arrays);
    let Some(ties) = &e.ties else {
        return;
    };
    let (c, channels) = (tile.panel.first, tile.panel.channels);
    // SAFETY: the caller's contract; arrays are as long as the lanes of all panels, and limits are padded by a block.
    unsafe {
        let scale = load_lanes::<V, NV>(&lanes.scale, arrays, true);
        let bias = load_lanes::<V, NV>(&lanes.bias, arrays, true);
        let near = load_lanes::<V, NV>(&lanes.near, arrays, true);
        let spread = load_lanes::<V, NV>(&lanes.spread, arrays, walk.rest_step > 0);
        let (lowest, slope) = (V::splat_f32(ties.lowest), V::splat_f32(ties.slope));
        let (low, high) = (e.low_code.as_ptr().add(c), e.high_code.as_ptr().add(c));
        let whole = NV == 2 && channels == NV * V::LANES && ties.any_code;
        for segment in 0..pixels.count / pixels.per_row {
            let mut out = out.add(segment * walk.out_segment + c);
            let mut rests = tile.rests.wrapping_add(segment * walk.rest_segment);
            for x in 0..pixels.per_row {
                let mut q = [V::zero(); NV];
                let mut in_doubt = [V::nowhere(); NV];
                let mut near = near;
                if walk.rest_step > 0 {
                    let rest = V::splat_f32(*rests);
                    for j in 0..NV {
                        near[j] = V::multiply_add(spread[j], rest, near[j]);
                    }
                }
                for j in 0..NV {
                    let sums = V::loadu(sum.add(j * V::LANES));
                    (q[j], in_doubt[j]) =
                        round_noting::<V>(sums, (scale[j], bias[j]), (near[j], slope, lowest));
                }
                if whole {
                    V::store_whole2(out, [q[0], q[NV - 1]]);
                } else {
                    store_codes::<V, NV>(q, low, high, out, channels);
                }
                if V::bits(V::either(in_doubt[0], in_doubt[NV - 1])) != 0 {
                    let pixel = (tile.at.0 + segment, tile.at.1 + x);
                    let in_doubt = in_doubt.map(|mask| V::bits(mask));
                    note_lanes::<V>(
                        doubts,
                        pixel,
                        (e, &tile.panel),
                        &in_doubt,
                        (sum, std::ptr::null(), *rests),
                    );
                }
                sum = sum.add(NV * V::LANES);
                out = out.wrapping_add(walk.out_step);
                rests = rests.wrapping_add(walk.rest_step);
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
    (sums, residual, rest): (*const i32, *const u8, f32),
) {
    for (v, &mask) in in_doubt.iter().enumerate() {
        for bit in bits(mask) {
            let (lane, c) = (v * V::LANES + bit, panel.channel(v * panel.vector + bit));
            if c >= panel.channels {
                continue;
            }
            // SAFETY: the caller's contract; the lane is one of the panel, the channel was compared.
            let (sum, code) = unsafe {
                let code = if residual.is_null() { 0 } else { *residual.add(c) };
                (*sums.add(lane), code)
            };
            if e.doubt(sum, panel.first + c, code, rest) {
                note(doubts, pixel, panel.first + c);
            }
        }
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
