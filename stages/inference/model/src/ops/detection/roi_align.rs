//! ROIAlign and ROIAlignRotated: features of regions by bilinear samples.

use std::ops::RangeInclusive;

use super::boxes;
use crate::error::{OpError, bail};
use crate::graph::{Dim, OutputInfo};
use crate::op::Op;
use crate::operation::Operation;
use crate::ops::attributes::{Attributes, word_of};
use crate::ops::support::{self, Input};
use crate::tensor::Tensor;

/// The grid of samples in each region.
#[derive(Debug, Clone)]
struct Pooling {
    pooled_h: usize,
    pooled_w: usize,
    /// Samples along each side of a bin; 0: as many as the bin has pixels.
    sampling_ratio: usize,
    spatial_scale: f32,
}

/// How coordinates of regions become those of pixels' centres.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Aligned {
    Asymmetric,
    HalfPixelForNn,
    HalfPixel,
}

/// ROIAlign-3/9: inputs features `[N, C, H, W]`, regions `[R, 4]` (two corners), batch entry of each `[R]`. Output
/// `[R, C, pooled_h, pooled_w]`.
#[derive(Debug, Clone)]
struct RoiAlign {
    pooling: Pooling,
    max: bool,
    aligned: Aligned,
    opset: u32,
}

/// ROIAlignRotated-15: as ROIAlign; regions are `[R, 5]`: centre, width, height, angle in radians.
#[derive(Debug, Clone)]
struct RoiAlignRotated {
    pooling: Pooling,
    clockwise: bool,
}

const MODES: &[(&str, bool)] = &[("avg", false), ("max", true)];

const ALIGNMENTS: &[(&str, Aligned)] = &[
    ("asymmetric", Aligned::Asymmetric),
    ("half_pixel_for_nn", Aligned::HalfPixelForNn),
    ("half_pixel", Aligned::HalfPixel),
];

/// Reads an operation of this family; `None` if it is of another.
pub(super) fn parse(a: &Attributes) -> Result<Option<Op>, OpError> {
    if a.kind != "ROIAlign" && a.kind != "ROIAlignRotated" {
        return Ok(None);
    }
    let pooling = Pooling {
        pooled_h: a.size("pooled_h", None)?,
        pooled_w: a.size("pooled_w", None)?,
        sampling_ratio: a.size("sampling_ratio", None)?,
        spatial_scale: a.float("spatial_scale", None)?,
    };
    Ok(Some(if a.kind == "ROIAlign" {
        Op::standard(RoiAlign {
            pooling,
            max: a.word("mode", MODES, None)?,
            aligned: a.word("aligned_mode", ALIGNMENTS, Some(Aligned::Asymmetric))?,
            opset: if a.opset < 9 { 3 } else { 9 },
        })
    } else {
        Op::standard(RoiAlignRotated {
            pooling,
            clockwise: a.flag("clockwise_mode", None)?,
        })
    }))
}

/// The four pixels around a place and their weights; `None` for a place outside the map.
pub(super) fn around(height: usize, width: usize, y: f32, x: f32) -> Option<[(usize, f32); 4]> {
    let inside = |v: f32, length: usize| (-1.0..=length as f32).contains(&v);
    if height == 0 || width == 0 || !inside(y, height) || !inside(x, width) {
        return None;
    }
    let split = |v: f32, length: usize| {
        let v = v.max(0.0);
        let low = v as usize;
        if low >= length - 1 {
            (length - 1, length - 1, 0.0)
        } else {
            (low, low + 1, v - low as f32)
        }
    };
    let ((top, bottom, dy), (left, right, dx)) = (split(y, height), split(x, width));
    Some([
        (top * width + left, (1.0 - dy) * (1.0 - dx)),
        (top * width + right, (1.0 - dy) * dx),
        (bottom * width + left, dy * (1.0 - dx)),
        (bottom * width + right, dy * dx),
    ])
}

/// Samples along a side of a bin of that length; bounded, since regions come from outside.
pub(super) fn samples(ratio: usize, bin: f32) -> Result<usize, OpError> {
    let count = if ratio == 0 {
        bin.ceil().max(0.0) as usize
    } else {
        ratio
    };
    if count > 1 << 10 {
        bail!("{count} samples along the side of a bin are too many");
    }
    Ok(count)
}

/// A region on the feature map, in pixels.
struct Region {
    start: (f32, f32),
    size: (f32, f32),
}

impl Pooling {
    fn attributes(&self) -> Vec<(&'static str, String)> {
        vec![
            ("pooled_h", self.pooled_h.to_string()),
            ("pooled_w", self.pooled_w.to_string()),
            ("sampling_ratio", self.sampling_ratio.to_string()),
            ("spatial_scale", self.spatial_scale.to_string()),
        ]
    }

    fn infer(&self, inputs: &[Input], numbers: usize) -> Result<Vec<OutputInfo>, OpError> {
        let [_, channels, _, _] = support::dims(&inputs[0], "the features")?;
        let [regions, found]: [Dim; 2] = support::dims(&inputs[1], "the regions")?;
        let [batches] = support::dims(&inputs[2], "the batch entries")?;
        support::floats(&inputs[0], "the features")?;
        support::same_type(&inputs[0], &inputs[1])?;
        support::integers(&inputs[2], "the batch entries")?;
        support::same_dim(found, Some(numbers), "the numbers of a region")?;
        let regions = support::same_dim(regions, batches, "the number of regions and batch entries")?;
        let shape = vec![regions, channels, Some(self.pooled_h), Some(self.pooled_w)];
        Ok(vec![support::output(inputs[0].element_type, shape)])
    }

