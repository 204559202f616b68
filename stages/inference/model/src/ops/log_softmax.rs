//! LogSoftmax: the logarithm of Softmax, without underflow.

use std::ops::RangeInclusive;

use super::attributes::Attributes;
use super::normalize::Groups;
use super::support::{self, Input};
use crate::error::OpError;
use crate::graph::OutputInfo;
use crate::op::Op;
use crate::operation::Operation;
use crate::tensor::Tensor;

/// LogSoftmax-5: `x - max - ln(sum of e^(x - max))` along an axis.
#[derive(Debug, Clone)]
struct LogSoftmax {
    axis: i64,
}

/// Reads an operation of this family; `None` if it is of another.
pub(crate) fn parse(a: &Attributes) -> Result<Option<Op>, OpError> {
    if a.kind != "LogSoftmax" {
        return Ok(None);
    }
    let axis = a.int("axis", Some(1))?;
    Ok(Some(Op::standard(LogSoftmax { axis })))
}

impl Operation for LogSoftmax {
    fn type_name(&self) -> &'static str {
        "LogSoftmax"
    }

    fn opset(&self) -> u32 {
        5
    }

    fn attributes(&self) -> Vec<(&'static str, String)> {
        vec![("axis", self.axis.to_string())]
    }

    fn input_count(&self) -> RangeInclusive<usize> {
        1..=1
    }

    fn infer(&self, inputs: &[Input]) -> Result<Vec<OutputInfo>, OpError> {
        support::floats(&inputs[0], "the data")?;
        support::axis(self.axis, inputs[0].shape.len())?;
        Ok(vec![support::output(
            inputs[0].element_type,
            inputs[0].shape.to_vec(),
        )])
    }

    fn evaluate(&self, inputs: &[Tensor], _: &[OutputInfo]) -> Result<Vec<Tensor>, OpError> {
        let data = &inputs[0];
        let axis = support::axis(self.axis, data.shape().len())?;
        let mut values = data.to_f32();
        Groups::new(data.shape(), &[axis]).each(&mut values, |group| {
            let max = group.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let sum: f64 = group.iter().map(|&v| f64::from(v - max).exp()).sum();
            let log = sum.ln();
            group
                .iter_mut()
                .for_each(|v| *v = (f64::from(*v - max) - log) as f32);
        });
        Ok(vec![support::from_f32(
            data.element_type(),
            data.shape(),
            &values,
        )?])
    }
}
