//! Embedding bags: sums or means of rows of a table, for recommendation models.

use std::ops::RangeInclusive;

use crate::error::{OpError, bail};
use crate::graph::OutputInfo;
use crate::op::Op;
use crate::operation::Operation;
use crate::ops::attributes::{Attributes, word_of};
use crate::ops::support::{self, Input};
use crate::tensor::Tensor;

/// How the rows of each bag are listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Bags {
    /// Inputs table, indices `[n]`, offsets `[bags]`, optional default index, optional weights `[n]`.
    Offsets,
    /// Inputs table, indices `[bags, n]`, optional weights of that shape.
    Packed,
    /// Inputs table, indices `[n]`, segment of each index `[n]`, number of segments, optional default index,
    /// optional weights `[n]`.
    Segments,
}

/// EmbeddingBagOffsetsSum-3, EmbeddingBagPackedSum-3, EmbeddingSegmentsSum-3, EmbeddingBagOffsets-15 and
/// EmbeddingBagPacked-15. An empty bag is the row of the default index, zeros without one or if it is -1.
#[derive(Debug, Clone)]
struct EmbeddingBag {
    bags: Bags,
    mean: bool,
    opset: u32,
}

const REDUCTIONS: &[(&str, bool)] = &[("sum", false), ("mean", true)];

/// Reads an operation of this family; `None` if it is of another.
pub(super) fn parse(a: &Attributes) -> Result<Option<Op>, OpError> {
    let (bags, opset) = match a.kind {
        "EmbeddingBagOffsetsSum" => (Bags::Offsets, 3),
        "EmbeddingBagPackedSum" => (Bags::Packed, 3),
        "EmbeddingSegmentsSum" => (Bags::Segments, 3),
        "EmbeddingBagOffsets" => (Bags::Offsets, 15),
        "EmbeddingBagPacked" => (Bags::Packed, 15),
        _ => return Ok(None),
    };
    let mean = opset >= 15 && a.word("reduction", REDUCTIONS, Some(false))?;
    Ok(Some(Op::standard(EmbeddingBag { bags, mean, opset })))
}

impl EmbeddingBag {
    /// The optional inputs: default index and weights.
    fn optional<'a, T>(&self, inputs: &'a [T]) -> (Option<&'a T>, Option<&'a T>) {
        match self.bags {
            Bags::Offsets => (inputs.get(3), inputs.get(4)),
            Bags::Packed => (None, inputs.get(2)),
            Bags::Segments => (inputs.get(4), inputs.get(5)),
        }
    }

    /// The positions in the indices that each bag takes.
    fn members(&self, inputs: &[Tensor]) -> Result<Vec<Vec<usize>>, OpError> {
        let count = inputs[1].len();
        match self.bags {
            Bags::Packed => {
                let [bags, n] = support::lengths(&inputs[1], "the indices")?;
                Ok((0..bags).map(|b| (b * n..(b + 1) * n).collect()).collect())
            }
            Bags::Offsets => {
                let offsets = inputs[2].to_i64();
                let starts: Result<Vec<usize>, OpError> = offsets
                    .iter()
                    .map(|&o| match usize::try_from(o) {
                        Ok(o) if o <= count => Ok(o),
                        _ => bail!("offset {o} is outside the {count} indices"),
                    })
                    .collect();
                let starts = starts?;
                let ends = starts.iter().skip(1).copied().chain([count]);
                Ok(starts.iter().zip(ends).map(|(&s, e)| (s..e).collect()).collect())
            }
            Bags::Segments => {
                let segments = support::only(&inputs[3].to_i64(), "the number of segments")?;
                let Some(segments) = usize::try_from(segments)
                    .ok()
                    .filter(|&s| s <= crate::ops::MAX_ELEMENTS)
                else {
                    bail!(
                        "the number of segments is {segments}: expected 0 to {}",
                        crate::ops::MAX_ELEMENTS
                    );
                };
                let mut members = vec![Vec::new(); segments];
                for (i, segment) in inputs[2].to_i64().into_iter().enumerate() {
                    members[support::index(segment.max(-1), segments)?].push(i);
                }
                Ok(members)
            }
        }
    }
}

