//! Bucketize and SearchSorted: where values fall among sorted ones.

use std::ops::RangeInclusive;

use crate::error::{OpError, bail};
use crate::graph::OutputInfo;
use crate::op::Op;
use crate::operation::Operation;
use crate::ops::attributes::Attributes;
use crate::ops::support::{self, Input};
use crate::tensor::{ElementType, Tensor};

/// Bucketize-3: inputs data and bucket limits `[buckets]`; the bucket of each element.
#[derive(Debug, Clone)]
struct Bucketize {
    output_type: ElementType,
    /// A value on a limit belongs to the bucket that ends there.
    with_right_bound: bool,
}

/// SearchSorted-15: inputs sorted `[.., count]` or `[count]`, and values; where each would be inserted.
#[derive(Debug, Clone)]
struct SearchSorted {
    /// Behind equal ones rather than before them.
    right_mode: bool,
    output_type: ElementType,
}

/// Reads an operation of this family; `None` if it is of another.
pub(super) fn parse(a: &Attributes) -> Result<Option<Op>, OpError> {
    let output_type = || a.element_type("output_type", Some(ElementType::I64));
    Ok(match a.kind {
        "Bucketize" => Some(Op::standard(Bucketize {
            output_type: output_type()?,
            with_right_bound: a.flag("with_right_bound", Some(true))?,
        })),
        "SearchSorted" => Some(Op::standard(SearchSorted {
            right_mode: a.flag("right_mode", Some(false))?,
            output_type: output_type()?,
        })),
        _ => None,
    })
}

/// How many of the sorted values are below `value`, or not above it.
fn place(sorted: &[f64], value: f64, behind_equal: bool) -> i128 {
    sorted.partition_point(|&s| if behind_equal { s <= value } else { s < value }) as i128
}

impl Operation for Bucketize {
    fn type_name(&self) -> &'static str {
        "Bucketize"
    }

    fn opset(&self) -> u32 {
        3
    }

    fn attributes(&self) -> Vec<(&'static str, String)> {
        vec![
            ("output_type", self.output_type.to_string()),
            ("with_right_bound", self.with_right_bound.to_string()),
        ]
    }

    fn input_count(&self) -> RangeInclusive<usize> {
        2..=2
    }

    fn infer(&self, inputs: &[Input]) -> Result<Vec<OutputInfo>, OpError> {
        support::dims::<1>(&inputs[1], "the bucket limits")?;
        Ok(vec![support::output(self.output_type, inputs[0].shape.to_vec())])
    }

    fn evaluate(&self, inputs: &[Tensor], _: &[OutputInfo]) -> Result<Vec<Tensor>, OpError> {
        let limits = inputs[1].to_f64();
        let values = inputs[0].to_f64().into_iter();
        let buckets: Vec<i128> = values
            .map(|v| place(&limits, v, !self.with_right_bound))
            .collect();
        Ok(vec![Tensor::from_i128(
            self.output_type,
            inputs[0].shape(),
            &buckets,
        )?])
    }
}

impl Operation for SearchSorted {
    fn type_name(&self) -> &'static str {
        "SearchSorted"
    }

    fn opset(&self) -> u32 {
        15
    }

    fn attributes(&self) -> Vec<(&'static str, String)> {
        vec![
            ("output_type", self.output_type.to_string()),
            ("right_mode", self.right_mode.to_string()),
        ]
    }

    fn input_count(&self) -> RangeInclusive<usize> {
        2..=2
    }

    fn infer(&self, inputs: &[Input]) -> Result<Vec<OutputInfo>, OpError> {
        let (sorted, values) = (&inputs[0], &inputs[1]);
        support::same_type(sorted, values)?;
        let rank = values.shape.len();
        if sorted.shape.len() != 1 {
            if sorted.shape.len() != rank || rank == 0 {
                bail!(
                    "expected sorted values of one axis or of the rank of the values, found {} and {}",
                    support::show(sorted.shape),
                    support::show(values.shape)
                );
            }
            for i in 0..rank - 1 {
                support::same_dim(
                    sorted.shape[i],
                    values.shape[i],
                    &format!("axis {i} of both inputs"),
                )?;
            }
        }
        Ok(vec![support::output(self.output_type, values.shape.to_vec())])
    }

    fn evaluate(&self, inputs: &[Tensor], _: &[OutputInfo]) -> Result<Vec<Tensor>, OpError> {
        let (sorted, values) = (inputs[0].to_f64(), &inputs[1]);
        let count = inputs[0].shape().last().copied().unwrap_or(0);
        let per_row = match inputs[0].shape() {
            [_] => usize::MAX,
            _ => values.shape().last().copied().unwrap_or(1).max(1),
        };
        let found: Vec<i128> = values
            .to_f64()
            .into_iter()
            .enumerate()
            .map(|(i, v)| place(&sorted[i / per_row * count..][..count], v, self.right_mode))
            .collect();
        Ok(vec![Tensor::from_i128(self.output_type, values.shape(), &found)?])
    }
}
