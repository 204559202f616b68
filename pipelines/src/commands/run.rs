//! `flowrun run`: runs a pipeline, shows how it goes, and sums it up.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Once};
use std::time::Duration;

use flow::config;
use flow::config::plan::{Pipeline, PreparedPipeline};
use flow::observe::record::Recorder;
use flow::observe::replay::Recording;
use flow::pins;
use flow::registry::PreparedComponent;
use flow::runtime::{self, RunHandle, RunOptions, RunReport};
use flow::units;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::print;
use super::whole::WholeFile;
use crate::cli::Run;
use crate::failure::{FAILED, Failure, with_causes};
use crate::kinds;
use crate::observing::Observing;
use crate::pipeline;

/// How often the progress line is drawn.
const REFRESH: Duration = Duration::from_millis(200);

pub fn run(args: &Run, quiet: bool) -> Result<ExitCode, Failure> {
    let options = RunOptions {
        duration: args.duration.as_deref().map(duration).transpose()?,
        ..RunOptions::default()
    };
    let pipeline = pipeline::checked(&args.pipeline)?;
    let summary = args.summary.as_deref().map(Summary::create).transpose()?;
    let mut prepared = config::prepare(&pipeline, &kinds::registry()).map_err(Failure::pipeline)?;
    standard_streams(args, &prepared)?;
    let http = args.http.map(|address| address.0);
    let mut observing = Observing::prepare(&mut prepared, &args.pipeline, http, args.trace.as_deref())?;
    let recorder = args
        .record
        .as_deref()
        .map(|path| record(&mut prepared, path))
        .transpose()?;
    if let Some(path) = &args.replay {
        replay(&mut prepared, path)?;
    }
    let running = runtime::start(prepared, &options).map_err(|e| cannot_start(e, &pipeline))?;
    let handle = running.handle();
    forward_signals(handle.clone())?;
    let server = observing.serve(handle.clone())?;
    let done = Arc::new(AtomicBool::new(false));
    let watcher = (!quiet && std::io::stderr().is_terminal()).then(|| {
        let done = done.clone();
        std::thread::spawn(move || show_progress(&handle, &done))
    });
    let report = running.wait();
    drop(server);
    done.store(true, Ordering::Relaxed);
    if let Some(watcher) = watcher {
        let _ = watcher.join();
    }
    if !quiet {
        eprint!("{report}");
    }
    observing.finish()?;
    if let (Some(recorder), Some(path)) = (recorder, &args.record) {
        recorder.finish().map_err(|e| Failure::file("write", path, e))?;
    }
    if let Some(summary) = summary {
        summary.write(&report)?;
    }
    Ok(ExitCode::from(report.exit_code()))
}

fn record(prepared: &mut PreparedPipeline, path: &Path) -> Result<Arc<Recorder>, Failure> {
    let fault = |e: std::io::Error| Failure::usage(format!("--record {}: {e}", path.display()));
    let file = std::fs::File::create(path).map_err(fault)?;
    Recorder::of(prepared, Box::new(std::io::BufWriter::new(file))).map_err(fault)
}

fn replay(prepared: &mut PreparedPipeline, path: &Path) -> Result<(), Failure> {
    let fault = |why: String| Failure::usage(format!("--replay {}: {why}", path.display()));
    let text = std::fs::read_to_string(path).map_err(|e| fault(e.to_string()))?;
    Recording::read(&text)
        .and_then(|recording| recording.replay(prepared))
        .map_err(fault)
}

/// Refuses what would mix two things in one stream: the pipeline and its frames, or results and the summary.
fn standard_streams(args: &Run, prepared: &PreparedPipeline) -> Result<(), Failure> {
    let stream = Path::new("-");
    let uses = |files: fn(&PreparedComponent) -> &[PathBuf]| {
        let parts = prepared.pipeline.components.iter().zip(&prepared.parts);
        let mut users = parts.filter(move |(_, part)| files(part).iter().any(|file| file == stream));
        users.next().map(|(component, _)| component.name.clone())
    };
    if args.pipeline.file == stream
        && let Some(source) = uses(PreparedComponent::reads)
    {
        return Err(Failure::usage(format!(
            "the pipeline was read from standard input, which `{source}` is to read as well; give the pipeline as a file"
        )));
    }
    if args.summary.as_deref() == Some(stream)
        && let Some(sink) = uses(PreparedComponent::writes)
    {
        return Err(Failure::usage(format!(
            "--summary -: `{sink}` writes to standard output already; name a file for the summary"
        )));
    }
    Ok(())
}

