//! Activations whose parameters are inputs: HardSigmoid, Selu and Swish with a factor.

use std::ops::RangeInclusive;

use super::attributes::Attributes;
use super::exponential::exp;
use super::support::{self, Input};
use super::unary::swish;
use crate::error::{OpError, bail};
use crate::graph::OutputInfo;
use crate::op::Op;
use crate::operation::Operation;
use crate::tensor::Tensor;

/// Element-wise functions; parameters are tensors of one value.
#[derive(Debug, Clone)]
enum Activation {
    /// HardSigmoid-1: `max(0, min(1, alpha * x + beta))`.
    HardSigmoid,
    /// Selu-1: `lambda * x` above 0, else `lambda * alpha * (e^x - 1)`.
    Selu,
    /// Swish-4: `x / (1 + e^(-x * beta))`.
    Swish,
}

/// Reads an operation of this family; `None` if it is of another.
pub(crate) fn parse(a: &Attributes) -> Result<Option<Op>, OpError> {
    Ok(Some(Op::standard(match (a.kind, a.inputs) {
        ("HardSigmoid" | "Hard_Sigmoid", _) => Activation::HardSigmoid,
        ("Selu", _) => Activation::Selu,
        // Without a second input the factor is 1: a function of one value.
        ("Swish", 2) => Activation::Swish,
        _ => return Ok(None),
    })))
}

impl Operation for Activation {
    fn type_name(&self) -> &'static str {
        match self {
            Self::HardSigmoid => "HardSigmoid",
            Self::Selu => "Selu",
            Self::Swish => "Swish",
        }
    }

    fn opset(&self) -> u32 {
        match self {
            Self::HardSigmoid | Self::Selu => 1,
            Self::Swish => 4,
        }
    }

    fn input_count(&self) -> RangeInclusive<usize> {
        match self {
            Self::HardSigmoid | Self::Selu => 3..=3,
            Self::Swish => 2..=2,
        }
    }

    fn infer(&self, inputs: &[Input]) -> Result<Vec<OutputInfo>, OpError> {
        let data = &inputs[0];
        support::floats(data, "the data")?;
        for parameter in &inputs[1..] {
            support::same_type(data, parameter)?;
            if parameter.count().is_some_and(|n| n != 1) {
                bail!(
                    "expected parameters of one value, found {}",
                    support::show(parameter.shape)
                );
            }
        }
        Ok(vec![support::output(data.element_type, data.shape.to_vec())])
    }

    fn evaluate(&self, inputs: &[Tensor], _: &[OutputInfo]) -> Result<Vec<Tensor>, OpError> {
        let parameter = |i: usize| support::only(&inputs[i].to_f32(), "a parameter");
        let mut values = inputs[0].to_f32();
        match self {
            Self::HardSigmoid => {
                let (alpha, beta) = (parameter(1)?, parameter(2)?);
                let f = |x: f32| (alpha * x + beta).clamp(0.0, 1.0);
                values.iter_mut().for_each(|v| *v = f(*v));
            }
            Self::Selu => {
                let (alpha, lambda) = (parameter(1)?, parameter(2)?);
                let f = |x: f32| lambda * if x > 0.0 { x } else { alpha * (exp(x) - 1.0) };
                values.iter_mut().for_each(|v| *v = f(*v));
            }
            Self::Swish => {
                let beta = parameter(1)?;
                values.iter_mut().for_each(|v| *v = swish(*v, beta));
            }
        }
        let (element_type, shape) = (inputs[0].element_type(), inputs[0].shape());
        Ok(vec![support::from_f32(element_type, shape, &values)?])
    }

    fn maps_values(&self) -> bool {
        true
    }
}
