//! SpaceToDepth: blocks of pixels become blocks of channels.

use std::ops::RangeInclusive;

use super::Places;
use crate::error::{OpError, bail};
use crate::graph::OutputInfo;
use crate::op::Op;
use crate::operation::Operation;
use crate::ops::attributes::{Attributes, word_of};
use crate::ops::support::{self, Input};
use crate::tensor::Tensor;

/// SpaceToDepth-1: `[N, C, D1, .., DK]` becomes `[N, C * block_size^K, D1 / block_size, .., DK / block_size]`.
#[derive(Debug, Clone)]
struct SpaceToDepth {
    /// Side of a block, at least 1.
    block_size: usize,
    /// Channel `channel * pixels of a block + pixel` rather than `pixel * channels + channel`.
    depth_first: bool,
}

/// Names of the orders of channels.
const MODES: &[(&str, bool)] = &[("blocks_first", false), ("depth_first", true)];

/// Reads an operation of this family; `None` if it is of another.
pub(super) fn parse(a: &Attributes) -> Result<Option<Op>, OpError> {
    if a.kind != "SpaceToDepth" {
        return Ok(None);
    }
    let block_size = a.size("block_size", Some(1))?;
    if block_size == 0 {
        bail!("attribute `block_size`: expected at least 1, found 0");
    }
    let depth_first = a.word("mode", MODES, None)?;
    Ok(Some(Op::standard(SpaceToDepth {
        block_size,
        depth_first,
    })))
}

impl Operation for SpaceToDepth {
    fn type_name(&self) -> &'static str {
        "SpaceToDepth"
    }

    fn opset(&self) -> u32 {
        1
    }

    fn attributes(&self) -> Vec<(&'static str, String)> {
        vec![
            ("block_size", self.block_size.to_string()),
            ("mode", word_of(MODES, &self.depth_first)),
        ]
    }

    fn input_count(&self) -> RangeInclusive<usize> {
        1..=1
    }

    fn infer(&self, inputs: &[Input]) -> Result<Vec<OutputInfo>, OpError> {
        let data = &inputs[0];
        let mut shape = data.shape.to_vec();
        if shape.len() < 3 {
            bail!(
                "expected a tensor [N, C, spatial..], found {}",
                support::show(&shape)
            );
        }
        for axis in 2..shape.len() {
            if let Some(length) = &mut shape[axis] {
                if *length % self.block_size != 0 {
                    bail!(
                        "an axis of {length} does not split into blocks of {}",
                        self.block_size
                    );
                }
                *length /= self.block_size;
            }
            if let Some(channels) = shape[1] {
                match channels.checked_mul(self.block_size) {
                    Some(more) => shape[1] = Some(more),
                    None => bail!("{channels} channels times {} are too many", self.block_size),
                }
            }
        }
        Ok(vec![support::output(data.element_type, shape)])
    }

    fn evaluate(&self, inputs: &[Tensor], _: &[OutputInfo]) -> Result<Vec<Tensor>, OpError> {
        let data = &inputs[0];
        let Places(mut places) = Places::same(data.shape());
        let mut pixels = vec![0];
        for (axis, &stride) in places[2..].iter_mut().zip(&support::strides(data.shape())[2..]) {
            pixels = pixels
                .iter()
                .flat_map(|&base| (0..self.block_size).map(move |i| base + i * stride as usize))
                .collect();
            *axis = axis.iter().copied().step_by(self.block_size).collect();
        }
        let channels = &places[1];
        places[1] = if self.depth_first {
            let of_channel = |&c: &usize| pixels.iter().map(move |&p| c + p);
            channels.iter().flat_map(of_channel).collect()
        } else {
            let of_pixel = |&p: &usize| channels.iter().map(move |&c| c + p);
            pixels.iter().flat_map(of_pixel).collect()
        };
        Ok(vec![Places(places).take(data)?])
    }

    fn moves_values(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use crate::op::Op;
    use crate::ops::{DepthToSpace, DepthToSpaceMode};
    use crate::tensor::Tensor;

    #[test]
    fn undoes_depth_to_space() {
        let values: Vec<i32> = (0..2 * 3 * 4 * 6).collect();
        let data = Tensor::from_slice(&[2, 3, 4, 6], &values).unwrap();
        for (depth_first, mode) in [
            (false, DepthToSpaceMode::BlocksFirst),
            (true, DepthToSpaceMode::DepthFirst),
        ] {
            let there = Op::standard(super::SpaceToDepth {
                block_size: 2,
                depth_first,
            });
            let back = Op::standard(DepthToSpace { block_size: 2, mode });
            let deep = crate::ops::evaluate(&there, std::slice::from_ref(&data)).unwrap();
            assert_eq!(deep[0].shape(), [2, 12, 2, 3]);
            assert_eq!(crate::ops::evaluate(&back, &deep).unwrap()[0], data);
        }
    }
}
