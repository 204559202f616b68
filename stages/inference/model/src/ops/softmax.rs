//! Softmax.

use super::attributes::Attributes;
use super::exponential::exp;
use super::lanes;
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

/// Evaluates the operation in f32, `e^(x - max) * (1 / sum)`: the sum of neighbouring values on the lanes of a
/// processor, of others in their order.
pub(crate) fn evaluate(axis: i64, inputs: &[Tensor]) -> Result<Vec<Tensor>, OpError> {
    let shape = inputs[0].shape();
    let axis = support::axis(axis, shape.len())?;
    let (length, inner) = (shape[axis], shape[axis + 1..].iter().product::<usize>());
    let mut x = inputs[0].to_f32();
    let mut group = vec![0.0; length];
    for plane in x.chunks_exact_mut((length * inner).max(1)) {
        for i in 0..inner {
            for (value, &x) in group.iter_mut().zip(plane[i..].iter().step_by(inner)) {
                *value = x;
            }
            let max = group.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            group.iter_mut().for_each(|v| *v = exp(*v - max));
            let sum = if inner == 1 {
                lanes::sum_on_four(&group)
            } else {
                lanes::sum(&group, lanes::Order::Sequential, |sum, v| sum + v)
            };
            let factor = 1.0 / sum;
            for (x, &value) in plane[i..].iter_mut().step_by(inner).zip(&group) {
                *x = value * factor;
            }
        }
    }
    Ok(vec![support::from_f32(inputs[0].element_type(), shape, &x)?])
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
