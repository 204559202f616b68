//! The pass that turns chains of weights into constant codes and one Dequantize.

use flow_model::graph::{Graph, Node, OutputInfo, Value};
use flow_model::op::{Dequantize, Op};
use flow_model::tensor::{ElementType, Tensor};

use super::{ChannelAxes, Weights, chain_nodes, read};
use crate::options::Options;
use crate::report::{Fate, Notes, Reason, ReasonCode};
use crate::rewrite::Rewriter;

/// Replaces the weights of each convolution and MatMul by a constant of i8 codes and a
/// Dequantize along the output channels, wherever the chain that leads to them can be read. Where it cannot,
/// the operation keeps its weights and the reason is noted.
///
/// Codes of all convolutions have the shape `[OC, C/groups, spatial..]`; where the operation wants groups or input
/// channels first, Reshape and Transpose follow their Dequantize.
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
        Op::Convolution(_) if rank_of(graph, node) >= 3 => Some(ChannelAxes::Leading(1)),
        Op::GroupConvolution(_) if rank_of(graph, node) >= 4 => Some(ChannelAxes::Leading(2)),
        Op::ConvolutionBackpropData(_) if rank_of(graph, node) >= 3 => Some(ChannelAxes::Swapped(0)),
        Op::GroupConvolutionBackpropData(_) if rank_of(graph, node) >= 4 => Some(ChannelAxes::Swapped(1)),
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

/// Rank of the weights.
fn rank_of(graph: &Graph, node: &Node) -> usize {
    node.inputs.get(1).map_or(0, |&v| graph.info(v).shape.len())
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
    let varies = weights.scale.len() > 1 || weights.zero_point.len() > 1;
    if is_matmul && varies && is_batch(shape) {
        return Err(Reason::new(
            ReasonCode::WeightsGranularity,
            format!(
                "the weights of \"{}\" are a batch of matrices {shape:?} with more than one scale",
                node.name
            ),
        ));
    }
    if !options.limits.weight_zero_points && weights.zero_point.iter().any(|&z| z != 0) {
        return refused("zero points in the weights");
    }
    Ok(weights)
}

/// Whether the weights of a MatMul are more than one matrix.
fn is_batch(shape: &[usize]) -> bool {
    shape[..shape.len().saturating_sub(2)].iter().any(|&d| d != 1)
}

