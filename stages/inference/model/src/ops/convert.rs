//! Parameter, Result, Convert and ShapeOf.

use super::attributes::Attributes;
use super::support::{self, Input};
use crate::error::{OpError, bail};
use crate::graph::OutputInfo;
use crate::op::Op;
use crate::tensor::{ElementType, Tensor};

/// Reads an operation of this family; `None` if it is of another.
pub(crate) fn parse(a: &Attributes) -> Result<Option<Op>, OpError> {
    Ok(match a.kind {
        "Parameter" => Some(Op::Parameter),
        "Result" => Some(Op::Result),
        "Convert" => Some(Op::Convert(a.element_type("destination_type", None)?)),
        "ShapeOf" => match a.element_type("output_type", Some(ElementType::I64))? {
            t @ (ElementType::I32 | ElementType::I64) => Some(Op::ShapeOf(t)),
            other => bail!("attribute `output_type`: expected i32 or i64, found {other}"),
        },
        _ => None,
    })
}

/// Type and shape of the output.
pub(crate) fn infer(op: &Op, inputs: &[Input]) -> Result<Vec<OutputInfo>, OpError> {
    let x = &inputs[0];
    Ok(vec![match op {
        Op::Convert(to) => support::output(*to, x.shape.to_vec()),
        Op::ShapeOf(to) => support::output(*to, vec![Some(x.shape.len())]),
        _ => support::output(x.element_type, x.shape.to_vec()),
    }])
}

/// Evaluates Convert: floats to integers by truncation and saturation, integers to integers by wrapping.
pub(crate) fn convert(to: ElementType, x: &Tensor) -> Result<Tensor, OpError> {
    if to == x.element_type() {
        return Ok(x.clone());
    }
    let exact = matches!(
        x.element_type(),
        ElementType::I8 | ElementType::U8 | ElementType::F16 | ElementType::Bf16
    );
    if to == ElementType::F32 && exact {
        return Ok(Tensor::from_slice(x.shape(), &x.to_f32())?);
    }
    Ok(if x.element_type().is_float() {
        Tensor::from_f64(to, x.shape(), &x.to_f64())?
    } else {
        Tensor::from_i128(to, x.shape(), &x.to_i128())?
    })
}

/// The shape as a tensor.
pub(crate) fn shape_of(to: ElementType, shape: &[usize]) -> Result<Tensor, OpError> {
    let lengths: Vec<i128> = shape.iter().map(|&d| d as i128).collect();
    Ok(Tensor::from_i128(to, &[shape.len()], &lengths)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conversions() {
        let x = Tensor::from_slice(&[4], &[-1.9f32, 0.0, 2.5, 300.0]).unwrap();
        let to = |t| convert(t, &x).unwrap().to_i64();
        assert_eq!(to(ElementType::I8), [-1, 0, 2, 127]);
        assert_eq!(to(ElementType::U8), [0, 0, 2, 255]);
        assert_eq!(to(ElementType::Boolean), [1, 0, 1, 1]);
        let wide = Tensor::from_slice(&[1], &[257i32]).unwrap();
        assert_eq!(convert(ElementType::U8, &wide).unwrap().to_i64(), [1]);
    }
}
