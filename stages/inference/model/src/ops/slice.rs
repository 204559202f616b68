//! Slice-8.

use super::attributes::Attributes;
use super::support::{self, Input};
use crate::error::{OpError, bail};
use crate::graph::{Dim, OutputInfo};
use crate::op::Op;
use crate::tensor::Tensor;

/// Reads an operation of this family; `None` if it is of another.
pub(crate) fn parse(a: &Attributes) -> Result<Option<Op>, OpError> {
    Ok((a.kind == "Slice").then_some(Op::Slice))
}

/// Part of one axis: `count` indices from `first` in steps of `step`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Range {
    pub first: isize,
    pub step: isize,
    pub count: usize,
}

impl Range {
    /// The whole axis.
    pub(crate) fn all(length: usize) -> Self {
        Self {
            first: 0,
            step: 1,
            count: length,
        }
    }

    /// `start..stop` with a step, as numpy slices: negative places count from the end, places beyond an end
    /// are cut; `None` is that end of the axis the step comes from or goes to.
    pub(crate) fn new(
        length: usize,
        start: Option<i64>,
        stop: Option<i64>,
        step: i64,
    ) -> Result<Self, OpError> {
        if step == 0 {
            bail!("a slice has step 0");
        }
        let (length, step) = (length as i128, i128::from(step));
        let (low, high) = if step > 0 { (0, length) } else { (-1, length - 1) };
        let place = |at: Option<i64>, default: i128| match at.map(i128::from) {
            None => default,
            Some(at) => (if at < 0 { at + length } else { at }).clamp(low, high),
        };
        let (first_end, last_end) = if step > 0 { (low, high) } else { (high, low) };
        let (first, last) = (place(start, first_end), place(stop, last_end));
        let count = (last - first) / step + i128::from((last - first) % step != 0);
        Ok(Self {
            first: first as isize,
            step: step.clamp(-(1 << 62), 1 << 62) as isize,
            count: count.max(0) as usize,
        })
    }
}

/// The places of the elements in one range per axis of a tensor of that shape.
pub(crate) fn offsets(shape: &[usize], ranges: &[Range]) -> Vec<usize> {
    let counts: Vec<usize> = ranges.iter().map(|r| r.count).collect();
    if counts.contains(&0) {
        return Vec::new();
    }
    let strides = support::strides(shape);
    let start = ranges.iter().zip(&strides).map(|(r, s)| r.first * s).sum();
    // The step of a range of one index is never taken and might overflow.
    let step = |r: &Range| if r.count == 1 { 0 } else { r.step };
    let strides: Vec<isize> = ranges.iter().zip(&strides).map(|(r, s)| step(r) * s).collect();
    support::offsets(&counts, &strides, start)
}

/// The elements of `data` in one range per axis.
pub(crate) fn slice(data: &Tensor, ranges: &[Range]) -> Result<Tensor, OpError> {
    let shape: Vec<usize> = ranges.iter().map(|r| r.count).collect();
    support::take(data, &shape, &offsets(data.shape(), ranges))
}

/// For each axis of the data the start, stop and step, where they are given.
type Bounds = Vec<Option<(i64, i64, i64)>>;

fn bounds(inputs: &[Option<Vec<i64>>], rank: usize) -> Result<Bounds, OpError> {
    let [Some(start), Some(stop), Some(step), rest @ ..] = inputs else {
        bail!("start, stop and step must be known");
    };
    let axes = match rest {
        [Some(axes)] => support::axes(axes, rank)?,
        [None] => bail!("the axes must be known"),
        _ => (0..start.len()).collect(),
    };
    if [stop.len(), step.len(), axes.len()] != [start.len(); 3] || start.len() > rank {
        bail!(
            "start, stop, step and axes have {}, {}, {} and {} entries: expected one per sliced axis",
            start.len(),
            stop.len(),
            step.len(),
            axes.len()
        );
    }
    let mut bounds = vec![None; rank];
    for (i, axis) in axes.into_iter().enumerate() {
        bounds[axis] = Some((start[i], stop[i], step[i]));
    }
    Ok(bounds)
}

/// Type and shape of the output.
pub(crate) fn infer(inputs: &[Input]) -> Result<Vec<OutputInfo>, OpError> {
    let data = &inputs[0];
    let known: Vec<_> = inputs[1..].iter().map(Input::integers).collect();
    if known.contains(&None) {
        return Ok(vec![support::output(
            data.element_type,
            vec![None; data.shape.len()],
        )]);
    }
    let ranges = ranges(&known, data.shape)?;
    let shape = ranges.into_iter().map(|r| r.map(|r| r.count)).collect();
    Ok(vec![support::output(data.element_type, shape)])
}

/// One range per axis, from start, stop, step and perhaps axes; `None` where the axis is open.
pub(crate) fn ranges(inputs: &[Option<Vec<i64>>], shape: &[Dim]) -> Result<Vec<Option<Range>>, OpError> {
    let bounds = bounds(inputs, shape.len())?;
    let axes = shape.iter().zip(bounds);
    axes.map(|(&length, bound)| match (length, bound) {
        (None, _) => Ok(None),
        (Some(length), None) => Ok(Some(Range::all(length))),
        (Some(length), Some((start, stop, step))) => {
            Range::new(length, Some(start), Some(stop), step).map(Some)
        }
    })
    .collect()
}

/// Evaluates the operation.
pub(crate) fn evaluate(inputs: &[Tensor]) -> Result<Vec<Tensor>, OpError> {
    let data = &inputs[0];
    let shape: Vec<Dim> = data.shape().iter().map(|&d| Some(d)).collect();
    let values: Vec<_> = inputs[1..].iter().map(|t| Some(t.to_i64())).collect();
    let ranges: Vec<Range> = ranges(&values, &shape)?.into_iter().flatten().collect();
    Ok(vec![slice(data, &ranges)?])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(bounds: [i64; 3]) -> Vec<i64> {
        let x = Tensor::from_slice(&[2, 4], &[0u8, 1, 2, 3, 4, 5, 6, 7]).unwrap();
        let one = |v| Tensor::from_slice(&[1], &[v]).unwrap();
        let [start, stop, step] = bounds.map(one);
        crate::ops::evaluate(&Op::Slice, &[x, start, stop, step, one(1)]).unwrap()[0].to_i64()
    }

    #[test]
    fn slices_as_numpy_does() {
        assert_eq!(run([1, 3, 1]), [1, 2, 5, 6]);
        assert_eq!(run([-2, i64::MAX, 1]), [2, 3, 6, 7]);
        assert_eq!(run([3, i64::MIN, -2]), [3, 1, 7, 5]);
        assert_eq!(run([0, 4, i64::MAX]), [0, 4]);
        assert_eq!(run([3, 1, 1]), [0i64; 0]);
        assert_eq!(run([i64::MAX, i64::MIN, i64::MIN]), [3, 7]);
    }
}
