//! Sums of f32 over 16 lanes in the orders that `docs/numerics.md` states, and normalization by them.

use flow_model::op::MvnAttrs;

use super::versions::versions;

/// Lanes of a vector.
const LANES: usize = 16;

/// Sum of all values: whole vectors in turn on four of them, the rest on the first; these as `(a + b) + (c + d)`, then
/// the upper half of the lanes on the lower until one is left.
#[inline(always)]
pub(crate) fn sum_on_four(values: &[f32]) -> f32 {
    let (groups, rest) = values.as_chunks::<{ 4 * LANES }>();
    let mut sums = [0.0_f32; 4 * LANES];
    for group in groups {
        for (sum, value) in sums.iter_mut().zip(group) {
            *sum += value;
        }
    }
    let whole = rest.len() / LANES * LANES;
    for (sum, value) in sums.iter_mut().zip(&rest[..whole]) {
        *sum += value;
    }
    for (sum, value) in sums.iter_mut().zip(&rest[whole..]) {
        *sum += value;
    }
    let mut lanes: [f32; LANES] =
        std::array::from_fn(|i| (sums[i] + sums[i + LANES]) + (sums[i + 2 * LANES] + sums[i + 3 * LANES]));
    for half in [8, 4, 2, 1] {
        for i in 0..half {
            lanes[i] += lanes[i + half];
        }
    }
    lanes[0]
}

/// Sum on 16 lanes: lane `i` sums every 16th value from `i` on, the rest goes on in pieces of 8, 4, 2 and 1 from lane 0;
/// then four quarters as `(a + b) + (c + d)`, and four neighbours so.
#[inline(always)]
fn sum_in_quarters(values: &[f32], squares: bool) -> f32 {
    let mut lanes = [0.0_f32; LANES];
    let (whole, mut rest) = values.as_chunks::<LANES>();
    let add = |sum: f32, v: f32| if squares { v.mul_add(v, sum) } else { sum + v };
    for values in whole {
        for (lane, &v) in lanes.iter_mut().zip(values) {
            *lane = add(*lane, v);
        }
    }
    for piece in [8, 4, 2, 1] {
        if let Some((values, behind)) = rest.split_at_checked(piece) {
            for (lane, &v) in lanes.iter_mut().zip(values) {
                *lane = add(*lane, v);
            }
            rest = behind;
        }
    }
    let quarter = |i: usize| (lanes[i] + lanes[i + 4]) + (lanes[i + 8] + lanes[i + 12]);
    (quarter(0) + quarter(1)) + (quarter(2) + quarter(3))
}

/// How a group of values is normalized.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Normalization {
    /// Divide by the root of the variance.
    pub variance: bool,
    /// Added to the variance, or to its root.
    pub eps: f32,
    pub eps_outside: bool,
    /// One sum from the first value to the last, rather than lanes.
    pub sequential: bool,
    /// Parts that are summed on their own.
    pub parts: usize,
}

impl Normalization {
    /// As an MVN along `axes`, ascending, of a value of that shape says.
    pub(crate) fn of(attrs: &MvnAttrs, shape: &[usize], axes: &[usize]) -> Self {
        let from = |first: usize| axes.iter().copied().eq(first..shape.len());
        Self {
            variance: attrs.normalize_variance,
            eps: attrs.eps,
            eps_outside: attrs.eps_outside,
            sequential: shape.len() >= 4 && from(2),
            parts: if shape.len() >= 3 && from(1) { shape[1] } else { 1 },
        }
    }
}

versions!(
    /// Subtracts the mean of a group, and divides by its deviation where wanted.
    pub(crate) fn normalize(group: &mut [f32], how: &Normalization) = normalize_group
);

#[inline(always)]
fn normalize_group(group: &mut [f32], how: &Normalization) {
    let Some(&first) = group.first() else {
        return;
    };
    if first.is_finite() && group.iter().all(|v| *v == first) {
        // Exactly its own mean. What rounding leaves of it would be divided by epsilon.
        group.fill(0.0);
        return;
    }
    let share = 1.0 / group.len() as f32;
    let mean = sum_of_parts(group, how, false) * share;
    group.iter_mut().for_each(|v| *v -= mean);
    if how.variance {
        let variance = sum_of_parts(group, how, true) * share;
        let factor = if how.eps_outside {
            1.0 / (variance.sqrt() + how.eps)
        } else {
            1.0 / (variance + how.eps).sqrt()
        };
        group.iter_mut().for_each(|v| *v *= factor);
    }
}

#[inline(always)]
fn sum_of_parts(group: &[f32], how: &Normalization, squares: bool) -> f32 {
    let mut total = 0.0;
    for part in group.chunks((group.len() / how.parts).max(1)) {
        total += match (how.sequential, squares) {
            (true, true) => part.iter().fold(0.0_f32, |sum, v| v.mul_add(*v, sum)),
            (true, false) => part.iter().fold(0.0_f32, |sum, v| sum + v),
            (false, true) => sum_in_quarters(part, true),
            (false, false) => sum_in_quarters(part, false),
        };
    }
    total
}

versions!(
    /// Divides by the Euclidean norm, epsilon being added to the sum of squares or its lower bound.
    pub(crate) fn divide_by_norm(group: &mut [f32], eps: f64, add: bool) = by_norm
);

#[inline(always)]
fn by_norm(group: &mut [f32], eps: f64, add: bool) {
    let (blocks, rest) = group.as_chunks::<8>();
    let mut sums = [0.0_f64; 8];
    for block in blocks {
        for (sum, &v) in sums.iter_mut().zip(block) {
            *sum += f64::from(v) * f64::from(v);
        }
    }
    let sum: f64 = sums.iter().sum::<f64>() + rest.iter().map(|&v| f64::from(v) * f64::from(v)).sum::<f64>();
    let norm = if add { sum + eps } else { sum.max(eps) };
    let norm = norm.sqrt();
    group.iter_mut().for_each(|v| *v = (f64::from(*v) / norm) as f32);
}
