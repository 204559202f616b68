//! OneHot: an axis on which one place is on.

use std::ops::RangeInclusive;

use crate::error::{OpError, bail};
use crate::graph::OutputInfo;
use crate::op::Op;
use crate::operation::Operation;
use crate::ops::attributes::{Attributes, word_of};
use crate::ops::support::{self, Input};
use crate::tensor::Tensor;

/// OneHot-1/16: inputs indices, depth, the value that is on, the value that is off. An index outside the new
/// axis switches nothing on.
#[derive(Debug, Clone)]
struct OneHot {
    /// Where the new axis goes in the output; negative ones count from its end.
    axis: i64,
    /// Whether negative indices count from the end of the new axis.
    normalize: bool,
    opset: u32,
}

const NEGATIVE_INDICES: &[(&str, bool)] = &[("ignore_negative", false), ("normalize", true)];

/// Reads an operation of this family; `None` if it is of another.
pub(super) fn parse(a: &Attributes) -> Result<Option<Op>, OpError> {
    if a.kind != "OneHot" {
        return Ok(None);
    }
    Ok(Some(Op::standard(OneHot {
        axis: a.int("axis", None)?,
        normalize: a.word("negative_indices_mode", NEGATIVE_INDICES, Some(false))?,
        opset: if a.opset < 16 { 1 } else { 16 },
    })))
}

impl Operation for OneHot {
    fn type_name(&self) -> &'static str {
        "OneHot"
    }

    fn opset(&self) -> u32 {
        self.opset
    }

    fn attributes(&self) -> Vec<(&'static str, String)> {
        let mut attributes = vec![("axis", self.axis.to_string())];
        if self.opset >= 16 {
            attributes.push((
                "negative_indices_mode",
                word_of(NEGATIVE_INDICES, &self.normalize),
            ));
        }
        attributes
    }

    fn input_count(&self) -> RangeInclusive<usize> {
        4..=4
    }

    fn infer(&self, inputs: &[Input]) -> Result<Vec<OutputInfo>, OpError> {
        support::integers(&inputs[0], "the indices")?;
        support::integers(&inputs[1], "the depth")?;
        let element_type = support::same_type(&inputs[2], &inputs[3])?;
        let axis = support::axis(self.axis, inputs[0].shape.len() + 1)?;
        let depth = match support::scalar(&inputs[1], "the depth")?.map(usize::try_from) {
            None => None,
            Some(Ok(depth)) => Some(depth),
            Some(Err(_)) => bail!("the depth is negative"),
        };
        let mut shape = inputs[0].shape.to_vec();
        shape.insert(axis, depth);
        Ok(vec![support::output(element_type, shape)])
    }

    fn evaluate(&self, inputs: &[Tensor], outputs: &[OutputInfo]) -> Result<Vec<Tensor>, OpError> {
        let shape = support::fixed(&outputs[0])?;
        let axis = support::axis(self.axis, shape.len())?;
        let (depth, inner) = (shape[axis], support::product(&shape[axis + 1..]));
        let off = support::take(&inputs[3], &shape, &vec![0; support::product(&shape)])?;
        let list = inputs[0].to_i64();
        let places = list.iter().enumerate().filter_map(|(i, &at)| {
            let counted = if self.normalize && at < 0 {
                at + depth as i64
            } else {
                at
            };
            let at = usize::try_from(counted).ok().filter(|&at| at < depth)?;
            Some(((i / inner * depth + at) * inner + i % inner, 0))
        });
        Ok(vec![support::overwrite(&off, &inputs[2], places)?])
    }
}
