//! Tile: the data repeated along axes.

use std::ops::RangeInclusive;

use crate::error::{OpError, bail};
use crate::graph::{Dim, OutputInfo};
use crate::op::Op;
use crate::operation::Operation;
use crate::ops::attributes::Attributes;
use crate::ops::support::{self, Input};
use crate::tensor::Tensor;

/// Tile-1: inputs data and how often each axis repeats; the shorter list gets ones in front.
#[derive(Debug, Clone)]
struct Tile;

/// Reads an operation of this family; `None` if it is of another.
pub(super) fn parse(a: &Attributes) -> Result<Option<Op>, OpError> {
    Ok((a.kind == "Tile").then(|| Op::standard(Tile)))
}

impl Operation for Tile {
    fn type_name(&self) -> &'static str {
        "Tile"
    }

    fn opset(&self) -> u32 {
        1
    }

    fn input_count(&self) -> RangeInclusive<usize> {
        2..=2
    }

    fn infer(&self, inputs: &[Input]) -> Result<Vec<OutputInfo>, OpError> {
        let (data, repeats) = (&inputs[0], &inputs[1]);
        support::integers(repeats, "the repeats")?;
        let count = match (repeats.integers(), repeats.shape) {
            (Some(list), _) => list.len(),
            (None, [Some(count)]) if *count <= 64 => *count,
            _ => bail!("the rank of the output is not fixed: the repeats must be a constant"),
        };
        let rank = count.max(data.shape.len());
        let Some(list) = repeats.integers() else {
            return Ok(vec![support::output(data.element_type, vec![None; rank])]);
        };
        let mut shape: Vec<Dim> = vec![Some(1); rank - data.shape.len()];
        shape.extend(data.shape);
        for (length, &times) in shape[rank - count..].iter_mut().zip(&list) {
            let times = usize::try_from(times).unwrap_or(0);
            if let Some(l) = length {
                match l.checked_mul(times) {
                    Some(longer) => *l = longer,
                    None => bail!("an axis of {l} times {times} is too long"),
                }
            }
        }
        Ok(vec![support::output(data.element_type, shape)])
    }

    fn evaluate(&self, inputs: &[Tensor], outputs: &[OutputInfo]) -> Result<Vec<Tensor>, OpError> {
        let data = &inputs[0];
        let shape = support::fixed(&outputs[0])?;
        if shape.contains(&0) {
            return Ok(vec![support::take(data, &shape, &[])?]);
        }
        let front = shape.len() - data.shape().len();
        // Each output axis is [repeats, length] of the data; repeats stand still.
        let (mut walked, mut steps) = (shape[..front].to_vec(), vec![0; front]);
        for ((&to, &from), stride) in shape[front..]
            .iter()
            .zip(data.shape())
            .zip(support::strides(data.shape()))
        {
            walked.extend([to / from, from]);
            steps.extend([0, stride]);
        }
        let offsets = support::offsets(&walked, &steps, 0);
        Ok(vec![support::take(data, &shape, &offsets)?])
    }

    fn moves_values(&self) -> bool {
        true
    }
}
