//! Constants that a FakeQuantize takes in: scaling and shifting its input moves its input limits instead.

use std::sync::Arc;

use flow_model::graph::{Graph, Node, NodeId, OutputInfo, Value};
use flow_model::op::{BinaryKind, Op};
use flow_model::tensor::{ElementType, Tensor};

use crate::constants;
use crate::options::Options;
use crate::report::{Fate, Notes};
use crate::rewrite::{Rewriter, remove_dead};

/// Folds an Add, Subtract, Multiply or Divide by a constant into the input limits of the FakeQuantize that alone
/// reads it: `FQ(x - c; low, high) = FQ(x; low + c, high + c)`, `FQ(x * c; low, high) = FQ(x; low / c, high / c)`
/// for positive `c`, one constant or one per index of an axis. The addition of a bias stays: it belongs to the sums
/// before it.
///
/// OpenVINO folds the same way before it simulates or transforms a model (`AddFakeQuantizeFusion`,
/// `MulFakeQuantizeFusion`). In models converted from other integer formats whole ranges of codes fall on ties
/// here, so the order of f32 operations decides how they round.
pub(crate) fn fuse_constants(graph: &Graph, options: &Options, notes: &mut Notes) -> Graph {
    let users = graph.users();
    let mut rewriter = Rewriter::new(graph);
    for (id, node) in graph.iter() {
        let Some(fused) = fused(graph, &users, node, options) else {
            rewriter.keep(id);
            continue;
        };
        for name in &fused.absorbed {
            notes.moved(name, Fate::FusedInto(node.name.clone()));
        }
        let mut copy = node.clone();
        copy.inputs = rewriter.inputs(id);
        copy.inputs[0] = rewriter.value(fused.input);
        for (port, limit) in [(1, fused.low), (2, fused.high)] {
            copy.inputs[port] = Value::of(rewriter.push(Node {
                name: format!("{}/input_{}", node.name, ["low", "high"][port - 1]).into(),
                line: 0,
                outputs: vec![OutputInfo::fixed(ElementType::F32, limit.shape())],
                op: Op::Constant(limit),
                inputs: Vec::new(),
            }));
        }
        rewriter.keep_as(id, copy);
    }
    remove_dead(&rewriter.finish())
}

/// A FakeQuantize with what it takes in.
struct Fused {
    input: Value,
    low: Tensor,
    high: Tensor,
    /// Names of the operations that are gone.
    absorbed: Vec<Arc<str>>,
}

fn fused(graph: &Graph, users: &[Vec<NodeId>], node: &Node, options: &Options) -> Option<Fused> {
    let Op::FakeQuantize { .. } = node.op else {
        return None;
    };
    let limit = |port: usize| {
        let tensor = constants::tensor(graph, *node.inputs.get(port)?)?;
        let finite = tensor.to_f32().iter().all(|v| v.is_finite()) && !tensor.is_empty();
        (tensor.element_type() == ElementType::F32 && finite).then_some(tensor)
    };
    let mut fused = Fused {
        input: node.inputs[0],
        low: limit(1)?,
        high: limit(2)?,
        absorbed: Vec::new(),
    };
    loop {
        let id = fused.input.node;
        let before = graph.node(id);
        let alone = users[id.index()].len() == 1;
        if !alone || options.float_layers.contains(&*before.name) {
            break;
        }
        let Some((input, low, high)) = moved(graph, before, [&fused.low, &fused.high]) else {
            break;
        };
        fused.absorbed.push(before.name.clone());
        (fused.input, fused.low, fused.high) = (input, low, high);
    }
    (!fused.absorbed.is_empty()).then_some(fused)
}

/// What an operation with a constant reads, and the limits that stand for it.
fn moved(graph: &Graph, node: &Node, limits: [&Tensor; 2]) -> Option<(Value, Tensor, Tensor)> {
    let Op::Binary(kind) = node.op else { return None };
    let (input, constant) = constant_operand(graph, node)?;
    let constant = constants::tensor(graph, constant)?;
    let first = input == node.inputs[0];
    let undo = match kind {
        BinaryKind::Add => BinaryKind::Subtract,
        BinaryKind::Subtract if first => BinaryKind::Add,
        BinaryKind::Multiply => BinaryKind::Divide,
        BinaryKind::Divide if first => BinaryKind::Multiply,
        _ => return None,
    };
    let values = constant.to_f32();
    let scales = matches!(kind, BinaryKind::Multiply | BinaryKind::Divide);
    let usable = values.iter().all(|v| v.is_finite() && (!scales || *v > 0.0));
    let same_shape = graph.info(input).shape == node.outputs[0].shape;
    if constant.element_type() != ElementType::F32 || values.is_empty() || !usable || !same_shape {
        return None;
    }
    if makes_sums(graph, input) {
        return None;
    }
    let uniform = values.iter().all(|v| *v == values[0]);
    let constant = match uniform {
        true => Tensor::scalar(values[0]),
        false => constant,
    };
    let along_one = |t: &Tensor| t.shape().iter().filter(|&&d| d != 1).count() <= 1;
    let run = |limit: &Tensor| {
        let inputs = [limit.clone(), constant.clone()];
        let moved = flow_model::ops::evaluate(&Op::Binary(undo), &inputs)
            .ok()?
            .into_iter()
            .next()?;
        along_one(&moved).then_some(moved)
    };
    let (low, high) = (run(limits[0])?, run(limits[1])?);
    let widths = |low: &Tensor, high: &Tensor| -> Option<Vec<f32>> {
        let op = Op::Binary(BinaryKind::Subtract);
        let width = flow_model::ops::evaluate(&op, &[high.clone(), low.clone()]).ok()?;
        Some(width.first()?.to_f32())
    };
    let (before, after) = (widths(limits[0], limits[1])?, widths(&low, &high)?);
    let kept = |(i, width): (usize, &f32)| {
        let was = before.get(i).or(before.first());
        width.is_normal() && was.is_some_and(|w| (*w > 0.0) == (*width > 0.0))
    };
    after.iter().enumerate().all(kept).then_some((input, low, high))
}

