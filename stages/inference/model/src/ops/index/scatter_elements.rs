//! ScatterElementsUpdate: one index per element of the updates.

use std::ops::RangeInclusive;

use super::scatter_nd::{self, Reduction};
use crate::error::{OpError, bail};
use crate::graph::OutputInfo;
use crate::op::Op;
use crate::operation::Operation;
use crate::ops::attributes::{Attributes, word_of};
use crate::ops::support::{self, Input};
use crate::tensor::Tensor;

/// ScatterElementsUpdate-3/12: inputs data, indices, updates (shaped as the indices), axis.
#[derive(Debug, Clone)]
struct ScatterElementsUpdate {
    /// What becomes of elements that fall on one place.
    reduction: Reduction,
    /// Whether the element that was there takes part.
    use_init_val: bool,
    /// Operation set: 3 has no attributes.
    opset: u32,
}

const REDUCTIONS: &[(&str, Reduction)] = &[
    ("none", Reduction::None),
    ("sum", Reduction::Sum),
    ("prod", Reduction::Prod),
    ("min", Reduction::Min),
    ("max", Reduction::Max),
    ("mean", Reduction::Mean),
];

/// Reads an operation of this family; `None` if it is of another.
pub(super) fn parse(a: &Attributes) -> Result<Option<Op>, OpError> {
    if a.kind != "ScatterElementsUpdate" {
        return Ok(None);
    }
    Ok(Some(Op::standard(ScatterElementsUpdate {
        reduction: a.word("reduction", REDUCTIONS, Some(Reduction::None))?,
        use_init_val: a.flag("use_init_val", Some(true))?,
        opset: if a.opset < 12 { 3 } else { 12 },
    })))
}

impl Operation for ScatterElementsUpdate {
    fn type_name(&self) -> &'static str {
        "ScatterElementsUpdate"
    }

    fn opset(&self) -> u32 {
        self.opset
    }

    fn attributes(&self) -> Vec<(&'static str, String)> {
        if self.opset < 12 {
            return Vec::new();
        }
        vec![
            ("reduction", word_of(REDUCTIONS, &self.reduction)),
            ("use_init_val", self.use_init_val.to_string()),
        ]
    }

    fn input_count(&self) -> RangeInclusive<usize> {
        4..=4
    }

    fn infer(&self, inputs: &[Input]) -> Result<Vec<OutputInfo>, OpError> {
        let (data, indices, updates) = (&inputs[0], &inputs[1], &inputs[2]);
        support::integers(indices, "the indices")?;
        support::integers(&inputs[3], "the axis")?;
        let element_type = support::same_type(data, updates)?;
        let fits = |(a, b): (&Option<usize>, &Option<usize>)| a.is_none() || b.is_none() || a == b;
        if [indices.shape.len(), updates.shape.len()] != [data.shape.len(); 2]
            || !indices.shape.iter().zip(updates.shape).all(fits)
        {
            bail!(
                "expected indices and updates of one shape and of the data's rank, found {}, {} and data {}",
                support::show(indices.shape),
                support::show(updates.shape),
                support::show(data.shape)
            );
        }
        if let Some(axis) = support::scalar(&inputs[3], "the axis")? {
            support::axis(axis, data.shape.len())?;
        }
        Ok(vec![support::output(element_type, data.shape.to_vec())])
    }

    fn evaluate(&self, inputs: &[Tensor], _: &[OutputInfo]) -> Result<Vec<Tensor>, OpError> {
        let (data, indices, updates) = (&inputs[0], &inputs[1], &inputs[2]);
        let axis = support::axis(
            support::only(&inputs[3].to_i64(), "the axis")?,
            data.shape().len(),
        )?;
        for (i, (&given, &length)) in indices.shape().iter().zip(data.shape()).enumerate() {
            if given > length && i != axis {
                bail!("axis {i} of the indices is {given}, that of the data {length}");
            }
        }
        let strides = support::strides(data.shape());
        let mut flat = strides.clone();
        flat[axis] = 0;
        let bases = support::offsets(indices.shape(), &flat, 0);
        let mut places = Vec::with_capacity(bases.len());
        for (base, at) in bases.into_iter().zip(indices.to_i64()) {
            places.push(base + support::index(at, data.shape()[axis])? * strides[axis] as usize);
        }
        if self.reduction == Reduction::None {
            let places = places.into_iter().enumerate().map(|(from, to)| (to, from));
            return Ok(vec![support::overwrite(data, updates, places)?]);
        }
        Ok(vec![scatter_nd::reduce(
            self.reduction,
            self.use_init_val,
            data,
            updates,
            &places,
        )?])
    }
}
