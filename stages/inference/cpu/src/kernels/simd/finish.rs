//! The epilogue on vectors of sums.

use super::Vector;
use crate::kernels::{Epilogue, Output, View};

/// Where a pixel's outputs go.
#[derive(Clone, Copy)]
pub(in super::super) enum Target {
    U8(*mut u8),
    F32(*mut f32),
}

impl Target {
    /// The pixel `elements` further on.
    ///
    /// # Safety
    /// As [`pointer::add`].
    #[inline(always)]
    pub(super) unsafe fn add(self, elements: usize) -> Self {
        // SAFETY: the caller's contract.
        unsafe {
            match self {
                Target::U8(p) => Target::U8(p.add(elements)),
                Target::F32(p) => Target::F32(p.add(elements)),
            }
        }
    }

    /// Output pixel `(y, x)`.
    #[inline(always)]
    pub(super) fn pixel(output: &Output<'_>, y: usize, x: usize) -> Self {
        match output {
            Output::U8(view) | Output::Noted(view, _) => Target::U8(view.pixel(y, x)),
            Output::F32(view) => Target::F32(view.pixel(y, x)),
        }
    }
}

/// Residual pixel `(y, x)`, or null.
#[inline(always)]
pub(super) fn residual_pixel(residual: Option<&View<'_, u8>>, y: usize, x: usize) -> *const u8 {
    residual.map_or(std::ptr::null(), |view| {
        let l = view.layout();
        view.origin().wrapping_add(y * l.row_pitch + x * l.pixel_stride)
    })
}

/// Writes the outputs of `channels` sums (a vector of neighbouring channels at most) that begin at channel `c`.
///
/// `target` and `residual` point to channel 0 of their pixel; `count` divides the scale. Returns which values are in
/// doubt, a bit each.
///
/// # Safety
/// Those of [`Vector`]; channel `c + channels - 1` exists in the epilogue and lies inside both pixels.
#[inline(always)]
pub(super) unsafe fn finish_vector<V: Vector>(
    e: &Epilogue,
    sums: V::I,
    c: usize,
    channels: usize,
    count: f32,
    target: Target,
    residual: *const u8,
) -> u32 {
    // SAFETY: epilogue arrays are padded by a block; pixels are accessed up to `channels`.
    unsafe {
        let mut scale = V::load_f32(e.scale.as_ptr().add(c));
        if count != 1.0 {
            scale = V::div_f32(scale, V::splat_f32(count));
        }
        let sum = V::mul_f32(V::to_f32(sums), scale);
        let mut f = V::add_f32(sum, V::load_f32(e.bias.as_ptr().add(c)));
        let mut in_doubt = 0;
        if let Some(mid) = &e.mid {
            f = V::min_f32(V::max_f32(f, V::splat_f32(mid.low)), V::splat_f32(mid.high));
            if mid.rounds {
                if let Some(ties) = &e.ties {
                    let near = V::load_f32(ties.mid_near.as_ptr().add(c));
                    in_doubt |= V::bits(far::<V>(
                        f,
                        (sum, V::splat_f32(ties.slope)),
                        near,
                        V::splat_f32(mid.low),
                    ));
                }
                f = V::round_f32(f);
            }
            f = V::add_f32(
                V::mul_f32(f, V::load_f32(mid.scale.as_ptr().add(c))),
                V::load_f32(mid.offset.as_ptr().add(c)),
            );
        }
        if let Some(r) = &e.residual {
            let codes = V::to_f32(V::load_codes(residual.add(c), channels));
            let r = V::add_f32(
                V::mul_f32(codes, V::load_f32(r.scale.as_ptr().add(c))),
                V::load_f32(r.offset.as_ptr().add(c)),
            );
            f = V::add_f32(f, r);
        }
        if let Some(ties) = &e.ties {
            let low = V::load_f32(ties.low.as_ptr().add(c));
            let f = V::min_f32(f, V::load_f32(ties.high.as_ptr().add(c)));
            // The sum decides over the first rounding alone.
            let slope = if e.mid.as_ref().is_some_and(|mid| mid.rounds) {
                0.0
            } else {
                ties.slope
            };
            let near = V::load_f32(ties.near.as_ptr().add(c));
            in_doubt |= V::bits(far::<V>(f, (sum, V::splat_f32(slope)), near, low));
        }
        let f = V::max_f32(f, V::load_f32(e.low.as_ptr().add(c)));
        let f = V::min_f32(f, V::load_f32(e.high.as_ptr().add(c)));
        match target {
            Target::U8(out) => {
                let out = out.add(c);
                let (low, high) = (e.low_code.as_ptr().add(c), e.high_code.as_ptr().add(c));
                V::store_codes(out, channels, V::to_i32(f), low, high);
                if let Some(table) = &e.table {
                    for i in 0..channels.min(V::LANES) {
                        *out.add(i) = table[usize::from(*out.add(i))];
                    }
                }
            }
            Target::F32(out) => V::store_f32(out.add(c), channels, f),
        }
        in_doubt
    }
}

/// Where a value lies above `low`, and farther from a whole number than `near` less `slope` times its sum.
///
/// # Safety
/// Those of [`Vector`].
#[inline(always)]
pub(super) unsafe fn far<V: Vector>(f: V::F, (sum, slope): (V::F, V::F), near: V::F, low: V::F) -> V::M {
    // SAFETY: the caller's contract.
    unsafe {
        let off = V::abs_f32(V::apart_f32(f));
        V::both_greater(V::multiply_add(V::abs_f32(sum), slope, off), near, f, low)
    }
}

/// Rounds `sum * scale + bias` to a code, not below that of `lowest`, and says where it is in doubt: farther from a whole number than
/// `near` ([`Ties::near_values`](crate::kernels::ties::Ties::near_values)) less `slope` times the value. What it rounds to
/// counts only where it is in no doubt: multiplication and addition may be one instruction.
///
/// # Safety
/// Those of [`Vector`].
#[inline(always)]
pub(super) unsafe fn round_noting<V: Vector>(
    sum: V::I,
    (scale, bias): (V::F, V::F),
    (near, slope, lowest): (V::F, V::F, V::F),
) -> (V::I, V::M) {
    // SAFETY: the caller's contract.
    unsafe {
        // Codes are not negative: from here on the value is its own size. Those beyond the high limit, which are in no doubt,
        // are sorted out where they are noted.
        let f = V::max_f32(V::multiply_add(V::to_f32(sum), scale, bias), lowest);
        let off = V::abs_f32(V::apart_f32(f));
        (V::to_i32(f), V::greater(V::multiply_add(f, slope, off), near))
    }
}
