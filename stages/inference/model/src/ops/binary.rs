//! Element-wise operations on two inputs, and Select.
//!
//! Floats are computed in f64 and rounded once to the element type, which for `+ - * /` is the correctly
//! rounded result. Integers wrap as in C.

use super::attributes::Attributes;
use super::support::{self, Input};
use crate::error::{OpError, bail};
use crate::graph::OutputInfo;
use crate::op::{BinaryKind, Op};
use crate::tensor::{ElementType, Tensor};

/// Names in model files.
pub(crate) const NAMES: [(&str, BinaryKind); 19] = [
    ("Add", BinaryKind::Add),
    ("Subtract", BinaryKind::Subtract),
    ("Multiply", BinaryKind::Multiply),
    ("Divide", BinaryKind::Divide),
    ("Power", BinaryKind::Power),
    ("Maximum", BinaryKind::Maximum),
    ("Minimum", BinaryKind::Minimum),
    ("Mod", BinaryKind::Mod),
    ("FloorMod", BinaryKind::FloorMod),
    ("SquaredDifference", BinaryKind::SquaredDifference),
    ("Equal", BinaryKind::Equal),
    ("NotEqual", BinaryKind::NotEqual),
    ("Less", BinaryKind::Less),
    ("LessEqual", BinaryKind::LessEqual),
    ("Greater", BinaryKind::Greater),
    ("GreaterEqual", BinaryKind::GreaterEqual),
    ("LogicalAnd", BinaryKind::LogicalAnd),
    ("LogicalOr", BinaryKind::LogicalOr),
    ("LogicalXor", BinaryKind::LogicalXor),
];

/// Reads an operation of this family; `None` if it is of another.
pub(crate) fn parse(a: &Attributes) -> Result<Option<Op>, OpError> {
    let op = if a.kind == "Select" {
        Op::Select
    } else if let Some((_, kind)) = NAMES.iter().find(|n| n.0 == a.kind) {
        if a.kind == "Divide" && !a.flag("m_pythondiv", Some(true))? {
            Op::Binary(BinaryKind::DivideTruncating)
        } else {
            Op::Binary(*kind)
        }
    } else {
        return Ok(None);
    };
    known_broadcast(a)?;
    Ok(Some(op))
}

/// Fails if broadcasting is none that there is; the reader aligns inputs as it says, so that the operation itself
/// broadcasts as numpy does.
pub(crate) fn known_broadcast(a: &Attributes) -> Result<(), OpError> {
    match a.get("auto_broadcast") {
        None | Some("numpy" | "none" | "pdpd") => Ok(()),
        Some(other) => bail!("attribute `auto_broadcast`: expected numpy, pdpd or none, found \"{other}\""),
    }
}

fn is_comparison(kind: BinaryKind) -> bool {
    matches!(
        kind,
        BinaryKind::Equal
            | BinaryKind::NotEqual
            | BinaryKind::Less
            | BinaryKind::LessEqual
            | BinaryKind::Greater
            | BinaryKind::GreaterEqual
    )
}

fn is_logical(kind: BinaryKind) -> bool {
    matches!(
        kind,
        BinaryKind::LogicalAnd | BinaryKind::LogicalOr | BinaryKind::LogicalXor
    )
}

/// Type and shape of the output.
pub(crate) fn infer(op: &Op, inputs: &[Input]) -> Result<Vec<OutputInfo>, OpError> {
    let boolean = |input: &Input| {
        if input.element_type == ElementType::Boolean {
            Ok(())
        } else {
            bail!("expected a boolean input, found {}", input.element_type)
        }
    };
    let (element_type, shape) = match op {
        Op::Select => {
            boolean(&inputs[0])?;
            let branches = support::broadcast(inputs[1].shape, inputs[2].shape)?;
            let shape = support::broadcast(inputs[0].shape, &branches)?;
            (support::same_type(&inputs[1], &inputs[2])?, shape)
        }
        Op::Binary(kind) => {
            let shape = support::broadcast(inputs[0].shape, inputs[1].shape)?;
            let mut element_type = support::same_type(&inputs[0], &inputs[1])?;
            if is_logical(*kind) {
                boolean(&inputs[0])?;
            } else if is_comparison(*kind) {
                element_type = ElementType::Boolean;
            }
            (element_type, shape)
        }
        _ => bail!("not an operation of this family"),
    };
    Ok(vec![support::output(element_type, shape)])
}