impl Operation for EmbeddingBag {
    fn type_name(&self) -> &'static str {
        match (self.bags, self.opset) {
            (Bags::Offsets, 3) => "EmbeddingBagOffsetsSum",
            (Bags::Packed, 3) => "EmbeddingBagPackedSum",
            (Bags::Offsets, _) => "EmbeddingBagOffsets",
            (Bags::Packed, _) => "EmbeddingBagPacked",
            (Bags::Segments, _) => "EmbeddingSegmentsSum",
        }
    }

    fn opset(&self) -> u32 {
        self.opset
    }

    fn attributes(&self) -> Vec<(&'static str, String)> {
        match self.opset {
            15.. => vec![("reduction", word_of(REDUCTIONS, &self.mean))],
            _ => Vec::new(),
        }
    }

    fn input_count(&self) -> RangeInclusive<usize> {
        match self.bags {
            Bags::Offsets => 3..=5,
            Bags::Packed => 2..=3,
            Bags::Segments => 4..=6,
        }
    }

    fn infer(&self, inputs: &[Input]) -> Result<Vec<OutputInfo>, OpError> {
        let table = &inputs[0];
        let indices = inputs[1].shape.len();
        if table.shape.is_empty() || indices != if self.bags == Bags::Packed { 2 } else { 1 } {
            bail!(
                "a table {} does not go with indices {}",
                support::show(table.shape),
                support::show(inputs[1].shape)
            );
        }
        support::integers(&inputs[1], "the indices")?;
        let bags = match self.bags {
            Bags::Packed => inputs[1].shape[0],
            Bags::Offsets => support::dims::<1>(&inputs[2], "the offsets")?[0],
            Bags::Segments => {
                let [segments] = support::dims(&inputs[2], "the segments")?;
                support::same_dim(segments, inputs[1].shape[0], "segments and indices")?;
                support::scalar(&inputs[3], "the number of segments")?.and_then(|s| usize::try_from(s).ok())
            }
        };
        if let (_, Some(weights)) = self.optional(inputs) {
            support::same_type(table, weights)?;
            if weights.shape.len() != indices {
                bail!(
                    "weights {} for indices {}",
                    support::show(weights.shape),
                    support::show(inputs[1].shape)
                );
            }
            for (&a, &b) in weights.shape.iter().zip(inputs[1].shape) {
                support::same_dim(a, b, "weights and indices")?;
            }
        }
        let mut shape = table.shape.to_vec();
        shape[0] = bags;
        Ok(vec![support::output(table.element_type, shape)])
    }

    fn evaluate(&self, inputs: &[Tensor], _: &[OutputInfo]) -> Result<Vec<Tensor>, OpError> {
        let table = &inputs[0];
        let rows = table.shape()[0];
        let width = support::product(&table.shape()[1..]);
        let values = table.to_f32();
        let indices = inputs[1].to_i64();
        let (default, weights) = self.optional(inputs);
        let default = match default {
            Some(index) => Some(support::only(&index.to_i64(), "the default index")?).filter(|&i| i != -1),
            None => None,
        };
        let weights = weights.map(Tensor::to_f32);
        let members = self.members(inputs)?;
        let mut sums = vec![0f32; members.len() * width];
        for (members, sum) in members.iter().zip(sums.chunks_mut(width.max(1))) {
            let mut add = |row: i64, weight: f32| -> Result<(), OpError> {
                let row = support::index(row, rows)?;
                let values = &values[row * width..][..width];
                sum.iter_mut().zip(values).for_each(|(s, &v)| *s += v * weight);
                Ok(())
            };
            match (members.is_empty(), default) {
                (true, Some(row)) => add(row, 1.0)?,
                _ => {
                    for &i in members {
                        add(indices[i], weights.as_ref().map_or(1.0, |w| w[i]))?;
                    }
                }
            }
            if self.mean && !members.is_empty() {
                sum.iter_mut().for_each(|s| *s /= members.len() as f32);
            }
        }
        let mut shape = table.shape().to_vec();
        shape[0] = members.len();
        Ok(vec![support::from_f32(table.element_type(), &shape, &sums)?])
    }
}
