//! The reference evaluator: a graph on tensors, operation by operation.

use crate::error::{EvalError, OpError};
use crate::fusing;
use crate::graph::{Graph, NodeId, OutputInfo, Value};
use crate::op::Op;
use crate::ops;
use crate::tensor::Tensor;
use crate::text::describe;

/// Evaluates the network on its inputs, given in the order of [`Graph::parameters`]; outputs come in the order
/// of [`Graph::results`].
///
/// # Errors
/// If the inputs are not what the network takes, or an operation cannot be evaluated.
pub fn evaluate(graph: &Graph, inputs: &[Tensor]) -> Result<Vec<Tensor>, EvalError> {
    let wanted: Vec<Value> = graph.results.iter().map(|&id| Value::of(id)).collect();
    evaluate_values(graph, inputs, &wanted)
}

/// Evaluates as far as the values of the given names need: names of layers (first output) or of tensors.
///
/// # Errors
/// As [`evaluate`]; and if there is no such name.
pub fn evaluate_named(graph: &Graph, inputs: &[Tensor], names: &[&str]) -> Result<Vec<Tensor>, EvalError> {
    let wanted: Result<Vec<Value>, EvalError> = names
        .iter()
        .map(|name| find(graph, name).ok_or_else(|| EvalError::UnknownName((*name).to_owned())))
        .collect();
    evaluate_values(graph, inputs, &wanted?)
}

/// The value that a layer's name or a tensor's name stands for.
pub fn find(graph: &Graph, name: &str) -> Option<Value> {
    let by_layer = graph
        .iter()
        .find(|(_, n)| *n.name == *name && !n.outputs.is_empty());
    if let Some((id, _)) = by_layer {
        return Some(Value::of(id));
    }
    graph.iter().find_map(|(node, n)| {
        let port = n
            .outputs
            .iter()
            .position(|o| o.names.iter().any(|t| **t == *name))?;
        Some(Value {
            node,
            port: port as u32,
        })
    })
}

/// Evaluates as far as the given values need.
///
/// # Errors
/// As [`evaluate`].
pub fn evaluate_values(graph: &Graph, inputs: &[Tensor], wanted: &[Value]) -> Result<Vec<Tensor>, EvalError> {
    check_inputs(graph, inputs)?;
    evaluate_checked(graph, inputs, wanted)
}

/// Evaluates a body, whose Parameters take tensors of any shape.
pub(crate) fn evaluate_body(graph: &Graph, inputs: &[Tensor]) -> Result<Vec<Tensor>, EvalError> {
    let wanted: Vec<Value> = graph.results.iter().map(|&id| Value::of(id)).collect();
    evaluate_checked(graph, inputs, &wanted)
}

/// Evaluates the network, and calls `after` behind each operation, Parameters included.
///
/// # Errors
/// As [`evaluate`].
pub fn evaluate_observed(
    graph: &Graph,
    inputs: &[Tensor],
    after: &mut dyn FnMut(NodeId),
) -> Result<Vec<Tensor>, EvalError> {
    check_inputs(graph, inputs)?;
    let wanted: Vec<Value> = graph.results.iter().map(|&id| Value::of(id)).collect();
    evaluate_each(graph, inputs, &wanted, after)
}

fn evaluate_checked(graph: &Graph, inputs: &[Tensor], wanted: &[Value]) -> Result<Vec<Tensor>, EvalError> {
    evaluate_each(graph, inputs, wanted, &mut |_| ())
}

