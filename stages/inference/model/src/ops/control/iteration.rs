//! Loop-5 and TensorIterator-1.

use super::{Fed, Input, Running, reshaped, result, run, truth};
use crate::body::{BodyInput, BodyOutput, Iteration, IterationKind, Slicing};
use crate::error::{OpError, bail};
use crate::graph::{Dim, Graph, OutputInfo, PartialShape};
use crate::op::Op;
use crate::ops::{self, support};
use crate::tensor::{ElementType, Tensor};

/// Rounds after which axes of merged inputs that still change are left open.
const MAX_ROUNDS: usize = 2;

/// How often a loop runs at most; `None`: the condition alone says.
fn limit(iteration: &Iteration, trips: Option<i64>, counts: &[usize]) -> Option<usize> {
    let trips = match iteration.kind {
        IterationKind::Loop => trips
            .filter(|&n| n >= 0)
            .map(|n| usize::try_from(n).unwrap_or(usize::MAX)),
        IterationKind::TensorIterator => None,
    };
    counts.iter().copied().chain(trips).min()
}

fn input<'a>(inputs: &[Input<'a>], index: usize) -> Result<Input<'a>, OpError> {
    match inputs.get(index) {
        Some(input) => Ok(*input),
        None => bail!("its body takes input {index}, there are {}", inputs.len()),
    }
}

fn axis_of(slicing: &Slicing, shape: &[Dim]) -> Result<usize, OpError> {
    support::axis(slicing.axis, shape.len())
}

/// Numbers of parts of the sliced inputs whose length is known; `None` if one is open.
fn counts(iteration: &Iteration, inputs: &[Input]) -> Result<Option<Vec<usize>>, OpError> {
    let mut counts = Vec::new();
    let mut open = false;
    for fed in &iteration.inputs {
        let BodyInput::Sliced {
            input: index,
            slicing,
        } = fed
        else {
            continue;
        };
        let shape = input(inputs, *index)?.shape;
        match shape[axis_of(slicing, shape)?] {
            Some(length) => counts.push(slicing.parts(length)?.count),
            None => open = true,
        }
    }
    if counts.windows(2).any(|w| w[0] != w[1]) {
        bail!("its sliced inputs have different numbers of parts: {counts:?}");
    }
    if iteration.kind == IterationKind::TensorIterator && counts.is_empty() && !open {
        bail!("expected at least one sliced input, which says how often it runs");
    }
    Ok((!open).then_some(counts))
}

/// The body with the shapes of its Parameters.
fn shaped(iteration: &Iteration, inputs: &[Input]) -> Result<Graph, OpError> {
    let mut merged: Vec<Option<PartialShape>> = vec![None; iteration.inputs.len()];
    for round in 0.. {
        let mut fed = Vec::with_capacity(iteration.inputs.len());
        for (kind, merged) in iteration.inputs.iter().zip(&merged) {
            fed.push(match kind {
                BodyInput::CurrentIteration => {
                    let info = iteration.graph.parameters.get(fed.len());
                    let info = info.and_then(|id| iteration.graph.node(*id).outputs.first());
                    Fed {
                        element_type: info.map_or(ElementType::I64, |i| i.element_type),
                        shape: info.map(|i| i.shape.clone()).unwrap_or_default(),
                        value: None,
                    }
                }
                BodyInput::Invariant { input: index } => {
                    let input = input(inputs, *index)?;
                    Fed {
                        element_type: input.element_type,
                        shape: input.shape.to_vec(),
                        value: input.value.cloned(),
                    }
                }
                BodyInput::Merged { input: index, .. } => {
                    let input = input(inputs, *index)?;
                    Fed {
                        element_type: input.element_type,
                        shape: merged.clone().unwrap_or_else(|| input.shape.to_vec()),
                        value: None,
                    }
                }
                BodyInput::Sliced {
                    input: index,
                    slicing,
                } => {
                    let input = input(inputs, *index)?;
                    let mut shape = input.shape.to_vec();
                    let axis = axis_of(slicing, &shape)?;
                    shape[axis] = Some(slicing.part());
                    Fed {
                        element_type: input.element_type,
                        shape,
                        value: None,
                    }
                }
            });
        }
        let before: Vec<PartialShape> = fed.iter().map(|f| f.shape.clone()).collect();
        let graph = reshaped(&iteration.graph, fed)?;
        let mut changed = false;
        for (parameter, kind) in iteration.inputs.iter().enumerate() {
            let BodyInput::Merged {
                input: index,
                result: from,
            } = kind
            else {
                continue;
            };
            let info = result(&graph, *from)?;
            let (given, shape) = (input(inputs, *index)?, &before[parameter]);
            if info.element_type != given.element_type || info.shape.len() != shape.len() {
                bail!(
                    "a value that goes around is {} {} at first and {} {} after an iteration",
                    given.element_type,
                    support::show(shape),
                    info.element_type,
                    support::show(&info.shape)
                );
            }
            if *shape != info.shape {
                let common = shape.iter().zip(&info.shape);
                let open = |(a, b): (&Dim, &Dim)| a.filter(|_| a == b && round < MAX_ROUNDS);
                let next: PartialShape = common.map(open).collect();
                changed |= next != *shape;
                merged[parameter] = Some(next);
            }
        }
        if !changed {
            return Ok(graph);
        }
    }
    bail!("the shapes in its body do not settle")
}

