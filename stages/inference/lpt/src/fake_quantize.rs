//! FakeQuantize: its limits, and its decomposition into Quantize and Dequantize.

use flow_model::graph::{Graph, Node, NodeId, OutputInfo, Value};
use flow_model::op::{Dequantize, Op, Quantize};
use flow_model::tensor::{ElementType, Tensor};

use crate::constants;
use crate::dequantization::{from_pairs, of_interval};
use crate::options::{Numerics, Options};
use crate::report::{Notes, Reason, ReasonCode};
use crate::rewrite::Rewriter;

/// Most levels that an 8-bit code tells apart.
const MAX_LEVELS: u32 = 256;

/// The limits of a FakeQuantize, each one value or one per index of `axis`.
struct Limits {
    input_low: Vec<f32>,
    input_high: Vec<f32>,
    output_low: Vec<f32>,
    output_high: Vec<f32>,
    axis: Option<usize>,
}

/// Replaces each FakeQuantize of an activation with at most 256 levels by a Quantize to u8 codes
/// `0..levels` and a Dequantize, which together give its literal output. Others stay, with a reason.
///
/// All codes are u8: a signed interval has its zero point in the middle, so that every kernel sees one type.
pub(crate) fn decompose(graph: &Graph, options: &Options, notes: &mut Notes) -> Graph {
    let users = graph.users();
    let mut rewriter = Rewriter::new(graph);
    for (id, node) in graph.iter() {
        let Op::FakeQuantize { levels } = node.op else {
            rewriter.keep(id);
            continue;
        };
        let decomposed = if options.float_layers.contains(&*node.name) {
            Err(by_option(&node.name))
        } else {
            let rounds =
                options.numerics == Numerics::OpenVino && rounds_zero_point(graph, &users, id, levels);
            decomposition(graph, node, levels, rounds)
        };
        match decomposed {
            Err(reason) => {
                notes.stays_float(&node.name, reason);
                rewriter.keep(id);
            }
            Ok((quantize, dequantize)) => {
                push_pair(&mut rewriter, id, node, quantize, dequantize);
            }
        }
    }
    rewriter.finish()
}

/// Adds a Quantize and a Dequantize for a FakeQuantize.
pub(crate) fn push_pair(
    rewriter: &mut Rewriter<'_>,
    id: NodeId,
    node: &Node,
    quantize: Quantize,
    dequantize: Dequantize,
) {
    let codes = rewriter.push(Node {
        name: node.name.clone(),
        line: node.line,
        inputs: vec![rewriter.value(node.inputs[0])],
        outputs: vec![OutputInfo {
            element_type: quantize.element_type,
            shape: node.outputs[0].shape.clone(),
            names: Vec::new(),
        }],
        op: Op::Quantize(quantize),
    });
    let value = rewriter.push(Node {
        name: format!("{}/dequantize", node.name).into(),
        line: 0,
        op: Op::Dequantize(dequantize),
        inputs: vec![Value::of(codes)],
        outputs: node.outputs.clone(),
    });
    rewriter.replace(Value::of(id), Value::of(value));
}

/// The reason of a layer that the options name.
pub(crate) fn by_option(name: &str) -> Reason {
    Reason::new(
        ReasonCode::ByOption,
        format!("\"{name}\" is listed in float_layers"),
    )
}

/// Whether OpenVINO rounds the zero point of a FakeQuantize: it does where it makes codes, which it does of some numbers of
/// levels; of weights only those of ordinary and grouped convolutions, with 255 or 256 levels.
fn rounds_zero_point(graph: &Graph, users: &[Vec<NodeId>], id: NodeId, levels: u32) -> bool {
    let mut source = graph.node(id).inputs[0];
    if let Op::Convert(_) = graph.node(source.node).op {
        source = graph.node(source.node).inputs[0];
    }
    let Op::Constant(_) = graph.node(source.node).op else {
        return [15, 16, 255, 256].contains(&levels);
    };
    let mut readers = users[id.index()].clone();
    while let [moved] = readers[..]
        && crate::propagate::moves_values(&graph.node(moved).op)
    {
        readers.clone_from(&users[moved.index()]);
    }
    let convolves = |&reader: &NodeId| {
        matches!(
            graph.node(reader).op,
            Op::Convolution(_) | Op::GroupConvolution(_)
        )
    };
    [255, 256].contains(&levels) && readers.iter().all(convolves)
}

