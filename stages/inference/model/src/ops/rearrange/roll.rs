//! Roll: elements shifted along axes, those that leave at one end entering at the other.

use std::ops::RangeInclusive;

use super::Places;
use crate::error::{OpError, bail};
use crate::graph::OutputInfo;
use crate::op::Op;
use crate::operation::Operation;
use crate::ops::attributes::Attributes;
use crate::ops::support::{self, Input};
use crate::tensor::Tensor;

/// Roll-7: inputs data, shifts (one for all axes, or one per axis) and axes, which may repeat.
#[derive(Debug, Clone)]
struct Roll;

/// Reads an operation of this family; `None` if it is of another.
pub(super) fn parse(a: &Attributes) -> Result<Option<Op>, OpError> {
    Ok((a.kind == "Roll").then(|| Op::standard(Roll)))
}

/// How far each axis of a tensor is shifted, from 0 to less than its length.
fn shifts(shifts: &[i64], axes: &[i64], shape: &[usize]) -> Result<Vec<usize>, OpError> {
    if shifts.len() != 1 && shifts.len() != axes.len() {
        bail!(
            "expected one shift or one per axis ({}), found {}",
            axes.len(),
            shifts.len()
        );
    }
    let mut sums = vec![0i128; shape.len()];
    for (i, &axis) in axes.iter().enumerate() {
        let shift = if shifts.len() == 1 { shifts[0] } else { shifts[i] };
        sums[support::axis(axis, shape.len())?] += i128::from(shift);
    }
    let within = |(sum, &length): (i128, &usize)| sum.rem_euclid(length.max(1) as i128) as usize;
    Ok(sums.into_iter().zip(shape).map(within).collect())
}

impl Operation for Roll {
    fn type_name(&self) -> &'static str {
        "Roll"
    }

    fn opset(&self) -> u32 {
        7
    }

    fn input_count(&self) -> RangeInclusive<usize> {
        3..=3
    }

    fn infer(&self, inputs: &[Input]) -> Result<Vec<OutputInfo>, OpError> {
        let data = &inputs[0];
        support::integers(&inputs[1], "the shifts")?;
        support::integers(&inputs[2], "the axes")?;
        if let (Some(by), Some(axes)) = (inputs[1].integers(), inputs[2].integers()) {
            shifts(&by, &axes, &vec![1; data.shape.len()])?;
        }
        Ok(vec![support::output(data.element_type, data.shape.to_vec())])
    }

    fn evaluate(&self, inputs: &[Tensor], _: &[OutputInfo]) -> Result<Vec<Tensor>, OpError> {
        let data = &inputs[0];
        let by = shifts(&inputs[1].to_i64(), &inputs[2].to_i64(), data.shape())?;
        let mut places = Places::same(data.shape());
        for (axis, shift) in places.0.iter_mut().zip(by) {
            axis.rotate_right(shift);
        }
        Ok(vec![places.take(data)?])
    }

    fn moves_values(&self) -> bool {
        true
    }
}