/// How often it runs, if that is known before it runs.
pub(crate) fn trips(iteration: &Iteration, inputs: &[Input]) -> Result<Option<usize>, OpError> {
    let counts = counts(iteration, inputs)?;
    if iteration.kind == IterationKind::Loop {
        let first = scalar(inputs, 1)?;
        if first == Some(0) {
            return Ok(Some(0));
        }
        let ends_early = iteration.condition.is_some_and(|index| {
            let value = iteration.graph.results.get(index);
            let value = value.and_then(|id| iteration.graph.node(*id).inputs.first());
            let op = value.map(|v| &iteration.graph.node(v.node).op);
            !matches!(op, Some(Op::Constant(t)) if truth(t).unwrap_or(false))
        });
        let trips = scalar(inputs, 0)?;
        if first.is_none() || ends_early || trips.is_none() {
            return Ok(None);
        }
        return Ok(counts.and_then(|counts| limit(iteration, trips, &counts)));
    }
    Ok(counts.and_then(|counts| limit(iteration, None, &counts)))
}

fn scalar(inputs: &[Input], index: usize) -> Result<Option<i64>, OpError> {
    support::scalar(&input(inputs, index)?, "trip count or condition")
}

/// Types and shapes of the outputs.
pub(super) fn infer(iteration: &Iteration, inputs: &[Input]) -> Result<Vec<OutputInfo>, OpError> {
    let count = trips(iteration, inputs)?;
    let graph = shaped(iteration, inputs)?;
    iteration
        .outputs
        .iter()
        .map(|output| {
            let info = result(&graph, output.result)?;
            let mut shape = info.shape.clone();
            if let Some(slicing) = &output.concatenated {
                let axis = axis_of(slicing, &shape)?;
                shape[axis] = match (count, shape[axis]) {
                    (Some(count), Some(part)) => match count.checked_mul(part) {
                        Some(length) => Some(length),
                        None => bail!("{count} parts of {part} are more than an axis can have"),
                    },
                    _ => None,
                };
            }
            Ok(support::output(info.element_type, shape))
        })
        .collect()
}

/// Writes the shapes that the inputs give into the body.
pub(super) fn settle(iteration: &mut Iteration, inputs: &[Input]) {
    let Ok(graph) = shaped(iteration, inputs) else {
        return;
    };
    for &id in &graph.parameters {
        let Some(info) = graph.node(id).outputs.first() else {
            continue;
        };
        iteration.graph.nodes[id.index()].outputs = vec![info.clone()];
    }
    // It was accepted just now.
    let _ = iteration.graph.infer_shapes();
}

