//! MaxPool and AvgPool.

use super::attributes::Attributes;
use super::convolution::AUTO_PAD;
use crate::error::{OpError, bail};
use crate::op::{AutoPad, Op, PoolAttrs};

/// Reads an operation of this family; `None` if it is of another.
pub(crate) fn parse(a: &Attributes) -> Result<Option<Op>, OpError> {
    if !matches!(a.kind, "MaxPool" | "AvgPool") {
        return Ok(None);
    }
    a.expect_inputs(1, 1)?;
    let kernel: Vec<usize> = a.list("kernel", None)?;
    let axes = kernel.len();
    let pool = PoolAttrs {
        strides: a.list("strides", Some(&vec![1; axes]))?,
        dilations: a.list("dilations", Some(&vec![1; axes]))?,
        pads_begin: a.list("pads_begin", Some(&vec![0; axes]))?,
        pads_end: a.list("pads_end", Some(&vec![0; axes]))?,
        auto_pad: a.word("auto_pad", &AUTO_PAD, Some(AutoPad::Explicit))?,
        ceil: a.word("rounding_type", &[("floor", false), ("ceil", true)], Some(false))?,
        kernel,
    };
    for (name, list) in [
        ("strides", &pool.strides),
        ("dilations", &pool.dilations),
        ("pads_begin", &pool.pads_begin),
        ("pads_end", &pool.pads_end),
    ] {
        if list.len() != axes {
            bail!(
                "attribute `{name}` has {} entries, `kernel` has {axes}: one per spatial axis",
                list.len()
            );
        }
    }
    if [&pool.kernel, &pool.strides, &pool.dilations]
        .iter()
        .any(|l| l.contains(&0))
    {
        bail!("attributes `kernel`, `strides` and `dilations`: expected positive numbers, found 0");
    }
    Ok(Some(if a.kind == "MaxPool" {
        Op::MaxPool(pool)
    } else {
        let exclude_pad = match a.get("exclude-pad") {
            Some(_) => a.flag("exclude-pad", None)?,
            None => a.flag("exclude_pad", None)?,
        };
        Op::AvgPool { pool, exclude_pad }
    }))
}
