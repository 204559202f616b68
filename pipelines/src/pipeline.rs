//! From the arguments that name a pipeline to a checked plan.

use flow::config;
use flow::config::plan::Pipeline;
use flow::diagnostics::Diagnostics;

use crate::cli::PipelineArgs;
use crate::failure::{Failure, color};
use crate::kinds;

/// Parses and checks the pipeline; warnings go to stderr.
pub fn checked(args: &PipelineArgs) -> Result<Pipeline, Failure> {
    let (pipeline, warnings) = check(args)?;
    if !warnings.is_empty() {
        eprint!("{}", warnings.render(color()));
    }
    Ok(pipeline)
}

/// Parses and checks the pipeline.
pub fn check(args: &PipelineArgs) -> Result<(Pipeline, Diagnostics), Failure> {
    let options = config::Options {
        set: &args.set,
        ..config::Options::default()
    };
    let document = config::load(&args.file, &options).map_err(Failure::pipeline)?;
    let checked = config::check(&document, &kinds::registry()).map_err(Failure::pipeline)?;
    Ok((checked.pipeline, checked.warnings))
}
