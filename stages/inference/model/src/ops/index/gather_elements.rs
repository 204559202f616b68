//! GatherElements: one index per element of the output.

use std::ops::RangeInclusive;

use crate::error::{OpError, bail};
use crate::graph::OutputInfo;
use crate::op::Op;
use crate::operation::Operation;
use crate::ops::attributes::Attributes;
use crate::ops::support::{self, Input};
use crate::tensor::Tensor;

/// GatherElements-6: element `i` of the output is that element of the data whose place along the axis is
/// element `i` of the indices, and whose other places are those of `i`.
#[derive(Debug, Clone)]
struct GatherElements {
    /// The axis; negative ones count from the end.
    axis: i64,
}

/// Reads an operation of this family; `None` if it is of another.
pub(super) fn parse(a: &Attributes) -> Result<Option<Op>, OpError> {
    if a.kind != "GatherElements" {
        return Ok(None);
    }
    let axis = a.int("axis", None)?;
    Ok(Some(Op::standard(GatherElements { axis })))
}

impl Operation for GatherElements {
    fn type_name(&self) -> &'static str {
        "GatherElements"
    }

    fn opset(&self) -> u32 {
        6
    }

    fn attributes(&self) -> Vec<(&'static str, String)> {
        vec![("axis", self.axis.to_string())]
    }

    fn input_count(&self) -> RangeInclusive<usize> {
        2..=2
    }

    fn infer(&self, inputs: &[Input]) -> Result<Vec<OutputInfo>, OpError> {
        let (data, indices) = (&inputs[0], &inputs[1]);
        support::integers(indices, "the indices")?;
        if data.shape.len() != indices.shape.len() {
            bail!(
                "expected data and indices of one rank, found {} and {}",
                support::show(data.shape),
                support::show(indices.shape)
            );
        }
        let axis = support::axis(self.axis, data.shape.len())?;
        let mut shape = indices.shape.to_vec();
        for (i, length) in shape.iter_mut().enumerate().filter(|&(i, _)| i != axis) {
            *length = support::same_dim(data.shape[i], *length, &format!("axis {i} of data and indices"))?;
        }
        Ok(vec![support::output(data.element_type, shape)])
    }

    fn evaluate(&self, inputs: &[Tensor], outputs: &[OutputInfo]) -> Result<Vec<Tensor>, OpError> {
        let (data, indices) = (&inputs[0], &inputs[1]);
        let shape = support::fixed(&outputs[0])?;
        let axis = support::axis(self.axis, shape.len())?;
        let (length, stride) = (data.shape()[axis], support::product(&shape[axis + 1..]));
        let mut offsets = Vec::with_capacity(indices.len());
        for (i, at) in indices.to_i64().into_iter().enumerate() {
            let (outer, inner) = (i / (stride * shape[axis]), i % stride);
            offsets.push((outer * length + support::index(at, length)?) * stride + inner);
        }
        Ok(vec![support::take(data, &shape, &offsets)?])
    }

    fn moves_values(&self) -> bool {
        true
    }
}
