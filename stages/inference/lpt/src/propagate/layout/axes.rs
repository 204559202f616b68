//! Where the axis along which scales vary goes when values move.

use flow_model::graph::Node;
use flow_model::op::{Dequantize, Op, PadMode};
use flow_model::tensor::{ElementType, Tensor};

use super::super::Sweep;
use super::normalized;
use crate::constants;
use crate::dequantization::{self, at, with_axis};
use crate::report::{Reason, ReasonCode};

/// Elements up to which values are followed one by one.
const MAX_FOLLOWED: usize = 1 << 24;

/// The index that stands for a value that Pad brings in.
const PADDED: i32 = -1;

impl Sweep<'_> {
    /// The dequantization of each output where scales vary along an axis.
    pub(super) fn moved_axes(&self, node: &Node, d: &Dequantize) -> Result<Vec<Dequantize>, Reason> {
        let refused = || {
            Reason::new(
                ReasonCode::AxisNotKept,
                format!(
                    "\"{}\" does not keep axis {} along which {} scales vary",
                    node.name,
                    d.axis.unwrap_or_default(),
                    dequantization::len(d)
                ),
            )
        };
        self.by_rule(node, d)
            .or_else(|| self.by_indices(node, d))
            .filter(|parts| {
                parts
                    .iter()
                    .all(|p| !p.scale.is_empty() && !p.zero_point.is_empty())
            })
            .ok_or_else(refused)
    }

    /// What the operation says of its axes, whether lengths are fixed or not.
    fn by_rule(&self, node: &Node, d: &Dequantize) -> Option<Vec<Dequantize>> {
        let axis = d.axis?;
        let count = dequantization::len(d);
        let input = &self.old.info(node.inputs[0]).shape;
        let output = &node.outputs.first()?.shape;
        let constant = |port: usize| {
            node.inputs
                .get(port)
                .and_then(|&v| constants::tensor(self.old, v))
                .map(|t| t.to_i64())
        };
        let same = |d: &Dequantize| Some(vec![d.clone(); node.outputs.len()]);
        match &node.op {
            Op::Reshape { .. } | Op::Squeeze | Op::Unsqueeze => {
                let (input, output): (Vec<usize>, Vec<usize>) = (
                    input.iter().copied().collect::<Option<_>>()?,
                    output.iter().copied().collect::<Option<_>>()?,
                );
                let before = |shape: &[usize], axis: usize| shape[..axis].iter().product::<usize>();
                let to = (0..output.len())
                    .find(|&a| output[a] == count && before(&output, a) == before(&input, axis))?;
                same(&with_axis(d, to))
            }
            Op::Transpose => {
                let to = constant(1)?.iter().position(|&a| a == axis as i64)?;
                same(&with_axis(d, to))
            }
            Op::Split { .. } | Op::VariadicSplit => {
                let along = normalized(*constant(1)?.first()?, input.len())?;
                if along != axis {
                    return same(d);
                }
                let mut start = 0;
                node.outputs
                    .iter()
                    .map(|o| {
                        let length = o.shape[axis]?;
                        let part = dequantization::select(d, start..start + length);
                        start += length;
                        Some(part)
                    })
                    .collect()
            }
            Op::Slice => {
                let (starts, stops, steps) = (constant(1)?, constant(2)?, constant(3)?);
                let axes = match node.inputs.get(4) {
                    Some(_) => constant(4)?,
                    None => (0..starts.len() as i64).collect(),
                };
                let found = axes
                    .iter()
                    .position(|&a| normalized(a, input.len()) == Some(axis));
                let Some(i) = found else { return same(d) };
                let indices = slice_indices(*starts.get(i)?, *stops.get(i)?, *steps.get(i)?, count);
                (Some(indices.len()) == output[axis])
                    .then(|| vec![dequantization::select(d, indices.into_iter())])
            }
            Op::Gather { batch_dims: 0 } => {
                let along = normalized(*constant(2)?.first()?, input.len())?;
                let indices_rank = self.old.info(*node.inputs.get(1)?).shape.len();
                if along < axis {
                    return same(&with_axis(d, axis + indices_rank - 1));
                }
                if along > axis {
                    return same(d);
                }
                let indices: Vec<usize> = constant(1)?
                    .iter()
                    .map(|&i| normalized(i, count))
                    .collect::<Option<_>>()?;
                (indices_rank <= 1).then(|| {
                    let mut part = dequantization::select(d, indices.into_iter());
                    if indices_rank == 0 {
                        part.axis = None;
                    }
                    vec![part]
                })
            }
            Op::Pad(_) => {
                let (begin, end) = (constant(1)?, constant(2)?);
                let unpadded = begin.get(axis) == Some(&0) && end.get(axis) == Some(&0);
                unpadded.then(|| vec![d.clone()])
            }
            Op::Interpolate(_) | Op::Broadcast => {
                (input.len() == output.len() && output[axis] == Some(count)).then(|| vec![d.clone()])
            }
            _ => None,
        }
    }

    /// Runs the operation on the index of each element along the axis and looks where the indices went.
    fn by_indices(&self, node: &Node, d: &Dequantize) -> Option<Vec<Dequantize>> {
        let axis = d.axis?;
        let shape = self.old.info(node.inputs[0]).static_shape()?;
        let small = |shape: &[usize]| {
            let count = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d));
            count.is_some_and(|n| n <= MAX_FOLLOWED)
        };
        let outputs_are_small = node
            .outputs
            .iter()
            .all(|o| o.static_shape().is_some_and(|s| small(&s)));
        if !small(&shape) || !outputs_are_small || i32::try_from(*shape.get(axis)?).is_err() {
            return None;
        }
        let inner: usize = shape[axis + 1..].iter().product();
        // Equal pairs count as one, so that they may meet.
        let pair = |i: usize| (at(&d.scale, i), at(&d.zero_point, i));
        let first = |i: usize| (0..i).find(|&j| pair(j) == pair(i)).unwrap_or(i) as i32;
        let firsts: Vec<i32> = (0..shape[axis]).map(first).collect();
        let indices: Vec<i32> = (0..shape.iter().product())
            .map(|i: usize| firsts[i / inner.max(1) % shape[axis]])
            .collect();
        let mut inputs = vec![Tensor::from_slice(&shape, &indices).ok()?];
        for (port, &input) in node.inputs.iter().enumerate().skip(1) {
            inputs.push(match (&node.op, port) {
                (Op::Pad(PadMode::Constant), 3) => Tensor::scalar(PADDED),
                _ => constants::tensor(self.old, input)?,
            });
        }
        if matches!(node.op, Op::Pad(PadMode::Constant)) && inputs.len() == 3 {
            inputs.push(Tensor::scalar(PADDED));
        }
        let outputs = flow_model::ops::evaluate(&node.op, &inputs).ok()?;
        outputs.iter().map(|output| followed(output, d)).collect()
    }
}

