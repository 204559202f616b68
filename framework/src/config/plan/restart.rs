//! How instances are built again, and sources opened again.

use std::time::Duration;

/// How often instances of a component may be rebuilt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RestartSpec {
    /// After what an instance is rebuilt.
    pub policy: RestartPolicy,
    /// Number of restarts within the window before the pipeline fails; 0: never restarted.
    pub max: u32,
    /// The sliding window.
    pub within: Duration,
    /// How long to wait before each.
    pub backoff: BackoffSpec,
}

impl Default for RestartSpec {
    fn default() -> Self {
        Self {
            policy: RestartPolicy::default(),
            max: 5,
            within: Duration::from_secs(60),
            backoff: BackoffSpec::default(),
        }
    }
}

/// After what an instance is rebuilt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RestartPolicy {
    /// After nothing: the first failure that it cannot go on from is the last.
    Never,
    /// After a failure while it runs. One that cannot be built or opened at the start fails the pipeline.
    #[default]
    OnFailure,
    /// After any failure, one at the start included.
    Always,
}

/// Growing waits: before attempt n, counted from 0, a random part of `initial * 2^n`, at most of `max`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BackoffSpec {
    /// Longest first wait; zero: no waits.
    pub initial: Duration,
    /// Longest wait.
    pub max: Duration,
}

impl BackoffSpec {
    /// The wait before an attempt; `random` is spread over all values (full jitter, so that many that were lost
    /// together do not come back together).
    pub fn wait(&self, attempt: u32, random: u64) -> Duration {
        let factor = 1_u32.checked_shl(attempt).unwrap_or(u32::MAX);
        let longest = self.initial.saturating_mul(factor).min(self.max);
        let part = random as f64 / u64::MAX as f64;
        longest.mul_f64(part.clamp(0.0, 1.0)).min(longest)
    }
}

/// How a source that was lost is opened again, with a new epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReconnectSpec {
    /// Waits between attempts; they begin anew once the source has given something.
    pub backoff: BackoffSpec,
    /// Attempts without a packet before the stream is given up; `None`: any number.
    pub attempts: Option<u32>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn waits_grow_up_to_their_limit(attempt in 0_u32..80, random in any::<u64>(), ms in 0_u64..5000) {
            let backoff = BackoffSpec {
                initial: Duration::from_millis(ms),
                max: Duration::from_secs(10),
            };
            let wait = backoff.wait(attempt, random);
            prop_assert!(wait <= backoff.max);
            prop_assert!(wait <= backoff.initial.saturating_mul(1 << attempt.min(20)));
            let longest = backoff.wait(attempt, u64::MAX);
            prop_assert!(longest <= backoff.wait(attempt + 1, u64::MAX));
            prop_assert!(wait <= longest);
        }
    }
}
