//! Element-wise operations on one input, Clamp and PRelu.

use super::attributes::Attributes;
use crate::error::OpError;
use crate::op::{Op, UnaryKind};

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
        "Erf" => UnaryKind::Erf,
        "LogicalNot" => UnaryKind::LogicalNot,
        "Clamp" => {
            a.expect_inputs(1, 1)?;
            let (min, max) = (a.float("min", None)?, a.float("max", None)?);
            if min > max {
                crate::error::bail!("attribute `min` ({min}) is above `max` ({max})");
            }
            return Ok(Some(Op::Clamp { min, max }));
        }
        "PReLU" | "PRelu" => {
            a.expect_inputs(2, 2)?;
            return Ok(Some(Op::PRelu));
        }
        _ => return Ok(None),
    };
    a.expect_inputs(1, 1)?;
    Ok(Some(Op::Unary(kind)))
}
