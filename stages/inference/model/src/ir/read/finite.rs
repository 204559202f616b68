//! Limits of FakeQuantize and scales of weights: numbers, or the network computes nothing.

use crate::error::OpError;
use crate::graph::{Graph, Node, Value};
use crate::op::{BinaryKind, Op};
use crate::tensor::Tensor;

/// The constant at a value, or before the Convert that makes it.
fn constant(graph: &Graph, value: Value) -> Option<&Tensor> {
    let node = graph.node(value.node);
    match (&node.op, node.inputs.first()) {
        (Op::Constant(tensor), _) => Some(tensor),
        (Op::Convert(_), Some(&before)) => match &graph.node(before.node).op {
            Op::Constant(tensor) => Some(tensor),
            _ => None,
        },
        _ => None,
    }
}

fn check(graph: &Graph, value: Value, what: &str) -> Result<(), OpError> {
    let Some(tensor) = constant(graph, value).filter(|t| t.element_type().is_float()) else {
        return Ok(());
    };
    match tensor.to_f64().iter().position(|v| !v.is_finite()) {
        Some(at) => Err(OpError(format!(
            "{what} holds {} at place {at}; expected finite numbers: calibrate the model again",
            tensor.to_f64()[at]
        ))),
        None => Ok(()),
    }
}

/// Whether a value is 8-bit codes, or fewer bits, converted to floats, perhaps less a zero point.
fn is_codes(graph: &Graph, value: Value) -> bool {
    let node = graph.node(value.node);
    match &node.op {
        Op::Convert(_) => constant(graph, value)
            .is_some_and(|t| t.element_type().is_integer() && t.element_type().bits() <= 8),
        Op::Binary(BinaryKind::Subtract) => {
            let before = node.inputs.first().map(|v| graph.node(v.node));
            before.is_some_and(|n| matches!(n.op, Op::Convert(_))) && is_codes(graph, node.inputs[0])
        }
        _ => false,
    }
}

/// Fails where a constant limit or scale of the node is NaN or infinite.
pub(super) fn check_quantization(graph: &Graph, node: &Node) -> Result<(), OpError> {
    match (&node.op, node.inputs.as_slice()) {
        (Op::FakeQuantize { .. }, &[_, il, ih, ol, oh]) => {
            let limits = [
                (il, "input low"),
                (ih, "input high"),
                (ol, "output low"),
                (oh, "output high"),
            ];
            limits
                .into_iter()
                .try_for_each(|(value, what)| check(graph, value, what))
        }
        (Op::Binary(BinaryKind::Multiply), &[a, b]) if is_codes(graph, a) => check(graph, b, "the scale"),
        (Op::Binary(BinaryKind::Multiply), &[a, b]) if is_codes(graph, b) => check(graph, a, "the scale"),
        (Op::Binary(BinaryKind::Subtract), &[a, b]) if is_codes(graph, a) => {
            check(graph, b, "the zero point")
        }
        _ => Ok(()),
    }
}
