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
pub(crate) const MAX_GROWTH: usize = 1 << 20;

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
        Op::Convolution(_)
            | Op::GroupConvolution(_)
            | Op::ConvolutionBackpropData(_)
            | Op::GroupConvolutionBackpropData(_)
            | Op::MatMul { .. }
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
    flow_model::ops::fold(&node.op, &inputs)
}

#[cfg(test)]
mod tests {
    use flow_model::op::BinaryKind;
    use flow_model::tensor::ElementType;

    use super::*;
    use crate::testing::{Builder, conv, kinds};

    #[test]
    fn decompressed_limits_fold_and_chains_of_weights_stay() {
        let mut b = Builder::default();
        let x = b.parameter(ElementType::F32, &[1, 1, 2, 2]);
        let half = Tensor::from_f64(ElementType::F16, &[], &[2.0]).unwrap();
        let half = b.constant(half);
        let high = b.node("decompress", Op::Convert(ElementType::F32), &[half]);
        let low = b.f32s(&[], &[0.0]);
        let x = b.node("fq", Op::FakeQuantize { levels: 256 }, &[x, low, high, low, high]);
        let w = b.weights(&[1, 1, 1, 1], &[3], &[0.5]);
        let x = b.node("conv", Op::Convolution(conv(0)), &[x, w]);
        let (two, three) = (b.f32s(&[], &[2.0]), b.f32s(&[], &[3.0]));
        let six = b.node("product", Op::Binary(BinaryKind::Multiply), &[two, three]);
        let x = b.node("add", Op::Binary(BinaryKind::Add), &[x, six]);
        b.result(x);
        let folded = fold(&b.graph, &Options::default(), &mut Notes::default());
        assert_eq!(
            kinds(&folded),
            [
                "Parameter",
                "FakeQuantize",
                "Convert",
                "Multiply",
                "Convolution",
                "Add",
                "Result"
            ]
        );
        let of = |name: &str| folded.nodes.iter().find(|n| &*n.name == name).unwrap();
        for (name, value) in [("product", 6.0), ("decompress", 2.0)] {
            let Op::Constant(tensor) = &of(name).op else {
                panic!("{name} is folded")
            };
            assert_eq!(tensor.to_f32(), [value]);
        }
    }

    #[test]
    fn constants_do_not_grow_without_bound() {
        let mut b = Builder::default();
        let one = b.f32s(&[], &[1.0]);
        let shape = b.i64s(&[1 << 20, 1 << 10]);
        let huge = b.node("huge", Op::Broadcast, &[one, shape]);
        b.result(huge);
        let folded = fold(&b.graph, &Options::default(), &mut Notes::default());
        assert!(kinds(&folded).contains(&"Broadcast"));
    }
}
