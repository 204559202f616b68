//! Softmax.

use super::attributes::Attributes;
use super::support::{self, Input};
use crate::error::{OpError, bail};
use crate::graph::OutputInfo;
use crate::op::Op;
use crate::tensor::Tensor;

/// Reads an operation of this family; `None` if it is of another.
pub(crate) fn parse(a: &Attributes) -> Result<Option<Op>, OpError> {
    if !matches!(a.kind, "SoftMax" | "Softmax") {
        return Ok(None);
    }
    let axis = a.int("axis", Some(1))?;
    Ok(Some(Op::Softmax { axis }))
}

/// Type and shape of the output.
pub(crate) fn infer(axis: i64, inputs: &[Input]) -> Result<Vec<OutputInfo>, OpError> {
    let x = &inputs[0];
    support::axis(axis, x.shape.len())?;
    if !x.element_type.is_float() {
        bail!("expected a floating point input, found {}", x.element_type);
    }
    Ok(vec![support::output(x.element_type, x.shape.to_vec())])
}

/// Evaluates the operation in f64: `e^(x - max) / sum`.
pub(crate) fn evaluate(axis: i64, inputs: &[Tensor]) -> Result<Vec<Tensor>, OpError> {
    let shape = inputs[0].shape();
    let axis = support::axis(axis, shape.len())?;
    let (length, inner) = (shape[axis], shape[axis + 1..].iter().product::<usize>());
    let outer: usize = shape[..axis].iter().product();
    let mut x = inputs[0].to_f64();
    for o in 0..outer {
        for i in 0..inner {
            let at = |j: usize| (o * length + j) * inner + i;
            let max = (0..length).map(|j| x[at(j)]).fold(f64::NEG_INFINITY, f64::max);
            (0..length).for_each(|j| x[at(j)] = (x[at(j)] - max).exp());
            let sum: f64 = (0..length).map(|j| x[at(j)]).sum();
            (0..length).for_each(|j| x[at(j)] /= sum);
        }
    }
    Ok(vec![Tensor::from_f64(inputs[0].element_type(), shape, &x)?])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_to_one_even_for_large_values() {
        let x = Tensor::from_slice(&[2, 2], &[1000f32, 1000.0, -1000.0, 0.0]).unwrap();
        let y = crate::ops::evaluate(&Op::Softmax { axis: -1 }, &[x]).unwrap();
        assert_eq!(y[0].to_f32(), [0.5, 0.5, 0.0, 1.0]);
    }
}