/// The dequantization of a tensor that holds, per element, the index along the axis of `d` it came from.
fn followed(indices: &Tensor, d: &Dequantize) -> Option<Dequantize> {
    if indices.element_type() != ElementType::I32 || indices.is_empty() {
        return None;
    }
    let shape = indices.shape();
    let values = indices.to_i64();
    let place = |axis: usize| -> Option<Vec<usize>> {
        let inner: usize = shape[axis + 1..].iter().product();
        let mut found = vec![i64::from(PADDED); shape[axis]];
        for (i, &value) in values.iter().enumerate() {
            let known = &mut found[i / inner % shape[axis]];
            if *known == i64::from(PADDED) {
                *known = value;
            }
            if value != *known && value != i64::from(PADDED) {
                return None;
            }
        }
        // The code of a value that Pad brings in means the same under every pair.
        Some(
            found
                .into_iter()
                .map(|i| usize::try_from(i).unwrap_or(0))
                .collect(),
        )
    };
    (0..shape.len()).find_map(|axis| {
        let from = place(axis)?;
        Some(dequantization::select(&with_axis(d, axis), from.into_iter()))
    })
}

/// The indices that a slice of an axis takes, as Slice-8 says.
fn slice_indices(start: i64, stop: i64, step: i64, length: usize) -> Vec<usize> {
    let length = length as i64;
    let (lowest, highest) = if step > 0 { (0, length) } else { (-1, length - 1) };
    let clip = |v: i64| (if v < 0 { v.saturating_add(length) } else { v }).clamp(lowest, highest);
    let (mut at, stop) = (clip(start), clip(stop));
    let mut indices = Vec::new();
    while step != 0 && (if step > 0 { at < stop } else { at > stop }) {
        indices.push(at as usize);
        at = at.saturating_add(step);
    }
    indices
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_take_the_indices_of_the_specification() {
        assert_eq!(slice_indices(1, i64::MAX, 2, 6), [1, 3, 5]);
        assert_eq!(slice_indices(-2, i64::MAX, 1, 6), [4, 5]);
        assert_eq!(slice_indices(-1, i64::MIN, -2, 5), [4, 2, 0]);
        assert_eq!(slice_indices(3, 1, 1, 6), [0usize; 0]);
        assert_eq!(slice_indices(0, 5, i64::MAX, 6), [0]);
        assert_eq!(slice_indices(0, 5, 0, 6), [0usize; 0]);
    }
}
