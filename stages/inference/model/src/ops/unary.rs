//! Element-wise operations on one input, Clamp and PRelu.
//!
//! Floats are computed in f64 and rounded once to the element type; what holds an exponential of the input
//! alone in f32, as `docs/numerics.md` states.

use super::attributes::Attributes;
use super::exponential::{self, exp, sigmoid};
use super::support::{self, Input};
use crate::error::{OpError, bail};
use crate::graph::{Dim, OutputInfo, PartialShape};
use crate::op::{Op, UnaryKind};
use crate::tensor::{ElementType, Tensor};

/// Names of what Round does with halves.
pub(crate) const ROUND_MODES: [(&str, bool); 2] = [("half_to_even", true), ("half_away_from_zero", false)];

/// Reads an operation of this family; `None` if it is of another.
pub(crate) fn parse(a: &Attributes) -> Result<Option<Op>, OpError> {
    let kind = match a.kind {
        "ReLU" | "Relu" => UnaryKind::Relu,
        "Sigmoid" => UnaryKind::Sigmoid,
        "Tanh" | "TanH" => UnaryKind::Tanh,
        "Exp" => UnaryKind::Exp,
        "Log" => UnaryKind::Log,
        "Sqrt" => UnaryKind::Sqrt,
        "Abs" => UnaryKind::Abs,
        "Negative" => UnaryKind::Negative,
        "Floor" => UnaryKind::Floor,
        "Ceiling" => UnaryKind::Ceiling,
        "HSwish" => UnaryKind::HSwish,
        "HSigmoid" => UnaryKind::HSigmoid,
        // With a second input, beta is a tensor: not this operation.
        "Swish" if a.inputs == 1 => UnaryKind::Swish { beta: 1.0 },
        "Elu" => UnaryKind::Elu {
            alpha: a.float("alpha", None)?,
        },
        "Gelu" => UnaryKind::Gelu {
            tanh: a.word(
                "approximation_mode",
                &[("erf", false), ("tanh", true)],
                Some(false),
            )?,
        },
        "Mish" => UnaryKind::Mish,
        "SoftPlus" => UnaryKind::SoftPlus,
        "SoftSign" => UnaryKind::SoftSign,
        "Erf" => UnaryKind::Erf,
        "Sign" => UnaryKind::Sign,
        "Sin" => UnaryKind::Sin,
        "Cos" => UnaryKind::Cos,
        "Tan" => UnaryKind::Tan,
        "Asin" => UnaryKind::Asin,
        "Acos" => UnaryKind::Acos,
        "Atan" => UnaryKind::Atan,
        "Sinh" => UnaryKind::Sinh,
        "Cosh" => UnaryKind::Cosh,
        "Asinh" => UnaryKind::Asinh,
        "Acosh" => UnaryKind::Acosh,
        "Atanh" => UnaryKind::Atanh,
        "Round" => UnaryKind::Round {
            half_to_even: a.word("mode", &ROUND_MODES, Some(true))?,
        },
        "LogicalNot" => UnaryKind::LogicalNot,
        "Clamp" => {
            let (min, max) = (a.float("min", None)?, a.float("max", None)?);
            if min > max {
                bail!("attribute `min` ({min}) is above `max` ({max})");
            }
            return Ok(Some(Op::Clamp { min, max }));
        }
        "PReLU" | "PRelu" => return Ok(Some(Op::PRelu)),
        _ => return Ok(None),
    };
    Ok(Some(Op::Unary(kind)))
}

/// The output: type and shape of the input.
pub(crate) fn infer(op: &Op, inputs: &[Input]) -> Result<Vec<OutputInfo>, OpError> {
    let x = &inputs[0];
    match op {
        Op::Unary(UnaryKind::LogicalNot) if x.element_type != ElementType::Boolean => {
            bail!("expected a boolean input, found {}", x.element_type)
        }
        Op::Unary(kind) if float_only(*kind) && !x.element_type.is_float() => {
            bail!("expected a floating point input, found {}", x.element_type)
        }
        Op::PRelu => {
            let slope = &inputs[1];
            support::same_type(x, slope)?;
            support::broadcast(x.shape, &slope_shape(x.shape.len(), slope.shape))?;
        }
        _ => {}
    }
    Ok(vec![support::output(x.element_type, x.shape.to_vec())])
}

fn float_only(kind: UnaryKind) -> bool {
    !matches!(
        kind,
        UnaryKind::Relu
            | UnaryKind::Abs
            | UnaryKind::Negative
            | UnaryKind::Floor
            | UnaryKind::Ceiling
            | UnaryKind::Round { .. }
            | UnaryKind::Sign
            | UnaryKind::LogicalNot
    )
}

