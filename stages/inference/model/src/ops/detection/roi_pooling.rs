//! ROIPooling: features of regions by maxima, or by bilinear samples.

use std::ops::RangeInclusive;

use super::boxes;
use crate::error::{OpError, bail};
use crate::graph::OutputInfo;
use crate::op::Op;
use crate::operation::Operation;
use crate::ops::attributes::{Attributes, word_of};
use crate::ops::support::{self, Input};
use crate::tensor::Tensor;

/// ROIPooling-1/2: inputs features `[N, C, H, W]` and regions `[R, 5]` of batch entry and corners, in pixels of the
/// image (`max`) or relative to it (`bilinear`). Output `[R, C, pooled_h, pooled_w]`. From the first region of batch
/// entry -1 on, all features are 0.
#[derive(Debug, Clone)]
struct RoiPooling {
    pooled_h: usize,
    pooled_w: usize,
    spatial_scale: f32,
    bilinear: bool,
}

const METHODS: &[(&str, bool)] = &[("max", false), ("bilinear", true)];

/// Reads an operation of this family; `None` if it is of another.
pub(super) fn parse(a: &Attributes) -> Result<Option<Op>, OpError> {
    if a.kind != "ROIPooling" {
        return Ok(None);
    }
    let pooling = RoiPooling {
        pooled_h: a.size("pooled_h", None)?,
        pooled_w: a.size("pooled_w", None)?,
        spatial_scale: a.float("spatial_scale", None)?,
        bilinear: a.word("method", METHODS, Some(false))?,
    };
    if pooling.pooled_h == 0 || pooling.pooled_w == 0 {
        bail!("attributes `pooled_h` and `pooled_w`: expected at least 1");
    }
    Ok(Some(Op::standard(pooling)))
}

/// The part of an axis that a bin covers, within `0..length`.
fn bin(index: usize, start: f32, size: f32, length: usize) -> std::ops::Range<usize> {
    let place = |v: f32| (v + start).clamp(0.0, length as f32) as usize;
    place((index as f32 * size).floor())..place(((index + 1) as f32 * size).ceil())
}

/// The place of a sample along an axis; the last one lies exactly on the end.
fn sample(index: usize, count: usize, start: f32, end: f32, last: f32) -> f32 {
    if count == 1 {
        0.5 * (start + end) * last
    } else if index == count - 1 {
        end * last
    } else {
        index as f32 * ((end - start) * last / (count - 1) as f32) + start * last
    }
}

impl RoiPooling {
    fn maximum(
        &self,
        map: &[f32],
        (height, width): (usize, usize),
        region: &[f32],
        row: usize,
        column: usize,
    ) -> f32 {
        let place = |i: usize| (region[i] * self.spatial_scale).round();
        let size = |start: f32, end: f32, count: usize| (end - start + 1.0).max(1.0) / count as f32;
        let (x1, y1, x2, y2) = (place(1), place(2), place(3), place(4));
        let rows = bin(row, y1, size(y1, y2, self.pooled_h), height);
        let columns = bin(column, x1, size(x1, x2, self.pooled_w), width);
        let values = rows.flat_map(|y| columns.clone().map(move |x| map[y * width + x]));
        values.reduce(f32::max).unwrap_or(0.0)
    }

    fn interpolated(
        &self,
        map: &[f32],
        (height, width): (usize, usize),
        region: &[f32],
        row: usize,
        column: usize,
    ) -> f32 {
        let (last_y, last_x) = (height as f32 - 1.0, width as f32 - 1.0);
        let y = sample(row, self.pooled_h, region[2], region[4], last_y);
        let x = sample(column, self.pooled_w, region[1], region[3], last_x);
        if !(0.0..=last_y).contains(&y) || !(0.0..=last_x).contains(&x) {
            return 0.0;
        }
        blend(map, width, y, x)
    }
}

/// The value between the four pixels around a place within the map.
pub(super) fn blend(map: &[f32], width: usize, y: f32, x: f32) -> f32 {
    let (top, left) = (y.floor() as usize, x.floor() as usize);
    let (bottom, right) = (y.ceil() as usize, x.ceil() as usize);
    let (dy, dx) = (y - top as f32, x - left as f32);
    let at = |y: usize, x: usize| map[y * width + x];
    let upper = at(top, left) + (at(top, right) - at(top, left)) * dx;
    let lower = at(bottom, left) + (at(bottom, right) - at(bottom, left)) * dx;
    upper + (lower - upper) * dy
}

impl Operation for RoiPooling {
    fn type_name(&self) -> &'static str {
        "ROIPooling"
    }

    fn opset(&self) -> u32 {
        2
    }

    fn attributes(&self) -> Vec<(&'static str, String)> {
        vec![
            ("pooled_h", self.pooled_h.to_string()),
            ("pooled_w", self.pooled_w.to_string()),
            ("spatial_scale", self.spatial_scale.to_string()),
            ("method", word_of(METHODS, &self.bilinear)),
        ]
    }

    fn input_count(&self) -> RangeInclusive<usize> {
        2..=2
    }

    fn infer(&self, inputs: &[Input]) -> Result<Vec<OutputInfo>, OpError> {
        let (channels, regions) = super::channels_and_regions(inputs)?;
        let shape = vec![regions, channels, Some(self.pooled_h), Some(self.pooled_w)];
        Ok(vec![support::output(inputs[0].element_type, shape)])
    }

    fn evaluate(&self, inputs: &[Tensor], outputs: &[OutputInfo]) -> Result<Vec<Tensor>, OpError> {
        let shape = support::fixed(&outputs[0])?;
        let [batches, channels, height, width] = support::lengths(&inputs[0], "the features")?;
        let (features, regions) = (inputs[0].to_f32(), inputs[1].to_f32());
        let mut pooled = vec![0f32; support::product(&shape)];
        let bins = self.pooled_h * self.pooled_w;
        for (r, region) in regions.chunks(5).enumerate() {
            if region[0] == -1.0 {
                break;
            }
            let batch = boxes::batch_of(region[0], batches)?;
            for channel in 0..channels {
                let map = &features[(batch * channels + channel) * height * width..][..height * width];
                for b in 0..bins {
                    let (row, column) = (b / self.pooled_w, b % self.pooled_w);
                    pooled[(r * channels + channel) * bins + b] = if self.bilinear {
                        self.interpolated(map, (height, width), region, row, column)
                    } else {
                        self.maximum(map, (height, width), region, row, column)
                    };
                }
            }
        }
        Ok(vec![support::from_f32(
            inputs[0].element_type(),
            &shape,
            &pooled,
        )?])
    }
}