fn evaluate_each(
    graph: &Graph,
    inputs: &[Tensor],
    wanted: &[Value],
    after: &mut dyn FnMut(NodeId),
) -> Result<Vec<Tensor>, EvalError> {
    let quantizations = fusing::quantizations(graph);
    let computed = fusing::computed(graph);
    let inputs_of = |id: NodeId| match &quantizations[id.index()] {
        Some(quantization) => quantization.inputs(),
        None => graph.node(id).inputs.clone(),
    };
    // How many uses each node still has; values are dropped after the last.
    let mut uses = vec![0usize; graph.nodes.len()];
    wanted.iter().for_each(|v| uses[v.node.index()] += 1);
    for (id, _) in graph.iter().collect::<Vec<_>>().into_iter().rev() {
        if uses[id.index()] > 0 {
            inputs_of(id).iter().for_each(|v| uses[v.node.index()] += 1);
        }
    }
    let mut held = 0usize;
    let mut values: Vec<Option<Vec<Tensor>>> = vec![None; graph.nodes.len()];
    for (id, node) in graph
        .iter()
        .filter(|(id, _)| uses[id.index()] > 0)
        .collect::<Vec<_>>()
    {
        let failed = |source| EvalError::Layer {
            layer: node.name.to_string(),
            kind: node.op.type_name().to_owned(),
            line: node.line,
            source,
        };
        let outputs = if let Op::Parameter = node.op {
            let index = graph.parameters.iter().position(|&p| p == id);
            match index.and_then(|i| inputs.get(i)) {
                Some(tensor) => vec![tensor.clone()],
                None => return Err(failed(OpError("it is not among the network's inputs".to_owned()))),
            }
        } else {
            let taken: Option<Vec<Tensor>> = inputs_of(id)
                .iter()
                .map(|v| values[v.node.index()].as_ref()?.get(v.port as usize).cloned())
                .collect();
            let taken =
                taken.ok_or_else(|| failed(OpError("an input does not come before it".to_owned())))?;
            match &quantizations[id.index()] {
                Some(quantization) => quantization.evaluate(&taken),
                None => {
                    let computed: Vec<bool> = node.inputs.iter().map(|v| computed[v.node.index()]).collect();
                    ops::evaluate_among(&node.op, &taken, &computed)
                }
            }
            .map_err(failed)?
        };
        held = held.saturating_add(bytes_of(&outputs));
        if held > crate::limits::memory() {
            let limit = crate::limits::memory() >> 20;
            let message = format!(
                "the values up to here take more than {limit} MiB, which is the limit (see FLOW_MEMORY_LIMIT)"
            );
            return Err(failed(OpError(message)));
        }
        values[id.index()] = Some(outputs);
        after(id);
        for input in inputs_of(id) {
            let left = &mut uses[input.node.index()];
            *left -= 1;
            if *left == 0
                && let Some(gone) = values[input.node.index()].take()
            {
                held = held.saturating_sub(bytes_of(&gone));
            }
        }
    }
    wanted
        .iter()
        .map(|v| {
            let found = values[v.node.index()]
                .as_ref()
                .and_then(|o| o.get(v.port as usize))
                .cloned();
            found.ok_or_else(|| EvalError::UnknownName(format!("{v:?}")))
        })
        .collect()
}

fn bytes_of(tensors: &[Tensor]) -> usize {
    tensors
        .iter()
        .map(|t| t.bytes().len())
        .fold(0, usize::saturating_add)
}

fn check_inputs(graph: &Graph, inputs: &[Tensor]) -> Result<(), EvalError> {
    for index in 0..inputs.len().max(graph.parameters.len()) {
        let parameter = graph.parameters.get(index).map(|&id| graph.node(id));
        let given = inputs
            .get(index)
            .map(|t| OutputInfo::fixed(t.element_type(), t.shape()));
        let wanted = parameter.and_then(|p| p.outputs.first());
        let fits = match (wanted, &given) {
            (Some(w), Some(g)) => {
                w.element_type == g.element_type
                    && w.shape.len() == g.shape.len()
                    && w.shape.iter().zip(&g.shape).all(|(a, b)| a.is_none() || a == b)
            }
            _ => false,
        };
        if !fits {
            return Err(EvalError::Input {
                index,
                name: parameter.map(|p| p.name.to_string()).unwrap_or_default(),
                expected: wanted.map_or("no such input".to_owned(), describe),
                found: given.as_ref().map_or("nothing".to_owned(), describe),
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::tests::relu_model;

    #[test]
    fn outputs_and_intermediate_values() {
        let graph = relu_model();
        let x = Tensor::from_slice(&[1, 2], &[1f32, 2.0]).unwrap();
        assert_eq!(
            evaluate(&graph, std::slice::from_ref(&x)).unwrap()[0].to_f32(),
            [2.0, 0.0]
        );
        let named = evaluate_named(&graph, std::slice::from_ref(&x), &["sum", "sum_tensor"]).unwrap();
        assert_eq!(named[0].to_f32(), [2.0, -3.0]);
        assert_eq!(named[1], named[0]);
        assert!(evaluate_named(&graph, &[x], &["nothing"]).is_err());
    }

    #[test]
    fn wrong_inputs_are_named() {
        let graph = relu_model();
        let wrong = Tensor::from_slice(&[2], &[1f32, 2.0]).unwrap();
        let message = evaluate(&graph, &[wrong]).unwrap_err().to_string();
        assert!(
            message.contains("f32 [1, 2]") && message.contains("f32 [2]"),
            "{message}"
        );
        assert!(evaluate(&graph, &[]).unwrap_err().to_string().contains("nothing"));
    }
}
