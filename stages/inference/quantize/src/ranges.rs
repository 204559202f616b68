//! From the least and greatest values of a tensor to the limits of a FakeQuantize.
//!
//! The formulas are those of NNCF 3.4 (`nncf/quantization/fake_quantize.py`), so that the same statistics give the same
//! limits.

/// Smallest share of a tensor's greatest value that a channel's range may have: a channel that is nearly dead
/// would otherwise have a scale near zero.
const LEAST_SHARE: f32 = 0.01;
/// Smallest range of all.
const LEAST_RANGE: f32 = 8e-4;

/// Limits of a FakeQuantize: one each per tensor, or one each per channel.
#[derive(Debug, Clone, PartialEq)]
pub struct Limits {
    /// Input and output low.
    pub low: Vec<f32>,
    /// Input and output high.
    pub high: Vec<f32>,
    /// Number of levels.
    pub levels: u32,
}

impl Limits {
    /// Number of channels; 1 where the limits are per tensor.
    pub fn channels(&self) -> usize {
        self.low.len()
    }

    /// The value that `x` in channel `c` is rounded to.
    pub fn round(&self, c: usize, x: f32) -> f32 {
        let (low, high) = (self.low[c], self.high[c]);
        let levels = (self.levels - 1) as f32;
        if x <= low {
            low
        } else if x > high {
            high
        } else {
            ((x - low) / (high - low) * levels).round_ties_even() / levels * (high - low) + low
        }
    }
}

/// Limits around zero from least values and greatest magnitudes per channel: `high` is the magnitude, `low` its negative
/// (one level further where all `levels` are used, not with `narrow` ranges), or zero where no value is negative and
/// the limits need not be `signed`.
pub fn symmetric(min: &[f32], magnitude: &[f32], levels: u32, narrow: bool, signed: bool) -> Limits {
    let whole = magnitude.iter().copied().fold(0.0, f32::max);
    let least = (whole * LEAST_SHARE).max(LEAST_RANGE / 10.0);
    let high: Vec<f32> = magnitude.iter().map(|&m| m.max(least)).collect();
    let signed = signed || min.iter().any(|&m| m < 0.0);
    let factor = match (signed, narrow) {
        (false, _) => 0.0,
        (true, true) => -1.0,
        (true, false) => -(f64::from(levels) / (f64::from(levels) - 2.0)),
    };
    let low = high.iter().map(|&h| (f64::from(h) * factor) as f32).collect();
    Limits { low, high, levels }
}

/// Limits of symmetric weights that use only half of their codes, so that sums of two products fit 16 bits on machines that
/// saturate there: 7-bit limits, stretched to the 255 (`narrow`) or 256 levels of 8 bits.
pub fn half_range(min: &[f32], magnitude: &[f32], narrow: bool) -> Limits {
    let mut limits = symmetric(min, magnitude, 128, narrow, true);
    limits.levels = if narrow { 255 } else { 256 };
    let stretch = f64::from(limits.levels - 1) / 127.0;
    for limit in limits.low.iter_mut().chain(&mut limits.high) {
        *limit = (f64::from(*limit) * stretch) as f32;
    }
    limits
}

/// Limits from least and greatest values per channel, moved so that zero is a level.
pub fn asymmetric(min: &[f32], max: &[f32], levels: u32) -> Limits {
    let mut limits = Limits {
        low: Vec::with_capacity(min.len()),
        high: Vec::with_capacity(min.len()),
        levels,
    };
    for (&min, &max) in min.iter().zip(max) {
        let widened = if max - min > LEAST_RANGE { 0.0 } else { LEAST_RANGE };
        let (low, high) = zero_is_a_level((min - widened).min(0.0), (max + widened).max(0.0), levels);
        limits.low.push(low);
        limits.high.push(high);
    }
    limits
}

