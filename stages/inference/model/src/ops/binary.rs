//! Element-wise operations on two inputs, and Select.

use super::attributes::Attributes;
use crate::error::{OpError, bail};
use crate::op::{BinaryKind, Op};

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
        a.expect_inputs(3, 3)?;
        Op::Select
    } else if let Some((_, kind)) = NAMES.iter().find(|n| n.0 == a.kind) {
        a.expect_inputs(2, 2)?;
        if a.kind == "Divide" && !a.flag("m_pythondiv", Some(true))? {
            Op::Binary(BinaryKind::DivideTruncating)
        } else {
            Op::Binary(*kind)
        }
    } else {
        return Ok(None);
    };
    numpy_broadcast(a)?;
    Ok(Some(op))
}

/// Fails unless broadcasting is numpy's; `none` asks for equal shapes, which numpy's rule covers.
pub(crate) fn numpy_broadcast(a: &Attributes) -> Result<(), OpError> {
    match a.get("auto_broadcast") {
        None | Some("numpy" | "none") => Ok(()),
        Some(other) => bail!("attribute `auto_broadcast`: expected numpy or none, found \"{other}\""),
    }
}
