//! MulticlassNms, and what it shares with MatrixNms.

use std::ops::RangeInclusive;

use super::boxes::{self, Corners};
use crate::error::{OpError, bail};
use crate::graph::{Dim, OutputInfo};
use crate::op::Op;
use crate::operation::Operation;
use crate::ops::attributes::{Attributes, word_of};
use crate::ops::support::{self, Input};
use crate::tensor::{ElementType, Tensor};

/// What the selected boxes are sorted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SortBy {
    Class,
    Score,
    Nothing,
}

/// In what order the selected boxes come out.
#[derive(Debug, Clone, Copy)]
pub(super) struct Order {
    by: SortBy,
    /// All together rather than each batch entry for itself.
    across_batch: bool,
}

const SORTS: &[(&str, SortBy)] = &[
    ("classid", SortBy::Class),
    ("score", SortBy::Score),
    ("none", SortBy::Nothing),
];

impl Order {
    pub(super) fn parse(a: &Attributes) -> Result<Self, OpError> {
        Ok(Self {
            by: a.word("sort_result_type", SORTS, Some(SortBy::Nothing))?,
            across_batch: a.flag("sort_result_across_batch", Some(false))?,
        })
    }

    /// This order where it is across the batch; else none but that by score which each batch entry has.
    pub(super) fn across_batch_only(self) -> Self {
        let by = if self.across_batch {
            self.by
        } else {
            SortBy::Nothing
        };
        Self { by, ..self }
    }

    pub(super) fn attributes(self) -> Vec<(&'static str, String)> {
        vec![
            ("sort_result_type", word_of(SORTS, &self.by)),
            ("sort_result_across_batch", self.across_batch.to_string()),
        ]
    }
}

/// A selected box.
#[derive(Debug, Clone)]
pub(super) struct Detection {
    pub(super) batch: usize,
    pub(super) class: usize,
    /// Among the boxes of its class and batch entry.
    pub(super) index: usize,
    pub(super) score: f32,
    pub(super) corners: Corners,
    /// Among all boxes of the input.
    pub(super) place: usize,
}

/// Types and shapes of the three outputs.
pub(super) fn outputs(boxes: ElementType, indices: ElementType, batch: Dim) -> Vec<OutputInfo> {
    vec![
        support::output(boxes, vec![None, Some(6)]),
        support::output(indices, vec![None, Some(1)]),
        support::output(indices, vec![batch]),
    ]
}

/// Checks boxes `[N, boxes, 4]` and scores `[N, classes, boxes]`; the batch.
pub(super) fn shared_boxes(inputs: &[Input]) -> Result<Dim, OpError> {
    let [batch, count, four] = support::dims(&inputs[0], "the boxes")?;
    let [batch_of_scores, _, count_of_scores] = support::dims(&inputs[1], "the scores")?;
    support::floats(&inputs[0], "the boxes")?;
    support::same_type(&inputs[0], &inputs[1])?;
    support::same_dim(count, count_of_scores, "the number of boxes and scores")?;
    support::same_dim(four, Some(4), "the numbers of a box")?;
    support::same_dim(batch, batch_of_scores, "the batch of boxes and scores")
}

/// Keeps the best boxes of each batch entry, and sorts all.
pub(super) fn finish(
    order: Order,
    keep_top_k: i64,
    found: Vec<Vec<Detection>>,
    boxes_type: ElementType,
    index_type: ElementType,
) -> Result<Vec<Tensor>, OpError> {
    let by_score = |a: &Detection, b: &Detection| {
        let place = (a.batch, a.class, a.index).cmp(&(b.batch, b.class, b.index));
        boxes::descending(a.score, b.score).then(place)
    };
    let by_class = |a: &Detection, b: &Detection| {
        let class = (a.class, a.batch).cmp(&(b.class, b.batch));
        class.then_with(|| by_score(a, b))
    };
    let sort = |all: &mut Vec<Detection>| match order.by {
        SortBy::Class => all.sort_by(by_class),
        SortBy::Score => all.sort_by(by_score),
        SortBy::Nothing => {}
    };
    let mut counts = Vec::with_capacity(found.len());
    let mut all = Vec::new();
    for mut of_batch in found {
        of_batch.sort_by(by_score);
        of_batch.truncate(boxes::limit(keep_top_k));
        if !order.across_batch {
            sort(&mut of_batch);
        }
        counts.push(of_batch.len() as i128);
        all.extend(of_batch);
    }
    if order.across_batch {
        sort(&mut all);
    }
    if all.len() > crate::ops::MAX_ELEMENTS / 6 {
        bail!("{} boxes are selected", all.len());
    }
    let rows: Vec<f32> = all
        .iter()
        .flat_map(|d| {
            let [x1, y1, x2, y2] = d.corners;
            [d.class as f32, d.score, x1, y1, x2, y2]
        })
        .collect();
    let places: Vec<i128> = all.iter().map(|d| d.place as i128).collect();
    Ok(vec![
        support::from_f32(boxes_type, &[all.len(), 6], &rows)?,
        Tensor::from_i128(index_type, &[all.len(), 1], &places)?,
        Tensor::from_i128(index_type, &[counts.len()], &counts)?,
    ])
}

/// MulticlassNms-8/9: inputs boxes `[N, boxes, 4]` and scores `[N, classes, boxes]`; or, version 9, boxes
/// `[classes, boxes, 4]` and scores `[classes, boxes]` of all batch entries one after another, and how many boxes
/// each has `[N]`. Outputs as of MatrixNms.
#[derive(Debug, Clone)]
struct MulticlassNms {
    order: Order,
    output_type: ElementType,
    iou_threshold: f32,
    score_threshold: f32,
    nms_top_k: i64,
    keep_top_k: i64,
    background_class: i64,
    nms_eta: f32,
    normalized: bool,
    opset: u32,
}

