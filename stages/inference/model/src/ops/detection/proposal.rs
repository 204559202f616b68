//! Proposal: the regions of Faster R-CNN, from anchors at every place of the feature map.

use std::ops::RangeInclusive;

use super::boxes::{self, Corners};
use crate::error::{OpError, bail};
use crate::graph::OutputInfo;
use crate::op::Op;
use crate::operation::Operation;
use crate::ops::attributes::Attributes;
use crate::ops::support::{self, Input};
use crate::tensor::Tensor;

/// Proposal-1/4: inputs scores `[N, 2 * anchors, H, W]` (of which the second half counts), box deltas
/// `[N, 4 * anchors, H, W]` and the image `[3 or 4]`: height, width, scale or both scales. Outputs: regions
/// `[N * post_nms_topn, 5]` of batch entry and corners, and (version 4) their scores; the first unused row of a
/// batch entry starts with -1.
#[derive(Debug, Clone)]
struct Proposal {
    base_size: usize,
    pre_nms_topn: usize,
    post_nms_topn: usize,
    nms_thresh: f32,
    feat_stride: usize,
    min_size: usize,
    ratio: Vec<f32>,
    scale: Vec<f32>,
    clip_before_nms: bool,
    clip_after_nms: bool,
    normalize: bool,
    box_size_scale: f32,
    box_coordinate_scale: f32,
    /// `framework="tensorflow"`: corners are not pixels that belong to the box, and x and y change places.
    tensorflow: bool,
    opset: u32,
}

/// Reads an operation of this family; `None` if it is of another.
pub(super) fn parse(a: &Attributes) -> Result<Option<Op>, OpError> {
    if a.kind != "Proposal" {
        return Ok(None);
    }
    Ok(Some(Op::standard(Proposal {
        base_size: a.size("base_size", None)?,
        pre_nms_topn: a.size("pre_nms_topn", None)?,
        post_nms_topn: a.size("post_nms_topn", None)?,
        nms_thresh: a.float("nms_thresh", None)?,
        feat_stride: a.size("feat_stride", None)?,
        min_size: a.size("min_size", None)?,
        ratio: a.list("ratio", None)?,
        scale: a.list("scale", None)?,
        clip_before_nms: a.flag("clip_before_nms", Some(true))?,
        clip_after_nms: a.flag("clip_after_nms", Some(false))?,
        normalize: a.flag("normalize", Some(false))?,
        box_size_scale: a.float("box_size_scale", Some(1.0))?,
        box_coordinate_scale: a.float("box_coordinate_scale", Some(1.0))?,
        tensorflow: a.word("framework", &[("", false), ("tensorflow", true)], Some(false))?,
        opset: if a.opset < 4 { 1 } else { 4 },
    })))
}

impl Proposal {
    fn anchors(&self) -> Vec<Corners> {
        let pixel = if self.tensorflow { 0.0 } else { 1.0 };
        let base = self.base_size as f32;
        let (area, center) = (base * base, 0.5 * (base - pixel));
        let shift = if self.tensorflow { base * 0.5 } else { 0.0 };
        let mut anchors = Vec::with_capacity(self.ratio.len() * self.scale.len());
        for &ratio in &self.ratio {
            let mut width = (area / ratio).sqrt();
            let mut height = width * ratio;
            if !self.tensorflow {
                width = width.round();
                height = (width * ratio).round();
            }
            for &scale in &self.scale {
                let half_width = 0.5 * (width * scale - pixel);
                let half_height = 0.5 * (height * scale - pixel);
                anchors.push([
                    center - half_width - shift,
                    center - half_height - shift,
                    center + half_width - shift,
                    center + half_height - shift,
                ]);
            }
        }
        anchors
    }

    /// A region around an anchor, from deltas of centre and size.
    fn region(&self, mut b: Corners, deltas: [f32; 4], image: (f32, f32)) -> Corners {
        let (height, width) = image;
        let pixel = if self.tensorflow { 0.0 } else { 1.0 };
        let clip = |b: Corners, height: f32, width: f32| {
            let cut = |v: f32, high: f32| v.min(high).max(0.0);
            [
                cut(b[0], width),
                cut(b[1], height),
                cut(b[2], width),
                cut(b[3], height),
            ]
        };
        if self.tensorflow {
            b = clip(b, height, width);
        }
        let (w, h) = (b[2] - b[0] + pixel, b[3] - b[1] + pixel);
        let x = deltas[0] / self.box_coordinate_scale * w + (b[0] + 0.5 * w);
        let y = deltas[1] / self.box_coordinate_scale * h + (b[1] + 0.5 * h);
        let w = (deltas[2] / self.box_size_scale).exp() * w;
        let h = (deltas[3] / self.box_size_scale).exp() * h;
        let region = [x - 0.5 * w, y - 0.5 * h, x + 0.5 * w, y + 0.5 * h];
        if self.clip_before_nms {
            clip(region, height - pixel, width - pixel)
        } else {
            region
        }
    }
}