fn decomposition(
    graph: &Graph,
    node: &Node,
    levels: u32,
    rounds: bool,
) -> Result<(Quantize, Dequantize), Reason> {
    if !(2..=MAX_LEVELS).contains(&levels) {
        return Err(Reason::new(
            ReasonCode::TooManyLevels,
            format!("\"{}\" has {levels} levels", node.name),
        ));
    }
    let mut limits = read_limits(graph, node)?;
    let count = limits.input_low.len();
    // A FakeQuantize that only steps has two levels, whatever it says.
    let steps = (0..count).all(|i| limits.input_low[i] == limits.input_high[i]);
    let levels = if steps { 2 } else { levels };
    let mut pairs = Vec::with_capacity(count);
    for i in 0..count {
        let (input_low, input_high) = (limits.input_low[i], limits.input_high[i]);
        let (low, high) = (limits.output_low[i], limits.output_high[i]);
        let degenerate = |what: &str| {
            Reason::new(
                ReasonCode::DegenerateLimits,
                format!(
                    "\"{}\" {what}: input limits {input_low}..{input_high}, output limits {low}..{high}",
                    node.name
                ),
            )
        };
        if ![input_low, input_high, low, high].iter().all(|v| v.is_finite()) {
            return Err(degenerate("has limits that are not finite"));
        }
        if low == high {
            // One value for every input: all lie below the interval, and code 0 means that value. The interval
            // has a width so that a scale can be computed from it.
            limits.input_low[i] = f32::MAX / 2.0;
            limits.input_high[i] = f32::MAX;
            pairs.push((1.0, -f64::from(low) + 0.0));
            continue;
        }
        if input_low == input_high {
            limits.input_high[i] = step_end(input_low);
        } else if !(input_high - input_low).is_normal() {
            return Err(degenerate("has an input interval without width"));
        }
        let (scale, zero_point) = of_interval(low, high, levels)
            .ok_or_else(|| degenerate("has an output interval too narrow or wide"))?;
        // A step is two values, not a grid with a zero on it.
        pairs.push(match rounds && !steps {
            true => (scale, zero_point.round_ties_even() + 0.0),
            false => (scale, zero_point),
        });
    }
    let quantize = Quantize {
        input_low: limits.input_low,
        input_high: limits.input_high,
        axis: limits.axis,
        levels,
        low: 0,
        high: levels as i32 - 1,
        element_type: ElementType::U8,
    };
    Ok((quantize, from_pairs(&pairs, limits.axis)))
}

/// Upper end of an interval that begins at `low` and in which no value lies: everything above `low` is above it
/// too, and a scale can be computed from its width. (Next to 0 values below 1e-36 may lie in it.)
fn step_end(low: f32) -> f32 {
    let next = low.next_up();
    if next - low < 1e-36 { low + 1e-36 } else { next }
}