/// Moves one of two limits around zero outward, the one that makes the range wider, so that zero is a level.
pub fn zero_is_a_level(low: f32, high: f32, levels: u32) -> (f32, f32) {
    let top = f64::from(levels - 1);
    let (l, h) = (f64::from(low), f64::from(high));
    let level = (-l * top / (h - l)).round_ties_even();
    let other_low = if level < top { level / (level - top) * h } else { l };
    let other_high = if level > 0.0 { (level - top) / level * l } else { h };
    if h - other_low > other_high - l {
        (other_low as f32, high)
    } else {
        (low, other_high as f32)
    }
}

#[cfg(test)]
mod tests {
    //! Figures of NNCF 3.4: `tests/cross_fw/test_templates/fq_params/fq_params.json`, whose data are uniform in 0..1
    //! (extremes 0.0027385002 and 0.99720994 per tensor); those with negative values come from running its formulas.

    use super::*;

    const MIN: [f32; 1] = [0.002_738_5];
    const MAX: [f32; 1] = [0.997_209_9];

    #[track_caller]
    fn near(found: &Limits, levels: u32, low: &[f32], high: &[f32]) {
        assert_eq!(found.levels, levels);
        for (found, wanted) in found.low.iter().zip(low).chain(found.high.iter().zip(high)) {
            assert!(
                (found - wanted).abs() <= 1e-8 + 1e-5 * wanted.abs(),
                "{found} is not {wanted}"
            );
        }
        assert_eq!((found.low.len(), found.high.len()), (low.len(), high.len()));
    }

    #[test]
    fn symmetric_weights() {
        near(
            &symmetric(&MIN, &MAX, 255, true, true),
            255,
            &[-0.997_209_9],
            &[0.997_209_9],
        );
        near(
            &symmetric(&MIN, &MAX, 256, false, true),
            256,
            &[-1.005_062],
            &[0.997_209_9],
        );
    }

    #[test]
    fn half_range_weights() {
        near(
            &half_range(&MIN, &MAX, true),
            255,
            &[-1.994_419_8],
            &[1.994_419_8],
        );
        near(&half_range(&MIN, &MAX, false), 256, &[-2.034_054], &[2.002_272]);
    }

    #[test]
    fn activations_from_zero() {
        let (min, max) = ([0.002_738_5, 0.014_706_3], [0.997_209_9, 0.995_096_5]);
        for found in [
            symmetric(&min, &max, 256, false, false),
            asymmetric(&min, &max, 256),
        ] {
            near(&found, 256, &[0.0, 0.0], &[0.997_209_9, 0.995_096_5]);
        }
    }

    #[test]
    fn signed_activations_with_dead_channels() {
        let found = symmetric(&[-1.0, -0.5, 0.0], &[2.0, 0.001, 0.0], 256, false, false);
        near(
            &found,
            256,
            &[-2.015_748, -0.020_157_48, -0.020_157_48],
            &[2.0, 0.02, 0.02],
        );
    }

    #[test]
    fn asymmetric_activations_have_zero_as_a_level() {
        let found = asymmetric(&[-1.0, -0.5, 0.1], &[2.0, 0.3, 4.0], 256);
        near(&found, 256, &[-1.0, -0.5, 0.0], &[2.0, 0.301_886_8, 4.0]);
        let found = asymmetric(&[-1.0, 0.0, -1e-5], &[-0.5, 0.0, 1e-5], 256);
        near(
            &found,
            256,
            &[-1.0, -0.000_806_299_2, -0.000_816_377_9],
            &[0.0, 0.000_8, 0.000_81],
        );
        for c in 0..3 {
            assert!(
                found.round(c, 0.0).abs() < 1e-9,
                "channel {c}: {}",
                found.round(c, 0.0)
            );
        }
    }

    #[test]
    fn any_range_is_covered_and_keeps_zero() {
        for i in 1..200 {
            let (low, high) = (-(i as f32) * 0.013, (200 - i) as f32 * 0.029);
            let (l, h) = zero_is_a_level(low, high, 256);
            assert!(l <= low && h >= high, "{low}..{high} became {l}..{h}");
            let level = -l / (h - l) * 255.0;
            assert!(
                (level - level.round()).abs() < 1e-3,
                "{low}..{high}: zero at {level}"
            );
        }
    }
}
