//! MatrixNms: scores decay with the overlap of better boxes.

use std::ops::RangeInclusive;

use super::boxes::{self, Corners};
use super::multiclass_nms::{self, Detection, Order};
use crate::error::OpError;
use crate::graph::OutputInfo;
use crate::op::Op;
use crate::operation::Operation;
use crate::ops::attributes::{Attributes, word_of};
use crate::ops::support::{self, Input};
use crate::tensor::{ElementType, Tensor};

/// MatrixNms-8: inputs boxes `[N, boxes, 4]` (two corners `[x1, y1, x2, y2]`) and scores `[N, classes, boxes]`.
/// Outputs: `[selected, 6]` of class, score and corners; their places among all boxes `[selected, 1]`; how many
/// each batch entry has `[N]`.
#[derive(Debug, Clone)]
struct MatrixNms {
    order: Order,
    output_type: ElementType,
    score_threshold: f32,
    nms_top_k: i64,
    keep_top_k: i64,
    background_class: i64,
    gaussian: bool,
    gaussian_sigma: f32,
    post_threshold: f32,
    normalized: bool,
}

const DECAYS: &[(&str, bool)] = &[("linear", false), ("gaussian", true)];

/// Reads an operation of this family; `None` if it is of another.
pub(super) fn parse(a: &Attributes) -> Result<Option<Op>, OpError> {
    if a.kind != "MatrixNms" {
        return Ok(None);
    }
    Ok(Some(Op::standard(MatrixNms {
        order: Order::parse(a)?,
        output_type: a.element_type("output_type", Some(ElementType::I64))?,
        score_threshold: a.float("score_threshold", Some(0.0))?,
        nms_top_k: a.int("nms_top_k", Some(-1))?,
        keep_top_k: a.int("keep_top_k", Some(-1))?,
        background_class: a.int("background_class", Some(-1))?,
        gaussian: a.word("decay_function", DECAYS, Some(false))?,
        gaussian_sigma: a.float("gaussian_sigma", Some(2.0))?,
        post_threshold: a.float("post_threshold", Some(0.0))?,
        normalized: a.flag("normalized", Some(true))?,
    })))
}

impl MatrixNms {
    fn decay(&self, iou: f32, most: f32) -> f32 {
        if self.gaussian {
            ((most * most - iou * iou) * self.gaussian_sigma).exp()
        } else {
            ((1.0 - f64::from(iou)) / (1.0 - f64::from(most) + 1e-10)) as f32
        }
    }

    /// The boxes of one class that stay, with what remains of their scores.
    fn select(&self, corners: &[Corners], scores: &[f32]) -> Vec<(usize, f32)> {
        let pixel = f32::from(u8::from(!self.normalized));
        let mut order: Vec<usize> = (0..scores.len())
            .filter(|&i| scores[i] > self.score_threshold)
            .collect();
        order.sort_by(|&a, &b| boxes::descending(scores[a], scores[b]));
        order.truncate(boxes::limit(self.nms_top_k));
        let mut most: Vec<f32> = Vec::with_capacity(order.len());
        let mut selected = Vec::new();
        for (i, &this) in order.iter().enumerate() {
            let overlaps: Vec<f32> = order[..i]
                .iter()
                .map(|&better| boxes::iou(&corners[this], &corners[better], pixel))
                .collect();
            let decays = overlaps
                .iter()
                .zip(&most)
                .map(|(&iou, &most)| self.decay(iou, most));
            let score = decays.fold(1.0, f32::min) * scores[this];
            most.push(overlaps.into_iter().fold(0.0, f32::max));
            if score > self.post_threshold {
                selected.push((this, score));
            }
        }
        selected
    }
}

impl Operation for MatrixNms {
    fn type_name(&self) -> &'static str {
        "MatrixNms"
    }

    fn opset(&self) -> u32 {
        8
    }

    fn attributes(&self) -> Vec<(&'static str, String)> {
        let mut attributes = self.order.attributes();
        attributes.extend([
            ("output_type", self.output_type.to_string()),
            ("score_threshold", self.score_threshold.to_string()),
            ("nms_top_k", self.nms_top_k.to_string()),
            ("keep_top_k", self.keep_top_k.to_string()),
            ("background_class", self.background_class.to_string()),
            ("decay_function", word_of(DECAYS, &self.gaussian)),
            ("gaussian_sigma", self.gaussian_sigma.to_string()),
            ("post_threshold", self.post_threshold.to_string()),
            ("normalized", self.normalized.to_string()),
        ]);
        attributes
    }

    fn input_count(&self) -> RangeInclusive<usize> {
        2..=2
    }

    fn infer(&self, inputs: &[Input]) -> Result<Vec<OutputInfo>, OpError> {
        let batch = multiclass_nms::shared_boxes(inputs)?;
        Ok(multiclass_nms::outputs(
            inputs[0].element_type,
            self.output_type,
            batch,
        ))
    }

    fn evaluate(&self, inputs: &[Tensor], _: &[OutputInfo]) -> Result<Vec<Tensor>, OpError> {
        let [batches, count, _] = support::lengths(&inputs[0], "the boxes")?;
        let [_, classes, _] = support::lengths(&inputs[1], "the scores")?;
        let (values, scores) = (inputs[0].to_f32(), inputs[1].to_f32());
        let mut found = Vec::with_capacity(batches);
        for batch in 0..batches {
            let corners: Vec<Corners> = (0..count)
                .map(|i| boxes::corners(&values, batch * count + i))
                .collect();
            let mut of_batch = Vec::new();
            for class in (0..classes).filter(|&c| c as i64 != self.background_class) {
                let scores = &scores[(batch * classes + class) * count..][..count];
                let selected = self.select(&corners, scores).into_iter();
                of_batch.extend(selected.map(|(index, score)| Detection {
                    batch,
                    class,
                    index,
                    score,
                    corners: corners[index],
                    place: batch * count + index,
                }));
            }
            found.push(of_batch);
        }
        multiclass_nms::finish(
            self.order.across_batch_only(),
            self.keep_top_k,
            found,
            inputs[0].element_type(),
            self.output_type,
        )
    }

    fn decides_lengths(&self) -> bool {
        true
    }
}
