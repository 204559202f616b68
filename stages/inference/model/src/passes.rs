//! Passes that any network profits from: constant folding and removal of dead nodes.

use crate::error::ModelError;
use crate::graph::{Graph, Node, NodeId, Value};
use crate::op::{BinaryKind, Op};
use crate::ops;
use crate::tensor::{ElementType, Tensor};

/// Removes nodes that no Result needs. Parameters stay: they are the network's signature.
pub fn eliminate_dead(graph: &Graph) -> Graph {
    let mut live = vec![false; graph.nodes.len()];
    for &id in graph.results.iter().chain(&graph.parameters) {
        live[id.index()] = true;
    }
    for (id, node) in graph.iter().collect::<Vec<_>>().into_iter().rev() {
        if live[id.index()] {
            node.inputs.iter().for_each(|v| live[v.node.index()] = true);
        }
    }
    let mut ids = vec![NodeId(0); graph.nodes.len()];
    let mut kept = Graph {
        name: graph.name.clone(),
        ..Graph::default()
    };
    for (id, node) in graph.iter().filter(|(id, _)| live[id.index()]) {
        let inputs = node
            .inputs
            .iter()
            .map(|v| Value {
                node: ids[v.node.index()],
                port: v.port,
            })
            .collect();
        ids[id.index()] = kept.push(Node {
            inputs,
            ..node.clone()
        });
    }
    let moved = |list: &[NodeId]| list.iter().map(|id| ids[id.index()]).collect();
    kept.parameters = moved(&graph.parameters);
    kept.results = moved(&graph.results);
    kept
}

/// Replaces what can be computed without inputs by constants, and removes what nothing needs any more.
///
/// Quantized weights stay as they are, for low precision transformations to find: constants of 8 or fewer
/// bits with the Convert, Subtract, Multiply, Reshape, Transpose, Squeeze and Unsqueeze after them, and
/// FakeQuantize of constants. A zero point that is only converted is folded.
///
/// # Errors
/// If the shapes of the folded graph do not fit, which a graph that was read does not cause.
pub fn fold_constants(graph: &Graph) -> Result<Graph, ModelError> {
    let mut folded = graph.clone();
    // The constant value of the first output of each node, and whether it is part of quantized weights.
    let mut values: Vec<Option<Tensor>> = vec![None; folded.nodes.len()];
    let mut quantized = vec![false; folded.nodes.len()];
    let zero_points = only_zero_points(graph);
    for index in 0..folded.nodes.len() {
        let node = &folded.nodes[index];
        if let Op::Constant(tensor) = &node.op {
            values[index] = Some(tensor.clone());
            let small = tensor.element_type().bits() <= 8 && tensor.element_type() != ElementType::Boolean;
            quantized[index] = small && !zero_points[index];
            continue;
        }
        if node.inputs.is_empty() || matches!(node.op, Op::Result) || node.outputs.len() != 1 {
            continue;
        }
        let from_weights = node.inputs.first().is_some_and(|v| quantized[v.node.index()]);
        quantized[index] = match &node.op {
            Op::FakeQuantize { .. } => true,
            op => from_weights && keeps_weights(op),
        };
        if quantized[index] {
            continue;
        }
        let value = if let Op::ShapeOf(element_type) = node.op {
            shape_value(&folded, node.inputs[0], element_type)
        } else {
            let inputs: Option<Vec<Tensor>> = node
                .inputs
                .iter()
                .map(|v| values[v.node.index()].clone().filter(|_| v.port == 0))
                .collect();
            inputs.and_then(|inputs| ops::fold(&node.op, &inputs)?.pop())
        };
        if let Some(tensor) = value {
            values[index] = Some(tensor.clone());
            folded.nodes[index].op = Op::Constant(tensor);
            folded.nodes[index].inputs.clear();
        }
    }
    let mut folded = eliminate_dead(&folded);
    folded.infer_shapes()?;
    Ok(folded)
}

/// Whether quantized weights stay quantized weights through an operation.
fn keeps_weights(op: &Op) -> bool {
    matches!(
        op,
        Op::Convert(_)
            | Op::Binary(BinaryKind::Subtract | BinaryKind::Multiply)
            | Op::Reshape { .. }
            | Op::Transpose
            | Op::Squeeze
            | Op::Unsqueeze
    )
}

