//! `flowrun model quantize`: from an f32 model and pictures to an INT8 model.

mod command;
pub(super) mod preprocess;
pub(super) mod progress;
pub(super) mod samples;

use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use flow_quantize::{
    Accuracy, AgainstReference, BiasCorrection, Dataset, Likeness, Metric, OverflowFix, Part, Preset,
    QuantizeError, Quantized, WeightRange, WeightStorage,
};
use serde_json::json;

use crate::cli::{BiasName, OverflowName, PresetName, Quantize, StorageName, WeightRangeName};
use crate::commands::print;
use crate::failure::Failure;
use preprocess::Preprocess;
use progress::Bars;
use samples::Samples;

/// Most skipped files that are named.
const NAMED: usize = 5;

pub fn quantize(args: &Quantize) -> Result<ExitCode, Failure> {
    let start = Instant::now();
    if let Some(drop) = args.max_drop
        && !(0.0..=1e9).contains(&drop)
    {
        return Err(Failure::usage(format!(
            "--max-drop {drop}: expected a number from 0"
        )));
    }
    writable(&args.output)?;
    let model = flow_model::ir::read(&args.model).map_err(Failure::failed)?;
    let preprocess = Preprocess::read(args.preprocess.as_deref())?;
    let graph = flow_quantize::prepare(&model).map_err(Failure::failed)?;
    let bars = Bars::new(false);
    let held = if args.max_drop.is_some() || args.report.is_some() {
        args.held_out
    } else {
        0
    };
    let samples = Samples::read(
        &graph,
        &args.data,
        &preprocess,
        args.subset.saturating_add(held),
        &bars,
    )?;
    tell_skipped(&samples);
    let (calibration, held_out) = split(samples.len(), args.subset, held);
    let needed = if args.max_drop.is_some() { 2 } else { 1 };
    if samples.len() < needed {
        return Err(Failure::failed(QuantizeError::TooFewSamples {
            found: samples.len(),
            needed,
            help: "Give pictures (JPEG, PNG, BMP, PNM) or .npy files that fit the input".to_owned(),
        }));
    }
    let calibration = Part::new(&samples, calibration);
    let held_out = Part::new(&samples, held_out);
    let mut options = options(args);
    if samples.pictures && graph.parameters.len() == 1 {
        // Samples of a picture are 256 values already: nothing is lost where these are the levels.
        let wide = graph.node(graph.parameters[0]).outputs[0].element_type.is_float();
        options.inputs = vec![preprocess.levels().filter(|_| wide)];
    }
    let mut quantized =
        flow_quantize::quantize(&graph, &calibration, &options, &bars).map_err(Failure::failed)?;
    let accuracy = match args.max_drop {
        Some(drop) => Some(within(args, &mut quantized, drop, &held_out, &options, &bars)?),
        None => None,
    };
    flow_model::ir::write(&quantized.graph, &args.output).map_err(Failure::failed)?;
    if let Some(path) = &args.report {
        report(
            args,
            path,
            &quantized,
            accuracy.as_ref(),
            &calibration,
            &held_out,
            &bars,
        )?;
    }
    drop(bars);
    let seconds = start.elapsed().as_secs_f64();
    tell(
        args,
        &samples,
        calibration.len(),
        &quantized,
        accuracy.as_ref(),
        seconds,
    )?;
    match &accuracy {
        Some(accuracy) if !accuracy.holds() => Err(Failure::failed(QuantizeError::Metric {
            metric: accuracy.metric.clone(),
            message: format!(
                "the drop is {:.5} with every layer that helps in floating point, more than --max-drop {}; the model was \
                 written all the same",
                accuracy.reference - accuracy.reached,
                accuracy.max_drop
            ),
        })),
        _ => Ok(ExitCode::SUCCESS),
    }
}