/// A slope of one axis lies along axis 1 of the data, whatever the rank.
fn slope_shape(rank: usize, slope: &[Dim]) -> PartialShape {
    match slope {
        [channels] if rank > 1 => {
            let mut shape = vec![Some(1); rank];
            shape[1] = *channels;
            shape
        }
        _ => slope.to_vec(),
    }
}

/// `f(x)` of a kind.
fn apply(kind: UnaryKind, x: f64) -> f64 {
    match kind {
        UnaryKind::Relu => x.max(0.0),
        UnaryKind::Sigmoid => f64::from(sigmoid(x as f32)),
        UnaryKind::Tanh => x.tanh(),
        UnaryKind::Exp => f64::from(exp(x as f32)),
        UnaryKind::Log => x.ln(),
        UnaryKind::Sqrt => x.sqrt(),
        UnaryKind::Abs => x.abs(),
        UnaryKind::Negative => -x,
        UnaryKind::Floor => x.floor(),
        UnaryKind::Ceiling => x.ceil(),
        UnaryKind::HSwish => x * (x + 3.0).clamp(0.0, 6.0) / 6.0,
        UnaryKind::HSigmoid => (x + 3.0).clamp(0.0, 6.0) / 6.0,
        UnaryKind::Swish { beta } => f64::from(swish(x as f32, beta)),
        UnaryKind::Elu { alpha } if x < 0.0 => f64::from(alpha * (exp(x as f32) - 1.0)),
        UnaryKind::Elu { .. } => x,
        UnaryKind::Gelu { tanh: false } => 0.5 * x * (1.0 + erf(x * std::f64::consts::FRAC_1_SQRT_2)),
        UnaryKind::Gelu { tanh: true } => {
            let inner = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x * x * x);
            0.5 * x * (1.0 + inner.tanh())
        }
        UnaryKind::Mish => x * soft_plus(x).tanh(),
        UnaryKind::SoftPlus => soft_plus(x),
        UnaryKind::SoftSign => x / (1.0 + x.abs()),
        UnaryKind::Erf => f64::from(exponential::erf(x as f32)),
        UnaryKind::Sign if x == 0.0 || x.is_nan() => x,
        UnaryKind::Sign => x.signum(),
        UnaryKind::Sin => x.sin(),
        UnaryKind::Cos => x.cos(),
        UnaryKind::Tan => x.tan(),
        UnaryKind::Asin => x.asin(),
        UnaryKind::Acos => x.acos(),
        UnaryKind::Atan => x.atan(),
        UnaryKind::Sinh => x.sinh(),
        UnaryKind::Cosh => x.cosh(),
        UnaryKind::Asinh => x.asinh(),
        UnaryKind::Acosh => x.acosh(),
        UnaryKind::Atanh => x.atanh(),
        UnaryKind::Round { half_to_even: true } => x.round_ties_even(),
        UnaryKind::Round { half_to_even: false } => x.round(),
        UnaryKind::LogicalNot => f64::from(u8::from(x == 0.0)),
    }
}

/// `x / (1 + e^(-x * beta))`.
pub(crate) fn swish(x: f32, beta: f32) -> f32 {
    x * sigmoid(x * beta)
}

/// `ln(1 + e^x)` without overflow.
fn soft_plus(x: f64) -> f64 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}

/// The error function to about 1e-15: its Maclaurin series near zero, and Lentz's continued fraction of
/// `erfc` beyond (Abramowitz and Stegun, 7.1.5 and 7.1.14).
fn erf(x: f64) -> f64 {
    let a = x.abs();
    if a.is_nan() {
        return x;
    }
    let value = if a < 2.5 {
        let (mut term, mut sum, mut n) = (a, a, 0.0);
        while f64::abs(term) > 1e-18 * f64::abs(sum) {
            n += 1.0;
            term *= -a * a / n;
            sum += term / (2.0 * n + 1.0);
            if n > 200.0 {
                break;
            }
        }
        sum * std::f64::consts::FRAC_2_SQRT_PI
    } else if a < 6.0 {
        let fraction = (1..=120).rev().fold(a, |f, k| a + f64::from(k) / 2.0 / f);
        1.0 - (-a * a).exp() / (fraction * std::f64::consts::PI.sqrt())
    } else {
        1.0
    };
    value.copysign(x)
}

