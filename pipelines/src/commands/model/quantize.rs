//! `flowrun model quantize`: from an f32 model and pictures to an INT8 model.

mod detect;
mod files;
mod keys;
mod metric;
mod output;
mod page;
mod pipeline;
pub(super) mod preprocess;
pub(super) mod progress;
pub(super) mod samples;
mod source;
mod told;

use std::process::ExitCode;
use std::time::Instant;

use flow_model::Graph;
use flow_quantize::{
    Accuracy, BiasCorrection, Dataset, OverflowFix, Part, Preset, QuantizeError, Quantized, WeightRange,
    WeightStorage,
};

use crate::cli::{BiasName, OverflowName, PresetName, Quantize, StorageName, WeightRangeName};
use crate::commands::whole::WholeFile;
use crate::failure::Failure;
use metric::Measuring;
use preprocess::Preprocess;
use progress::Bars;
use samples::{Reading, Samples};

pub(super) use told::tell_skipped;

pub fn quantize(args: &Quantize, quiet: bool) -> Result<ExitCode, Failure> {
    let start = Instant::now();
    if let Some(drop) = args.max_drop
        && !(0.0..=1e9).contains(&drop)
    {
        return Err(Failure::usage(format!(
            "--max-drop {drop}: expected a number from 0"
        )));
    }
    output::check(&args.model, &args.output)?;
    let report = args
        .report
        .as_deref()
        .map(|path| WholeFile::create("--report", path))
        .transpose()?;
    let model = flow_model::ir::read(&args.model).map_err(Failure::failed)?;
    let model = flow_inference::with_shapes(model, &args.model, &args.shape).map_err(Failure::engine)?;
    let preprocess = Preprocess::read(args.preprocess.as_deref(), &args.model)?;
    let graph = flow_quantize::prepare(&model).map_err(Failure::failed)?;
    let bars = Bars::new(quiet)?;
    let held = args.max_drop.map_or(0, |_| args.held_out);
    let reading = Reading {
        data: &args.data,
        preprocess: &preprocess,
        count: args.subset.saturating_add(held),
        seed: args.seed,
        threads: threads(args.threads),
    };
    let samples = Samples::read(&graph, &reading, &bars)?;
    tell_skipped(&samples);
    enough(&samples, args.max_drop.is_some())?;
    let (calibration, places) = split(samples.len(), args.subset, held);
    let calibration = Part::new(&samples, calibration);
    let held_out = Part::new(&samples, places.clone());
    let options = options(args, &graph, &samples, &preprocess);
    let mut quantized =
        flow_quantize::quantize(&graph, &calibration, &options, &bars).map_err(Failure::failed)?;
    let accuracy = match args.max_drop {
        Some(drop) => {
            let measuring = Measuring {
                args,
                original: &graph,
                samples: &samples,
                places: &places,
                part: &held_out,
                threads: options.threads,
                progress: &bars,
            };
            Some(within(&measuring, &mut quantized, drop, options.storage)?)
        }
        None => None,
    };
    flow_model::ir::write(&quantized.graph, &args.output).map_err(Failure::failed)?;
    let done = told::Done {
        args,
        samples: &samples,
        calibrated: calibration.len(),
        quantized: &quantized,
        accuracy: accuracy.as_ref(),
    };
    if let Some(file) = report {
        file.write(&page::page(
            &done,
            &calibration,
            &held_out,
            options.threads,
            &bars,
        )?)?;
    }
    drop(bars);
    done.tell(start.elapsed().as_secs_f64())?;
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

/// The number of threads that an option states, or all that there are.
pub(super) fn threads(stated: Option<usize>) -> usize {
    stated.unwrap_or(flow_quantize::Options::default().threads)
}

/// Fails where there are too few samples: one to calibrate on, one more if some are held out.
fn enough(samples: &Samples, some_held_out: bool) -> Result<(), Failure> {
    let needed = if some_held_out { 2 } else { 1 };
    if samples.len() >= needed {
        return Ok(());
    }
    let also = if some_held_out {
        " --max-drop measures on samples that calibration does not see."
    } else {
        ""
    };
    Err(Failure::failed(QuantizeError::TooFewSamples {
        found: samples.len(),
        needed,
        help: format!(
            "Give pictures (JPEG, PNG, BMP, PNM), clips (MP4, AVI, Y4M) or .npy files that fit the input.{also}"
        ),
    }))
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
    measuring: &Measuring<'_>,
    quantized: &mut Quantized,
    drop: f64,
    storage: WeightStorage,
) -> Result<Accuracy, Failure> {
    let mut metric = measuring.metric()?;
    let (part, threads, progress) = (measuring.part, measuring.threads, measuring.progress);
    flow_quantize::within(quantized, &mut *metric, drop, part, storage, threads, progress)
        .map_err(Failure::failed)
}

fn options(
    args: &Quantize,
    graph: &Graph,
    samples: &Samples,
    preprocess: &Preprocess,
) -> flow_quantize::Options {
    // Samples of a picture are 256 values already: nothing is lost where these are the levels.
    let input = graph.parameters.first().map(|&id| &graph.node(id).outputs[0]);
    let float = input.is_some_and(|info| info.element_type.is_float());
    let known = samples.pictures && graph.parameters.len() == 1 && float;
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
        inputs: vec![preprocess.levels().filter(|_| known)],
        storage: match args.store {
            StorageName::I8 => WeightStorage::I8,
            StorageName::F32 => WeightStorage::F32,
        },
        threads: threads(args.threads),
    }
}
