//! Deadlines and rate limits: what a component does not take, or not yet.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::config::plan::{self, OnExceed, RateLimitSpec, RateScope};
use crate::ledger::lock;

/// The limits of a component, shared by its replicas.
#[derive(Default)]
pub(crate) struct Limits {
    /// Greatest age of a packet.
    pub(crate) deadline: Option<Duration>,
    rate: Option<(RateLimitSpec, Vec<Mutex<Bucket>>)>,
}

/// What a rate limit says about a packet.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Take,
    /// It has its token; it may be taken at that time.
    WaitUntil(Instant),
    Drop,
}

impl Limits {
    pub(crate) fn new(component: &plan::Component, streams: usize) -> Self {
        let rate = component.rate_limit.map(|spec| {
            let buckets = match spec.per {
                RateScope::Stage => 1,
                RateScope::Stream => streams,
            };
            (spec, (0..buckets).map(|_| Mutex::default()).collect())
        });
        Self {
            deadline: component.deadline,
            rate,
        }
    }

    /// Whether there are any.
    pub(crate) fn any(&self) -> bool {
        self.deadline.is_some() || self.rate.is_some()
    }

    /// Whether a packet captured at that time is too old.
    pub(crate) fn expired(&self, captured: Instant, now: Instant) -> bool {
        let age = now.saturating_duration_since(captured);
        self.deadline.is_some_and(|deadline| age > deadline)
    }

    /// Asks for a token for a packet of a stream.
    pub(crate) fn rate(&self, stream: usize, now: Instant) -> Verdict {
        let Some((spec, buckets)) = &self.rate else {
            return Verdict::Take;
        };
        let bucket = match spec.per {
            RateScope::Stage => 0,
            RateScope::Stream => stream,
        };
        let Some(bucket) = buckets.get(bucket) else {
            return Verdict::Take;
        };
        lock(bucket).ask(spec, now)
    }
}

/// A token bucket, kept as the time at which it was or will be empty (the virtual scheduling of ITU-T I.371): a
/// token is one interval, and a bucket of `burst` tokens is full when that time lies `burst` intervals back.
#[derive(Debug, Default)]
struct Bucket {
    empty: Option<Instant>,
}

impl Bucket {
    fn ask(&mut self, spec: &RateLimitSpec, now: Instant) -> Verdict {
        let interval = Duration::try_from_secs_f64(1.0 / spec.per_second).unwrap_or(Duration::MAX);
        let full = now
            .checked_sub(interval.saturating_mul(spec.burst))
            .unwrap_or(now);
        let empty = self.empty.map_or(full, |empty| empty.max(full));
        // Without a representable moment the rate is too low to ever give a second token.
        let after = empty.checked_add(interval);
        match after {
            Some(after) if after <= now => {
                self.empty = Some(after);
                Verdict::Take
            }
            Some(after) if spec.on_exceed == OnExceed::Wait => {
                self.empty = Some(after);
                Verdict::WaitUntil(after)
            }
            _ => Verdict::Drop,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn spec(on_exceed: OnExceed, burst: u32) -> RateLimitSpec {
        RateLimitSpec {
            per_second: 10.0,
            per: RateScope::Stage,
            burst,
            on_exceed,
        }
    }

    #[test]
    fn a_burst_is_taken_at_once_and_then_one_per_interval() {
        let start = Instant::now();
        let mut bucket = Bucket::default();
        let spec = spec(OnExceed::Drop, 3);
        let mut taken = |ms| bucket.ask(&spec, start + Duration::from_millis(ms)) == Verdict::Take;
        assert_eq!(
            [0, 0, 0, 0, 99, 100, 100, 150, 200].map(&mut taken),
            [true, true, true, false, false, true, false, false, true]
        );
        // A pause fills it again, up to the burst.
        assert_eq!(
            [5000, 5000, 5000, 5000].map(&mut taken),
            [true, true, true, false]
        );
    }

    #[test]
    fn waiting_packets_have_their_tokens_one_after_another() {
        let start = Instant::now();
        let mut bucket = Bucket::default();
        let spec = spec(OnExceed::Wait, 1);
        assert_eq!(bucket.ask(&spec, start), Verdict::Take);
        for n in 1..4 {
            let at = start + Duration::from_millis(100 * n);
            assert_eq!(bucket.ask(&spec, start), Verdict::WaitUntil(at));
        }
    }

    proptest! {
        /// In no window are more packets taken than the burst and what the rate gives in that time.
        #[test]
        fn no_more_than_the_rate_is_taken(gaps in prop::collection::vec(0_u64..300, 1..60), burst in 1_u32..6) {
            let start = Instant::now();
            let mut bucket = Bucket::default();
            let spec = spec(OnExceed::Drop, burst);
            let mut at = 0;
            let mut taken = Vec::new();
            for gap in gaps {
                at += gap;
                if bucket.ask(&spec, start + Duration::from_millis(at)) == Verdict::Take {
                    taken.push(at);
                }
            }
            for (i, first) in taken.iter().enumerate() {
                for (n, last) in taken[i..].iter().enumerate() {
                    prop_assert!(n as u64 <= u64::from(burst) + (last - first) / 100);
                }
            }
        }
    }
}
