//! Eye: matrices with ones on a diagonal.

use std::ops::RangeInclusive;

use crate::error::{OpError, bail};
use crate::graph::{Dim, OutputInfo};
use crate::op::Op;
use crate::operation::Operation;
use crate::ops::attributes::Attributes;
use crate::ops::support::{self, Input};
use crate::tensor::{ElementType, Tensor};

/// Eye-9: inputs rows, columns, diagonal (above 0 to the right of the main one), optional batch shape.
#[derive(Debug, Clone)]
struct Eye {
    output_type: ElementType,
}

/// Reads an operation of this family; `None` if it is of another.
pub(super) fn parse(a: &Attributes) -> Result<Option<Op>, OpError> {
    if a.kind != "Eye" {
        return Ok(None);
    }
    let output_type = a.element_type("output_type", None)?;
    Ok(Some(Op::standard(Eye { output_type })))
}

fn length(value: i64) -> Result<usize, OpError> {
    match usize::try_from(value) {
        Ok(length) => Ok(length),
        Err(_) => bail!("expected lengths of 0 or more, found {value}"),
    }
}

impl Operation for Eye {
    fn type_name(&self) -> &'static str {
        "Eye"
    }

    fn opset(&self) -> u32 {
        9
    }

    fn attributes(&self) -> Vec<(&'static str, String)> {
        vec![("output_type", self.output_type.to_string())]
    }

    fn input_count(&self) -> RangeInclusive<usize> {
        3..=4
    }

    fn infer(&self, inputs: &[Input]) -> Result<Vec<OutputInfo>, OpError> {
        for input in inputs {
            support::integers(input, "rows, columns, diagonal and batch shape")?;
        }
        let mut shape: Vec<Dim> = match inputs.get(3).map(|batch| (batch.integers(), batch.shape)) {
            None => Vec::new(),
            Some((Some(list), _)) => list
                .into_iter()
                .map(|l| length(l).map(Some))
                .collect::<Result<_, _>>()?,
            Some((None, [Some(rank)])) if *rank <= 64 => vec![None; *rank],
            Some(_) => bail!("the rank of the output is not fixed: the batch shape must be a constant"),
        };
        for input in &inputs[..2] {
            shape.push(
                support::scalar(input, "rows and columns")?
                    .map(length)
                    .transpose()?,
            );
        }
        Ok(vec![support::output(self.output_type, shape)])
    }

    fn evaluate(&self, inputs: &[Tensor], outputs: &[OutputInfo]) -> Result<Vec<Tensor>, OpError> {
        let shape = support::fixed(&outputs[0])?;
        let diagonal = i128::from(support::only(&inputs[2].to_i64(), "the diagonal")?);
        let [.., rows, columns] = shape[..] else {
            bail!("expected a matrix, found shape {shape:?}");
        };
        let values: Vec<i128> = (0..support::product(&shape))
            .map(|i| {
                let (row, column) = (i / columns % rows, i % columns);
                i128::from(column as i128 - row as i128 == diagonal)
            })
            .collect();
        Ok(vec![Tensor::from_i128(self.output_type, &shape, &values)?])
    }
}
