//! NonMaxSuppression.

use std::ops::RangeInclusive;

use super::boxes::{self, Corners};
use crate::error::{OpError, bail};
use crate::graph::OutputInfo;
use crate::op::Op;
use crate::operation::Operation;
use crate::ops::attributes::{Attributes, word_of};
use crate::ops::support::{self, Input};
use crate::tensor::{ElementType, Tensor};

/// NonMaxSuppression-1/3/4/5/9: inputs boxes `[N, boxes, 4]`, scores `[N, classes, boxes]`, and optionally the
/// most boxes per class (0 by default), the overlap from which on a box suppresses another, the score to be
/// exceeded, and the sigma of soft suppression. Outputs: `[selected, 3]` of batch entry, class and box; from
/// version 5 on their scores `[selected, 3]` and their number `[1]`.
///
/// Versions 1 to 4 have a fixed shape in model files; what comes out are the selected boxes alone, as of
/// OpenVINO's CPU plugin.
#[derive(Debug, Clone)]
struct NonMaxSuppression {
    version: u32,
    /// Boxes are `[x, y, width, height]` around their centre rather than two corners `[y1, x1, y2, x2]`.
    center: bool,
    /// By score over all batch entries and classes.
    sort: bool,
    output_type: ElementType,
}

const ENCODINGS: &[(&str, bool)] = &[("corner", false), ("center", true)];

/// Reads an operation of this family; `None` if it is of another.
pub(super) fn parse(a: &Attributes) -> Result<Option<Op>, OpError> {
    if a.kind != "NonMaxSuppression" {
        return Ok(None);
    }
    let version = match a.opset {
        0..=2 => 1,
        3 => 3,
        4 => 4,
        5..=8 => 5,
        _ => 9,
    };
    Ok(Some(Op::standard(NonMaxSuppression {
        version,
        center: a.word("box_encoding", ENCODINGS, Some(false))?,
        sort: a.flag("sort_result_descending", Some(true))?,
        output_type: a.element_type("output_type", Some(ElementType::I64))?,
    })))
}

/// A box that may be selected.
#[derive(Debug, Clone, Copy)]
pub(super) struct Candidate {
    batch: usize,
    class: usize,
    index: usize,
    score: f32,
    /// The selected boxes before this one are in the score already.
    compared: usize,
}

/// What decides which boxes stay.
pub(super) struct Limits {
    most: usize,
    overlap: f32,
    score: f32,
    sigma: f32,
}

impl Limits {
    /// Reads the inputs behind boxes and scores.
    pub(super) fn new(inputs: &[Tensor]) -> Result<Self, OpError> {
        let most = match inputs.get(2) {
            Some(most) => support::only(&most.to_i64(), "the most boxes per class")?,
            None => 0,
        };
        Ok(Self {
            most: usize::try_from(most).unwrap_or(0),
            overlap: optional(inputs, 3, "the overlap")?.unwrap_or(0.0),
            score: optional(inputs, 4, "the least score")?.unwrap_or(0.0),
            sigma: optional(inputs, 5, "the sigma")?.unwrap_or(0.0),
        })
    }

    /// Selects among the boxes of every class of a batch entry; `scores` are `[classes, boxes]`.
    pub(super) fn select_classes(
        &self,
        batch: usize,
        scores: &[f32],
        count: usize,
        iou: impl Fn(usize, usize) -> f32,
    ) -> Vec<Candidate> {
        let mut selected = Vec::new();
        for (class, scores) in scores.chunks(count.max(1)).enumerate() {
            let candidates = scores.iter().enumerate().map(|(index, &score)| Candidate {
                batch,
                class,
                index,
                score,
                compared: 0,
            });
            let candidates = candidates.filter(|c| c.score > self.score).collect();
            selected.extend(self.select(candidates, &iou));
        }
        selected
    }

    /// Selects among the boxes of one class, best first.
    fn select(&self, mut candidates: Vec<Candidate>, iou: impl Fn(usize, usize) -> f32) -> Vec<Candidate> {
        let scale = if self.sigma > 0.0 { -0.5 / self.sigma } else { 0.0 };
        let order =
            |a: &Candidate, b: &Candidate| boxes::descending(b.score, a.score).then(b.index.cmp(&a.index));
        // The best candidate stands last.
        candidates.sort_by(order);
        let mut selected: Vec<Candidate> = Vec::new();
        while selected.len() < self.most
            && let Some(mut candidate) = candidates.pop()
        {
            let before = candidate.score;
            let mut suppressed = false;
            for better in selected[candidate.compared..].iter().rev() {
                let iou = iou(candidate.index, better.index);
                if self.sigma > 0.0 {
                    candidate.score *= (scale * iou * iou).exp();
                } else if iou >= self.overlap {
                    suppressed = true;
                    break;
                }
                // A score that is no number would never settle.
                if candidate.score.is_nan() || candidate.score <= self.score {
                    suppressed = true;
                    break;
                }
            }
            candidate.compared = selected.len();
            if suppressed {
                continue;
            }
            if candidate.score == before {
                selected.push(candidate);
            } else {
                let at = candidates.partition_point(|c| order(c, &candidate).is_lt());
                candidates.insert(at, candidate);
            }
        }
        selected
    }
}

