//! Reverse and ReverseSequence: axes back to front, whole or up to a length per batch entry.

use std::ops::RangeInclusive;

use crate::error::{OpError, bail};
use crate::graph::OutputInfo;
use crate::op::Op;
use crate::operation::Operation;
use crate::ops::attributes::Attributes;
use crate::ops::support::{self, Input};
use crate::tensor::{ElementType, Tensor};

/// Reverse-1: inputs data and the axes, as indices or as one boolean per axis.
#[derive(Debug, Clone)]
struct Reverse {
    mask: bool,
}

/// ReverseSequence-1: inputs data and lengths `[batch]`.
#[derive(Debug, Clone)]
struct ReverseSequence {
    batch_axis: i64,
    seq_axis: i64,
}

/// Reads an operation of this family; `None` if it is of another.
pub(super) fn parse(a: &Attributes) -> Result<Option<Op>, OpError> {
    Ok(match a.kind {
        "Reverse" => Some(Op::standard(Reverse {
            mask: a.word("mode", &[("index", false), ("mask", true)], None)?,
        })),
        "ReverseSequence" => Some(Op::standard(ReverseSequence {
            batch_axis: a.int("batch_axis", Some(0))?,
            seq_axis: a.int("seq_axis", Some(1))?,
        })),
        _ => None,
    })
}

impl Reverse {
    /// Whether each axis is reversed.
    fn axes(&self, list: &Tensor, rank: usize) -> Result<Vec<bool>, OpError> {
        let list = list.to_i64();
        if self.mask {
            if list.len() != rank {
                bail!("the mask: expected {rank} booleans, found {}", list.len());
            }
            return Ok(list.into_iter().map(|b| b != 0).collect());
        }
        let axes = support::axes(&list, rank)?;
        Ok((0..rank).map(|a| axes.contains(&a)).collect())
    }
}

impl Operation for Reverse {
    fn type_name(&self) -> &'static str {
        "Reverse"
    }

    fn opset(&self) -> u32 {
        1
    }

    fn attributes(&self) -> Vec<(&'static str, String)> {
        vec![("mode", if self.mask { "mask" } else { "index" }.to_owned())]
    }

    fn input_count(&self) -> RangeInclusive<usize> {
        2..=2
    }

    fn infer(&self, inputs: &[Input]) -> Result<Vec<OutputInfo>, OpError> {
        let data = &inputs[0];
        if self.mask != (inputs[1].element_type == ElementType::Boolean) {
            let expected = if self.mask { "booleans" } else { "integers" };
            bail!("the axes: expected {expected}, found {}", inputs[1].element_type);
        }
        if let Some(axes) = inputs[1].value {
            self.axes(axes, data.shape.len())?;
        }
        Ok(vec![support::output(data.element_type, data.shape.to_vec())])
    }

    fn evaluate(&self, inputs: &[Tensor], _: &[OutputInfo]) -> Result<Vec<Tensor>, OpError> {
        let (data, shape) = (&inputs[0], inputs[0].shape());
        if data.is_empty() {
            return Ok(vec![data.clone()]);
        }
        let mut strides = support::strides(shape);
        let mut start = 0;
        for (axis, reversed) in self.axes(&inputs[1], shape.len())?.into_iter().enumerate() {
            if reversed {
                start += (shape[axis] as isize - 1) * strides[axis];
                strides[axis] = -strides[axis];
            }
        }
        let offsets = support::offsets(shape, &strides, start);
        Ok(vec![support::take(data, shape, &offsets)?])
    }

    fn moves_values(&self) -> bool {
        true
    }
}

impl Operation for ReverseSequence {
    fn type_name(&self) -> &'static str {
        "ReverseSequence"
    }

    fn opset(&self) -> u32 {
        1
    }

    fn attributes(&self) -> Vec<(&'static str, String)> {
        vec![
            ("batch_axis", self.batch_axis.to_string()),
            ("seq_axis", self.seq_axis.to_string()),
        ]
    }

    fn input_count(&self) -> RangeInclusive<usize> {
        2..=2
    }

    fn infer(&self, inputs: &[Input]) -> Result<Vec<OutputInfo>, OpError> {
        let data = &inputs[0];
        let [lengths] = support::dims(&inputs[1], "the lengths")?;
        let batch = support::axis(self.batch_axis, data.shape.len())?;
        support::axis(self.seq_axis, data.shape.len())?;
        let mut shape = data.shape.to_vec();
        shape[batch] = support::same_dim(shape[batch], lengths, "the batch axis and the lengths")?;
        Ok(vec![support::output(data.element_type, shape)])
    }

    fn evaluate(&self, inputs: &[Tensor], _: &[OutputInfo]) -> Result<Vec<Tensor>, OpError> {
        let (data, shape) = (&inputs[0], inputs[0].shape());
        let batch = support::axis(self.batch_axis, shape.len())?;
        let axis = support::axis(self.seq_axis, shape.len())?;
        let lengths = inputs[1].to_i64();
        for &length in &lengths {
            if length < 0 || length > shape[axis] as i64 {
                bail!("a length of {length} on an axis of {}", shape[axis]);
            }
        }
        let strides = support::strides(shape);
        let at = |offset: usize, axis: usize| offset / strides[axis] as usize % shape[axis];
        let offsets: Vec<usize> = (0..data.len())
            .map(|offset| {
                let (place, length) = (at(offset, axis), lengths[at(offset, batch)] as usize);
                let from = if place < length { length - 1 - place } else { place };
                offset + from * strides[axis] as usize - place * strides[axis] as usize
            })
            .collect();
        Ok(vec![support::take(data, shape, &offsets)?])
    }

    fn moves_values(&self) -> bool {
        true
    }
}
