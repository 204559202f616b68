//! `flowrun why-slow`: which stage holds up the others, from a run, a summary or a pipeline that runs now.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use flow::config;
use flow::observe::why_slow::{find, loads};
use flow::runtime::{self, RunOptions};

use super::run::{cannot_start, duration, forward_signals};
use super::{print, print_json};
use crate::cli::{PipelineArgs, WhySlow};
use crate::client;
use crate::failure::Failure;
use crate::observing;
use crate::{kinds, pipeline};

/// How long a pipeline is run where the user does not say.
const TIME: Duration = Duration::from_secs(10);

pub fn why_slow(args: &WhySlow) -> Result<ExitCode, Failure> {
    if let Some(url) = client::url(&args.subject) {
        let query = if args.json { "?format=json" } else { "" };
        let answer = client::get(&url, &format!("/why-slow{query}"))?;
        print(&answer)?;
        return Ok(ExitCode::SUCCESS);
    }
    let path = Path::new(&args.subject);
    let is_summary = path.extension().is_some_and(|e| e.eq_ignore_ascii_case("json"));
    let finding = if is_summary {
        let text = std::fs::read_to_string(path).map_err(|e| Failure::file("read", path, e))?;
        let summary =
            serde_json::from_str(&text).map_err(|e| Failure::usage(format!("{}: {e}", path.display())))?;
        let loads = loads(&summary).map_err(|e| Failure::usage(format!("{}: {e}", path.display())))?;
        find(loads, None, observing::cpus())
    } else {
        let time = args
            .duration
            .as_deref()
            .map(duration)
            .transpose()?
            .unwrap_or(TIME);
        measure(path, &args.set, time)?
    };
    if args.json {
        print_json(&finding)?;
    } else {
        print(&finding.to_string())?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Runs a pipeline for a time.
fn measure(path: &Path, set: &[String], time: Duration) -> Result<flow::observe::why_slow::Finding, Failure> {
    let args = PipelineArgs {
        file: path.to_path_buf(),
        set: set.to_vec(),
    };
    let pipeline = pipeline::checked(&args)?;
    let registry = kinds::registry();
    let graph = observing::graph(&pipeline, &registry);
    let prepared = config::prepare(&pipeline, &registry).map_err(Failure::pipeline)?;
    eprintln!(
        "running {} for at most {time:?}; outputs are written as in any run",
        pipeline.name
    );
    let options = RunOptions {
        duration: Some(time),
        ..RunOptions::default()
    };
    let running = runtime::start(prepared, &options).map_err(|e| cannot_start(e, &pipeline))?;
    forward_signals(running.handle())?;
    let report = running.wait();
    if let Some(failure) = &report.failure {
        eprintln!("{failure}");
    }
    let loads = loads(&report.to_json()).map_err(Failure::usage)?;
    Ok(find(loads, Some(&graph), observing::cpus()))
}
