//! `flowrun soak`: a long run under load and faults, with a verdict.

mod corrupt;
mod plots;
mod report;

use std::process::ExitCode;
use std::time::Duration;

use flow::chaos::Chaos;
use flow::config;
use flow::soak::{self, Options, SoakError, SoakReport, Status};

use super::run::{cannot_start, duration, forward_signals};
use super::{print, print_json};
use crate::cli::Soak;
use crate::failure::Failure;
use crate::kinds;
use crate::pipeline;

pub fn soak(args: &Soak, quiet: bool) -> Result<ExitCode, Failure> {
    let options = Options {
        duration: duration(&args.duration)?,
        load: args.load,
        seed: args.seed,
        max_growth: args.max_growth,
        max_drift: args.max_drift.0,
        min_packets: args.min_packets,
        heap: Some(|| crate::heap::live().map(|heap| heap.bytes)),
    };
    if options.duration < Duration::from_secs(5) {
        return Err(Failure::usage(format!(
            "--duration {}: a soak takes at least 5s, or there is nothing to compare",
            args.duration
        )));
    }
    let pipeline = pipeline::checked(&args.pipeline)?;
    if let Some(path) = &args.report {
        // Found out now rather than after hours.
        std::fs::File::create(path)
            .map_err(|e| Failure::usage(format!("--report {}: {e}", path.display())))?;
    }
    let prepared = config::prepare(&pipeline, &kinds::registry()).map_err(Failure::pipeline)?;
    let chaos = args
        .chaos
        .clone()
        .map(|spec| Chaos::new(spec, args.seed, Some(corrupt::corrupt)));
    let mut signals = Ok(());
    let report = soak::run(prepared, &options, chaos, |handle| {
        if !quiet {
            eprintln!(
                "soaking {} for {:?} with {}{}",
                pipeline.name,
                options.duration,
                options.load,
                args.chaos
                    .as_ref()
                    .map_or_else(String::new, |spec| format!(" and faults {spec}"))
            );
        }
        signals = forward_signals(handle.clone());
    })
    .map_err(|error| match error {
        SoakError::Chaos(message) => Failure::usage(format!("--chaos: {message}")),
        SoakError::Run(error) => cannot_start(error, &pipeline),
    })?;
    signals?;
    if let Some(path) = &args.report {
        std::fs::write(path, report::page(&report)).map_err(|e| Failure::file("write", path, e))?;
    }
    if args.json {
        print_json(&report)?;
    } else {
        print(&table(&report))?;
    }
    if !quiet && let Some(path) = &args.report {
        eprintln!("report: {}", path.display());
    }
    Ok(ExitCode::from(report.exit_code()))
}

/// The verdict for people.
fn table(report: &SoakReport) -> String {
    let mut out = String::new();
    for check in &report.checks {
        let mark = match check.status {
            Status::Pass => "pass",
            Status::Fail => "FAIL",
            Status::NotJudged => " -  ",
        };
        out.push_str(&format!("{mark}  {:<17} {}\n", check.name, check.found));
    }
    let verdict = if report.passed { "passed" } else { "NOT passed" };
    out.push_str(&format!(
        "soak {verdict}: {} packets in {:.0} s, seed {}\n",
        report.run.ledger.entered, report.run.seconds, report.seed
    ));
    out
}
