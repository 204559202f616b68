//! A histogram of times: where each packet is timed, recording must cost next to nothing.
//!
//! Buckets are linear up to 128 ns, and from there on there are 128 between each power of two and the next, so that a
//! time is known within 1 %. All memory is touched at the start: it does not grow as rare times come.

use std::time::Duration;

use crate::metrics::Percentiles;

/// Buckets between a power of two and the next, as a power of two.
const BITS: u32 = 7;

/// Longest time that is told apart, an hour, is below 2 to this power in nanoseconds; longer ones count as that.
const LONGEST: u32 = 42;

const BUCKETS: usize = ((LONGEST - BITS + 1) << BITS) as usize;

/// Times from nanoseconds to an hour.
pub(crate) struct Times {
    counts: Box<[u64]>,
    total: u64,
}

impl Default for Times {
    fn default() -> Self {
        let mut counts = vec![1; BUCKETS].into_boxed_slice();
        counts.fill(0);
        Self { counts, total: 0 }
    }
}

/// Bucket of a time in nanoseconds.
fn bucket(nanos: u64) -> usize {
    let nanos = nanos.min((1 << LONGEST) - 1);
    let high = 63 - (nanos | 1).leading_zeros();
    match high.checked_sub(BITS) {
        None => nanos as usize,
        // The leading one stays: it counts the powers of two.
        Some(shift) => (((shift as u64) << BITS) + (nanos >> shift)) as usize,
    }
}

/// The middle of a bucket, in nanoseconds.
fn middle(bucket: usize) -> f64 {
    let steps = bucket >> BITS;
    match steps.checked_sub(1) {
        None | Some(0) => bucket as f64,
        Some(shift) => {
            let lowest = (bucket - (shift << BITS)) << shift;
            lowest as f64 + ((1_u64 << shift) - 1) as f64 / 2.0
        }
    }
}

impl Times {
    pub(crate) fn record(&mut self, time: Duration) {
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        if let Some(count) = self.counts.get_mut(bucket(nanos)) {
            *count += 1;
            self.total += 1;
        }
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        for (count, more) in self.counts.iter_mut().zip(&other.counts) {
            *count += more;
        }
        self.total += other.total;
    }

    /// Forgets everything.
    pub(crate) fn clear(&mut self) {
        self.counts.fill(0);
        self.total = 0;
    }

    /// The percentiles, if anything was measured.
    pub(crate) fn measured(&self) -> Option<Percentiles> {
        (self.total > 0).then(|| self.percentiles())
    }

    /// Number of times measured.
    pub(crate) fn count(&self) -> u64 {
        self.total
    }

    /// All zero when nothing was measured.
    pub(crate) fn percentiles(&self) -> Percentiles {
        Percentiles {
            p50: self.quantile(0.50),
            p95: self.quantile(0.95),
            p99: self.quantile(0.99),
        }
    }

    /// The time, in milliseconds, that this share of all did not exceed.
    fn quantile(&self, share: f64) -> f64 {
        let rank = ((self.total as f64 * share).ceil() as u64).max(1);
        let mut seen = 0;
        for (bucket, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return middle(bucket) / 1e6;
            }
        }
        0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn buckets_follow_each_other_without_a_gap() {
        let mut before = 0;
        for nanos in 0..100_000 {
            let at = bucket(nanos);
            assert!(at == before || at == before + 1, "{nanos} ns: {before}, {at}");
            before = at;
        }
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
    }

    proptest! {
        #[test]
        fn a_time_is_known_within_one_percent(nanos in 1_u64..(1 << LONGEST)) {
            let found = middle(bucket(nanos));
            prop_assert!((found - nanos as f64).abs() <= 0.01 * nanos as f64, "{nanos} as {found}");
        }
    }

    #[test]
    fn percentiles_are_those_of_what_was_recorded() {
        let mut times = Times::default();
        assert_eq!(times.measured(), None);
        assert_eq!(times.percentiles(), Percentiles::default());
        for n in 1..=1000 {
            times.record(Duration::from_micros(n));
        }
        let mut other = Times::default();
        other.merge(&times);
        let found = other.measured().unwrap();
        for (found, wanted) in [(found.p50, 0.5), (found.p95, 0.95), (found.p99, 0.99)] {
            assert!((found - wanted).abs() < 0.01 * wanted, "{found} for {wanted}");
        }
        assert_eq!(other.count(), 1000);
        other.clear();
        assert_eq!(other.measured(), None);
    }

    #[test]
    fn times_beyond_the_range_are_kept_at_its_end() {
        let mut times = Times::default();
        times.record(Duration::MAX);
        times.record(Duration::ZERO);
        assert!(times.percentiles().p99 >= 3.6e6);
        assert!(times.percentiles().p50 < 1e-5);
    }
}
