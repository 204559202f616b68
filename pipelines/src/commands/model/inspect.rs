//! `flowrun model inspect`: how each operation of a model runs.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::process::ExitCode;

use flow_inference::LayerRow;

use super::load;
use crate::cli::Inspect;
use crate::commands::{print, print_json};
use crate::failure::Failure;

/// Widest column of names in the table.
const NAME_WIDTH: usize = 46;

pub fn inspect(args: &Inspect) -> Result<ExitCode, Failure> {
    let engine = load(&args.model)?;
    let rows = engine.inspect();
    if args.json {
        print_json(&rows)?;
        return Ok(ExitCode::SUCCESS);
    }
    print(&table(&rows))?;
    Ok(ExitCode::SUCCESS)
}

/// A name cut in the middle so that it fits.
fn short(name: &str, width: usize) -> String {
    let count = name.chars().count();
    if count <= width {
        return name.to_owned();
    }
    let head: String = name.chars().take(width / 2 - 1).collect();
    let tail: String = name.chars().skip(count - (width - width / 2 - 1)).collect();
    format!("{head}..{tail}")
}

fn table(rows: &[LayerRow]) -> String {
    let name = rows
        .iter()
        .map(|r| r.name.chars().count())
        .max()
        .unwrap_or(4)
        .min(NAME_WIDTH);
    let kind = rows.iter().map(|r| r.kind.len()).max().unwrap_or(4);
    let mut out = format!(
        "{:<name$}  {:<kind$}  {:<9}  kernel\n",
        "name", "type", "precision"
    );
    for row in rows {
        let how = match (&row.fused_into, &row.kernel) {
            (Some(into), _) => format!("in {}", short(into, NAME_WIDTH)),
            (None, Some(kernel)) => kernel.clone(),
            (None, None) => "-".into(),
        };
        let _ = writeln!(
            out,
            "{:<name$}  {:<kind$}  {:<9}  {how}",
            short(&row.name, name),
            row.kind,
            row.precision
        );
        if let Some(reason) = &row.reason {
            let _ = writeln!(out, "{:name$}    not INT8: {reason}", "");
        }
    }
    let mut count: BTreeMap<&str, usize> = BTreeMap::new();
    for row in rows {
        *count.entry(&row.precision).or_default() += 1;
    }
    let shares: Vec<_> = count.iter().map(|(p, n)| format!("{n} {p}")).collect();
    let _ = writeln!(out, "\n{} operations: {}", rows.len(), shares.join(", "));
    out
}