/// For each node whether it is a constant that is only subtracted, directly or through one Convert.
fn only_zero_points(graph: &Graph) -> Vec<bool> {
    let users = graph.users();
    let subtracted = |id: NodeId| {
        let users = &users[id.index()];
        !users.is_empty()
            && users.iter().all(|&user| {
                let node = graph.node(user);
                matches!(node.op, Op::Binary(BinaryKind::Subtract)) && node.inputs[0].node != id
            })
    };
    graph
        .iter()
        .map(|(id, node)| {
            let converts = &users[id.index()];
            let through = !converts.is_empty()
                && converts
                    .iter()
                    .all(|&u| matches!(graph.node(u).op, Op::Convert(_)) && subtracted(u));
            matches!(node.op, Op::Constant(_)) && (through || subtracted(id))
        })
        .collect()
}

/// The shape of a value as a constant, if it is fixed.
fn shape_value(graph: &Graph, value: Value, element_type: ElementType) -> Option<Tensor> {
    let shape = graph.info(value).static_shape()?;
    let lengths: Vec<i128> = shape.iter().map(|&d| d as i128).collect();
    Tensor::from_i128(element_type, &[lengths.len()], &lengths).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::OutputInfo;

    fn push(graph: &mut Graph, op: Op, inputs: &[NodeId]) -> NodeId {
        let name = format!("n{}", graph.nodes.len());
        graph.push(Node {
            name: name.as_str().into(),
            line: 0,
            op,
            inputs: inputs.iter().map(|&id| Value::of(id)).collect(),
            outputs: Vec::new(),
        })
    }

    fn finish(mut graph: Graph, result: NodeId) -> Graph {
        let id = push(&mut graph, Op::Result, &[result]);
        graph.results = vec![id];
        graph.infer_shapes().unwrap();
        graph
    }

    fn kinds(graph: &Graph) -> Vec<&'static str> {
        graph.nodes.iter().map(|n| n.op.type_name()).collect()
    }

    #[test]
    fn quantized_weights_stay_and_zero_points_fold() {
        let mut graph = Graph::default();
        let weights = Tensor::from_slice(&[2], &[1i8, 2]).unwrap();
        let weights = push(&mut graph, Op::Constant(weights), &[]);
        let weights = push(&mut graph, Op::Convert(ElementType::F32), &[weights]);
        let zero = push(&mut graph, Op::Constant(Tensor::scalar(3u8)), &[]);
        let zero = push(&mut graph, Op::Convert(ElementType::F32), &[zero]);
        let weights = push(&mut graph, Op::Binary(BinaryKind::Subtract), &[weights, zero]);
        let scale = push(&mut graph, Op::Constant(Tensor::scalar(half::f16::ONE)), &[]);
        let scale = push(&mut graph, Op::Convert(ElementType::F32), &[scale]);
        let weights = push(&mut graph, Op::Binary(BinaryKind::Multiply), &[weights, scale]);
        let folded = fold_constants(&finish(graph, weights)).unwrap();
        let expected = [
            "Const", "Convert", "Const", "Subtract", "Const", "Multiply", "Result",
        ];
        assert_eq!(kinds(&folded), expected);
    }

    #[test]
    fn shapes_fold_to_constants() {
        let mut graph = Graph::default();
        let x = push(&mut graph, Op::Parameter, &[]);
        graph.nodes[0].outputs = vec![OutputInfo::fixed(ElementType::F32, &[2, 3])];
        graph.parameters = vec![x];
        let shape = push(&mut graph, Op::ShapeOf(ElementType::I64), &[x]);
        let zero = push(
            &mut graph,
            Op::Constant(Tensor::from_slice(&[1], &[0i64]).unwrap()),
            &[],
        );
        let op = Op::Reduce {
            kind: crate::op::ReduceKind::Prod,
            keep_dims: true,
        };
        let count = push(&mut graph, op, &[shape, zero]);
        let flat = push(&mut graph, Op::Reshape { special_zero: false }, &[x, count]);
        let graph = finish(graph, flat);
        assert_eq!(graph.info(Value::of(flat)).shape, [Some(6)]);
        let folded = fold_constants(&graph).unwrap();
        assert_eq!(kinds(&folded), ["Parameter", "Const", "Reshape", "Result"]);
        let open = graph.with_input_shapes(&[vec![None, Some(3)]]).unwrap();
        assert_eq!(open.info(Value::of(flat)).shape, [None]);
    }
}
