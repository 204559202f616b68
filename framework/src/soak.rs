//! A long run with a verdict: load that does not wait, faults on purpose, and proof that nothing was lost, disordered
//! or leaked.
//!
//! The pipeline runs as it always does; [`run`] wraps its sources so that packets arrive by a schedule of their own
//! and begin anew when they end, and its sinks so that order and age are seen where packets leave. Latency counts from
//! when a packet was due, not from when a late source got around to it, so that a stall shows in every packet it made
//! late.

mod deliveries;
mod load;
mod trend;
mod verdict;

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;

pub use load::Load;
pub use trend::{Trend, theil_sen};
pub use verdict::{Check, Status};

use crate::chaos::{self, Chaos, Fault};
use crate::config::plan::{BackoffSpec, PreparedPipeline, RestartSpec};
use crate::registry::Role;
use crate::runtime::{self, RunError, RunHandle, RunOptions, RunReport};
use deliveries::Deliveries;
use load::Arrivals;

/// Parts of the measured time whose latencies are compared.
pub(crate) const PARTS: usize = 5;

/// Most samples of a soak.
const SAMPLES: u32 = 600;

/// How a soak is run and judged.
#[derive(Debug, Clone)]
pub struct Options {
    /// How long sources give packets.
    pub duration: Duration,
    /// When packets arrive.
    pub load: Load,
    /// Seed of arrivals; chaos has its own.
    pub seed: u64,
    /// Largest growth of memory, in MiB an hour.
    pub max_growth: f64,
    /// Largest relative rise of p99 from the first fifth to the last; `None`: not judged.
    pub max_drift: Option<f64>,
    /// Fewest packets that must be settled; `None`: half of those that were due.
    pub min_packets: Option<u64>,
    /// Bytes that the program has asked its allocator for and not given back, where it counts them.
    pub heap: Option<fn() -> Option<u64>>,
}

/// One look at the process and the run.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Sample {
    /// Seconds since the start.
    pub seconds: f64,
    /// Resident memory in bytes.
    pub rss: u64,
    /// Bytes that the program has asked its allocator for and not given back, C code left out; `None`: not counted.
    pub heap: Option<u64>,
    /// Open file descriptors.
    pub fds: u64,
    /// Threads.
    pub threads: u64,
    /// Packets given by all sources so far.
    pub entered: u64,
    /// Packets delivered, dropped or dead-lettered so far.
    pub settled: u64,
    /// Packets waiting in all queues.
    pub waiting: u64,
    /// Median latency since the last sample, in milliseconds; `None`: nothing was delivered.
    pub p50_ms: Option<f64>,
    /// 99th percentile of latency since the last sample, in milliseconds.
    pub p99_ms: Option<f64>,
    /// Faults injected so far.
    pub faults: u64,
    /// Instances rebuilt so far.
    pub restarts: u64,
}

