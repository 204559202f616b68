//! Constants: what is known before the first input.

use std::collections::HashSet;

use flow_model::graph::{Graph, Node, NodeId, Value};
use flow_model::op::Op;
use flow_model::tensor::Tensor;

use crate::options::Options;
use crate::report::{Fate, Notes};
use crate::rewrite::Rewriter;
use crate::weights;

/// Elements up to which a constant may be larger than what it is computed from.
const MAX_GROWTH: usize = 1 << 20;

/// The constant at `value`.
pub(crate) fn tensor(graph: &Graph, value: Value) -> Option<Tensor> {
    match &graph.node(value.node).op {
        Op::Constant(tensor) => Some(tensor.clone()),
        _ => None,
    }
}

/// The input port that takes weights, for operations that have one.
pub(crate) fn weights_port(op: &Op) -> Option<usize> {
    matches!(
        op,
        Op::Convolution(_) | Op::GroupConvolution(_) | Op::MatMul { .. }
    )
    .then_some(1)
}

/// Computes every operation whose inputs are constant, except the chains that lead to weights: those hold the
/// codes that the next pass reads. Decompressions of f16 limits and scales go away here.
pub(crate) fn fold(graph: &Graph, _options: &Options, notes: &mut Notes) -> Graph {
    let mut kept: HashSet<NodeId> = HashSet::new();
    for (_, node) in graph.iter() {
        if let Some(port) = weights_port(&node.op)
            && let Some(&input) = node.inputs.get(port)
        {
            kept.extend(weights::chain_nodes(graph, input).iter().map(|v| v.node));
        }
    }
    let mut rewriter = Rewriter::new(graph);
    for (id, node) in graph.iter() {
        let folded =
            (!kept.contains(&id)).then(|| shape_of(graph, node).or_else(|| evaluate(&rewriter, id, node)));
        match folded.flatten() {
            Some(values) => {
                notes.moved(&node.name, Fate::Removed);
                for (port, tensor) in values.into_iter().enumerate() {
                    let mut info = node.outputs[port].clone();
                    info.shape = tensor.shape().iter().map(|&d| Some(d)).collect();
                    let name = match port {
                        0 => node.name.clone(),
                        _ => format!("{}/{port}", node.name).into(),
                    };
                    let constant = rewriter.push(Node {
                        name,
                        line: node.line,
                        op: Op::Constant(tensor),
                        inputs: Vec::new(),
                        outputs: vec![info],
                    });
                    rewriter.replace(
                        Value {
                            node: id,
                            port: port as u32,
                        },
                        Value::of(constant),
                    );
                }
            }
            None => {
                rewriter.keep(id);
            }
        }
    }
    rewriter.finish()
}

/// A shape that is known without its value.
fn shape_of(graph: &Graph, node: &Node) -> Option<Vec<Tensor>> {
    let Op::ShapeOf(element_type) = node.op else {
        return None;
    };
    let shape = graph.info(*node.inputs.first()?).static_shape()?;
    let values: Vec<i128> = shape.iter().map(|&d| d as i128).collect();
    Some(vec![
        Tensor::from_i128(element_type, &[shape.len()], &values).ok()?,
    ])
}

/// The outputs of an operation whose inputs are constants; `None` where they are not, or are refused.
fn evaluate(rewriter: &Rewriter<'_>, id: NodeId, node: &Node) -> Option<Vec<Tensor>> {
    if node.inputs.is_empty() || matches!(node.op, Op::Result) {
        return None;
    }
    let inputs: Vec<Tensor> = rewriter
        .inputs(id)
        .iter()
        .map(|&v| tensor(rewriter.graph(), v))
        .collect::<Option<_>>()?;
    let given: usize = inputs.iter().map(Tensor::len).sum();
    let allowed = given.saturating_mul(2).max(MAX_GROWTH);
    for output in &node.outputs {
        let elements = output
            .static_shape()?
            .iter()
            .try_fold(1usize, |n, &d| n.checked_mul(d))?;
        if elements > allowed {
            return None;
        }
    }
    flow_model::ops::evaluate(&node.op, &inputs).ok()
}
