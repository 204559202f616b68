//! NormalizeL2-1: division by the Euclidean norm.

use super::super::attributes::Attributes;
use super::super::support::{self, Input};
use super::{Groups, check_axes, same_as_data};
use crate::error::{OpError, bail};
use crate::graph::OutputInfo;
use crate::op::{EpsMode, Op};
use crate::tensor::Tensor;

/// Names of what is done with epsilon.
pub(crate) const EPS_MODES: [(&str, EpsMode); 2] = [("add", EpsMode::Add), ("max", EpsMode::Max)];

/// Reads an operation of this family; `None` if it is of another.
pub(crate) fn parse(a: &Attributes) -> Result<Option<Op>, OpError> {
    if a.kind != "NormalizeL2" {
        return Ok(None);
    }
    let eps = a.float("eps", None)?;
    if !(eps >= 0.0 && eps.is_finite()) {
        bail!("attribute `eps`: expected a number that is not negative, found {eps}");
    }
    let eps_mode = a.word("eps_mode", &EPS_MODES, None)?;
    Ok(Some(Op::NormalizeL2 { eps, eps_mode }))
}

/// Type and shape of the output.
pub(crate) fn infer(inputs: &[Input]) -> Result<Vec<OutputInfo>, OpError> {
    check_axes(&inputs[1], inputs[0].shape.len())?;
    same_as_data(&inputs[0])
}

/// Evaluates the operation. Without axes, whatever is not zero becomes one.
pub(crate) fn evaluate(eps: f32, eps_mode: EpsMode, inputs: &[Tensor]) -> Result<Vec<Tensor>, OpError> {
    let data = &inputs[0];
    let axes = support::axes(&inputs[1].to_i64(), data.shape().len())?;
    let mut values = data.to_f32();
    if axes.is_empty() {
        values
            .iter_mut()
            .for_each(|v| *v = if *v == 0.0 { 0.0 } else { 1.0 });
        return Ok(vec![support::from_f32(
            data.element_type(),
            data.shape(),
            &values,
        )?]);
    }
    Groups::new(data.shape(), &axes).each(&mut values, |group| {
        let sum: f64 = group.iter().map(|&v| f64::from(v).powi(2)).sum();
        let norm = match eps_mode {
            EpsMode::Add => sum + f64::from(eps),
            EpsMode::Max => sum.max(f64::from(eps)),
        };
        let norm = norm.sqrt();
        group.iter_mut().for_each(|v| *v = (f64::from(*v) / norm) as f32);
    });
    Ok(vec![support::from_f32(
        data.element_type(),
        data.shape(),
        &values,
    )?])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn epsilon_is_added_or_a_lower_bound() {
        let run = |eps, eps_mode, axes: &[i64]| {
            let x = Tensor::from_slice(&[1, 2, 1], &[3f32, 4.0]).unwrap();
            let axes = Tensor::from_slice(&[axes.len()], axes).unwrap();
            let op = Op::NormalizeL2 { eps, eps_mode };
            crate::ops::evaluate(&op, &[x, axes]).unwrap()[0].to_f32()
        };
        assert_eq!(run(0.0, EpsMode::Add, &[1]), [0.6, 0.8]);
        assert_eq!(run(75.0, EpsMode::Add, &[1]), [0.3, 0.4]);
        assert_eq!(run(100.0, EpsMode::Max, &[1]), [0.3, 0.4]);
        assert_eq!(run(1.0, EpsMode::Max, &[]), [1.0, 1.0]);
    }
}
