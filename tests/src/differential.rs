//! The engine's side of the differential tests in `tests/differential`: one process for thousands of networks.
//!
//! Each line of standard input is `FOLDER CONFIG...`. The folder holds `model.xml`, `model.bin` and
//! `in.0.npy, in.1.npy, ...`; for each configuration `NAME.0.npy, ...` are written into it, and a line on standard
//! output says `NAME ok`, `NAME error MESSAGE` or `NAME panic MESSAGE`. A line `done` ends the answer.
#![allow(clippy::print_stdout, reason = "the answers are its output")]

use std::io::{BufRead, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use flow_tests::engine::{infer, options};

fn main() -> std::io::Result<()> {
    std::panic::set_hook(Box::new(|_| {}));
    let mut answers = std::io::stdout().lock();
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let mut words = line.split_whitespace();
        let folder = Path::new(words.next().unwrap_or("."));
        for name in words {
            let outcome = catch_unwind(AssertUnwindSafe(|| run(folder, name)));
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

fn run(folder: &Path, name: &str) -> Result<(), String> {
    let options = options(name)?;
    for (i, tensor) in infer(folder, &options)?.iter().enumerate() {
        let path = folder.join(format!("{name}.{i}.npy"));
        flow_model::npy::write(path, tensor).map_err(|e| e.to_string())?;
    }
    Ok(())
}
