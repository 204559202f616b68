//! GenerateProposals and ExperimentalDetectronGenerateProposalsSingleImage: regions from given anchors.

use std::ops::RangeInclusive;

use super::boxes::{self, Corners};
use crate::error::{OpError, bail};
use crate::graph::{Dim, OutputInfo};
use crate::op::Op;
use crate::operation::Operation;
use crate::ops::attributes::Attributes;
use crate::ops::support::{self, Input};
use crate::tensor::{ElementType, Tensor};

/// What both versions say.
#[derive(Debug, Clone)]
struct Limits {
    min_size: f32,
    nms_threshold: f32,
    pre_nms_count: i64,
    post_nms_count: usize,
}

/// GenerateProposals-9: inputs image `[N, 3 or 4]` (height, width, scale or both scales), anchors
/// `[H, W, anchors, 4]`, deltas `[N, 4 * anchors, H, W]`, scores `[N, anchors, H, W]`. Outputs: regions
/// `[selected, 4]`, their scores `[selected]`, how many each batch entry has `[N]`.
#[derive(Debug, Clone)]
struct GenerateProposals {
    limits: Limits,
    /// Corners are relative, not pixels that belong to the box.
    normalized: bool,
    nms_eta: f32,
    roi_num_type: ElementType,
}

/// ExperimentalDetectronGenerateProposalsSingleImage-6: inputs image `[3]` (height, width, scale), anchors
/// `[H * W * anchors, 4]`, deltas `[4 * anchors, H, W]`, scores `[anchors, H, W]`. Outputs: regions
/// `[post_nms_count, 4]` and their scores, filled up with zeros.
#[derive(Debug, Clone)]
struct SingleImage {
    limits: Limits,
}

/// Reads an operation of this family; `None` if it is of another.
pub(super) fn parse(a: &Attributes) -> Result<Option<Op>, OpError> {
    let limits = || -> Result<Limits, OpError> {
        Ok(Limits {
            min_size: a.float("min_size", None)?,
            nms_threshold: a.float("nms_threshold", None)?,
            pre_nms_count: a.int("pre_nms_count", None)?,
            post_nms_count: a.size("post_nms_count", None)?,
        })
    };
    Ok(match a.kind {
        "GenerateProposals" => {
            let nms_eta = a.float("nms_eta", Some(1.0))?;
            if nms_eta != 1.0 {
                bail!("attribute `nms_eta`: expected 1, found {nms_eta}");
            }
            Some(Op::standard(GenerateProposals {
                limits: limits()?,
                normalized: a.flag("normalized", Some(true))?,
                nms_eta,
                roi_num_type: a.element_type("roi_num_type", Some(ElementType::I64))?,
            }))
        }
        "ExperimentalDetectronGenerateProposalsSingleImage" => {
            Some(Op::standard(SingleImage { limits: limits()? }))
        }
        _ => None,
    })
}

/// The grid of one batch entry.
struct Grid<'a> {
    anchors: &'a [f32],
    deltas: &'a [f32],
    scores: &'a [f32],
    /// Anchors at each place, and places.
    count: usize,
    area: usize,
}

impl Limits {
    /// Regions that stay and their scores, best first. `small_stay` gives small regions a score of 0 rather than
    /// leaving them out.
    fn select(
        &self,
        grid: &Grid,
        image: (f32, f32),
        least: (f32, f32),
        (refine_pixel, nms_pixel): (f32, f32),
        small_stay: bool,
    ) -> Vec<(Corners, f32)> {
        let (height, width) = (image.0 - refine_pixel, image.1 - refine_pixel);
        let max_log = (1000.0f64 / 16.0).ln() as f32;
        let mut found: Vec<(Corners, f32, bool)> = Vec::with_capacity(grid.area * grid.count);
        for place in 0..grid.area {
            for a in 0..grid.count {
                let anchor = boxes::corners(grid.anchors, place * grid.count + a);
                let deltas = [0, 1, 2, 3].map(|i| grid.deltas[(a * 4 + i) * grid.area + place]);
                let b = boxes::refine(&anchor, deltas, max_log, refine_pixel);
                let cut = |v: f32, high: f32| v.min(high).max(0.0);
                let b = [
                    cut(b[0], width),
                    cut(b[1], height),
                    cut(b[2], width),
                    cut(b[3], height),
                ];
                let (w, h) = (b[2] - b[0] + refine_pixel, b[3] - b[1] + refine_pixel);
                let large = least.1 <= w && least.0 <= h;
                let score = grid.scores[a * grid.area + place];
                found.push((
                    b,
                    if large || !small_stay { score } else { 0.0 },
                    large || small_stay,
                ));
            }
        }
        found.sort_by(|a, b| boxes::descending(a.1, b.1));
        found.truncate(boxes::limit(self.pre_nms_count));
        found.retain(|f| f.2);
        let kept = boxes::greedy(0..found.len(), self.post_nms_count, |a, b| {
            boxes::iou(&found[a].0, &found[b].0, nms_pixel) > self.nms_threshold
        });
        kept.into_iter().map(|i| (found[i].0, found[i].1)).collect()
    }

