//! Graphs as text for people.

use std::fmt::Write;

use crate::graph::{Graph, OutputInfo};
use crate::op::Op;

/// Type and shape in words: `f32 [1, 3, ?, ?]`.
pub fn describe(info: &OutputInfo) -> String {
    let dims: Vec<String> = info
        .shape
        .iter()
        .map(|d| d.map_or("?".to_owned(), |d| d.to_string()))
        .collect();
    format!("{} [{}]", info.element_type, dims.join(", "))
}

/// The text as it may stand in HTML and XML, attributes included.
pub fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            // Attributes would lose these.
            '\n' | '\r' | '\t' => {
                let _ = write!(escaped, "&#{};", c as u32);
            }
            _ => escaped.push(c),
        }
    }
    escaped
}

/// The operation with its attributes, without the values of large constants.
pub fn operation(op: &Op) -> String {
    match op {
        Op::Constant(tensor) => {
            let mut text = "Const".to_owned();
            if tensor.len() <= 8 {
                let values: Vec<String> = tensor.to_f64().iter().map(f64::to_string).collect();
                let _ = write!(text, " {{{}}}", values.join(", "));
            }
            text
        }
        Op::Binary(_) | Op::Unary(_) | Op::Reduce { .. } | Op::Parameter | Op::Result => {
            let attributes = match op {
                Op::Reduce { keep_dims, .. } => format!(" {{ keep_dims: {keep_dims} }}"),
                _ => String::new(),
            };
            format!("{}{attributes}", op.type_name())
        }
        Op::If(_) | Op::Iteration(_) => {
            let counts: Vec<String> = crate::ops::control::bodies(op)
                .iter()
                .map(|body| format!("{} operations", body.nodes.len()))
                .collect();
            format!("{} {{ {} }}", op.type_name(), counts.join("; "))
        }
        Op::Lookup(lookup) => format!("Lookup -> {}", lookup.element_type),
        _ => shorten(&format!("{op:?}")),
    }
}

/// At most 200 characters.
fn shorten(text: &str) -> String {
    match text.char_indices().nth(200) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}

/// One line per node: `%7 = ReLU(%6) : f32 [1, 24, 176, 176]  "Relu_1"`.
pub fn to_text(graph: &Graph) -> String {
    let mut text = format!("network \"{}\"\n", graph.name);
    for (id, node) in graph.iter() {
        let inputs: Vec<String> = node
            .inputs
            .iter()
            .map(|v| match v.port {
                0 => format!("%{}", v.node.0),
                port => format!("%{}.{port}", v.node.0),
            })
            .collect();
        let outputs: Vec<String> = node.outputs.iter().map(describe).collect();
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "%{} = {}({}) : {}  \"{}\"",
            id.0,
            operation(&node.op),
            inputs.join(", "),
            outputs.join(", "),
            node.name
        );
    }
    text
}

/// The graph in DOT, without its constants.
pub fn to_dot(graph: &Graph) -> String {
    let quote = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"");
    let mut text = format!(
        "digraph \"{}\" {{\n  node [shape=box, fontname=\"sans-serif\"];\n",
        quote(&graph.name)
    );
    let is_constant = |op: &Op| matches!(op, Op::Constant(_));
    for (id, node) in graph.iter().filter(|(_, n)| !is_constant(&n.op)) {
        let _ = writeln!(
            text,
            "  n{} [label=\"{}\\n{}\"];",
            id.0,
            node.op.type_name(),
            quote(&node.name)
        );
        for value in &node.inputs {
            if !is_constant(&graph.node(value.node).op) {
                let label = describe(graph.info(*value));
                let _ = writeln!(text, "  n{} -> n{} [label=\"{label}\"];", value.node.0, id.0);
            }
        }
    }
    text.push_str("}\n");
    text
}

#[cfg(test)]
mod tests {
    use crate::ir::tests::relu_model;

    #[test]
    fn text_and_dot_show_nodes_and_edges() {
        let graph = relu_model();
        let text = super::to_text(&graph);
        assert!(text.contains("%2 = Add(%0, %1) : f32 [1, 2]  \"sum\""), "{text}");
        assert!(text.contains("Const {1, -5}"), "{text}");
        let dot = super::to_dot(&graph);
        assert!(dot.contains("n2 -> n3 [label=\"f32 [1, 2]\"]"), "{dot}");
    }
}
