//! `flowrun check`: all errors of a pipeline file, without opening anything.

use std::process::ExitCode;

use super::{print, print_json};
use crate::cli::Check;
use crate::failure::{Failure, USAGE, color};
use crate::pipeline;

pub fn check(args: &Check) -> Result<ExitCode, Failure> {
    match pipeline::check(&args.pipeline) {
        Ok((_, warnings)) if args.json => {
            print_json(&warnings)?;
            Ok(ExitCode::SUCCESS)
        }
        Ok((plan, warnings)) => {
            eprint!("{}", warnings.render(color()));
            let n = plan.components.len();
            print(&format!("{}: ok, {n} components\n", args.pipeline.file.display()))?;
            Ok(ExitCode::SUCCESS)
        }
        Err(Failure::Pipeline(diagnostics)) if args.json => {
            print_json(&*diagnostics)?;
            Ok(ExitCode::from(USAGE))
        }
        Err(failure) => Err(failure),
    }
}
