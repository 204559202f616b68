//! GatherTree: the beams of a beam search, followed back from their ends.

use std::ops::RangeInclusive;

use crate::error::{OpError, bail};
use crate::graph::OutputInfo;
use crate::op::Op;
use crate::operation::Operation;
use crate::ops::attributes::Attributes;
use crate::ops::support::{self, Input};
use crate::tensor::Tensor;

/// GatherTree-1: inputs steps and parents `[time, batch, beam]`, longest times `[batch]`, end token `[]`.
#[derive(Debug, Clone)]
struct GatherTree;

/// Reads an operation of this family; `None` if it is of another.
pub(super) fn parse(a: &Attributes) -> Result<Option<Op>, OpError> {
    Ok((a.kind == "GatherTree").then(|| Op::standard(GatherTree)))
}

impl Operation for GatherTree {
    fn type_name(&self) -> &'static str {
        "GatherTree"
    }

    fn opset(&self) -> u32 {
        1
    }

    fn input_count(&self) -> RangeInclusive<usize> {
        4..=4
    }

    fn infer(&self, inputs: &[Input]) -> Result<Vec<OutputInfo>, OpError> {
        let element_type = inputs
            .iter()
            .skip(1)
            .try_fold(inputs[0].element_type, |_, i| support::same_type(&inputs[0], i))?;
        let steps = support::dims::<3>(&inputs[0], "the steps")?;
        let parents = support::dims::<3>(&inputs[1], "the parents")?;
        let [times] = support::dims(&inputs[2], "the longest times")?;
        let mut shape = Vec::with_capacity(3);
        for (i, (a, b)) in steps.into_iter().zip(parents).enumerate() {
            shape.push(support::same_dim(
                a,
                b,
                &format!("axis {i} of steps and parents"),
            )?);
        }
        shape[1] = support::same_dim(shape[1], times, "the batch axis")?;
        if inputs[3].count().is_some_and(|count| count != 1) {
            bail!(
                "the end token: expected one value, found {}",
                support::show(inputs[3].shape)
            );
        }
        Ok(vec![support::output(element_type, shape)])
    }

    fn evaluate(&self, inputs: &[Tensor], _: &[OutputInfo]) -> Result<Vec<Tensor>, OpError> {
        let [times, batches, beams] = support::lengths(&inputs[0], "the steps")?;
        let (steps, parents) = (inputs[0].to_f64(), inputs[1].to_i64());
        let longest = inputs[2].to_i64();
        let end = support::only(&inputs[3].to_f64(), "the end token")?;
        let mut tree = vec![end; steps.len()];
        for (batch, &longest) in longest.iter().enumerate() {
            let length = usize::try_from(longest).unwrap_or(0).min(times);
            for beam in 0..beams {
                let at = |time: usize, beam: usize| (time * batches + batch) * beams + beam;
                let mut from = beam;
                for time in (0..length).rev() {
                    tree[at(time, beam)] = steps[at(time, from)];
                    if time > 0 {
                        from = support::index(parents[at(time, from)].max(-1), beams)
                            .map_err(|_| OpError(format!("a parent is none of the {beams} beams")))?;
                    }
                }
                // Everything behind the first end token is an end token.
                let first = (0..length).find(|&time| tree[at(time, beam)] == end);
                for time in first.unwrap_or(length)..length {
                    tree[at(time, beam)] = end;
                }
            }
        }
        Ok(vec![Tensor::from_f64(
            inputs[0].element_type(),
            inputs[0].shape(),
            &tree,
        )?])
    }
}
