//! FakeQuantize-1.
//!
//! <https://docs.openvino.ai/2025/documentation/openvino-ir-format/operation-sets/operation-specs/quantization/fake-quantize-1.html>

use super::attributes::Attributes;
use super::support::{self, Input};
use crate::error::{OpError, bail};
use crate::graph::OutputInfo;
use crate::op::Op;
use crate::tensor::Tensor;

/// Reads an operation of this family; `None` if it is of another.
pub(crate) fn parse(a: &Attributes) -> Result<Option<Op>, OpError> {
    if a.kind != "FakeQuantize" {
        return Ok(None);
    }
    super::binary::numpy_broadcast(a)?;
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

/// Index of the level a value falls on, from 0 to `levels - 1`, as a float:
/// `x <= min(il, ih)`: 0; `x > max(il, ih)`: `levels - 1`; else
/// `round_ties_even((x - il) / (ih - il) * (levels - 1))`, each step rounded to f32. With `il == ih` it is a
/// step, with `il > ih` levels count from `il` down, NaN stays NaN.
pub fn level(x: f32, low: f32, high: f32, levels: u32) -> f32 {
    let last = (levels - 1) as f32;
    if x <= low.min(high) {
        0.0
    } else if x > low.max(high) {
        last
    } else {
        ((x - low) / (high - low) * last).round_ties_even()
    }
}

/// FakeQuantize of one value: [`level`]` / (levels - 1) * (oh - ol) + ol`, each step rounded to f32; the
/// outermost levels are exactly `ol` and `oh` for values outside the interval.
pub fn fake_quantize(x: f32, input: [f32; 2], output: [f32; 2], levels: u32) -> f32 {
    let [low, high] = output;
    if x <= input[0].min(input[1]) {
        low
    } else if x > input[0].max(input[1]) {
        high
    } else {
        level(x, input[0], input[1], levels) / ((levels - 1) as f32) * (high - low) + low
    }
}

/// Evaluates an operation of this family, in f32 whatever the element type.
pub(crate) fn evaluate(op: &Op, inputs: &[Tensor], outputs: &[OutputInfo]) -> Result<Vec<Tensor>, OpError> {
    let Op::FakeQuantize { levels } = op else {
        bail!("not an operation of this family")
    };
    let shape = support::fixed(&outputs[0])?;
    let values: Vec<Vec<f32>> = inputs.iter().map(Tensor::to_f32).collect();
    let at: Vec<Vec<usize>> = inputs
        .iter()
        .map(|t| support::broadcast_offsets(t.shape(), &shape))
        .collect();
    let result: Vec<f64> = (0..at[0].len())
        .map(|i| {
            let [x, il, ih, ol, oh] = [0, 1, 2, 3, 4].map(|n| values[n][at[n][i]]);
            f64::from(fake_quantize(x, [il, ih], [ol, oh], *levels))
        })
        .collect();
    Ok(vec![Tensor::from_f64(outputs[0].element_type, &shape, &result)?])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ties_go_to_even_levels() {
        let q = |x| fake_quantize(x, [0.0, 255.0], [0.0, 255.0], 256);
        assert_eq!(
            [q(0.5), q(1.5), q(2.5), q(-3.0), q(300.0)],
            [0.0, 2.0, 2.0, 0.0, 255.0]
        );
    }

    #[test]
    fn an_empty_interval_is_a_step() {
        let q = |x| fake_quantize(x, [1.0, 1.0], [-1.0, 1.0], 2);
        assert_eq!([q(0.9), q(1.0), q(1.1)], [-1.0, -1.0, 1.0]);
    }

    #[test]
    fn intervals_may_be_inverted() {
        let q = |x| fake_quantize(x, [2.0, 0.0], [0.0, 2.0], 3);
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
