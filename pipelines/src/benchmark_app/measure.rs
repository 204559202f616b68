//! The measured loop: one request in this thread, or requests on streams.

use std::time::{Duration, Instant};

use flow_inference::{EngineError, InferQueue, Input, InputSet, Session};

/// One shape of the network: what an iteration runs.
#[derive(Debug, Clone)]
pub struct Group {
    /// Values that iterations take in turn.
    pub sets: Vec<InputSet>,
    /// Frames per iteration.
    pub batch: usize,
}

/// When to stop.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// After so many iterations.
    pub iterations: Option<usize>,
    /// After so long.
    pub duration: Option<Duration>,
    /// Most frames per second; 0: no limit.
    pub max_rate: f64,
    /// Take the next values for each iteration, rather than one set per request.
    pub refill: bool,
}

/// What was measured.
#[derive(Debug, Clone, Default)]
pub struct Measured {
    /// Latencies, ascending.
    pub latencies: Vec<Duration>,
    /// The same for each group.
    pub groups: Vec<Vec<Duration>>,
    /// From the first start to the last end.
    pub total: Duration,
    /// Iterations.
    pub iterations: usize,
    /// Frames.
    pub frames: usize,
}

/// Minimum, mean, maximum and a percentile.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Summary {
    /// The percentile, in milliseconds like the others.
    pub percentile: f64,
    /// Mean.
    pub average: f64,
    /// Shortest.
    pub min: f64,
    /// Longest.
    pub max: f64,
}

/// Milliseconds.
pub fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

impl Summary {
    /// Of ascending latencies; `percent` from 1 to 100. The percentile is the smallest value that so many of a
    /// hundred do not exceed.
    pub fn of(sorted: &[Duration], percent: usize) -> Option<Self> {
        let (first, last) = (sorted.first()?, sorted.last()?);
        let at = (sorted.len() * percent).div_ceil(100).clamp(1, sorted.len()) - 1;
        Some(Self {
            percentile: ms(sorted[at]),
            average: ms(sorted.iter().sum()) / sorted.len() as f64,
            min: ms(*first),
            max: ms(*last),
        })
    }
}

impl Measured {
    fn add(&mut self, group: usize, latency: Duration) {
        self.latencies.push(latency);
        self.groups[group].push(latency);
    }

    fn finish(mut self, start: Instant) -> Self {
        self.total = start.elapsed().max(Duration::from_nanos(1));
        self.latencies.sort_unstable();
        self.groups.iter_mut().for_each(|g| g.sort_unstable());
        self
    }

    /// Frames per second.
    pub fn fps(&self) -> f64 {
        self.frames as f64 / self.total.as_secs_f64()
    }
}

impl Limits {
    /// Whether another iteration is due; `align`: only whole multiples of it end by time.
    fn go_on(&self, iteration: usize, start: Instant, align: usize) -> bool {
        self.iterations.is_some_and(|n| iteration < n)
            || self.duration.is_some_and(|d| start.elapsed() < d)
            || !iteration.is_multiple_of(align)
    }

    /// Waits so that no more than the wanted frames run per second.
    fn pace(&self, frames: usize, start: Instant) {
        if self.max_rate > 0.0 {
            let due = Duration::from_secs_f64((frames as f64 / self.max_rate).min(1e6));
            std::thread::sleep(due.saturating_sub(start.elapsed()));
        }
    }
}

fn values(set: &InputSet) -> Vec<Input<'_>> {
    set.iter().map(|b| Input::Values(b)).collect()
}

/// One request in this thread, its iterations one after another.
///
/// # Errors
/// [`EngineError`] of a run that fails.
pub fn sync(session: &mut Session, group: &Group, limits: &Limits) -> Result<Measured, EngineError> {
    let mut measured = Measured {
        groups: vec![Vec::new()],
        ..Measured::default()
    };
    let sets: Vec<Vec<Input<'_>>> = group.sets.iter().map(values).collect();
    let start = Instant::now();
    while limits.go_on(measured.iterations, start, 1) {
        let set = if limits.refill {
            measured.iterations % sets.len().max(1)
        } else {
            0
        };
        let begin = Instant::now();
        session.run(&sets[set])?;
        measured.add(0, begin.elapsed());
        measured.iterations += 1;
        measured.frames += group.batch;
        limits.pace(measured.frames, start);
    }
    Ok(measured.finish(start))
}

/// Requests on streams; groups take turns.
///
/// # Errors
/// [`EngineError`] of a run that fails.
pub fn queued(
    queue: &mut InferQueue,
    groups: &[Group],
    requests: usize,
    limits: &Limits,
) -> Result<Measured, EngineError> {
    let mut measured = Measured {
        groups: vec![Vec::new(); groups.len()],
        ..Measured::default()
    };
    let align = if groups.len() > 1 { groups.len() } else { requests };
    let start = Instant::now();
    while limits.go_on(measured.iterations, start, align) {
        let (request, finished) = queue.wait_idle()?;
        if let Some(run) = finished {
            measured.add(run.network, run.latency);
        }
        let at = measured.iterations % groups.len();
        let group = &groups[at];
        let set = if limits.refill {
            measured.iterations / groups.len()
        } else {
            request
        };
        queue.start(request, at, group.sets[set % group.sets.len()].clone())?;
        measured.iterations += 1;
        measured.frames += group.batch;
        limits.pace(measured.frames, start);
    }
    for run in queue.wait_all()? {
        measured.add(run.network, run.latency);
    }
    Ok(measured.finish(start))
}

/// Iterations rounded up to a multiple of the requests, or of the groups where these are more.
pub fn aligned(iterations: usize, requests: usize, groups: usize) -> usize {
    iterations.next_multiple_of(if groups > requests { groups } else { requests })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_percentile_is_a_value_that_was_measured() {
        let times: Vec<Duration> = (1..=10).map(Duration::from_millis).collect();
        let median = Summary::of(&times, 50).unwrap();
        assert_eq!((median.percentile, median.min, median.max), (5.0, 1.0, 10.0));
        assert!((median.average - 5.5).abs() < 1e-9);
        assert_eq!(Summary::of(&times, 91).unwrap().percentile, 10.0);
        assert_eq!(Summary::of(&times, 1).unwrap().percentile, 1.0);
        assert_eq!(Summary::of(&times[..1], 100).unwrap().percentile, 1.0);
        assert_eq!(Summary::of(&[], 50), None);
    }

    #[test]
    fn iterations_are_whole_rounds_of_requests() {
        assert_eq!(aligned(5, 2, 1), 6);
        assert_eq!(aligned(6, 2, 1), 6);
        assert_eq!(aligned(4, 2, 3), 6);
        assert_eq!(aligned(1, 1, 1), 1);
    }
}
