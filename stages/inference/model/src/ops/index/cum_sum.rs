//! CumSum: running sums along an axis.

use std::ops::RangeInclusive;

use crate::error::OpError;
use crate::graph::OutputInfo;
use crate::op::Op;
use crate::operation::Operation;
use crate::ops::attributes::Attributes;
use crate::ops::support::{self, Input};
use crate::tensor::{ElementType, Tensor};

/// CumSum-3: inputs data and an optional axis, 0 by default.
#[derive(Debug, Clone)]
struct CumSum {
    /// Each sum leaves its own element out.
    exclusive: bool,
    /// From the end of the axis.
    reverse: bool,
}

/// Reads an operation of this family; `None` if it is of another.
pub(super) fn parse(a: &Attributes) -> Result<Option<Op>, OpError> {
    if a.kind != "CumSum" {
        return Ok(None);
    }
    Ok(Some(Op::standard(CumSum {
        exclusive: a.flag("exclusive", Some(false))?,
        reverse: a.flag("reverse", Some(false))?,
    })))
}

impl CumSum {
    /// Runs along the axis of length `shape[axis]`.
    fn run<T: Copy>(
        &self,
        values: &[T],
        shape: &[usize],
        axis: usize,
        zero: T,
        add: impl Fn(T, T) -> T,
    ) -> Vec<T> {
        let (length, inner) = (shape[axis], support::product(&shape[axis + 1..]));
        let mut sums = vec![zero; values.len()];
        for o in 0..support::product(&shape[..axis]) {
            for i in 0..inner {
                let mut sum = zero;
                for step in 0..length {
                    let place = if self.reverse { length - 1 - step } else { step };
                    let at = (o * length + place) * inner + i;
                    let before = sum;
                    sum = add(sum, values[at]);
                    sums[at] = if self.exclusive { before } else { sum };
                }
            }
        }
        sums
    }
}

impl Operation for CumSum {
    fn type_name(&self) -> &'static str {
        "CumSum"
    }

    fn opset(&self) -> u32 {
        3
    }

    fn attributes(&self) -> Vec<(&'static str, String)> {
        vec![
            ("exclusive", self.exclusive.to_string()),
            ("reverse", self.reverse.to_string()),
        ]
    }

    fn input_count(&self) -> RangeInclusive<usize> {
        1..=2
    }

    fn infer(&self, inputs: &[Input]) -> Result<Vec<OutputInfo>, OpError> {
        let data = &inputs[0];
        if let Some(axis) = inputs.get(1) {
            support::integers(axis, "the axis")?;
            if let Some(axis) = support::scalar(axis, "the axis")? {
                support::axis(axis, data.shape.len())?;
            }
        }
        Ok(vec![support::output(data.element_type, data.shape.to_vec())])
    }

    fn evaluate(&self, inputs: &[Tensor], _: &[OutputInfo]) -> Result<Vec<Tensor>, OpError> {
        let (data, shape) = (&inputs[0], inputs[0].shape());
        let axis = match inputs.get(1) {
            None => 0,
            Some(axis) => support::only(&axis.to_i64(), "the axis")?,
        };
        let axis = support::axis(axis, shape.len())?;
        let element_type = data.element_type();
        Ok(vec![match element_type {
            ElementType::F32 => {
                let sums = self.run(&data.to_f32(), shape, axis, 0.0, |a, b| a + b);
                Tensor::from_slice(shape, &sums)?
            }
            t if t.is_float() => {
                let sums = self.run(&data.to_f64(), shape, axis, 0.0, |a, b| a + b);
                Tensor::from_f64(t, shape, &sums)?
            }
            t => {
                let sums = self.run(&data.to_i128(), shape, axis, 0, i128::wrapping_add);
                Tensor::from_i128(t, shape, &sums)?
            }
        }])
    }
}
