//! Operations that stay in floating point whatever stands around them.

use flow_model::op::{BinaryKind, Op, UnaryKind};
use flow_model::{Graph, NodeId};

use super::kinds::{is_activation, is_linear, is_mean, is_post_processing, weight_port};

/// Why an operation is not quantized.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Left {
    /// The caller wants it so.
    Asked,
    /// Nothing with weights comes after it: 8 bits would cost accuracy and save nothing.
    Tail,
    /// It leads to post-processing (TopK, non-maximum suppression).
    PostProcessing,
    /// The gate of a squeeze-and-excitation block: two tiny matrix products, sensitive to rounding.
    SqueezeExcitation,
    /// The product of attention scores with values.
    Attention,
}

impl std::fmt::Display for Left {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Asked => "left out by --ignore",
            Self::Tail => "no operation with weights comes after it",
            Self::PostProcessing => "it leads to post-processing",
            Self::SqueezeExcitation => "it gates a squeeze-and-excitation block",
            Self::Attention => "it multiplies attention scores with values",
        })
    }
}

/// For each node why it stays in floating point, if it does.
pub(crate) fn left(graph: &Graph, computed: &[bool], asked: &[bool], tail: bool) -> Vec<Option<Left>> {
    let mut left: Vec<Option<Left>> = vec![None; graph.nodes.len()];
    let users = graph.users();
    if tail {
        mark_tail(graph, computed, &users, &mut left);
    }
    mark_post_processing(graph, computed, &mut left);
    for (id, node) in graph.iter() {
        if matches!(node.op, Op::Binary(BinaryKind::Multiply)) {
            for gate in squeeze_excitation(graph, id) {
                left[gate.index()] = Some(Left::SqueezeExcitation);
            }
        }
        if matches!(node.op, Op::MatMul { .. }) && is_attention(graph, id) {
            left[id.index()] = Some(Left::Attention);
        }
    }
    for (slot, _) in left.iter_mut().zip(asked).filter(|(_, asked)| **asked) {
        *slot = Some(Left::Asked);
    }
    left
}

/// Nodes behind which no operation with weights comes.
fn mark_tail(graph: &Graph, computed: &[bool], users: &[Vec<NodeId>], left: &mut [Option<Left>]) {
    let mut leads = vec![false; graph.nodes.len()];
    for (id, node) in graph.iter().collect::<Vec<_>>().into_iter().rev() {
        let weighted = |n: NodeId| is_linear(&graph.node(n).op);
        leads[id.index()] = users[id.index()].iter().any(|&u| leads[u.index()] || weighted(u));
        if computed[id.index()] && !leads[id.index()] && !is_linear(&node.op) {
            left[id.index()] = Some(Left::Tail);
        }
    }
}

/// Nodes between operations with weights and post-processing.
fn mark_post_processing(graph: &Graph, computed: &[bool], left: &mut [Option<Left>]) {
    let mut leads = vec![false; graph.nodes.len()];
    for (id, node) in graph.iter().collect::<Vec<_>>().into_iter().rev() {
        let marked = leads[id.index()] || is_post_processing(&node.op);
        if !marked || !computed[id.index()] || weight_port(graph, node).is_some() {
            continue;
        }
        left[id.index()] = Some(Left::PostProcessing);
        node.inputs.iter().for_each(|v| leads[v.node.index()] = true);
    }
}

/// The nodes that compute the gate of a squeeze-and-excitation block, if `multiply` ends one: mean, linear, activation,
/// linear, sigmoid, each with a bias or without.
fn squeeze_excitation(graph: &Graph, multiply: NodeId) -> Vec<NodeId> {
    let node = graph.node(multiply);
    for (data, gate) in [(0, 1), (1, 0)] {
        let mut found = Vec::new();
        let mut at = node.inputs[gate].node;
        let mut linear = 0;
        // Two linear operations with a bias, an activation and a reshape each.
        for _ in 0..10 {
            let step = graph.node(at);
            if is_mean(&step.op) || step.op.type_name() == "AvgPool" {
                let from = step.inputs[0] == node.inputs[data];
                let closes = found.first().is_some_and(|&n| is_gate(&graph.node(n).op));
                if linear == 2 && from && closes {
                    return found;
                }
                break;
            }
            linear += usize::from(is_linear(&step.op));
            let plain = is_linear(&step.op)
                || is_activation(&step.op)
                || matches!(
                    step.op,
                    Op::Binary(BinaryKind::Add) | Op::Reshape { .. } | Op::Squeeze | Op::Unsqueeze
                );
            if !plain {
                break;
            }
            found.push(at);
            at = step.inputs[0].node;
        }
    }
    Vec::new()
}

fn is_gate(op: &Op) -> bool {
    matches!(op, Op::Unary(UnaryKind::Sigmoid | UnaryKind::HSigmoid)) || op.type_name() == "HardSigmoid"
}

/// Whether a matrix product takes attention scores: Softmax, perhaps reshaped.
fn is_attention(graph: &Graph, id: NodeId) -> bool {
    let mut at = graph.node(id).inputs[0].node;
    if matches!(graph.node(at).op, Op::Reshape { .. }) {
        at = graph.node(at).inputs[0].node;
    }
    matches!(graph.node(at).op, Op::Softmax { .. }) && weight_port(graph, graph.node(id)).is_none()
}
