//! One module per command.

mod check;
mod control;
mod doctor;
mod explain;
mod graph;
mod model;
mod plan;
mod run;
mod schema;
mod soak;
mod stages;
mod tap;
mod top;
mod whole;
mod why_slow;

use std::process::ExitCode;

use crate::cli::Command;
use crate::failure::Failure;

/// Runs the command.
pub fn dispatch(command: Command, quiet: bool) -> Result<ExitCode, Failure> {
    match command {
        Command::Run(args) => run::run(&args, quiet),
        Command::Soak(args) => soak::soak(&args, quiet),
        Command::Tap(args) => tap::tap(&args, quiet),
        Command::Control(args) => control::control(&args),
        Command::Top(args) => top::top(&args),
        Command::WhySlow(args) => why_slow::why_slow(&args),
        Command::Check(args) => check::check(&args),
        Command::Plan(args) => plan::plan(&args),
        Command::Graph(args) => graph::graph(&args),
        Command::Stages(args) => stages::stages(&args),
        Command::Schema(args) => schema::schema(&args),
        Command::Explain(args) => explain::explain(&args),
        Command::Doctor(args) => doctor::doctor(&args),
        Command::Model(command) => model::dispatch(command, quiet),
    }
}

/// Prints a result to stdout; a closed pipe ends the command quietly.
pub fn print(text: &str) -> Result<(), Failure> {
    use std::io::Write;
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Failure::file("write to", std::path::Path::new("stdout"), e))
        }
        _ => Ok(()),
    }
}

/// Prints a value as indented JSON to stdout.
pub fn print_json(value: &impl serde::Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(value).map_err(Failure::failed)?;
    print(&format!("{text}\n"))
}

/// The bytes of a file of at most `limit` bytes. Of what is no plain file nothing is read: it may never end.
pub fn read_at_most(path: &std::path::Path, limit: u64) -> std::io::Result<Vec<u8>> {
    use std::io::Read;
    let file = std::fs::File::open(path)?;
    let length = file.metadata()?;
    if !length.is_file() {
        return Err(std::io::Error::other("it is no plain file"));
    }
    let mut bytes = Vec::new();
    file.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        return Err(std::io::Error::other(format!(
            "it is larger than {limit} bytes, which is the limit"
        )));
    }
    Ok(bytes)
}