/// A run that could not start.
pub(super) fn cannot_start(e: runtime::RunError, pipeline: &Pipeline) -> Failure {
    match e {
        runtime::RunError::Pins(errors) => Failure::pipeline(pins::diagnostics(pipeline, &errors)),
        e => Failure::Other {
            exit: FAILED,
            code: Some(e.code().to_string()),
            message: with_causes(&e),
        },
    }
}

pub(super) fn duration(text: &str) -> Result<Duration, Failure> {
    match text.parse::<units::Duration>() {
        Ok(d) if Duration::from(d).is_zero() => {
            Err(Failure::usage(format!("--duration {text}: give a time above 0")))
        }
        Ok(d) => Ok(d.into()),
        Err(e) => Err(Failure::usage(format!("--duration {text}: {e}"))),
    }
}

/// The first SIGINT or SIGTERM drains the pipeline, the second aborts it.
pub(super) fn forward_signals(handle: RunHandle) -> Result<(), Failure> {
    let mut signals = Signals::new([SIGINT, SIGTERM]).map_err(Failure::failed)?;
    std::thread::Builder::new()
        .name("signals".into())
        .spawn(move || {
            let first = Once::new();
            for _ in signals.forever() {
                if first.is_completed() {
                    eprintln!("aborting");
                    handle.abort();
                } else {
                    first.call_once(|| {
                        eprintln!("stopping; what is under way will be finished (again to abort)");
                        handle.stop();
                    });
                }
            }
        })
        .map_err(Failure::failed)?;
    Ok(())
}

/// Draws frames per second, the share done and the depth of the queues until the run is done.
fn show_progress(handle: &RunHandle, done: &AtomicBool) {
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    let style = ProgressStyle::with_template("{spinner} {msg}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
    let (mut before, mut at, mut rate) = (0u64, Duration::ZERO, 0.0f64);
    while !done.load(Ordering::Relaxed) {
        let now = handle.progress();
        let settled: u64 = now.streams.iter().map(|s| s.settled).sum();
        let step = (now.elapsed - at).as_secs_f64();
        if step > 0.0 {
            let latest = settled.saturating_sub(before) as f64 / step;
            rate = if before == 0 {
                latest
            } else {
                0.7 * rate + 0.3 * latest
            };
        }
        (before, at) = (settled, now.elapsed);
        let expected: Option<u64> = now.streams.iter().map(|s| s.expected).sum();
        let share = match expected {
            Some(all) if all > 0 => format!("{settled}/{all} ({}%)", settled * 100 / all),
            _ => settled.to_string(),
        };
        let queues: Vec<_> = now
            .stages
            .iter()
            .filter(|s| s.waiting > 0)
            .map(|s| format!("{} {}", s.name, s.waiting))
            .collect();
        let waiting = if queues.is_empty() {
            String::new()
        } else {
            format!("  waiting: {}", queues.join(", "))
        };
        bar.set_message(format!("{share} frames  {rate:.0} fps{waiting}"));
        bar.tick();
        std::thread::sleep(REFRESH);
    }
    bar.finish_and_clear();
}

/// Where the summary goes; opened before the run, so that a wrong path does not cost one.
enum Summary<'a> {
    Stdout,
    File(WholeFile<'a>),
}

impl<'a> Summary<'a> {
    fn create(path: &'a Path) -> Result<Self, Failure> {
        if path == Path::new("-") {
            return Ok(Self::Stdout);
        }
        WholeFile::create("--summary", path).map(Self::File)
    }

    fn write(self, report: &RunReport) -> Result<(), Failure> {
        let text = serde_json::to_string_pretty(&report.to_json()).map_err(Failure::failed)?;
        match self {
            Self::Stdout => print(&format!("{text}\n")),
            Self::File(file) => file.write(&format!("{text}\n")),
        }
    }
}
