//! PriorBoxClustered: default boxes of given sizes.

use std::ops::RangeInclusive;

use super::prior_box::{grid_output, infer_grid, size};
use crate::error::{OpError, bail};
use crate::graph::OutputInfo;
use crate::op::Op;
use crate::operation::Operation;
use crate::ops::attributes::Attributes;
use crate::ops::support::{self, Input};
use crate::tensor::Tensor;

/// PriorBoxClustered-1: inputs and output as of PriorBox.
#[derive(Debug, Clone)]
struct PriorBoxClustered {
    /// Pixels.
    width: Vec<f32>,
    height: Vec<f32>,
    clip: bool,
    step: f32,
    /// 0: `step`.
    step_w: f32,
    step_h: f32,
    offset: f32,
    variance: Vec<f32>,
}

/// Reads an operation of this family; `None` if it is of another.
pub(super) fn parse(a: &Attributes) -> Result<Option<Op>, OpError> {
    if a.kind != "PriorBoxClustered" {
        return Ok(None);
    }
    let clustered = PriorBoxClustered {
        width: a.list("width", Some(&[1.0]))?,
        height: a.list("height", Some(&[1.0]))?,
        clip: a.flag("clip", Some(true))?,
        step: a.float("step", Some(0.0))?,
        step_w: a.float("step_w", Some(0.0))?,
        step_h: a.float("step_h", Some(0.0))?,
        offset: a.float("offset", None)?,
        variance: a.list("variance", Some(&[]))?,
    };
    if clustered.width.len() != clustered.height.len() {
        bail!(
            "attributes `width` and `height`: expected as many numbers, found {} and {}",
            clustered.width.len(),
            clustered.height.len()
        );
    }
    if ![0, 1, 4].contains(&clustered.variance.len()) {
        bail!(
            "attribute `variance`: expected 0, 1 or 4 numbers, found {}",
            clustered.variance.len()
        );
    }
    Ok(Some(Op::standard(clustered)))
}

impl Operation for PriorBoxClustered {
    fn type_name(&self) -> &'static str {
        "PriorBoxClustered"
    }

    fn opset(&self) -> u32 {
        1
    }

    fn attributes(&self) -> Vec<(&'static str, String)> {
        let list = |values: &[f32]| values.iter().map(f32::to_string).collect::<Vec<_>>().join(",");
        vec![
            ("width", list(&self.width)),
            ("height", list(&self.height)),
            ("clip", self.clip.to_string()),
            ("step", self.step.to_string()),
            ("step_w", self.step_w.to_string()),
            ("step_h", self.step_h.to_string()),
            ("offset", self.offset.to_string()),
            ("variance", list(&self.variance)),
        ]
    }

    fn input_count(&self) -> RangeInclusive<usize> {
        2..=2
    }

    fn infer(&self, inputs: &[Input]) -> Result<Vec<OutputInfo>, OpError> {
        infer_grid(inputs, self.width.len())
    }

    fn evaluate(&self, inputs: &[Tensor], outputs: &[OutputInfo]) -> Result<Vec<Tensor>, OpError> {
        let (height, width) = size(&inputs[0].to_i64(), "the size of the feature map")?;
        let (image_height, image_width) = size(&inputs[1].to_i64(), "the size of the image")?;
        // The size of the feature map is no axis: it is bounded only where there are boxes.
        if support::fixed(&outputs[0])?.contains(&0) {
            return grid_output(Vec::new(), &self.variance);
        }
        let (image_height, image_width) = (image_height as f32, image_width as f32);
        let or_step = |step: f32| if step == 0.0 { self.step } else { step };
        let (mut step_w, mut step_h) = (or_step(self.step_w), or_step(self.step_h));
        if step_w == 0.0 && step_h == 0.0 {
            step_w = image_width / width as f32;
            step_h = image_height / height as f32;
        }
        let mut boxes = Vec::new();
        for row in 0..height {
            for column in 0..width {
                let x = (column as f32 + self.offset) * step_w;
                let y = (row as f32 + self.offset) * step_h;
                for (w, h) in self.width.iter().zip(&self.height) {
                    let corners = [
                        (x - w / 2.0) / image_width,
                        (y - h / 2.0) / image_height,
                        (x + w / 2.0) / image_width,
                        (y + h / 2.0) / image_height,
                    ];
                    boxes.extend(corners.map(|c| if self.clip { c.clamp(0.0, 1.0) } else { c }));
                }
            }
        }
        grid_output(boxes, &self.variance)
    }
}
