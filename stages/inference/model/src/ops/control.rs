//! If, Loop and TensorIterator: shapes and values of operations that run graphs of their own.

mod branch;
mod iteration;

use std::cell::Cell;
use std::sync::Arc;

use super::support::Input;
use crate::error::{ModelError, OpError, bail};
use crate::graph::{Graph, OutputInfo, PartialShape};
use crate::op::Op;
use crate::tensor::{ElementType, Tensor};
pub(crate) use iteration::trips;

/// Most iterations of all loops of one evaluation together, nested ones included.
pub const MAX_ITERATIONS: usize = 1 << 18;

/// Whether an operation runs graphs of its own.
pub fn has_bodies(op: &Op) -> bool {
    matches!(op, Op::If(_) | Op::Iteration(_))
}

/// The bodies of an operation.
pub fn bodies(op: &Op) -> Vec<&Graph> {
    match op {
        Op::If(branches) => vec![&branches.then_body.graph, &branches.else_body.graph],
        Op::Iteration(iteration) => vec![&iteration.graph],
        _ => Vec::new(),
    }
}

/// The operation with each body replaced by what `change` makes of it.
///
/// # Errors
/// The first error of `change`.
pub fn map_bodies<E>(op: &Op, mut change: impl FnMut(&Graph) -> Result<Graph, E>) -> Result<Op, E> {
    Ok(match op {
        Op::If(branches) => {
            let mut changed = (**branches).clone();
            changed.then_body.graph = change(&branches.then_body.graph)?;
            changed.else_body.graph = change(&branches.else_body.graph)?;
            Op::If(Arc::new(changed))
        }
        Op::Iteration(iteration) => {
            let mut changed = (**iteration).clone();
            changed.graph = change(&iteration.graph)?;
            Op::Iteration(Arc::new(changed))
        }
        other => other.clone(),
    })
}

/// Types and shapes of the outputs.
pub(crate) fn infer(op: &Op, inputs: &[Input]) -> Result<Vec<OutputInfo>, OpError> {
    match op {
        Op::If(branches) => branch::infer(branches, inputs),
        Op::Iteration(iteration) => iteration::infer(iteration, inputs),
        _ => bail!("not an operation of this family"),
    }
}

/// Evaluates the operation.
pub(crate) fn evaluate(op: &Op, inputs: &[Tensor]) -> Result<Vec<Tensor>, OpError> {
    match op {
        Op::If(branches) => branch::evaluate(branches, inputs),
        Op::Iteration(iteration) => iteration::evaluate(iteration, inputs),
        _ => bail!("not an operation of this family"),
    }
}

/// Writes the shapes that the inputs give into the bodies.
pub(crate) fn settle(op: &mut Op, inputs: &[Input]) {
    match op {
        Op::If(branches) => branch::settle(Arc::make_mut(branches), inputs),
        Op::Iteration(iteration) => iteration::settle(Arc::make_mut(iteration), inputs),
        _ => {}
    }
}

/// What is known of a Parameter of a body.
struct Fed {
    element_type: ElementType,
    shape: PartialShape,
    value: Option<Tensor>,
}

/// A copy of the body whose Parameters have those shapes; Parameters with known values are constants in it.
fn reshaped(graph: &Graph, fed: Vec<Fed>) -> Result<Graph, OpError> {
    let mut graph = graph.clone();
    if fed.len() != graph.parameters.len() {
        bail!(
            "the body has {} Parameters, {} are fed",
            graph.parameters.len(),
            fed.len()
        );
    }
    for (&id, fed) in graph.parameters.iter().zip(fed) {
        let node = &mut graph.nodes[id.index()];
        let Some(info) = node.outputs.first_mut() else {
            bail!("Parameter \"{}\" of the body has no output", node.name);
        };
        if info.element_type != fed.element_type {
            bail!(
                "Parameter \"{}\" of the body is {}, what feeds it is {}",
                node.name,
                info.element_type,
                fed.element_type
            );
        }
        info.shape = fed.shape;
        if let Some(value) = fed.value {
            node.op = Op::Constant(value);
        }
    }
    graph.infer_shapes().map_err(in_body)?;
    Ok(graph)
}

/// Type and shape of the Result of that index.
fn result(graph: &Graph, index: usize) -> Result<&OutputInfo, OpError> {
    let info = graph
        .results
        .get(index)
        .and_then(|id| graph.node(*id).inputs.first())
        .map(|&value| graph.info(value));
    match info {
        Some(info) => Ok(info),
        None => bail!("the body has no Result {index}"),
    }
}

fn in_body(error: ModelError) -> OpError {
    OpError(format!("in its body: {error}"))
}

/// Runs a body.
fn run(graph: &Graph, inputs: &[Tensor]) -> Result<Vec<Tensor>, OpError> {
    crate::evaluate::evaluate_body(graph, inputs).map_err(|error| OpError(format!("in its body: {error}")))
}

/// The one value of a boolean input.
fn truth(tensor: &Tensor) -> Result<bool, OpError> {
    match tensor.to_i64().as_slice() {
        [value] => Ok(*value != 0),
        values => bail!("the condition: expected one value, found {}", values.len()),
    }
}

thread_local! {
    /// How deep evaluation is in loops, and iterations since it entered the outermost.
    static RUNNING: Cell<(usize, usize)> = const { Cell::new((0, 0)) };
}

/// A loop that runs on this thread.
struct Running;

impl Running {
    fn enter() -> Self {
        let (depth, done) = RUNNING.get();
        RUNNING.set((depth + 1, if depth == 0 { 0 } else { done }));
        Self
    }

    /// Counts an iteration.
    fn iterate(&self) -> Result<(), OpError> {
        let (depth, done) = RUNNING.get();
        RUNNING.set((depth, done + 1));
        if done >= MAX_ITERATIONS {
            bail!("it takes more than {MAX_ITERATIONS} iterations");
        }
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let (depth, done) = RUNNING.get();
        RUNNING.set((depth - 1, done));
    }
}

#[cfg(test)]
mod tests;
