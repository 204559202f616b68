//! SegmentMax: the maximum of the rows of each segment.

use std::ops::RangeInclusive;

use half::{bf16, f16};

use crate::error::{OpError, bail};
use crate::graph::OutputInfo;
use crate::op::Op;
use crate::operation::Operation;
use crate::ops::attributes::{Attributes, word_of};
use crate::ops::support::{self, Input};
use crate::tensor::{ElementType, Tensor};

/// What stands in a segment without rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fill {
    Zero,
    /// The lowest finite value of the element type.
    Lowest,
}

const FILLS: &[(&str, Fill)] = &[("zero", Fill::Zero), ("lowest", Fill::Lowest)];

/// SegmentMax-16: inputs data `[rows, ..]`, ascending segments `[rows]` and optionally the number of segments, by
/// default that of the last one plus 1. Rows of segments beyond the number are left out. NaN is never a maximum.
#[derive(Debug, Clone)]
struct SegmentMax {
    fill: Fill,
}

/// Reads an operation of this family; `None` if it is of another.
pub(super) fn parse(a: &Attributes) -> Result<Option<Op>, OpError> {
    if a.kind != "SegmentMax" {
        return Ok(None);
    }
    let fill = a.word("fill_mode", FILLS, None)?;
    Ok(Some(Op::standard(SegmentMax { fill })))
}

/// The segments as numbers, if they ascend from 0 or more.
fn ascending(segments: &[i64]) -> Result<Vec<usize>, OpError> {
    let mut found = Vec::with_capacity(segments.len());
    let mut last = 0;
    for &segment in segments {
        match usize::try_from(segment) {
            Ok(s) if s >= last => last = s,
            _ => bail!("the segments: expected ascending numbers from 0, found {segment} behind {last}"),
        }
        found.push(last);
    }
    Ok(found)
}

/// The maxima of rows of `width` values for `count` segments; `fill` where a segment has no row, `least` where it has
/// nothing greater.
fn maxima<T: Copy + PartialOrd>(
    values: &[T],
    segments: &[usize],
    [count, width]: [usize; 2],
    [fill, least]: [T; 2],
) -> Vec<T> {
    let mut found = vec![fill; count * width];
    let mut last = None;
    for (row, &segment) in values.chunks(width.max(1)).zip(segments) {
        if segment >= count {
            break;
        }
        let to = &mut found[segment * width..][..width];
        if last != Some(segment) {
            to.fill(least);
            last = Some(segment);
        }
        for (to, &value) in to.iter_mut().zip(row) {
            if value > *to {
                *to = value;
            }
        }
    }
    found
}

impl Operation for SegmentMax {
    fn type_name(&self) -> &'static str {
        "SegmentMax"
    }

    fn opset(&self) -> u32 {
        16
    }

    fn attributes(&self) -> Vec<(&'static str, String)> {
        vec![("fill_mode", word_of(FILLS, &self.fill))]
    }

    fn input_count(&self) -> RangeInclusive<usize> {
        2..=3
    }

    fn infer(&self, inputs: &[Input]) -> Result<Vec<OutputInfo>, OpError> {
        let (data, segments) = (&inputs[0], &inputs[1]);
        let mut shape = data.shape.to_vec();
        let Some(rows) = shape.first_mut() else {
            bail!("expected data [rows, ..], found a scalar");
        };
        if data.element_type == ElementType::Boolean {
            bail!("expected numbers, found {}", data.element_type);
        }
        support::integers(segments, "the segments")?;
        let [places] = support::dims(segments, "the segments")?;
        support::same_dim(*rows, places, "rows and segments")?;
        *rows = match (inputs.get(2), segments.integers()) {
            (Some(count), _) => {
                support::integers(count, "the number of segments")?;
                match support::scalar(count, "the number of segments")? {
                    None => None,
                    Some(count) => match usize::try_from(count) {
                        Ok(count) => Some(count),
                        Err(_) => bail!("the number of segments: expected 0 or more, found {count}"),
                    },
                }
            }
            (None, Some(segments)) => match ascending(&segments)?.last() {
                Some(&last) => last.checked_add(1),
                None => Some(0),
            },
            (None, None) => None,
        };
        Ok(vec![support::output(data.element_type, shape)])
    }

    fn evaluate(&self, inputs: &[Tensor], outputs: &[OutputInfo]) -> Result<Vec<Tensor>, OpError> {
        let data = &inputs[0];
        let element_type = data.element_type();
        let segments = ascending(&inputs[1].to_i64())?;
        let shape = support::fixed(&outputs[0])?;
        let size = [shape[0], support::product(&shape[1..])];
        let result = if let Some((lowest, _)) = element_type.range() {
            let fill = if self.fill == Fill::Lowest { lowest } else { 0 };
            let found = maxima(&data.to_i128(), &segments, size, [fill, lowest]);
            Tensor::from_i128(element_type, &shape, &found)?
        } else {
            let fill = if self.fill == Fill::Lowest {
                lowest(element_type)
            } else {
                0.0
            };
            let found = maxima(&data.to_f64(), &segments, size, [fill, f64::NEG_INFINITY]);
            Tensor::from_f64(element_type, &shape, &found)?
        };
        Ok(vec![result])
    }
}

