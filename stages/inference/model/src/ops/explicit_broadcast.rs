//! Broadcast that says which axes belong together.

use std::ops::RangeInclusive;

use super::attributes::Attributes;
use super::support::{self, Input};
use super::transpose;
use crate::error::{OpError, bail};
use crate::graph::{Dim, OutputInfo};
use crate::op::Op;
use crate::operation::Operation;
use crate::tensor::Tensor;

/// Broadcast-1/3 with `mode="explicit"`: the third input says on which axis of the target each axis of the data
/// lies.
#[derive(Debug, Clone)]
struct ExplicitBroadcast;

/// Reads an operation of this family; `None` if it is of another.
pub(crate) fn parse(a: &Attributes) -> Result<Option<Op>, OpError> {
    // Broadcast-1 calls it none.
    if a.kind == "Broadcast" && a.inputs == 3 && matches!(a.get("mode"), Some("explicit" | "none")) {
        return Ok(Some(Op::standard(ExplicitBroadcast)));
    }
    Ok(None)
}

/// The data's axes at their places among those of the target, the others 1.
fn place(data: &[Dim], axes: &[i64], rank: usize) -> Result<Vec<Dim>, OpError> {
    let axes = support::axes(axes, rank)?;
    if axes.len() != data.len() || !axes.is_sorted() {
        bail!(
            "axes {axes:?} for data {}: expected one per axis, ascending",
            support::show(data)
        );
    }
    let mut shape = vec![Some(1); rank];
    axes.iter()
        .zip(data)
        .for_each(|(&axis, &length)| shape[axis] = length);
    Ok(shape)
}

impl Operation for ExplicitBroadcast {
    fn type_name(&self) -> &'static str {
        "Broadcast"
    }

    fn opset(&self) -> u32 {
        3
    }

    fn attributes(&self) -> Vec<(&'static str, String)> {
        vec![("mode", "explicit".to_owned())]
    }

    fn input_count(&self) -> RangeInclusive<usize> {
        3..=3
    }

    fn infer(&self, inputs: &[Input]) -> Result<Vec<OutputInfo>, OpError> {
        let [rank] = support::dims(&inputs[1], "the target shape")?;
        let Some(rank) = rank.filter(|&rank| rank <= 64) else {
            bail!("the rank of the output is not fixed: the target shape must be a constant");
        };
        let shape = match inputs[2].integers() {
            Some(axes) => place(inputs[0].shape, &axes, rank)?,
            None => vec![None; rank],
        };
        let placed = Input {
            shape: &shape,
            value: None,
            ..inputs[0]
        };
        transpose::infer(&Op::Broadcast, &[placed, inputs[1]])
    }

    fn evaluate(&self, inputs: &[Tensor], outputs: &[OutputInfo]) -> Result<Vec<Tensor>, OpError> {
        let dims: Vec<Dim> = inputs[0].shape().iter().map(|&d| Some(d)).collect();
        let placed = place(&dims, &inputs[2].to_i64(), outputs[0].shape.len())?;
        let placed: Vec<usize> = placed.into_iter().flatten().collect();
        super::evaluate(&Op::Broadcast, &[inputs[0].reshaped(&placed)?, inputs[1].clone()])
    }

    fn moves_values(&self) -> bool {
        true
    }
}
