//! Range: evenly spaced numbers.

use std::ops::RangeInclusive;

use crate::error::{OpError, bail};
use crate::graph::OutputInfo;
use crate::op::Op;
use crate::operation::Operation;
use crate::ops::attributes::Attributes;
use crate::ops::support::{self, Input};
use crate::tensor::{ElementType, Tensor};

/// Range-1/4: inputs start, stop (outside), step; `ceil((stop - start) / step)` numbers.
#[derive(Debug, Clone)]
struct Range {
    /// Range-4; without it the type is that of the inputs.
    output_type: Option<ElementType>,
}

/// Reads an operation of this family; `None` if it is of another.
pub(super) fn parse(a: &Attributes) -> Result<Option<Op>, OpError> {
    if a.kind != "Range" {
        return Ok(None);
    }
    let output_type = match a.opset {
        0..4 => None,
        _ => Some(a.element_type("output_type", None)?),
    };
    Ok(Some(Op::standard(Range { output_type })))
}

/// A bound as a number of the output type: integers truncate.
fn bound(value: &Tensor, element_type: ElementType) -> Result<f64, OpError> {
    let value = support::only(&value.to_f64(), "start, stop and step")?;
    if !value.is_finite() {
        bail!("start, stop and step: expected finite numbers, found {value}");
    }
    Ok(if element_type.is_float() {
        value
    } else {
        value.trunc()
    })
}

/// Most numbers of a range: one per pixel of a large image.
const MAX_NUMBERS: f64 = (1u32 << 24) as f64;

/// How many numbers there are.
fn count(start: f64, stop: f64, step: f64) -> Result<usize, OpError> {
    if step == 0.0 {
        bail!("the step is zero");
    }
    let count = ((stop - start) / step).ceil().max(0.0);
    if count > MAX_NUMBERS {
        bail!("from {start} to {stop} by {step} are more than {MAX_NUMBERS} numbers");
    }
    Ok(count as usize)
}

impl Operation for Range {
    fn type_name(&self) -> &'static str {
        "Range"
    }

    fn opset(&self) -> u32 {
        if self.output_type.is_some() { 4 } else { 1 }
    }

    fn attributes(&self) -> Vec<(&'static str, String)> {
        let pair = self.output_type.map(|t| ("output_type", t.to_string()));
        pair.into_iter().collect()
    }

    fn input_count(&self) -> RangeInclusive<usize> {
        3..=3
    }

    fn infer(&self, inputs: &[Input]) -> Result<Vec<OutputInfo>, OpError> {
        let element_type = match self.output_type {
            Some(element_type) => element_type,
            None => {
                support::same_type(&inputs[0], &inputs[1])?;
                support::same_type(&inputs[0], &inputs[2])?
            }
        };
        let length = match (inputs[0].value, inputs[1].value, inputs[2].value) {
            (Some(start), Some(stop), Some(step)) => Some(count(
                bound(start, element_type)?,
                bound(stop, element_type)?,
                bound(step, element_type)?,
            )?),
            _ => None,
        };
        Ok(vec![support::output(element_type, vec![length])])
    }

    fn evaluate(&self, inputs: &[Tensor], outputs: &[OutputInfo]) -> Result<Vec<Tensor>, OpError> {
        let element_type = outputs[0].element_type;
        let start = bound(&inputs[0], element_type)?;
        let step = bound(&inputs[2], element_type)?;
        let count = count(start, bound(&inputs[1], element_type)?, step)?;
        // Each number is the one before plus the step, rounded.
        let mut value = start;
        let values: Vec<f64> = (0..count)
            .map(|_| {
                let this = value;
                value += step;
                if element_type == ElementType::F32 {
                    value = f64::from(value as f32);
                }
                this
            })
            .collect();
        Ok(vec![Tensor::from_f64(element_type, &[count], &values)?])
    }
}
