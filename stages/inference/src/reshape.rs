//! Other shapes for the inputs of a network.

use std::path::Path;

use flow_model::{Graph, PartialShape};

use crate::error::EngineError;

/// The graph with the first axis of every input set to `batch`.
///
/// # Errors
/// Where the first axis of an input is no batch (neither 1 nor open), or an operation does not follow.
pub fn with_batch(graph: &Graph, batch: usize, path: &Path) -> Result<Graph, EngineError> {
    let mut shapes: Vec<PartialShape> = Vec::new();
    for &id in &graph.parameters {
        let node = graph.node(id);
        let mut shape = node.outputs[0].shape.clone();
        match shape.first_mut() {
            Some(axis @ (None | Some(1))) => *axis = Some(batch),
            Some(Some(found)) if *found == batch => {}
            _ => {
                return Err(EngineError::NoBatch {
                    path: path.to_path_buf(),
                    name: node.name.to_string(),
                    shape: flow_model::text::describe(&node.outputs[0]),
                    batch,
                });
            }
        }
        shapes.push(shape);
    }
    Ok(graph.with_input_shapes(&shapes)?)
}

#[cfg(test)]
mod tests {
    use flow_model::op::UnaryKind;
    use flow_model::{ElementType, Node, Op, OutputInfo, Value};

    use super::*;

    fn relu(shape: &[usize]) -> Graph {
        let mut graph = Graph::default();
        let mut push = |name: &str, op, inputs: Vec<Value>, outputs| {
            graph.push(Node {
                name: name.into(),
                line: 0,
                op,
                inputs,
                outputs,
            })
        };
        let info = OutputInfo::fixed(ElementType::F32, shape);
        let x = push("x", Op::Parameter, vec![], vec![info.clone()]);
        let relu = push("relu", Op::Unary(UnaryKind::Relu), vec![Value::of(x)], vec![info]);
        let result = push("y", Op::Result, vec![Value::of(relu)], vec![]);
        graph.parameters.push(x);
        graph.results.push(result);
        graph
    }

    #[test]
    fn the_batch_goes_through_to_the_outputs() {
        let four = with_batch(&relu(&[1, 3, 2]), 4, Path::new("m.xml")).unwrap();
        assert_eq!(four.nodes[1].outputs[0].static_shape().unwrap(), [4, 3, 2]);
    }

    #[test]
    fn an_input_without_a_batch_is_named() {
        let error = with_batch(&relu(&[3, 2]), 4, Path::new("m.xml"))
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("m.xml") && error.contains("\"x\"") && error.contains("[3, 2]"),
            "{error}"
        );
    }
}
