//! Throughput and latency of a network.

use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use flow_cpu::{Input, StepTime};
use serde::Serialize;

use crate::engine::Engine;
use crate::error::EngineError;

/// What to measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// One request per thread, all at once: frames per second.
    Throughput,
    /// One request at a time, shared by the threads that the engine has for one: time of a frame.
    Latency,
}

/// How to measure.
#[derive(Debug, Clone, Copy)]
pub struct BenchmarkOptions {
    /// What.
    pub mode: Mode,
    /// How long, after a warm-up.
    pub duration: Duration,
    /// Threads in throughput mode; 0: one per logical CPU.
    pub threads: usize,
}

/// The result.
#[derive(Debug, Clone, Serialize)]
pub struct Measurement {
    /// Frames per second over all threads.
    pub fps: f64,
    /// Time of a frame.
    pub latency_ms: Latency,
    /// Time to load: read, transform and compile.
    pub compile_ms: f64,
    /// Parallel requests.
    pub streams: usize,
    /// Threads.
    pub threads: usize,
    /// Frames measured.
    pub iterations: usize,
    /// Instruction set of the integer kernels, on the CPU.
    pub isa: Option<&'static str>,
}

/// Times of a frame, in milliseconds.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Latency {
    /// Half are faster.
    pub median: f64,
    /// 99 of 100 are faster.
    pub p99: f64,
    /// Fastest.
    pub min: f64,
    /// Slowest.
    pub max: f64,
    /// Mean.
    pub mean: f64,
}

/// Arbitrary values for the inputs, the same in each call.
pub(crate) fn arbitrary_inputs(engine: &Engine) -> Vec<Vec<u8>> {
    engine
        .inputs()
        .iter()
        .map(|port| {
            // Small numbers for any type: a float pattern would not do for integers, nor bytes for floats.
            let count: usize = port.shape.iter().product();
            let values: Vec<f64> = (0..count).map(|i| (i * 37 % 101) as f64 / 50.0).collect();
            flow_model::Tensor::from_f64(port.element_type, &port.shape, &values)
                .map_or_else(|_| vec![0; port.bytes()], |t| t.bytes().to_vec())
        })
        .collect()
}

/// Mean times of the steps over some runs on arbitrary input, after a warm-up; on the reference evaluator those of one
/// run, of each node of its graph; empty where input shapes are open.
///
/// # Errors
/// [`EngineError`] where a run fails.
pub fn profile(engine: &Engine, runs: u32) -> Result<Vec<StepTime>, EngineError> {
    // The reference evaluator is slow, and knows no difference between its first run and others.
    let (warm, runs) = match (engine.program(), engine.evaluated()) {
        (Some(_), _) => (3, runs.max(1)),
        (None, Some(_)) => (0, 1),
        (None, None) => return Ok(Vec::new()),
    };
    let inputs = arbitrary_inputs(engine);
    let slices: Vec<Input<'_>> = inputs.iter().map(|b| Input::Values(b)).collect();
    let mut session = engine.profiled_session();
    (0..warm).try_for_each(|_| session.run(&slices))?;
    session.clear_profile();
    (0..runs).try_for_each(|_| session.run(&slices))?;
    Ok(session.profile().map(crate::Profile::mean).unwrap_or_default())
}

/// Runs the network on arbitrary input for a while.
///
/// # Errors
/// [`EngineError`] where a run fails.
pub fn benchmark(engine: &Engine, options: &BenchmarkOptions) -> Result<Measurement, EngineError> {
    let streams = match (options.mode, options.threads) {
        (Mode::Latency, _) => 1,
        (Mode::Throughput, 0) => std::thread::available_parallelism().map_or(1, usize::from),
        (Mode::Throughput, n) => n,
    };
    let inputs = arbitrary_inputs(engine);
    let barrier = Barrier::new(streams + 1);
    let stop = AtomicBool::new(false);
    let worker = || -> Result<Vec<Duration>, EngineError> {
        let mut session = engine.session();
        let slices: Vec<Input<'_>> = inputs.iter().map(|b| Input::Values(b)).collect();
        let warm = (0..3).try_for_each(|_| session.run(&slices));
        barrier.wait();
        warm?;
        let mut times = Vec::new();
        while !stop.load(Ordering::Relaxed) {
            let start = Instant::now();
            session.run(&slices)?;
            times.push(start.elapsed());
        }
        Ok(times)
    };
    let mut results = Vec::new();
    let mut elapsed = Duration::ZERO;
    std::thread::scope(|scope| {
        let handles: Vec<_> = (0..streams).map(|_| scope.spawn(worker)).collect();
        barrier.wait();
        let start = Instant::now();
        std::thread::sleep(options.duration);
        stop.store(true, Ordering::Relaxed);
        for handle in handles {
            match handle.join() {
                Ok(result) => results.push(result),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        elapsed = start.elapsed();
    });
    let mut times = Vec::new();
    for result in results {
        times.extend(result?);
    }
    times.sort_unstable();
    let ms = |d: Duration| d.as_secs_f64() * 1e3;
    let at = |share: f64| {
        let last = times.len().saturating_sub(1);
        times
            .get((last as f64 * share).round() as usize)
            .copied()
            .map_or(0.0, ms)
    };
    let timing = engine.timing();
    Ok(Measurement {
        fps: times.len() as f64 / elapsed.as_secs_f64(),
        latency_ms: Latency {
            median: at(0.5),
            p99: at(0.99),
            min: at(0.0),
            max: at(1.0),
            mean: ms(times.iter().sum()) / times.len().max(1) as f64,
        },
        compile_ms: ms(timing.read + timing.lpt + timing.compile),
        streams,
        threads: streams * engine.threads(),
        iterations: times.len(),
        isa: engine.program().map(|p| p.isa().name()),
    })
}