    fn attributes(&self) -> Vec<(&'static str, String)> {
        vec![
            ("min_size", self.min_size.to_string()),
            ("nms_threshold", self.nms_threshold.to_string()),
            ("pre_nms_count", self.pre_nms_count.to_string()),
            ("post_nms_count", self.post_nms_count.to_string()),
        ]
    }
}

/// Fails unless anchors, deltas and scores are of one grid: `[anchors, H, W]` each.
fn same_grid(anchors: Dim, deltas: &[Dim], scores: &[Dim]) -> Result<(), OpError> {
    for i in 0..2 {
        support::same_dim(
            deltas[1 + i],
            scores[1 + i],
            "height and width of deltas and scores",
        )?;
    }
    if let (Some(deltas), Some(scores)) = (deltas[0], scores[0])
        && scores.checked_mul(4) != Some(deltas)
    {
        bail!("{deltas} channels of deltas for {scores} anchors: expected 4 each");
    }
    if let [Some(count), Some(h), Some(w)] = *scores {
        let expected = count.checked_mul(h).and_then(|n| n.checked_mul(w));
        support::exactly(anchors, expected, "the number of anchors and scores")?;
    }
    Ok(())
}

impl Operation for GenerateProposals {
    fn type_name(&self) -> &'static str {
        "GenerateProposals"
    }

    fn opset(&self) -> u32 {
        9
    }

    fn attributes(&self) -> Vec<(&'static str, String)> {
        let mut attributes = self.limits.attributes();
        attributes.extend([
            ("normalized", self.normalized.to_string()),
            ("nms_eta", self.nms_eta.to_string()),
            ("roi_num_type", self.roi_num_type.to_string()),
        ]);
        attributes
    }

    fn input_count(&self) -> RangeInclusive<usize> {
        4..=4
    }

    fn infer(&self, inputs: &[Input]) -> Result<Vec<OutputInfo>, OpError> {
        let [batch, image] = support::dims(&inputs[0], "the image")?;
        let anchors: [Dim; 4] = support::dims(&inputs[1], "the anchors")?;
        let deltas: [Dim; 4] = support::dims(&inputs[2], "the deltas")?;
        let scores: [Dim; 4] = support::dims(&inputs[3], "the scores")?;
        for input in inputs {
            support::floats(input, "image, anchors, deltas and scores")?;
        }
        if image.is_some_and(|n| n != 3 && n != 4) {
            bail!(
                "the image: expected 3 or 4 numbers, found {}",
                support::show(inputs[0].shape)
            );
        }
        support::same_dim(anchors[3], Some(4), "the numbers of an anchor")?;
        let batch = support::same_dim(batch, deltas[0], "the batch of image and deltas")?;
        let batch = support::same_dim(batch, scores[0], "the batch of image and scores")?;
        let count = anchors[..3]
            .iter()
            .try_fold(1usize, |n, d| d.and_then(|d| n.checked_mul(d)));
        same_grid(count, &deltas[1..], &scores[1..])?;
        let element_type = inputs[0].element_type;
        Ok(vec![
            support::output(element_type, vec![None, Some(4)]),
            support::output(element_type, vec![None]),
            support::output(self.roi_num_type, vec![batch]),
        ])
    }

    fn evaluate(&self, inputs: &[Tensor], _: &[OutputInfo]) -> Result<Vec<Tensor>, OpError> {
        let [batches, numbers] = support::lengths(&inputs[0], "the image")?;
        let [_, count, height, width] = support::lengths(&inputs[3], "the scores")?;
        let values: Vec<Vec<f32>> = inputs.iter().map(Tensor::to_f32).collect();
        let pixel = if self.normalized { 0.0 } else { 1.0 };
        let (area, mut regions, mut scores, mut counts) =
            (height * width, Vec::new(), Vec::new(), Vec::new());
        for batch in 0..batches {
            let image = &values[0][batch * numbers..][..numbers];
            let (scale_height, scale_width) = (image[2], image[numbers - 1]);
            let grid = Grid {
                anchors: &values[1],
                deltas: &values[2][batch * count * 4 * area..][..count * 4 * area],
                scores: &values[3][batch * count * area..][..count * area],
                count,
                area,
            };
            let least = (
                self.limits.min_size * scale_height,
                self.limits.min_size * scale_width,
            );
            let found = self
                .limits
                .select(&grid, (image[0], image[1]), least, (pixel, pixel), false);
            counts.push(found.len() as i128);
            regions.extend(found.iter().flat_map(|f| f.0));
            scores.extend(found.iter().map(|f| f.1));
        }
        let element_type = inputs[0].element_type();
        Ok(vec![
            support::from_f32(element_type, &[scores.len(), 4], &regions)?,
            support::from_f32(element_type, &[scores.len()], &scores)?,
            Tensor::from_i128(self.roi_num_type, &[batches], &counts)?,
        ])
    }

    fn decides_lengths(&self) -> bool {
        true
    }
}