/// Evaluates an operation of this family.
pub(crate) fn evaluate(op: &Op, inputs: &[Tensor], outputs: &[OutputInfo]) -> Result<Vec<Tensor>, OpError> {
    let shape = support::fixed(&outputs[0])?;
    let element_type = outputs[0].element_type;
    if let Op::Binary(kind) = op
        && let Some(values) = arithmetic(*kind, inputs, &shape)
    {
        return Ok(vec![Tensor::from_slice(&shape, &values)?]);
    }
    let offsets: Vec<Vec<usize>> = inputs
        .iter()
        .map(|t| support::broadcast_offsets(t.shape(), &shape))
        .collect();
    let Op::Binary(kind) = op else {
        // Select: pick bytes, so that any type is exact.
        let condition = inputs[0].to_i64();
        let both = [&inputs[1], &inputs[2]].map(|t| t.bytes());
        let width = element_type.bits().div_ceil(8);
        if element_type.bits() < 8 {
            bail!("Select on packed {element_type} values is not supported");
        }
        let mut bytes = Vec::with_capacity(width * offsets[0].len());
        for (i, &c) in offsets[0].iter().enumerate() {
            let branch = usize::from(condition[c] == 0);
            let at = offsets[1 + branch][i] * width;
            bytes.extend_from_slice(&both[branch][at..at + width]);
        }
        return Ok(vec![Tensor::new(element_type, shape, bytes)?]);
    };
    let pairs = || offsets[0].iter().zip(&offsets[1]);
    let output = if inputs[0].element_type().is_float() {
        let (a, b) = (inputs[0].to_f64(), inputs[1].to_f64());
        let values: Vec<f64> = pairs().map(|(&i, &j)| float(*kind, a[i], b[j])).collect();
        Tensor::from_f64(element_type, &shape, &values)?
    } else {
        let (a, b) = (inputs[0].to_i128(), inputs[1].to_i128());
        let values: Result<Vec<i128>, OpError> = pairs().map(|(&i, &j)| integer(*kind, a[i], b[j])).collect();
        Tensor::from_i128(element_type, &shape, &values?)?
    };
    Ok(vec![output])
}

/// The four basic operations on f32: a f64 rounded to f32 would give the same.
fn arithmetic(kind: BinaryKind, inputs: &[Tensor], shape: &[usize]) -> Option<Vec<f32>> {
    let operation: fn(f32, f32) -> f32 = match kind {
        BinaryKind::Add => |a, b| a + b,
        BinaryKind::Subtract => |a, b| a - b,
        BinaryKind::Multiply => |a, b| a * b,
        BinaryKind::Divide => |a, b| a / b,
        _ => return None,
    };
    let [a, b] = inputs else { return None };
    if a.element_type() != ElementType::F32 || b.element_type() != ElementType::F32 {
        return None;
    }
    let missing = shape.len() - b.shape().len();
    // Elements of `a` that lie together and meet the same element of `b`.
    let varies = b
        .shape()
        .iter()
        .rposition(|&d| d != 1)
        .map_or(0, |i| i + 1 + missing);
    let (outer, inner) = shape.split_at(varies);
    let inner: usize = inner.iter().product();
    let (x, y) = (a.to_f32(), b.to_f32());
    if a.shape() != shape || inner == 0 {
        let (i, j) = (
            support::broadcast_offsets(a.shape(), shape),
            support::broadcast_offsets(b.shape(), shape),
        );
        return Some(i.into_iter().zip(j).map(|(i, j)| operation(x[i], y[j])).collect());
    }
    let offsets = support::broadcast_offsets(&b.shape()[..varies.saturating_sub(missing)], outer);
    let mut values = x;
    for (values, offset) in values.chunks_exact_mut(inner).zip(offsets) {
        values.iter_mut().for_each(|v| *v = operation(*v, y[offset]));
    }
    Some(values)
}

fn float(kind: BinaryKind, a: f64, b: f64) -> f64 {
    let truth = |b: bool| f64::from(u8::from(b));
    match kind {
        BinaryKind::Add => a + b,
        BinaryKind::Subtract => a - b,
        BinaryKind::Multiply => a * b,
        BinaryKind::Divide | BinaryKind::DivideTruncating => a / b,
        BinaryKind::Power => a.powf(b),
        BinaryKind::Maximum => a.max(b),
        BinaryKind::Minimum => a.min(b),
        BinaryKind::Mod => a % b,
        BinaryKind::FloorMod => a - b * (a / b).floor(),
        BinaryKind::SquaredDifference => (a - b) * (a - b),
        BinaryKind::Equal => truth(a == b),
        BinaryKind::NotEqual => truth(a != b),
        BinaryKind::Less => truth(a < b),
        BinaryKind::LessEqual => truth(a <= b),
        BinaryKind::Greater => truth(a > b),
        BinaryKind::GreaterEqual => truth(a >= b),
        BinaryKind::LogicalAnd => truth(a != 0.0 && b != 0.0),
        BinaryKind::LogicalOr => truth(a != 0.0 || b != 0.0),
        BinaryKind::LogicalXor => truth((a != 0.0) != (b != 0.0)),
    }
}

