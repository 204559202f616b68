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

    /// The distance of two levels in channel `c`.
    pub fn step(&self, c: usize) -> f32 {
        (self.high[c] - self.low[c]) / (self.levels - 1) as f32
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

/// Limits of symmetric weights that use only half of the 255 codes, so that sums of two products fit 16 bits on machines
/// that saturate there: 7-bit limits, twice as wide.
pub fn half_range(min: &[f32], magnitude: &[f32]) -> Limits {
    let mut limits = symmetric(min, magnitude, 128, false, false);
    for limit in limits.low.iter_mut().chain(&mut limits.high) {
        *limit *= 2.0;
    }
    limits.levels = 255;
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