/// The lowest finite value of a floating point type.
fn lowest(element_type: ElementType) -> f64 {
    match element_type {
        ElementType::F16 => f16::MIN.to_f64(),
        ElementType::Bf16 => bf16::MIN.to_f64(),
        ElementType::F32 => f64::from(f32::MIN),
        _ => f64::MIN,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn run(inputs: &[Tensor], fill: Fill) -> Result<Tensor, OpError> {
        let op = Op::standard(SegmentMax { fill });
        crate::ops::evaluate(&op, inputs).map(|mut outputs| outputs.remove(0))
    }

    proptest! {
        #[test]
        fn equals_the_definition(
            mut segments in prop::collection::vec(0i32..6, 0..8),
            count in prop::option::of(0usize..8),
            columns in 0usize..3,
            seed in any::<i32>(),
        ) {
            segments.sort_unstable();
            let rows = segments.len();
            let values: Vec<i32> = (0..rows * columns).map(|i| seed.wrapping_mul(i as i32 + 1)).collect();
            let mut inputs = vec![
                Tensor::from_slice(&[rows, columns], &values).unwrap(),
                Tensor::from_slice(&[rows], &segments).unwrap(),
            ];
            inputs.extend(count.map(|c| Tensor::scalar(c as i64)));
            let count = count.unwrap_or(segments.last().map_or(0, |&s| s as usize + 1));
            let expected: Vec<i32> = (0..count * columns)
                .map(|i| {
                    let members = (0..rows).filter(|&row| segments[row] as usize == i / columns);
                    members.map(|row| values[row * columns + i % columns]).max().unwrap_or(i32::MIN)
                })
                .collect();
            let expected = Tensor::from_slice(&[count, columns], &expected).unwrap();
            prop_assert_eq!(run(&inputs, Fill::Lowest).unwrap(), expected);
        }
    }

    #[test]
    fn infinity_is_a_maximum_and_nan_is_none() {
        let data = [f32::NEG_INFINITY, f32::NAN, 1.0].map(f16::from_f32);
        let data = Tensor::from_slice(&[3], &data).unwrap();
        let segments = Tensor::from_slice(&[3], &[0i64, 2, 2]).unwrap();
        let found = run(&[data, segments], Fill::Lowest).unwrap();
        assert_eq!(found.to_f32(), [f32::NEG_INFINITY, f16::MIN.to_f32(), 1.0]);
    }

    #[test]
    fn segments_must_ascend_from_zero() {
        let data = Tensor::from_slice(&[2], &[0u8; 2]).unwrap();
        for segments in [[1, 0], [-1, 0]] {
            let segments = Tensor::from_slice(&[2], &segments).unwrap();
            assert!(run(&[data.clone(), segments], Fill::Zero).is_err());
        }
        let segments = Tensor::from_slice(&[2], &[0, 1]).unwrap();
        assert!(run(&[data, segments, Tensor::scalar(-1)], Fill::Zero).is_err());
    }
}
