//! DetectionOutput: the boxes of SSD, decoded and suppressed class by class.

use std::ops::RangeInclusive;

use super::boxes::{self, Corners};
use crate::error::{OpError, bail};
use crate::graph::{Dim, OutputInfo};
use crate::op::Op;
use crate::operation::Operation;
use crate::ops::attributes::{Attributes, word_of};
use crate::ops::support::{self, Input};
use crate::tensor::Tensor;

/// DetectionOutput-1/8: inputs box deltas `[N, priors * 4]` (times classes where they do not share them), scores
/// `[N, priors * classes]`, priors `[1 or N, 1 or 2, priors * 4 or 5]`, and optionally the scores `[N, priors * 2]`
/// and deltas of a first stage. Output `[1, 1, most, 7]`: batch entry, class, score and corners; the first unused
/// row starts with -1.
#[derive(Debug, Clone)]
struct DetectionOutput {
    /// Of version 1; version 8 finds it in the shapes.
    num_classes: Option<usize>,
    background_label_id: i64,
    top_k: i64,
    variance_encoded_in_target: bool,
    keep_top_k: i64,
    /// Deltas are of centre and size rather than of corners.
    center_size: bool,
    share_location: bool,
    nms_threshold: f32,
    confidence_threshold: f32,
    clip_after_nms: bool,
    clip_before_nms: bool,
    decrease_label_id: bool,
    /// Priors are relative to the image.
    normalized: bool,
    input_height: usize,
    input_width: usize,
    objectness_score: f32,
}

const CODES: &[(&str, bool)] = &[
    ("caffe.PriorBoxParameter.CORNER", false),
    ("caffe.PriorBoxParameter.CENTER_SIZE", true),
];

/// Reads an operation of this family; `None` if it is of another.
pub(super) fn parse(a: &Attributes) -> Result<Option<Op>, OpError> {
    if a.kind != "DetectionOutput" {
        return Ok(None);
    }
    let num_classes = match a.opset {
        0..8 => Some(a.size("num_classes", None)?),
        _ => None,
    };
    if num_classes == Some(0) {
        bail!("attribute `num_classes`: expected at least 1, found 0");
    }
    let keep_top_k: Vec<i64> = a.list("keep_top_k", None)?;
    let output = DetectionOutput {
        num_classes,
        background_label_id: a.int("background_label_id", Some(0))?,
        top_k: a.int("top_k", Some(-1))?,
        variance_encoded_in_target: a.flag("variance_encoded_in_target", Some(false))?,
        keep_top_k: support::only(&keep_top_k, "attribute `keep_top_k`")?,
        center_size: a.word("code_type", CODES, Some(false))?,
        share_location: a.flag("share_location", Some(true))?,
        nms_threshold: a.float("nms_threshold", None)?,
        confidence_threshold: a.float("confidence_threshold", Some(0.0))?,
        clip_after_nms: a.flag("clip_after_nms", Some(false))?,
        clip_before_nms: a.flag("clip_before_nms", Some(false))?,
        decrease_label_id: a.flag("decrease_label_id", Some(false))?,
        normalized: a.flag("normalized", Some(false))?,
        input_height: a.size("input_height", Some(1))?,
        input_width: a.size("input_width", Some(1))?,
        objectness_score: a.float("objectness_score", Some(0.0))?,
    };
    if output.decrease_label_id && output.background_label_id != 0 {
        bail!(
            "`decrease_label_id` needs `background_label_id` 0, found {}",
            output.background_label_id
        );
    }
    Ok(Some(Op::standard(output)))
}

/// A detection: score, class, prior.
type Found = (f32, usize, usize);

/// Priors of one batch entry.
struct Priors {
    corners: Vec<Corners>,
    variances: Vec<[f32; 4]>,
}

impl DetectionOutput {
    /// Numbers of a prior: a leading one says whether it is there at all, where priors are in pixels.
    fn prior_size(&self) -> usize {
        if self.normalized { 4 } else { 5 }
    }

