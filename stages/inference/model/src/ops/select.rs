//! Operations that pick elements: Gather, GatherND, TopK.

use super::attributes::Attributes;
use crate::error::OpError;
use crate::op::{Op, TopKAttrs, TopKSort};
use crate::tensor::ElementType;

/// Reads an operation of this family; `None` if it is of another.
pub(crate) fn parse(a: &Attributes) -> Result<Option<Op>, OpError> {
    Ok(Some(match a.kind {
        "Gather" => {
            a.expect_inputs(3, 3)?;
            Op::Gather {
                batch_dims: a.int("batch_dims", Some(0))?,
            }
        }
        // GatherND-5 flattens the batch axes of its result; with none, both versions agree.
        "GatherND" => {
            a.expect_inputs(2, 2)?;
            let batch_dims = a.size("batch_dims", Some(0))?;
            if a.opset < 8 && batch_dims > 1 {
                return Ok(None);
            }
            Op::GatherNd { batch_dims }
        }
        "TopK" => {
            a.expect_inputs(2, 2)?;
            Op::TopK(TopKAttrs {
                axis: a.int("axis", None)?,
                max: a.word("mode", &[("max", true), ("min", false)], None)?,
                sort: a.word(
                    "sort",
                    &[
                        ("none", TopKSort::None),
                        ("value", TopKSort::Value),
                        ("index", TopKSort::Index),
                    ],
                    None,
                )?,
                index_type: a.element_type("index_element_type", Some(ElementType::I32))?,
                stable: a.flag("stable", Some(false))?,
            })
        }
        _ => return Ok(None),
    }))
}
