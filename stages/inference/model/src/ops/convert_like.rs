//! ConvertLike: conversion to the element type of another tensor.

use std::ops::RangeInclusive;

use super::attributes::Attributes;
use super::convert;
use super::support::{self, Input};
use crate::error::OpError;
use crate::graph::OutputInfo;
use crate::op::Op;
use crate::operation::Operation;
use crate::tensor::Tensor;

/// ConvertLike-1: inputs data and the tensor whose element type the output has.
#[derive(Debug, Clone)]
struct ConvertLike;

/// Reads an operation of this family; `None` if it is of another.
pub(crate) fn parse(a: &Attributes) -> Result<Option<Op>, OpError> {
    Ok((a.kind == "ConvertLike").then(|| Op::standard(ConvertLike)))
}

impl Operation for ConvertLike {
    fn type_name(&self) -> &'static str {
        "ConvertLike"
    }

    fn opset(&self) -> u32 {
        1
    }

    fn input_count(&self) -> RangeInclusive<usize> {
        2..=2
    }

    fn infer(&self, inputs: &[Input]) -> Result<Vec<OutputInfo>, OpError> {
        Ok(vec![support::output(
            inputs[1].element_type,
            inputs[0].shape.to_vec(),
        )])
    }

    fn evaluate(&self, inputs: &[Tensor], _: &[OutputInfo]) -> Result<Vec<Tensor>, OpError> {
        Ok(vec![convert::convert(inputs[1].element_type(), &inputs[0])?])
    }
}
