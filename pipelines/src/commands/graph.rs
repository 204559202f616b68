//! `flowrun graph`: the pipeline as Graphviz, Mermaid or a picture.

use std::fmt::Write as _;
use std::process::ExitCode;

use flow::config::plan::{Component, Overflow, Pipeline, QueueSpec, Replicas};
use flow::registry::Role;

use super::print;
use crate::cli::{Graph, GraphFormat};
use crate::failure::Failure;
use crate::pipeline;

pub fn graph(args: &Graph) -> Result<ExitCode, Failure> {
    let plan = pipeline::checked(&args.pipeline)?;
    let text = match args.format {
        GraphFormat::Dot => dot(&plan),
        GraphFormat::Mermaid => mermaid(&plan),
        GraphFormat::Svg => svg(&plan),
    };
    print(&text)?;
    Ok(ExitCode::SUCCESS)
}

/// `type`, and the number of replicas where it is not one.
fn subtitle(component: &Component) -> String {
    match component.replicas {
        Replicas::Count(1) => component.kind.to_owned(),
        Replicas::Count(n) => format!("{} x{n}", component.kind),
        Replicas::PerStream => format!("{} per stream", component.kind),
    }
}

fn queue(spec: &QueueSpec) -> String {
    match spec.overflow {
        Overflow::Block => spec.capacity.to_string(),
        Overflow::Latest => "latest".into(),
        other => format!("{} {}", spec.capacity, other.as_str()),
    }
}

fn edges(plan: &Pipeline) -> impl Iterator<Item = (usize, usize, String)> + '_ {
    let all = plan.components.iter().enumerate();
    all.flat_map(|(to, c)| c.inputs.iter().map(move |e| (e.from, to, queue(&e.queue))))
}

fn dot(plan: &Pipeline) -> String {
    let mut out = format!(
        "digraph {:?} {{\n  rankdir=LR;\n  node [shape=box, fontname=\"sans-serif\"];\n",
        plan.name
    );
    for (i, c) in plan.components.iter().enumerate() {
        let shape = match c.role {
            Role::Source => "cds",
            Role::Stage => "box",
            Role::Sink => "note",
        };
        let _ = writeln!(
            out,
            "  n{i} [label=\"{}\\n{}\", shape={shape}];",
            c.name,
            subtitle(c)
        );
    }
    for (from, to, label) in edges(plan) {
        let _ = writeln!(out, "  n{from} -> n{to} [label=\"{label}\"];");
    }
    out.push_str("}\n");
    out
}

fn mermaid(plan: &Pipeline) -> String {
    let mut out = String::from("flowchart LR\n");
    for (i, c) in plan.components.iter().enumerate() {
        let (open, close) = match c.role {
            Role::Source => ("([", "])"),
            Role::Stage => ("[", "]"),
            Role::Sink => ("[/", "/]"),
        };
        let _ = writeln!(out, "  n{i}{open}\"{}<br/>{}\"{close}", c.name, subtitle(c));
    }
    for (from, to, label) in edges(plan) {
        let _ = writeln!(out, "  n{from} -->|{label}| n{to}");
    }
    out
}

/// A layered drawing: each component stands one column right of its last producer.
fn svg(plan: &Pipeline) -> String {
    const BOX_W: usize = 150;
    const BOX_H: usize = 46;
    const GAP_X: usize = 70;
    const GAP_Y: usize = 24;
    let mut column = vec![0usize; plan.components.len()];
    for (i, c) in plan.components.iter().enumerate() {
        column[i] = c.inputs.iter().map(|e| column[e.from] + 1).max().unwrap_or(0);
    }
    let columns = column.iter().max().map_or(0, |m| m + 1);
    let mut row = vec![0usize; plan.components.len()];
    let mut used = vec![0usize; columns];
    for (i, &c) in column.iter().enumerate() {
        row[i] = used[c];
        used[c] += 1;
    }
    let rows = used.iter().copied().max().unwrap_or(0);
    let place = |i: usize| (20 + column[i] * (BOX_W + GAP_X), 20 + row[i] * (BOX_H + GAP_Y));
    let (width, height) = (40 + columns * (BOX_W + GAP_X), 40 + rows * (BOX_H + GAP_Y));
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" \
         height=\"{height}\" font-family=\"sans-serif\" font-size=\"13\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n"
    );
    for (from, to, label) in edges(plan) {
        let ((x1, y1), (x2, y2)) = (place(from), place(to));
        let (x1, y1, y2) = (x1 + BOX_W, y1 + BOX_H / 2, y2 + BOX_H / 2);
        let mid = (x1 + x2) / 2;
        let _ = writeln!(
            out,
            "<path d=\"M{x1} {y1} C{mid} {y1} {mid} {y2} {x2} {y2}\" fill=\"none\" stroke=\"#667085\"/>\
             <text x=\"{}\" y=\"{}\" fill=\"#667085\" font-size=\"10\" text-anchor=\"end\">{label}</text>",
            x2 - 6,
            y2 - 5
        );
    }
    for (i, c) in plan.components.iter().enumerate() {
        let (x, y) = place(i);
        let fill = match c.role {
            Role::Source => "#e3f2fd",
            Role::Stage => "#f2f4f7",
            Role::Sink => "#e8f5e9",
        };
        let _ = writeln!(
            out,
            "<rect x=\"{x}\" y=\"{y}\" width=\"{BOX_W}\" height=\"{BOX_H}\" rx=\"6\" fill=\"{fill}\" stroke=\"#98a2b3\"/>\
             <text x=\"{tx}\" y=\"{t1}\" text-anchor=\"middle\" font-weight=\"bold\">{}</text>\
             <text x=\"{tx}\" y=\"{t2}\" text-anchor=\"middle\" fill=\"#475467\">{}</text>",
            c.name,
            subtitle(c),
            tx = x + BOX_W / 2,
            t1 = y + 19,
            t2 = y + 36,
        );
    }
    out.push_str("</svg>\n");
    out
}
