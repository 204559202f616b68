//! Concat: codes of one type lie side by side, whatever their scales.

use std::sync::Arc;

use flow_model::graph::{Node, NodeId, OutputInfo, Value};
use flow_model::op::Dequantize;

use super::Sweep;
use super::coded::{Coded, Meaning};
use super::layout::normalized;
use crate::dequantization::{at, from_pairs};
use crate::report::{Reason, ReasonCode};

impl Sweep<'_> {
    pub(super) fn concat(&mut self, id: NodeId, node: &Node, axis: i64) -> Result<bool, Reason> {
        let known = node.inputs.iter().filter(|&&v| self.coded(v).is_some()).count();
        if known == 0 {
            return Ok(false);
        }
        let rank = node.outputs[0].shape.len();
        let mut parts = Vec::with_capacity(node.inputs.len());
        for (port, &input) in node.inputs.iter().enumerate() {
            parts.push(self.as_affine(input).ok_or_else(|| {
                Reason::new(
                    ReasonCode::DataNotQuantized,
                    format!(
                        "input {port} of \"{}\", \"{}\", is not quantized",
                        node.name,
                        self.old.node(input.node).name
                    ),
                )
            })?);
        }
        let element_type = parts[0].element_type;
        let mismatch = || {
            Reason::new(
                ReasonCode::DifferentQuantization,
                format!(
                    "the inputs of \"{}\" have scales that no axis can hold",
                    node.name
                ),
            )
        };
        if parts.iter().any(|p| p.element_type != element_type) {
            return Err(mismatch());
        }
        let along = normalized(axis, rank).ok_or_else(mismatch)?;
        let joined = self.joined(node, &parts, along).ok_or_else(mismatch)?;
        let codes = self.new.push(Node {
            inputs: parts.iter().map(|p| p.codes).collect(),
            outputs: vec![OutputInfo {
                element_type,
                shape: node.outputs[0].shape.clone(),
                names: Vec::new(),
            }],
            ..node.clone()
        });
        let low = parts.iter().map(|p| p.range.0).min().unwrap_or(0);
        let high = parts.iter().map(|p| p.range.1).max().unwrap_or(255);
        self.coded.insert(
            Value::of(id),
            Coded {
                codes: Value::of(codes),
                element_type,
                range: (low, high),
                meaning: Meaning::Affine(joined),
            },
        );
        Ok(true)
    }

    /// One dequantization for all parts: their common one, or one pair per index of the axis of the Concat.
    fn joined(&self, node: &Node, parts: &[Coded], along: usize) -> Option<Arc<Dequantize>> {
        let first = parts[0].affine()?;
        if parts.iter().all(|p| p.affine() == Some(first)) && first.axis != Some(along) {
            return Some(first.clone());
        }
        let mut pairs = Vec::new();
        for (part, &input) in parts.iter().zip(&node.inputs) {
            let d = part.affine()?;
            if d.axis.is_some_and(|a| a != along) {
                return None;
            }
            let length = self.old.info(input).shape[along]?;
            for i in 0..length {
                pairs.push((f64::from(at(&d.scale, i)), f64::from(at(&d.zero_point, i))));
            }
        }
        (!pairs.is_empty()).then(|| Arc::new(from_pairs(&pairs, Some(along))))
    }
}
