//! FakeQuantize-1.
//!
//! <https://docs.openvino.ai/2025/documentation/openvino-ir-format/operation-sets/operation-specs/quantization/fake-quantize-1.html>

use super::attributes::Attributes;
use super::support::{self, Input};
use crate::error::{OpError, bail};
use crate::graph::{OutputInfo, PartialShape};
use crate::op::Op;
use crate::tensor::Tensor;

/// Reads an operation of this family; `None` if it is of another.
pub(crate) fn parse(a: &Attributes) -> Result<Option<Op>, OpError> {
    if a.kind != "FakeQuantize" {
        return Ok(None);
    }
    super::binary::known_broadcast(a)?;
    let levels = a.size("levels", None)?;
    match u32::try_from(levels) {
        Ok(levels) if levels >= 2 => Ok(Some(Op::FakeQuantize { levels })),
        _ => bail!("attribute `levels`: expected 2 to 4294967295, found {levels}"),
    }
}

/// Type and shape of the output.
pub(crate) fn infer(inputs: &[Input]) -> Result<Vec<OutputInfo>, OpError> {
    let x = &inputs[0];
    if !x.element_type.is_float() {
        bail!("expected a floating point input, found {}", x.element_type);
    }
    let mut shape = x.shape.to_vec();
    for limit in &inputs[1..] {
        support::same_type(x, limit)?;
        shape = support::broadcast(&shape, limit.shape)?;
    }
    Ok(vec![support::output(x.element_type, shape)])
}

/// How a value is put on a level and brought back; mathematically the same, different in the last bit.
/// `docs/numerics.md` says which is used where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Formula {
    /// As the specification writes it: constants, and the operation by itself.
    Specified,
    /// By scale and shift, `x * scale + shift` rounded once: behind a convolution and other sums.
    Fused,
    /// By scale and shift, `x * scale + shift` rounded after each step: behind anything else.
    Separate,
}

/// Index of the level a value falls on, from 0 to `levels - 1`, as a float:
/// `x <= min(il, ih)`: 0; `x > max(il, ih)`: `levels - 1`; else
/// `round_ties_even((x - il) / (ih - il) * (levels - 1))`, each step rounded to f32. With `il == ih` it is a
/// step, with `il > ih` levels count from `il` down, NaN stays NaN.
pub fn level(x: f32, low: f32, high: f32, levels: u32) -> f32 {
    level_by(Formula::Specified, x, low, high, levels)
}

/// [`level`] by the given formula.
pub fn level_by(formula: Formula, x: f32, low: f32, high: f32, levels: u32) -> f32 {
    let last = (levels - 1) as f32;
    if x <= low.min(high) {
        return 0.0;
    }
    if x > low.max(high) {
        return last;
    }
    let scale = last / (high - low);
    let level = match formula {
        Formula::Specified => (x - low) / (high - low) * last,
        Formula::Fused => x.mul_add(scale, -low * last / (high - low)),
        Formula::Separate => x * scale + -low * scale,
    };
    level.round_ties_even().clamp(0.0, last)
}

/// FakeQuantize of one value: the level it falls on, brought into the output interval. As the specification
/// writes it, `level / (levels - 1) * (oh - ol) + ol`, each step rounded to f32, with exactly `ol` and `oh`
/// outside the input interval; else `level * scale + ol` rounded once, `scale = (oh - ol) / (levels - 1)`.
pub fn fake_quantize(
    formula: Formula,
    x: f32,
    [low, high]: [f32; 2],
    [output_low, output_high]: [f32; 2],
    levels: u32,
) -> f32 {
    let (level, last) = (level_by(formula, x, low, high, levels), (levels - 1) as f32);
    let range = output_high - output_low;
    match formula {
        Formula::Specified if x <= low.min(high) => output_low,
        Formula::Specified if x > low.max(high) => output_high,
        Formula::Specified => level / last * range + output_low,
        Formula::Fused | Formula::Separate => level.mul_add(range / last, output_low),
    }
}

/// Evaluates an operation of this family by itself, in f32 whatever the element type.
pub(crate) fn evaluate(op: &Op, inputs: &[Tensor]) -> Result<Vec<Tensor>, OpError> {
    let Op::FakeQuantize { levels } = op else {
        bail!("not an operation of this family")
    };
    evaluate_by(Formula::Specified, *levels, inputs)
}

/// Evaluates FakeQuantize on its input and its four limits.
pub(crate) fn evaluate_by(formula: Formula, levels: u32, inputs: &[Tensor]) -> Result<Vec<Tensor>, OpError> {
    let mut shape = PartialShape::new();
    for tensor in inputs {
        let dims: PartialShape = tensor.shape().iter().map(|&d| Some(d)).collect();
        shape = support::broadcast(&shape, &dims)?;
    }
    let shape: Vec<usize> = shape.into_iter().flatten().collect();
    let values: Vec<Vec<f32>> = inputs.iter().map(Tensor::to_f32).collect();
    let at: Vec<Vec<usize>> = inputs
        .iter()
        .map(|t| support::broadcast_offsets(t.shape(), &shape))
        .collect();
    let result: Vec<f32> = (0..at[0].len())
        .map(|i| {
            let [x, il, ih, ol, oh] = [0, 1, 2, 3, 4].map(|n| values[n][at[n][i]]);
            fake_quantize(formula, x, [il, ih], [ol, oh], levels)
        })
        .collect();
    Ok(vec![support::from_f32(
        inputs[0].element_type(),
        &shape,
        &result,
    )?])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ties_go_to_even_levels() {
        let q = |x| fake_quantize(Formula::Specified, x, [0.0, 255.0], [0.0, 255.0], 256);
        assert_eq!(
            [q(0.5), q(1.5), q(2.5), q(-3.0), q(300.0)],
            [0.0, 2.0, 2.0, 0.0, 255.0]
        );
    }

    #[test]
    fn an_empty_interval_is_a_step() {
        let q = |x| fake_quantize(Formula::Specified, x, [1.0, 1.0], [-1.0, 1.0], 2);
        assert_eq!([q(0.9), q(1.0), q(1.1)], [-1.0, -1.0, 1.0]);
    }

    #[test]
    fn intervals_may_be_inverted() {
        let q = |x| fake_quantize(Formula::Specified, x, [2.0, 0.0], [0.0, 2.0], 3);
        assert_eq!(
            [q(0.0), q(0.5), q(1.0), q(1.75), q(2.5)],
            [0.0, 2.0, 1.0, 0.0, 2.0]
        );
    }

    #[test]
    fn limits_per_channel() {
        let x = Tensor::from_slice(&[1, 2, 1], &[10f32, 10.0]).unwrap();
        let low = Tensor::scalar(0f32);
        let high = Tensor::from_slice(&[1, 2, 1], &[4f32, 8.0]).unwrap();
        let inputs = [x, low.clone(), high.clone(), low, high];
        let y = crate::ops::evaluate(&Op::FakeQuantize { levels: 256 }, &inputs).unwrap();
        assert_eq!(y[0].to_f32(), [4.0, 8.0]);
    }
}
