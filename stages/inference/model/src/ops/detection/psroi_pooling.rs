//! PSROIPooling: features of regions, each part of a region from channels of its own.

use std::ops::RangeInclusive;

use super::boxes;
use super::roi_pooling::blend;
use crate::error::{OpError, bail};
use crate::graph::OutputInfo;
use crate::op::Op;
use crate::operation::Operation;
use crate::ops::attributes::{Attributes, word_of};
use crate::ops::support::{self, Input};
use crate::tensor::Tensor;

/// PSROIPooling-1: inputs features `[N, C, H, W]` and regions `[R, 5]` of batch entry and corners. Output
/// `[R, output_dim, group_size, group_size]`.
#[derive(Debug, Clone)]
struct PsRoiPooling {
    output_dim: usize,
    group_size: usize,
    spatial_scale: f32,
    bilinear: bool,
    /// Parts of a region that each have channels, where bilinear.
    spatial_bins_x: usize,
    spatial_bins_y: usize,
}

const MODES: &[(&str, bool)] = &[("average", false), ("bilinear", true)];

/// Reads an operation of this family; `None` if it is of another.
pub(super) fn parse(a: &Attributes) -> Result<Option<Op>, OpError> {
    if a.kind != "PSROIPooling" {
        return Ok(None);
    }
    let pooling = PsRoiPooling {
        output_dim: a.size("output_dim", None)?,
        group_size: a.size("group_size", Some(1))?,
        spatial_scale: a.float("spatial_scale", None)?,
        bilinear: a.word("mode", MODES, Some(false))?,
        spatial_bins_x: a.size("spatial_bins_x", Some(1))?,
        spatial_bins_y: a.size("spatial_bins_y", Some(1))?,
    };
    if [pooling.group_size, pooling.spatial_bins_x, pooling.spatial_bins_y].contains(&0) {
        bail!("attributes `group_size` and `spatial_bins`: expected at least 1");
    }
    Ok(Some(Op::standard(pooling)))
}

impl PsRoiPooling {
    /// Channels of the input for one of the output.
    fn channels(&self) -> Option<usize> {
        let (x, y) = match self.bilinear {
            true => (self.spatial_bins_x, self.spatial_bins_y),
            false => (self.group_size, self.group_size),
        };
        x.checked_mul(y)?.checked_mul(self.output_dim)
    }

    /// The mean of the pixels a bin covers.
    fn average(
        &self,
        map: &[f32],
        (height, width): (usize, usize),
        region: &[f32],
        bin: (usize, usize),
    ) -> f32 {
        let part = |start: f32, end: f32, index: usize, length: usize| {
            let (start, end) = (
                start.round() * self.spatial_scale,
                (end.round() + 1.0) * self.spatial_scale,
            );
            let size = (end - start).max(0.1) / self.group_size as f32;
            let first = ((start + index as f32 * size).floor().max(0.0) as usize).min(length);
            let last = ((start + (index + 1) as f32 * size).ceil().max(0.0) as usize).min(length);
            first..last
        };
        let rows = part(region[2], region[4], bin.0, height);
        let columns = part(region[1], region[3], bin.1, width);
        let count = rows.len() * columns.len();
        let values = rows.flat_map(|y| columns.clone().map(move |x| map[y * width + x]));
        if count == 0 {
            0.0
        } else {
            values.sum::<f32>() / count as f32
        }
    }

    /// Where a bin samples a part of the region along an axis.
    fn sample(&self, start: f32, end: f32, part: usize, parts: usize, index: usize, length: usize) -> f32 {
        let (start, end) = (start * self.spatial_scale, end * self.spatial_scale);
        let size = (end - start) / parts as f32;
        let (start, last) = (start + part as f32 * size, length as f32 - 1.0);
        if self.group_size > 1 {
            index as f32 * (size * last / (self.group_size - 1) as f32) + start * last
        } else {
            (start + start + size) * last / 2.0
        }
    }
}

impl Operation for PsRoiPooling {
    fn type_name(&self) -> &'static str {
        "PSROIPooling"
    }

    fn opset(&self) -> u32 {
        1
    }

    fn attributes(&self) -> Vec<(&'static str, String)> {
        vec![
            ("output_dim", self.output_dim.to_string()),
            ("group_size", self.group_size.to_string()),
            ("spatial_scale", self.spatial_scale.to_string()),
            ("mode", word_of(MODES, &self.bilinear)),
            ("spatial_bins_x", self.spatial_bins_x.to_string()),
            ("spatial_bins_y", self.spatial_bins_y.to_string()),
        ]
    }

    fn input_count(&self) -> RangeInclusive<usize> {
        2..=2
    }

    fn infer(&self, inputs: &[Input]) -> Result<Vec<OutputInfo>, OpError> {
        let (channels, regions) = super::channels_and_regions(inputs)?;
        support::exactly(channels, self.channels(), "the channels and those of all parts")?;
        let group = Some(self.group_size);
        let shape = vec![regions, Some(self.output_dim), group, group];
        Ok(vec![support::output(inputs[0].element_type, shape)])
    }

    fn evaluate(&self, inputs: &[Tensor], outputs: &[OutputInfo]) -> Result<Vec<Tensor>, OpError> {
        let shape = support::fixed(&outputs[0])?;
        let [batches, channels, height, width] = support::lengths(&inputs[0], "the features")?;
        let (features, regions) = (inputs[0].to_f32(), inputs[1].to_f32());
        let (group, parts_x) = (self.group_size, self.spatial_bins_x);
        let parts = parts_x * self.spatial_bins_y;
        let mut pooled = Vec::with_capacity(support::product(&shape));
        for region in regions.chunks(5) {
            let batch = boxes::batch_of(region[0], batches)?;
            let map =
                |channel: usize| &features[(batch * channels + channel) * height * width..][..height * width];
            for index in 0..self.output_dim * group * group {
                let bin = (index / group % group, index % group);
                if !self.bilinear {
                    pooled.push(self.average(map(index), (height, width), region, bin));
                    continue;
                }
                let mut sum = 0.0;
                for part in 0..parts {
                    let (py, px) = (part / parts_x, part % parts_x);
                    let y = self.sample(region[2], region[4], py, self.spatial_bins_y, bin.0, height);
                    let x = self.sample(region[1], region[3], px, parts_x, bin.1, width);
                    let inside = |v: f32, length: usize| (0.0..length as f32).contains(&v);
                    if inside(y, height) && inside(x, width) {
                        let channel = part * self.output_dim + index / (group * group);
                        let (y, x) = (y.min(height as f32 - 1.0), x.min(width as f32 - 1.0));
                        sum += blend(map(channel), width, y, x);
                    }
                }
                pooled.push(sum / parts as f32);
            }
        }
        Ok(vec![support::from_f32(
            inputs[0].element_type(),
            &shape,
            &pooled,
        )?])
    }
}
