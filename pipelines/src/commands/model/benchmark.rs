//! `flowrun model benchmark`: throughput or latency of a model, or the times of its steps.

mod layers;

use std::process::ExitCode;
use std::time::Duration;

use flow_inference::{BenchmarkOptions, Mode, benchmark as measure, layer_times};

use super::load_for;
use crate::cli::{Benchmark, BenchmarkMode};
use crate::commands::{print, print_json};
use crate::failure::Failure;

/// Most threads of a benchmark.
const MAX_THREADS: usize = 1024;

pub fn benchmark(args: &Benchmark) -> Result<ExitCode, Failure> {
    if let [before, after] = args.compare.as_slice() {
        print(&layers::compare(&layers::read(before)?, &layers::read(after)?))?;
        return Ok(ExitCode::SUCCESS);
    }
    let Some(model) = &args.model else {
        return Err(Failure::usage("give a model, or two results to --compare"));
    };
    if !(args.seconds > 0.0 && args.seconds <= 86_400.0) {
        return Err(Failure::usage(format!(
            "--seconds {}: give a time above 0, at most a day",
            args.seconds
        )));
    }
    if args
        .threads
        .is_some_and(|threads| !(1..=MAX_THREADS).contains(&threads))
    {
        return Err(Failure::usage(format!("--threads: give 1 to {MAX_THREADS}")));
    }
    let all = || std::thread::available_parallelism().map_or(1, usize::from);
    let shared_by = match args.mode {
        BenchmarkMode::Throughput => 1,
        // Steps are timed on one thread unless more are asked for.
        BenchmarkMode::Latency if args.per_layer => args.threads.unwrap_or(1),
        BenchmarkMode::Latency => args.threads.unwrap_or_else(all),
    };
    let engine = load_for(model, shared_by)?;
    if args.per_layer {
        let times = layer_times(&engine, Duration::from_secs_f64(args.seconds)).map_err(Failure::engine)?;
        let times = times.ok_or_else(|| {
            Failure::usage("--per-layer times kernels of the CPU in one shape: use --device CPU, and --shape where axes are open")
        })?;
        match args.json {
            true => print_json(&times)?,
            false => print(&layers::table(&times))?,
        }
        return Ok(ExitCode::SUCCESS);
    }
    let options = BenchmarkOptions {
        mode: match args.mode {
            BenchmarkMode::Throughput => Mode::Throughput,
            BenchmarkMode::Latency => Mode::Latency,
        },
        duration: Duration::from_secs_f64(args.seconds),
        threads: args.threads.unwrap_or(0),
    };
    let result = measure(&engine, &options).map_err(Failure::engine)?;
    if args.json {
        print_json(&result)?;
    } else {
        let latency = &result.latency_ms;
        print(&format!(
            "throughput  {:.2} fps ({} requests on {} threads, {})\n\
             latency     median {:.3} ms, p99 {:.3} ms, min {:.3} ms, max {:.3} ms\n\
             load        {:.0} ms\n",
            result.fps,
            result.streams,
            result.threads,
            result.isa.unwrap_or("reference evaluator"),
            latency.median,
            latency.p99,
            latency.min,
            latency.max,
            result.compile_ms
        ))?;
    }
    Ok(ExitCode::SUCCESS)
}
