//! If-8.

use super::{Fed, Input, in_body, reshaped, result, run, truth};
use crate::body::{Branch, If};
use crate::error::{OpError, bail};
use crate::graph::{Graph, OutputInfo};
use crate::ops::support;
use crate::tensor::Tensor;

fn shaped(branch: &Branch, inputs: &[Input]) -> Result<Graph, OpError> {
    let fed = branch.inputs.iter().map(|&index| match inputs.get(index) {
        Some(input) => Ok(Fed {
            element_type: input.element_type,
            shape: input.shape.to_vec(),
            value: input.value.cloned(),
        }),
        None => bail!("a body takes input {index}, there are {}", inputs.len()),
    });
    reshaped(&branch.graph, fed.collect::<Result<_, _>>()?)
}

fn outputs(branch: &Branch, inputs: &[Input]) -> Result<Vec<OutputInfo>, OpError> {
    let graph = shaped(branch, inputs)?;
    branch
        .outputs
        .iter()
        .map(|&index| {
            Ok(support::output(
                result(&graph, index)?.element_type,
                result(&graph, index)?.shape.clone(),
            ))
        })
        .collect()
}

/// Types and shapes of the outputs: those of the branch that runs, or what both have in common.
pub(super) fn infer(branches: &If, inputs: &[Input]) -> Result<Vec<OutputInfo>, OpError> {
    if let Some(condition) = inputs[0].value {
        let branch = if truth(condition)? {
            &branches.then_body
        } else {
            &branches.else_body
        };
        return outputs(branch, inputs);
    }
    let (then, other) = (
        outputs(&branches.then_body, inputs)?,
        outputs(&branches.else_body, inputs)?,
    );
    if then.len() != other.len() {
        bail!("its bodies give {} and {} outputs", then.len(), other.len());
    }
    then.into_iter()
        .zip(other)
        .enumerate()
        .map(|(index, (a, b))| {
            if a.element_type != b.element_type || a.shape.len() != b.shape.len() {
                bail!(
                    "output {index} is {} {} in one body and {} {} in the other; expected one type and rank",
                    a.element_type,
                    support::show(&a.shape),
                    b.element_type,
                    support::show(&b.shape)
                );
            }
            let common = a.shape.iter().zip(&b.shape);
            let shape = common.map(|(a, b)| a.filter(|_| a == b)).collect();
            Ok(support::output(a.element_type, shape))
        })
        .collect()
}

/// Writes the shapes that the inputs give into the bodies.
pub(super) fn settle(branches: &mut If, inputs: &[Input]) {
    for branch in [&mut branches.then_body, &mut branches.else_body] {
        for (&id, &index) in branch.graph.parameters.iter().zip(&branch.inputs) {
            let info = branch.graph.nodes[id.index()].outputs.first_mut();
            if let (Some(info), Some(input)) = (info, inputs.get(index)) {
                info.shape = input.shape.to_vec();
            }
        }
        // The branch that never runs may not fit: it keeps the shapes it has.
        let _ = branch.graph.infer_shapes().map_err(in_body);
    }
}

/// Runs the branch that the condition chooses.
pub(super) fn evaluate(branches: &If, inputs: &[Tensor]) -> Result<Vec<Tensor>, OpError> {
    let branch = if truth(&inputs[0])? {
        &branches.then_body
    } else {
        &branches.else_body
    };
    let taken: Option<Vec<Tensor>> = branch.inputs.iter().map(|&i| inputs.get(i).cloned()).collect();
    let Some(taken) = taken else {
        bail!("a body takes an input that is not there");
    };
    let results = run(&branch.graph, &taken)?;
    let given: Option<Vec<Tensor>> = branch.outputs.iter().map(|&i| results.get(i).cloned()).collect();
    match given {
        Some(outputs) => Ok(outputs),
        None => bail!("a body lacks a Result"),
    }
}
