//! GroupNormalization: MVN over groups of channels, then scale and bias per channel.

use std::ops::RangeInclusive;

use crate::error::{OpError, bail};
use crate::graph::OutputInfo;
use crate::op::{MvnAttrs, MvnAxes, Op};
use crate::operation::Operation;
use crate::ops::attributes::Attributes;
use crate::ops::support::{self, Input};
use crate::tensor::Tensor;

/// GroupNormalization-12: inputs data `[N, C, spatial..]`, scale `[C]`, bias `[C]`.
#[derive(Debug, Clone)]
struct GroupNormalization {
    num_groups: usize,
    epsilon: f32,
}

/// Reads an operation of this family; `None` if it is of another.
pub(crate) fn parse(a: &Attributes) -> Result<Option<Op>, OpError> {
    if a.kind != "GroupNormalization" {
        return Ok(None);
    }
    let num_groups = a.size("num_groups", None)?;
    if num_groups == 0 {
        bail!("attribute `num_groups`: expected at least 1, found 0");
    }
    let epsilon = a.float("epsilon", None)?;
    if !(epsilon > 0.0 && epsilon.is_finite()) {
        bail!("attribute `epsilon`: expected a positive number, found {epsilon}");
    }
    Ok(Some(Op::standard(GroupNormalization { num_groups, epsilon })))
}

impl Operation for GroupNormalization {
    fn type_name(&self) -> &'static str {
        "GroupNormalization"
    }

    fn opset(&self) -> u32 {
        12
    }

    fn attributes(&self) -> Vec<(&'static str, String)> {
        vec![
            ("num_groups", self.num_groups.to_string()),
            ("epsilon", self.epsilon.to_string()),
        ]
    }

    fn input_count(&self) -> RangeInclusive<usize> {
        3..=3
    }

    fn infer(&self, inputs: &[Input]) -> Result<Vec<OutputInfo>, OpError> {
        let data = &inputs[0];
        support::floats(data, "the data")?;
        let Some(&(mut channels)) = data.shape.get(1) else {
            bail!("expected data [N, C, ..], found {}", support::show(data.shape));
        };
        for (parameter, what) in inputs[1..].iter().zip(["scale", "bias"]) {
            support::same_type(data, parameter)?;
            let [length] = support::dims(parameter, what)?;
            channels = support::same_dim(channels, length, "channels and parameters")?;
        }
        if channels.is_some_and(|c| c % self.num_groups != 0) {
            bail!("{} groups do not divide the channels", self.num_groups);
        }
        let mut shape = data.shape.to_vec();
        shape[1] = channels;
        Ok(vec![support::output(data.element_type, shape)])
    }

    fn evaluate(&self, inputs: &[Tensor], _: &[OutputInfo]) -> Result<Vec<Tensor>, OpError> {
        let data = &inputs[0];
        let (batch, channels) = (data.shape()[0], data.shape()[1]);
        let count = support::product(&data.shape()[1..]);
        let grouped = data.reshaped(&[batch, self.num_groups, count / self.num_groups])?;
        let mvn = MvnAttrs {
            axes: MvnAxes::List(vec![2]),
            normalize_variance: true,
            eps: self.epsilon,
            eps_outside: false,
        };
        let mut values = super::mvn::evaluate(&mvn, &[grouped])?.swap_remove(0).to_f32();
        let (scale, bias) = (inputs[1].to_f32(), inputs[2].to_f32());
        for (i, plane) in values
            .chunks_exact_mut((count / channels.max(1)).max(1))
            .enumerate()
        {
            let c = i % channels;
            plane.iter_mut().for_each(|v| *v = *v * scale[c] + bias[c]);
        }
        Ok(vec![support::from_f32(
            data.element_type(),
            data.shape(),
            &values,
        )?])
    }
}
