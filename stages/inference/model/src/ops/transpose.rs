//! Transpose and Broadcast: elements by other strides.

use super::attributes::Attributes;
use super::support::{self, Input};
use crate::error::{OpError, bail};
use crate::graph::{OutputInfo, PartialShape};
use crate::op::Op;
use crate::tensor::Tensor;

/// Reads an operation of this family; `None` if it is of another.
pub(crate) fn parse(a: &Attributes) -> Result<Option<Op>, OpError> {
    Ok(match a.kind {
        "Transpose" => Some(Op::Transpose),
        "Broadcast" => match (a.get("mode").unwrap_or("numpy"), a.inputs) {
            ("numpy", 2) => Some(Op::Broadcast),
            ("bidirectional", 2) => Some(Op::BroadcastBidirectional),
            (other, inputs) => bail!(
                "expected `mode` numpy or bidirectional with two inputs or explicit with three, found \
                 \"{other}\" and {inputs}"
            ),
        },
        _ => None,
    })
}

/// The permutation in the second input; an empty one reverses the axes.
fn permutation(order: &[i64], rank: usize) -> Result<Vec<usize>, OpError> {
    if order.is_empty() {
        return Ok((0..rank).rev().collect());
    }
    let order = support::axes(order, rank)?;
    if order.len() != rank {
        bail!("expected an order of all {rank} axes, found {}", order.len());
    }
    Ok(order)
}

/// Type and shape of the output.
pub(crate) fn infer(op: &Op, inputs: &[Input]) -> Result<Vec<OutputInfo>, OpError> {
    let data = &inputs[0];
    let known = inputs[1].integers();
    let shape = match (op, known) {
        (Op::Transpose, Some(order)) => permutation(&order, data.shape.len())?
            .into_iter()
            .map(|a| data.shape[a])
            .collect(),
        (Op::Transpose, None) => vec![None; data.shape.len()],
        (_, Some(target)) => {
            let target: Option<PartialShape> = target
                .iter()
                .map(|&d| usize::try_from(d).ok().map(Some))
                .collect();
            let Some(target) = target else {
                bail!("the target shape has a negative length")
            };
            let shape = support::broadcast(data.shape, &target)?;
            let widened = shape.iter().zip(&target).any(|(s, t)| s != t) || shape.len() != target.len();
            if matches!(op, Op::Broadcast) && widened {
                bail!(
                    "{} does not broadcast to {}",
                    support::show(data.shape),
                    support::show(&target)
                );
            }
            shape
        }
        (_, None) => match inputs[1].shape {
            [Some(rank)] if *rank <= 64 => vec![None; (*rank).max(data.shape.len())],
            _ => bail!("the rank of the output is not fixed: its second input must be a constant"),
        },
    };
    Ok(vec![support::output(data.element_type, shape)])
}

/// Evaluates an operation of this family.
pub(crate) fn evaluate(op: &Op, inputs: &[Tensor], outputs: &[OutputInfo]) -> Result<Vec<Tensor>, OpError> {
    let data = &inputs[0];
    let shape = support::fixed(&outputs[0])?;
    let offsets = if matches!(op, Op::Transpose) {
        let strides = support::strides(data.shape());
        let order = permutation(&inputs[1].to_i64(), data.shape().len())?;
        let strides: Vec<isize> = order.into_iter().map(|a| strides[a]).collect();
        support::offsets(&shape, &strides, 0)
    } else {
        support::broadcast_offsets(data.shape(), &shape)
    };
    Ok(vec![support::take(data, &shape, &offsets)?])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transposes_and_broadcasts() {
        let x = Tensor::from_slice(&[1, 2, 3], &[1u8, 2, 3, 4, 5, 6]).unwrap();
        let list = |v: &[i64]| Tensor::from_slice(&[v.len()], v).unwrap();
        let run =
            |op: Op, l: &[i64]| crate::ops::evaluate(&op, &[x.clone(), list(l)]).map(|mut y| y.remove(0));
        let y = run(Op::Transpose, &[2, 0, 1]).unwrap();
        assert_eq!((y.shape(), y.to_i64()), (&[3, 1, 2][..], vec![1, 4, 2, 5, 3, 6]));
        assert_eq!(run(Op::Transpose, &[]).unwrap().shape(), [3, 2, 1]);
        assert!(run(Op::Transpose, &[0, 0, 1]).is_err());
        let y = run(Op::Broadcast, &[2, 2, 3]).unwrap();
        assert_eq!(y.to_i64(), [1, 2, 3, 4, 5, 6, 1, 2, 3, 4, 5, 6]);
        assert!(run(Op::Broadcast, &[1, 1, 3]).is_err());
        assert_eq!(
            run(Op::BroadcastBidirectional, &[4, 1, 1]).unwrap().shape(),
            [4, 2, 3]
        );
    }
}