/// Fails early where the model cannot be written in the end.
fn writable(output: &Path) -> Result<(), Failure> {
    let folder = output
        .parent()
        .filter(|p| !p.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    tempfile::Builder::new()
        .prefix(".flowrun-")
        .tempfile_in(folder)
        .map(drop)
        .map_err(|e| Failure::file("write to", folder, e))
}

/// Which samples calibrate and which are held out: those the threshold is checked on are no part of the others.
fn split(count: usize, subset: usize, held: usize) -> (Vec<usize>, Vec<usize>) {
    if held == 0 {
        return ((0..count.min(subset)).collect(), Vec::new());
    }
    // Where there are fewer samples than asked for, both get their share; at least one each.
    let wanted = subset.saturating_add(held);
    let share = if count < wanted {
        (count as u128 * held as u128 / wanted as u128) as usize
    } else {
        held
    };
    let out = flow_quantize::spread(
        count,
        share.clamp(usize::from(count > 1), count.saturating_sub(1)),
    );
    let calibration = (0..count).filter(|i| out.binary_search(i).is_err()).collect();
    (calibration, out)
}

fn within(
    args: &Quantize,
    quantized: &mut Quantized,
    drop: f64,
    held_out: &Part<'_>,
    options: &flow_quantize::Options,
    bars: &Bars,
) -> Result<Accuracy, Failure> {
    let likeness = match args.metric.as_str() {
        "top1" => Some(Likeness::Top1),
        "agreement" => Some(Likeness::Agreement),
        "nmse" => Some(Likeness::Nmse),
        "map" => {
            return Err(Failure::usage(
                "--metric map needs true boxes, which the model does not know: give a command that prints it for the model at \
                 $MODEL, or `agreement`",
            ));
        }
        _ => None,
    };
    let mut against;
    let mut command;
    let metric: &mut dyn Metric = match likeness {
        Some(likeness) => {
            against = AgainstReference::new(&quantized.original, likeness, held_out, options.threads, bars)
                .map_err(Failure::failed)?;
            &mut against
        }
        None => {
            command = command::Command::new(&args.metric, &args.output)?;
            &mut command
        }
    };
    flow_quantize::within(
        quantized,
        metric,
        drop,
        held_out,
        options.storage,
        options.threads,
        bars,
    )
    .map_err(Failure::failed)
}

fn report(
    args: &Quantize,
    path: &Path,
    quantized: &Quantized,
    accuracy: Option<&Accuracy>,
    calibration: &Part<'_>,
    held_out: &Part<'_>,
    bars: &Bars,
) -> Result<(), Failure> {
    let shown = Part::spread(held_out, 16);
    let threads = args.threads.unwrap_or(flow_quantize::Options::default().threads);
    let comparison = flow_quantize::compare(&quantized.original, &quantized.graph, &shown, threads, bars)
        .map_err(Failure::failed)?;
    let fact = |name: &str, value: String| (name.to_owned(), value);
    let mut facts = vec![
        fact("Model", args.model.display().to_string()),
        fact(
            "Quantized activations",
            quantized.scheme.activations.len().to_string(),
        ),
        fact("Quantized weights", quantized.scheme.weights.len().to_string()),
        fact("Calibrated on", format!("{} samples", calibration.len())),
        fact("Ranges", format!("{:?}, {}", args.preset, args.estimator)),
        fact("Bias correction", format!("{:?}", args.bias)),
    ];
    for (id, why) in &quantized.left {
        let node = quantized.original.node(*id);
        facts.push(fact(
            "Left in f32",
            format!("{} ({}): {why}", node.name, node.op.type_name()),
        ));
    }
    let page = flow_quantize::report::html(
        &format!("Quantization of {}", args.model.display()),
        &facts,
        accuracy,
        &comparison,
    );
    std::fs::write(path, page).map_err(|e| Failure::file("write", path, e))
}

fn options(args: &Quantize) -> flow_quantize::Options {
    let default = flow_quantize::Options::default();
    flow_quantize::Options {
        preset: match args.preset {
            PresetName::Performance => Preset::Performance,
            PresetName::Mixed => Preset::Mixed,
        },
        estimator: args.estimator,
        weight_range: match args.weights {
            WeightRangeName::Extreme => WeightRange::Extreme,
            WeightRangeName::Mse => WeightRange::Mse,
        },
        bias: match args.bias {
            BiasName::None => BiasCorrection::None,
            BiasName::Fast => BiasCorrection::Fast,
            BiasName::Full => BiasCorrection::Full,
        },
        overflow_fix: match args.overflow_fix {
            OverflowName::None => OverflowFix::None,
            OverflowName::First => OverflowFix::First,
            OverflowName::All => OverflowFix::All,
        },
        ignore: args.ignore.clone(),
        quantize_tail: args.quantize_tail,
        inputs: Vec::new(),
        storage: match args.store {
            StorageName::I8 => WeightStorage::I8,
            StorageName::F32 => WeightStorage::F32,
        },
        threads: args.threads.unwrap_or(default.threads),
    }
}

pub(super) fn tell_skipped(samples: &Samples) {
    let skipped = &samples.skipped;
    if skipped.is_empty() {
        return;
    }
    eprintln!(
        "warning: {} files cannot be used and are left out:",
        skipped.len()
    );
    for (name, why) in skipped.iter().take(NAMED) {
        eprintln!("  {name}: {why}");
    }
    if skipped.len() > NAMED {
        eprintln!("  and {} more", skipped.len() - NAMED);
    }
}

fn tell(
    args: &Quantize,
    samples: &Samples,
    calibrated: usize,
    quantized: &Quantized,
    accuracy: Option<&Accuracy>,
    seconds: f64,
) -> Result<(), Failure> {
    let size = |path: &std::path::Path| std::fs::metadata(path.with_extension("bin")).map_or(0, |m| m.len());
    let (before, after) = (size(&args.model), size(&args.output));
    let scheme = &quantized.scheme;
    if args.json {
        let left: Vec<_> = quantized
            .left
            .iter()
            .map(|(id, why)| {
                let node = quantized.original.node(*id);
                json!({"name": &*node.name, "type": node.op.type_name(), "reason": why.to_string()})
            })
            .collect();
        return print(&format!(
            "{}\n",
            json!({
                "output": args.output,
                "samples": calibrated,
                "skipped": samples.skipped.len(),
                "activations": scheme.activations.len(),
                "weights": scheme.weights.len(),
                "left": left,
                "bytes": {"before": before, "after": after},
                "accuracy": accuracy.map(|a| {
                    json!({
                        "metric": a.metric,
                        "reference": a.reference,
                        "quantized": a.quantized,
                        "reached": a.reached,
                        "max_drop": a.max_drop,
                        "held_out": a.samples,
                        "reverted": a.reverted.iter().flat_map(|r| r.layers.iter().cloned()).collect::<Vec<_>>(),
                    })
                }),
                "seconds": seconds,
            })
        ));
    }
    print(&format!(
        "{}: {} activations and {} weights in 8 bits, calibrated on {} samples in {seconds:.1} s; weights {:.2} MB -> {:.2} MB\n",
        args.output.display(),
        scheme.activations.len(),
        scheme.weights.len(),
        calibrated,
        before as f64 / 1e6,
        after as f64 / 1e6,
    ))?;
    let Some(a) = accuracy else { return Ok(()) };
    print(&format!(
        "{}: {:.5} in f32, {:.5} all in 8 bits, {:.5} with {} layers in f32 again, on {} samples that calibration did not see\n",
        a.metric,
        a.reference,
        a.quantized,
        a.reached,
        a.reverted.iter().map(|r| r.layers.len()).sum::<usize>(),
        a.samples
    ))
}
