//! `flowrun model quantize`: from an f32 model and pictures to an INT8 model.

mod preprocess;
mod progress;
mod samples;

use std::process::ExitCode;
use std::time::Instant;

use flow_quantize::{
    BiasCorrection, Dataset, OverflowFix, Preset, QuantizeError, Quantized, WeightRange, WeightStorage,
};
use serde_json::json;

use crate::cli::{BiasName, OverflowName, PresetName, Quantize, StorageName, WeightRangeName};
use crate::commands::print;
use crate::failure::Failure;
use preprocess::Preprocess;
use progress::Bars;
use samples::{FEWEST, Samples};

/// Most skipped files that are named.
const NAMED: usize = 5;

pub fn quantize(args: &Quantize) -> Result<ExitCode, Failure> {
    let start = Instant::now();
    let model = flow_model::ir::read(&args.model).map_err(Failure::failed)?;
    let preprocess = Preprocess::read(args.preprocess.as_deref())?;
    let graph = flow_quantize::prepare(&model).map_err(Failure::failed)?;
    let bars = Bars::new(false);
    let samples = Samples::read(&graph, &args.data, &preprocess, args.subset, &bars)?;
    tell_skipped(&samples);
    if samples.len() < FEWEST {
        return Err(Failure::failed(QuantizeError::TooFewSamples {
            found: samples.len(),
            needed: FEWEST,
            help: "Give pictures (JPEG, PNG, BMP, PNM) or .npy files that fit the input".to_owned(),
        }));
    }
    let quantized =
        flow_quantize::quantize(&graph, &samples, &options(args), &bars).map_err(Failure::failed)?;
    drop(bars);
    flow_model::ir::write(&quantized.graph, &args.output).map_err(Failure::failed)?;
    let seconds = start.elapsed().as_secs_f64();
    tell(args, &samples, &quantized, seconds)?;
    Ok(ExitCode::SUCCESS)
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
        storage: match args.store {
            StorageName::I8 => WeightStorage::I8,
            StorageName::F32 => WeightStorage::F32,
        },
        threads: args.threads.unwrap_or(default.threads),
    }
}

fn tell_skipped(samples: &Samples) {
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

fn tell(args: &Quantize, samples: &Samples, quantized: &Quantized, seconds: f64) -> Result<(), Failure> {
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
                "samples": samples.len(),
                "skipped": samples.skipped.len(),
                "activations": scheme.activations.len(),
                "weights": scheme.weights.len(),
                "left": left,
                "bytes": {"before": before, "after": after},
                "seconds": seconds,
            })
        ));
    }
    print(&format!(
        "{}: {} activations and {} weights in 8 bits, calibrated on {} samples in {seconds:.1} s; weights {:.2} MB -> {:.2} MB\n",
        args.output.display(),
        scheme.activations.len(),
        scheme.weights.len(),
        samples.len(),
        before as f64 / 1e6,
        after as f64 / 1e6,
    ))
}
