//! StridedSlice-1.

use super::attributes::Attributes;
use super::slice::{Range, slice};
use super::support::{self, Input};
use crate::error::{OpError, bail};
use crate::graph::{Dim, OutputInfo};
use crate::op::{Op, StridedSliceAttrs};
use crate::tensor::Tensor;

/// Reads an operation of this family; `None` if it is of another.
pub(crate) fn parse(a: &Attributes) -> Result<Option<Op>, OpError> {
    if a.kind != "StridedSlice" {
        return Ok(None);
    }
    let mask = |name: &str, default: Option<&[u8]>| -> Result<Vec<bool>, OpError> {
        a.list::<u8>(name, default)?
            .into_iter()
            .map(|bit| match bit {
                0 | 1 => Ok(bit == 1),
                _ => bail!("attribute `{name}`: expected 0 and 1 only, found {bit}"),
            })
            .collect()
    };
    Ok(Some(Op::StridedSlice(StridedSliceAttrs {
        begin_mask: mask("begin_mask", None)?,
        end_mask: mask("end_mask", None)?,
        new_axis_mask: mask("new_axis_mask", Some(&[]))?,
        shrink_axis_mask: mask("shrink_axis_mask", Some(&[]))?,
        ellipsis_mask: mask("ellipsis_mask", Some(&[]))?,
    })))
}

/// What becomes of the axes: one entry per axis of the output or of the data.
enum Part {
    /// An axis of length 1 that the data do not have.
    New,
    /// A range of a data axis; the axis is removed if `shrink`.
    Keep { range: Option<Range>, shrink: bool },
}

fn bit(mask: &[bool], i: usize) -> bool {
    mask.get(i).copied().unwrap_or(false)
}

/// Resolves begin, end and strides against the axes; ranges are `None` where the axis is not fixed.
fn parts(
    attrs: &StridedSliceAttrs,
    data: &[Dim],
    begin: &[i64],
    end: &[i64],
    strides: Option<&[i64]>,
) -> Result<Vec<Part>, OpError> {
    let count = begin.len();
    if end.len() != count || strides.is_some_and(|s| s.len() != count) || count > 64 {
        bail!(
            "begin, end and strides: expected equal numbers of entries (at most 64), found {count} and {}",
            end.len()
        );
    }
    let ellipses = (0..count).filter(|&i| bit(&attrs.ellipsis_mask, i)).count();
    if ellipses > 1 {
        bail!("attribute `ellipsis_mask`: expected at most one 1, found {ellipses}");
    }
    let is_new = |i: usize| bit(&attrs.new_axis_mask, i) && !bit(&attrs.ellipsis_mask, i);
    let consumed = (0..count)
        .filter(|&i| !is_new(i) && !bit(&attrs.ellipsis_mask, i))
        .count();
    let Some(free) = data.len().checked_sub(consumed) else {
        bail!("{consumed} slices for data of rank {}", data.len());
    };
    let whole = |axis: usize| Part::Keep {
        range: data[axis].map(Range::all),
        shrink: false,
    };
    let mut parts = Vec::new();
    let mut axis = 0;
    for i in 0..count {
        if bit(&attrs.ellipsis_mask, i) {
            parts.extend((axis..axis + free).map(whole));
            axis += free;
        } else if is_new(i) {
            parts.push(Part::New);
        } else {
            let shrink = bit(&attrs.shrink_axis_mask, i);
            let range = match data[axis] {
                None => None,
                Some(length) if shrink => {
                    let at = i128::from(begin[i]);
                    let at = if at < 0 { at + length as i128 } else { at };
                    if !(0..length as i128).contains(&at) {
                        bail!("index {} is outside axis {axis} of length {length}", begin[i]);
                    }
                    Some(Range {
                        first: at as isize,
                        step: 1,
                        count: 1,
                    })
                }
                Some(length) => {
                    let start = (!bit(&attrs.begin_mask, i)).then_some(begin[i]);
                    let stop = (!bit(&attrs.end_mask, i)).then_some(end[i]);
                    Some(Range::new(length, start, stop, strides.map_or(1, |s| s[i]))?)
                }
            };
            parts.push(Part::Keep { range, shrink });
            axis += 1;
        }
    }
    parts.extend((axis..data.len()).map(whole));
    Ok(parts)
}

