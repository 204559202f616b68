//! ScaledDotProductAttention: `softmax(Q K^T * scale + mask) V`.

use std::ops::RangeInclusive;

use super::attributes::Attributes;
use super::support::{self, Input};
use super::{matmul, softmax};
use crate::error::{OpError, bail};
use crate::graph::OutputInfo;
use crate::op::Op;
use crate::operation::Operation;
use crate::tensor::{ElementType, Tensor};

/// ScaledDotProductAttention-13: query `[.., L, E]`, key `[.., S, E]`, value `[.., S, EV]`, optional mask (booleans:
/// where keys are seen; numbers: added) that broadcasts to `[.., L, S]`, optional scale, by default
/// `1 / sqrt(E)`; output `[.., L, EV]`.
#[derive(Debug, Clone)]
struct Attention {
    /// Each query sees keys up to its own place; there is no mask then.
    causal: bool,
}

/// Reads an operation of this family; `None` if it is of another.
pub(crate) fn parse(a: &Attributes) -> Result<Option<Op>, OpError> {
    if a.kind != "ScaledDotProductAttention" {
        return Ok(None);
    }
    let causal = a.flag("causal", Some(false))?;
    Ok(Some(Op::standard(Attention { causal })))
}

impl Operation for Attention {
    fn type_name(&self) -> &'static str {
        "ScaledDotProductAttention"
    }

    fn opset(&self) -> u32 {
        13
    }

    fn attributes(&self) -> Vec<(&'static str, String)> {
        vec![("causal", self.causal.to_string())]
    }

    fn input_count(&self) -> RangeInclusive<usize> {
        3..=5
    }

    fn infer(&self, inputs: &[Input]) -> Result<Vec<OutputInfo>, OpError> {
        let [query, key, value] = [&inputs[0], &inputs[1], &inputs[2]];
        support::floats(query, "the query")?;
        support::same_type(query, key)?;
        support::same_type(query, value)?;
        if [query, key, value].iter().any(|i| i.shape.len() < 2) {
            bail!("expected matrices, found {}", support::show(query.shape));
        }
        let (weights, _) = matmul::product_shape(query.shape, key.shape, false, true)?;
        let (shape, _) = matmul::product_shape(&weights, value.shape, false, false)?;
        if let Some(mask) = inputs.get(3).filter(|m| !self.causal && !m.shape.is_empty()) {
            let together = support::broadcast(&weights, mask.shape)?;
            if together.len() != weights.len() {
                bail!(
                    "a mask {} does not broadcast to {}",
                    support::show(mask.shape),
                    support::show(&weights)
                );
            }
        }
        if inputs.get(4).and_then(Input::count).is_some_and(|n| n != 1) {
            bail!("expected one scale");
        }
        Ok(vec![support::output(query.element_type, shape)])
    }

    fn evaluate(&self, inputs: &[Tensor], _: &[OutputInfo]) -> Result<Vec<Tensor>, OpError> {
        let multiply = |transpose_b| Op::MatMul {
            transpose_a: false,
            transpose_b,
        };
        let scale = match inputs.get(4) {
            Some(scale) => support::only(&scale.to_f32(), "the scale")?,
            None => 1.0 / (inputs[0].shape().last().copied().unwrap_or(1) as f32).sqrt(),
        };
        let products = matmul::evaluate_computed(&multiply(true), &inputs[..2])?.swap_remove(0);
        let shape = products.shape().to_vec();
        let mut weights: Vec<f32> = products.to_f32().iter().map(|v| v * scale).collect();
        let keys = shape[shape.len() - 1];
        if self.causal {
            let queries = shape[shape.len() - 2];
            for (at, weight) in weights.iter_mut().enumerate() {
                if at % keys > at / keys % queries {
                    *weight = f32::NEG_INFINITY;
                }
            }
        } else if let Some(mask) = inputs.get(3) {
            let places = support::broadcast_offsets(mask.shape(), &shape);
            let mask = match mask.element_type() {
                ElementType::Boolean => {
                    let added = |v: i64| if v == 0 { f32::NEG_INFINITY } else { 0.0 };
                    mask.to_i64().into_iter().map(added).collect()
                }
                _ => mask.to_f32(),
            };
            for (weight, place) in weights.iter_mut().zip(places) {
                *weight += mask[place];
            }
        }
        let weights = Tensor::from_slice(&shape, &weights)?;
        let weights = softmax::evaluate(-1, &[weights])?.swap_remove(0);
        let value = Tensor::from_slice(inputs[2].shape(), &inputs[2].to_f32())?;
        let found = matmul::evaluate_computed(&multiply(false), &[weights, value])?.swap_remove(0);
        let element_type = inputs[0].element_type();
        Ok(vec![support::from_f32(
            element_type,
            found.shape(),
            &found.to_f32(),
        )?])
    }
}
