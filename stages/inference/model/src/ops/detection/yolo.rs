//! RegionYolo and ReorgYolo.

use std::ops::RangeInclusive;

use crate::error::{OpError, bail};
use crate::graph::OutputInfo;
use crate::op::Op;
use crate::operation::Operation;
use crate::ops::attributes::Attributes;
use crate::ops::support::{self, Input};
use crate::tensor::Tensor;

/// RegionYolo-1: of `[N, regions * (coords + 1 + classes), H, W]` the first two coordinates and the score of each
/// region become sigmoids; its classes a softmax, or sigmoids too.
#[derive(Debug, Clone)]
struct RegionYolo {
    coords: usize,
    classes: usize,
    /// Regions where `do_softmax`.
    num: usize,
    do_softmax: bool,
    /// Regions where not, one entry each.
    mask: Vec<i64>,
    /// First and last of the axes that become one where `do_softmax`.
    axis: i64,
    end_axis: i64,
    /// For whoever decodes the boxes; not used here.
    anchors: Vec<f32>,
}

/// ReorgYolo-1/2: `[N, C, H, W]` becomes `[N, C * stride^2, H / stride, W / stride]`, as darknet reorders it: the
/// elements are those of `[N, C / stride^2, H * stride, W * stride]`, taken by blocks.
#[derive(Debug, Clone)]
struct ReorgYolo {
    stride: usize,
}

/// Reads an operation of this family; `None` if it is of another.
pub(super) fn parse(a: &Attributes) -> Result<Option<Op>, OpError> {
    Ok(match a.kind {
        "RegionYolo" => Some(Op::standard(RegionYolo {
            coords: a.size("coords", None)?,
            classes: a.size("classes", None)?,
            num: a.size("num", None)?,
            do_softmax: a.flag("do_softmax", Some(true))?,
            mask: a.list("mask", Some(&[]))?,
            axis: a.int("axis", None)?,
            end_axis: a.int("end_axis", None)?,
            anchors: a.list("anchors", Some(&[]))?,
        })),
        "ReorgYolo" => {
            let strides: Vec<usize> = a.list("stride", None)?;
            match strides.first() {
                Some(&stride) if stride > 0 && strides.iter().all(|&s| s == stride) => {
                    Some(Op::standard(ReorgYolo { stride }))
                }
                _ => bail!("attribute `stride`: expected one length above 0, found {strides:?}"),
            }
        }
        _ => None,
    })
}

impl RegionYolo {
    fn regions(&self) -> usize {
        if self.do_softmax {
            self.num
        } else {
            self.mask.len()
        }
    }

    /// Channels of the output.
    fn channels(&self) -> Result<usize, OpError> {
        let of_region = self
            .coords
            .checked_add(self.classes)
            .and_then(|n| n.checked_add(1));
        match of_region.and_then(|n| n.checked_mul(self.regions())) {
            Some(channels) if self.coords >= 2 => Ok(channels),
            _ => bail!(
                "{} regions of {} coordinates and {} classes: expected at least 2 coordinates",
                self.regions(),
                self.coords,
                self.classes
            ),
        }
    }
}

