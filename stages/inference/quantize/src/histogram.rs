//! Counts of values, finer towards zero.

/// Octaves around 1 that are told apart: magnitudes from 2^-24 to 2^24.
const OCTAVES: u32 = 48;
/// Exponent field of the least of them.
const FIRST: u32 = 127 - 24;

/// Counts of values by sign and magnitude. Bins are logarithmic, `2^bits` to an octave, so that no range need be known in
/// advance, and counts of several threads add up to the same whatever thread counted what.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Histogram {
    bits: u32,
    /// Magnitudes of positive values, then of negative ones.
    counts: Vec<u64>,
    zeros: u64,
}

impl Histogram {
    pub(crate) fn new(bits: u32) -> Self {
        Self {
            bits,
            counts: vec![0; 2 * (OCTAVES << bits) as usize],
            zeros: 0,
        }
    }

    pub(crate) fn add(&mut self, value: f32) {
        let raw = value.to_bits();
        let magnitude = raw & 0x7fff_ffff;
        if magnitude == 0 {
            self.zeros += 1;
            return;
        }
        let shift = 23 - self.bits;
        let bins = OCTAVES << self.bits;
        let bin = (magnitude >> shift)
            .saturating_sub(FIRST << self.bits)
            .min(bins - 1);
        self.counts[(bin + bins * (raw >> 31)) as usize] += 1;
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        self.zeros += other.zeros;
        self.counts
            .iter_mut()
            .zip(&other.counts)
            .for_each(|(a, b)| *a += b);
    }

    /// The values as (value, count), each bin with its middle; zeros are left out.
    pub(crate) fn values(&self) -> Vec<(f64, f64)> {
        let bins = OCTAVES << self.bits;
        let shift = 23 - self.bits;
        let middle = |bin: u32| {
            let edge = |b: u32| f64::from(f32::from_bits((b + (FIRST << self.bits)) << shift));
            (edge(bin) + edge(bin + 1)) / 2.0
        };
        let counted = |(at, &count): (usize, &u64)| {
            let at = at as u32;
            let value = middle(at % bins);
            (count > 0).then_some((if at < bins { value } else { -value }, count as f64))
        };
        self.counts.iter().enumerate().filter_map(counted).collect()
    }
}

/// The mean square error of rounding values to levels a `step` apart between `low` and `high`, and of clipping what lies
/// beyond, times the number of values.
pub(crate) fn error(values: &[(f64, f64)], low: f64, high: f64, step: f64) -> f64 {
    let rounding = step * step / 12.0;
    values
        .iter()
        .map(|&(value, count)| {
            let beyond = (value - high).max(low - value).max(0.0);
            // What is nearer to zero than half a step becomes zero.
            count
                * if beyond > 0.0 {
                    beyond * beyond + rounding
                } else {
                    rounding.min(value * value)
                }
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bins_keep_a_value_within_their_width() {
        for value in [1.0f32, -3.7, 1e-5, 12345.6, -0.004] {
            let mut histogram = Histogram::new(6);
            histogram.add(value);
            let values = histogram.values();
            assert_eq!(values.len(), 1);
            let off = (values[0].0 / f64::from(value) - 1.0).abs();
            assert!(off < 1.0 / 64.0, "{value}: {values:?}");
        }
    }

    #[test]
    fn values_out_of_range_and_zeros_do_no_harm() {
        let mut histogram = Histogram::new(4);
        for value in [0.0, -0.0, 1e-30, f32::MAX, -f32::MAX] {
            histogram.add(value);
        }
        assert_eq!(histogram.zeros, 2);
        assert_eq!(histogram.values().iter().map(|v| v.1).sum::<f64>(), 3.0);
    }

    #[test]
    fn clipping_one_far_value_costs_less_than_coarse_steps_for_many() {
        let mut histogram = Histogram::new(6);
        (1..=100_000).for_each(|i| histogram.add(i as f32 / 100_000.0));
        histogram.add(10.0);
        let values = histogram.values();
        let cost = |high: f64| error(&values, 0.0, high, high / 255.0);
        assert!(
            cost(1.5) > cost(3.0) && cost(10.0) > cost(8.0),
            "{} {}",
            cost(1.5),
            cost(10.0)
        );
    }
}
