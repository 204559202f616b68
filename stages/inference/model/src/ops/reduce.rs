//! Reductions: ReduceMean, ReduceSum, ReduceMax, ReduceMin, ReduceProd, ReduceL1, ReduceL2, ReduceLogicalAnd,
//! ReduceLogicalOr.

use super::attributes::Attributes;
use super::support::{self, Input};
use crate::error::{OpError, bail};
use crate::graph::OutputInfo;
use crate::op::{Op, ReduceKind};
use crate::tensor::{ElementType, Tensor};

/// Names in model files.
pub(crate) const NAMES: [(&str, ReduceKind); 9] = [
    ("ReduceMean", ReduceKind::Mean),
    ("ReduceSum", ReduceKind::Sum),
    ("ReduceMax", ReduceKind::Max),
    ("ReduceMin", ReduceKind::Min),
    ("ReduceProd", ReduceKind::Prod),
    ("ReduceL1", ReduceKind::L1),
    ("ReduceL2", ReduceKind::L2),
    ("ReduceLogicalAnd", ReduceKind::LogicalAnd),
    ("ReduceLogicalOr", ReduceKind::LogicalOr),
];

/// Reads an operation of this family; `None` if it is of another.
pub(crate) fn parse(a: &Attributes) -> Result<Option<Op>, OpError> {
    let Some(&(_, kind)) = NAMES.iter().find(|n| n.0 == a.kind) else {
        return Ok(None);
    };
    let keep_dims = a.flag("keep_dims", Some(false))?;
    Ok(Some(Op::Reduce { kind, keep_dims }))
}

/// Type and shape of the output.
pub(crate) fn infer(op: &Op, inputs: &[Input]) -> Result<Vec<OutputInfo>, OpError> {
    let Op::Reduce { kind, keep_dims } = op else {
        bail!("not an operation of this family")
    };
    let logical = matches!(kind, ReduceKind::LogicalAnd | ReduceKind::LogicalOr);
    if logical != (inputs[0].element_type == ElementType::Boolean) {
        let expected = if logical { "booleans" } else { "numbers" };
        bail!("expected {expected}, found {}", inputs[0].element_type);
    }
    let rank = inputs[0].shape.len();
    let shape = match inputs[1].integers() {
        Some(list) => {
            let axes = support::axes(&list, rank)?;
            let dims = inputs[0].shape.iter().enumerate();
            dims.filter_map(|(i, &d)| match (axes.contains(&i), keep_dims) {
                (true, true) => Some(Some(1)),
                (true, false) => None,
                (false, _) => Some(d),
            })
            .collect()
        }
        None if *keep_dims => vec![None; rank],
        None => match inputs[1].count() {
            Some(count) if count <= rank => vec![None; rank - count],
            _ => bail!("the number of reduced axes is not known or above the rank {rank}"),
        },
    };
    Ok(vec![support::output(inputs[0].element_type, shape)])
}