impl Operation for RegionYolo {
    fn type_name(&self) -> &'static str {
        "RegionYolo"
    }

    fn opset(&self) -> u32 {
        1
    }

    fn attributes(&self) -> Vec<(&'static str, String)> {
        let mask: Vec<String> = self.mask.iter().map(i64::to_string).collect();
        let anchors: Vec<String> = self.anchors.iter().map(f32::to_string).collect();
        vec![
            ("anchors", anchors.join(",")),
            ("axis", self.axis.to_string()),
            ("classes", self.classes.to_string()),
            ("coords", self.coords.to_string()),
            ("do_softmax", self.do_softmax.to_string()),
            ("end_axis", self.end_axis.to_string()),
            ("mask", mask.join(",")),
            ("num", self.num.to_string()),
        ]
    }

    fn input_count(&self) -> RangeInclusive<usize> {
        1..=1
    }

    fn infer(&self, inputs: &[Input]) -> Result<Vec<OutputInfo>, OpError> {
        support::floats(&inputs[0], "the data")?;
        let dims: [_; 4] = support::dims(&inputs[0], "the data")?;
        let channels = self.channels()?;
        let shape = if self.do_softmax {
            support::same_dim(dims[1], Some(channels), "the channels and those of all regions")?;
            let axis = support::axis(self.axis, 4)?;
            let end = support::axis(self.end_axis, 4)?;
            if axis > end {
                bail!(
                    "attributes `axis` and `end_axis`: {} is behind {}",
                    self.axis,
                    self.end_axis
                );
            }
            let joined = dims[axis..=end]
                .iter()
                .try_fold(Some(1usize), |n, d| match (n, d) {
                    (Some(n), Some(d)) => n.checked_mul(*d).map(Some),
                    _ => Some(None),
                });
            let Some(joined) = joined else {
                bail!(
                    "the axes {axis} to {end} of {} are too long",
                    support::show(&dims)
                );
            };
            [&dims[..axis], &[joined], &dims[end + 1..]].concat()
        } else {
            if dims[1].is_some_and(|c| c < channels) {
                bail!("{} channels do not hold {channels}", support::show(&dims));
            }
            vec![dims[0], Some(channels), dims[2], dims[3]]
        };
        Ok(vec![support::output(inputs[0].element_type, shape)])
    }

    fn evaluate(&self, inputs: &[Tensor], outputs: &[OutputInfo]) -> Result<Vec<Tensor>, OpError> {
        let shape = support::fixed(&outputs[0])?;
        let [batches, channels, height, width] = support::lengths(&inputs[0], "the data")?;
        let (plane, used) = (height * width, self.channels()?);
        let data = inputs[0].to_f32();
        let mut values = Vec::with_capacity(batches * used * plane);
        for batch in 0..batches {
            values.extend_from_slice(&data[batch * channels * plane..][..used * plane]);
        }
        let sigmoid = |v: &mut f32| *v = 1.0 / (1.0 + (-*v).exp());
        for region in values.chunks_mut(((self.coords + self.classes + 1) * plane).max(1)) {
            region[..2 * plane].iter_mut().for_each(sigmoid);
            let (scores, classes) = region[self.coords * plane..].split_at_mut(plane);
            scores.iter_mut().for_each(sigmoid);
            if !self.do_softmax {
                classes.iter_mut().for_each(sigmoid);
                continue;
            }
            for pixel in 0..plane {
                let places = (pixel..classes.len()).step_by(plane);
                let most = places
                    .clone()
                    .map(|i| classes[i])
                    .fold(f32::NEG_INFINITY, f32::max);
                let mut sum = 0.0;
                for i in places.clone() {
                    classes[i] = (classes[i] - most).exp();
                    sum += classes[i];
                }
                places.for_each(|i| classes[i] /= sum);
            }
        }
        Ok(vec![support::from_f32(
            inputs[0].element_type(),
            &shape,
            &values,
        )?])
    }
}

impl Operation for ReorgYolo {
    fn type_name(&self) -> &'static str {
        "ReorgYolo"
    }

    fn opset(&self) -> u32 {
        2
    }

    fn attributes(&self) -> Vec<(&'static str, String)> {
        vec![("stride", self.stride.to_string())]
    }

    fn input_count(&self) -> RangeInclusive<usize> {
        1..=1
    }

    fn infer(&self, inputs: &[Input]) -> Result<Vec<OutputInfo>, OpError> {
        let [n, c, h, w] = support::dims(&inputs[0], "the data")?;
        let Some(area) = self.stride.checked_mul(self.stride) else {
            bail!("a stride of {} is too long", self.stride);
        };
        let channels = match c {
            None => None,
            // The reordering reads `C / stride^2` channels.
            Some(c) if c % area != 0 || c == 0 => bail!("{c} channels do not split into {area}"),
            Some(c) => match c.checked_mul(area) {
                Some(channels) => Some(channels),
                None => bail!("{c} times {area} channels are too many"),
            },
        };
        let mut shape = vec![n, channels];
        for length in [h, w] {
            if length.is_some_and(|l| l % self.stride != 0) {
                bail!(
                    "{} does not split into blocks of {}",
                    support::show(inputs[0].shape),
                    self.stride
                );
            }
            shape.push(length.map(|l| l / self.stride));
        }
        Ok(vec![support::output(inputs[0].element_type, shape)])
    }

    fn evaluate(&self, inputs: &[Tensor], outputs: &[OutputInfo]) -> Result<Vec<Tensor>, OpError> {
        let [n, c, h, w] = support::lengths(&inputs[0], "the data")?;
        let stride = self.stride;
        let few = c / (stride * stride);
        let mut offsets = Vec::with_capacity(inputs[0].len());
        for batch in 0..n {
            for channel in 0..c {
                let (block, from) = (channel / few, channel % few);
                for y in 0..h {
                    for x in 0..w {
                        let row = y * stride + block / stride;
                        let column = x * stride + block % stride;
                        offsets.push(((batch * few + from) * h * stride + row) * w * stride + column);
                    }
                }
            }
        }
        Ok(vec![support::take(
            &inputs[0],
            &support::fixed(&outputs[0])?,
            &offsets,
        )?])
    }

    fn moves_values(&self) -> bool {
        true
    }
}
