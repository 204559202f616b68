//! Gather-1/7/8 and GatherND-5/8.

use std::ops::RangeInclusive;

use super::attributes::Attributes;
use super::support::{self, Input};
use crate::error::{OpError, bail};
use crate::graph::{OutputInfo, PartialShape};
use crate::op::Op;
use crate::operation::Operation;
use crate::tensor::Tensor;

/// Reads an operation of this family; `None` if it is of another.
pub(crate) fn parse(a: &Attributes) -> Result<Option<Op>, OpError> {
    Ok(match a.kind {
        "Gather" => Some(Op::Gather {
            batch_dims: a.int("batch_dims", Some(0))?,
        }),
        "GatherND" => {
            let batch_dims = a.size("batch_dims", Some(0))?;
            // GatherND-5 flattens the batch axes of its result; up to one, both versions agree.
            Some(if a.opset >= 8 || batch_dims <= 1 {
                Op::GatherNd { batch_dims }
            } else {
                Op::standard(GatherNd5 { batch_dims })
            })
        }
        _ => None,
    })
}

/// GatherND-5 with more than one batch axis, which it makes one.
#[derive(Debug, Clone)]
struct GatherNd5 {
    batch_dims: usize,
}

impl Operation for GatherNd5 {
    fn type_name(&self) -> &'static str {
        "GatherND"
    }

    fn opset(&self) -> u32 {
        5
    }

    fn attributes(&self) -> Vec<(&'static str, String)> {
        vec![("batch_dims", self.batch_dims.to_string())]
    }

    fn input_count(&self) -> RangeInclusive<usize> {
        2..=2
    }

    fn infer(&self, inputs: &[Input]) -> Result<Vec<OutputInfo>, OpError> {
        let op = Op::GatherNd {
            batch_dims: self.batch_dims,
        };
        let mut outputs = infer(&op, inputs)?;
        for output in &mut outputs {
            let (batch, rest) = output.shape.split_at(self.batch_dims);
            let batch = batch.iter().try_fold(Some(1usize), |n, &d| match (n, d) {
                (Some(n), Some(d)) => n.checked_mul(d).map(Some),
                _ => Some(None),
            });
            let Some(batch) = batch else {
                bail!("the batch axes {} are too long", support::show(&output.shape));
            };
            output.shape = [&[batch], rest].concat();
        }
        Ok(outputs)
    }

    fn evaluate(&self, inputs: &[Tensor], outputs: &[OutputInfo]) -> Result<Vec<Tensor>, OpError> {
        let op = Op::GatherNd {
            batch_dims: self.batch_dims,
        };
        let gathered = crate::ops::evaluate(&op, inputs)?;
        Ok(vec![gathered[0].reshaped(&support::fixed(&outputs[0])?)?])
    }

    fn moves_values(&self) -> bool {
        true
    }
}

/// Fails unless the leading `count` axes of data and indices agree.
fn same_batch(data: &Input, indices: &Input, count: usize) -> Result<PartialShape, OpError> {
    (0..count)
        .map(|i| {
            support::same_dim(
                data.shape[i],
                indices.shape[i],
                &format!("batch axis {i} of data and indices"),
            )
        })
        .collect()
}

/// Axis and batch axes of a Gather.
fn places(axis: i64, batch_dims: i64, rank: usize, index_rank: usize) -> Result<(usize, usize), OpError> {
    let axis = support::axis(axis, rank)?;
    let batch = if batch_dims < 0 {
        batch_dims + index_rank as i64
    } else {
        batch_dims
    };
    match usize::try_from(batch) {
        Ok(batch) if batch <= axis && batch <= index_rank => Ok((axis, batch)),
        _ => bail!(
            "`batch_dims` is {batch_dims}: expected at most the axis {axis} and the rank {index_rank} of the indices"
        ),
    }
}

/// Type and shape of the output.
pub(crate) fn infer(op: &Op, inputs: &[Input]) -> Result<Vec<OutputInfo>, OpError> {
    let (data, indices) = (&inputs[0], &inputs[1]);
    if !indices.element_type.is_integer() {
        bail!("expected integer indices, found {}", indices.element_type);
    }
    let shape = match op {
        Op::Gather { batch_dims } => {
            let Some(axis) = support::scalar(&inputs[2], "the axis")? else {
                bail!("the axis must be a constant");
            };
            let (axis, batch) = places(axis, *batch_dims, data.shape.len(), indices.shape.len())?;
            let mut shape = same_batch(data, indices, batch)?;
            shape.extend(&data.shape[batch..axis]);
            shape.extend(&indices.shape[batch..]);
            shape.extend(&data.shape[axis + 1..]);
            shape
        }
        Op::GatherNd { batch_dims } => {
            let batch = *batch_dims;
            let Some((Some(depth), outer)) = indices.shape.split_last() else {
                bail!(
                    "the last axis of the indices must be fixed, found {}",
                    support::show(indices.shape)
                );
            };
            if batch > outer.len() || data.shape.len().checked_sub(batch).is_none_or(|r| *depth > r) {
                bail!(
                    "indices {} with {batch} batch axes do not fit data {}",
                    support::show(indices.shape),
                    support::show(data.shape)
                );
            }
            let mut shape = same_batch(data, indices, batch)?;
            shape.extend(&outer[batch..]);
            shape.extend(&data.shape[batch + depth..]);
            shape
        }
        _ => bail!("not an operation of this family"),
    };
    Ok(vec![support::output(data.element_type, shape)])
}

