//! `flowrun model run`: one inference on .npy inputs.

use std::path::Path;
use std::process::ExitCode;

use flow_inference::{Engine, Port};
use flow_model::{Tensor, npy};

use super::load;
use crate::cli::ModelRun;
use crate::failure::Failure;

pub fn run(args: &ModelRun) -> Result<ExitCode, Failure> {
    let engine = load(&args.model)?;
    let inputs = inputs(&engine, &args.input)?;
    let outputs = engine.infer(&inputs).map_err(Failure::engine)?;
    let folder = &args.output_dir;
    std::fs::create_dir_all(folder).map_err(|e| Failure::file("create", folder, e))?;
    for (i, output) in outputs.iter().enumerate() {
        npy::write(folder.join(format!("{i}.npy")), output).map_err(Failure::failed)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The inputs in Parameter order, from `NAME=FILE` or `FILE` arguments.
fn inputs(engine: &Engine, arguments: &[String]) -> Result<Vec<Tensor>, Failure> {
    let ports = engine.inputs();
    let mut given: Vec<Option<Tensor>> = ports.iter().map(|_| None).collect();
    for argument in arguments {
        let (index, file) = match named(ports, argument) {
            Some(found) => found,
            None => match given.iter().position(Option::is_none) {
                Some(index) => (index, argument.as_str()),
                None => {
                    return Err(Failure::usage(format!(
                        "--input {argument}: the model has no further input"
                    )));
                }
            },
        };
        if given[index].is_some() {
            return Err(Failure::usage(format!(
                "--input {argument}: `{}` is given twice",
                ports[index].name
            )));
        }
        given[index] = Some(npy::read(Path::new(file)).map_err(Failure::failed)?);
    }
    let missing: Vec<&str> = ports
        .iter()
        .zip(&given)
        .filter(|(_, t)| t.is_none())
        .map(|(p, _)| &*p.name)
        .collect();
    if !missing.is_empty() {
        return Err(Failure::usage(format!(
            "no --input for {}; give NAME=FILE.npy",
            missing.join(", ")
        )));
    }
    Ok(given.into_iter().flatten().collect())
}

/// `NAME=FILE` split at the name of an input; names may hold `=` themselves.
fn named<'a>(ports: &[Port], argument: &'a str) -> Option<(usize, &'a str)> {
    argument.match_indices('=').find_map(|(at, _)| {
        let index = ports.iter().position(|p| p.is_named(&argument[..at]))?;
        Some((index, &argument[at + 1..]))
    })
}