/// The computed and the constant input of an operation of two.
fn constant_operand(graph: &Graph, node: &Node) -> Option<(Value, Value)> {
    let is_constant = |v: &Value| matches!(graph.node(v.node).op, Op::Constant(_));
    match node.inputs[..] {
        [a, b] if is_constant(&b) && !is_constant(&a) => Some((a, b)),
        [a, b] if is_constant(&a) && !is_constant(&b) => Some((b, a)),
        _ => None,
    }
}

/// Whether a value is what a convolution or a matrix product sums up.
fn makes_sums(graph: &Graph, value: Value) -> bool {
    matches!(
        graph.node(value.node).op,
        Op::Convolution(_) | Op::GroupConvolution(_) | Op::MatMul { .. }
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Builder, conv, kinds};

    #[test]
    fn shifts_and_scales_move_the_limits_and_biases_stay() {
        let mut b = Builder::default();
        let x = b.parameter(ElementType::F32, &[1, 1, 2, 2]);
        let w = b.weights(&[1, 1, 1, 1], &[3], &[0.5]);
        let x = b.node("conv", Op::Convolution(conv(0)), &[x, w]);
        let [bias, two, one] = [0.25, 2.0, 1.0].map(|v| b.f32s(&[1, 1, 1, 1], &[v]));
        let x = b.node("bias", Op::Binary(BinaryKind::Add), &[x, bias]);
        let x = b.node("scale", Op::Binary(BinaryKind::Multiply), &[two, x]);
        let x = b.node("shift", Op::Binary(BinaryKind::Subtract), &[x, one]);
        let x = b.fake_quantize("fq", x, -3.0, 5.0);
        b.result(x);
        let mut notes = Notes::default();
        let after = fuse_constants(&b.graph, &Options::default(), &mut notes);
        assert_eq!(
            kinds(&after),
            [
                "Parameter",
                "Convert",
                "Multiply",
                "Convolution",
                "Add",
                "FakeQuantize",
                "Result"
            ]
        );
        let fq = after.nodes.iter().find(|n| &*n.name == "fq").unwrap();
        let limit = |port: usize| constants::tensor(&after, fq.inputs[port]).unwrap().to_f32()[0];
        assert_eq!([1, 2, 3, 4].map(limit), [-1.0, 3.0, -3.0, 5.0]);
        assert_eq!(notes.fate("scale"), Some(&Fate::FusedInto("fq".into())));
    }

    #[test]
    fn constants_per_channel_give_limits_per_channel() {
        let mut b = Builder::default();
        let x = b.parameter(ElementType::F32, &[1, 2, 2, 2]);
        let factors = b.f32s(&[1, 2, 1, 1], &[2.0, 0.5]);
        let shifts = b.f32s(&[2, 1, 1], &[1.0, -1.0]);
        let x = b.node("scale", Op::Binary(BinaryKind::Multiply), &[x, factors]);
        let x = b.node("shift", Op::Binary(BinaryKind::Add), &[x, shifts]);
        let x = b.fake_quantize("fq", x, -3.0, 5.0);
        b.result(x);
        let after = fuse_constants(&b.graph, &Options::default(), &mut Notes::default());
        assert_eq!(kinds(&after), ["Parameter", "FakeQuantize", "Result"]);
        let fq = after.nodes.iter().find(|n| &*n.name == "fq").unwrap();
        let limit = |port: usize| constants::tensor(&after, fq.inputs[port]).unwrap();
        assert_eq!(limit(1).to_f32(), [-2.0, -4.0]);
        assert_eq!(limit(2).to_f32(), [2.0, 12.0]);
        assert_eq!(limit(1).shape(), [1, 2, 1, 1]);
        crate::testing::check(&b.graph, &crate::testing::noise(&[1, 2, 2, 2], 1), 1e-6);
    }

    #[test]
    fn factors_that_change_the_order_stay() {
        let mut b = Builder::default();
        let x = b.parameter(ElementType::F32, &[1, 2, 2, 2]);
        let factors = b.f32s(&[1, 2, 1, 1], &[2.0, -0.5]);
        let x = b.node("scale", Op::Binary(BinaryKind::Multiply), &[x, factors]);
        let x = b.fake_quantize("fq", x, -3.0, 5.0);
        b.result(x);
        let after = fuse_constants(&b.graph, &Options::default(), &mut Notes::default());
        assert_eq!(kinds(&after), kinds(&b.graph));
    }

    #[test]
    fn what_others_read_stays() {
        let mut b = Builder::default();
        let x = b.parameter(ElementType::F32, &[1, 1, 2, 2]);
        let two = b.f32s(&[], &[2.0]);
        let y = b.node("scale", Op::Binary(BinaryKind::Multiply), &[x, two]);
        let x = b.fake_quantize("fq", y, 0.0, 1.0);
        b.result(x);
        b.result(y);
        let after = fuse_constants(&b.graph, &Options::default(), &mut Notes::default());
        assert_eq!(kinds(&after), kinds(&b.graph));
    }
}
