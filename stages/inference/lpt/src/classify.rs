//! Writes the report: what became of each operation.

use std::collections::HashMap;
use std::sync::Arc;

use flow_model::graph::{Graph, Node, NodeId};
use flow_model::op::Op;
use flow_model::tensor::ElementType;

use crate::propagate::has_integer_form;
use crate::regions::Regions;
use crate::report::{Fate, LayerReport, Notes, Reason, ReasonCode, Report};

/// Compares the model with what it became.
pub(crate) fn report(original: &Graph, lowered: &Graph, notes: &Notes) -> Report {
    let regions = Regions::new(lowered);
    let mut by_name: HashMap<&Arc<str>, NodeId> = HashMap::new();
    let computed = |node: &Node| !matches!(node.op, Op::Constant(_));
    for (id, node) in lowered.iter().filter(|(_, node)| computed(node)) {
        // Where a value is needed both as codes and in f32, the codes count.
        let is_new = |old: &NodeId| !works_on_codes(lowered, lowered.node(*old));
        if by_name.get(&node.name).is_none_or(is_new) {
            by_name.insert(&node.name, id);
        }
    }
    let mut report = Report::default();
    for (_, node) in original.iter() {
        if matches!(node.op, Op::Constant(_)) {
            continue;
        }
        let found = by_name.get(&node.name).copied();
        report.layers.push(match found {
            Some(id) => kept(lowered, &regions, node, id, notes),
            None => gone(lowered, &by_name, node, notes),
        });
    }
    report
}

/// Whether a node reads or writes codes.
fn works_on_codes(graph: &Graph, node: &Node) -> bool {
    codes_of(graph, node).is_some()
}

/// The type of the codes that a node works on.
fn codes_of(graph: &Graph, node: &Node) -> Option<ElementType> {
    let is_codes = |t: ElementType| matches!(t, ElementType::U8 | ElementType::I8).then_some(t);
    match node.op {
        Op::QuantizedConvolution(_)
        | Op::QuantizedDeconvolution(_)
        | Op::QuantizedMatMul(_)
        | Op::QuantizedBatchMatMul(_) => is_codes(graph.info(*node.inputs.first()?).element_type),
        Op::Parameter | Op::Result | Op::Constant(_) => None,
        _ => is_codes(node.outputs.first()?.element_type),
    }
}

fn kept(graph: &Graph, regions: &Regions<'_>, original: &Node, id: NodeId, notes: &Notes) -> LayerReport {
    let node = graph.node(id);
    let plain = node
        .outputs
        .first()
        .or(original.outputs.first())
        .map_or(ElementType::F32, |o| o.element_type);
    let mut layer = LayerReport {
        name: original.name.clone(),
        line: original.line,
        kind: original.op.type_name(),
        precision: plain,
        fate: Fate::Kept,
        reason: None,
    };
    if let Some(codes) = codes_of(graph, node) {
        layer.precision = codes;
    } else if let Some(host) = regions.host(id) {
        layer.precision = codes_of(graph, graph.node(host)).unwrap_or(ElementType::U8);
        layer.fate = Fate::FusedInto(graph.node(host).name.clone());
    } else if plain.is_float() && !matches!(node.op, Op::Parameter | Op::Result) {
        layer.reason = Some(
            notes
                .reason(&original.name)
                .cloned()
                .unwrap_or_else(|| general_reason(regions, original, id)),
        );
    }
    layer
}

/// The reason of an operation that no pass spoke about.
fn general_reason(regions: &Regions<'_>, original: &Node, id: NodeId) -> Reason {
    let name = &original.name;
    if regions.comes_from_codes(id) {
        return Reason::new(
            ReasonCode::ResultNotQuantized,
            format!("the result of \"{name}\" is used in f32"),
        );
    }
    if regions.is_fusable(id) || has_integer_form(&original.op) {
        return Reason::new(
            ReasonCode::DataNotQuantized,
            format!("an input of \"{name}\" is not quantized"),
        );
    }
    Reason::new(
        ReasonCode::NoIntegerForm,
        format!("{} \"{name}\" is computed in f32", original.op.type_name()),
    )
}

fn gone(graph: &Graph, by_name: &HashMap<&Arc<str>, NodeId>, original: &Node, notes: &Notes) -> LayerReport {
    let fate = notes.fate(&original.name).cloned().unwrap_or(Fate::Removed);
    let plain = original
        .outputs
        .first()
        .map_or(ElementType::F32, |o| o.element_type);
    let precision = match &fate {
        Fate::FusedInto(host) => by_name
            .get(host)
            .and_then(|&id| codes_of(graph, graph.node(id)))
            .unwrap_or(plain),
        _ => plain,
    };
    LayerReport {
        name: original.name.clone(),
        line: original.line,
        kind: original.op.type_name(),
        precision,
        fate,
        reason: None,
    }
}
