//! Convolution and GroupConvolution.

use super::attributes::Attributes;
use crate::error::{OpError, bail};
use crate::op::{AutoPad, ConvAttrs, Op};

/// Names of automatic padding.
pub(crate) const AUTO_PAD: [(&str, AutoPad); 5] = [
    ("explicit", AutoPad::Explicit),
    ("notset", AutoPad::Explicit),
    ("same_upper", AutoPad::SameUpper),
    ("same_lower", AutoPad::SameLower),
    ("valid", AutoPad::Valid),
];

/// Reads an operation of this family; `None` if it is of another.
pub(crate) fn parse(a: &Attributes) -> Result<Option<Op>, OpError> {
    let make = match a.kind {
        "Convolution" => Op::Convolution,
        "GroupConvolution" => Op::GroupConvolution,
        _ => return Ok(None),
    };
    a.expect_inputs(2, 2)?;
    let strides: Vec<usize> = a.list("strides", None)?;
    let axes = strides.len();
    let attrs = ConvAttrs {
        dilations: a.list("dilations", Some(&vec![1; axes]))?,
        pads_begin: a.list("pads_begin", Some(&vec![0; axes]))?,
        pads_end: a.list("pads_end", Some(&vec![0; axes]))?,
        auto_pad: a.word("auto_pad", &AUTO_PAD, Some(AutoPad::Explicit))?,
        strides,
    };
    for (name, len) in [
        ("dilations", attrs.dilations.len()),
        ("pads_begin", attrs.pads_begin.len()),
        ("pads_end", attrs.pads_end.len()),
    ] {
        if len != axes {
            bail!("attribute `{name}` has {len} entries, `strides` has {axes}: one per spatial axis");
        }
    }
    if attrs.strides.contains(&0) || attrs.dilations.contains(&0) {
        bail!("attributes `strides` and `dilations`: expected positive numbers, found 0");
    }
    Ok(Some(make(attrs)))
}