fn read_limits(graph: &Graph, node: &Node) -> Result<Limits, Reason> {
    let rank = graph.info(node.inputs[0]).shape.len();
    let mut tensors: Vec<Tensor> = Vec::with_capacity(4);
    for (&input, what) in
        node.inputs[1..]
            .iter()
            .zip(["input low", "input high", "output low", "output high"])
    {
        tensors.push(constants::tensor(graph, input).ok_or_else(|| {
            Reason::new(
                ReasonCode::DynamicLimits,
                format!("the {what} limit of \"{}\" is not constant", node.name),
            )
        })?);
    }
    let granularity = || {
        let shapes: Vec<_> = tensors.iter().map(Tensor::shape).collect();
        Reason::new(
            ReasonCode::LimitsGranularity,
            format!("the limits of \"{}\" have shapes {shapes:?}", node.name),
        )
    };
    let mut axis = None;
    let mut length = 1;
    for tensor in &tensors {
        let shape = tensor.shape();
        // Leading axes of length 1 beyond the input's rank change nothing but the rank of the result.
        let offset = rank.checked_sub(shape.len()).ok_or_else(granularity)?;
        for (i, &d) in shape.iter().enumerate().filter(|&(_, &d)| d != 1) {
            let known = graph.info(node.inputs[0]).shape[offset + i];
            let same = axis.is_none_or(|a| a == offset + i) && known.is_none_or(|k| k == d);
            if !same || d == 0 {
                return Err(granularity());
            }
            axis = Some(offset + i);
            length = d;
        }
    }
    let mut vectors = tensors.iter().map(|t| {
        let values = t.to_f32();
        if values.len() == 1 {
            vec![values[0]; length]
        } else {
            values
        }
    });
    let mut next = || vectors.next().unwrap_or_default();
    let (input_low, input_high, output_low, output_high) = (next(), next(), next(), next());
    let uniform = [&input_low, &input_high, &output_low, &output_high]
        .iter()
        .all(|v| v.iter().all(|x| *x == v[0]));
    let mut limits = Limits {
        input_low,
        input_high,
        output_low,
        output_high,
        axis,
    };
    if uniform {
        limits.axis = None;
        for v in [
            &mut limits.input_low,
            &mut limits.input_high,
            &mut limits.output_low,
            &mut limits.output_high,
        ] {
            v.truncate(1);
        }
    }
    Ok(limits)
}

#[cfg(test)]
mod tests {
    use flow_model::evaluate;

    use super::*;
    use crate::testing::{Builder, conv, kinds, noise};

    fn limits(low: &[f32], high: &[f32], levels: u32) -> (Graph, Graph, Notes) {
        let mut b = Builder::default();
        let x = b.parameter(ElementType::F32, &[1, 2, 8, 8]);
        let low = b.f32s(&[1, low.len(), 1, 1], low);
        let high = b.f32s(&[1, high.len(), 1, 1], high);
        let x = b.node("fq", Op::FakeQuantize { levels }, &[x, low, high, low, high]);
        b.result(x);
        let mut notes = Notes::default();
        let after = decompose(&b.graph, &Options::default(), &mut notes);
        (b.graph, after, notes)
    }

    #[test]
    fn the_value_of_the_code_is_the_literal_output() {
        for (low, high, levels) in [
            (vec![-0.5], vec![0.7], 256),
            (vec![-0.5], vec![0.5], 255),
            (vec![-0.5, 0.0], vec![0.5, 0.9], 16),
            (vec![0.2, 0.3], vec![0.2, 0.3], 256),
            (vec![0.0, -0.5], vec![0.0, 0.5], 256),
            (vec![0.5], vec![-0.5], 256),
            (vec![-1e-3], vec![2e-3], 2),
            (vec![-0.7], vec![0.9], 15),
        ] {
            let (before, after, _) = limits(&low, &high, levels);
            assert_eq!(kinds(&after), ["Parameter", "Quantize", "Dequantize", "Result"]);
            let input = [noise(&[1, 2, 8, 8], 3)];
            let (a, b) = (
                evaluate(&before, &input).unwrap(),
                evaluate(&after, &input).unwrap(),
            );
            for (x, y) in a[0].to_f32().iter().zip(b[0].to_f32()) {
                assert!(
                    (x - y).abs() <= 1e-6,
                    "{low:?}..{high:?} of {levels}: {x} became {y}"
                );
            }
        }
    }

