//! Operations that run as one: no quantization stands between them.

use flow_model::op::{BinaryKind, Op};
use flow_model::{Graph, NodeId};

use super::kinds::{data_inputs, is_activation, is_arithmetic, is_linear};

/// What a group of fused operations holds so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// An input of the network, and the scaling and shifting of it.
    Input,
    /// A convolution or matrix product, and arithmetic with constants behind it.
    Linear,
    /// The same and an activation function.
    LinearActivation,
    /// Arithmetic.
    Arithmetic,
    /// Arithmetic and an activation function.
    ArithmeticActivation,
    /// Normalization (MVN, NormalizeL2), and the scaling and shifting behind it.
    Normalization,
    /// An activation function alone.
    Activation,
    /// Anything else, which takes nothing in.
    Closed,
}

/// For each node the first node of the group it is fused into: itself where it is not.
pub(crate) fn leaders(graph: &Graph, computed: &[bool]) -> Vec<NodeId> {
    let users = graph.users();
    let mut leaders: Vec<NodeId> = graph.iter().map(|(id, _)| id).collect();
    let mut stages: Vec<Stage> = graph.nodes.iter().map(|n| alone(&n.op)).collect();
    for (id, node) in graph.iter() {
        let data = data_inputs(graph, node, computed);
        if let Some(source) = self_gated(graph, id, &data, &users) {
            let at = source.index();
            if matches!(
                stages[at],
                Stage::Linear | Stage::Arithmetic | Stage::Normalization
            ) {
                stages[id.index()] = stages[at].with_activation();
                // What computes the gate belongs to the group as well.
                for between in gate(graph, id, source) {
                    leaders[between.index()] = leaders[at];
                    stages[between.index()] = Stage::Closed;
                }
                leaders[id.index()] = leaders[at];
            }
            continue;
        }
        let [port] = data[..] else { continue };
        let source = node.inputs[port].node;
        if users[source.index()].len() != 1 || node.outputs.len() != 1 {
            continue;
        }
        let from = stages[source.index()];
        let joined = if is_activation(&node.op) {
            match from {
                Stage::Linear | Stage::Arithmetic | Stage::Normalization => Some(from.with_activation()),
                _ => None,
            }
        } else if is_arithmetic(&node.op) {
            match from {
                Stage::Input | Stage::Linear | Stage::Arithmetic | Stage::Normalization => Some(from),
                Stage::LinearActivation | Stage::ArithmeticActivation => Some(from),
                Stage::Activation if matches!(node.op, Op::Binary(BinaryKind::Multiply)) => {
                    Some(Stage::Closed)
                }
                _ => None,
            }
        } else {
            None
        };
        if let Some(stage) = joined {
            stages[id.index()] = stage;
            leaders[id.index()] = leaders[source.index()];
        }
    }
    leaders
}

impl Stage {
    fn with_activation(self) -> Self {
        match self {
            Self::Linear => Self::LinearActivation,
            Self::Arithmetic | Self::Normalization => Self::ArithmeticActivation,
            other => other,
        }
    }
}

fn alone(op: &Op) -> Stage {
    match op {
        Op::Parameter => Stage::Input,
        Op::Mvn(_) | Op::NormalizeL2 { .. } => Stage::Normalization,
        op if is_linear(op) => Stage::Linear,
        op if is_arithmetic(op) => Stage::Arithmetic,
        op if is_activation(op) => Stage::Activation,
        _ => Stage::Closed,
    }
}

/// Where the node multiplies a value with a function of the same value (Swish, HSwish spelled out): what gives the
/// value.
fn self_gated(graph: &Graph, id: NodeId, data: &[usize], users: &[Vec<NodeId>]) -> Option<NodeId> {
    let node = graph.node(id);
    if !matches!(node.op, Op::Binary(BinaryKind::Multiply)) || data != [0, 1] {
        return None;
    }
    for (plain, gated) in [(0, 1), (1, 0)] {
        let source = node.inputs[plain].node;
        let mut at = node.inputs[gated].node;
        // A gate has a few operations: add, clamp, multiply.
        for _ in 0..4 {
            let step = graph.node(at);
            let alone = users[at.index()].len() == 1;
            let works = is_activation(&step.op) || is_arithmetic(&step.op);
            if !alone || !works {
                break;
            }
            let inputs: Vec<NodeId> = step
                .inputs
                .iter()
                .map(|v| v.node)
                .filter(|n| !matches!(graph.node(*n).op, Op::Constant(_)))
                .collect();
            let [input] = inputs[..] else { break };
            if input == source {
                return (users[source.index()].len() == 2).then_some(source);
            }
            at = input;
        }
    }
    None
}

/// The nodes between `source` and the node that multiplies it with a function of it.
fn gate(graph: &Graph, id: NodeId, source: NodeId) -> Vec<NodeId> {
    let mut found = Vec::new();
    let mut open: Vec<NodeId> = graph.node(id).inputs.iter().map(|v| v.node).collect();
    while let Some(at) = open.pop() {
        let node = graph.node(at);
        if at == source || matches!(node.op, Op::Constant(_)) || found.contains(&at) {
            continue;
        }
        found.push(at);
        open.extend(node.inputs.iter().map(|v| v.node));
    }
    found
}
