//! Calls that are timed together.
//!
//! A look at the clock costs as much as the rest of a hop does at its dearest. Where an instance takes less than a
//! microsecond for a packet and the next one is at hand, a few calls share one look: each counts as taking its share.
//! A call that turns out to be slow nevertheless is not spread over the others.

use std::time::{Duration, Instant};

use crate::metrics::{Call, Calls};

/// Most calls that are timed together.
const CALLS: usize = 8;

/// Calls that take less on average are quick.
const QUICK: Duration = Duration::from_micros(1);

/// Together they must not take longer than this many times what as many quick ones do, or one of them was slow.
const SLOW: u32 = 4;

/// The calls since the clock was looked at.
pub(super) struct Lap {
    /// When the first of them began.
    began: Option<Instant>,
    /// How long the packet of each had waited, and its capture where a sink has taken it.
    calls: Vec<(Duration, Option<Instant>)>,
    /// Whether the last calls were quick.
    quick: bool,
}

impl Lap {
    pub(super) fn new() -> Self {
        Self {
            began: None,
            calls: Vec::with_capacity(CALLS),
            quick: false,
        }
    }

    /// Whether the next call may go without a look at the clock.
    pub(super) fn goes_on(&self) -> bool {
        self.quick && self.calls.len() + 1 < CALLS
    }

    pub(super) fn is_empty(&self) -> bool {
        self.calls.is_empty()
    }

    /// Adds a call whose end is not known.
    pub(super) fn add(&mut self, wait: Duration, began: Instant, delivered: Option<Instant>) {
        self.began.get_or_insert(began);
        self.calls.push((wait, delivered));
    }

    /// Gives all calls to `calls`, the last of which ended `now`.
    pub(super) fn end_now(&mut self, now: Instant, calls: &mut Calls) {
        let Some((wait, delivered)) = self.calls.pop() else {
            return;
        };
        let last = Call {
            wait: Some(wait),
            began: self.began.unwrap_or(now),
            service: Duration::ZERO,
            blocked: Duration::ZERO,
            ended: now,
            age: delivered.map(|captured| now.saturating_duration_since(captured)),
        };
        self.end(last, false, calls);
    }

    /// The last call ended at `last.ended`, and the next one follows at once where there are `more`: gives all of them to
    /// `calls`.
    pub(super) fn end(&mut self, last: Call, more: bool, calls: &mut Calls) {
        let began = self.began.take().unwrap_or(last.began);
        let whole = last.ended.saturating_duration_since(began);
        let time = whole.saturating_sub(last.blocked);
        let count = self.calls.len() as u32 + 1;
        self.quick = time < QUICK * count;
        let share = match time > QUICK * count * SLOW {
            true => QUICK,
            false => time / count,
        };
        for (wait, delivered) in self.calls.drain(..) {
            let call = Call {
                wait: Some(wait),
                began,
                service: share,
                blocked: Duration::ZERO,
                ended: last.ended,
                age: delivered.map(|captured| last.ended.saturating_duration_since(captured)),
            };
            calls.add(call, true);
        }
        let service = time.saturating_sub(share * (count - 1));
        calls.add(Call { service, ..last }, more);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::{Meter, merge};
    use std::sync::Arc;

    const US: Duration = Duration::from_micros(1);

    fn last(began: Instant, ended: Instant, blocked: Duration) -> Call {
        Call {
            wait: Some(Duration::ZERO),
            began,
            service: Duration::ZERO,
            blocked,
            ended,
            age: None,
        }
    }

    /// Ends a lap of `CALLS` calls that take that long together.
    fn timed(together: Duration, blocked: Duration) -> (Lap, crate::metrics::StageReport) {
        let meter = Arc::new(Meter::default());
        let mut calls = Calls::new(meter.clone());
        let (mut lap, start) = (Lap::new(), Instant::now());
        for _ in 1..CALLS {
            lap.add(US, start, None);
        }
        lap.end(last(start, start + together, blocked), false, &mut calls);
        (lap, merge([&*meter], false))
    }

    #[test]
    fn quick_calls_share_their_time() {
        let (lap, report) = timed(4 * US, Duration::ZERO);
        assert!(lap.goes_on() && lap.is_empty());
        assert!(
            (report.busy_seconds - 4e-6).abs() < 1e-9,
            "{}",
            report.busy_seconds
        );
        assert!(
            (report.service_ms.p99 - 0.0005).abs() < 1e-5,
            "{:?}",
            report.service_ms
        );
    }

    #[test]
    fn a_slow_call_among_quick_ones_is_seen() {
        let (lap, report) = timed(5000 * US, Duration::ZERO);
        assert!(!lap.goes_on());
        assert!(
            (report.busy_seconds - 5e-3).abs() < 1e-9,
            "{}",
            report.busy_seconds
        );
        assert!(
            (report.service_ms.p50 - 0.001).abs() < 1e-5,
            "{:?}",
            report.service_ms
        );
        assert!(
            (report.service_ms.p99 - 5.0).abs() < 0.1,
            "{:?}",
            report.service_ms
        );
    }

    #[test]
    fn waiting_for_room_is_no_time_of_the_calls() {
        let (lap, report) = timed(5004 * US, 5000 * US);
        assert!(lap.goes_on());
        assert!((report.busy_seconds - 4e-6).abs() < 1e-9 && (report.blocked_seconds - 5e-3).abs() < 1e-9);
    }
}
