//! Concat, Split and VariadicSplit.

use super::attributes::Attributes;
use super::support::{self, Input};
use crate::error::{OpError, bail};
use crate::graph::{Dim, OutputInfo};
use crate::op::Op;
use crate::tensor::Tensor;

/// Most parts of a split.
const MAX_PARTS: usize = 65536;

/// Reads an operation of this family; `None` if it is of another.
pub(crate) fn parse(a: &Attributes) -> Result<Option<Op>, OpError> {
    Ok(match a.kind {
        "Concat" => Some(Op::Concat {
            axis: a.int("axis", None)?,
        }),
        "Split" => match a.size("num_splits", None)? {
            num_splits @ 1..=65536 => Some(Op::Split { num_splits }),
            other => bail!("attribute `num_splits`: expected 1 to 65536, found {other}"),
        },
        "VariadicSplit" => Some(Op::VariadicSplit),
        _ => None,
    })
}

/// Types and shapes of the outputs.
pub(crate) fn infer(op: &Op, inputs: &[Input]) -> Result<Vec<OutputInfo>, OpError> {
    let data = &inputs[0];
    if let Op::Concat { axis } = op {
        let axis = support::axis(*axis, data.shape.len())?;
        let mut shape = data.shape.to_vec();
        for other in &inputs[1..] {
            support::same_type(data, other)?;
            if other.shape.len() != shape.len() {
                bail!("ranks {} and {} differ", shape.len(), other.shape.len());
            }
            for (i, d) in other.shape.iter().enumerate() {
                shape[i] = if i == axis {
                    match (shape[i], *d) {
                        (Some(a), Some(b)) => match a.checked_add(b) {
                            Some(sum) => Some(sum),
                            None => bail!("the concatenated axis is too long"),
                        },
                        _ => None,
                    }
                } else {
                    support::same_dim(shape[i], *d, &format!("axis {i} of two inputs"))?
                };
            }
        }
        return Ok(vec![support::output(data.element_type, shape)]);
    }
    let Some(axis) = support::scalar(&inputs[1], "the axis")? else {
        bail!("the axis must be a constant");
    };
    let axis = support::axis(axis, data.shape.len())?;
    let length = data.shape[axis];
    let parts: Vec<Dim> = match op {
        Op::Split { num_splits } => {
            if *num_splits > MAX_PARTS {
                bail!("expected at most {MAX_PARTS} parts, found {num_splits}");
            }
            if let Some(length) = length.filter(|l| l % num_splits != 0) {
                bail!("axis {axis} of length {length} does not split into {num_splits} equal parts");
            }
            vec![length.map(|l| l / num_splits); *num_splits]
        }
        _ => match (inputs[2].integers(), inputs[2].shape) {
            (Some(lengths), _) => variadic(&lengths, length)?,
            (None, [Some(count)]) if *count <= MAX_PARTS => vec![None; *count],
            _ => bail!("the number of parts is not fixed: the lengths must be a constant"),
        },
    };
    let part = |d: Dim| {
        let mut shape = data.shape.to_vec();
        shape[axis] = d;
        support::output(data.element_type, shape)
    };
    Ok(parts.into_iter().map(part).collect())
}

/// Lengths of the parts of a VariadicSplit; one of them may be -1, what remains.
fn variadic(lengths: &[i64], total: Dim) -> Result<Vec<Dim>, OpError> {
    let fixed = lengths.iter().filter(|&&l| l != -1).try_fold(0usize, |sum, &l| {
        usize::try_from(l).ok().and_then(|l| sum.checked_add(l))
    });
    let Some(fixed) = fixed else {
        bail!("lengths {lengths:?} have an entry below -1")
    };
    let open = lengths.len() - lengths.iter().filter(|&&l| l != -1).count();
    let rest = match (total, open) {
        (_, 2..) => bail!("lengths {lengths:?} have more than one entry of -1"),
        (Some(total), 0) if total != fixed => bail!("lengths {lengths:?} do not add up to {total}"),
        (Some(total), _) => match total.checked_sub(fixed) {
            Some(rest) => Some(rest),
            None => bail!("lengths {lengths:?} exceed the axis of {total}"),
        },
        (None, _) => None,
    };
    Ok(lengths
        .iter()
        .map(|&l| usize::try_from(l).ok().or(rest))
        .collect())
}

/// Evaluates an operation of this family.
pub(crate) fn evaluate(op: &Op, inputs: &[Tensor], outputs: &[OutputInfo]) -> Result<Vec<Tensor>, OpError> {
    let rank = inputs[0].shape().len();
    if let Op::Concat { axis } = op {
        let axis = support::axis(*axis, rank)?;
        let shape = support::fixed(&outputs[0])?;
        let bits = inputs[0].element_type().bits();
        let outer: usize = shape[..axis].iter().product();
        if bits < 8 {
            bail!(
                "Concat of packed {} values is not supported",
                inputs[0].element_type()
            );
        }
        let mut bytes = Vec::new();
        for o in 0..outer {
            for input in inputs {
                let run = input.bytes().len() / outer;
                bytes.extend_from_slice(&input.bytes()[o * run..(o + 1) * run]);
            }
        }
        return Ok(vec![Tensor::new(inputs[0].element_type(), shape, bytes)?]);
    }
    let axis = support::axis(inputs[1].to_i64()[0], rank)?;
    let strides = support::strides(inputs[0].shape());
    let mut start = 0;
    outputs
        .iter()
        .map(|output| {
            let shape = support::fixed(output)?;
            let offsets = support::offsets(&shape, &strides, start);
            start += shape[axis] as isize * strides[axis];
            support::take(&inputs[0], &shape, &offsets)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn split_undoes_concat() {
        let a = Tensor::from_slice(&[2, 1], &[1u8, 4]).unwrap();
        let b = Tensor::from_slice(&[2, 2], &[2u8, 3, 5, 6]).unwrap();
        let joined = crate::ops::evaluate(&Op::Concat { axis: -1 }, &[a.clone(), b.clone()])
            .unwrap()
            .remove(0);
        assert_eq!(joined.to_i64(), [1, 2, 3, 4, 5, 6]);
        let lengths = Tensor::from_slice(&[2], &[1i64, -1]).unwrap();
        let inputs = [joined.clone(), Tensor::scalar(1i64), lengths];
        assert_eq!(crate::ops::evaluate(&Op::VariadicSplit, &inputs).unwrap(), [a, b]);
        let thirds = crate::ops::evaluate(&Op::Split { num_splits: 3 }, &inputs[..2]).unwrap();
        assert_eq!(thirds[1].to_i64(), [2, 5]);
        assert!(crate::ops::evaluate(&Op::Split { num_splits: 2 }, &inputs[..2]).is_err());
    }

    #[test]
    fn lengths_must_fit() {
        assert!(variadic(&[2, 2], Some(3)).is_err());
        assert!(variadic(&[-1, -1], Some(3)).is_err());
        assert!(variadic(&[i64::MAX, i64::MAX, i64::MAX], None).is_err());
        assert!(variadic(&[5, -1], Some(3)).is_err());
        assert_eq!(variadic(&[2, -1], None).unwrap(), [Some(2), None]);
    }
}
