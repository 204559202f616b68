//! `flowrun model compare`: two models layer by layer.

use std::fmt::Write as _;
use std::process::ExitCode;

use flow_quantize::{Comparison, Dataset};
use serde_json::json;

use super::quantize::preprocess::Preprocess;
use super::quantize::progress::Bars;
use super::quantize::samples::{Reading, Samples};
use crate::cli::Compare;
use crate::commands::print;
use crate::commands::whole::WholeFile;
use crate::failure::Failure;

pub fn compare(args: &Compare, quiet: bool) -> Result<ExitCode, Failure> {
    let report = args
        .report
        .as_deref()
        .map(|path| WholeFile::create("--report", path))
        .transpose()?;
    let first = flow_model::ir::read(&args.first).map_err(Failure::failed)?;
    let second = flow_model::ir::read(&args.second).map_err(Failure::failed)?;
    let first =
        flow_inference::with_shapes(first, &args.first, &args.samples.shape).map_err(Failure::engine)?;
    let second =
        flow_inference::with_shapes(second, &args.second, &args.samples.shape).map_err(Failure::engine)?;
    let preprocess = Preprocess::read(args.samples.preprocess.as_deref(), &args.first)?;
    let bars = Bars::new(quiet)?;
    let threads = super::quantize::threads(args.samples.threads);
    let reading = Reading {
        data: &args.samples.data,
        preprocess: &preprocess,
        count: args.subset,
        seed: args.samples.seed,
        threads,
    };
    let samples = Samples::read(&first, &reading, &bars)?;
    super::quantize::tell_skipped(&samples, quiet);
    if samples.is_empty() {
        return Err(Failure::usage("--data: no sample can be used"));
    }
    let comparison =
        flow_quantize::compare(&first, &second, &samples, threads, &bars).map_err(Failure::failed)?;
    drop(bars);
    if let Some(file) = report {
        let title = format!("{} against {}", args.second.display(), args.first.display());
        let page = flow_quantize::report::html(&title, &[], None, &comparison);
        file.write(&page)?;
    }
    print(&if args.json {
        as_json(&comparison)
    } else {
        as_text(&comparison)
    })?;
    Ok(ExitCode::SUCCESS)
}

fn as_json(comparison: &Comparison) -> String {
    let finite = |v: f64| v.is_finite().then_some(v);
    let layers: Vec<_> = comparison
        .layers
        .iter()
        .map(|l| json!({"name": l.name, "type": l.kind, "sqnr_db": finite(l.sqnr), "saturated": l.saturated}))
        .collect();
    let outputs: Vec<_> = comparison
        .outputs
        .iter()
        .map(|o| json!({"name": o.name, "relative_error": o.relative_error, "same_best": o.same_best}))
        .collect();
    let times = comparison.times.map(|t| t.as_secs_f64() * 1e3);
    let value =
        json!({"samples": comparison.samples, "latency_ms": times, "outputs": outputs, "layers": layers});
    format!("{value}\n")
}

fn as_text(comparison: &Comparison) -> String {
    let mut text = format!(
        "{:<44} {:<22} {:>8} {:>9}\n",
        "layer", "type", "SQNR dB", "clipped"
    );
    for layer in &comparison.layers {
        let clipped = layer
            .saturated
            .map_or(String::new(), |s| format!("{:.3} %", 100.0 * s));
        let _ = writeln!(
            text,
            "{:<44} {:<22} {:>8.1} {clipped:>9}",
            layer.name, layer.kind, layer.sqnr
        );
    }
    for output in &comparison.outputs {
        let _ = writeln!(
            text,
            "output {}: mean relative error {:.5}, same best place in {:.1} % of samples",
            output.name,
            output.relative_error,
            100.0 * output.same_best
        );
    }
    let [a, b] = comparison.times.map(|t| t.as_secs_f64() * 1e3);
    let _ = writeln!(
        text,
        "{} samples; one inference on one thread: {a:.2} ms and {b:.2} ms",
        comparison.samples
    );
    text
}