    /// Pools every region; `region` says where it lies, `turn` where a sample of it lies.
    fn run(
        &self,
        inputs: &[Tensor],
        max: bool,
        region: impl Fn(&[f32]) -> Region,
        turn: impl Fn(&[f32], f32, f32) -> (f32, f32),
    ) -> Result<Vec<Tensor>, OpError> {
        let [batches, channels, height, width] = support::lengths(&inputs[0], "the features")?;
        let (features, regions) = (inputs[0].to_f32(), inputs[1].to_f32());
        let entries = inputs[2].to_i64();
        let numbers = inputs[1].shape()[1];
        let shape = [entries.len(), channels, self.pooled_h, self.pooled_w];
        let mut pooled = vec![0f32; support::product(&shape)];
        let bins = self.pooled_h * self.pooled_w;
        for (r, &entry) in entries.iter().enumerate() {
            let batch = boxes::batch_of(entry as f32, batches)?;
            let numbers = &regions[r * numbers..][..numbers];
            let Region { start, size } = region(numbers);
            let (bin_h, bin_w) = (size.0 / self.pooled_h as f32, size.1 / self.pooled_w as f32);
            let rows = samples(self.sampling_ratio, bin_h)?;
            let columns = samples(self.sampling_ratio, bin_w)?;
            let (step_y, step_x) = (bin_h / rows as f32, bin_w / columns as f32);
            for bin in 0..bins {
                let (row, column) = (bin / self.pooled_w, bin % self.pooled_w);
                let sample = |i: usize| {
                    let y = start.0 + row as f32 * bin_h + step_y * ((i / columns) as f32 + 0.5);
                    let x = start.1 + column as f32 * bin_w + step_x * ((i % columns) as f32 + 0.5);
                    let (y, x) = turn(numbers, y, x);
                    around(height, width, y, x)
                };
                let places: Vec<_> = (0..rows * columns).map(sample).collect();
                for channel in 0..channels {
                    let map = &features[(batch * channels + channel) * height * width..][..height * width];
                    let values = places.iter().map(|place| {
                        place.map_or(0.0, |p| p.iter().map(|(at, weight)| weight * map[*at]).sum())
                    });
                    pooled[(r * channels + channel) * bins + bin] = if max {
                        values.fold(0.0, f32::max)
                    } else {
                        values.fold(0.0, |sum, v: f32| sum + v / places.len() as f32)
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

impl Operation for RoiAlign {
    fn type_name(&self) -> &'static str {
        "ROIAlign"
    }

    fn opset(&self) -> u32 {
        self.opset
    }

    fn attributes(&self) -> Vec<(&'static str, String)> {
        let mut attributes = self.pooling.attributes();
        attributes.push(("mode", word_of(MODES, &self.max)));
        if self.opset >= 9 {
            attributes.push(("aligned_mode", word_of(ALIGNMENTS, &self.aligned)));
        }
        attributes
    }

    fn input_count(&self) -> RangeInclusive<usize> {
        3..=3
    }

    fn infer(&self, inputs: &[Input]) -> Result<Vec<OutputInfo>, OpError> {
        self.pooling.infer(inputs, 4)
    }

    fn evaluate(&self, inputs: &[Tensor], _: &[OutputInfo]) -> Result<Vec<Tensor>, OpError> {
        let before = if self.aligned == Aligned::HalfPixel {
            0.5
        } else {
            0.0
        };
        let behind = if self.aligned == Aligned::Asymmetric {
            0.0
        } else {
            -0.5
        };
        let region = |r: &[f32]| {
            let place = |i: usize| (r[i] + before) * self.pooling.spatial_scale + behind;
            let (x1, y1, x2, y2) = (place(0), place(1), place(2), place(3));
            let least = if self.aligned == Aligned::Asymmetric {
                1.0
            } else {
                f32::MIN
            };
            Region {
                start: (y1, x1),
                size: ((y2 - y1).max(least), (x2 - x1).max(least)),
            }
        };
        self.pooling.run(inputs, self.max, region, |_, y, x| (y, x))
    }
}

impl Operation for RoiAlignRotated {
    fn type_name(&self) -> &'static str {
        "ROIAlignRotated"
    }

    fn opset(&self) -> u32 {
        15
    }

    fn attributes(&self) -> Vec<(&'static str, String)> {
        let mut attributes = self.pooling.attributes();
        attributes.push(("clockwise_mode", self.clockwise.to_string()));
        attributes
    }

    fn input_count(&self) -> RangeInclusive<usize> {
        3..=3
    }

    fn infer(&self, inputs: &[Input]) -> Result<Vec<OutputInfo>, OpError> {
        self.pooling.infer(inputs, 5)
    }

    fn evaluate(&self, inputs: &[Tensor], _: &[OutputInfo]) -> Result<Vec<Tensor>, OpError> {
        let scale = self.pooling.spatial_scale;
        // Around the region's own centre, then turned and moved there.
        let region = |r: &[f32]| {
            let (width, height) = (r[2] * scale, r[3] * scale);
            Region {
                start: (-height / 2.0, -width / 2.0),
                size: (height, width),
            }
        };
        let turn = |r: &[f32], y: f32, x: f32| {
            let angle = if self.clockwise { -r[4] } else { r[4] };
            let (sin, cos) = angle.sin_cos();
            let (center_y, center_x) = (r[1] * scale - 0.5, r[0] * scale - 0.5);
            (y * cos - x * sin + center_y, y * sin + x * cos + center_x)
        };
        self.pooling.run(inputs, false, region, turn)
    }
}