/// Evaluates an operation of this family.
pub(crate) fn evaluate(op: &Op, inputs: &[Tensor]) -> Result<Vec<Tensor>, OpError> {
    let x = &inputs[0];
    let element_type = x.element_type();
    let make = |values: Vec<f64>| Tensor::from_f64(element_type, x.shape(), &values);
    let output = match op {
        // Integers stay integers: 64 bits do not fit f64.
        Op::Unary(kind) if element_type.is_integer() => {
            let values: Vec<i128> = x
                .to_i128()
                .into_iter()
                .map(|v| match kind {
                    UnaryKind::Relu => v.max(0),
                    UnaryKind::Abs => v.abs(),
                    UnaryKind::Negative => -v,
                    UnaryKind::Sign => v.signum(),
                    _ => v,
                })
                .collect();
            Tensor::from_i128(element_type, x.shape(), &values)?
        }
        Op::Unary(kind) => make(x.to_f64().into_iter().map(|v| apply(*kind, v)).collect())?,
        Op::Clamp { min, max } => {
            let (min, max) = (f64::from(*min), f64::from(*max));
            // Limits of an integer input round inwards.
            let (min, max) = if element_type.is_float() {
                (min, max)
            } else {
                (min.ceil(), max.floor())
            };
            make(x.to_f64().into_iter().map(|v| v.max(min).min(max)).collect())?
        }
        Op::PRelu => {
            let dims: PartialShape = inputs[1].shape().iter().map(|&d| Some(d)).collect();
            let shape: Vec<usize> = slope_shape(x.shape().len(), &dims)
                .into_iter()
                .flatten()
                .collect();
            let slopes = inputs[1].to_f64();
            let at = support::broadcast_offsets(&shape, x.shape());
            let values = x.to_f64().into_iter().zip(at);
            make(
                values
                    .map(|(v, o)| if v < 0.0 { v * slopes[o] } else { v })
                    .collect(),
            )?
        }
        _ => bail!("not an operation of this family"),
    };
    Ok(vec![output])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(op: Op, x: &[f32]) -> Vec<f32> {
        let x = Tensor::from_slice(&[x.len()], x).unwrap();
        crate::ops::evaluate(&op, &[x]).unwrap()[0].to_f32()
    }

    #[test]
    fn known_values() {
        let one = |kind, x: f32| run(Op::Unary(kind), &[x])[0];
        assert_eq!(one(UnaryKind::Sigmoid, 0.0), 0.5);
        assert_eq!(one(UnaryKind::HSwish, 3.0), 3.0);
        assert_eq!(one(UnaryKind::HSigmoid, -3.0), 0.0);
        assert!((one(UnaryKind::Erf, 1.0) - 0.842_700_8).abs() < 6e-7);
        assert!((one(UnaryKind::Erf, 3.0) - 0.999_977_9).abs() < 6e-7);
        assert!((one(UnaryKind::Gelu { tanh: false }, 1.0) - 0.841_344_7).abs() < 1e-7);
        assert!((one(UnaryKind::Mish, 1.0) - 0.865_098_4).abs() < 1e-6);
        assert!((one(UnaryKind::SoftPlus, 100.0) - 100.0).abs() < 1e-4);
        assert!((one(UnaryKind::Elu { alpha: 2.0 }, -1.0) + 1.264_241_1).abs() < 1e-6);
    }

    #[test]
    fn halves_round_as_the_mode_says() {
        let x = [0.5, 1.5, 2.5, -0.5, -2.5, 2.4];
        let run = |half_to_even| run(Op::Unary(UnaryKind::Round { half_to_even }), &x);
        assert_eq!(run(true), [0.0, 2.0, 2.0, 0.0, -2.0, 2.0]);
        assert_eq!(run(false), [1.0, 2.0, 3.0, -1.0, -3.0, 2.0]);
    }

    #[test]
    fn erf_is_smooth_where_its_two_forms_meet() {
        assert!((erf(2.5 - 1e-12) - erf(2.5)).abs() < 1e-13);
    }

    #[test]
    fn clamp_limits() {
        let clamp = Op::Clamp { min: -1.0, max: 6.0 };
        assert_eq!(run(clamp, &[-5.0, 0.5, 7.0]), [-1.0, 0.5, 6.0]);
    }

    #[test]
    fn a_slope_per_channel_lies_along_axis_one() {
        let x = Tensor::from_slice(&[1, 2, 2], &[-1f32, 1.0, -2.0, 2.0]).unwrap();
        let slope = Tensor::from_slice(&[2], &[0.5f32, 0.25]).unwrap();
        let y = crate::ops::evaluate(&Op::PRelu, &[x, slope]).unwrap();
        assert_eq!(y[0].to_f32(), [-0.5, 1.0, -0.5, 2.0]);
    }

    #[test]
    fn wide_integers_are_exact() {
        let x = Tensor::from_slice(&[1], &[i64::MAX]).unwrap();
        let y = crate::ops::evaluate(&Op::Unary(UnaryKind::Relu), &[x]).unwrap();
        assert_eq!(y[0].to_i64(), [i64::MAX]);
    }
}
