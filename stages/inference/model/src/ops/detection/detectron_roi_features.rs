//! ExperimentalDetectronROIFeatureExtractor: features of regions from the level of a pyramid that suits their size.

use std::ops::RangeInclusive;

use super::boxes;
use super::roi_align::{around, samples};
use crate::error::{OpError, bail};
use crate::graph::OutputInfo;
use crate::op::Op;
use crate::operation::Operation;
use crate::ops::attributes::Attributes;
use crate::ops::support::{self, Input};
use crate::tensor::Tensor;

/// ExperimentalDetectronROIFeatureExtractor-6: inputs regions `[R, 4]` and levels `[1, C, H, W]`. Outputs: features
/// `[R, C, output_size, output_size]`, and the regions. Regions without area have features of 0.
#[derive(Debug, Clone)]
struct RoiFeatureExtractor {
    output_size: usize,
    sampling_ratio: usize,
    pyramid_scales: Vec<i64>,
    aligned: bool,
}

/// Reads an operation of this family; `None` if it is of another.
pub(super) fn parse(a: &Attributes) -> Result<Option<Op>, OpError> {
    if a.kind != "ExperimentalDetectronROIFeatureExtractor" {
        return Ok(None);
    }
    Ok(Some(Op::standard(RoiFeatureExtractor {
        output_size: a.size("output_size", None)?,
        sampling_ratio: a.size("sampling_ratio", None)?,
        pyramid_scales: a.list("pyramid_scales", None)?,
        aligned: a.flag("aligned", Some(false))?,
    })))
}

/// The level of a region by the rule of feature pyramid networks: 224 pixels belong to level 2, each doubling to
/// the next.
fn level(region: &[f32; 4], levels: usize) -> Option<usize> {
    let area = (region[2] - region[0]) * (region[3] - region[1]);
    if area.is_nan() || area <= 0.0 {
        return None;
    }
    let level = ((area.sqrt() / 224.0 + 1e-6).log2() + 2.0).floor();
    Some((level.max(0.0) as usize).min(levels - 1))
}

impl Operation for RoiFeatureExtractor {
    fn type_name(&self) -> &'static str {
        "ExperimentalDetectronROIFeatureExtractor"
    }

    fn opset(&self) -> u32 {
        6
    }

    fn attributes(&self) -> Vec<(&'static str, String)> {
        let scales: Vec<String> = self.pyramid_scales.iter().map(i64::to_string).collect();
        vec![
            ("output_size", self.output_size.to_string()),
            ("sampling_ratio", self.sampling_ratio.to_string()),
            ("pyramid_scales", scales.join(",")),
            ("aligned", self.aligned.to_string()),
        ]
    }

    fn input_count(&self) -> RangeInclusive<usize> {
        2..=usize::MAX
    }

    fn infer(&self, inputs: &[Input]) -> Result<Vec<OutputInfo>, OpError> {
        let levels = inputs.len() - 1;
        if self.pyramid_scales.len() != levels {
            bail!(
                "attribute `pyramid_scales`: expected one number for each of {levels} levels, found {}",
                self.pyramid_scales.len()
            );
        }
        let [regions, four] = support::dims(&inputs[0], "the regions")?;
        support::floats(&inputs[0], "the regions")?;
        support::same_dim(four, Some(4), "the numbers of a region")?;
        let mut channels = None;
        for input in &inputs[1..] {
            support::same_type(&inputs[0], input)?;
            let [batch, c, _, _] = support::dims(input, "a level")?;
            support::same_dim(batch, Some(1), "the batch of a level")?;
            channels = support::same_dim(channels, c, "the channels of the levels")?;
        }
        let element_type = inputs[0].element_type;
        let size = Some(self.output_size);
        Ok(vec![
            support::output(element_type, vec![regions, channels, size, size]),
            support::output(element_type, vec![regions, Some(4)]),
        ])
    }

    fn evaluate(&self, inputs: &[Tensor], outputs: &[OutputInfo]) -> Result<Vec<Tensor>, OpError> {
        let shape = support::fixed(&outputs[0])?;
        let regions = inputs[0].to_f32();
        let levels: Vec<Vec<f32>> = inputs[1..].iter().map(Tensor::to_f32).collect();
        let bins = self.output_size * self.output_size;
        let mut pooled = vec![0f32; support::product(&shape)];
        for r in 0..shape[0] {
            let region = boxes::corners(&regions, r);
            let Some(level) = level(&region, levels.len()) else {
                continue;
            };
            let [_, channels, height, width] = support::lengths(&inputs[1 + level], "a level")?;
            let scale = 1.0 / self.pyramid_scales[level] as f32;
            let offset = if self.aligned { 0.5 } else { 0.0 };
            let [x1, y1, x2, y2] = region.map(|v| v * scale - offset);
            let bin_h = (y2 - y1).max(1.0) / self.output_size as f32;
            let bin_w = (x2 - x1).max(1.0) / self.output_size as f32;
            let rows = samples(self.sampling_ratio, bin_h)?;
            let columns = samples(self.sampling_ratio, bin_w)?;
            for bin in 0..bins {
                let (row, column) = (bin / self.output_size, bin % self.output_size);
                let sample = |i: usize| {
                    let step = |i: usize, bin: f32, count: usize| (i as f32 + 0.5) * bin / count as f32;
                    let y = y1 + row as f32 * bin_h + step(i / columns, bin_h, rows);
                    let x = x1 + column as f32 * bin_w + step(i % columns, bin_w, columns);
                    around(height, width, y, x)
                };
                let places: Vec<_> = (0..rows * columns).map(sample).collect();
                for channel in 0..channels {
                    let map = &levels[level][channel * height * width..][..height * width];
                    let sum: f32 = places
                        .iter()
                        .flatten()
                        .flatten()
                        .map(|(at, weight)| weight * map[*at])
                        .sum();
                    pooled[(r * channels + channel) * bins + bin] = sum / places.len() as f32;
                }
            }
        }
        let features = support::from_f32(inputs[0].element_type(), &shape, &pooled)?;
        Ok(vec![features, inputs[0].clone()])
    }
}