    /// Numbers of priors and classes.
    fn counts(&self, scores: Dim, priors: Dim) -> Result<(Dim, Dim), OpError> {
        let Some(length) = priors else {
            return Ok((None, self.num_classes));
        };
        let size = self.prior_size();
        let count = length / size;
        if length % size != 0 || count == 0 {
            bail!("the priors: expected {size} numbers each, found {length} together");
        }
        let classes = match (scores, self.num_classes) {
            (Some(scores), expected) => {
                let classes = scores / count;
                if scores % count != 0 || classes == 0 || expected.is_some_and(|e| e != classes) {
                    bail!(
                        "{scores} scores do not fit {count} priors of {} classes",
                        expected.map_or("some".to_owned(), |e| e.to_string())
                    );
                }
                Some(classes)
            }
            (None, expected) => expected,
        };
        Ok((Some(count), classes))
    }

    /// Priors of a batch entry; those behind the first that is not there are left out.
    fn priors(&self, values: &[f32], count: usize) -> Priors {
        let size = self.prior_size();
        let skip = size - 4;
        let there = (0..count)
            .find(|p| !self.normalized && values[p * size] == -1.0)
            .unwrap_or(count);
        Priors {
            corners: (0..there)
                .map(|p| [0, 1, 2, 3].map(|i| values[p * size + skip + i]))
                .collect(),
            variances: (0..there)
                .map(|p| {
                    if self.variance_encoded_in_target {
                        [1.0; 4]
                    } else {
                        [0, 1, 2, 3].map(|i| values[count * size + p * 4 + i])
                    }
                })
                .collect(),
        }
    }

    fn decode(&self, prior: &Corners, variance: &[f32; 4], delta: [f32; 4]) -> Corners {
        let mut b = *prior;
        if !self.normalized {
            let (width, height) = (self.input_width as f32, self.input_height as f32);
            b = [b[0] / width, b[1] / height, b[2] / width, b[3] / height];
        }
        let decoded = if self.center_size {
            let (width, height) = (b[2] - b[0], b[3] - b[1]);
            let x = variance[0] * delta[0] * width + (b[0] + b[2]) / 2.0;
            let y = variance[1] * delta[1] * height + (b[1] + b[3]) / 2.0;
            let width = (variance[2] * delta[2]).exp() * width;
            let height = (variance[3] * delta[3]).exp() * height;
            [
                x - width / 2.0,
                y - height / 2.0,
                x + width / 2.0,
                y + height / 2.0,
            ]
        } else {
            [0, 1, 2, 3].map(|i| b[i] + variance[i] * delta[i])
        };
        if self.clip_before_nms {
            decoded.map(cut)
        } else {
            decoded
        }
    }

    /// Detections of one batch entry: `score` of a class and prior, `corners` of a class (0 where shared).
    fn detect(
        &self,
        priors: usize,
        classes: usize,
        score: impl Fn(usize, usize) -> f32,
        corners: &[Vec<Corners>],
    ) -> Vec<Found> {
        let top_k = boxes::limit(self.top_k);
        let of_class = |class: usize| &corners[if self.share_location { 0 } else { class }];
        let suppresses = |class: usize, a: usize, b: usize| {
            let corners = of_class(class);
            boxes::iou(&corners[a], &corners[b], 0.0) > self.nms_threshold
        };
        let best_first = |a: &Found, b: &Found| boxes::descending(a.0, b.0).then((a.1, a.2).cmp(&(b.1, b.2)));
        let mut candidates: Vec<Vec<Found>> = vec![Vec::new(); classes];
        if self.decrease_label_id {
            // Only the likeliest class of each prior.
            let mut all = Vec::new();
            for prior in 0..priors {
                let mut best: Option<Found> = None;
                for class in 1..classes {
                    let score = score(class, prior);
                    if score >= self.confidence_threshold && best.is_none_or(|b| score > b.0) {
                        best = Some((score, class, prior));
                    }
                }
                all.extend(best);
            }
            all.sort_by(best_first);
            all.truncate(top_k);
            all.into_iter().for_each(|found| candidates[found.1].push(found));
        } else {
            for (class, found) in candidates.iter_mut().enumerate() {
                if class as i64 == self.background_label_id {
                    continue;
                }
                found.extend((0..priors).map(|prior| (score(class, prior), class, prior)));
                found.retain(|f| f.0 > self.confidence_threshold);
                found.sort_by(best_first);
                found.truncate(top_k);
            }
        }
        let mut kept: Vec<Found> = Vec::new();
        for (class, found) in candidates.iter().enumerate() {
            let selected = boxes::greedy(0..found.len(), usize::MAX, |a, b| {
                suppresses(class, found[a].2, found[b].2)
            });
            kept.extend(selected.into_iter().map(|i| found[i]));
        }
        if kept.len() > boxes::limit(self.keep_top_k) {
            kept.sort_by(|a, b| boxes::descending(a.0, b.0).then(a.2.cmp(&b.2)));
            kept.truncate(boxes::limit(self.keep_top_k));
            // By class again, best first within each.
            kept.sort_by_key(|found| found.1);
        }
        kept
    }
}

