//! `flowrun explain`: what an error code means and what to do.

use std::fmt::Write as _;
use std::process::ExitCode;

use super::print;
use crate::cli::Explain;
use crate::failure::Failure;

pub fn explain(args: &Explain) -> Result<ExitCode, Failure> {
    let Some(wanted) = &args.code else {
        print(&if args.markdown {
            flow::codes::markdown()
        } else {
            list()
        })?;
        return Ok(ExitCode::SUCCESS);
    };
    let Some(entry) = flow::codes::explain(wanted) else {
        return Err(Failure::usage(format!(
            "there is no error code `{wanted}`; `flowrun explain` without a code lists them all"
        )));
    };
    print(&format!(
        "{}: {}\n\n{}\n",
        entry.code,
        entry.title,
        entry.text.trim()
    ))?;
    Ok(ExitCode::SUCCESS)
}

fn list() -> String {
    flow::codes::all().fold(String::new(), |mut out, entry| {
        let _ = writeln!(out, "{}  {}", entry.code, entry.title);
        out
    })
}
