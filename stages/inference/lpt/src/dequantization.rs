//! Dequantizations as values, and what operations do to them.

use flow_model::op::Dequantize;

/// How far a zero point may lie from an integer and still count as that integer, in steps, per level.
///
/// Zero points are computed from FakeQuantize limits that are rounded to f32: with `L` levels around zero their
/// error is at most about `L * 3 * 2^-24`, `5e-5` for 256, and a few times that where a tool computed the limits
/// in f32 itself. This covers both and moves a value by less than the millionth part of the interval.
const TOLERANCE_PER_LEVEL: f64 = 8e-7;

/// The same for a zero point of unknown origin: that of 256 levels.
pub(crate) const ZERO_POINT_TOLERANCE: f64 = 2e-4;

/// The integer that a zero point stands for, if it is near enough to one.
pub(crate) fn integer_zero_point(zero_point: f64) -> Option<i32> {
    let rounded = zero_point.round_ties_even();
    let near = (zero_point - rounded).abs() <= ZERO_POINT_TOLERANCE;
    (near && rounded.abs() <= f64::from(1 << 30)).then_some(rounded as i32)
}

/// Scale and zero point of an interval of `levels` levels from `low` (code 0) to `high`.
///
/// `scale = (high - low) / (levels - 1)` and `zero_point = -low / scale`
/// (LPT's `getPrecisionDetails`, with the lowest code 0). `None` if the interval has no width or a limit is
/// not finite.
pub(crate) fn of_interval(low: f32, high: f32, levels: u32) -> Option<(f64, f64)> {
    let (low, high) = (f64::from(low), f64::from(high));
    let scale = (high - low) / f64::from(levels - 1);
    let usable = scale != 0.0 && is_usable_scale(scale);
    usable.then(|| {
        let exact = -low / scale;
        let near = |&z: &i32| (exact - f64::from(z)).abs() <= TOLERANCE_PER_LEVEL * f64::from(levels);
        let zero_point = integer_zero_point(exact).filter(near).map_or(exact, f64::from);
        // Avoids -0.0, which would print oddly and compare unequal in bits.
        (scale, zero_point + 0.0)
    })
}

/// Whether a scale survives as an f32 that is not zero.
pub(crate) fn is_usable_scale(scale: f64) -> bool {
    let scale = scale as f32;
    scale.is_normal()
}

/// Makes a dequantization from one pair per index of `axis`, or one pair without axis where all are equal.
pub(crate) fn from_pairs(pairs: &[(f64, f64)], axis: Option<usize>) -> Dequantize {
    let uniform = pairs.iter().all(|p| *p == pairs[0]);
    let pairs = if uniform || axis.is_none() {
        &pairs[..1]
    } else {
        pairs
    };
    Dequantize {
        scale: pairs.iter().map(|p| p.0 as f32).collect(),
        zero_point: pairs.iter().map(|p| p.1 as f32).collect(),
        axis: axis.filter(|_| !uniform),
    }
}

/// The same dequantization, without axis where nothing varies along it.
pub(crate) fn simplified(dequantize: &Dequantize) -> Dequantize {
    let pairs: Vec<(f64, f64)> = (0..len(dequantize))
        .map(|i| {
            (
                f64::from(at(&dequantize.scale, i)),
                f64::from(at(&dequantize.zero_point, i)),
            )
        })
        .collect();
    if pairs.is_empty() {
        return dequantize.clone();
    }
    from_pairs(&pairs, dequantize.axis)
}

/// The same along another axis.
pub(crate) fn with_axis(dequantize: &Dequantize, axis: usize) -> Dequantize {
    Dequantize {
        axis: dequantize.axis.map(|_| axis),
        ..dequantize.clone()
    }
}

/// The parts of a dequantization that belong to the given indices of its axis.
pub(crate) fn select(dequantize: &Dequantize, indices: impl Iterator<Item = usize> + Clone) -> Dequantize {
    let pick = |v: &[f32]| match v {
        [one] => vec![*one],
        many => indices.clone().filter_map(|i| many.get(i).copied()).collect(),
    };
    simplified(&Dequantize {
        scale: pick(&dequantize.scale),
        zero_point: pick(&dequantize.zero_point),
        axis: dequantize.axis,
    })
}

/// Number of pairs a dequantization holds.
pub(crate) fn len(dequantize: &Dequantize) -> usize {
    dequantize.scale.len().max(dequantize.zero_point.len())
}

/// Entry `i` of a vector that holds one value or one per index.
pub(crate) fn at<T: Copy>(values: &[T], i: usize) -> T {
    if values.len() == 1 { values[0] } else { values[i] }
}

/// One value where all are equal.
pub(crate) fn uniform<T: PartialEq>(mut values: Vec<T>) -> Vec<T> {
    if values.iter().all(|v| *v == values[0]) {
        values.truncate(1);
    }
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_points_of_limits_rounded_to_f32_are_integers() {
        // Symmetric limits as NNCF writes them: low = -128/127 high.
        for high in [0.1f32, 1.0, 2.58551, 6.79832, 1e3, 1e-3] {
            let low = -high / 127.0 * 128.0;
            let (_, zero_point) = of_interval(low, high, 256).unwrap();
            assert_eq!(zero_point, 128.0);
        }
        let (scale, zero_point) = of_interval(0.0, 6.0, 256).unwrap();
        assert_eq!((scale as f32, zero_point), (6.0 / 255.0, 0.0));
        let (_, zero_point) = of_interval(-3.0, 3.0, 256).unwrap();
        assert_eq!(zero_point, 127.5);
    }

    #[test]
    fn intervals_without_width_have_no_scale() {
        assert_eq!(of_interval(1.0, 1.0, 256), None);
        assert_eq!(of_interval(f32::NAN, 1.0, 256), None);
        assert_eq!(of_interval(f32::NEG_INFINITY, f32::INFINITY, 256), None);
        assert_eq!(of_interval(0.0, 1e-44, 256), None);
    }

    #[test]
    fn equal_pairs_lose_their_axis() {
        let d = from_pairs(&[(0.5, 3.0), (0.5, 3.0)], Some(1));
        assert_eq!(d.axis, None);
        let d = from_pairs(&[(0.5, 3.0), (0.25, 3.0), (0.5, 3.0)], Some(1));
        assert_eq!(d.axis, Some(1));
        assert_eq!(select(&d, [0, 2].into_iter()).axis, None);
        assert_eq!(select(&d, [2, 1].into_iter()).scale, [0.5, 0.25]);
    }
}