impl Operation for SingleImage {
    fn type_name(&self) -> &'static str {
        "ExperimentalDetectronGenerateProposalsSingleImage"
    }

    fn opset(&self) -> u32 {
        6
    }

    fn attributes(&self) -> Vec<(&'static str, String)> {
        self.limits.attributes()
    }

    fn input_count(&self) -> RangeInclusive<usize> {
        4..=4
    }

    fn infer(&self, inputs: &[Input]) -> Result<Vec<OutputInfo>, OpError> {
        let [image] = support::dims(&inputs[0], "the image")?;
        let [anchors, four] = support::dims(&inputs[1], "the anchors")?;
        let deltas: [Dim; 3] = support::dims(&inputs[2], "the deltas")?;
        let scores: [Dim; 3] = support::dims(&inputs[3], "the scores")?;
        for input in inputs {
            support::floats(input, "image, anchors, deltas and scores")?;
        }
        support::same_dim(image, Some(3), "the numbers of the image")?;
        support::same_dim(four, Some(4), "the numbers of an anchor")?;
        same_grid(anchors, &deltas, &scores)?;
        let element_type = inputs[0].element_type;
        let most = Some(self.limits.post_nms_count);
        Ok(vec![
            support::output(element_type, vec![most, Some(4)]),
            support::output(element_type, vec![most]),
        ])
    }

    fn evaluate(&self, inputs: &[Tensor], _: &[OutputInfo]) -> Result<Vec<Tensor>, OpError> {
        let [count, height, width] = support::lengths(&inputs[3], "the scores")?;
        let values: Vec<Vec<f32>> = inputs.iter().map(Tensor::to_f32).collect();
        let grid = Grid {
            anchors: &values[1],
            deltas: &values[2],
            scores: &values[3],
            count,
            area: height * width,
        };
        let least = (self.limits.min_size, self.limits.min_size);
        let image = (values[0][0], values[0][1]);
        let found = self.limits.select(&grid, image, least, (1.0, 0.0), true);
        let most = self.limits.post_nms_count;
        let mut regions: Vec<f32> = found.iter().flat_map(|f| f.0).collect();
        let mut scores: Vec<f32> = found.iter().map(|f| f.1).collect();
        regions.resize(most * 4, 0.0);
        scores.resize(most, 0.0);
        let element_type = inputs[0].element_type();
        Ok(vec![
            support::from_f32(element_type, &[most, 4], &regions)?,
            support::from_f32(element_type, &[most], &scores)?,
        ])
    }
}
