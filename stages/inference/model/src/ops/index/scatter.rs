//! ScatterUpdate: slices of the updates replace slices of the data.

use std::ops::RangeInclusive;

use crate::error::{OpError, bail};
use crate::graph::OutputInfo;
use crate::op::Op;
use crate::operation::Operation;
use crate::ops::attributes::Attributes;
use crate::ops::support::{self, Input};
use crate::tensor::Tensor;

/// ScatterUpdate-3: inputs data, indices, updates `data[..axis] + indices + data[axis + 1..]`, axis. Of equal
/// indices the last counts.
#[derive(Debug, Clone)]
struct ScatterUpdate;

/// Reads an operation of this family; `None` if it is of another.
pub(super) fn parse(a: &Attributes) -> Result<Option<Op>, OpError> {
    Ok((a.kind == "ScatterUpdate").then(|| Op::standard(ScatterUpdate)))
}

impl Operation for ScatterUpdate {
    fn type_name(&self) -> &'static str {
        "ScatterUpdate"
    }

    fn opset(&self) -> u32 {
        3
    }

    fn input_count(&self) -> RangeInclusive<usize> {
        4..=4
    }

    fn infer(&self, inputs: &[Input]) -> Result<Vec<OutputInfo>, OpError> {
        let (data, indices, updates) = (&inputs[0], &inputs[1], &inputs[2]);
        support::integers(indices, "the indices")?;
        support::integers(&inputs[3], "the axis")?;
        let element_type = support::same_type(data, updates)?;
        if let Some(axis) = support::scalar(&inputs[3], "the axis")? {
            let axis = support::axis(axis, data.shape.len())?;
            let expected = [&data.shape[..axis], indices.shape, &data.shape[axis + 1..]].concat();
            support::shape_is(updates, &expected, "updates")?;
        }
        Ok(vec![support::output(element_type, data.shape.to_vec())])
    }

    fn evaluate(&self, inputs: &[Tensor], _: &[OutputInfo]) -> Result<Vec<Tensor>, OpError> {
        let [data, indices, updates, axis] = inputs else {
            bail!("expected 4 inputs, found {}", inputs.len());
        };
        let shape = data.shape();
        let axis = support::axis(support::only(&axis.to_i64(), "the axis")?, shape.len())?;
        let inner = support::product(&shape[axis + 1..]);
        let list: Result<Vec<usize>, OpError> = indices
            .to_i64()
            .into_iter()
            .map(|at| support::index(at, shape[axis]))
            .collect();
        let list = list?;
        let places = (0..updates.len()).map(|from| {
            let (slice, place) = (from / inner, from % inner);
            let (outer, index) = (slice / list.len(), list[slice % list.len()]);
            ((outer * shape[axis] + index) * inner + place, from)
        });
        Ok(vec![support::overwrite(data, updates, places)?])
    }
}