/// Runs the body until its condition, the trip count or the slices end it.
pub(super) fn evaluate(iteration: &Iteration, inputs: &[Tensor]) -> Result<Vec<Tensor>, OpError> {
    let shapes: Vec<Vec<Dim>> = inputs
        .iter()
        .map(|t| t.shape().iter().map(|&d| Some(d)).collect())
        .collect();
    let known: Vec<Input> = inputs
        .iter()
        .zip(&shapes)
        .map(|(tensor, shape)| Input {
            element_type: tensor.element_type(),
            shape,
            value: Some(tensor),
        })
        .collect();
    let counts = counts(iteration, &known)?.unwrap_or_default();
    let (trips, mut goes_on) = match iteration.kind {
        IterationKind::Loop => (scalar(&known, 0)?, truth(&inputs[1])?),
        IterationKind::TensorIterator => (None, true),
    };
    let limit = limit(iteration, trips, &counts);
    let running = Running::enter();
    let mut last: Option<Vec<Tensor>> = None;
    let mut kept: Vec<Vec<Tensor>> = vec![Vec::new(); iteration.outputs.len()];
    let mut kept_elements = 0usize;
    let mut index = 0usize;
    while goes_on && limit.is_none_or(|limit| index < limit) {
        running.iterate()?;
        let mut fed = Vec::with_capacity(iteration.inputs.len());
        for (parameter, kind) in iteration.inputs.iter().enumerate() {
            fed.push(match (kind, &last) {
                (BodyInput::Merged { result, .. }, Some(results)) => taken(results, *result)?,
                (BodyInput::Merged { input, .. } | BodyInput::Invariant { input }, _) => {
                    taken(inputs, *input)?
                }
                (BodyInput::Sliced { input, slicing }, _) => part(&taken(inputs, *input)?, slicing, index)?,
                (BodyInput::CurrentIteration, _) => current(iteration, parameter, index)?,
            });
        }
        let results = run(&iteration.graph, &fed)?;
        for (output, kept) in iteration.outputs.iter().zip(&mut kept) {
            if output.concatenated.is_some() {
                let tensor = taken(&results, output.result)?;
                // An element more per part: empty parts count too.
                kept_elements = kept_elements.saturating_add(tensor.len() + 1);
                if kept_elements > ops::MAX_ELEMENTS {
                    bail!("its outputs have more than {} elements", ops::MAX_ELEMENTS);
                }
                kept.push(tensor);
            }
        }
        if let Some(condition) = iteration.condition {
            goes_on = truth(&taken(&results, condition)?)?;
        }
        last = Some(results);
        index += 1;
    }
    iteration
        .outputs
        .iter()
        .zip(kept)
        .map(|(output, parts)| match (&output.concatenated, &last) {
            (None, Some(results)) => taken(results, output.result),
            (Some(slicing), Some(_)) => concatenated(slicing, parts),
            (_, None) => without_iteration(iteration, output, inputs, &known),
        })
        .collect()
}

fn taken(tensors: &[Tensor], index: usize) -> Result<Tensor, OpError> {
    match tensors.get(index) {
        Some(tensor) => Ok(tensor.clone()),
        None => bail!("there is no value {index} of {}", tensors.len()),
    }
}

/// The number of an iteration in the type and shape of the Parameter.
fn current(iteration: &Iteration, parameter: usize, index: usize) -> Result<Tensor, OpError> {
    let info = iteration.graph.parameters.get(parameter);
    let info = info.and_then(|id| iteration.graph.node(*id).outputs.first());
    let (element_type, shape) = match info {
        Some(info) => (info.element_type, vec![1; info.shape.len()]),
        None => (ElementType::I64, Vec::new()),
    };
    Ok(Tensor::from_i128(element_type, &shape, &[index as i128])?)
}

/// Part `index` of a tensor.
fn part(tensor: &Tensor, slicing: &Slicing, index: usize) -> Result<Tensor, OpError> {
    let axis = support::axis(slicing.axis, tensor.shape().len())?;
    let parts = slicing.parts(tensor.shape()[axis])?;
    let start = parts.start(index) as i64;
    let one = |value: i64| Tensor::from_slice(&[1], &[value]);
    let inputs = [
        tensor.clone(),
        one(start)?,
        one(start + parts.step as i64)?,
        one(1)?,
        one(axis as i64)?,
    ];
    Ok(ops::evaluate(&Op::Slice, &inputs)?.swap_remove(0))
}

/// All parts along the axis.
fn concatenated(slicing: &Slicing, mut parts: Vec<Tensor>) -> Result<Tensor, OpError> {
    if slicing.stride < 0 {
        parts.reverse();
    }
    Ok(ops::evaluate(&Op::Concat { axis: slicing.axis }, &parts)?.swap_remove(0))
}

/// An output of a loop that never runs: a merged value as it came in, no part at all, or nothing to tell.
fn without_iteration(
    iteration: &Iteration,
    output: &BodyOutput,
    inputs: &[Tensor],
    known: &[Input],
) -> Result<Tensor, OpError> {
    if let Some(slicing) = &output.concatenated {
        let graph = shaped(iteration, known)?;
        let info = result(&graph, output.result)?;
        let mut shape: Vec<usize> = info.shape.iter().map(|d| d.unwrap_or(0)).collect();
        let axis = axis_of(slicing, &info.shape)?;
        shape[axis] = 0;
        return Ok(Tensor::new(info.element_type, shape, Vec::new())?);
    }
    for kind in &iteration.inputs {
        if let BodyInput::Merged { input, result } = kind
            && *result == output.result
        {
            return taken(inputs, *input);
        }
    }
    bail!("it never runs, so that an output has no value")
}
