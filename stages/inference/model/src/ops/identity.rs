//! Identity: the input as it is.

use std::ops::RangeInclusive;

use super::attributes::Attributes;
use super::support::{self, Input};
use crate::error::OpError;
use crate::graph::OutputInfo;
use crate::op::Op;
use crate::operation::Operation;
use crate::tensor::Tensor;

/// Identity-16: the output is the input.
#[derive(Debug, Clone)]
struct Identity;

/// Reads an operation of this family; `None` if it is of another.
pub(super) fn parse(a: &Attributes) -> Result<Option<Op>, OpError> {
    Ok((a.kind == "Identity").then(|| Op::standard(Identity)))
}

impl Operation for Identity {
    fn type_name(&self) -> &'static str {
        "Identity"
    }

    fn opset(&self) -> u32 {
        16
    }

    fn input_count(&self) -> RangeInclusive<usize> {
        1..=1
    }

    fn infer(&self, inputs: &[Input]) -> Result<Vec<OutputInfo>, OpError> {
        let data = &inputs[0];
        Ok(vec![support::output(data.element_type, data.shape.to_vec())])
    }

    fn evaluate(&self, inputs: &[Tensor], _: &[OutputInfo]) -> Result<Vec<Tensor>, OpError> {
        Ok(vec![inputs[0].clone()])
    }

    fn moves_values(&self) -> bool {
        true
    }
}
