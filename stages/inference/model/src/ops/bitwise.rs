//! Operations on the bits of integers: BitwiseAnd, BitwiseOr, BitwiseXor, BitwiseNot and the shifts.

use std::ops::RangeInclusive;

use super::attributes::Attributes;
use super::binary::known_broadcast;
use super::support::{self, Input};
use crate::error::{OpError, bail};
use crate::graph::OutputInfo;
use crate::op::Op;
use crate::operation::Operation;
use crate::tensor::{ElementType, Tensor};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    And,
    Or,
    Xor,
    Not,
    Left,
    Right,
}

/// One of the operations, with numpy broadcasting. Of a boolean the only bit counts.
#[derive(Debug, Clone)]
struct Bitwise {
    kind: Kind,
}

/// Names in model files and operation sets.
const NAMES: &[(&str, Kind, u32)] = &[
    ("BitwiseAnd", Kind::And, 13),
    ("BitwiseOr", Kind::Or, 13),
    ("BitwiseXor", Kind::Xor, 13),
    ("BitwiseNot", Kind::Not, 13),
    ("BitwiseLeftShift", Kind::Left, 15),
    ("BitwiseRightShift", Kind::Right, 15),
];

/// Reads an operation of this family; `None` if it is of another.
pub(crate) fn parse(a: &Attributes) -> Result<Option<Op>, OpError> {
    let Some(&(_, kind, _)) = NAMES.iter().find(|n| n.0 == a.kind) else {
        return Ok(None);
    };
    known_broadcast(a)?;
    Ok(Some(Op::standard(Bitwise { kind })))
}

impl Bitwise {
    fn row(&self) -> (&'static str, Kind, u32) {
        NAMES
            .iter()
            .copied()
            .find(|n| n.1 == self.kind)
            .unwrap_or(NAMES[0])
    }

    fn of(&self, a: i128, b: i128, bits: usize) -> Result<i128, OpError> {
        let by = || match u32::try_from(b) {
            Ok(by) => Ok(by.min(127)),
            Err(_) => bail!("a shift by {b}: expected 0 or more"),
        };
        Ok(match self.kind {
            Kind::And => a & b,
            Kind::Or => a | b,
            Kind::Xor => a ^ b,
            Kind::Not => !a,
            Kind::Left if by()? as usize >= bits => 0,
            Kind::Left => a << by()?,
            Kind::Right => a >> by()?,
        })
    }
}

impl Operation for Bitwise {
    fn type_name(&self) -> &'static str {
        self.row().0
    }

    fn opset(&self) -> u32 {
        self.row().2
    }

    fn attributes(&self) -> Vec<(&'static str, String)> {
        match self.kind {
            Kind::Not => Vec::new(),
            _ => vec![("auto_broadcast", "numpy".to_owned())],
        }
    }

    fn input_count(&self) -> RangeInclusive<usize> {
        match self.kind {
            Kind::Not => 1..=1,
            _ => 2..=2,
        }
    }

    fn infer(&self, inputs: &[Input]) -> Result<Vec<OutputInfo>, OpError> {
        let a = &inputs[0];
        let shifts = matches!(self.kind, Kind::Left | Kind::Right);
        if a.element_type.is_float() || shifts && a.element_type == ElementType::Boolean {
            bail!("expected integers, found {}", a.element_type);
        }
        let shape = match inputs.get(1) {
            Some(b) => {
                support::same_type(a, b)?;
                support::broadcast(a.shape, b.shape)?
            }
            None => a.shape.to_vec(),
        };
        Ok(vec![support::output(a.element_type, shape)])
    }

    fn evaluate(&self, inputs: &[Tensor], outputs: &[OutputInfo]) -> Result<Vec<Tensor>, OpError> {
        let shape = support::fixed(&outputs[0])?;
        let element_type = inputs[0].element_type();
        let a = inputs[0].to_i128();
        let b = inputs.get(1).map(Tensor::to_i128).unwrap_or_else(|| vec![0]);
        let at = support::broadcast_offsets(inputs[0].shape(), &shape);
        let bt = support::broadcast_offsets(inputs.get(1).map_or(&[], Tensor::shape), &shape);
        let values: Result<Vec<i128>, OpError> = at
            .into_iter()
            .zip(bt)
            .map(|(i, j)| self.of(a[i], b[j], element_type.bits()))
            .collect();
        let mut values = values?;
        if element_type == ElementType::Boolean {
            values.iter_mut().for_each(|v| *v &= 1);
        }
        Ok(vec![Tensor::from_i128(element_type, &shape, &values)?])
    }
}
