//! MaxPool-8/14 and AvgPool-14/16 where they are more than a pooling of pixels: indices of another type or counted from
//! another axis, and PyTorch's rounding.

use std::ops::RangeInclusive;

use super::attributes::Attributes;
use super::attributes::word_of;
use super::convolution::AUTO_PAD;
use super::pool;
use super::support::{self, Input};
use crate::error::{OpError, bail};
use crate::graph::OutputInfo;
use crate::op::{AutoPad, Op, PoolAttrs};
use crate::operation::Operation;
use crate::tensor::{ElementType, Tensor};

/// A pooling, as [`Op::MaxPool`] and [`Op::AvgPool`] otherwise.
#[derive(Debug, Clone)]
struct PoolVariant {
    pool: Op,
    /// Round lengths up, but leave out a last window that begins in the padding at the end (`ceil_torch`).
    torch: bool,
    /// MaxPool: type of the indices, and the first axis over which they count.
    index_type: ElementType,
    axis: i64,
}

/// Reads an operation of this family; `None` if it is of another.
pub(crate) fn parse(a: &Attributes) -> Result<Option<Op>, OpError> {
    if !matches!(a.kind, "MaxPool" | "AvgPool") {
        return Ok(None);
    }
    let torch = a
        .get("rounding_type")
        .is_some_and(|t| t.eq_ignore_ascii_case("ceil_torch"));
    let index_type = a.element_type("index_element_type", Some(ElementType::I64))?;
    let axis = a.int("axis", Some(0))?;
    if !torch && index_type == ElementType::I64 && axis == 0 {
        return Ok(None);
    }
    if !matches!(index_type, ElementType::I32 | ElementType::I64) {
        bail!("attribute `index_element_type`: expected i32 or i64, found {index_type}");
    }
    let mut plain = a.clone();
    if torch {
        plain.pairs.retain(|p| p.0 != "rounding_type");
        plain.pairs.push(("rounding_type", "ceil"));
    }
    let pool = pool::parse(&plain)?;
    Ok(pool.map(|pool| {
        Op::standard(PoolVariant {
            pool,
            torch,
            index_type,
            axis,
        })
    }))
}

impl PoolVariant {
    fn attrs(&self) -> Option<&PoolAttrs> {
        match &self.pool {
            Op::MaxPool(pool) | Op::AvgPool { pool, .. } => Some(pool),
            _ => None,
        }
    }
}

impl Operation for PoolVariant {
    fn type_name(&self) -> &'static str {
        self.pool.type_name()
    }

    fn opset(&self) -> u32 {
        if self.torch { 14 } else { 8 }
    }

    fn attributes(&self) -> Vec<(&'static str, String)> {
        let Some(pool) = self.attrs() else {
            return Vec::new();
        };
        let list = |l: &[usize]| l.iter().map(usize::to_string).collect::<Vec<_>>().join(", ");
        let rounding = match (self.torch, pool.ceil) {
            (true, _) => "ceil_torch",
            (false, true) => "ceil",
            (false, false) => "floor",
        };
        let mut attributes = vec![
            ("strides", list(&pool.strides)),
            ("pads_begin", list(&pool.pads_begin)),
            ("pads_end", list(&pool.pads_end)),
            ("kernel", list(&pool.kernel)),
            ("rounding_type", rounding.to_owned()),
            ("auto_pad", word_of(&AUTO_PAD, &pool.auto_pad)),
        ];
        match &self.pool {
            Op::AvgPool { exclude_pad, .. } => attributes.push(("exclude-pad", exclude_pad.to_string())),
            _ => attributes.extend([
                ("dilations", list(&pool.dilations)),
                ("index_element_type", self.index_type.name().to_owned()),
                ("axis", self.axis.to_string()),
            ]),
        }
        attributes
    }

    fn input_count(&self) -> RangeInclusive<usize> {
        1..=1
    }

    fn infer(&self, inputs: &[Input]) -> Result<Vec<OutputInfo>, OpError> {
        support::axis(self.axis, inputs[0].shape.len())?;
        let mut outputs = pool::infer(&self.pool, inputs)?;
        if let Some(pool) = self
            .attrs()
            .filter(|p| self.torch && p.auto_pad == AutoPad::Explicit)
        {
            for output in &mut outputs {
                for (i, dim) in output.shape[2..].iter_mut().enumerate() {
                    let (Some(windows), Some(length)) = (dim.as_mut(), inputs[0].shape[i + 2]) else {
                        continue;
                    };
                    let last = windows.saturating_sub(1).saturating_mul(pool.strides[i]);
                    if *windows > 1 && last >= length.saturating_add(pool.pads_begin[i]) {
                        *windows -= 1;
                    }
                }
            }
        }
        if let Some(indices) = outputs.get_mut(1) {
            indices.element_type = self.index_type;
        }
        Ok(outputs)
    }

    fn evaluate(&self, inputs: &[Tensor], outputs: &[OutputInfo]) -> Result<Vec<Tensor>, OpError> {
        let mut found = pool::evaluate(&self.pool, inputs, outputs)?;
        if let Some(indices) = found.get_mut(1) {
            let axis = support::axis(self.axis, indices.shape().len())?;
            let inner = support::product(&inputs[0].shape()[axis..]) as i128;
            let within: Vec<i128> = indices.to_i128().iter().map(|i| i % inner).collect();
            *indices = Tensor::from_i128(self.index_type, indices.shape(), &within)?;
        }
        Ok(found)
    }
}
