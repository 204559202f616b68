//! AdaptiveAvgPool and AdaptiveMaxPool: windows that divide an image into so many parts.

use std::ops::{Range, RangeInclusive};

use super::attributes::Attributes;
use super::support::{self, Input};
use crate::error::{OpError, bail};
use crate::graph::OutputInfo;
use crate::op::Op;
use crate::operation::Operation;
use crate::tensor::{ElementType, Tensor};

/// AdaptiveAvgPool-8 and AdaptiveMaxPool-8: data `[N, C, spatial..]`, spatial lengths of the output. Part `i` of `n` of an
/// axis goes from `floor(i * length / n)` to `ceil((i + 1) * length / n)`.
#[derive(Debug, Clone)]
enum AdaptivePool {
    Average,
    /// The second output holds the index of the maximum in its channel's plane.
    Maximum {
        index_type: ElementType,
    },
}

/// Reads an operation of this family; `None` if it is of another.
pub(crate) fn parse(a: &Attributes) -> Result<Option<Op>, OpError> {
    Ok(Some(Op::standard(match a.kind {
        "AdaptiveAvgPool" => AdaptivePool::Average,
        "AdaptiveMaxPool" => match a.element_type("index_element_type", Some(ElementType::I64))? {
            index_type @ (ElementType::I32 | ElementType::I64) => AdaptivePool::Maximum { index_type },
            other => bail!("attribute `index_element_type`: expected i32 or i64, found {other}"),
        },
        _ => return Ok(None),
    })))
}

/// The input indices of each part of an axis.
fn parts(length: usize, count: usize) -> Vec<Range<usize>> {
    (0..count)
        .map(|i| i * length / count..((i + 1) * length).div_ceil(count))
        .collect()
}

impl Operation for AdaptivePool {
    fn type_name(&self) -> &'static str {
        match self {
            Self::Average => "AdaptiveAvgPool",
            Self::Maximum { .. } => "AdaptiveMaxPool",
        }
    }

    fn opset(&self) -> u32 {
        8
    }

    fn attributes(&self) -> Vec<(&'static str, String)> {
        match self {
            Self::Average => Vec::new(),
            Self::Maximum { index_type } => vec![("index_element_type", index_type.name().to_owned())],
        }
    }

    fn input_count(&self) -> RangeInclusive<usize> {
        2..=2
    }

    fn infer(&self, inputs: &[Input]) -> Result<Vec<OutputInfo>, OpError> {
        let data = &inputs[0];
        support::integers(&inputs[1], "the lengths")?;
        if !(3..=5).contains(&data.shape.len()) {
            bail!(
                "expected data [N, C, spatial..] with 1 to 3 spatial axes, found {}",
                support::show(data.shape)
            );
        }
        let mut shape = data.shape.to_vec();
        match inputs[1].integers() {
            Some(lengths) if lengths.len() + 2 == shape.len() => {
                for (dim, &length) in shape[2..].iter_mut().zip(&lengths) {
                    // Far beyond any network; keeps index arithmetic from overflowing.
                    match usize::try_from(length) {
                        Ok(length) if (1..=1 << 24).contains(&length) && *dim != Some(0) => {
                            *dim = Some(length)
                        }
                        _ => bail!("expected positive lengths, found {lengths:?}"),
                    }
                }
            }
            Some(lengths) => bail!("expected {} lengths, found {}", shape.len() - 2, lengths.len()),
            None => shape[2..].fill(None),
        }
        let mut outputs = vec![support::output(data.element_type, shape.clone())];
        if let Self::Maximum { index_type } = self {
            outputs.push(support::output(*index_type, shape));
        }
        Ok(outputs)
    }

    fn evaluate(&self, inputs: &[Tensor], outputs: &[OutputInfo]) -> Result<Vec<Tensor>, OpError> {
        let data = &inputs[0];
        let shape = support::fixed(&outputs[0])?;
        let lengths = super::convolution::three(&data.shape()[2..], 1);
        let counts = super::convolution::three(&shape[2..], 1);
        let [zs, ys, xs] = [0, 1, 2].map(|axis| parts(lengths[axis], counts[axis]));
        let plane = support::product(&lengths);
        let values = data.to_f64();
        let (mut means, mut places, mut indices) = (Vec::new(), Vec::new(), Vec::new());
        for first in (0..values.len()).step_by(plane.max(1)) {
            for z in &zs {
                for y in &ys {
                    for x in &xs {
                        let row = |z| y.clone().map(move |y| (z * lengths[1] + y) * lengths[2]);
                        let rows = z.clone().flat_map(row);
                        let window = rows.flat_map(|row| x.clone().map(move |x| row + x));
                        if let Self::Average = self {
                            let (sum, count) = window.fold((0f32, 0), |(sum, count), i| {
                                (sum + values[first + i] as f32, count + 1)
                            });
                            means.push(sum / count as f32);
                        } else {
                            let best = window.reduce(|a, b| {
                                if values[first + b] > values[first + a] {
                                    b
                                } else {
                                    a
                                }
                            });
                            let best = best.unwrap_or(0);
                            places.push(first + best);
                            indices.push(best as i128);
                        }
                    }
                }
            }
        }
        match self {
            Self::Average => Ok(vec![support::from_f32(data.element_type(), &shape, &means)?]),
            Self::Maximum { index_type } => Ok(vec![
                support::take(data, &shape, &places)?,
                Tensor::from_i128(*index_type, &shape, &indices)?,
            ]),
        }
    }
}
