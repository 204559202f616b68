//! ExperimentalDetectronTopKROIs: the regions of highest score.

use std::ops::RangeInclusive;

use super::boxes;
use crate::error::OpError;
use crate::graph::OutputInfo;
use crate::op::Op;
use crate::operation::Operation;
use crate::ops::attributes::Attributes;
use crate::ops::support::{self, Input};
use crate::tensor::Tensor;

/// ExperimentalDetectronTopKROIs-6: inputs regions `[R, 4]` and scores `[R]`. Output `[max_rois, 4]`, filled up with
/// zeros.
#[derive(Debug, Clone)]
struct TopKRois {
    max_rois: usize,
}

/// Reads an operation of this family; `None` if it is of another.
pub(super) fn parse(a: &Attributes) -> Result<Option<Op>, OpError> {
    if a.kind != "ExperimentalDetectronTopKROIs" {
        return Ok(None);
    }
    let max_rois = a.size("max_rois", None)?;
    Ok(Some(Op::standard(TopKRois { max_rois })))
}

impl Operation for TopKRois {
    fn type_name(&self) -> &'static str {
        "ExperimentalDetectronTopKROIs"
    }

    fn opset(&self) -> u32 {
        6
    }

    fn attributes(&self) -> Vec<(&'static str, String)> {
        vec![("max_rois", self.max_rois.to_string())]
    }

    fn input_count(&self) -> RangeInclusive<usize> {
        2..=2
    }

    fn infer(&self, inputs: &[Input]) -> Result<Vec<OutputInfo>, OpError> {
        let [regions, four] = support::dims(&inputs[0], "the regions")?;
        let [scores] = support::dims(&inputs[1], "the scores")?;
        support::floats(&inputs[0], "the regions")?;
        support::same_type(&inputs[0], &inputs[1])?;
        support::same_dim(four, Some(4), "the numbers of a region")?;
        support::same_dim(regions, scores, "the number of regions and scores")?;
        let shape = vec![Some(self.max_rois), Some(4)];
        Ok(vec![support::output(inputs[0].element_type, shape)])
    }

    fn evaluate(&self, inputs: &[Tensor], _: &[OutputInfo]) -> Result<Vec<Tensor>, OpError> {
        let (regions, scores) = (inputs[0].to_f32(), inputs[1].to_f32());
        let mut order: Vec<usize> = (0..scores.len()).collect();
        order.sort_by(|&a, &b| boxes::descending(scores[a], scores[b]));
        order.truncate(self.max_rois);
        let mut best: Vec<f32> = order
            .into_iter()
            .flat_map(|i| boxes::corners(&regions, i))
            .collect();
        best.resize(self.max_rois * 4, 0.0);
        Ok(vec![support::from_f32(
            inputs[0].element_type(),
            &[self.max_rois, 4],
            &best,
        )?])
    }
}