/// Evaluates an operation of this family.
pub(crate) fn evaluate(op: &Op, inputs: &[Tensor], outputs: &[OutputInfo]) -> Result<Vec<Tensor>, OpError> {
    let (data, indices) = (&inputs[0], &inputs[1]);
    let list = indices.to_i64();
    let shape = support::fixed(&outputs[0])?;
    let product = |s: &[usize]| s.iter().product::<usize>();
    let mut offsets = Vec::with_capacity(product(&shape));
    match op {
        Op::Gather { batch_dims } => {
            let rank = data.shape().len();
            let (axis, batch) = places(inputs[2].to_i64()[0], *batch_dims, rank, indices.shape().len())?;
            let length = data.shape()[axis];
            let outer = product(&data.shape()[batch..axis]);
            let inner = product(&data.shape()[axis + 1..]);
            let per_batch = product(&indices.shape()[batch..]);
            for b in 0..product(&data.shape()[..batch]) {
                for o in 0..outer {
                    for &at in &list[b * per_batch..(b + 1) * per_batch] {
                        let start = ((b * outer + o) * length + support::index(at, length)?) * inner;
                        offsets.extend(start..start + inner);
                    }
                }
            }
        }
        Op::GatherNd { batch_dims: batch } => {
            let depth = indices.shape().last().copied().unwrap_or(0);
            let inner = product(&data.shape()[batch + depth..]);
            let per_batch = product(&data.shape()[*batch..]);
            let tuples = product(&indices.shape()[*batch..indices.shape().len() - 1]);
            for b in 0..product(&data.shape()[..*batch]) {
                for t in 0..tuples {
                    let mut at = 0;
                    for d in 0..depth {
                        let length = data.shape()[batch + d];
                        at = at * length + support::index(list[(b * tuples + t) * depth + d], length)?;
                    }
                    let start = b * per_batch + at * inner;
                    offsets.extend(start..start + inner);
                }
            }
        }
        _ => bail!("not an operation of this family"),
    }
    Ok(vec![support::take(data, &shape, &offsets)?])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data() -> Tensor {
        Tensor::from_slice(&[2, 3], &[1f32, 2.0, 3.0, 4.0, 5.0, 6.0]).unwrap()
    }

    #[test]
    fn gather_along_an_axis() {
        let indices = Tensor::from_slice(&[2], &[-1i64, 0]).unwrap();
        let op = Op::Gather { batch_dims: 0 };
        let y = crate::ops::evaluate(&op, &[data(), indices, Tensor::scalar(1i64)]).unwrap();
        assert_eq!(y[0].to_f32(), [3.0, 1.0, 6.0, 4.0]);
        let bad = Tensor::from_slice(&[1], &[3i64]).unwrap();
        assert!(crate::ops::evaluate(&op, &[data(), bad, Tensor::scalar(1i64)]).is_err());
    }

    #[test]
    fn gather_by_batch() {
        let indices = Tensor::from_slice(&[2, 1], &[2i32, 0]).unwrap();
        let op = Op::Gather { batch_dims: 1 };
        let y = crate::ops::evaluate(&op, &[data(), indices, Tensor::scalar(1i64)]).unwrap();
        assert_eq!((y[0].shape(), y[0].to_f32()), (&[2, 1][..], vec![3.0, 4.0]));
    }

    #[test]
    fn gather_by_tuples() {
        let indices = Tensor::from_slice(&[2, 2], &[0i32, 1, 1, -1]).unwrap();
        let y = crate::ops::evaluate(&Op::GatherNd { batch_dims: 0 }, &[data(), indices]).unwrap();
        assert_eq!(y[0].to_f32(), [2.0, 6.0]);
        let rows = Tensor::from_slice(&[1, 1], &[1i32]).unwrap();
        let y = crate::ops::evaluate(&Op::GatherNd { batch_dims: 0 }, &[data(), rows]).unwrap();
        assert_eq!((y[0].shape(), y[0].to_f32()), (&[1, 3][..], vec![4.0, 5.0, 6.0]));
    }
}
