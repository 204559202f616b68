//! FakeQuantize that stays in f32: all of them in a quantized model that runs without low precision
//! transformations, else those that nothing integer reads.

use std::collections::HashMap;

use flow_model::fusing::{Quantization, quantizations};
use flow_model::op::Op;
use flow_model::ops::fake_quantize::Formula;
use flow_model::{ElementType, Graph, NodeId, Tensor, Value};

use super::{Action, Form, Lowering};
use crate::dense::FakeQuantize;
use crate::error::CompileError;
use crate::kernels::fake_quantize::Grid;

/// Most intervals of one FakeQuantize: each takes six numbers.
const MAX_INTERVALS: usize = 1 << 22;

/// How one FakeQuantize is computed.
#[derive(Debug)]
pub(super) struct Rounding {
    /// What is quantized, before constants that are part of the limits.
    source: Value,
    dense: FakeQuantize,
    /// The operations that add or multiply these constants, and a Relu that the limits make idle; in order.
    members: Vec<NodeId>,
}

impl Lowering<'_> {
    /// Takes for each FakeQuantize the operations that its limits cover.
    pub(super) fn plan_roundings(&mut self) {
        let graph = self.graph;
        let originals = self.original.map(formulas).unwrap_or_default();
        // Transformations have moved constants into the limits themselves.
        let as_read = !graph
            .nodes
            .iter()
            .any(|n| matches!(n.op, Op::Quantize(_) | Op::Dequantize(_)));
        let mut found = HashMap::new();
        for ((id, _), quantization) in graph.iter().zip(quantizations(graph)) {
            let formula = original(&originals, &graph.node(id).name);
            let planned = quantization.and_then(|q| self.rounding(id, &q, formula, as_read));
            if let Some(rounding) = planned {
                rounding.members.iter().for_each(|m| self.taken[m.index()] = true);
                found.insert(id, rounding);
            }
        }
        self.roundings = found;
    }

    fn rounding(
        &self,
        id: NodeId,
        quantization: &Quantization,
        formula: Option<Formula>,
        as_read: bool,
    ) -> Option<Rounding> {
        let node = self.graph.node(id);
        let constant = |v: Value| self.constant(v).cloned();
        let input = *node.inputs.first()?;
        let (source, limits) = if as_read {
            (quantization.source(), quantization.limits(constant).ok()?)
        } else {
            let limits: Vec<Tensor> = node.inputs[1..]
                .iter()
                .map(|&v| constant(v))
                .collect::<Option<_>>()?;
            (input, limits.try_into().ok()?)
        };
        let output = self.shape(Value::of(id));
        if self.element_type(source) != ElementType::F32
            || self.shape(source) != output
            || output.contains(&0)
        {
            return None;
        }
        let shape = limits_shape(&limits)?;
        let count = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d))?;
        if count > MAX_INTERVALS || shape.len() > output.len() {
            return None;
        }
        let grid = Grid {
            last: (quantization.levels() - 1) as f32,
            fused: formula.unwrap_or(quantization.formula()) == Formula::Fused,
        };
        let values: Vec<Vec<f32>> = limits.iter().map(|t| broadcast(t, &shape)).collect();
        let sets = (0..count).map(|i| std::array::from_fn(|limit| values[limit][i]));
        Some(Rounding {
            source,
            dense: FakeQuantize::new(grid, shape.clone(), sets),
            members: between(self.graph, input, source)?,
        })
    }

    /// Emits the step of a FakeQuantize; false if it has none.
    pub(super) fn emit_rounding(&mut self, id: NodeId) -> Result<bool, CompileError> {
        let Some(rounding) = self.roundings.remove(&id) else {
            return Ok(false);
        };
        let input = self.materialize(rounding.source, Form::Any)?;
        let output = Value::of(id);
        let form = self.form_of(output, &[input]);
        let tensor = self.produce(output, form);
        self.push(
            Action::Dense(Box::new(rounding.dense)),
            vec![input],
            vec![tensor],
            id,
        );
        if let Some(step) = self.draft.steps.last_mut() {
            step.members = rounding.members;
        }
        Ok(true)
    }
}

/// How each FakeQuantize of a model is computed, by name.
fn formulas(model: &Graph) -> HashMap<&str, Formula> {
    let all = model.nodes.iter().zip(quantizations(model));
    all.filter_map(|(node, q)| Some((&*node.name, q?.formula())))
        .collect()
}

/// That of the FakeQuantize of which `name` does the work; `NAME/0` does that of `NAME` on the first input of a Concat.
fn original(formulas: &HashMap<&str, Formula>, name: &str) -> Option<Formula> {
    let whole = || formulas.get(name.rsplit_once('/')?.0);
    formulas.get(name).or_else(whole).copied()
}

/// The operations from `source` to `value`, which have one input that is not constant.
fn between(graph: &Graph, mut value: Value, source: Value) -> Option<Vec<NodeId>> {
    let mut members = Vec::new();
    while value != source {
        members.push(value.node);
        let inputs = &graph.node(value.node).inputs;
        value = *inputs
            .iter()
            .find(|v| !matches!(graph.node(v.node).op, Op::Constant(_)))?;
    }
    members.reverse();
    Some(members)
}

/// The shape that all limits broadcast to.
fn limits_shape(limits: &[Tensor; 4]) -> Option<Vec<usize>> {
    let rank = limits.iter().map(|t| t.shape().len()).max()?;
    let mut shape = vec![1; rank];
    for tensor in limits {
        let missing = rank - tensor.shape().len();
        for (to, &length) in shape[missing..].iter_mut().zip(tensor.shape()) {
            match (*to, length) {
                (_, 1) => {}
                (1, length) => *to = length,
                (a, b) if a == b => {}
                _ => return None,
            }
        }
    }
    Some(shape)
}

/// The values of a tensor broadcast to a shape.
fn broadcast(tensor: &Tensor, shape: &[usize]) -> Vec<f32> {
    let values = tensor.to_f32();
    flow_model::ops::broadcast_offsets(tensor.shape(), shape)
        .into_iter()
        .map(|at| values[at])
        .collect()
}
