//! `flowrun model inspect`: how each operation of a model runs.

mod html;
mod layout;
mod view;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::process::ExitCode;

use flow_inference::{Engine, LayerRow, StepTime, profile};

use super::load;
use crate::cli::{Inspect, InspectFormat};
use crate::commands::print;
use crate::failure::Failure;

/// Widest column of names in the table.
const NAME_WIDTH: usize = 46;

/// Runs that times are the mean of.
const PROFILED_RUNS: u32 = 20;

pub fn inspect(args: &Inspect) -> Result<ExitCode, Failure> {
    let engine = load(&args.model)?;
    let times = if args.profile {
        profile(&engine, PROFILED_RUNS).map_err(Failure::engine)?
    } else {
        Vec::new()
    };
    let rows = engine.inspect_timed(&times);
    let format = if args.json {
        InspectFormat::Json
    } else {
        args.format
    };
    let text = match format {
        InspectFormat::Table => table(&rows),
        InspectFormat::Json => serde_json::to_string_pretty(&rows).map_err(Failure::failed)? + "\n",
        InspectFormat::Dot | InspectFormat::Html => drawing(&engine, &rows, &times, format)?,
    };
    match &args.output {
        Some(path) => std::fs::write(path, text).map_err(|e| Failure::file("write", path, e))?,
        None => print(&text)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// The network as Graphviz or as a page.
fn drawing(
    engine: &Engine,
    rows: &[LayerRow],
    times: &[StepTime],
    format: InspectFormat,
) -> Result<String, Failure> {
    let title = engine
        .path()
        .file_name()
        .map_or_else(String::new, |n| n.to_string_lossy().into_owned());
    let (reasons, reason_of) = view::reasons(engine);
    let running = view::running(engine, times, &reason_of).map_err(Failure::engine)?;
    if format == InspectFormat::Dot {
        return Ok(html::dot(&title, &running));
    }
    let model = view::model(engine, rows, &running, &reason_of);
    let works = |n: &&view::Node| n.class != view::Class::Idle && n.class != view::Class::Other;
    let int8 = |nodes: &[view::Node]| {
        let all: Vec<&view::Node> = nodes.iter().filter(works).collect();
        let integer = all.iter().filter(|n| n.class == view::Class::Int8).count();
        format!("{integer} of {}", all.len())
    };
    let steps = running.iter().filter(|n| n.class != view::Class::Idle).count();
    let mut facts = vec![
        ("operations in INT8", int8(&model)),
        ("steps in INT8", int8(&running)),
        ("steps that run", steps.to_string()),
        (
            "instruction set",
            engine.program().map_or("none", |p| p.isa().name()).to_owned(),
        ),
    ];
    if !times.is_empty() {
        let total: std::time::Duration = times.iter().map(|t| t.real).sum();
        facts.push(("per run", format!("{:.3} ms", total.as_secs_f64() * 1e3)));
    }
    Ok(html::page(&html::Page {
        title,
        facts,
        model: &model,
        running: &running,
        reasons: &reasons,
    }))
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
    let timed = rows.iter().any(|r| r.ms.is_some());
    let mut out = format!("{:<name$}  {:<kind$}  {:<9}  ", "name", "type", "precision");
    out.push_str(if timed { "      ms  kernel\n" } else { "kernel\n" });
    for row in rows {
        let how = match (&row.fused_into, &row.kernel) {
            (Some(into), _) => format!("in {}", short(into, NAME_WIDTH)),
            (None, Some(kernel)) => kernel.clone(),
            (None, None) => "-".into(),
        };
        let time = match row.ms {
            Some(ms) => format!("{ms:>8.3}  "),
            None if timed => format!("{:>8}  ", ""),
            None => String::new(),
        };
        let _ = writeln!(
            out,
            "{:<name$}  {:<kind$}  {:<9}  {time}{how}",
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
    let _ = write!(out, "\n{} operations: {}", rows.len(), shares.join(", "));
    if timed {
        let total: f64 = rows.iter().filter_map(|r| r.ms).sum();
        let _ = write!(out, "; {total:.3} ms per run");
    }
    out.push('\n');
    out
}
