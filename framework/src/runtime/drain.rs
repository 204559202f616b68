//! How long a run may still take.

use std::time::{Duration, Instant};

/// How long workers may take to notice that the run is cut short.
const GRACE: Duration = Duration::from_secs(2);

/// When the patience with a run ends. It knows no clock: whoever asks says what time it is.
pub(super) struct Drain {
    /// `drain_timeout` of the pipeline.
    limit: Duration,
    /// When the stop was noticed.
    stopped: Option<Instant>,
    /// Packets settled when last looked at, and since when it has been that many.
    settled: (u64, Instant),
    /// When the grace after a cut ends.
    grace: Option<Instant>,
}

impl Drain {
    pub(super) fn new(limit: Duration, settled: u64, now: Instant) -> Self {
        Self {
            limit,
            stopped: None,
            settled: (settled, now),
            grace: None,
        }
    }

    /// Whether the run has been seen to be cut short.
    pub(super) fn is_cut(&self) -> bool {
        self.grace.is_some()
    }

    /// The run is cut short: a short grace.
    pub(super) fn cut(&mut self, now: Instant) -> Option<Instant> {
        Some(*self.grace.get_or_insert(now + GRACE))
    }

    /// The run was stopped: the limit counts from then.
    pub(super) fn stopping(&mut self, now: Instant) -> Option<Instant> {
        self.stopped.get_or_insert(now).checked_add(self.limit)
    }

    /// Nobody has stopped the run. While a source gives packets it may take for ever; then it may go on for as long as
    /// packets are settled within the limit.
    pub(super) fn running(&mut self, reading: bool, settled: u64, now: Instant) -> Option<Instant> {
        if reading || settled != self.settled.0 {
            self.settled = (settled, now);
        }
        if reading {
            return None;
        }
        self.settled.1.checked_add(self.limit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    #[test]
    fn without_a_stop_a_drain_lasts_as_long_as_packets_are_settled() {
        let start = Instant::now();
        let mut drain = Drain::new(3 * S, 0, start);
        assert_eq!(
            drain.running(true, 0, start + 100 * S),
            None,
            "a source still reads"
        );
        let mut now = start + 100 * S;
        for settled in 1..=8 {
            now += 2 * S;
            let until = drain.running(false, settled, now);
            assert_eq!(
                until,
                Some(now + 3 * S),
                "each packet that is settled begins the wait anew"
            );
        }
        let last = now;
        assert_eq!(drain.running(false, 8, now + 2 * S), Some(last + 3 * S));
        assert!(!drain.is_cut());
    }

    #[test]
    fn after_a_stop_the_limit_counts_from_it_whatever_is_settled() {
        let start = Instant::now();
        let mut drain = Drain::new(3 * S, 0, start);
        assert_eq!(drain.stopping(start + S), Some(start + 4 * S));
        assert_eq!(drain.stopping(start + 2 * S), Some(start + 4 * S));
        assert_eq!(drain.cut(start + 4 * S), Some(start + 4 * S + GRACE));
        assert_eq!(drain.cut(start + 5 * S), Some(start + 4 * S + GRACE));
        assert!(drain.is_cut());
    }

    #[test]
    fn a_limit_beyond_time_is_none() {
        let start = Instant::now();
        let mut drain = Drain::new(Duration::MAX, 0, start);
        assert_eq!(drain.stopping(start), None);
        assert_eq!(drain.running(false, 1, start), None);
    }
}