/// Reads an operation of this family; `None` if it is of another.
pub(super) fn parse(a: &Attributes) -> Result<Option<Op>, OpError> {
    if a.kind != "MulticlassNms" {
        return Ok(None);
    }
    Ok(Some(Op::standard(MulticlassNms {
        order: Order::parse(a)?,
        output_type: a.element_type("output_type", Some(ElementType::I64))?,
        iou_threshold: a.float("iou_threshold", Some(0.0))?,
        score_threshold: a.float("score_threshold", Some(0.0))?,
        nms_top_k: a.int("nms_top_k", Some(-1))?,
        keep_top_k: a.int("keep_top_k", Some(-1))?,
        background_class: a.int("background_class", Some(-1))?,
        nms_eta: a.float("nms_eta", Some(1.0))?,
        normalized: a.flag("normalized", Some(true))?,
        opset: if a.opset < 9 { 8 } else { 9 },
    })))
}

impl MulticlassNms {
    /// The boxes of one class that stay, best first.
    fn select(&self, corners: &[Corners], scores: &[f32]) -> Vec<usize> {
        let pixel = f32::from(u8::from(!self.normalized));
        let mut order: Vec<usize> = (0..scores.len())
            .filter(|&i| scores[i] >= self.score_threshold)
            .collect();
        order.sort_by(|&a, &b| boxes::descending(scores[a], scores[b]));
        order.truncate(boxes::limit(self.nms_top_k));
        let mut threshold = self.iou_threshold;
        let mut kept: Vec<usize> = Vec::new();
        for candidate in order {
            let overlap = |&better: &usize| {
                boxes::iou_of_near(&corners[candidate], &corners[better], pixel) >= threshold
            };
            if kept.iter().any(overlap) {
                continue;
            }
            kept.push(candidate);
            // Later boxes are judged more strictly.
            if self.nms_eta < 1.0 && threshold > 0.5 {
                threshold *= self.nms_eta;
            }
        }
        kept
    }
}

impl Operation for MulticlassNms {
    fn type_name(&self) -> &'static str {
        "MulticlassNms"
    }

    fn opset(&self) -> u32 {
        self.opset
    }

    fn attributes(&self) -> Vec<(&'static str, String)> {
        let mut attributes = self.order.attributes();
        attributes.extend([
            ("output_type", self.output_type.to_string()),
            ("iou_threshold", self.iou_threshold.to_string()),
            ("score_threshold", self.score_threshold.to_string()),
            ("nms_top_k", self.nms_top_k.to_string()),
            ("keep_top_k", self.keep_top_k.to_string()),
            ("background_class", self.background_class.to_string()),
            ("nms_eta", self.nms_eta.to_string()),
            ("normalized", self.normalized.to_string()),
        ]);
        attributes
    }

    fn input_count(&self) -> RangeInclusive<usize> {
        if self.opset < 9 { 2..=2 } else { 2..=3 }
    }

    fn infer(&self, inputs: &[Input]) -> Result<Vec<OutputInfo>, OpError> {
        let batch = match inputs.get(2) {
            None => shared_boxes(inputs)?,
            Some(counts) => {
                let [classes, count, four] = support::dims(&inputs[0], "the boxes")?;
                let [classes_of_scores, count_of_scores] = support::dims(&inputs[1], "the scores")?;
                support::same_type(&inputs[0], &inputs[1])?;
                support::integers(counts, "the number of boxes of each batch entry")?;
                support::same_dim(classes, classes_of_scores, "the classes of boxes and scores")?;
                support::same_dim(count, count_of_scores, "the number of boxes and scores")?;
                support::same_dim(four, Some(4), "the numbers of a box")?;
                let [batch] = support::dims(counts, "the number of boxes of each batch entry")?;
                batch
            }
        };
        Ok(outputs(inputs[0].element_type, self.output_type, batch))
    }

    fn evaluate(&self, inputs: &[Tensor], _: &[OutputInfo]) -> Result<Vec<Tensor>, OpError> {
        let (values, scores) = (inputs[0].to_f32(), inputs[1].to_f32());
        let [outer, count, _] = support::lengths(&inputs[0], "the boxes")?;
        // For each batch entry: its classes, its boxes, and where they lie.
        let entries: Vec<(usize, usize)> = match inputs.get(2) {
            None => vec![(0, count); outer],
            Some(counts) => {
                let mut start = 0;
                let mut entries = Vec::with_capacity(counts.len());
                for length in counts.to_i64() {
                    let length = usize::try_from(length).unwrap_or(0);
                    if length > count - start {
                        bail!("the batch entries have more than the {count} boxes there are");
                    }
                    entries.push((start, length));
                    start += length;
                }
                entries
            }
        };
        let shared = inputs.len() == 2;
        let classes = if shared { inputs[1].shape()[1] } else { outer };
        let mut found = Vec::with_capacity(entries.len());
        for (batch, (start, length)) in entries.into_iter().enumerate() {
            let mut of_batch = Vec::new();
            for class in (0..classes).filter(|&c| c as i64 != self.background_class) {
                let set = if shared { batch } else { class };
                let corners: Vec<Corners> = (0..length)
                    .map(|i| boxes::corners(&values, set * count + start + i))
                    .collect();
                let row = if shared { batch * classes + class } else { class };
                let scores = &scores[row * count + start..][..length];
                let selected = self.select(&corners, scores).into_iter();
                of_batch.extend(selected.map(|index| Detection {
                    batch,
                    class,
                    index,
                    score: scores[index],
                    corners: corners[index],
                    place: if shared {
                        batch * count + index
                    } else {
                        (start + index) * classes + class
                    },
                }));
            }
            found.push(of_batch);
        }
        finish(
            self.order,
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
