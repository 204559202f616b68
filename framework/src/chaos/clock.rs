//! A clock that leaps.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::clock::{Clock, MonotonicClock, Timer};

/// The monotonic clock of the machine, and how far it has leapt ahead: as when a machine sleeps or a virtual one stands
/// still. It never goes back, as no monotonic clock does. Timers that are set already keep their moment.
#[derive(Clone, Default)]
pub(super) struct LeapingClock(Arc<AtomicU64>);

impl LeapingClock {
    pub(super) fn leap(&self, by: Duration) {
        let nanos = u64::try_from(by.as_nanos()).unwrap_or(u64::MAX);
        self.0.fetch_add(nanos, Ordering::AcqRel);
    }

    fn ahead(&self) -> Duration {
        Duration::from_nanos(self.0.load(Ordering::Acquire))
    }
}

impl Clock for LeapingClock {
    fn now(&self) -> Instant {
        MonotonicClock.now() + self.ahead()
    }

    fn timer(&self, at: Instant) -> Timer {
        // A moment that lies before the start of the machine has passed.
        let at = at.checked_sub(self.ahead());
        MonotonicClock.timer(at.unwrap_or_else(Instant::now))
    }
}

impl fmt::Debug for LeapingClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LeapingClock({:?} ahead)", self.ahead())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leap_brings_moments_nearer() {
        let clock = LeapingClock::default();
        let start = clock.now();
        let moment = start + Duration::from_secs(3600);
        assert!(clock.timer(moment).timeout() > Duration::from_secs(3000));
        clock.leap(Duration::from_secs(7200));
        assert!(clock.now() >= moment);
        assert!(clock.timer(moment).timeout().is_zero());
    }
}
