//! The `flowrun` command: runs video and image pipelines declared in YAML through INT8 networks.
//!
//! [`main`] is the command; [`registry`] holds every kind of source, stage and sink it knows, for programs that run
//! pipelines themselves:
//!
//! ```
//! use flow::registry::Role;
//!
//! let registry = flowrun::registry();
//! assert!(registry.get(Role::Stage, "infer").is_some());
//! ```
#![deny(missing_docs)]

mod benchmark_app;
mod cli;
mod client;
mod commands;
mod failure;
pub mod heap;
mod kinds;
mod logging;
mod observing;
mod pipeline;

use clap::Parser;

pub use kinds::registry;

/// Runs the command with the arguments of the process.
pub fn main() -> std::process::ExitCode {
    let cli = cli::Cli::parse();
    if let Err(failure) = logging::init(&cli.logging, cli.command.default_log()) {
        return failure.report();
    }
    match commands::dispatch(cli.command, cli.logging.quiet) {
        Ok(code) => code,
        Err(failure) => failure.report(),
    }
}

/// Runs `benchmark_app` with the arguments of the process.
pub fn benchmark_app() -> std::process::ExitCode {
    let arguments = std::env::args_os().skip(1);
    let arguments: Vec<String> = arguments.map(|a| a.to_string_lossy().into_owned()).collect();
    benchmark_app::main(&arguments)
}
