//! `flowrun model`: inspect, transform, run and benchmark models.

mod benchmark;
mod compare;
mod inspect;
mod lpt;
mod quantize;
mod run;

use std::process::ExitCode;

use flow_inference::{DeviceRequest, Engine, Options};

use crate::cli::{Model, ModelArgs, NumericsName};
use crate::failure::Failure;

pub fn dispatch(command: Model, quiet: bool) -> Result<ExitCode, Failure> {
    match command {
        Model::Inspect(args) => inspect::inspect(&args),
        Model::Lpt(args) => lpt::lpt(&args),
        Model::Run(args) => run::run(&args),
        Model::Benchmark(args) => benchmark::benchmark(&args),
        Model::Quantize(args) => quantize::quantize(&args, quiet),
        Model::Compare(args) => compare::compare(&args, quiet),
    }
}

/// Loads the model for the device and mode that the arguments name.
fn load(args: &ModelArgs) -> Result<Engine, Failure> {
    load_for(args, 1)
}

/// As [`load`], for requests that `threads` threads share.
fn load_for(args: &ModelArgs, threads: usize) -> Result<Engine, Failure> {
    let request: DeviceRequest = args.device.parse().map_err(Failure::engine)?;
    for note in &request.notes {
        eprintln!("note: {note}");
    }
    let options = Options {
        device: request.device,
        reshape_batch: request.batch,
        numerics: match args.numerics {
            NumericsName::Literal => flow_inference::Numerics::Literal,
            NumericsName::Openvino => flow_inference::Numerics::OpenVino,
        },
        lpt: !args.no_lpt,
        isa: args.isa,
        shapes: args.shape.clone(),
        threads,
        ..Options::default()
    };
    Engine::load(&args.model, &options).map_err(Failure::engine)
}
