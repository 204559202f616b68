//! The engine's side of the differential tests in `tests/differential`: one process for thousands of networks.
//!
//! Each line of standard input is `FOLDER CONFIG...`. The folder holds `model.xml`, `model.bin` and
//! `in.0.npy, in.1.npy, ...`, and `again.0.npy, ...` where the same engine is to run on inputs of other shapes; for
//! each configuration `NAME.0.npy, ...` (`again.NAME.0.npy, ...`) are written into it, and a line on standard output
//! says `NAME ok`, `NAME error MESSAGE` or `NAME panic MESSAGE`. A line `done` ends the answer.
#![allow(clippy::print_stdout, reason = "the answers are its output")]

use std::io::{BufRead, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use flow_tests::engine::{load, options, run};

fn main() -> std::io::Result<()> {
    std::panic::set_hook(Box::new(|_| {}));
    let mut answers = std::io::stdout().lock();
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let mut words = line.split_whitespace();
        let folder = Path::new(words.next().unwrap_or("."));
        for name in words {
            let outcome = catch_unwind(AssertUnwindSafe(|| answer(folder, name)));
            let said = match outcome {
                Ok(Ok(())) => "ok".to_owned(),
                Ok(Err(message)) => format!("error {message}"),
                Err(payload) => {
                    let text = payload.downcast_ref::<String>().map(String::as_str);
                    let text = text.or_else(|| payload.downcast_ref::<&str>().copied());
                    format!("panic {}", text.unwrap_or("without a message"))
                }
            };
            writeln!(answers, "{name} {}", said.replace('\n', " | "))?;
        }
        writeln!(answers, "done")?;
        answers.flush()?;
    }
    Ok(())
}

fn answer(folder: &Path, name: &str) -> Result<(), String> {
    let engine = load(folder, &options(name)?)?;
    // Inputs of other shapes, for the same engine.
    let again = folder.join("again.0.npy").exists();
    for (inputs, prefix) in [("in", ""), ("again", "again.")] {
        if inputs == "again" && !again {
            continue;
        }
        for (i, tensor) in run(&engine, folder, inputs)?.iter().enumerate() {
            let path = folder.join(format!("{prefix}{name}.{i}.npy"));
            flow_model::npy::write(path, tensor).map_err(|e| e.to_string())?;
        }
    }
    Ok(())
}
