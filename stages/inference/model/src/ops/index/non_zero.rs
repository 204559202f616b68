//! NonZero: where elements are not zero.

use std::ops::RangeInclusive;

use crate::error::OpError;
use crate::graph::OutputInfo;
use crate::op::Op;
use crate::operation::Operation;
use crate::ops::attributes::Attributes;
use crate::ops::support::{self, Input};
use crate::tensor::{ElementType, Tensor};

/// NonZero-3: the places of the elements that are not zero, in order: `[rank, count]`.
#[derive(Debug, Clone)]
struct NonZero {
    output_type: ElementType,
}

/// Reads an operation of this family; `None` if it is of another.
pub(super) fn parse(a: &Attributes) -> Result<Option<Op>, OpError> {
    if a.kind != "NonZero" {
        return Ok(None);
    }
    let output_type = a.element_type("output_type", Some(ElementType::I64))?;
    Ok(Some(Op::standard(NonZero { output_type })))
}

impl Operation for NonZero {
    fn type_name(&self) -> &'static str {
        "NonZero"
    }

    fn opset(&self) -> u32 {
        3
    }

    fn attributes(&self) -> Vec<(&'static str, String)> {
        vec![("output_type", self.output_type.to_string())]
    }

    fn input_count(&self) -> RangeInclusive<usize> {
        1..=1
    }

    fn infer(&self, inputs: &[Input]) -> Result<Vec<OutputInfo>, OpError> {
        let shape = vec![Some(inputs[0].shape.len()), None];
        Ok(vec![support::output(self.output_type, shape)])
    }

    fn evaluate(&self, inputs: &[Tensor], _: &[OutputInfo]) -> Result<Vec<Tensor>, OpError> {
        let data = &inputs[0];
        let found: Vec<usize> = if data.element_type().is_float() {
            let values = data.to_f64().into_iter().enumerate();
            values.filter(|(_, v)| *v != 0.0).map(|(i, _)| i).collect()
        } else {
            let values = data.to_i128().into_iter().enumerate();
            values.filter(|(_, v)| *v != 0).map(|(i, _)| i).collect()
        };
        let mut places = Vec::with_capacity(found.len() * data.shape().len());
        for (stride, &length) in support::strides(data.shape()).into_iter().zip(data.shape()) {
            places.extend(found.iter().map(|&i| (i / stride as usize % length) as i128));
        }
        let shape = [data.shape().len(), found.len()];
        Ok(vec![Tensor::from_i128(self.output_type, &shape, &places)?])
    }
}
