//! DeformablePSROIPooling: as PSROIPooling, with the parts of a region moved by offsets.

use std::ops::RangeInclusive;

use super::boxes;
use super::roi_pooling::blend;
use crate::error::{OpError, bail};
use crate::graph::OutputInfo;
use crate::op::Op;
use crate::operation::Operation;
use crate::ops::attributes::Attributes;
use crate::ops::support::{self, Input};
use crate::tensor::Tensor;

/// DeformablePSROIPooling-1: inputs features `[N, output_dim * group_size^2, H, W]`, regions `[R, 5]` of batch entry
/// and corners, and optionally offsets `[R, 2 * sets, part_size, part_size]` relative to the region. Output
/// `[R, output_dim, group_size, group_size]`.
#[derive(Debug, Clone)]
struct Pooling {
    output_dim: usize,
    group_size: usize,
    spatial_scale: f32,
    /// Samples along each side of a bin.
    spatial_bins_x: usize,
    spatial_bins_y: usize,
    /// What offsets are multiplied by.
    trans_std: f32,
    part_size: usize,
}

/// Reads an operation of this family; `None` if it is of another.
pub(super) fn parse(a: &Attributes) -> Result<Option<Op>, OpError> {
    if a.kind != "DeformablePSROIPooling" {
        return Ok(None);
    }
    a.word("mode", &[("bilinear_deformable", ())], Some(()))?;
    let pooling = Pooling {
        output_dim: a.size("output_dim", None)?,
        group_size: a.size("group_size", Some(1))?,
        spatial_scale: a.float("spatial_scale", None)?,
        spatial_bins_x: a.size("spatial_bins_x", Some(1))?,
        spatial_bins_y: a.size("spatial_bins_y", Some(1))?,
        trans_std: a.float("trans_std", Some(1.0))?,
        part_size: a.size("part_size", Some(1))?,
    };
    let samples = pooling.spatial_bins_x.checked_mul(pooling.spatial_bins_y);
    if pooling.group_size == 0 || pooling.part_size == 0 || samples.is_none_or(|n| n > 1 << 20) {
        bail!(
            "attributes `group_size`, `part_size` and `spatial_bins`: expected at least 1 and not too many samples"
        );
    }
    Ok(Some(Op::standard(pooling)))
}

impl Operation for Pooling {
    fn type_name(&self) -> &'static str {
        "DeformablePSROIPooling"
    }

    fn opset(&self) -> u32 {
        1
    }

    fn attributes(&self) -> Vec<(&'static str, String)> {
        vec![
            ("output_dim", self.output_dim.to_string()),
            ("group_size", self.group_size.to_string()),
            ("spatial_scale", self.spatial_scale.to_string()),
            ("mode", "bilinear_deformable".to_owned()),
            ("spatial_bins_x", self.spatial_bins_x.to_string()),
            ("spatial_bins_y", self.spatial_bins_y.to_string()),
            ("trans_std", self.trans_std.to_string()),
            ("part_size", self.part_size.to_string()),
        ]
    }

    fn input_count(&self) -> RangeInclusive<usize> {
        2..=3
    }

    fn infer(&self, inputs: &[Input]) -> Result<Vec<OutputInfo>, OpError> {
        let (channels, regions) = super::channels_and_regions(inputs)?;
        let area = self.group_size.checked_mul(self.group_size);
        let expected = area.and_then(|n| n.checked_mul(self.output_dim));
        support::exactly(channels, expected, "the channels and those of all bins")?;
        if let Some(offsets) = inputs.get(2) {
            support::same_type(&inputs[0], offsets)?;
            let [of_offsets, numbers, h, w] = support::dims(offsets, "the offsets")?;
            support::same_dim(regions, of_offsets, "the number of regions and offsets")?;
            support::same_dim(h, Some(self.part_size), "the height of the offsets")?;
            support::same_dim(w, Some(self.part_size), "the width of the offsets")?;
            if numbers.is_some_and(|n| n % 2 != 0 || n == 0 || n / 2 > self.output_dim) {
                bail!(
                    "the offsets {} are not of at most {} sets",
                    support::show(offsets.shape),
                    self.output_dim
                );
            }
        }
        let group = Some(self.group_size);
        let shape = vec![regions, Some(self.output_dim), group, group];
        Ok(vec![support::output(inputs[0].element_type, shape)])
    }

    fn evaluate(&self, inputs: &[Tensor], outputs: &[OutputInfo]) -> Result<Vec<Tensor>, OpError> {
        let shape = support::fixed(&outputs[0])?;
        let [batches, channels, height, width] = support::lengths(&inputs[0], "the features")?;
        let (features, regions) = (inputs[0].to_f32(), inputs[1].to_f32());
        let offsets = inputs.get(2).map(|t| (t.to_f32(), t.shape()[1] / 2));
        let (group, part) = (self.group_size, self.part_size);
        let mut pooled = Vec::with_capacity(support::product(&shape));
        for (r, region) in regions.chunks(5).enumerate() {
            if region[0] < 0.0 {
                pooled.resize(pooled.len() + channels, 0.0);
                continue;
            }
            let batch = boxes::batch_of(region[0], batches)?;
            let low = |i: usize| region[i].round() * self.spatial_scale - 0.5;
            let high = |i: usize| (region[i].round() + 1.0) * self.spatial_scale - 0.5;
            let (x1, y1) = (low(1), low(2));
            let (region_w, region_h) = ((high(3) - x1).max(0.1), (high(4) - y1).max(0.1));
            let (bin_w, bin_h) = (region_w / group as f32, region_h / group as f32);
            let (step_x, step_y) = (
                bin_w / self.spatial_bins_x as f32,
                bin_h / self.spatial_bins_y as f32,
            );
            for index in 0..channels {
                let (row, column) = (index / group % group, index % group);
                let (mut x, mut y) = (x1 + column as f32 * bin_w, y1 + row as f32 * bin_h);
                if let Some((offsets, sets)) = &offsets {
                    let set = index / (group * group) / (self.output_dim / sets).max(1);
                    let place = (row * part / group) * part + column * part / group;
                    let offset = |axis: usize| {
                        let plane = (r * sets + set.min(sets - 1)) * 2 + axis;
                        offsets[plane * part * part + place] * self.trans_std
                    };
                    x += offset(0) * region_w;
                    y += offset(1) * region_h;
                }
                let map = &features[(batch * channels + index) * height * width..][..height * width];
                let inside = |v: f32, length: usize| (-0.5..=length as f32 - 0.5).contains(&v);
                let (mut sum, mut count) = (0.0, 0);
                for sample in 0..self.spatial_bins_x * self.spatial_bins_y {
                    let y = y + (sample / self.spatial_bins_x) as f32 * step_y;
                    let x = x + (sample % self.spatial_bins_x) as f32 * step_x;
                    if inside(y, height) && inside(x, width) {
                        let y = y.clamp(0.0, height as f32 - 1.0);
                        let x = x.clamp(0.0, width as f32 - 1.0);
                        sum += blend(map, width, y, x);
                        count += 1;
                    }
                }
                pooled.push(if count == 0 { 0.0 } else { sum / count as f32 });
            }
        }
        Ok(vec![support::from_f32(
            inputs[0].element_type(),
            &shape,
            &pooled,
        )?])
    }
}
