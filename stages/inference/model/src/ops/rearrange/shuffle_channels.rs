//! ShuffleChannels: channels of groups take turns.

use std::ops::RangeInclusive;

use super::Places;
use crate::error::{OpError, bail};
use crate::graph::OutputInfo;
use crate::op::Op;
use crate::operation::Operation;
use crate::ops::attributes::Attributes;
use crate::ops::support::{self, Input};
use crate::tensor::Tensor;

/// ShuffleChannels-1: output channel `i * group + g` is the `i`-th channel of group `g`.
#[derive(Debug, Clone)]
struct ShuffleChannels {
    /// The axis of the channels.
    axis: i64,
    /// Number of groups.
    group: usize,
}

/// Reads an operation of this family; `None` if it is of another.
pub(super) fn parse(a: &Attributes) -> Result<Option<Op>, OpError> {
    if a.kind != "ShuffleChannels" {
        return Ok(None);
    }
    let (axis, group) = (a.int("axis", Some(1))?, a.size("group", Some(1))?);
    if group == 0 {
        bail!("attribute `group`: expected at least 1, found 0");
    }
    Ok(Some(Op::standard(ShuffleChannels { axis, group })))
}

impl Operation for ShuffleChannels {
    fn type_name(&self) -> &'static str {
        "ShuffleChannels"
    }

    fn opset(&self) -> u32 {
        // It came with the third set.
        3
    }

    fn attributes(&self) -> Vec<(&'static str, String)> {
        vec![("axis", self.axis.to_string()), ("group", self.group.to_string())]
    }

    fn input_count(&self) -> RangeInclusive<usize> {
        1..=1
    }

    fn infer(&self, inputs: &[Input]) -> Result<Vec<OutputInfo>, OpError> {
        let data = &inputs[0];
        let axis = support::axis(self.axis, data.shape.len())?;
        if let Some(channels) = data.shape[axis]
            && channels % self.group != 0
        {
            bail!("{channels} channels do not split into {} groups", self.group);
        }
        Ok(vec![support::output(data.element_type, data.shape.to_vec())])
    }

    fn evaluate(&self, inputs: &[Tensor], _: &[OutputInfo]) -> Result<Vec<Tensor>, OpError> {
        let data = &inputs[0];
        let axis = support::axis(self.axis, data.shape().len())?;
        let Places(mut places) = Places::same(data.shape());
        let channels = &places[axis];
        let per_group = channels.len() / self.group;
        let turn = |i: usize| (0..self.group).map(move |g| channels[g * per_group + i]);
        places[axis] = (0..per_group).flat_map(turn).collect();
        Ok(vec![Places(places).take(data)?])
    }

    fn moves_values(&self) -> bool {
        true
    }
}
