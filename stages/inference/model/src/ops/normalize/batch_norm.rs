//! BatchNormInference: normalization of channels by given statistics.

use std::ops::RangeInclusive;

use crate::error::{OpError, bail};
use crate::graph::OutputInfo;
use crate::op::Op;
use crate::operation::Operation;
use crate::ops::attributes::Attributes;
use crate::ops::support::{self, Input};
use crate::tensor::Tensor;

/// BatchNormInference-1/5: `(x - mean) / sqrt(variance + epsilon) * gamma + beta` per channel (axis 1). Inputs are
/// data, gamma, beta, mean, variance; in version 1 gamma and beta come first.
#[derive(Debug, Clone)]
struct BatchNorm {
    version: u32,
    epsilon: f32,
}

/// Reads an operation of this family; `None` if it is of another.
pub(crate) fn parse(a: &Attributes) -> Result<Option<Op>, OpError> {
    if a.kind != "BatchNormInference" {
        return Ok(None);
    }
    let name = if a.get("eps").is_some() { "eps" } else { "epsilon" };
    let epsilon = a.float(name, None)?;
    let version = if a.opset >= 5 { 5 } else { 1 };
    Ok(Some(Op::standard(BatchNorm { version, epsilon })))
}

impl BatchNorm {
    /// Data, gamma, beta, mean, variance.
    fn order<'a, T>(&self, inputs: &'a [T]) -> [&'a T; 5] {
        let at = if self.version == 1 {
            [2, 0, 1, 3, 4]
        } else {
            [0, 1, 2, 3, 4]
        };
        at.map(|i| &inputs[i])
    }
}

impl Operation for BatchNorm {
    fn type_name(&self) -> &'static str {
        "BatchNormInference"
    }

    fn opset(&self) -> u32 {
        self.version
    }

    fn attributes(&self) -> Vec<(&'static str, String)> {
        vec![("epsilon", self.epsilon.to_string())]
    }

    fn input_count(&self) -> RangeInclusive<usize> {
        5..=5
    }

    fn infer(&self, inputs: &[Input]) -> Result<Vec<OutputInfo>, OpError> {
        let [data, parameters @ ..] = self.order(inputs);
        support::floats(data, "the data")?;
        let Some(&(mut channels)) = data.shape.get(1) else {
            bail!("expected data [N, C, ..], found {}", support::show(data.shape));
        };
        for parameter in parameters {
            support::same_type(data, parameter)?;
            let [length] = support::dims(parameter, "a parameter")?;
            channels = support::same_dim(channels, length, "channels and parameters")?;
        }
        let mut shape = data.shape.to_vec();
        shape[1] = channels;
        Ok(vec![support::output(data.element_type, shape)])
    }

    fn evaluate(&self, inputs: &[Tensor], _: &[OutputInfo]) -> Result<Vec<Tensor>, OpError> {
        let [data, parameters @ ..] = self.order(inputs);
        let [gamma, beta, mean, variance] = parameters.map(Tensor::to_f64);
        let epsilon = f64::from(self.epsilon);
        let factor: Vec<f64> = gamma
            .iter()
            .zip(&variance)
            .map(|(g, v)| g / (v + epsilon).sqrt())
            .collect();
        let (channels, inner) = (factor.len(), support::product(&data.shape()[2..]));
        let mut values = data.to_f64();
        for (i, plane) in values.chunks_exact_mut(inner.max(1)).enumerate() {
            let c = i % channels;
            plane
                .iter_mut()
                .for_each(|v| *v = (*v - mean[c]) * factor[c] + beta[c]);
        }
        Ok(vec![Tensor::from_f64(
            data.element_type(),
            data.shape(),
            &values,
        )?])
    }
}
