//! BatchToSpace and SpaceToBatch: entries of the batch become blocks of pixels, and back.

use std::ops::RangeInclusive;

use super::Places;
use crate::error::{OpError, bail};
use crate::graph::OutputInfo;
use crate::op::{Op, PadMode};
use crate::operation::Operation;
use crate::ops::attributes::Attributes;
use crate::ops::support::{self, Input};
use crate::tensor::Tensor;

/// BatchToSpace-2 and SpaceToBatch-2: inputs data, block lengths per axis (the first is 1), and what is cut from or
/// padded with zeros at the beginning and the end of each axis of pixels.
#[derive(Debug, Clone)]
enum BatchSpace {
    BatchToSpace,
    SpaceToBatch,
}

/// Reads an operation of this family; `None` if it is of another.
pub(super) fn parse(a: &Attributes) -> Result<Option<Op>, OpError> {
    Ok(Some(Op::standard(match a.kind {
        "BatchToSpace" => BatchSpace::BatchToSpace,
        "SpaceToBatch" => BatchSpace::SpaceToBatch,
        _ => return Ok(None),
    })))
}

/// Block lengths and margins per axis.
struct Plan {
    blocks: Vec<usize>,
    margins: [Vec<usize>; 2],
}

impl Plan {
    fn new(lists: [&[i64]; 3], rank: usize) -> Result<Self, OpError> {
        let read = |list: &[i64], least: usize, what: &str| -> Result<Vec<usize>, OpError> {
            let values: Vec<usize> = list.iter().flat_map(|&v| usize::try_from(v)).collect();
            if list.len() == rank && values.len() == rank && values.iter().all(|&v| v >= least) {
                Ok(values)
            } else {
                bail!("{what}: expected {rank} numbers of at least {least}, found {list:?}")
            }
        };
        let plan = Self {
            blocks: read(lists[0], 1, "block lengths")?,
            margins: [read(lists[1], 0, "margins")?, read(lists[2], 0, "margins")?],
        };
        let first = [&plan.blocks, &plan.margins[0], &plan.margins[1]].map(|list| list.first());
        if first != [Some(&1), Some(&0), Some(&0)] {
            bail!("the batch axis: expected a block of 1 and no margins");
        }
        Ok(plan)
    }

    /// Pixels of a block.
    fn pixels(&self) -> Option<usize> {
        self.blocks.iter().try_fold(1usize, |n, &b| n.checked_mul(b))
    }

    /// How far the entries of the batch that belong to the pixels of a block lie apart, per axis, in units of `step`.
    fn steps(&self, step: usize) -> Vec<usize> {
        let mut steps = vec![step; self.blocks.len()];
        for axis in (1..steps.len()).rev() {
            steps[axis - 1] = steps[axis] * self.blocks[axis];
        }
        steps
    }
}

impl Operation for BatchSpace {
    fn type_name(&self) -> &'static str {
        match self {
            Self::BatchToSpace => "BatchToSpace",
            Self::SpaceToBatch => "SpaceToBatch",
        }
    }

    fn opset(&self) -> u32 {
        2
    }

    fn input_count(&self) -> RangeInclusive<usize> {
        4..=4
    }

    fn infer(&self, inputs: &[Input]) -> Result<Vec<OutputInfo>, OpError> {
        let data = &inputs[0];
        let rank = data.shape.len();
        if rank < 2 {
            bail!("expected at least two axes, found {}", support::show(data.shape));
        }
        let lists: Vec<Vec<i64>> = inputs[1..].iter().filter_map(Input::integers).collect();
        let [blocks, begin, end] = &lists[..] else {
            return Ok(vec![support::output(data.element_type, vec![None; rank])]);
        };
        let plan = Plan::new([blocks, begin, end], rank)?;
        let mut shape = data.shape.to_vec();
        for (axis, dim) in shape.iter_mut().enumerate() {
            let Some(length) = *dim else { continue };
            let (block, margin) = (
                plan.blocks[axis],
                plan.margins[0][axis].checked_add(plan.margins[1][axis]),
            );
            let found = match self {
                Self::BatchToSpace if axis == 0 => {
                    plan.pixels().filter(|p| length % p == 0).map(|p| length / p)
                }
                Self::SpaceToBatch if axis == 0 => plan.pixels().and_then(|p| length.checked_mul(p)),
                Self::BatchToSpace => length
                    .checked_mul(block)
                    .zip(margin)
                    .and_then(|(l, m)| l.checked_sub(m)),
                Self::SpaceToBatch => margin
                    .and_then(|m| m.checked_add(length))
                    .filter(|l| l % block == 0)
                    .map(|l| l / block),
            };
            match found {
                Some(length) => *dim = Some(length),
                None => bail!(
                    "axis {axis} of {} does not fit blocks {:?} and margins {:?}",
                    support::show(data.shape),
                    plan.blocks,
                    plan.margins
                ),
            }
        }
        Ok(vec![support::output(data.element_type, shape)])
    }

    fn evaluate(&self, inputs: &[Tensor], outputs: &[OutputInfo]) -> Result<Vec<Tensor>, OpError> {
        let shape = support::fixed(&outputs[0])?;
        let lists = [1, 2, 3].map(|i| inputs[i].to_i64());
        let plan = Plan::new(lists.each_ref().map(Vec::as_slice), shape.len())?;
        if let Self::BatchToSpace = self {
            let data = &inputs[0];
            let strides = support::strides(data.shape());
            let Places(mut places) = Places::same(data.shape());
            places[0].truncate(shape[0]);
            let steps = plan.steps(shape[0] * strides[0] as usize);
            for axis in 1..shape.len() {
                let block = plan.blocks[axis];
                let place = |at: usize| at / block * strides[axis] as usize + at % block * steps[axis];
                let first = plan.margins[0][axis];
                places[axis] = (first..first + shape[axis]).map(place).collect();
            }
            return Ok(vec![Places(places).take(data)?]);
        }
        let padding = [inputs[0].clone(), inputs[2].clone(), inputs[3].clone()];
        let data = super::super::evaluate(&Op::Pad(PadMode::Constant), &padding)?.swap_remove(0);
        let strides = support::strides(data.shape());
        let Places(mut places) = Places::same(data.shape());
        let mut entries = vec![0];
        for axis in 1..shape.len() {
            let block = plan.blocks[axis];
            entries = entries
                .iter()
                .flat_map(|&base| (0..block).map(move |i| (base, i)))
                .map(|(base, i)| base + i * strides[axis] as usize)
                .collect();
            places[axis] = places[axis].iter().copied().step_by(block).collect();
        }
        let batch = &places[0];
        places[0] = entries
            .iter()
            .flat_map(|&e| batch.iter().map(move |&n| n + e))
            .collect();
        Ok(vec![Places(places).take(&data)?])
    }

    fn moves_values(&self) -> bool {
        // SpaceToBatch may add zeros.
        matches!(self, Self::BatchToSpace)
    }
}
