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
/// for positive `c`. Limits and constant are per tensor. The addition of a bias stays: it belongs to the sums
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
                op: Op::Constant(Tensor::scalar(limit)),
                inputs: Vec::new(),
                outputs: vec![OutputInfo::fixed(ElementType::F32, &[])],
            }));
        }
        rewriter.keep_as(id, copy);
    }
    remove_dead(&rewriter.finish())
}

/// A FakeQuantize with what it takes in.
struct Fused {
    input: Value,
    low: f32,
    high: f32,
    /// Names of the operations that are gone.
    absorbed: Vec<Arc<str>>,
}

fn fused(graph: &Graph, users: &[Vec<NodeId>], node: &Node, options: &Options) -> Option<Fused> {
    let Op::FakeQuantize { .. } = node.op else {
        return None;
    };
    let scalar = |value: Value| match constants::tensor(graph, value)?.to_f32()[..] {
        [one] if one.is_finite() => Some(one),
        _ => None,
    };
    let mut fused = Fused {
        input: node.inputs[0],
        low: scalar(node.inputs[1])?,
        high: scalar(node.inputs[2])?,
        absorbed: Vec::new(),
    };
    loop {
        let id = fused.input.node;
        let before = graph.node(id);
        let Op::Binary(kind) = before.op else { break };
        let alone = users[id.index()].len() == 1;
        let kept = options.float_layers.contains(&*before.name);
        let step = constant_operand(graph, before)
            .filter(|&(input, _)| alone && !kept && !makes_sums(graph, input))
            .and_then(|(input, c)| {
                let c = scalar(c)?;
                let same_shape = graph.info(input).shape == before.outputs[0].shape;
                let first = input == before.inputs[0];
                let limits = [fused.low, fused.high].map(|limit| match kind {
                    BinaryKind::Add => Some(limit - c),
                    BinaryKind::Subtract if first => Some(limit + c),
                    BinaryKind::Multiply if c > 0.0 => Some(limit / c),
                    BinaryKind::Divide if first && c > 0.0 => Some(limit * c),
                    _ => None,
                });
                let [Some(low), Some(high)] = limits else {
                    return None;
                };
                let usable = (high - low).is_normal() && (high > low) == (fused.high > fused.low);
                (same_shape && usable).then_some((input, low, high))
            });
        let Some((input, low, high)) = step else { break };
        fused.absorbed.push(before.name.clone());
        (fused.input, fused.low, fused.high) = (input, low, high);
    }
    (!fused.absorbed.is_empty()).then_some(fused)
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
