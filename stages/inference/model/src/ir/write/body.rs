//! Bodies and port maps.

use std::fmt::Write as _;

use crate::body::{BodyInput, Branch, Iteration, Slicing};
use crate::graph::{Graph, Node, NodeId};
use crate::op::Op;

/// The bodies of an operation with their elements' names.
pub(super) fn of(op: &Op) -> Vec<(&'static str, &Graph)> {
    match op {
        Op::If(branches) => vec![
            ("then_body", &branches.then_body.graph),
            ("else_body", &branches.else_body.graph),
        ],
        Op::Iteration(iteration) => vec![("body", &iteration.graph)],
        _ => Vec::new(),
    }
}

/// Writes which port of the operation belongs to which Parameter or Result of its bodies.
pub(super) fn port_maps(text: &mut String, node: &Node) {
    match &node.op {
        Op::If(branches) => {
            branch(text, node, "then", &branches.then_body);
            branch(text, node, "else", &branches.else_body);
        }
        Op::Iteration(found) => iteration(text, node, found),
        _ => {}
    }
}

fn row(text: &mut String, side: &str, port: Option<usize>, inner: NodeId, more: &str) {
    let port = port.map_or("-1".to_owned(), |p| p.to_string());
    // Writing to a string cannot fail.
    let _ = writeln!(
        text,
        "\t\t\t\t<{side} external_port_id=\"{port}\" internal_layer_id=\"{}\"{more} />",
        inner.0
    );
}

fn branch(text: &mut String, node: &Node, which: &str, branch: &Branch) {
    let _ = writeln!(text, "\t\t\t<{which}_port_map>");
    for (&port, &id) in branch.inputs.iter().zip(&branch.graph.parameters) {
        row(text, "input", Some(port), id, "");
    }
    for (port, &result) in branch.outputs.iter().enumerate() {
        row(
            text,
            "output",
            Some(node.inputs.len() + port),
            branch.graph.results[result],
            "",
        );
    }
    let _ = writeln!(text, "\t\t\t</{which}_port_map>");
}

fn slicing(slicing: &Slicing) -> String {
    format!(
        " axis=\"{}\" start=\"{}\" end=\"{}\" stride=\"{}\" part_size=\"{}\"",
        slicing.axis,
        slicing.start,
        slicing.end,
        slicing.stride,
        slicing.part()
    )
}

fn iteration(text: &mut String, node: &Node, iteration: &Iteration) {
    let (parameters, results) = (&iteration.graph.parameters, &iteration.graph.results);
    text.push_str("\t\t\t<port_map>\n");
    let mut edges = String::new();
    for (kind, &id) in iteration.inputs.iter().zip(parameters) {
        match kind {
            BodyInput::Invariant { input } => row(text, "input", Some(*input), id, ""),
            BodyInput::Merged { input, result } => {
                row(text, "input", Some(*input), id, "");
                let _ = writeln!(
                    edges,
                    "\t\t\t\t<edge from-layer=\"{}\" to-layer=\"{}\" />",
                    results[*result].0, id.0
                );
            }
            BodyInput::Sliced { input, slicing: part } => {
                row(text, "input", Some(*input), id, &slicing(part))
            }
            BodyInput::CurrentIteration => row(text, "input", None, id, " purpose=\"current_iteration\""),
        }
    }
    for (port, output) in iteration.outputs.iter().enumerate() {
        let more = output.concatenated.as_ref().map(slicing).unwrap_or_default();
        row(
            text,
            "output",
            Some(node.inputs.len() + port),
            results[output.result],
            &more,
        );
    }
    if let Some(condition) = iteration.condition {
        row(
            text,
            "output",
            None,
            results[condition],
            " purpose=\"execution_condition\"",
        );
    }
    text.push_str("\t\t\t</port_map>\n");
    if !edges.is_empty() {
        let _ = write!(text, "\t\t\t<back_edges>\n{edges}\t\t\t</back_edges>\n");
    }
}
