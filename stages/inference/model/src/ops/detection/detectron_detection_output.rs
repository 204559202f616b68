//! ExperimentalDetectronDetectionOutput: regions refined and suppressed class by class.

use std::ops::RangeInclusive;

use super::boxes::{self, Corners};
use crate::error::{OpError, bail};
use crate::graph::OutputInfo;
use crate::op::Op;
use crate::operation::Operation;
use crate::ops::attributes::Attributes;
use crate::ops::support::{self, Input};
use crate::tensor::{ElementType, Tensor};

/// ExperimentalDetectronDetectionOutput-6: inputs regions `[R, 4]`, deltas `[R, classes * 4]`, scores
/// `[R, classes]` and the image `[1, 3]`; class 0 is the background. Outputs: boxes `[most, 4]`, classes `[most]`
/// and scores `[most]`, filled up with zeros.
#[derive(Debug, Clone)]
struct DetectionOutput {
    score_threshold: f32,
    nms_threshold: f32,
    num_classes: usize,
    post_nms_count: i64,
    max_detections_per_image: usize,
    max_delta_log_wh: f32,
    deltas_weights: Vec<f32>,
}

/// Reads an operation of this family; `None` if it is of another.
pub(super) fn parse(a: &Attributes) -> Result<Option<Op>, OpError> {
    if a.kind != "ExperimentalDetectronDetectionOutput" {
        return Ok(None);
    }
    if a.flag("class_agnostic_box_regression", Some(false))? {
        bail!("attribute `class_agnostic_box_regression`: expected false, found true");
    }
    let output = DetectionOutput {
        score_threshold: a.float("score_threshold", None)?,
        nms_threshold: a.float("nms_threshold", None)?,
        num_classes: a.size("num_classes", None)?,
        post_nms_count: a.int("post_nms_count", None)?,
        max_detections_per_image: a.size("max_detections_per_image", None)?,
        max_delta_log_wh: a.float("max_delta_log_wh", None)?,
        deltas_weights: a.list("deltas_weights", None)?,
    };
    if output.deltas_weights.len() != 4 {
        bail!(
            "attribute `deltas_weights`: expected 4 numbers, found {}",
            output.deltas_weights.len()
        );
    }
    Ok(Some(Op::standard(output)))
}

impl Operation for DetectionOutput {
    fn type_name(&self) -> &'static str {
        "ExperimentalDetectronDetectionOutput"
    }

    fn opset(&self) -> u32 {
        6
    }

    fn attributes(&self) -> Vec<(&'static str, String)> {
        let weights: Vec<String> = self.deltas_weights.iter().map(f32::to_string).collect();
        vec![
            ("score_threshold", self.score_threshold.to_string()),
            ("nms_threshold", self.nms_threshold.to_string()),
            ("num_classes", self.num_classes.to_string()),
            ("post_nms_count", self.post_nms_count.to_string()),
            (
                "max_detections_per_image",
                self.max_detections_per_image.to_string(),
            ),
            ("class_agnostic_box_regression", "false".to_owned()),
            ("max_delta_log_wh", self.max_delta_log_wh.to_string()),
            ("deltas_weights", weights.join(",")),
        ]
    }

    fn input_count(&self) -> RangeInclusive<usize> {
        4..=4
    }

    fn infer(&self, inputs: &[Input]) -> Result<Vec<OutputInfo>, OpError> {
        let [regions, four] = support::dims(&inputs[0], "the regions")?;
        let [of_deltas, deltas] = support::dims(&inputs[1], "the deltas")?;
        let [of_scores, scores] = support::dims(&inputs[2], "the scores")?;
        support::dims::<2>(&inputs[3], "the image")?;
        for input in inputs {
            support::floats(input, "regions, deltas, scores and image")?;
        }
        support::same_dim(four, Some(4), "the numbers of a region")?;
        support::same_dim(regions, of_deltas, "the number of regions and deltas")?;
        support::same_dim(regions, of_scores, "the number of regions and scores")?;
        support::same_dim(scores, Some(self.num_classes), "the classes of the scores")?;
        support::exactly(
            deltas,
            self.num_classes.checked_mul(4),
            "the numbers of the deltas",
        )?;
        let (element_type, most) = (inputs[0].element_type, Some(self.max_detections_per_image));
        Ok(vec![
            support::output(element_type, vec![most, Some(4)]),
            support::output(ElementType::I32, vec![most]),
            support::output(element_type, vec![most]),
        ])
    }

    fn evaluate(&self, inputs: &[Tensor], _: &[OutputInfo]) -> Result<Vec<Tensor>, OpError> {
        let [count, _] = support::lengths(&inputs[0], "the regions")?;
        let (regions, deltas) = (inputs[0].to_f32(), inputs[1].to_f32());
        let scores = inputs[2].to_f32();
        let classes = self.num_classes;
        let mut kept: Vec<(f32, usize, usize, Corners)> = Vec::new();
        for class in 1..classes {
            let refined = |r: usize| {
                let region = boxes::corners(&regions, r);
                if region[2] - region[0] <= 0.0 || region[3] - region[1] <= 0.0 {
                    return ([0.0; 4], 0.0);
                }
                let delta =
                    [0, 1, 2, 3].map(|i| deltas[(r * classes + class) * 4 + i] / self.deltas_weights[i]);
                let refined = boxes::refine(&region, delta, self.max_delta_log_wh, 1.0);
                (refined.map(|v| v.max(0.0)), scores[r * classes + class])
            };
            let found: Vec<(Corners, f32)> = (0..count).map(refined).collect();
            let mut order: Vec<usize> = (0..count)
                .filter(|&r| found[r].1 > self.score_threshold)
                .collect();
            order.sort_by(|&a, &b| boxes::descending(found[a].1, found[b].1));
            let selected = boxes::greedy(order, boxes::limit(self.post_nms_count), |a, b| {
                boxes::iou(&found[a].0, &found[b].0, 1.0) > self.nms_threshold
            });
            kept.extend(selected.into_iter().map(|r| (found[r].1, class, r, found[r].0)));
        }
        let most = self.max_detections_per_image;
        if kept.len() > most {
            kept.sort_by(|a, b| boxes::descending(a.0, b.0).then(a.2.cmp(&b.2)));
            kept.truncate(most);
        }
        let mut corners: Vec<f32> = kept.iter().flat_map(|k| k.3).collect();
        let mut scores: Vec<f32> = kept.iter().map(|k| k.0).collect();
        let mut labels: Vec<i128> = kept.iter().map(|k| k.1 as i128).collect();
        corners.resize(most * 4, 0.0);
        scores.resize(most, 0.0);
        labels.resize(most, 0);
        let element_type = inputs[0].element_type();
        Ok(vec![
            support::from_f32(element_type, &[most, 4], &corners)?,
            Tensor::from_i128(ElementType::I32, &[most], &labels)?,
            support::from_f32(element_type, &[most], &scores)?,
        ])
    }
}