/// Type and shape of the output.
pub(crate) fn infer(attrs: &StridedSliceAttrs, inputs: &[Input]) -> Result<Vec<OutputInfo>, OpError> {
    let data = &inputs[0];
    let strides = inputs.get(3).map(Input::integers);
    let (Some(begin), Some(end)) = (inputs[1].integers(), inputs[2].integers()) else {
        bail!("begin and end must be constants or follow from fixed shapes");
    };
    if strides == Some(None) {
        bail!("the strides must be constants");
    }
    let shape = parts(attrs, data.shape, &begin, &end, strides.flatten().as_deref())?
        .into_iter()
        .filter_map(|part| match part {
            Part::New => Some(Some(1)),
            Part::Keep { shrink: true, .. } => None,
            Part::Keep { range, .. } => Some(range.map(|r| r.count)),
        })
        .collect();
    Ok(vec![support::output(data.element_type, shape)])
}

/// Evaluates the operation.
pub(crate) fn evaluate(
    attrs: &StridedSliceAttrs,
    inputs: &[Tensor],
    outputs: &[OutputInfo],
) -> Result<Vec<Tensor>, OpError> {
    let dims: Vec<Dim> = inputs[0].shape().iter().map(|&d| Some(d)).collect();
    let strides = inputs.get(3).map(Tensor::to_i64);
    let parts = parts(
        attrs,
        &dims,
        &inputs[1].to_i64(),
        &inputs[2].to_i64(),
        strides.as_deref(),
    )?;
    let ranges: Vec<Range> = parts
        .into_iter()
        .filter_map(|part| match part {
            Part::New => None,
            Part::Keep { range, .. } => range,
        })
        .collect();
    let picked = slice(&inputs[0], &ranges)?;
    Ok(vec![picked.reshaped(&support::fixed(&outputs[0])?)?])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(attrs: StridedSliceAttrs, begin: &[i64], end: &[i64], step: &[i64]) -> Tensor {
        let x: Vec<u8> = (0..24).collect();
        let x = Tensor::from_slice(&[2, 3, 4], &x).unwrap();
        let list = |v: &[i64]| Tensor::from_slice(&[v.len()], v).unwrap();
        let inputs = [x, list(begin), list(end), list(step)];
        crate::ops::evaluate(&Op::StridedSlice(attrs), &inputs)
            .unwrap()
            .remove(0)
    }

    #[test]
    fn masks() {
        let y = run(StridedSliceAttrs::default(), &[0, 1], &[1, 3], &[1, 1]);
        assert_eq!(y.shape(), [1, 2, 4]);
        assert_eq!(y.to_i64(), [4, 5, 6, 7, 8, 9, 10, 11]);
        let open = StridedSliceAttrs {
            begin_mask: vec![true, true, true],
            end_mask: vec![true, true, true],
            ..Default::default()
        };
        assert_eq!(
            run(open, &[9, 9, 9], &[0, 0, 0], &[1, 1, -1]).to_i64()[..4],
            [3, 2, 1, 0]
        );
        let shrink = StridedSliceAttrs {
            shrink_axis_mask: vec![true],
            ..Default::default()
        };
        let y = run(shrink, &[-1], &[0], &[1]);
        assert_eq!((y.shape(), y.to_i64()[0]), (&[3, 4][..], 12));
        let mixed = StridedSliceAttrs {
            ellipsis_mask: vec![true, false, false],
            new_axis_mask: vec![false, true, false],
            ..Default::default()
        };
        let y = run(mixed, &[0, 0, 1], &[0, 0, 2], &[1, 1, 1]);
        assert_eq!((y.shape(), y.to_i64()[0]), (&[2, 3, 1, 1][..], 1));
    }
}
