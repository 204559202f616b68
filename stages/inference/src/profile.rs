//! Times of the steps of a network over the runs of one session.

use flow_cpu::StepTime;

/// Sums of the times of each step.
#[derive(Debug, Clone, Default)]
pub struct Profile {
    sums: Vec<StepTime>,
    runs: u32,
}

impl Profile {
    /// Adds the times of one run.
    pub(crate) fn add(&mut self, times: &[StepTime]) {
        self.sums.resize(times.len(), StepTime::default());
        for (sum, time) in self.sums.iter_mut().zip(times) {
            *sum += *time;
        }
        self.runs += 1;
    }

    /// Runs so far.
    pub fn runs(&self) -> u32 {
        self.runs
    }

    /// Mean time of each step, in the order of [`Program::steps`](flow_cpu::Program::steps); on the reference
    /// evaluator, of each node of the graph. Empty before the first run.
    pub fn mean(&self) -> Vec<StepTime> {
        let runs = self.runs.max(1);
        self.sums
            .iter()
            .map(|sum| StepTime {
                real: sum.real / runs,
                cpu: sum.cpu / runs,
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_mean_is_over_runs() {
        let time = |real, cpu| StepTime {
            real: Duration::from_millis(real),
            cpu: Duration::from_millis(cpu),
        };
        let mut profile = Profile::default();
        assert!(profile.mean().is_empty());
        profile.add(&[time(2, 1), time(10, 10)]);
        profile.add(&[time(4, 3), time(30, 20)]);
        assert_eq!(profile.mean(), [time(3, 2), time(20, 15)]);
        assert_eq!(profile.runs(), 2);
    }
}
