//! Counts of values, finer towards zero.

use crate::checkpoint::{Known, Reader, Writer};

/// Octaves around 1 that are told apart: magnitudes from 2^-24 to 2^24.
const OCTAVES: u32 = 48;
/// Exponent field of the least of them.
const FIRST: u32 = 127 - 24;

/// Bins that zeros are counted in.
const ZEROS: usize = 8;
/// Values whose bins are found at a time.
const BLOCK: usize = 256;

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

    /// Adds the counts of another of the same form.
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

/// Counts values for a [`Histogram`].
#[derive(Debug, Clone)]
pub(crate) struct Counter {
    bits: u32,
    /// Counts of one bin that are used in turn: equal values come together, and no count is to wait for the one before.
    ways: usize,
    /// Those of each bin, then [`ZEROS`].
    counts: Vec<u32>,
    /// Values counted since counts were last added to `whole`.
    fresh: u64,
    whole: Option<Histogram>,
}

impl Counter {
    /// A counter of bins that are `2^bits` to an octave, quicker or smaller.
    pub(crate) fn new(bits: u32, quick: bool) -> Self {
        let ways = if quick { 4 } else { 1 };
        Self {
            bits,
            ways,
            counts: vec![0; 2 * (OCTAVES << bits) as usize * ways + ZEROS],
            fresh: 0,
            whole: None,
        }
    }

    pub(crate) fn add(&mut self, values: &[f32]) {
        let shift = 23 - self.bits;
        let bins = (OCTAVES << self.bits) as i32;
        let first = (FIRST << self.bits) as i32;
        let ways = self.ways as i32;
        // Zeros are common behind a ReLU, and come in no order that a branch could be foretold by.
        let zero = 2 * bins * ways;
        let mut places = [0i32; BLOCK];
        for block in values.chunks(BLOCK) {
            self.fresh += block.len() as u64;
            if self.fresh > u64::from(u32::MAX) {
                self.flush();
                self.fresh = block.len() as u64;
            }
            // By itself, so that the compiler uses vectors.
            for (at, (place, value)) in places.iter_mut().zip(block).enumerate() {
                let raw = value.to_bits() as i32;
                let magnitude = raw & 0x7fff_ffff;
                let bin = (magnitude >> shift) - first;
                let bin = if bin > 0 { bin } else { 0 };
                let bin = if bin < bins - 1 { bin } else { bins - 1 };
                // The sign of a negative value is -1 here.
                let bin = bin - bins * (raw >> 31);
                let at = at as i32;
                let of_bin = (bin * ways) + (at & (ways - 1));
                *place = if magnitude == 0 {
                    zero + at % ZEROS as i32
                } else {
                    of_bin
                };
            }
            for &place in &places[..block.len()] {
                self.counts[place as usize] += 1;
            }
        }
    }

    fn flush(&mut self) {
        let whole = self.whole.get_or_insert_with(|| Histogram::new(self.bits));
        let (bins, zeros) = self.counts.split_at_mut(whole.counts.len() * self.ways);
        for (count, ways) in whole.counts.iter_mut().zip(bins.chunks_exact_mut(self.ways)) {
            *count += ways.iter().map(|&w| u64::from(w)).sum::<u64>();
            ways.fill(0);
        }
        whole.zeros += zeros.iter().map(|&z| u64::from(z)).sum::<u64>();
        zeros.fill(0);
    }

    /// What was counted.
    pub(crate) fn finish(mut self) -> Histogram {
        self.flush();
        self.whole.unwrap_or_else(|| Histogram::new(self.bits))
    }
}

impl Known for Histogram {
    fn join(&mut self, further: Self) {
        self.merge(&further);
    }

    /// Most bins are empty: the places and counts of the others.
    fn encode(&self, to: &mut Writer) {
        to.number(u64::from(self.bits));
        to.number(self.zeros);
        let filled = || self.counts.iter().enumerate().filter(|(_, count)| **count > 0);
        to.number(filled().count() as u64);
        for (place, count) in filled() {
            to.number(place as u64);
            to.number(*count);
        }
    }

    fn decode(from: &mut Reader<'_>) -> Option<Self> {
        let bits = u32::try_from(from.number()?).ok().filter(|bits| *bits <= 8)?;
        let mut histogram = Self::new(bits);
        histogram.zeros = from.number()?;
        for _ in 0..from.count(16)? {
            let place = usize::try_from(from.number()?).ok()?;
            *histogram.counts.get_mut(place)? = from.number()?;
        }
        Some(histogram)
    }
}

/// What values lose when they are rounded.
pub(crate) struct Loss {
    /// Each value, how often it occurs, and its magnitude raised to the power.
    values: Vec<(f64, f64, f64)>,
    power: f64,
}

