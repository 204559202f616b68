//! Operations that move elements without changing them: Reshape, Transpose, Squeeze, Unsqueeze, Concat,
//! Split, VariadicSplit, Slice, Broadcast.

use super::attributes::Attributes;
use crate::error::{OpError, bail};
use crate::op::Op;

/// Reads an operation of this family; `None` if it is of another.
pub(crate) fn parse(a: &Attributes) -> Result<Option<Op>, OpError> {
    let (op, low, high) = match a.kind {
        "Reshape" => (
            Op::Reshape {
                special_zero: a.flag("special_zero", None)?,
            },
            2,
            2,
        ),
        "Transpose" => (Op::Transpose, 2, 2),
        "Squeeze" => (Op::Squeeze, 1, 2),
        "Unsqueeze" => (Op::Unsqueeze, 2, 2),
        "Concat" => (
            Op::Concat {
                axis: a.int("axis", None)?,
            },
            1,
            usize::MAX,
        ),
        "Split" => {
            let num_splits = a.size("num_splits", None)?;
            if num_splits == 0 {
                bail!("attribute `num_splits`: expected a positive number, found 0");
            }
            (Op::Split { num_splits }, 2, 2)
        }
        "VariadicSplit" => (Op::VariadicSplit, 3, 3),
        "Slice" => (Op::Slice, 4, 5),
        "Broadcast" => {
            match a.get("mode") {
                None | Some("numpy" | "bidirectional") => {}
                Some(other) => {
                    bail!("attribute `mode`: expected numpy or bidirectional, found \"{other}\"")
                }
            }
            let bidirectional = a.get("mode") == Some("bidirectional");
            let op = if bidirectional {
                Op::BroadcastBidirectional
            } else {
                Op::Broadcast
            };
            (op, 2, 2)
        }
        _ => return Ok(None),
    };
    a.expect_inputs(low, high)?;
    Ok(Some(op))
}
