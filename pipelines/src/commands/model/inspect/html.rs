//! One page that explains a network: the model and what runs, side by side with reasons, in a single file.

use std::fmt::Write as _;

use flow_model::text::escape;
use serde_json::json;

use super::layout::{self, NODE};
use super::view::{Class, Node, Why};

/// The page around the data; `{{..}}` are filled in.
const PAGE: &str = include_str!("page.html");

/// What the page shows.
pub struct Page<'a> {
    /// File of the model.
    pub title: String,
    /// Facts for the heading: name and value.
    pub facts: Vec<(&'static str, String)>,
    /// Operations of the model.
    pub model: &'a [Node],
    /// Steps that run.
    pub running: &'a [Node],
    /// Why operations work on floats.
    pub reasons: &'a [Why],
}

/// The page as HTML.
pub fn page(page: &Page<'_>) -> String {
    let mut facts = String::new();
    for (name, value) in &page.facts {
        let _ = write!(
            facts,
            "<div class=\"fact\"><b>{}</b><span>{name}</span></div>",
            escape(value)
        );
    }
    let data = json!({
        "views": [nodes(page.model), nodes(page.running)],
        "reasons": page.reasons.iter().map(|w| json!({
            "code": w.code, "remedy": w.remedy, "layers": w.layers,
        })).collect::<Vec<_>>(),
    });
    // `</script>` in a name must not end the script.
    let data = data.to_string().replace('<', "\\u003c");
    let parts = [
        ("TITLE", escape(&page.title)),
        ("FACTS", facts),
        ("MODEL", svg(page.model)),
        ("RUNNING", svg(page.running)),
        ("DATA", data),
    ];
    let mut rest = PAGE;
    let mut text = String::new();
    // Filled in once, from left to right: what is filled in is never looked at again.
    while let Some((before, after)) = rest.split_once("{{") {
        text.push_str(before);
        let Some((key, behind)) = after.split_once("}}") else {
            break;
        };
        if let Some((_, value)) = parts.iter().find(|(k, _)| *k == key) {
            text.push_str(value);
        }
        rest = behind;
    }
    text.push_str(rest);
    text
}

fn nodes(list: &[Node]) -> serde_json::Value {
    let all: Vec<_> = list
        .iter()
        .map(|n| {
            json!({
                "name": n.name, "kind": n.kind, "class": n.class.name(), "ms": n.ms,
                "details": n.details, "reason": n.reason, "inputs": n.inputs,
            })
        })
        .collect();
    json!(all)
}

/// A name that fits into a node.
fn short(name: &str) -> String {
    super::short(name, 28)
}

fn svg(nodes: &[Node]) -> String {
    let inputs: Vec<Vec<usize>> = nodes.iter().map(|n| n.inputs.clone()).collect();
    let placed = layout::layered(&inputs);
    let slowest = nodes.iter().filter_map(|n| n.ms).fold(0.0, f64::max);
    let (width, height) = (placed.width.max(NODE.0), placed.height.max(NODE.1));
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width:.0}\" height=\"{height:.0}\" viewBox=\"0 0 {width:.0} {height:.0}\">"
    );
    for (from, to, points) in &placed.edges {
        let class = match nodes[*from].class {
            Class::Int8 => "int8",
            Class::Float => "float",
            Class::Other | Class::Idle => "other",
        };
        let _ = write!(
            text,
            "<path class=\"edge {class}\" data-from=\"{from}\" data-to=\"{to}\" d=\"{}\"/>",
            layout::path(points)
        );
    }
    for (i, (node, at)) in nodes.iter().zip(&placed.nodes).enumerate() {
        let (x, y) = (at.0 - NODE.0 / 2.0, at.1 - NODE.1 / 2.0);
        let _ = write!(
            text,
            "<g class=\"node {}\" data-i=\"{i}\" tabindex=\"0\" transform=\"translate({x:.0},{y:.0})\"><title>{}</title>\
             <rect width=\"{}\" height=\"{}\" rx=\"7\"/>",
            node.class.name(),
            escape(&node.name),
            NODE.0,
            NODE.1
        );
        if let (Some(ms), true) = (node.ms, slowest > 0.0) {
            let share = (ms / slowest * (NODE.0 - 12.0)).max(1.0);
            let _ = write!(
                text,
                "<rect class=\"bar\" x=\"6\" y=\"{}\" width=\"{share:.0}\" height=\"3\" rx=\"1.5\"/>\
                 <text class=\"ms\" x=\"{}\" y=\"18\">{ms:.3} ms</text>",
                NODE.1 - 6.0,
                NODE.0 - 10.0
            );
        }
        let _ = write!(
            text,
            "<text class=\"kind\" x=\"10\" y=\"18\">{}</text><text class=\"name\" x=\"10\" y=\"33\">{}</text></g>",
            escape(&super::short(&node.kind, 20)),
            escape(&short(&node.name))
        );
    }
    text.push_str("</svg>");
    text
}

/// The steps in Graphviz form, with the colours of the page.
pub fn dot(title: &str, nodes: &[Node]) -> String {
    let quote = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"");
    let mut text = format!(
        "digraph \"{}\" {{\n  node [shape=box, style=\"rounded,filled\", fontname=\"sans-serif\", fontsize=10];\n",
        quote(title)
    );
    for (i, node) in nodes.iter().enumerate() {
        let fill = match node.class {
            Class::Int8 => "#ccfbf1",
            Class::Float => "#fed7aa",
            Class::Other => "#e2e8f0",
            Class::Idle => "#ffffff",
        };
        let kernel = node
            .details
            .iter()
            .find(|(k, _)| *k == "Kernel")
            .map_or("", |(_, v)| v);
        let time = node.ms.map_or_else(String::new, |ms| format!("\\n{ms:.3} ms"));
        let _ = writeln!(
            text,
            "  n{i} [fillcolor=\"{fill}\", label=\"{}\\n{}\\n{}{time}\"];",
            quote(&node.kind),
            quote(&node.name),
            quote(kernel)
        );
    }
    for (i, node) in nodes.iter().enumerate() {
        for from in &node.inputs {
            let _ = writeln!(text, "  n{from} -> n{i};");
        }
    }
    text.push_str("}\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_break_out_of_the_page() {
        let node = Node {
            name: "</script><b>{{DATA}}".into(),
            kind: "Add".into(),
            class: Class::Int8,
            ms: Some(0.5),
            details: Vec::new(),
            reason: None,
            inputs: Vec::new(),
        };
        let html = page(&Page {
            title: "a<b>.xml".into(),
            facts: vec![("INT8", "1 of 1".into())],
            model: std::slice::from_ref(&node),
            running: std::slice::from_ref(&node),
            reasons: &[],
        });
        assert_eq!(html.matches("</script>").count(), 1);
        assert!(html.contains("a&lt;b&gt;.xml") && !html.contains("{{TITLE}}"));
        assert!(
            !html.contains("http://")
                || html.matches("http").count() == html.matches("http://www.w3.org/2000/svg").count()
        );
        assert!(dot("m", &[node]).contains("n0 [fillcolor=\"#ccfbf1\""));
    }
}