    #[test]
    fn openvino_rounds_zero_points_of_weights_in_convolutions_only() {
        let rounded = |convolution: bool, levels: u32| -> bool {
            let mut b = Builder::default();
            let (data, shape) = match convolution {
                true => (vec![1, 2, 3, 3], vec![4, 2, 1, 1]),
                false => (vec![3, 2], vec![2, 4]),
            };
            let x = b.parameter(ElementType::F32, &data);
            let x = b.fake_quantize("fq", x, -128.0 / 127.0, 1.0);
            let w = b.f32s(&shape, &[-0.25, 0.1, 0.3, 0.5, -0.1, 0.0, 0.2, 0.4]);
            let (low, high) = (b.f32s(&[], &[-0.25]), b.f32s(&[], &[0.5123]));
            let w = b.node("weights", Op::FakeQuantize { levels }, &[w, low, high, low, high]);
            let y = match convolution {
                true => b.node("y", Op::Convolution(conv(0)), &[x, w]),
                false => {
                    let op = Op::MatMul {
                        transpose_a: false,
                        transpose_b: false,
                    };
                    b.node("y", op, &[x, w])
                }
            };
            b.result(y);
            let options = Options {
                numerics: Numerics::OpenVino,
                ..Options::default()
            };
            let lowered = crate::transform(&b.graph, &options).unwrap();
            let input = [noise(&data, 5)];
            let before = evaluate(&b.graph, &input).unwrap()[0].to_f32();
            let after = evaluate(&lowered.graph, &input).unwrap()[0].to_f32();
            let apart = before.iter().zip(&after).map(|(a, b)| (a - b).abs());
            apart.fold(0.0, f32::max) > 1e-4
        };
        assert!(rounded(true, 256));
        for (convolution, levels) in [(true, 16), (false, 16), (false, 256)] {
            assert!(!rounded(convolution, levels), "{convolution} {levels}");
        }
    }

    #[test]
    fn an_interval_without_width_is_a_step() {
        for (input_low, input_high, levels, numerics) in [
            (vec![0.25], vec![0.25], 256, Numerics::Literal),
            (vec![0.25], vec![0.25], 256, Numerics::OpenVino),
            (vec![0.0], vec![0.0], 2, Numerics::OpenVino),
            (vec![-0.5, 0.0], vec![-0.5, 0.5], 256, Numerics::Literal),
        ] {
            let mut b = Builder::default();
            let x = b.parameter(ElementType::F32, &[1, 2, 1, 5]);
            let low = b.f32s(&[1, input_low.len(), 1, 1], &input_low);
            let high = b.f32s(&[1, input_high.len(), 1, 1], &input_high);
            let outputs = [-1.0, 2.0].map(|v| b.f32s(&[], &[v]));
            let inputs = [&[x, low, high][..], &outputs].concat();
            let x = b.node("fq", Op::FakeQuantize { levels }, &inputs);
            b.result(x);
            let options = Options {
                numerics,
                ..Options::default()
            };
            let after = decompose(&b.graph, &options, &mut Notes::default());
            assert_eq!(kinds(&after), ["Parameter", "Quantize", "Dequantize", "Result"]);
            let at = input_low[0];
            let values = [at - 1e-3, at, at + 1e-3, -9.0, 9.0].repeat(2);
            let input = [Tensor::from_slice(&[1, 2, 1, 5], &values).unwrap()];
            let (a, b) = (
                evaluate(&b.graph, &input).unwrap()[0].to_f32(),
                evaluate(&after, &input).unwrap()[0].to_f32(),
            );
            assert_eq!(a[..5], [-1.0, -1.0, 2.0, -1.0, 2.0]);
            for (x, y) in a.iter().zip(&b) {
                assert!((x - y).abs() <= 1e-6, "{x} became {y}");
            }
        }
    }

    #[test]
    fn what_8_bits_cannot_hold_stays_with_a_reason() {
        let reason = |low: &[f32], high: &[f32], levels| {
            let (before, after, notes) = limits(low, high, levels);
            assert_eq!(kinds(&before), kinds(&after));
            notes.reason("fq").map(|r| r.code)
        };
        assert_eq!(reason(&[0.0], &[1.0], 65536), Some(ReasonCode::TooManyLevels));
        assert_eq!(
            reason(&[0.0], &[f32::NAN], 256),
            Some(ReasonCode::DegenerateLimits)
        );
        assert_eq!(
            reason(&[0.0], &[f32::INFINITY], 256),
            Some(ReasonCode::DegenerateLimits)
        );
    }

    #[test]
    fn equal_limits_per_channel_are_limits_per_tensor() {
        let (_, after, _) = limits(&[0.0, 0.0], &[1.0, 1.0], 256);
        let quantize = after.nodes.iter().find_map(|n| match &n.op {
            Op::Quantize(q) => Some(q),
            _ => None,
        });
        assert_eq!(quantize.map(|q| q.axis), Some(None));
    }
}
