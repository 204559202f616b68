//! `flowrun model quantize`: from an f32 model and pictures to an INT8 model.

mod detect;
mod division;
mod files;
mod keys;
mod metric;
mod options;
mod output;
mod page;
mod pipeline;
pub(super) mod preprocess;
pub(super) mod progress;
pub(super) mod samples;
mod source;
mod state;
mod told;
mod work;

use std::process::ExitCode;
use std::time::Instant;

use flow_quantize::QuantizeError;

use crate::cli::Quantize;
use crate::commands::whole::WholeFile;
use crate::failure::Failure;
use division::Division;
use preprocess::Preprocess;
use progress::Bars;
use samples::{Reading, Samples};
use state::State;
use told::Done;
use work::Work;

pub(super) use options::threads;
pub(super) use told::tell_skipped;

pub fn quantize(args: &Quantize, quiet: bool) -> Result<ExitCode, Failure> {
    let start = Instant::now();
    check(args)?;
    let report = args
        .report
        .as_deref()
        .map(|path| WholeFile::create("--report", path))
        .transpose()?;
    let model = flow_model::ir::read(&args.model).map_err(Failure::failed)?;
    let model =
        flow_inference::with_shapes(model, &args.model, &args.samples.shape).map_err(Failure::engine)?;
    let preprocess = Preprocess::read(args.samples.preprocess.as_deref(), &args.model)?;
    let graph = flow_quantize::prepare(&model).map_err(Failure::failed)?;
    let bars = Bars::new(quiet)?;
    let reading = Reading {
        data: &args.samples.data,
        preprocess: &preprocess,
        count: args.subset.saturating_add(division::held_out(args)),
        seed: args.samples.seed,
        threads: threads(args.samples.threads),
    };
    let samples = Samples::read(&graph, &reading, &bars)?;
    tell_skipped(&samples, quiet);
    let division = Division::new(&samples, args)?;
    let graph = match args.equalize {
        Some(alpha) => {
            let calibration = flow_quantize::Part::new(&samples, division.calibration.clone());
            flow_quantize::equalize(&graph, &calibration, alpha, threads(args.samples.threads), &bars)
                .map_err(Failure::failed)?
                .0
        }
        None => graph,
    };
    let options = options::options(args, &graph, &samples, &preprocess);
    let keys = state::Keys::of(&graph, &samples, &division.calibration, &options)?;
    let state = State::open(&args.output, keys)?;
    let work = Work {
        args,
        graph: &graph,
        samples: &samples,
        division: &division,
        options: &options,
        state: &state,
        bars: &bars,
    };
    let outcome = work.run()?;
    flow_model::ir::write(&outcome.quantized.graph, &args.output).map_err(Failure::failed)?;
    state.done()?;
    let done = Done {
        args,
        samples: &samples,
        division: &division,
        outcome: &outcome,
    };
    if let Some(file) = report {
        file.write(&page::page(&done, options.threads, &bars)?)?;
    }
    drop(bars);
    if args.samples.preprocess.is_none() && samples.pictures && !quiet {
        eprintln!(
            "warning: no --preprocess: pictures are stretched to the input and their values taken as they are, from 0 to 255; \
             the model is good only where it is run like that"
        );
    }
    done.tell(start.elapsed().as_secs_f64())?;
    match &outcome.accuracy {
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

/// Fails early where arguments do not fit together.
fn check(args: &Quantize) -> Result<(), Failure> {
    if let Some(drop) = args.max_drop
        && !(0.0..=1e9).contains(&drop)
    {
        return Err(Failure::usage(format!(
            "--max-drop {drop}: expected a number from 0"
        )));
    }
    let measured = args.max_drop.is_some() || args.search;
    if !measured && (args.metric != "nmse" || args.truth.is_some() || args.detect.is_some()) {
        return Err(Failure::usage(
            "--metric, --truth and --detect say how --max-drop and --search measure; give one of these as well",
        ));
    }
    output::check(&args.model, &args.output)
}
