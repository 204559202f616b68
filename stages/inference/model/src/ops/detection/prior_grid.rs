//! ExperimentalDetectronPriorGridGenerator: anchors at every place of the feature map.

use std::ops::RangeInclusive;

use super::boxes;
use crate::error::{OpError, bail};
use crate::graph::OutputInfo;
use crate::op::Op;
use crate::operation::Operation;
use crate::ops::attributes::Attributes;
use crate::ops::support::{self, Input};
use crate::tensor::Tensor;

/// ExperimentalDetectronPriorGridGenerator-6: inputs anchors `[anchors, 4]`, feature map `[N, C, H, W]`, image
/// `[N, C, H, W]`, of which only the shapes count. Output `[H * W * anchors, 4]`, or `[H, W, anchors, 4]`.
#[derive(Debug, Clone)]
struct PriorGridGenerator {
    flatten: bool,
    /// Places: those of the feature map, or 0.
    h: usize,
    w: usize,
    /// Pixels between places; 0: as they divide the image.
    stride_x: f32,
    stride_y: f32,
}

/// Reads an operation of this family; `None` if it is of another.
pub(super) fn parse(a: &Attributes) -> Result<Option<Op>, OpError> {
    if a.kind != "ExperimentalDetectronPriorGridGenerator" {
        return Ok(None);
    }
    Ok(Some(Op::standard(PriorGridGenerator {
        flatten: a.flag("flatten", Some(true))?,
        h: a.size("h", Some(0))?,
        w: a.size("w", Some(0))?,
        stride_x: a.float("stride_x", Some(0.0))?,
        stride_y: a.float("stride_y", Some(0.0))?,
    })))
}

impl Operation for PriorGridGenerator {
    fn type_name(&self) -> &'static str {
        "ExperimentalDetectronPriorGridGenerator"
    }

    fn opset(&self) -> u32 {
        6
    }

    fn attributes(&self) -> Vec<(&'static str, String)> {
        vec![
            ("flatten", self.flatten.to_string()),
            ("h", self.h.to_string()),
            ("w", self.w.to_string()),
            ("stride_x", self.stride_x.to_string()),
            ("stride_y", self.stride_y.to_string()),
        ]
    }

    fn input_count(&self) -> RangeInclusive<usize> {
        3..=3
    }

    fn infer(&self, inputs: &[Input]) -> Result<Vec<OutputInfo>, OpError> {
        let [count, four] = support::dims(&inputs[0], "the anchors")?;
        let [_, _, height, width] = support::dims(&inputs[1], "the feature map")?;
        support::dims::<4>(&inputs[2], "the image")?;
        support::floats(&inputs[0], "the anchors")?;
        support::same_dim(four, Some(4), "the numbers of an anchor")?;
        for (name, said, found) in [("h", self.h, height), ("w", self.w, width)] {
            if said != 0 && found.is_some_and(|found| found != said) {
                bail!(
                    "attribute `{name}`: expected 0 or the feature map's {}, found {said}",
                    support::show(&[found])
                );
            }
        }
        let (h, w) = (height, width);
        let shape = if self.flatten {
            let product = match (h, w, count) {
                (Some(h), Some(w), Some(count)) => {
                    match h.checked_mul(w).and_then(|n| n.checked_mul(count)) {
                        Some(product) => Some(product),
                        None => bail!("{h} x {w} places with {count} anchors each are too many"),
                    }
                }
                _ => None,
            };
            vec![product, Some(4)]
        } else {
            vec![h, w, count, Some(4)]
        };
        Ok(vec![support::output(inputs[0].element_type, shape)])
    }

    fn evaluate(&self, inputs: &[Tensor], outputs: &[OutputInfo]) -> Result<Vec<Tensor>, OpError> {
        let shape = support::fixed(&outputs[0])?;
        let [_, _, h, w] = support::lengths(&inputs[1], "the feature map")?;
        let [_, _, image_height, image_width] = support::lengths(&inputs[2], "the image")?;
        let anchors = inputs[0].to_f32();
        let step = |said: f32, image: usize, places: usize| {
            if said == 0.0 {
                image as f32 / places as f32
            } else {
                said
            }
        };
        let step_x = step(self.stride_x, image_width, w);
        let step_y = step(self.stride_y, image_height, h);
        let mut grid = Vec::with_capacity(support::product(&shape));
        for row in 0..h {
            for column in 0..w {
                let (x, y) = (step_x * (column as f32 + 0.5), step_y * (row as f32 + 0.5));
                for a in 0..anchors.len() / 4 {
                    let b = boxes::corners(&anchors, a);
                    grid.extend([b[0] + x, b[1] + y, b[2] + x, b[3] + y]);
                }
            }
        }
        Ok(vec![support::from_f32(inputs[0].element_type(), &shape, &grid)?])
    }
}
