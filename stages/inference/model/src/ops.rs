//! What operations mean: attributes, shape inference and evaluation, one module per family.

pub mod attributes;
mod basic;
mod binary;
mod convolution;
mod interpolate;
mod layout;
mod pool;
mod select;
mod strided_slice;
mod unary;

use attributes::Attributes;

use crate::error::OpError;
use crate::op::Op;

/// Reads an operation from its attributes; `None` if it is not known in that operation set.
///
/// # Errors
/// If an attribute is missing or wrong, or the number of inputs is.
pub fn parse(a: &Attributes) -> Result<Option<Op>, OpError> {
    for family in [
        basic::parse,
        binary::parse,
        unary::parse,
        convolution::parse,
        pool::parse,
        layout::parse,
        select::parse,
        interpolate::parse,
        strided_slice::parse,
    ] {
        if let Some(op) = family(a)? {
            return Ok(Some(op));
        }
    }
    Ok(None)
}