fn integer(kind: BinaryKind, a: i128, b: i128) -> Result<i128, OpError> {
    let divides = matches!(
        kind,
        BinaryKind::Divide | BinaryKind::DivideTruncating | BinaryKind::Mod | BinaryKind::FloorMod
    );
    if divides && b == 0 {
        bail!("an integer is divided by zero");
    }
    let floor_mod = |a: i128, b: i128| {
        let r = a % b;
        if r != 0 && (r < 0) != (b < 0) { r + b } else { r }
    };
    Ok(match kind {
        BinaryKind::Add => a + b,
        BinaryKind::Subtract => a - b,
        BinaryKind::Multiply => a.wrapping_mul(b),
        BinaryKind::Divide => (a - floor_mod(a, b)) / b,
        BinaryKind::DivideTruncating => a / b,
        BinaryKind::Power => match u32::try_from(b) {
            Ok(exponent) => a.wrapping_pow(exponent),
            Err(_) => (a as f64).powf(b as f64) as i128,
        },
        BinaryKind::Maximum => a.max(b),
        BinaryKind::Minimum => a.min(b),
        BinaryKind::Mod => a % b,
        BinaryKind::FloorMod => floor_mod(a, b),
        BinaryKind::SquaredDifference => (a - b).wrapping_mul(a - b),
        BinaryKind::Equal => i128::from(a == b),
        BinaryKind::NotEqual => i128::from(a != b),
        BinaryKind::Less => i128::from(a < b),
        BinaryKind::LessEqual => i128::from(a <= b),
        BinaryKind::Greater => i128::from(a > b),
        BinaryKind::GreaterEqual => i128::from(a >= b),
        BinaryKind::LogicalAnd => i128::from(a != 0 && b != 0),
        BinaryKind::LogicalOr => i128::from(a != 0 || b != 0),
        BinaryKind::LogicalXor => i128::from((a != 0) != (b != 0)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ints(kind: BinaryKind, a: &[i32], b: &[i32]) -> Vec<i64> {
        let a = Tensor::from_slice(&[a.len()], a).unwrap();
        let b = Tensor::from_slice(&[b.len()], b).unwrap();
        crate::ops::evaluate(&Op::Binary(kind), &[a, b]).unwrap()[0].to_i64()
    }

    #[test]
    fn division_and_modulus_of_negative_integers() {
        let (a, b) = ([-7, 7, -7, 7], [2, -2, -2, 2]);
        assert_eq!(ints(BinaryKind::Divide, &a, &b), [-4, -4, 3, 3]);
        assert_eq!(ints(BinaryKind::DivideTruncating, &a, &b), [-3, -3, 3, 3]);
        assert_eq!(ints(BinaryKind::Mod, &a, &b), [-1, 1, -1, 1]);
        assert_eq!(ints(BinaryKind::FloorMod, &a, &b), [1, -1, -1, 1]);
    }

    #[test]
    fn division_of_integers_by_zero_is_an_error() {
        let zero = Tensor::scalar(0i32);
        let op = Op::Binary(BinaryKind::Divide);
        assert!(crate::ops::evaluate(&op, &[zero.clone(), zero]).is_err());
    }

    #[test]
    fn integers_wrap() {
        assert_eq!(ints(BinaryKind::Add, &[i32::MAX], &[1]), [i64::from(i32::MIN)]);
    }

    #[test]
    fn shapes_broadcast_as_numpy_does() {
        let a = Tensor::from_slice(&[2, 1], &[10f32, 20.0]).unwrap();
        let b = Tensor::from_slice(&[3], &[1f32, 2.0, 3.0]).unwrap();
        let y = crate::ops::evaluate(&Op::Binary(BinaryKind::Add), &[a.clone(), b]).unwrap();
        assert_eq!(y[0].shape(), [2, 3]);
        assert_eq!(y[0].to_f32(), [11.0, 12.0, 13.0, 21.0, 22.0, 23.0]);
        let b = Tensor::from_slice(&[3, 1], &[1f32, 2.0, 3.0]).unwrap();
        let error = crate::ops::evaluate(&Op::Binary(BinaryKind::Add), &[a, b]).unwrap_err();
        assert!(error.0.contains("[2, 1] and [3, 1]"), "{error}");
    }

    #[test]
    fn select_picks_by_condition() {
        let c = Tensor::from_i128(ElementType::Boolean, &[2], &[1, 0]).unwrap();
        let (a, b) = (
            Tensor::scalar(5i64),
            Tensor::from_slice(&[2], &[6i64, 7]).unwrap(),
        );
        let y = crate::ops::evaluate(&Op::Select, &[c, a, b]).unwrap();
        assert_eq!(y[0].to_i64(), [5, 7]);
    }
}