impl Loss {
    pub(crate) fn new(values: &[(f64, f64)], power: f64) -> Self {
        let values = values
            .iter()
            .map(|&(v, count)| (v, count, raised(v.abs(), power)));
        Self {
            values: values.collect(),
            power,
        }
    }

    /// The mean of `|error|^power` when values are rounded to levels a `step` apart between `low` and `high`, and clipped
    /// where they lie beyond, times the number of values. The error of rounding is taken as uniform within half a step, so
    /// that its mean is `(step / 2)^power / (power + 1)`; at power 2 this is the well-known `step^2 / 12`.
    pub(crate) fn within(&self, low: f64, high: f64, step: f64) -> f64 {
        let rounding = raised(step / 2.0, self.power) / (self.power + 1.0);
        let lost = |&(value, count, raised_value): &(f64, f64, f64)| {
            let beyond = (value - high).max(low - value);
            count
                * if beyond > 0.0 {
                    raised(beyond, self.power) + rounding
                } else {
                    // What is near to zero loses less by becoming zero.
                    raised_value.min(rounding)
                }
        };
        self.values.iter().map(lost).sum()
    }
}

fn raised(value: f64, power: f64) -> f64 {
    if power == 2.0 {
        value * value
    } else {
        value.powf(power)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(bits: u32, values: &[f32]) -> Histogram {
        let mut counters = [Counter::new(bits, true), Counter::new(bits, false)];
        counters.iter_mut().for_each(|counter| counter.add(values));
        let [quick, small] = counters.map(Counter::finish);
        assert_eq!(quick, small);
        quick
    }

    #[test]
    fn counts_go_on_where_they_would_overflow() {
        let values = vec![1.5; 1000];
        let mut counter = Counter::new(4, false);
        counter.add(&values);
        counter.fresh = u64::from(u32::MAX);
        counter.add(&values);
        assert_eq!(counter.finish().values(), [(1.53125, 2000.0)]);
    }

    #[test]
    fn bins_keep_a_value_within_their_width() {
        for value in [1.0f32, -3.7, 1e-5, 12345.6, -0.004] {
            let values = counted(6, &[value]).values();
            assert_eq!(values.len(), 1);
            let off = (values[0].0 / f64::from(value) - 1.0).abs();
            assert!(off < 1.0 / 64.0, "{value}: {values:?}");
        }
    }

    #[test]
    fn values_out_of_range_and_zeros_do_no_harm() {
        let histogram = counted(4, &[0.0, -0.0, 1e-30, f32::MAX, -f32::MAX]);
        assert_eq!(histogram.zeros, 2);
        assert_eq!(histogram.values().iter().map(|v| v.1).sum::<f64>(), 3.0);
    }

    #[test]
    fn clipping_one_far_value_costs_less_than_coarse_steps_for_many() {
        let values: Vec<f32> = (1..=100_000)
            .map(|i| i as f32 / 100_000.0)
            .chain([10.0])
            .collect();
        let loss = Loss::new(&counted(6, &values).values(), 2.0);
        let cost = |high: f64| loss.within(0.0, high, high / 255.0);
        assert!(
            cost(1.5) > cost(3.0) && cost(10.0) > cost(8.0),
            "{} {}",
            cost(1.5),
            cost(10.0)
        );
    }

    #[test]
    fn a_greater_power_clips_less() {
        let values: Vec<f32> = (1..=100_000)
            .map(|i| i as f32 / 100_000.0)
            .chain([10.0])
            .collect();
        let values = counted(6, &values).values();
        let best = |power: f64| {
            let loss = Loss::new(&values, power);
            let cost = |i: i32| {
                let high = f64::from(i) / 10.0;
                loss.within(0.0, high, high / 255.0)
            };
            (10..=100).min_by(|&a, &b| cost(a).total_cmp(&cost(b))).unwrap()
        };
        assert!(
            best(2.0) < best(3.0) && best(3.0) < best(4.0),
            "{} {} {}",
            best(2.0),
            best(3.0),
            best(4.0)
        );
    }

    #[test]
    fn the_error_of_rounding_is_that_of_uniform_values() {
        // All values in range and far from zero: only rounding counts.
        let values = [(5.0, 10.0), (7.0, 20.0)];
        let step = 0.5f64;
        assert!((Loss::new(&values, 2.0).within(0.0, 10.0, step) - 30.0 * step * step / 12.0).abs() < 1e-12);
        // The mean of |u|^3 over -1/4..1/4 is (1/4)^3 / 4.
        assert!(
            (Loss::new(&values, 3.0).within(0.0, 10.0, step) - 30.0 * 0.25f64.powi(3) / 4.0).abs() < 1e-12
        );
    }
}
