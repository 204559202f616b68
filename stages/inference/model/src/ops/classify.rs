//! IsFinite, IsInf, IsNaN: which floats are numbers.

use std::ops::RangeInclusive;

use super::attributes::Attributes;
use super::support::{self, Input};
use crate::error::OpError;
use crate::graph::OutputInfo;
use crate::op::Op;
use crate::operation::Operation;
use crate::tensor::{ElementType, Tensor};

/// IsFinite-10, IsInf-10, IsNaN-10.
#[derive(Debug, Clone)]
enum Classify {
    Finite,
    /// Which of the infinities count.
    Infinite {
        negative: bool,
        positive: bool,
    },
    NotANumber,
}

/// Reads an operation of this family; `None` if it is of another.
pub(crate) fn parse(a: &Attributes) -> Result<Option<Op>, OpError> {
    Ok(Some(Op::standard(match a.kind {
        "IsFinite" => Classify::Finite,
        "IsInf" => Classify::Infinite {
            negative: a.flag("detect_negative", Some(true))?,
            positive: a.flag("detect_positive", Some(true))?,
        },
        "IsNaN" => Classify::NotANumber,
        _ => return Ok(None),
    })))
}

impl Operation for Classify {
    fn type_name(&self) -> &'static str {
        match self {
            Self::Finite => "IsFinite",
            Self::Infinite { .. } => "IsInf",
            Self::NotANumber => "IsNaN",
        }
    }

    fn opset(&self) -> u32 {
        10
    }

    fn attributes(&self) -> Vec<(&'static str, String)> {
        match self {
            Self::Infinite { negative, positive } => vec![
                ("detect_negative", negative.to_string()),
                ("detect_positive", positive.to_string()),
            ],
            _ => Vec::new(),
        }
    }

    fn input_count(&self) -> RangeInclusive<usize> {
        1..=1
    }

    fn infer(&self, inputs: &[Input]) -> Result<Vec<OutputInfo>, OpError> {
        support::floats(&inputs[0], "the data")?;
        Ok(vec![support::output(
            ElementType::Boolean,
            inputs[0].shape.to_vec(),
        )])
    }

    fn evaluate(&self, inputs: &[Tensor], _: &[OutputInfo]) -> Result<Vec<Tensor>, OpError> {
        let is = |v: f64| match *self {
            Self::Finite => v.is_finite(),
            Self::Infinite { negative, positive } => {
                v.is_infinite() && if v < 0.0 { negative } else { positive }
            }
            Self::NotANumber => v.is_nan(),
        };
        let values: Vec<i128> = inputs[0]
            .to_f64()
            .into_iter()
            .map(|v| i128::from(is(v)))
            .collect();
        Ok(vec![Tensor::from_i128(
            ElementType::Boolean,
            inputs[0].shape(),
            &values,
        )?])
    }
}
