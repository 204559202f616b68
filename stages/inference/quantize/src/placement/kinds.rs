//! What quantization makes of each kind of operation.

use flow_model::op::{BinaryKind, Op, ReduceKind};
use flow_model::{ElementType, Graph, Node, NodeId, Value};

/// Operations that only move or select values: a quantization of the output may stand before them. These are NNCF's, which are
/// fewer than what the engine moves without computing, so that quantizations stand where NNCF has them.
const MOVES: [&str; 24] = [
    "MaxPool",
    "AdaptiveMaxPool",
    "ReduceMax",
    "Reshape",
    "Squeeze",
    "Unsqueeze",
    "Split",
    "VariadicSplit",
    "Transpose",
    "Tile",
    "StridedSlice",
    "ShuffleChannels",
    "Broadcast",
    "Pad",
    "ConvertLike",
    "Gather",
    "GatherND",
    "GatherElements",
    "DepthToSpace",
    "SpaceToDepth",
    "BatchToSpace",
    "SpaceToBatch",
    "Concat",
    "ReduceMin",
];

/// Operations whose inputs are quantized, besides those with weights and arithmetic.
const QUANTIZED: [&str; 9] = [
    "AvgPool",
    "AdaptiveAvgPool",
    "ReduceMean",
    "MVN",
    "NormalizeL2",
    "Interpolate",
    "SquaredDifference",
    "GroupNormalization",
    "ScaledDotProductAttention",
];

/// Operations behind which a network only picks results: what leads from weights to them stays in floating point.
const POST_PROCESSING: [&str; 12] = [
    "TopK",
    "NonMaxSuppression",
    "NMSRotated",
    "MulticlassNms",
    "MatrixNms",
    "DetectionOutput",
    "Proposal",
    "ExperimentalDetectronDetectionOutput",
    "ExperimentalDetectronGenerateProposalsSingleImage",
    "GenerateProposals",
    "RegionYolo",
    "ArgMax",
];

/// Whether the operation only moves or selects values of its data inputs.
pub(crate) fn moves_values(op: &Op) -> bool {
    MOVES.contains(&op.type_name())
}

/// Whether the operation is a convolution, a deconvolution or a matrix product.
pub(crate) fn is_linear(op: &Op) -> bool {
    matches!(
        op,
        Op::Convolution(_)
            | Op::GroupConvolution(_)
            | Op::ConvolutionBackpropData(_)
            | Op::GroupConvolutionBackpropData(_)
            | Op::MatMul { .. }
    )
}

/// Whether the operation adds, subtracts, multiplies or divides element by element.
pub(crate) fn is_arithmetic(op: &Op) -> bool {
    matches!(
        op,
        Op::Binary(BinaryKind::Add | BinaryKind::Subtract | BinaryKind::Multiply | BinaryKind::Divide)
    )
}

/// Whether the operation works element by element on two inputs that profit from 8 bits.
pub(crate) fn is_elementwise(op: &Op) -> bool {
    is_arithmetic(op) || matches!(op, Op::Binary(BinaryKind::Maximum | BinaryKind::Minimum))
}

/// Whether the operation is an activation function that devices fuse into what comes before.
pub(crate) fn is_activation(op: &Op) -> bool {
    use flow_model::op::UnaryKind::{Elu, HSigmoid, HSwish, Relu, Sigmoid, Swish};
    matches!(
        op,
        Op::Clamp { .. }
            | Op::PRelu
            | Op::Unary(Relu | Elu { .. } | Sigmoid | HSigmoid | Swish { .. } | HSwish)
    ) || matches!(op.type_name(), "HardSigmoid" | "Selu")
}

/// Whether the inputs of the operation are quantized.
pub(crate) fn is_quantized(op: &Op) -> bool {
    is_linear(op) || is_elementwise(op) || QUANTIZED.contains(&op.type_name())
}

/// Whether the operation marks post-processing.
pub(crate) fn is_post_processing(op: &Op) -> bool {
    POST_PROCESSING.contains(&op.type_name())
}

/// Whether the operation averages over spatial axes, as a squeeze-and-excitation block begins.
pub(crate) fn is_mean(op: &Op) -> bool {
    matches!(
        op,
        Op::Reduce {
            kind: ReduceKind::Mean,
            ..
        }
    )
}

/// For each node whether it depends on an input of the network.
pub(crate) fn computed(graph: &Graph) -> Vec<bool> {
    let mut computed = vec![false; graph.nodes.len()];
    for (id, node) in graph.iter() {
        computed[id.index()] = match node.op {
            Op::Parameter => true,
            // Shapes are no data.
            Op::ShapeOf(_) => false,
            _ => node.inputs.iter().any(|v| computed[v.node.index()]),
        };
    }
    computed
}

/// Input ports of a node that carry computed data in f32.
pub(crate) fn data_inputs(graph: &Graph, node: &Node, computed: &[bool]) -> Vec<usize> {
    let carries = |v: &Value| computed[v.node.index()] && graph.info(*v).element_type == ElementType::F32;
    (0..node.inputs.len())
        .filter(|&port| carries(&node.inputs[port]))
        .collect()
}

/// The input port that holds constant weights, if the node is a linear operation with such.
pub(crate) fn weight_port(graph: &Graph, node: &Node) -> Option<usize> {
    if !is_linear(&node.op) {
        return None;
    }
    let constant = |port: usize| {
        let input = node.inputs.get(port)?;
        matches!(graph.node(input.node).op, Op::Constant(_)).then_some(port)
    };
    match node.op {
        Op::MatMul { .. } => constant(1).or_else(|| constant(0)),
        _ => constant(1),
    }
}

/// Axes of the weights along which each output channel has its own range.
pub(crate) fn weight_axes(graph: &Graph, node: &Node, port: usize) -> Vec<usize> {
    let rank = graph.info(node.inputs[port]).shape.len();
    match node.op {
        Op::Convolution(_) => vec![0],
        Op::GroupConvolution(_) => vec![0, 1],
        Op::ConvolutionBackpropData(_) => vec![1],
        Op::GroupConvolutionBackpropData(_) => vec![0, 2],
        Op::MatMul {
            transpose_a,
            transpose_b,
        } if rank >= 2 => {
            // Output channels are the columns of the second operand, the rows of the first.
            let last = if port == 1 { !transpose_b } else { transpose_a };
            vec![if last { rank - 1 } else { rank - 2 }]
        }
        _ => Vec::new(),
    }
}

/// Whether each channel of the node has weights of its own, so that its input may have a scale per channel.
pub(crate) fn is_depthwise(graph: &Graph, id: NodeId) -> bool {
    let node = graph.node(id);
    if !matches!(node.op, Op::GroupConvolution(_)) {
        return false;
    }
    // Weights are [groups, outputs, inputs, ..] per group.
    let shape = &graph.info(node.inputs[1]).shape;
    shape.first().is_some_and(|g| g.is_some_and(|g| g > 1)) && shape.get(2) == Some(&Some(1))
}