/// Adds codes, Dequantize and, where the operation wants another shape, Reshape.
fn push(rewriter: &mut Rewriter<'_>, node: &Node, weights: &Weights, wanted: &OutputInfo) -> Value {
    let shape = weights.codes.shape();
    let (codes_shape, axis): (Vec<usize>, usize) = match node.op {
        Op::GroupConvolution(_) | Op::GroupConvolutionBackpropData(_) => {
            let mut folded = vec![shape[0] * shape[1]];
            folded.extend(&shape[2..]);
            (folded, 0)
        }
        Op::MatMul { transpose_b, .. } if !is_batch(shape) => {
            (shape[shape.len() - 2..].to_vec(), usize::from(!transpose_b))
        }
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
    let value = match codes_shape == wanted_shape {
        true => value,
        false => reshaped(rewriter, node, value, &wanted_shape),
    };
    let groups = match node.op {
        Op::ConvolutionBackpropData(_) => 0,
        Op::GroupConvolutionBackpropData(_) => 1,
        _ => return value,
    };
    let mut order: Vec<i64> = (0..shape.len() as i64).collect();
    order.swap(groups, groups + 1);
    let Some(order) = push_i64s(rewriter, node, "order", &order) else {
        return value;
    };
    Value::of(rewriter.push(Node {
        name: format!("{}/weights/transpose", node.name).into(),
        line: 0,
        op: Op::Transpose,
        inputs: vec![value, order],
        outputs: vec![OutputInfo {
            element_type: ElementType::F32,
            ..wanted.clone()
        }],
    }))
}

/// The weights in another shape.
fn reshaped(rewriter: &mut Rewriter<'_>, node: &Node, value: Value, shape: &[usize]) -> Value {
    let pattern: Vec<i64> = shape.iter().map(|&d| d as i64).collect();
    let Some(pattern) = push_i64s(rewriter, node, "shape", &pattern) else {
        return value;
    };
    Value::of(rewriter.push(Node {
        name: format!("{}/weights/reshape", node.name).into(),
        line: 0,
        op: Op::Reshape { special_zero: false },
        inputs: vec![value, pattern],
        outputs: vec![OutputInfo::fixed(ElementType::F32, shape)],
    }))
}

fn push_i64s(rewriter: &mut Rewriter<'_>, node: &Node, what: &str, values: &[i64]) -> Option<Value> {
    let tensor = Tensor::from_slice(&[values.len()], values).ok()?;
    Some(Value::of(rewriter.push(Node {
        name: format!("{}/weights/{what}", node.name).into(),
        line: 0,
        op: Op::Constant(tensor),
        inputs: Vec::new(),
        outputs: vec![OutputInfo::fixed(ElementType::I64, &[values.len()])],
    })))
}

#[cfg(test)]
mod tests {
    use flow_model::evaluate;
    use flow_model::op::BinaryKind;

    use super::*;
    use crate::testing::{Builder, conv, kinds, noise};

    const DATA: [usize; 4] = [1, 3, 4, 4];

    /// Folds, and checks that the result is what it was.
    fn check(b: &Builder) -> (Graph, Notes) {
        let mut notes = Notes::default();
        let folded = fold(&b.graph, &Options::default(), &mut notes);
        let input = [noise(&DATA, 1)];
        let (before, after) = (
            evaluate(&b.graph, &input).unwrap(),
            evaluate(&folded, &input).unwrap(),
        );
        for (x, y) in before[0].to_f32().iter().zip(after[0].to_f32()) {
            assert!((x - y).abs() <= 1e-4 * x.abs().max(1.0), "{x} became {y}");
        }
        (crate::rewrite::remove_dead(&folded), notes)
    }

    fn dequantize(graph: &Graph) -> &Dequantize {
        let mut found = graph.nodes.iter().filter_map(|n| match &n.op {
            Op::Dequantize(d) => Some(d),
            _ => None,
        });
        found.next().unwrap()
    }

    #[test]
    fn scales_follow_shape_operations_to_the_output_channels() {
        // [1, 3, 3, C] scaled along C -> [3, 3, C, 1] -> [3, 3, C, 1, 1] -> [C, 1, 1, 3, 3]
        let mut b = Builder::default();
        let x = b.parameter(ElementType::F32, &DATA);
        let codes: Vec<u8> = (0..27).map(|i| i * 9).collect();
        let w = b.constant(Tensor::from_slice(&[1, 3, 3, 3], &codes).unwrap());
        let w = b.node("convert", Op::Convert(ElementType::F32), &[w]);
        let zero_point = b.f32s(&[1, 1, 1, 1], &[120.0]);
        let w = b.node("subtract", Op::Binary(BinaryKind::Subtract), &[w, zero_point]);
        let scale = b.f32s(&[1, 1, 1, 3], &[0.5, 0.25, 0.125]);
        let w = b.node("multiply", Op::Binary(BinaryKind::Multiply), &[w, scale]);
        let shape = b.i64s(&[3, 3, 3, 1]);
        let w = b.node("reshape", Op::Reshape { special_zero: true }, &[w, shape]);
        let axis = b.i64s(&[3]);
        let w = b.node("unsqueeze", Op::Unsqueeze, &[w, axis]);
        let order = b.i64s(&[2, 4, 3, 0, 1]);
        let w = b.node("transpose", Op::Transpose, &[w, order]);
        let x = b.node("conv", Op::GroupConvolution(conv(1)), &[x, w]);
        b.result(x);
        let (folded, notes) = check(&b);
        assert_eq!(
            kinds(&folded),
            ["Parameter", "Dequantize", "Reshape", "GroupConvolution", "Result"]
        );
        let d = dequantize(&folded);
        assert_eq!((&d.scale[..], d.axis), (&[0.5, 0.25, 0.125][..], Some(0)));
        assert_eq!(d.zero_point, [0.0], "codes less 120 fit i8");
        for name in [
            "convert",
            "subtract",
            "multiply",
            "reshape",
            "unsqueeze",
            "transpose",
        ] {
            assert_eq!(notes.fate(name), Some(&Fate::FusedInto("conv".into())), "{name}");
        }
    }

    #[test]
    fn weights_that_are_sliced_and_tiled_stay_codes() {
        let mut b = Builder::default();
        let x = b.parameter(ElementType::F32, &DATA);
        let codes: Vec<u8> = (0..24).map(|i| i * 9).collect();
        let w = b.constant(Tensor::from_slice(&[4, 6, 1], &codes).unwrap());
        let w = b.node("convert", Op::Convert(ElementType::F32), &[w]);
        let shift = b.f32s(&[], &[-100.0]);
        let w = b.node("shift", Op::Binary(BinaryKind::Add), &[shift, w]);
        let divisor = b.f32s(&[4, 1, 1], &[64.0, 32.0, 16.0, 8.0]);
        let w = b.node("divide", Op::Binary(BinaryKind::Divide), &[w, divisor]);
        let [start, stop, step, axes] = [[1, 0], [3, 6], [1, 2], [0, 1]].map(|v| b.i64s(&v));
        let w = b.node("slice", Op::Slice, &[w, start, stop, step, axes]);
        let shape = b.i64s(&[2, 3, 1, 1]);
        let w = b.node("reshape", Op::Reshape { special_zero: false }, &[w, shape]);
        let shape = b.i64s(&[2, 3, 2, 2]);
        let w = b.node("broadcast", Op::Broadcast, &[w, shape]);
        let x = b.node("conv", Op::Convolution(conv(0)), &[x, w]);
        b.result(x);
        let (folded, _) = check(&b);
        assert_eq!(
            kinds(&folded),
            ["Parameter", "Dequantize", "Convolution", "Result"]
        );
        assert_eq!(dequantize(&folded).scale, [1.0 / 32.0, 1.0 / 16.0]);
    }

    #[test]
    fn asymmetric_weights_keep_an_integer_zero_point() {
        let mut b = Builder::default();
        let x = b.parameter(ElementType::F32, &DATA);
        let values: Vec<f32> = noise(&[2, 3, 1, 1], 2).to_f32();
        let w = b.f32s(&[2, 3, 1, 1], &values);
        let limits = [-51.0 / 255.0, 204.0 / 255.0].map(|v| b.f32s(&[1, 1, 1, 1], &[v]));
        let [low, high] = limits;
        let w = b.node("fq", Op::FakeQuantize { levels: 256 }, &[w, low, high, low, high]);
        let x = b.node("conv", Op::Convolution(conv(0)), &[x, w]);
        b.result(x);
        let (folded, _) = check(&b);
        let d = dequantize(&folded);
        // Code 51 means zero; one channel or the other reaches too far for zero point 0.
        assert!(
            d.zero_point.iter().all(|z| [0.0, 51.0, -77.0].contains(z)),
            "{d:?}"
        );
    }

    #[test]
    fn scales_along_the_input_channels_are_refused() {
        let mut b = Builder::default();
        let x = b.parameter(ElementType::F32, &DATA);
        let w = b.constant(Tensor::from_slice(&[1, 3, 1, 1], &[1i8, 2, 3]).unwrap());
        let w = b.node("convert", Op::Convert(ElementType::F32), &[w]);
        let scale = b.f32s(&[1, 3, 1, 1], &[0.5, 0.25, 0.5]);
        let w = b.node("multiply", Op::Binary(BinaryKind::Multiply), &[w, scale]);
        let x = b.node("conv", Op::Convolution(conv(0)), &[x, w]);
        b.result(x);
        let (folded, notes) = check(&b);
        assert_eq!(kinds(&folded), kinds(&b.graph));
        assert_eq!(notes.reason("conv").unwrap().code, ReasonCode::WeightsGranularity);
    }

    #[test]
    fn weights_in_f32_are_told() {
        let mut b = Builder::default();
        let x = b.parameter(ElementType::F32, &DATA);
        let w = b.f32s(&[1, 3, 1, 1], &[1.0, 2.0, 3.0]);
        let x = b.node("conv", Op::Convolution(conv(0)), &[x, w]);
        b.result(x);
        let (_, notes) = check(&b);
        assert_eq!(
            notes.reason("conv").unwrap().code,
            ReasonCode::WeightsNotQuantized
        );
    }
}
