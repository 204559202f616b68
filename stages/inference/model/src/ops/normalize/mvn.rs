//! MVN-1 and MVN-6: mean and, where wanted, variance normalization.

use super::super::attributes::Attributes;
use super::super::lanes::{self, Order};
use super::super::support::{self, Input};
use super::{Groups, check_axes, same_as_data};
use crate::error::{OpError, bail};
use crate::graph::OutputInfo;
use crate::op::{MvnAttrs, MvnAxes, Op};
use crate::tensor::Tensor;

/// Names of the places of epsilon.
pub(crate) const EPS_MODES: [(&str, bool); 2] = [("inside_sqrt", false), ("outside_sqrt", true)];

/// Reads an operation of this family; `None` if it is of another.
pub(crate) fn parse(a: &Attributes) -> Result<Option<Op>, OpError> {
    if a.kind != "MVN" {
        return Ok(None);
    }
    let eps = a.float("eps", None)?;
    let (axes, eps_outside) = if a.opset >= 6 {
        (MvnAxes::Input, a.word("eps_mode", &EPS_MODES, None)?)
    } else {
        let list: Vec<i64> = a.list("reduction_axes", Some(&[]))?;
        let axes = match a.flag("across_channels", Some(false))? {
            _ if !list.is_empty() => MvnAxes::List(list),
            true => MvnAxes::AllButBatch,
            false => MvnAxes::Spatial,
        };
        (axes, false)
    };
    if !(eps > 0.0 && eps.is_finite()) {
        bail!("attribute `eps`: expected a positive number, found {eps}");
    }
    Ok(Some(Op::Mvn(MvnAttrs {
        axes,
        normalize_variance: a.flag("normalize_variance", Some(true))?,
        eps,
        eps_outside,
    })))
}

impl MvnAttrs {
    /// The axes over which mean and variance go, for data of some rank; `input` is the second input, where there
    /// is one.
    ///
    /// # Errors
    /// If there is no such axis, an axis is listed twice, or `input` is missing.
    pub fn reduced_axes(&self, rank: usize, input: Option<&[i64]>) -> Result<Vec<usize>, OpError> {
        match (&self.axes, input) {
            (MvnAxes::Input, Some(list)) => support::axes(list, rank),
            (MvnAxes::Input, None) => bail!("the axes must be a constant"),
            (MvnAxes::List(list), _) => support::axes(list, rank),
            (MvnAxes::AllButBatch, _) if rank > 1 => Ok((1..rank).collect()),
            (MvnAxes::Spatial, _) if rank > 2 => Ok((2..rank).collect()),
            _ => bail!("expected data [N, C, spatial..], found rank {rank}"),
        }
    }
}

/// Type and shape of the output.
pub(crate) fn infer(attrs: &MvnAttrs, inputs: &[Input]) -> Result<Vec<OutputInfo>, OpError> {
    let rank = inputs[0].shape.len();
    match inputs.get(1) {
        Some(axes) => check_axes(axes, rank)?,
        None => drop(attrs.reduced_axes(rank, None)?),
    }
    same_as_data(&inputs[0])
}

/// Evaluates the operation in f32: `x - mean`, then by `1 / sqrt(variance + eps)` or `1 / (sqrt(variance) + eps)`.
/// The order of its sums is that of `docs/numerics.md`.
pub(crate) fn evaluate(attrs: &MvnAttrs, inputs: &[Tensor]) -> Result<Vec<Tensor>, OpError> {
    let data = &inputs[0];
    let shape = data.shape();
    let list = inputs.get(1).map(Tensor::to_i64);
    let mut axes = attrs.reduced_axes(shape.len(), list.as_deref())?;
    axes.sort_unstable();
    let from = |first: usize| axes.iter().copied().eq(first..shape.len());
    // Channels are innermost in memory where images are normalized, so that each is a sequence of pixels.
    let order = if shape.len() >= 4 && from(2) {
        Order::Sequential
    } else {
        Order::Quarters
    };
    // Over channels too: each channel is summed on its own.
    let parts = if shape.len() >= 3 && from(1) { shape[1] } else { 1 };
    let mut values = data.to_f32();
    Groups::new(shape, &axes).each(&mut values, |group| normalize(attrs, group, parts, order));
    Ok(vec![support::from_f32(data.element_type(), shape, &values)?])
}

fn normalize(attrs: &MvnAttrs, group: &mut [f32], parts: usize, order: Order) {
    let Some(&first) = group.first() else {
        return;
    };
    if first.is_finite() && group.iter().all(|v| *v == first) {
        // Exactly its own mean. What rounding leaves of it would be divided by epsilon.
        group.fill(0.0);
        return;
    }
    let share = 1.0 / group.len() as f32;
    let sum = |group: &[f32], add: fn(f32, f32) -> f32| -> f32 {
        let parts = group.chunks(group.len() / parts);
        parts.fold(0.0, |sum, part| sum + lanes::sum(part, order, add))
    };
    let mean = sum(group, |sum, v| sum + v) * share;
    group.iter_mut().for_each(|v| *v -= mean);
    if attrs.normalize_variance {
        let variance = sum(group, |sum, v| v.mul_add(v, sum)) * share;
        let factor = if attrs.eps_outside {
            1.0 / (variance.sqrt() + attrs.eps)
        } else {
            1.0 / (variance + attrs.eps).sqrt()
        };
        group.iter_mut().for_each(|v| *v *= factor);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attrs(axes: MvnAxes, eps: f32, eps_outside: bool) -> MvnAttrs {
        MvnAttrs {
            axes,
            normalize_variance: true,
            eps,
            eps_outside,
        }
    }

    fn run(attrs: MvnAttrs, axes: Option<&[i64]>) -> Vec<f32> {
        let mut inputs = vec![Tensor::from_slice(&[1, 2, 2], &[1f32, 3.0, 10.0, 14.0]).unwrap()];
        inputs.extend(axes.map(|a| Tensor::from_slice(&[a.len()], a).unwrap()));
        crate::ops::evaluate(&Op::Mvn(attrs), &inputs).unwrap()[0].to_f32()
    }

    #[test]
    fn each_channel_alone_or_all_together() {
        assert_eq!(
            run(attrs(MvnAxes::Spatial, 1e-12, false), None),
            [-1.0, 1.0, -1.0, 1.0]
        );
        assert_eq!(
            run(attrs(MvnAxes::List(vec![-1]), 1e-12, false), None),
            [-1.0, 1.0, -1.0, 1.0]
        );
        assert_eq!(
            run(attrs(MvnAxes::Input, 1e-12, false), Some(&[2])),
            [-1.0, 1.0, -1.0, 1.0]
        );
        let means_only = MvnAttrs {
            normalize_variance: false,
            ..attrs(MvnAxes::AllButBatch, 1.0, false)
        };
        assert_eq!(run(means_only, None), [-6.0, -4.0, 3.0, 7.0]);
    }

    #[test]
    fn what_does_not_vary_is_its_own_mean() {
        let values = Tensor::from_slice(&[1, 1, 11], &[0.1f32; 11]).unwrap();
        let op = Op::Mvn(attrs(MvnAxes::Spatial, 1e-9, true));
        assert_eq!(
            crate::ops::evaluate(&op, &[values]).unwrap()[0].to_f32(),
            [0.0; 11]
        );
    }

    #[test]
    fn epsilon_inside_and_outside_the_root() {
        assert_eq!(run(attrs(MvnAxes::Spatial, 3.0, false), None)[..2], [-0.5, 0.5]);
        assert_eq!(run(attrs(MvnAxes::Spatial, 3.0, true), None)[..2], [-0.25, 0.25]);
    }
}
