//! DepthToSpace: blocks of channels become blocks of pixels.

use std::ops::RangeInclusive;

use super::attributes::{Attributes, word_of};
use super::support::{self, Input};
use crate::error::{OpError, bail};
use crate::graph::OutputInfo;
use crate::op::Op;
use crate::operation::Operation;
use crate::tensor::Tensor;

/// DepthToSpace-1: `[N, C * block_size^K, D1, .., DK]` becomes `[N, C, D1 * block_size, .., DK * block_size]`.
#[derive(Debug, Clone)]
pub struct DepthToSpace {
    /// Side of a block, at least 1.
    pub block_size: usize,
    /// How channels are numbered.
    pub mode: DepthToSpaceMode,
}

/// Which channel a pixel of a block comes from; `C` counts the output's channels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DepthToSpaceMode {
    /// Channel `pixel of the block * C + channel`.
    BlocksFirst,
    /// Channel `channel * pixels of a block + pixel of the block`.
    DepthFirst,
}

/// Names of the modes in model files.
const MODES: &[(&str, DepthToSpaceMode)] = &[
    ("blocks_first", DepthToSpaceMode::BlocksFirst),
    ("depth_first", DepthToSpaceMode::DepthFirst),
];

/// Reads an operation of this family; `None` if it is of another.
pub(crate) fn parse(a: &Attributes) -> Result<Option<Op>, OpError> {
    if a.kind != "DepthToSpace" {
        return Ok(None);
    }
    let block_size = a.size("block_size", Some(1))?;
    if block_size == 0 {
        bail!("attribute `block_size`: expected at least 1, found 0");
    }
    let mode = a.word("mode", MODES, None)?;
    Ok(Some(Op::standard(DepthToSpace { block_size, mode })))
}

/// Pixels of a block: `block_size` to the number of spatial axes.
fn block_pixels(block_size: usize, rank: usize) -> Result<usize, OpError> {
    let Some(spatial) = rank.checked_sub(2).filter(|&axes| axes > 0) else {
        bail!("expected a tensor [N, C, spatial..], found rank {rank}");
    };
    match u32::try_from(spatial)
        .ok()
        .and_then(|k| block_size.checked_pow(k))
    {
        Some(pixels) => Ok(pixels),
        None => bail!("a block of side {block_size} along {spatial} axes is too large"),
    }
}

impl Operation for DepthToSpace {
    fn type_name(&self) -> &'static str {
        "DepthToSpace"
    }

    fn opset(&self) -> u32 {
        1
    }

    fn attributes(&self) -> Vec<(&'static str, String)> {
        vec![
            ("block_size", self.block_size.to_string()),
            ("mode", word_of(MODES, &self.mode)),
        ]
    }

    fn input_count(&self) -> RangeInclusive<usize> {
        1..=1
    }

    fn infer(&self, inputs: &[Input]) -> Result<Vec<OutputInfo>, OpError> {
        let data = &inputs[0];
        let pixels = block_pixels(self.block_size, data.shape.len())?;
        let mut shape = data.shape.to_vec();
        if let Some(channels) = shape[1] {
            if channels % pixels != 0 {
                bail!("{channels} channels do not split into blocks of {pixels} pixels");
            }
            shape[1] = Some(channels / pixels);
        }
        for length in shape[2..].iter_mut().flatten() {
            match length.checked_mul(self.block_size) {
                Some(longer) => *length = longer,
                None => bail!("an axis of {length} times {} is too long", self.block_size),
            }
        }
        Ok(vec![support::output(data.element_type, shape)])
    }

    fn evaluate(&self, inputs: &[Tensor], outputs: &[OutputInfo]) -> Result<Vec<Tensor>, OpError> {
        let data = &inputs[0];
        let shape = support::fixed(&outputs[0])?;
        let pixels = block_pixels(self.block_size, shape.len())? as isize;
        let strides = support::strides(data.shape());
        let (channel, mut block) = match self.mode {
            DepthToSpaceMode::BlocksFirst => (strides[1], shape[1] as isize * strides[1] * pixels),
            DepthToSpaceMode::DepthFirst => (pixels * strides[1], pixels * strides[1]),
        };
        // The output's axes [N, C, D1, block, D2, block, ..] and how far each steps through the input.
        let (mut walked, mut steps) = (vec![shape[0], shape[1]], vec![strides[0], channel]);
        for (&length, &stride) in data.shape()[2..].iter().zip(&strides[2..]) {
            block /= self.block_size as isize;
            walked.extend([length, self.block_size]);
            steps.extend([stride, block]);
        }
        let offsets = support::offsets(&walked, &steps, 0);
        Ok(vec![support::take(data, &shape, &offsets)?])
    }

    fn moves_values(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn run(data: &Tensor, block_size: usize, mode: DepthToSpaceMode) -> Result<Tensor, OpError> {
        let op = Op::standard(DepthToSpace { block_size, mode });
        crate::ops::evaluate(&op, std::slice::from_ref(data)).map(|mut outputs| outputs.remove(0))
    }

    /// Reshape, Transpose, Reshape, as the specification defines the operation for two spatial axes.
    fn by_definition(data: &Tensor, b: usize, mode: DepthToSpaceMode) -> Tensor {
        let &[n, c, h, w] = data.shape() else {
            unreachable!()
        };
        let (split, order) = match mode {
            DepthToSpaceMode::BlocksFirst => ([n, b, b, c / b / b, h, w], [0i64, 3, 4, 1, 5, 2]),
            DepthToSpaceMode::DepthFirst => ([n, c / b / b, b, b, h, w], [0, 1, 4, 2, 5, 3]),
        };
        let order = Tensor::from_slice(&[6], &order).unwrap();
        let split = data.reshaped(&split).unwrap();
        let turned = crate::ops::evaluate(&Op::Transpose, &[split, order])
            .unwrap()
            .remove(0);
        turned.reshaped(&[n, c / b / b, h * b, w * b]).unwrap()
    }

    proptest! {
        #[test]
        fn equals_the_definition(
            n in 1usize..3, c in 1usize..4, h in 1usize..4, w in 1usize..4, b in 1usize..4,
            mode in prop::sample::select(vec![DepthToSpaceMode::BlocksFirst, DepthToSpaceMode::DepthFirst]),
        ) {
            let shape = [n, c * b * b, h, w];
            let values: Vec<i32> = (0..shape.iter().product::<usize>() as i32).collect();
            let data = Tensor::from_slice(&shape, &values).unwrap();
            prop_assert_eq!(run(&data, b, mode).unwrap(), by_definition(&data, b, mode));
        }
    }

    #[test]
    fn blocks_must_fit_the_channels() {
        let data = Tensor::from_slice(&[1, 6, 1, 1], &[0u8; 6]).unwrap();
        assert!(run(&data, 2, DepthToSpaceMode::DepthFirst).is_err());
        assert!(run(&data, usize::MAX, DepthToSpaceMode::DepthFirst).is_err());
        let flat = data.reshaped(&[1, 6]).unwrap();
        assert!(run(&flat, 1, DepthToSpaceMode::DepthFirst).is_err());
    }
}
