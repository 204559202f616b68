//! SliceScatter: updates replace a slice of the data.

use std::ops::RangeInclusive;

use crate::error::{OpError, bail};
use crate::graph::{Dim, OutputInfo};
use crate::op::Op;
use crate::operation::Operation;
use crate::ops::attributes::Attributes;
use crate::ops::slice;
use crate::ops::support::{self, Input};
use crate::tensor::Tensor;

/// SliceScatter-15: inputs data, updates, and start, stop, step and optional axes as of Slice-8.
#[derive(Debug, Clone)]
struct SliceScatter;

/// Reads an operation of this family; `None` if it is of another.
pub(super) fn parse(a: &Attributes) -> Result<Option<Op>, OpError> {
    Ok((a.kind == "SliceScatter").then(|| Op::standard(SliceScatter)))
}

impl Operation for SliceScatter {
    fn type_name(&self) -> &'static str {
        "SliceScatter"
    }

    fn opset(&self) -> u32 {
        15
    }

    fn input_count(&self) -> RangeInclusive<usize> {
        5..=6
    }

    fn infer(&self, inputs: &[Input]) -> Result<Vec<OutputInfo>, OpError> {
        let (data, updates) = (&inputs[0], &inputs[1]);
        let element_type = support::same_type(data, updates)?;
        if data.shape.len() != updates.shape.len() {
            bail!(
                "expected updates of the data's rank, found {} and {}",
                support::show(updates.shape),
                support::show(data.shape)
            );
        }
        for input in &inputs[2..] {
            support::integers(input, "start, stop, step and axes")?;
        }
        Ok(vec![support::output(element_type, data.shape.to_vec())])
    }

    fn evaluate(&self, inputs: &[Tensor], _: &[OutputInfo]) -> Result<Vec<Tensor>, OpError> {
        let (data, updates) = (&inputs[0], &inputs[1]);
        let dims: Vec<Dim> = data.shape().iter().map(|&d| Some(d)).collect();
        let known: Vec<_> = inputs[2..].iter().map(|t| Some(t.to_i64())).collect();
        let ranges = slice::ranges(&known, &dims)?;
        let shape: Vec<usize> = ranges.iter().map(|r| r.map_or(0, |r| r.count)).collect();
        // A length of 1 in the updates serves the whole axis.
        let fits = |(&to, &from): (&usize, &usize)| to == from || from == 1;
        if !shape.iter().zip(updates.shape()).all(fits) {
            bail!("expected updates {shape:?}, found {:?}", updates.shape());
        }
        let ranges: Vec<slice::Range> = ranges.into_iter().flatten().collect();
        let to = slice::offsets(data.shape(), &ranges);
        let from = support::broadcast_offsets(updates.shape(), &shape);
        Ok(vec![support::overwrite(data, updates, to.into_iter().zip(from))?])
    }
}
