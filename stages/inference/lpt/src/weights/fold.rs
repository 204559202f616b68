//! The pass that turns chains of weights into constant codes and one Dequantize.

use flow_model::graph::{Graph, Node, OutputInfo, Value};
use flow_model::op::{Dequantize, Op};
use flow_model::tensor::{ElementType, Tensor};

use super::{ChannelAxes, Weights, chain_nodes, read};
use crate::options::Options;
use crate::report::{Fate, Notes, Reason, ReasonCode};
use crate::rewrite::Rewriter;

/// Replaces the weights of each Convolution, GroupConvolution and MatMul by a constant of i8 codes and a
/// Dequantize along the output channels, wherever the chain that leads to them can be read. Where it cannot,
/// the operation keeps its weights and the reason is noted.
///
/// Codes of a GroupConvolution have the shape `[OC, C/groups, spatial..]`; a Reshape to
/// `[groups, OC/groups, ..]` follows their Dequantize.
pub(crate) fn fold(graph: &Graph, options: &Options, notes: &mut Notes) -> Graph {
    let mut rewriter = Rewriter::new(graph);
    for (id, node) in graph.iter() {
        let axes = channel_axes(graph, node);
        let weights = axes.map(|axes| read_for(graph, node, axes, options));
        let mut node = node.clone();
        node.inputs = rewriter.inputs(id);
        match weights {
            Some(Ok(weights)) => {
                let input = graph.node(id).inputs[1];
                for value in chain_nodes(graph, input) {
                    notes.moved(&graph.node(value.node).name, Fate::FusedInto(node.name.clone()));
                }
                node.inputs[1] = push(&mut rewriter, &node, &weights, graph.info(input));
                rewriter.keep_as(id, node);
            }
            Some(Err(reason)) => {
                notes.stays_float(&node.name, reason);
                rewriter.keep_as(id, node);
            }
            None => {
                rewriter.keep_as(id, node);
            }
        }
    }
    rewriter.finish()
}

/// Where the output channels of an operation's weights lie; `None` for operations without constant weights.
fn channel_axes(graph: &Graph, node: &Node) -> Option<ChannelAxes> {
    match node.op {
        Op::Convolution(_) => Some(ChannelAxes::Leading(1)),
        Op::GroupConvolution(_) => Some(ChannelAxes::Leading(2)),
        Op::MatMul { transpose_b, .. } => {
            let weights = *node.inputs.get(1)?;
            let is_constant = matches!(graph.node(weights.node).op, Op::Constant(_))
                || !chain_nodes(graph, weights).is_empty();
            let rank = graph.info(weights).shape.len();
            (is_constant && rank >= 2).then_some(match transpose_b {
                true => ChannelAxes::Leading(rank - 1),
                false => ChannelAxes::Last,
            })
        }
        _ => None,
    }
}

fn read_for(graph: &Graph, node: &Node, axes: ChannelAxes, options: &Options) -> Result<Weights, Reason> {
    let refused = |what| {
        Err(Reason::new(
            ReasonCode::ByOption,
            format!(
                "the options say that the target runs no {what} of \"{}\"",
                node.name
            ),
        ))
    };
    if options.float_layers.contains(&*node.name) {
        return Err(crate::fake_quantize::by_option(&node.name));
    }
    let is_matmul = matches!(node.op, Op::MatMul { .. });
    if is_matmul && !options.limits.matmul {
        return refused("integer MatMul");
    }
    if !is_matmul && !options.limits.convolution {
        return refused("integer convolution");
    }
    let weights = read(graph, node.inputs[1], axes)?;
    let shape = weights.codes.shape();
    if is_matmul && shape[..shape.len() - 2].iter().any(|&d| d != 1) {
        return Err(Reason::new(
            ReasonCode::WeightsGranularity,
            format!(
                "the weights of \"{}\" are a batch of matrices {shape:?}",
                node.name
            ),
        ));
    }
    if !options.limits.weight_zero_points && weights.zero_point.iter().any(|&z| z != 0) {
        return refused("zero points in the weights");
    }
    Ok(weights)
}

/// Adds codes, Dequantize and, where the operation wants another shape, Reshape.
fn push(rewriter: &mut Rewriter<'_>, node: &Node, weights: &Weights, wanted: &OutputInfo) -> Value {
    let shape = weights.codes.shape();
    let (codes_shape, axis): (Vec<usize>, usize) = match node.op {
        Op::GroupConvolution(_) => {
            let mut folded = vec![shape[0] * shape[1]];
            folded.extend(&shape[2..]);
            (folded, 0)
        }
        Op::MatMul { transpose_b, .. } => (shape[shape.len() - 2..].to_vec(), usize::from(!transpose_b)),
        _ => (shape.to_vec(), 0),
    };
    let wanted_shape = shape.to_vec();
    // As many elements as before: the shape fits.
    let codes = weights
        .codes
        .reshaped(&codes_shape)
        .unwrap_or_else(|_| weights.codes.clone());
    let per_channel = weights.scale.len() > 1 || weights.zero_point.len() > 1;
    let constant = rewriter.push(Node {
        name: format!("{}/weights", node.name).into(),
        line: 0,
        op: Op::Constant(codes),
        inputs: Vec::new(),
        outputs: vec![OutputInfo::fixed(ElementType::I8, &codes_shape)],
    });
    let value = Value::of(rewriter.push(Node {
        name: format!("{}/weights/dequantize", node.name).into(),
        line: 0,
        op: Op::Dequantize(Dequantize {
            scale: weights.scale.clone(),
            zero_point: weights.zero_point.iter().map(|&z| z as f32).collect(),
            axis: per_channel.then_some(axis),
        }),
        inputs: vec![Value::of(constant)],
        outputs: vec![OutputInfo::fixed(ElementType::F32, &codes_shape)],
    }));
    if codes_shape == wanted_shape {
        return value;
    }
    let pattern: Vec<i64> = wanted_shape.iter().map(|&d| d as i64).collect();
    let rank = pattern.len();
    let Ok(pattern) = Tensor::from_slice(&[rank], &pattern) else {
        return value;
    };
    let pattern = rewriter.push(Node {
        name: format!("{}/weights/shape", node.name).into(),
        line: 0,
        op: Op::Constant(pattern),
        inputs: Vec::new(),
        outputs: vec![OutputInfo::fixed(ElementType::I64, &[rank])],
    });
    Value::of(rewriter.push(Node {
        name: format!("{}/weights/reshape", node.name).into(),
        line: 0,
        op: Op::Reshape { special_zero: false },
        inputs: vec![value, Value::of(pattern)],
        outputs: vec![OutputInfo {
            element_type: ElementType::F32,
            ..wanted.clone()
        }],
    }))
}
