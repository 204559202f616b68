//! LRN and GRN: division by what neighbours respond.

use std::ops::RangeInclusive;

use super::{Groups, check_axes, same_as_data};
use crate::error::{OpError, bail};
use crate::graph::OutputInfo;
use crate::op::Op;
use crate::operation::Operation;
use crate::ops::attributes::Attributes;
use crate::ops::support::{self, Input};
use crate::tensor::Tensor;

/// LRN-1: `x / (bias + alpha / size^K * sum of squares)^beta`; the sum goes over a window of `size` around the element
/// along each of the `K` axes in the second input, cut at the borders.
#[derive(Debug, Clone)]
struct Lrn {
    alpha: f32,
    beta: f32,
    bias: f32,
    size: usize,
}

/// GRN-1: `x / sqrt(sum of squares over channels + bias)`.
#[derive(Debug, Clone)]
struct Grn {
    bias: f32,
}

/// Reads an operation of this family; `None` if it is of another.
pub(crate) fn parse(a: &Attributes) -> Result<Option<Op>, OpError> {
    Ok(Some(match a.kind {
        "LRN" => {
            let size = a.size("size", None)?;
            if size == 0 {
                bail!("attribute `size`: expected at least 1, found 0");
            }
            Op::standard(Lrn {
                alpha: a.float("alpha", None)?,
                beta: a.float("beta", None)?,
                bias: a.float("bias", Some(1.0))?,
                size,
            })
        }
        "GRN" => Op::standard(Grn {
            bias: a.float("bias", None)?,
        }),
        _ => return Ok(None),
    }))
}

impl Lrn {
    /// Over five channels with an exponent of 3/4, as in AlexNet and GoogLeNet: in f32, in the order of OpenVINO's kernel
    /// for channels that come in sixteens. `values` are `[batch, channels, ..]`.
    fn across_five(&self, values: &[f32], batch: usize, channels: usize) -> Vec<f32> {
        let plane = values.len() / (batch * channels).max(1);
        let factor = self.alpha / self.size as f32;
        let normalized = values.iter().enumerate().map(|(i, &x)| {
            let channel = i / plane % channels;
            let mut sum = x * x;
            for (other, at) in [
                (channel.checked_sub(2), i.wrapping_sub(2 * plane)),
                (channel.checked_sub(1), i.wrapping_sub(plane)),
                (Some(channel + 1), i + plane),
                (Some(channel + 2), i + 2 * plane),
            ] {
                if other.is_some_and(|c| c < channels) {
                    sum = values[at].mul_add(values[at], sum);
                }
            }
            let base = sum.mul_add(factor, self.bias);
            x / (base * (base * base)).sqrt().sqrt()
        });
        normalized.collect()
    }
}

impl Operation for Lrn {
    fn type_name(&self) -> &'static str {
        "LRN"
    }

    fn opset(&self) -> u32 {
        1
    }

    fn attributes(&self) -> Vec<(&'static str, String)> {
        vec![
            ("alpha", self.alpha.to_string()),
            ("beta", self.beta.to_string()),
            ("bias", self.bias.to_string()),
            ("size", self.size.to_string()),
        ]
    }

    fn input_count(&self) -> RangeInclusive<usize> {
        2..=2
    }

    fn infer(&self, inputs: &[Input]) -> Result<Vec<OutputInfo>, OpError> {
        check_axes(&inputs[1], inputs[0].shape.len())?;
        same_as_data(&inputs[0])
    }

    fn evaluate(&self, inputs: &[Tensor], _: &[OutputInfo]) -> Result<Vec<Tensor>, OpError> {
        let data = &inputs[0];
        let axes = support::axes(&inputs[1].to_i64(), data.shape().len())?;
        if let (&[batch, channels, ..], [1]) = (data.shape(), &axes[..])
            && (self.size, self.beta) == (5, 0.75)
            && channels % 16 == 0
            && data.element_type().is_float()
        {
            let values = self.across_five(&data.to_f32(), batch, channels);
            return Ok(vec![support::from_f32(
                data.element_type(),
                data.shape(),
                &values,
            )?]);
        }
        let values = data.to_f64();
        // A window along several axes sums the sums along one.
        let mut sums: Vec<f64> = values.iter().map(|v| v * v).collect();
        for &axis in &axes {
            let (length, inner) = (data.shape()[axis], support::product(&data.shape()[axis + 1..]));
            let before = (self.size - 1) / 2;
            for plane in sums.chunks_exact_mut((length * inner).max(1)) {
                for i in 0..inner {
                    let line: Vec<f64> = plane[i..].iter().step_by(inner).copied().collect();
                    for (at, sum) in plane[i..].iter_mut().step_by(inner).enumerate() {
                        let begin = at.saturating_sub(before);
                        let end = at.saturating_add(self.size).saturating_sub(before).min(length);
                        *sum = line[begin..end].iter().sum();
                    }
                }
            }
        }
        let scale = f64::from(self.alpha) / (self.size as f64).powi(axes.len() as i32);
        let normalized = values
            .iter()
            .zip(sums)
            .map(|(v, sum)| v / (f64::from(self.bias) + scale * sum).powf(f64::from(self.beta)));
        let normalized: Vec<f64> = normalized.collect();
        Ok(vec![Tensor::from_f64(
            data.element_type(),
            data.shape(),
            &normalized,
        )?])
    }
}

impl Operation for Grn {
    fn type_name(&self) -> &'static str {
        "GRN"
    }

    fn opset(&self) -> u32 {
        1
    }

    fn attributes(&self) -> Vec<(&'static str, String)> {
        vec![("bias", self.bias.to_string())]
    }

    fn input_count(&self) -> RangeInclusive<usize> {
        1..=1
    }

    fn infer(&self, inputs: &[Input]) -> Result<Vec<OutputInfo>, OpError> {
        if !(2..=4).contains(&inputs[0].shape.len()) {
            bail!(
                "expected data of rank 2 to 4, found {}",
                support::show(inputs[0].shape)
            );
        }
        same_as_data(&inputs[0])
    }

    fn evaluate(&self, inputs: &[Tensor], _: &[OutputInfo]) -> Result<Vec<Tensor>, OpError> {
        let data = &inputs[0];
        let mut values = data.to_f32();
        Groups::new(data.shape(), &[1]).each(&mut values, |group| {
            let sum: f64 = group.iter().map(|&v| f64::from(v).powi(2)).sum();
            let norm = (sum + f64::from(self.bias)).sqrt();
            group.iter_mut().for_each(|v| *v = (f64::from(*v) / norm) as f32);
        });
        Ok(vec![support::from_f32(
            data.element_type(),
            data.shape(),
            &values,
        )?])
    }
}