/// What a soak found.
#[derive(Debug, Clone, Serialize)]
pub struct SoakReport {
    /// Whether every check passed.
    pub passed: bool,
    /// The checks.
    pub checks: Vec<Check>,
    /// The faults that were asked for, as they are written; empty: none.
    pub chaos: String,
    /// Faults that were injected, by name.
    pub faults: Vec<(&'static str, u64)>,
    /// When they were injected, in seconds since the start.
    pub fault_times: Vec<(f64, &'static str)>,
    /// Packets that were due by the schedule; 0 where sources keep their own pace.
    pub due: u64,
    /// The load, as it is written.
    pub load: String,
    /// Seed of arrivals and faults.
    pub seed: u64,
    /// Latency from when packets were due to when required sinks took them, in milliseconds, by fifth of the run.
    pub p99_by_fifth_ms: Vec<f64>,
    /// Trend of memory in MiB an hour, after the warm-up and while there are faults, where there are any.
    pub memory: Option<Trend>,
    /// The same of what the program has asked for and not given back, where that is counted.
    pub heap: Option<Trend>,
    /// Seconds at the beginning that are not judged.
    pub warm_up: f64,
    /// Samples, oldest first.
    pub samples: Vec<Sample>,
    /// The report of the run itself.
    pub run: RunReport,
}

impl SoakReport {
    /// The exit code of the process: 0 where every check passed, else that of the run, or 4.
    pub fn exit_code(&self) -> u8 {
        match (self.passed, self.run.exit_code()) {
            (true, _) => 0,
            (false, code @ 4..) => code,
            (false, _) => 4,
        }
    }
}

/// Why a soak could not start.
#[derive(Debug, thiserror::Error)]
pub enum SoakError {
    /// Faults that the pipeline cannot have.
    #[error("{0}")]
    Chaos(String),
    /// The run could not start.
    #[error(transparent)]
    Run(#[from] RunError),
}

/// Runs a pipeline under load and faults, and judges it. `started` is given a handle to the run, to stop it early or
/// to show how it goes.
///
/// # Errors
/// When it cannot start; whatever happens afterwards is in the report.
pub fn run(
    mut prepared: PreparedPipeline,
    options: &Options,
    chaos: Option<Arc<Chaos>>,
    started: impl FnOnce(&RunHandle),
) -> Result<SoakReport, SoakError> {
    if let Some(chaos) = &chaos {
        chaos::inject(&mut prepared, chaos).map_err(SoakError::Chaos)?;
        // Panics on purpose must not use up a budget that is meant for others, nor make waits grow: the verdict compares
        // both numbers.
        for component in prepared.pipeline.components.iter_mut() {
            let BackoffSpec { initial, .. } = component.restart.backoff;
            component.restart = RestartSpec {
                max: u32::MAX,
                backoff: BackoffSpec {
                    initial,
                    max: initial,
                },
                ..component.restart
            };
        }
    }
    let arrivals = Arrivals::new(options.load, options.seed);
    load::drive(&mut prepared, &arrivals);
    let clock = chaos
        .as_ref()
        .map_or_else(|| RunOptions::default().clock, |chaos| chaos.clock());
    let deliveries = Deliveries::observe(&mut prepared, &clock);
    let sources = prepared.pipeline.components.iter();
    let sources = sources.filter(|c| c.role == Role::Source).count() as u64;

    let run_options = RunOptions {
        duration: Some(options.duration),
        clock: clock.clone(),
    };
    let running = runtime::start(prepared, &run_options)?;
    let handle = running.handle();
    started(&handle);
    let warm_up = options.duration / 6;
    let sampler = Sampler {
        handle,
        chaos: chaos.clone(),
        deliveries: deliveries.clone(),
        duration: options.duration,
        warm_up,
        heap: options.heap,
    };
    let (done, ended) = crossbeam_channel::bounded::<()>(1);
    let samples = std::thread::spawn(move || sampler.run(&ended));
    let report = running.wait();
    drop(done);
    // A sampler that panicked leaves no samples, and a soak without samples does not pass.
    let samples = samples.join().unwrap_or_default();
    Ok(verdict::judge(verdict::Evidence {
        options,
        warm_up,
        sources,
        chaos: chaos.as_deref(),
        arrivals: &arrivals,
        deliveries: &deliveries,
        samples,
        run: report,
    }))
}

/// When faults end: a tail without them shows that the run recovers.
fn calm_from(duration: Duration) -> Duration {
    duration.mul_f64(0.9)
}

struct Sampler {
    handle: RunHandle,
    chaos: Option<Arc<Chaos>>,
    deliveries: Arc<Deliveries>,
    duration: Duration,
    warm_up: Duration,
    heap: Option<fn() -> Option<u64>>,
}

impl Sampler {
    fn run(self, ended: &crossbeam_channel::Receiver<()>) -> Vec<Sample> {
        let began = Instant::now();
        let step = (self.duration / SAMPLES).max(Duration::from_millis(200));
        let calm = calm_from(self.duration);
        let mut samples = chaos::touched(SAMPLES as usize + 1, Sample::default());
        let mut next = began + step;
        loop {
            let wait = next.saturating_duration_since(Instant::now());
            match ended.recv_timeout(wait) {
                Err(crossbeam_channel::RecvTimeoutError::Timeout) => {}
                _ => return samples,
            }
            next += step;
            let elapsed = began.elapsed();
            if elapsed >= calm
                && let Some(chaos) = &self.chaos
            {
                chaos.calm();
            }
            self.deliveries.part(self.part(elapsed));
            // While draining, threads end and queues empty: that says nothing about the run.
            if !self.handle.is_stopping() && elapsed < self.duration {
                samples.push(self.look(elapsed));
            }
        }
    }

    /// The fifth of the measured time that this moment falls into; `None`: the warm-up.
    fn part(&self, elapsed: Duration) -> Option<usize> {
        let measured = (self.duration - self.warm_up).as_secs_f64();
        let since = elapsed.checked_sub(self.warm_up)?.as_secs_f64();
        let part = (since / measured.max(f64::MIN_POSITIVE) * PARTS as f64) as usize;
        (part < PARTS).then_some(part)
    }

    fn look(&self, elapsed: Duration) -> Sample {
        let progress = self.handle.progress();
        let process = crate::observe::process::look();
        let latency = self.deliveries.window();
        Sample {
            seconds: elapsed.as_secs_f64(),
            rss: process.rss,
            heap: self.heap.and_then(|heap| heap()),
            fds: process.fds,
            threads: process.threads,
            entered: progress.streams.iter().map(|s| s.entered).sum(),
            settled: progress.streams.iter().map(|s| s.settled).sum(),
            waiting: progress.stages.iter().map(|s| s.waiting as u64).sum(),
            p50_ms: latency.map(|l| l.p50),
            p99_ms: latency.map(|l| l.p99),
            faults: self.chaos.as_ref().map_or(0, |chaos| chaos.total()),
            restarts: self.handle.restarts(),
        }
    }
}

/// The faults that were injected, by name.
fn faults(chaos: &Chaos) -> Vec<(&'static str, u64)> {
    let kinds = chaos.kinds();
    let named = |fault: Fault| (fault.name(), chaos.count(fault));
    kinds.into_iter().map(named).collect()
}