fn cut(v: f32) -> f32 {
    v.clamp(0.0, 1.0)
}

impl Operation for DetectionOutput {
    fn type_name(&self) -> &'static str {
        "DetectionOutput"
    }

    fn opset(&self) -> u32 {
        if self.num_classes.is_some() { 1 } else { 8 }
    }

    fn attributes(&self) -> Vec<(&'static str, String)> {
        let num_classes = self.num_classes.map(|n| ("num_classes", n.to_string()));
        let mut attributes: Vec<_> = num_classes.into_iter().collect();
        attributes.extend([
            ("background_label_id", self.background_label_id.to_string()),
            ("top_k", self.top_k.to_string()),
            (
                "variance_encoded_in_target",
                self.variance_encoded_in_target.to_string(),
            ),
            ("keep_top_k", self.keep_top_k.to_string()),
            ("code_type", word_of(CODES, &self.center_size)),
            ("share_location", self.share_location.to_string()),
            ("nms_threshold", self.nms_threshold.to_string()),
            ("confidence_threshold", self.confidence_threshold.to_string()),
            ("clip_after_nms", self.clip_after_nms.to_string()),
            ("clip_before_nms", self.clip_before_nms.to_string()),
            ("decrease_label_id", self.decrease_label_id.to_string()),
            ("normalized", self.normalized.to_string()),
            ("input_height", self.input_height.to_string()),
            ("input_width", self.input_width.to_string()),
            ("objectness_score", self.objectness_score.to_string()),
        ]);
        attributes
    }

    fn input_count(&self) -> RangeInclusive<usize> {
        3..=5
    }

    fn infer(&self, inputs: &[Input]) -> Result<Vec<OutputInfo>, OpError> {
        if inputs.len() == 4 {
            bail!("expected 3 or 5 inputs, found 4");
        }
        for input in inputs {
            support::floats(input, "deltas, scores and priors")?;
        }
        let [batch, deltas] = support::dims(&inputs[0], "the deltas")?;
        let [batch_of_scores, scores] = support::dims(&inputs[1], "the scores")?;
        let [batch_of_priors, rows, length] = support::dims(&inputs[2], "the priors")?;
        let batch = support::same_dim(batch, batch_of_scores, "the batch of deltas and scores")?;
        if batch_of_priors != Some(1) {
            support::same_dim(batch, batch_of_priors, "the batch of deltas and priors")?;
        }
        let expected = if self.variance_encoded_in_target { 1 } else { 2 };
        support::same_dim(rows, Some(expected), "the rows of the priors")?;
        let (priors, classes) = self.counts(scores, length)?;
        let boxes_per_prior = if self.share_location { Some(1) } else { classes };
        if let (Some(priors), Some(boxes)) = (priors, boxes_per_prior) {
            let expected = priors.checked_mul(boxes).and_then(|n| n.checked_mul(4));
            support::exactly(deltas, expected, "the number of deltas")?;
            if let Some(first) = inputs.get(4) {
                let [b, n] = support::dims(first, "the deltas of the first stage")?;
                support::same_dim(b, batch, "the batch of both stages")?;
                support::exactly(n, expected, "the number of deltas of the first stage")?;
            }
            if let Some(first) = inputs.get(3) {
                let [b, n] = support::dims(first, "the scores of the first stage")?;
                support::same_dim(b, batch, "the batch of both stages")?;
                support::exactly(
                    n,
                    priors.checked_mul(2),
                    "the number of scores of the first stage",
                )?;
            }
        }
        let most: Option<usize> = if self.keep_top_k > 0 {
            Some(boxes::limit(self.keep_top_k))
        } else {
            let per_class = match self.top_k {
                1.. => Some(boxes::limit(self.top_k)),
                _ => priors,
            };
            per_class.zip(classes).and_then(|(n, c)| n.checked_mul(c))
        };
        let most = most.zip(batch).and_then(|(n, b)| n.checked_mul(b));
        let shape = vec![Some(1), Some(1), most, Some(7)];
        Ok(vec![support::output(inputs[0].element_type, shape)])
    }

    fn evaluate(&self, inputs: &[Tensor], outputs: &[OutputInfo]) -> Result<Vec<Tensor>, OpError> {
        let shape = support::fixed(&outputs[0])?;
        let [batches, _] = support::lengths(&inputs[0], "the deltas")?;
        let [_, per_entry] = support::lengths(&inputs[1], "the scores")?;
        let [prior_batches, rows, length] = support::lengths(&inputs[2], "the priors")?;
        let (Some(count), Some(classes)) = self.counts(Some(per_entry), Some(length))? else {
            bail!("the numbers of priors and classes are not known");
        };
        let values: Vec<Vec<f32>> = inputs.iter().map(Tensor::to_f32).collect();
        let sets = if self.share_location { 1 } else { classes };
        let delta = |values: &[f32], n: usize, prior: usize, set: usize| {
            let at = ((n * count + prior) * sets + set) * 4;
            [0, 1, 2, 3].map(|i| values[at + i])
        };
        let mut results = vec![0f32; support::product(&shape)];
        let mut row = 0;
        for n in 0..batches {
            let from = if prior_batches == 1 { 0 } else { n };
            let priors = self.priors(&values[2][from * rows * length..][..rows * length], count);
            let there = priors.corners.len();
            let decode = |set: usize, prior: usize| {
                let mut corners = priors.corners[prior];
                let variance = &priors.variances[prior];
                if let Some(first) = values.get(4) {
                    corners = self.decode(&corners, variance, delta(first, n, prior, set));
                }
                self.decode(&corners, variance, delta(&values[0], n, prior, set))
            };
            let corners: Vec<Vec<Corners>> = (0..sets)
                .map(|set| (0..there).map(|prior| decode(set, prior)).collect())
                .collect();
            let score = |class: usize, prior: usize| {
                let empty = values
                    .get(3)
                    .is_some_and(|first| first[(n * count + prior) * 2 + 1] < self.objectness_score);
                if empty {
                    f32::from(u8::from(class as i64 == self.background_label_id))
                } else {
                    values[1][(n * count + prior) * classes + class]
                }
            };
            for (score, class, prior) in self.detect(there, classes, score, &corners) {
                let b = corners[if self.share_location { 0 } else { class }][prior];
                let b = if self.clip_after_nms { b.map(cut) } else { b };
                let label = class as f32 - if self.decrease_label_id { 1.0 } else { 0.0 };
                if let Some(to) = results.get_mut(row * 7..row * 7 + 7) {
                    to.copy_from_slice(&[n as f32, label, score, b[0], b[1], b[2], b[3]]);
                    row += 1;
                }
            }
        }
        if let Some(unused) = results.get_mut(row * 7) {
            *unused = -1.0;
        }
        Ok(vec![support::from_f32(
            inputs[0].element_type(),
            &shape,
            &results,
        )?])
    }
}
