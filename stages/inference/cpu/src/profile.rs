//! Times of steps.

use std::time::{Duration, Instant};

use rustix::time::{ClockId, Timespec, clock_gettime};

/// How long a step took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StepTime {
    /// By the clock on the wall.
    pub real: Duration,
    /// CPU time of the thread that ran it. Less than `real` where the thread had to wait for a CPU.
    pub cpu: Duration,
}

impl std::ops::AddAssign for StepTime {
    fn add_assign(&mut self, other: Self) {
        self.real += other.real;
        self.cpu += other.cpu;
    }
}

/// Both clocks of the calling thread.
#[derive(Debug)]
pub struct Clock {
    real: Instant,
    cpu: Duration,
}

impl Clock {
    /// Starts them.
    pub fn start() -> Self {
        Self {
            real: Instant::now(),
            cpu: thread_time(),
        }
    }

    /// Time since the start or the last lap.
    pub fn lap(&mut self) -> StepTime {
        let now = Self::start();
        let time = StepTime {
            real: now.real - self.real,
            cpu: now.cpu.saturating_sub(self.cpu),
        };
        *self = now;
        time
    }
}

fn thread_time() -> Duration {
    let Timespec { tv_sec, tv_nsec } = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(tv_sec.unsigned_abs(), u32::try_from(tv_nsec).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_sleeps_uses_no_cpu_time() {
        let mut clock = Clock::start();
        std::thread::sleep(Duration::from_millis(20));
        let slept = clock.lap();
        assert!(slept.real >= Duration::from_millis(20));
        assert!(slept.cpu < slept.real / 2, "{slept:?}");
        let begin = Instant::now();
        while begin.elapsed() < Duration::from_millis(5) {
            std::hint::spin_loop();
        }
        let worked = clock.lap();
        assert!(
            worked.cpu > Duration::ZERO && worked.real >= Duration::from_millis(5),
            "{worked:?}"
        );
    }
}