impl NonMaxSuppression {
    fn corners(&self, values: &[f32], index: usize) -> Corners {
        let b = boxes::corners(values, index);
        if self.center {
            let (half_width, half_height) = (b[2] / 2.0, b[3] / 2.0);
            return [
                b[0] - half_width,
                b[1] - half_height,
                b[0] + half_width,
                b[1] + half_height,
            ];
        }
        // Any two opposite corners will do.
        [b[1].min(b[3]), b[0].min(b[2]), b[1].max(b[3]), b[0].max(b[2])]
    }
}

/// The value of an optional input.
fn optional(inputs: &[Tensor], index: usize, what: &str) -> Result<Option<f32>, OpError> {
    match inputs.get(index) {
        Some(tensor) => support::only(&tensor.to_f32(), what).map(Some),
        None => Ok(None),
    }
}

/// The selected boxes as the outputs hold them.
pub(super) fn outputs(
    mut selected: Vec<Candidate>,
    sort: bool,
    output_type: ElementType,
    score_type: ElementType,
) -> Result<Vec<Tensor>, OpError> {
    if sort {
        // Stable: ties keep the order of batch entry, class, and selection.
        selected.sort_by(|a, b| boxes::descending(a.score, b.score));
    }
    if selected.len() > crate::ops::MAX_ELEMENTS / 3 {
        bail!("{} boxes are selected", selected.len());
    }
    let places: Vec<i128> = selected
        .iter()
        .flat_map(|c| [c.batch as i128, c.class as i128, c.index as i128])
        .collect();
    let scores: Vec<f32> = selected
        .iter()
        .flat_map(|c| [c.batch as f32, c.class as f32, c.score])
        .collect();
    let shape = [selected.len(), 3];
    Ok(vec![
        Tensor::from_i128(output_type, &shape, &places)?,
        support::from_f32(score_type, &shape, &scores)?,
        Tensor::from_i128(output_type, &[1], &[selected.len() as i128])?,
    ])
}

/// Types and shapes of indices, scores and number, given how many numbers a box has.
pub(super) fn infer_outputs(
    inputs: &[Input],
    numbers: usize,
    output_type: ElementType,
) -> Result<Vec<OutputInfo>, OpError> {
    let [batch, count, found] = support::dims(&inputs[0], "the boxes")?;
    let [batch_of_scores, _, count_of_scores] = support::dims(&inputs[1], "the scores")?;
    support::floats(&inputs[0], "the boxes")?;
    support::floats(&inputs[1], "the scores")?;
    support::same_dim(batch, batch_of_scores, "the batch of boxes and scores")?;
    support::same_dim(count, count_of_scores, "the number of boxes and scores")?;
    support::exactly(found, Some(numbers), "the numbers of a box")?;
    Ok(vec![
        support::output(output_type, vec![None, Some(3)]),
        support::output(inputs[1].element_type, vec![None, Some(3)]),
        support::output(output_type, vec![Some(1)]),
    ])
}

impl Operation for NonMaxSuppression {
    fn type_name(&self) -> &'static str {
        "NonMaxSuppression"
    }

    fn opset(&self) -> u32 {
        self.version
    }

    fn attributes(&self) -> Vec<(&'static str, String)> {
        let mut attributes = vec![
            ("box_encoding", word_of(ENCODINGS, &self.center)),
            ("sort_result_descending", self.sort.to_string()),
        ];
        if self.version > 1 {
            attributes.push(("output_type", self.output_type.to_string()));
        }
        attributes
    }

    fn input_count(&self) -> RangeInclusive<usize> {
        if self.version < 5 { 2..=5 } else { 2..=6 }
    }

    fn infer(&self, inputs: &[Input]) -> Result<Vec<OutputInfo>, OpError> {
        let mut outputs = infer_outputs(inputs, 4, self.output_type)?;
        outputs.truncate(if self.version < 5 { 1 } else { 3 });
        Ok(outputs)
    }

    fn evaluate(&self, inputs: &[Tensor], _: &[OutputInfo]) -> Result<Vec<Tensor>, OpError> {
        let [batches, count, _] = support::lengths(&inputs[0], "the boxes")?;
        let [_, classes, _] = support::lengths(&inputs[1], "the scores")?;
        let (values, scores) = (inputs[0].to_f32(), inputs[1].to_f32());
        let limits = Limits::new(inputs)?;
        let mut selected = Vec::new();
        for batch in 0..batches {
            let corners: Vec<Corners> = (0..count)
                .map(|i| self.corners(&values, batch * count + i))
                .collect();
            let scores = &scores[batch * classes * count..][..classes * count];
            let iou = |a: usize, b: usize| boxes::iou(&corners[a], &corners[b], 0.0);
            selected.extend(limits.select_classes(batch, scores, count, iou));
        }
        let mut outputs = outputs(selected, self.sort, self.output_type, inputs[1].element_type())?;
        outputs.truncate(if self.version < 5 { 1 } else { 3 });
        Ok(outputs)
    }

    fn decides_lengths(&self) -> bool {
        true
    }
}
