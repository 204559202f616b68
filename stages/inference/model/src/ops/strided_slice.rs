//! StridedSlice-1.

use super::attributes::Attributes;
use crate::error::{OpError, bail};
use crate::op::{Op, StridedSliceAttrs};

/// Reads an operation of this family; `None` if it is of another.
pub(crate) fn parse(a: &Attributes) -> Result<Option<Op>, OpError> {
    if a.kind != "StridedSlice" {
        return Ok(None);
    }
    a.expect_inputs(3, 4)?;
    let mask = |name: &str, default: Option<&[u8]>| -> Result<Vec<bool>, OpError> {
        a.list::<u8>(name, default)?
            .into_iter()
            .map(|bit| match bit {
                0 | 1 => Ok(bit == 1),
                _ => bail!("attribute `{name}`: expected 0 and 1 only, found {bit}"),
            })
            .collect()
    };
    Ok(Some(Op::StridedSlice(StridedSliceAttrs {
        begin_mask: mask("begin_mask", None)?,
        end_mask: mask("end_mask", None)?,
        new_axis_mask: mask("new_axis_mask", Some(&[]))?,
        shrink_axis_mask: mask("shrink_axis_mask", Some(&[]))?,
        ellipsis_mask: mask("ellipsis_mask", Some(&[]))?,
    })))
}
