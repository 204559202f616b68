//! Reshape, Squeeze and Unsqueeze: other axes over the same elements.

use super::attributes::Attributes;
use super::support::{self, Input};
use crate::error::{OpError, bail};
use crate::graph::{Dim, OutputInfo, PartialShape};
use crate::op::Op;
use crate::tensor::Tensor;

/// Reads an operation of this family; `None` if it is of another.
pub(crate) fn parse(a: &Attributes) -> Result<Option<Op>, OpError> {
    Ok(match a.kind {
        "Reshape" => Some(Op::Reshape {
            special_zero: a.flag("special_zero", None)?,
        }),
        "Squeeze" => Some(Op::Squeeze),
        "Unsqueeze" => Some(Op::Unsqueeze),
        _ => None,
    })
}

/// Type and shape of the output.
pub(crate) fn infer(op: &Op, inputs: &[Input]) -> Result<Vec<OutputInfo>, OpError> {
    let data = &inputs[0];
    let known = inputs.get(1).and_then(Input::integers);
    let unknown_rank = || bail!("the rank of the output is not fixed: its second input must be a constant");
    let shape = match op {
        Op::Reshape { special_zero } => match (known, inputs[1].shape) {
            (Some(pattern), _) => reshape(data.shape, &pattern, *special_zero)?,
            (None, [Some(rank)]) if *rank <= 64 => vec![None; *rank],
            _ => return unknown_rank(),
        },
        Op::Squeeze => match (known, inputs.len()) {
            (Some(list), _) if !list.is_empty() => {
                let axes = support::axes(&list, data.shape.len())?;
                for &a in &axes {
                    if data.shape[a].is_some_and(|d| d != 1) {
                        bail!("axis {a} of {} has not length 1", support::show(data.shape));
                    }
                }
                let dims = data.shape.iter().enumerate();
                dims.filter(|(i, _)| !axes.contains(i)).map(|(_, &d)| d).collect()
            }
            (None, 2) => return unknown_rank(),
            _ if data.shape.contains(&None) => return unknown_rank(),
            _ => data.shape.iter().copied().filter(|&d| d != Some(1)).collect(),
        },
        Op::Unsqueeze => match known {
            Some(list) if list.len() <= 64 => {
                let rank = data.shape.len() + list.len();
                let axes = support::axes(&list, rank)?;
                let mut dims = data.shape.iter().copied();
                let at = |i| {
                    if axes.contains(&i) {
                        Some(1)
                    } else {
                        dims.next().flatten()
                    }
                };
                (0..rank).map(at).collect()
            }
            _ => return unknown_rank(),
        },
        _ => bail!("not an operation of this family"),
    };
    Ok(vec![support::output(data.element_type, shape)])
}

/// The shape a Reshape pattern asks for: -1 is what remains, 0 copies the input's axis where `special_zero`.
fn reshape(data: &[Dim], pattern: &[i64], special_zero: bool) -> Result<PartialShape, OpError> {
    let mut shape = PartialShape::with_capacity(pattern.len());
    let mut rest = None;
    for (i, &length) in pattern.iter().enumerate() {
        match length {
            0 if special_zero => match data.get(i) {
                Some(&d) => shape.push(d),
                None => bail!(
                    "pattern {pattern:?} copies axis {i}, the input is {}",
                    support::show(data)
                ),
            },
            -1 if rest.is_some() => bail!("pattern {pattern:?} has two entries of -1"),
            -1 => {
                rest = Some(i);
                shape.push(None);
            }
            _ => match usize::try_from(length) {
                Ok(length) => shape.push(Some(length)),
                Err(_) => bail!("pattern {pattern:?} has an entry below -1"),
            },
        }
    }
    let product = |dims: &[Dim]| dims.iter().try_fold(1usize, |n, d| n.checked_mul((*d)?));
    let Some(total) = product(data) else {
        return Ok(shape);
    };
    let mismatch = || {
        OpError(format!(
            "pattern {pattern:?} does not hold the {total} elements of {}",
            support::show(data)
        ))
    };
    match rest {
        Some(i) => {
            let others: PartialShape = shape
                .iter()
                .enumerate()
                .filter(|(j, _)| *j != i)
                .map(|(_, d)| *d)
                .collect();
            let others = product(&others).ok_or_else(mismatch)?;
            shape[i] = match others {
                0 if total == 0 => Some(0),
                0 => return Err(mismatch()),
                _ if total % others == 0 => Some(total / others),
                _ => return Err(mismatch()),
            };
        }
        None if product(&shape) != Some(total) => return Err(mismatch()),
        None => {}
    }
    Ok(shape)
}

/// Evaluates an operation of this family.
pub(crate) fn evaluate(inputs: &[Tensor], outputs: &[OutputInfo]) -> Result<Vec<Tensor>, OpError> {
    Ok(vec![inputs[0].reshaped(&support::fixed(&outputs[0])?)?])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        let data = [Some(2), Some(3), Some(4)];
        assert_eq!(reshape(&data, &[0, -1], true).unwrap(), [Some(2), Some(12)]);
        assert_eq!(reshape(&data, &[-1], false).unwrap(), [Some(24)]);
        assert_eq!(
            reshape(&[None, Some(3)], &[0, 3, 1], true).unwrap(),
            [None, Some(3), Some(1)]
        );
        for bad in [
            &[5, -1][..],
            &[-1, -1],
            &[2, 3],
            &[-2, 12],
            &[0, 0, 0, 0],
            &[i64::MAX, i64::MAX, -1],
        ] {
            assert!(reshape(&data, bad, true).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn axes_come_and_go() {
        let x = Tensor::from_slice(&[1, 2, 1], &[1i8, 2]).unwrap();
        let axes = |v: &[i64]| Tensor::from_slice(&[v.len()], v).unwrap();
        let run = |op, inputs: &[Tensor]| crate::ops::evaluate(&op, inputs).map(|y| y[0].shape().to_vec());
        assert_eq!(run(Op::Squeeze, std::slice::from_ref(&x)).unwrap(), [2]);
        assert_eq!(run(Op::Squeeze, &[x.clone(), axes(&[-1])]).unwrap(), [1, 2]);
        assert!(run(Op::Squeeze, &[x.clone(), axes(&[1])]).is_err());
        assert_eq!(run(Op::Unsqueeze, &[x, axes(&[0, -1])]).unwrap(), [1, 1, 2, 1, 1]);
    }
}