impl Operation for Proposal {
    fn type_name(&self) -> &'static str {
        "Proposal"
    }

    fn opset(&self) -> u32 {
        self.opset
    }

    fn attributes(&self) -> Vec<(&'static str, String)> {
        let list = |values: &[f32]| values.iter().map(f32::to_string).collect::<Vec<_>>().join(",");
        vec![
            ("base_size", self.base_size.to_string()),
            ("pre_nms_topn", self.pre_nms_topn.to_string()),
            ("post_nms_topn", self.post_nms_topn.to_string()),
            ("nms_thresh", self.nms_thresh.to_string()),
            ("feat_stride", self.feat_stride.to_string()),
            ("min_size", self.min_size.to_string()),
            ("ratio", list(&self.ratio)),
            ("scale", list(&self.scale)),
            ("clip_before_nms", self.clip_before_nms.to_string()),
            ("clip_after_nms", self.clip_after_nms.to_string()),
            ("normalize", self.normalize.to_string()),
            ("box_size_scale", self.box_size_scale.to_string()),
            ("box_coordinate_scale", self.box_coordinate_scale.to_string()),
            (
                "framework",
                if self.tensorflow { "tensorflow" } else { "" }.to_owned(),
            ),
        ]
    }

    fn input_count(&self) -> RangeInclusive<usize> {
        3..=3
    }

    fn infer(&self, inputs: &[Input]) -> Result<Vec<OutputInfo>, OpError> {
        support::floats(&inputs[0], "the scores")?;
        let [batch, channels, h, w] = support::dims(&inputs[0], "the scores")?;
        let [batch_of_deltas, deltas, dh, dw] = support::dims(&inputs[1], "the deltas")?;
        let batch = support::same_dim(batch, batch_of_deltas, "the batch of scores and deltas")?;
        support::same_dim(h, dh, "the height of scores and deltas")?;
        support::same_dim(w, dw, "the width of scores and deltas")?;
        let anchors = self.ratio.len().checked_mul(self.scale.len());
        let times = |n: usize| anchors.and_then(|a| a.checked_mul(n));
        support::exactly(channels, times(2), "the channels of the scores")?;
        support::exactly(deltas, times(4), "the channels of the deltas")?;
        let [image] = support::dims(&inputs[2], "the image")?;
        if image.is_some_and(|n| n != 3 && n != 4) {
            bail!(
                "the image: expected 3 or 4 numbers, found {}",
                support::show(inputs[2].shape)
            );
        }
        let rows = match batch {
            None => None,
            Some(batch) => match batch.checked_mul(self.post_nms_topn) {
                Some(rows) => Some(rows),
                None => bail!("attribute `post_nms_topn`: {} are too many", self.post_nms_topn),
            },
        };
        let mut outputs = vec![support::output(inputs[0].element_type, vec![rows, Some(5)])];
        if self.opset >= 4 {
            outputs.push(support::output(inputs[0].element_type, vec![rows]));
        }
        Ok(outputs)
    }

    fn evaluate(&self, inputs: &[Tensor], _: &[OutputInfo]) -> Result<Vec<Tensor>, OpError> {
        let [batches, channels, height, width] = support::lengths(&inputs[0], "the scores")?;
        let (scores, deltas) = (inputs[0].to_f32(), inputs[1].to_f32());
        let image = inputs[2].to_f32();
        let [first, second, scale, ..] = image[..] else {
            bail!("the image: expected 3 or 4 numbers, found {}", image.len());
        };
        let (image_height, image_width) = if self.tensorflow {
            (second, first)
        } else {
            (first, second)
        };
        let least = self.min_size as f32;
        let (least_height, least_width) = (least * scale, least * image.get(3).unwrap_or(&scale));
        let pixel = if self.tensorflow { 0.0 } else { 1.0 };
        let anchors = self.anchors();
        let area = height * width;
        let rows = batches * self.post_nms_topn;
        let (mut regions, mut probabilities) = (vec![0f32; rows * 5], vec![0f32; rows]);
        for batch in 0..batches {
            let mut found: Vec<(Corners, f32)> = Vec::with_capacity(area * anchors.len());
            for place in 0..area {
                let (row, column) = ((place / width) as f32, (place % width) as f32);
                let (x, y) = if self.tensorflow {
                    (row, column)
                } else {
                    (column, row)
                };
                let (x, y) = (x * self.feat_stride as f32, y * self.feat_stride as f32);
                for (a, anchor) in anchors.iter().enumerate() {
                    let delta = |i: usize| deltas[((batch * anchors.len() + a) * 4 + i) * area + place];
                    let anchor = [x + anchor[0], y + anchor[1], x + anchor[2], y + anchor[3]];
                    let b = self.region(anchor, [0, 1, 2, 3].map(delta), (image_height, image_width));
                    let large = least_width <= b[2] - b[0] + pixel && least_height <= b[3] - b[1] + pixel;
                    let score = scores[(batch * channels + anchors.len() + a) * area + place];
                    found.push((b, if large { score } else { 0.0 }));
                }
            }
            found.sort_by(|a, b| boxes::descending(a.1, b.1));
            found.truncate(self.pre_nms_topn);
            let kept = boxes::greedy(0..found.len(), self.post_nms_topn, |a, b| {
                boxes::iou(&found[a].0, &found[b].0, pixel) > self.nms_thresh
            });
            let start = batch * self.post_nms_topn;
            for (i, &index) in kept.iter().enumerate() {
                let (mut b, score) = found[index];
                if self.clip_after_nms {
                    b = [
                        b[0].min(image_width).max(0.0),
                        b[1].min(image_height).max(0.0),
                        b[2].min(image_width).max(0.0),
                        b[3].min(image_height).max(0.0),
                    ];
                }
                if self.normalize {
                    b = [
                        b[0] / image_width,
                        b[1] / image_height,
                        b[2] / image_width,
                        b[3] / image_height,
                    ];
                }
                let row = [batch as f32, b[0], b[1], b[2], b[3]];
                regions[(start + i) * 5..][..5].copy_from_slice(&row);
                probabilities[start + i] = score;
            }
            if kept.len() < self.post_nms_topn {
                regions[(start + kept.len()) * 5] = -1.0;
            }
        }
        let element_type = inputs[0].element_type();
        let mut outputs = vec![support::from_f32(element_type, &[rows, 5], &regions)?];
        if self.opset >= 4 {
            outputs.push(support::from_f32(element_type, &[rows], &probabilities)?);
        }
        Ok(outputs)
    }
}
