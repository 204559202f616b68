//! Parameter, Result, Convert, MatMul, Softmax, ShapeOf, Pad, Reduce, FakeQuantize.

use super::attributes::Attributes;
use crate::error::{OpError, bail};
use crate::op::{Op, PadMode, ReduceKind};
use crate::tensor::ElementType;

/// Reads an operation of this family; `None` if it is of another.
pub(crate) fn parse(a: &Attributes) -> Result<Option<Op>, OpError> {
    let reduce = |kind| -> Result<(Op, usize, usize), OpError> {
        Ok((
            Op::Reduce {
                kind,
                keep_dims: a.flag("keep_dims", Some(false))?,
            },
            2,
            2,
        ))
    };
    let (op, low, high) = match a.kind {
        "Parameter" => (Op::Parameter, 0, 0),
        "Result" => (Op::Result, 1, 1),
        "Convert" => (Op::Convert(a.element_type("destination_type", None)?), 1, 1),
        "MatMul" => (
            Op::MatMul {
                transpose_a: a.flag("transpose_a", Some(false))?,
                transpose_b: a.flag("transpose_b", Some(false))?,
            },
            2,
            2,
        ),
        "SoftMax" | "Softmax" => (
            Op::Softmax {
                axis: a.int("axis", Some(1))?,
            },
            1,
            1,
        ),
        "ShapeOf" => (
            Op::ShapeOf(a.element_type("output_type", Some(ElementType::I64))?),
            1,
            1,
        ),
        "Pad" => (
            Op::Pad(a.word(
                "pad_mode",
                &[
                    ("constant", PadMode::Constant),
                    ("edge", PadMode::Edge),
                    ("reflect", PadMode::Reflect),
                    ("symmetric", PadMode::Symmetric),
                ],
                None,
            )?),
            3,
            4,
        ),
        "ReduceMean" => reduce(ReduceKind::Mean)?,
        "ReduceSum" => reduce(ReduceKind::Sum)?,
        "ReduceMax" => reduce(ReduceKind::Max)?,
        "ReduceMin" => reduce(ReduceKind::Min)?,
        "ReduceProd" => reduce(ReduceKind::Prod)?,
        "ReduceL2" => reduce(ReduceKind::L2)?,
        "FakeQuantize" => {
            super::binary::numpy_broadcast(a)?;
            let levels = a.size("levels", None)?;
            match u32::try_from(levels) {
                Ok(levels) if levels >= 2 => (Op::FakeQuantize { levels }, 5, 5),
                _ => bail!("attribute `levels`: expected 2 to 4294967295, found {levels}"),
            }
        }
        _ => return Ok(None),
    };
    a.expect_inputs(low, high)?;
    Ok(Some(op))
}
