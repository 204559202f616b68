//! Running a folder with a small network and its inputs on the engine.

use std::error::Error;
use std::path::Path;

use flow_cpu::kernels::Isa;
use flow_inference::{Device, Engine, Numerics, Options};
use flow_model::{Tensor, npy};

/// The options that a name stands for: `cpu` or an instruction set, or `ref` for the reference evaluator; then
/// `-literal` or `-openvino` numerics, or `-float`: without low precision transformations. With `-open` behind it, axes that
/// the model leaves open stay so, and the network is compiled for the shapes of its inputs; else the batch is 2.
///
/// # Errors
/// A name that stands for nothing, said in words.
pub fn options(name: &str) -> Result<Options, String> {
    let (name, open) = match name.strip_suffix("-open") {
        Some(name) => (name, true),
        None => (name, false),
    };
    let (device, numerics) = name.split_once('-').unwrap_or((name, "float"));
    let mut options = Options::default();
    match device {
        "cpu" => {}
        "ref" => options.device = Device::Reference,
        isa => options.isa = Some(isa.parse::<Isa>().map_err(|e| format!("{isa}: {e}"))?),
    }
    match numerics {
        "literal" => {}
        "openvino" => options.numerics = Numerics::OpenVino,
        "float" => options.lpt = false,
        other => return Err(format!("no numerics {other}")),
    }
    options.batch = (!open).then_some(2);
    Ok(options)
}

/// Reads `in.0.npy, in.1.npy, ...` and runs `model.xml`.
///
/// # Errors
/// What the engine says, with its causes.
pub fn infer(folder: &Path, options: &Options) -> Result<Vec<Tensor>, String> {
    run(&load(folder, options)?, folder, "in")
}

/// `model.xml` of a folder.
///
/// # Errors
/// As [`infer`].
pub fn load(folder: &Path, options: &Options) -> Result<Engine, String> {
    Engine::load(folder.join("model.xml"), options).map_err(|e| words(&e))
}

/// Runs a network on `NAME.0.npy, NAME.1.npy, ...`.
///
/// # Errors
/// As [`infer`].
pub fn run(engine: &Engine, folder: &Path, name: &str) -> Result<Vec<Tensor>, String> {
    let inputs = (0..engine.inputs().len())
        .map(|i| npy::read(folder.join(format!("{name}.{i}.npy"))))
        .collect::<Result<Vec<_>, _>>();
    engine
        .infer(&inputs.map_err(|e| words(&e))?)
        .map_err(|e| words(&e))
}

/// An error with its causes.
fn words(error: &dyn Error) -> String {
    let mut said = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        said.push_str(": ");
        said.push_str(&error.to_string());
        cause = error.source();
    }
    said
}
