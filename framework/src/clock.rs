//! The clock of a run. Every rule about time (deadlines, batches, rates, backoff, timeouts) asks it, so that tests
//! of such rules move time by hand and never sleep.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Condvar, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded, never};

use crate::ledger::lock;

/// Tells the time and wakes those who wait for a moment.
pub trait Clock: Send + Sync + fmt::Debug {
    /// The present moment; it never goes back.
    fn now(&self) -> Instant;

    /// A timer that fires at `at`, at once where that has passed.
    fn timer(&self, at: Instant) -> Timer;
}

/// Fires once. A wait selects over [`ticks`](Timer::ticks) and at most [`timeout`](Timer::timeout): one of the two
/// does nothing, as the clock has it.
#[derive(Debug)]
pub struct Timer {
    ticks: Receiver<()>,
    timeout: Duration,
    /// Dropped with the timer: a clock moved by hand knows who still waits.
    _waiting: Option<Arc<()>>,
}

impl Timer {
    /// A timer that never fires.
    pub fn never() -> Self {
        Self::after(Duration::MAX)
    }

    fn after(timeout: Duration) -> Self {
        Self {
            ticks: never(),
            timeout,
            _waiting: None,
        }
    }

    /// Receives once the moment has come, where the clock is moved by hand.
    pub fn ticks(&self) -> &Receiver<()> {
        &self.ticks
    }

    /// Time until the moment comes, from the call of [`Clock::timer`] on, where time passes by itself.
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Waits for the moment.
    pub fn wait(&self) {
        let _ = self.ticks.recv_timeout(self.timeout);
    }
}

/// The monotonic clock of the machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct MonotonicClock;

impl Clock for MonotonicClock {
    fn now(&self) -> Instant {
        Instant::now()
    }

    fn timer(&self, at: Instant) -> Timer {
        Timer::after(at.saturating_duration_since(Instant::now()))
    }
}

/// A clock that stands still until it is told to move, for tests. Cheap to clone; clones are the same clock.
#[derive(Debug, Clone)]
pub struct ManualClock {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    start: Instant,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    elapsed: Duration,
    /// By moment and number: whom to wake, and whether anybody still waits.
    timers: BTreeMap<(Duration, u64), (Sender<()>, Weak<()>)>,
    count: u64,
}

impl Default for ManualClock {
    fn default() -> Self {
        Self {
            shared: Arc::new(Shared {
                start: Instant::now(),
                state: Mutex::default(),
                changed: Condvar::new(),
            }),
        }
    }
}

impl ManualClock {
    /// A clock that stands at its start.
    pub fn new() -> Self {
        Self::default()
    }

    /// Time since the start.
    pub fn elapsed(&self) -> Duration {
        lock(&self.shared.state).elapsed
    }

    /// Moves the time and fires every timer that is due, earliest first.
    pub fn advance(&self, by: Duration) {
        let mut state = lock(&self.shared.state);
        state.elapsed += by;
        let now = state.elapsed;
        while let Some(entry) = state.timers.first_entry() {
            if entry.key().0 > now {
                break;
            }
            let (wake, _) = entry.remove();
            // Full or gone: nobody is to be woken twice.
            let _ = wake.try_send(());
        }
    }

    /// Blocks until somebody waits for the moment `at` after the start.
    pub fn await_timer(&self, at: Duration) {
        let mut state = lock(&self.shared.state);
        loop {
            let mut timers = state.timers.range((at, 0)..=(at, u64::MAX));
            if timers.any(|(_, (_, waiting))| waiting.strong_count() > 0) {
                return;
            }
            let changed = &self.shared.changed;
            state = changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Instant {
        self.shared.start + self.elapsed()
    }

    fn timer(&self, at: Instant) -> Timer {
        let at = at.saturating_duration_since(self.shared.start);
        let mut state = lock(&self.shared.state);
        let (wake, ticks) = bounded(1);
        let waiting = Arc::new(());
        if at <= state.elapsed {
            let _ = wake.try_send(());
        } else {
            state.timers.retain(|_, (_, waiting)| waiting.strong_count() > 0);
            state.count += 1;
            let key = (at, state.count);
            state.timers.insert(key, (wake, Arc::downgrade(&waiting)));
            self.shared.changed.notify_all();
        }
        Timer {
            ticks,
            timeout: Duration::MAX,
            _waiting: Some(waiting),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    #[test]
    fn a_manual_timer_fires_when_its_moment_comes_and_not_before() {
        let clock = ManualClock::new();
        let start = clock.now();
        let timer = clock.timer(start + 2 * S);
        clock.advance(S);
        assert!(timer.ticks().is_empty());
        clock.advance(S);
        timer.wait();
        assert_eq!(clock.now() - start, 2 * S);
        clock.timer(start + S).wait();
    }

    #[test]
    fn a_timer_that_was_dropped_waits_for_nothing() {
        let clock = ManualClock::new();
        drop(clock.timer(clock.now() + S));
        let kept = clock.timer(clock.now() + 3 * S);
        clock.await_timer(3 * S);
        assert_eq!(lock(&clock.shared.state).timers.len(), 1);
        clock.advance(3 * S);
        kept.wait();
    }

    #[test]
    fn the_monotonic_clock_gives_the_time_that_is_left() {
        let timer = MonotonicClock.timer(MonotonicClock.now() + 60 * S);
        assert!(timer.timeout() > 30 * S && timer.timeout() <= 60 * S);
        MonotonicClock.timer(Instant::now()).wait();
    }
}
