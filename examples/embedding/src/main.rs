//! The inference engine without pipelines: a picture through a classifier.

use std::path::PathBuf;
use std::process::ExitCode;

use embedding::{classify, run_pipeline};

const USAGE: &str = "usage: embedding MODEL.xml PICTURE [MEAN SCALE]
       embedding --pipeline PIPELINE.yaml

The picture is stretched to the network's input; samples become (sample - MEAN) / SCALE, 0 and 1 by default.";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let done = match args[..] {
        ["--pipeline", file] => pipeline(file),
        [model, picture] => top_five(model, picture, 0.0, 1.0),
        [model, picture, mean, scale] => match (mean.parse(), scale.parse()) {
            (Ok(mean), Ok(scale)) => top_five(model, picture, mean, scale),
            _ => Err(USAGE.into()),
        },
        _ => Err(USAGE.into()),
    };
    done.unwrap_or_else(|error| {
        eprintln!("{error}");
        ExitCode::from(2)
    })
}

type Done = Result<ExitCode, Box<dyn std::error::Error>>;

#[allow(clippy::print_stdout, reason = "the result of the program")]
fn top_five(model: &str, picture: &str, mean: f32, scale: f32) -> Done {
    for (class, score) in classify(&PathBuf::from(model), &PathBuf::from(picture), mean, scale, 5)? {
        println!("{class:5}  {score:.4}");
    }
    Ok(ExitCode::SUCCESS)
}

fn pipeline(file: &str) -> Done {
    let report = run_pipeline(&std::fs::read_to_string(file)?)?;
    eprint!("{report}");
    Ok(ExitCode::from(report.exit_code()))
}
