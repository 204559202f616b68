//! Pad-1/12. Negative padding cuts.

use super::attributes::Attributes;
use super::support::{self, Input};
use crate::error::{OpError, bail};
use crate::graph::OutputInfo;
use crate::op::{Op, PadMode};
use crate::tensor::Tensor;

/// Names of modes.
pub(crate) const MODES: [(&str, PadMode); 4] = [
    ("constant", PadMode::Constant),
    ("edge", PadMode::Edge),
    ("reflect", PadMode::Reflect),
    ("symmetric", PadMode::Symmetric),
];

/// Reads an operation of this family; `None` if it is of another.
pub(crate) fn parse(a: &Attributes) -> Result<Option<Op>, OpError> {
    if a.kind != "Pad" {
        return Ok(None);
    }
    Ok(Some(Op::Pad(a.word("pad_mode", &MODES, None)?)))
}

/// Fails unless there is one entry per axis.
fn check(begin: &[i64], end: &[i64], rank: usize) -> Result<(), OpError> {
    if begin.len() == rank && end.len() == rank {
        return Ok(());
    }
    bail!(
        "padding has {} and {} entries: expected one per axis, {rank}",
        begin.len(),
        end.len()
    )
}

fn padded(length: usize, begin: i64, end: i64) -> Result<usize, OpError> {
    let sum = length as i128 + i128::from(begin) + i128::from(end);
    usize::try_from(sum).map_err(|_| {
        OpError(format!(
            "padding {begin} and {end} leaves an axis of {length} with {sum} elements"
        ))
    })
}

/// Type and shape of the output.
pub(crate) fn infer(inputs: &[Input]) -> Result<Vec<OutputInfo>, OpError> {
    let data = &inputs[0];
    if let Some(value) = inputs.get(3) {
        support::same_type(data, value)?;
    }
    let rank = data.shape.len();
    let shape = match (inputs[1].integers(), inputs[2].integers()) {
        (Some(begin), Some(end)) => {
            check(&begin, &end, rank)?;
            let dims = data.shape.iter().enumerate();
            dims.map(|(i, d)| d.map(|d| padded(d, begin[i], end[i])).transpose())
                .collect::<Result<_, _>>()?
        }
        _ => vec![None; rank],
    };
    Ok(vec![support::output(data.element_type, shape)])
}

/// The input index an output index of one axis shows; `None` for the pad value.
fn source(mode: PadMode, at: i64, length: usize) -> Result<Option<usize>, OpError> {
    let n = length as i64;
    let inside = |i: i64| usize::try_from(i).ok().filter(|&i| i < length);
    let reflected = match mode {
        PadMode::Constant => return Ok(inside(at)),
        PadMode::Edge => at.clamp(0, (n - 1).max(0)),
        PadMode::Reflect if at < 0 => -at,
        PadMode::Reflect if at >= n => 2 * (n - 1) - at,
        PadMode::Symmetric if at < 0 => -at - 1,
        PadMode::Symmetric if at >= n => 2 * n - 1 - at,
        PadMode::Reflect | PadMode::Symmetric => at,
    };
    match inside(reflected) {
        Some(i) => Ok(Some(i)),
        None => {
            bail!("padding of an axis of length {length} needs element {at}, which mirroring does not reach")
        }
    }
}

/// Evaluates the operation.
pub(crate) fn evaluate(
    mode: PadMode,
    inputs: &[Tensor],
    outputs: &[OutputInfo],
) -> Result<Vec<Tensor>, OpError> {
    let data = &inputs[0];
    let shape = support::fixed(&outputs[0])?;
    let (begin, end) = (inputs[1].to_i64(), inputs[2].to_i64());
    check(&begin, &end, shape.len())?;
    let strides = support::strides(data.shape());
    // Offset of the element each output shows; `None` for the pad value.
    let mut offsets = vec![Some(0usize)];
    for axis in 0..shape.len() {
        let along: Result<Vec<_>, OpError> = (0..shape[axis] as i64)
            .map(|i| source(mode, i - begin[axis], data.shape()[axis]))
            .collect();
        let along = along?;
        offsets = offsets
            .iter()
            .flat_map(|base| {
                along
                    .iter()
                    .map(|i| Some((*base)? + (*i)? * strides[axis] as usize))
            })
            .collect();
    }
    let width = data.element_type().bits().div_ceil(8);
    if data.element_type().bits() < 8 {
        bail!("Pad of packed {} values is not supported", data.element_type());
    }
    let zeros = vec![0; width];
    let value = match inputs.get(3) {
        Some(value) if value.len() == 1 => value.bytes(),
        Some(value) => bail!("expected one pad value, found {}", value.len()),
        None => &zeros,
    };
    let mut bytes = Vec::with_capacity(offsets.len() * width);
    for offset in offsets {
        match offset {
            Some(o) => bytes.extend_from_slice(&data.bytes()[o * width..(o + 1) * width]),
            None => bytes.extend_from_slice(value),
        }
    }
    Ok(vec![Tensor::new(data.element_type(), shape, bytes)?])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(mode: PadMode, begin: i64, end: i64) -> Vec<f32> {
        let x = Tensor::from_slice(&[3], &[1f32, 2.0, 3.0]).unwrap();
        let one = |v: i64| Tensor::from_slice(&[1], &[v]).unwrap();
        let inputs = [x, one(begin), one(end), Tensor::scalar(9f32)];
        crate::ops::evaluate(&Op::Pad(mode), &inputs).unwrap()[0].to_f32()
    }

    #[test]
    fn every_mode() {
        assert_eq!(run(PadMode::Constant, 1, 2), [9.0, 1.0, 2.0, 3.0, 9.0, 9.0]);
        assert_eq!(run(PadMode::Edge, 1, 2), [1.0, 1.0, 2.0, 3.0, 3.0, 3.0]);
        assert_eq!(run(PadMode::Reflect, 1, 2), [2.0, 1.0, 2.0, 3.0, 2.0, 1.0]);
        assert_eq!(run(PadMode::Symmetric, 1, 2), [1.0, 1.0, 2.0, 3.0, 3.0, 2.0]);
        assert_eq!(run(PadMode::Constant, -1, 1), [2.0, 3.0, 9.0]);
    }

    #[test]
    fn mirrors_reach_only_so_far() {
        assert!(source(PadMode::Reflect, -3, 3).is_err());
        assert!(source(PadMode::Edge, 0, 0).is_err());
    }
}
