//! `flowrun schema`: the JSON Schema of pipeline files, or the reference as Markdown.

use std::process::ExitCode;

use super::{print, print_json};
use crate::cli::Schema;
use crate::failure::Failure;
use crate::kinds;

pub fn schema(args: &Schema) -> Result<ExitCode, Failure> {
    let registry = kinds::registry();
    if args.markdown {
        print(&flow::schema::markdown(&registry))?;
    } else {
        print_json(&flow::schema::pipeline(&registry))?;
    }
    Ok(ExitCode::SUCCESS)
}
