//! ScatterNDUpdate: tuples of indices say where slices of the updates go.

use std::ops::RangeInclusive;

use crate::error::{OpError, bail};
use crate::graph::OutputInfo;
use crate::op::Op;
use crate::operation::Operation;
use crate::ops::attributes::{Attributes, word_of};
use crate::ops::support::{self, Input};
use crate::tensor::{ElementType, Tensor};

/// What becomes of elements that fall on one place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reduction {
    /// The last one stays.
    None,
    Sum,
    /// The updates are subtracted from what was there.
    Sub,
    Prod,
    Min,
    Max,
    Mean,
}

/// ScatterNDUpdate-3/15: inputs data, indices `[.., depth]`, updates `indices[..-1] + data[depth..]`.
#[derive(Debug, Clone)]
struct ScatterNdUpdate {
    reduction: Reduction,
    /// Operation set: version 3, of opset4, has no attributes.
    opset: u32,
}

const REDUCTIONS: &[(&str, Reduction)] = &[
    ("none", Reduction::None),
    ("sum", Reduction::Sum),
    ("sub", Reduction::Sub),
    ("prod", Reduction::Prod),
    ("min", Reduction::Min),
    ("max", Reduction::Max),
];

/// Reads an operation of this family; `None` if it is of another.
pub(super) fn parse(a: &Attributes) -> Result<Option<Op>, OpError> {
    if a.kind != "ScatterNDUpdate" {
        return Ok(None);
    }
    Ok(Some(Op::standard(ScatterNdUpdate {
        reduction: a.word("reduction", REDUCTIONS, Some(Reduction::None))?,
        opset: if a.opset < 15 { 4 } else { 15 },
    })))
}

/// `data` with the updates put on their places one after another. Booleans are numbers 0 and 1, so that a
/// sum is "or" and a product "and".
pub(super) fn reduce(
    reduction: Reduction,
    use_init_val: bool,
    data: &Tensor,
    updates: &Tensor,
    places: &[usize],
) -> Result<Tensor, OpError> {
    if data.element_type().is_float() {
        // Each step rounds to the element type, as where the sum stands in the tensor itself.
        let round: fn(f64) -> f64 = match data.element_type() {
            ElementType::F64 => |v| v,
            ElementType::F32 => |v| f64::from(v as f32),
            ElementType::Bf16 => |v| half::bf16::from_f64(v).to_f64(),
            _ => |v| half::f16::from_f64(v).to_f64(),
        };
        let (mut values, updates) = (data.to_f64(), updates.to_f64());
        let neutral = match reduction {
            Reduction::Prod => 1.0,
            Reduction::Min => f64::INFINITY,
            Reduction::Max => f64::NEG_INFINITY,
            _ => 0.0,
        };
        if !use_init_val {
            places.iter().for_each(|&to| values[to] = neutral);
        }
        for (&to, &update) in places.iter().zip(&updates) {
            let value = &mut values[to];
            *value = round(match reduction {
                Reduction::None => update,
                Reduction::Sum | Reduction::Mean => *value + update,
                Reduction::Sub => *value - update,
                Reduction::Prod => *value * update,
                Reduction::Min => value.min(update),
                Reduction::Max => value.max(update),
            });
        }
        if reduction == Reduction::Mean {
            for (to, count) in counts(places, use_init_val) {
                values[to] = round(values[to] / count as f64);
            }
        }
        return Ok(Tensor::from_f64(data.element_type(), data.shape(), &values)?);
    }
    let (mut values, updates) = (data.to_i128(), updates.to_i128());
    let neutral = match (reduction, data.element_type().range()) {
        (Reduction::Prod, _) | (Reduction::Min, None) => 1,
        (Reduction::Min, Some((_, high))) => high,
        (Reduction::Max, Some((low, _))) => low,
        _ => 0,
    };
    if !use_init_val {
        places.iter().for_each(|&to| values[to] = neutral);
    }
    for (&to, &update) in places.iter().zip(&updates) {
        let value = &mut values[to];
        *value = match reduction {
            Reduction::None => update,
            Reduction::Sum | Reduction::Mean => value.wrapping_add(update),
            Reduction::Sub => value.wrapping_sub(update),
            Reduction::Prod => value.wrapping_mul(update),
            Reduction::Min => (*value).min(update),
            Reduction::Max => (*value).max(update),
        };
    }
    if reduction == Reduction::Mean {
        for (to, count) in counts(places, use_init_val) {
            values[to] = values[to].div_euclid(count as i128);
        }
    }
    Ok(Tensor::from_i128(data.element_type(), data.shape(), &values)?)
}

/// How many elements each place that is hit sums up.
fn counts(places: &[usize], use_init_val: bool) -> std::collections::HashMap<usize, usize> {
    let mut counts = std::collections::HashMap::new();
    for &to in places {
        *counts.entry(to).or_insert(usize::from(use_init_val)) += 1;
    }
    counts
}

impl Operation for ScatterNdUpdate {
    fn type_name(&self) -> &'static str {
        "ScatterNDUpdate"
    }

    fn opset(&self) -> u32 {
        self.opset
    }

    fn attributes(&self) -> Vec<(&'static str, String)> {
        match self.opset {
            15.. => vec![("reduction", word_of(REDUCTIONS, &self.reduction))],
            _ => Vec::new(),
        }
    }

    fn input_count(&self) -> RangeInclusive<usize> {
        3..=3
    }

    fn infer(&self, inputs: &[Input]) -> Result<Vec<OutputInfo>, OpError> {
        let (data, indices, updates) = (&inputs[0], &inputs[1], &inputs[2]);
        support::integers(indices, "the indices")?;
        let element_type = support::same_type(data, updates)?;
        let Some((depth, outer)) = indices.shape.split_last() else {
            bail!("the indices: expected at least one axis, found none");
        };
        if let Some(depth) = *depth {
            let Some(slice) = data.shape.get(depth..) else {
                bail!(
                    "tuples of {depth} indices into data {}",
                    support::show(data.shape)
                );
            };
            let expected = [outer, slice].concat();
            support::shape_is(updates, &expected, "updates")?;
        }
        Ok(vec![support::output(element_type, data.shape.to_vec())])
    }

    fn evaluate(&self, inputs: &[Tensor], _: &[OutputInfo]) -> Result<Vec<Tensor>, OpError> {
        let (data, indices, updates) = (&inputs[0], &inputs[1], &inputs[2]);
        let (shape, list) = (data.shape(), indices.to_i64());
        let depth = indices.shape().last().copied().unwrap_or(0);
        let inner = support::product(&shape[depth..]);
        let tuples = support::product(&indices.shape()[..indices.shape().len() - 1]);
        let mut places = Vec::with_capacity(updates.len());
        for tuple in 0..tuples {
            let mut at = 0;
            for (d, &length) in shape[..depth].iter().enumerate() {
                at = at * length + support::index(list[tuple * depth + d], length)?;
            }
            places.extend(at * inner..(at + 1) * inner);
        }
        if self.reduction == Reduction::None {
            let places = places.into_iter().enumerate().map(|(from, to)| (to, from));
            return Ok(vec![support::overwrite(data, updates, places)?]);
        }
        Ok(vec![reduce(self.reduction, true, data, updates, &places)?])
    }
}