/// Evaluates an operation of this family: floats in f64, integers exactly, a mean of integers truncated.
pub(crate) fn evaluate(op: &Op, inputs: &[Tensor], outputs: &[OutputInfo]) -> Result<Vec<Tensor>, OpError> {
    let Op::Reduce { kind, .. } = op else {
        bail!("not an operation of this family")
    };
    let data = &inputs[0];
    let axes = support::axes(&inputs[1].to_i64(), data.shape().len())?;
    let shape = support::fixed(&outputs[0])?;
    let strides = support::strides(data.shape());
    let pick = |reduced: bool| -> (Vec<usize>, Vec<isize>) {
        (0..data.shape().len())
            .filter(|i| axes.contains(i) == reduced)
            .map(|i| (data.shape()[i], strides[i]))
            .unzip()
    };
    let (kept, reduced) = (pick(false), pick(true));
    let starts = support::offsets(&kept.0, &kept.1, 0);
    let steps = support::offsets(&reduced.0, &reduced.1, 0);
    let count = steps.len();
    let run = reduced.0.last().copied().unwrap_or(1).max(1);
    if count == 0 && matches!(kind, ReduceKind::Mean | ReduceKind::Max | ReduceKind::Min) {
        bail!("a reduction over no element has no value");
    }
    let output = if data.element_type().is_float() {
        let x = data.to_f64();
        let reduce = |start: usize| {
            let values = steps.iter().map(|&s| x[start + s]);
            match kind {
                ReduceKind::Mean => f64::from(sum_of_runs(values, run) / count as f32),
                ReduceKind::Sum => f64::from(sum_of_runs(values, run)),
                ReduceKind::Max => values.fold(f64::NEG_INFINITY, f64::max),
                ReduceKind::Min => values.fold(f64::INFINITY, f64::min),
                ReduceKind::Prod => values.product(),
                ReduceKind::L1 => values.map(f64::abs).sum(),
                ReduceKind::L2 => values.map(|v| v * v).sum::<f64>().sqrt(),
                // Booleans only: below.
                ReduceKind::LogicalAnd | ReduceKind::LogicalOr => f64::NAN,
            }
        };
        let values: Vec<f64> = starts.into_iter().map(reduce).collect();
        Tensor::from_f64(data.element_type(), &shape, &values)?
    } else {
        let x = data.to_i128();
        let reduce = |start: usize| {
            let values = steps.iter().map(|&s| x[start + s]);
            match kind {
                ReduceKind::Mean => values.sum::<i128>() / count as i128,
                ReduceKind::Sum => values.sum(),
                ReduceKind::Max => values.fold(i128::MIN, i128::max),
                ReduceKind::Min => values.fold(i128::MAX, i128::min),
                ReduceKind::Prod => values.fold(1, i128::wrapping_mul),
                ReduceKind::L1 => values.map(i128::abs).sum(),
                ReduceKind::LogicalAnd => values.fold(1, i128::min),
                ReduceKind::LogicalOr => values.fold(0, i128::max),
                ReduceKind::L2 => values.map(|v| (v as f64) * (v as f64)).sum::<f64>().sqrt() as i128,
            }
        };
        let values: Vec<i128> = starts.into_iter().map(reduce).collect();
        Tensor::from_i128(data.element_type(), &shape, &values)?
    };
    Ok(vec![output])
}

/// Sum in f32, first of each run of neighbours along the last reduced axis, then of the runs, each in order.
fn sum_of_runs(values: impl Iterator<Item = f64>, run: usize) -> f32 {
    let (mut sum, mut of_run) = (0f32, 0f32);
    for (i, value) in values.enumerate() {
        of_run += value as f32;
        if (i + 1) % run == 0 {
            sum += of_run;
            of_run = 0.0;
        }
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(kind: ReduceKind, axes: &[i64], keep_dims: bool) -> Tensor {
        let x = Tensor::from_slice(&[2, 3], &[1f32, 2.0, 3.0, 4.0, 5.0, 6.0]).unwrap();
        let axes = Tensor::from_slice(&[axes.len()], axes).unwrap();
        crate::ops::evaluate(&Op::Reduce { kind, keep_dims }, &[x, axes])
            .unwrap()
            .remove(0)
    }

    #[test]
    fn every_kind() {
        assert_eq!(run(ReduceKind::Mean, &[1], false).to_f32(), [2.0, 5.0]);
        assert_eq!(run(ReduceKind::Sum, &[0], false).to_f32(), [5.0, 7.0, 9.0]);
        assert_eq!(run(ReduceKind::Max, &[-1], false).to_f32(), [3.0, 6.0]);
        assert_eq!(run(ReduceKind::Min, &[0, 1], false).to_f32(), [1.0]);
        assert_eq!(run(ReduceKind::Prod, &[1], false).to_f32(), [6.0, 120.0]);
        assert_eq!(
            run(ReduceKind::L2, &[], false).to_f32(),
            [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
        );
    }

    #[test]
    fn reduced_axes_may_stay() {
        assert_eq!(run(ReduceKind::Sum, &[1], true).shape(), [2, 1]);
        assert_eq!(run(ReduceKind::Sum, &[1, 0], true).shape(), [1, 1]);
    }
}
