//! Operations on whole tensors that have kernels.

use flow_model::op::Op;
use flow_model::{ElementType, NodeId, Value};

use super::{Action, Form, Lowering};
use crate::dense::{Dense, Geometry, MatMul, Reduce, Softmax};
use crate::error::CompileError;

/// The plan of an operation, what it reads, and how inputs and output shall lie.
struct Plan {
    dense: Box<dyn Dense>,
    inputs: Vec<Value>,
    forms: [Form; 2],
}

impl Plan {
    fn new(dense: impl Dense + 'static, inputs: Vec<Value>, forms: [Form; 2]) -> Option<Self> {
        Some(Self {
            dense: Box::new(dense),
            inputs,
            forms,
        })
    }
}

impl Lowering<'_> {
    /// Handles an operation on whole tensors; false if it is none with a kernel.
    pub(super) fn emit_dense(&mut self, id: NodeId) -> Result<bool, CompileError> {
        let Some(Plan { dense, inputs, forms }) = self.dense(id) else {
            return Ok(false);
        };
        let mut tensors = Vec::new();
        for value in inputs {
            tensors.push(self.materialize(value, forms[0])?);
        }
        let output = Value::of(id);
        let form = match forms[1] {
            Form::Any => self.form_of(output, &tensors),
            form => form,
        };
        let tensor = self.produce(output, form);
        self.push(Action::Dense(dense), tensors, vec![tensor], id);
        Ok(true)
    }

    fn dense(&self, id: NodeId) -> Option<Plan> {
        let node = self.graph.node(id);
        let inputs = &node.inputs;
        let f32s = |values: &[Value]| values.iter().all(|&v| self.element_type(v) == ElementType::F32);
        let output = Value::of(id);
        if !f32s(&[output]) || self.shape(output).contains(&0) || !f32s(inputs.get(..1)?) {
            return None;
        }
        let shape = self.shape(inputs[0]);
        let axis = |axis: i64| usize::try_from(if axis < 0 { axis + shape.len() as i64 } else { axis }).ok();
        match &node.op {
            Op::Softmax { axis: along } => {
                Plan::new(Softmax::new(axis(*along)?), vec![inputs[0]], [Form::Any; 2])
            }
            Op::Reduce { kind, .. } => {
                let mut axes: Vec<usize> = self
                    .constant(inputs[1])?
                    .to_i64()
                    .into_iter()
                    .map(axis)
                    .collect::<Option<_>>()?;
                axes.sort_unstable();
                axes.dedup();
                Plan::new(
                    Reduce::new(*kind, axes)?,
                    vec![inputs[0]],
                    [Form::Any, Form::Plain],
                )
            }
            Op::MatMul {
                transpose_a,
                transpose_b,
            } if f32s(inputs) => {
                let transpose = [*transpose_a, *transpose_b];
                let mut product = MatMul::new(Geometry::new(&shape, &self.shape(inputs[1]), transpose)?);
                let mut read = vec![inputs[0]];
                match self.constant(inputs[1]) {
                    Some(weights) => product.pack(&weights.to_f32()).ok()?,
                    None => read.push(inputs[1]),
                }
                Plan::new(product, read, [Form::Plain; 2])
            }
            _ => None,
        }
    }
}
