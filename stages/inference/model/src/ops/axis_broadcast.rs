//! Broadcasting that says which axes belong together: `pdpd` of element-wise operations, `explicit` of Broadcast.

use std::ops::RangeInclusive;

use super::attributes::Attributes;
use super::support::{self, Input};
use super::{binary, transpose};
use crate::error::{OpError, bail};
use crate::graph::{Dim, OutputInfo};
use crate::op::{BinaryKind, Op};
use crate::operation::Operation;
use crate::tensor::Tensor;

/// An element-wise operation on two inputs, or Select, with `auto_broadcast="pdpd"`: the axes of every other
/// input lie at the front of those of the first (Select: of the second), whose shape the output has. Model files
/// cannot say another place.
#[derive(Debug, Clone)]
struct Pdpd {
    op: Op,
}

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
    if a.get("auto_broadcast") != Some("pdpd") {
        return Ok(None);
    }
    let mut numpy = a.clone();
    numpy.pairs.retain(|p| p.0 != "auto_broadcast");
    Ok(binary::parse(&numpy)?.map(|op| Op::standard(Pdpd { op })))
}

impl Pdpd {
    /// The input whose shape the output has.
    fn anchor(&self) -> usize {
        usize::from(matches!(self.op, Op::Select))
    }
}

impl Operation for Pdpd {
    fn type_name(&self) -> &'static str {
        self.op.type_name()
    }

    fn opset(&self) -> u32 {
        1
    }

    fn attributes(&self) -> Vec<(&'static str, String)> {
        let mut attributes = vec![("auto_broadcast", "pdpd".to_owned())];
        if matches!(self.op, Op::Binary(BinaryKind::DivideTruncating)) {
            attributes.push(("m_pythondiv", "false".to_owned()));
        }
        attributes
    }

    fn input_count(&self) -> RangeInclusive<usize> {
        super::input_count(&self.op)
    }

    fn infer(&self, inputs: &[Input]) -> Result<Vec<OutputInfo>, OpError> {
        let anchor = inputs[self.anchor()].shape;
        let shapes: Result<Vec<Vec<Dim>>, OpError> = inputs.iter().map(|i| widen(i.shape, anchor)).collect();
        let shapes = shapes?;
        let aligned: Vec<Input> = inputs
            .iter()
            .zip(&shapes)
            .map(|(input, shape)| Input { shape, ..*input })
            .collect();
        let outputs = super::infer(&self.op, &aligned)?;
        for output in &outputs {
            if output
                .shape
                .iter()
                .zip(anchor)
                .any(|(o, a)| o != a && a.is_some())
            {
                bail!(
                    "{} is not the shape of the output {}",
                    support::show(anchor),
                    support::show(&output.shape)
                );
            }
        }
        Ok(outputs)
    }

    fn evaluate(&self, inputs: &[Tensor], _: &[OutputInfo]) -> Result<Vec<Tensor>, OpError> {
        let dims = |t: &Tensor| t.shape().iter().map(|&d| Some(d)).collect::<Vec<Dim>>();
        let anchor = dims(&inputs[self.anchor()]);
        let mut aligned = Vec::with_capacity(inputs.len());
        for input in inputs {
            let shape: Vec<usize> = widen(&dims(input), &anchor)?.into_iter().flatten().collect();
            aligned.push(input.reshaped(&shape)?);
        }
        super::evaluate(&self.op, &aligned)
    }
}

/// The shape with as many axes as the anchor, those it lacks 1 at the end.
fn widen(shape: &[Dim], anchor: &[Dim]) -> Result<Vec<Dim>, OpError> {
    let mut widened = shape.to_vec();
    while widened.len() > anchor.len() && widened.last() == Some(&Some(1)) {
        widened.pop();
    }
    if widened.len() > anchor.len() {
        bail!(
            "{} does not broadcast to {}",
            support::show(shape),
            support::show(anchor)
        );
    }
    widened.resize(anchor.len(), Some(1));
    Ok(widened)
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
