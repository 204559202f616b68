//! Operations on whole tensors that have kernels.

use flow_model::op::{EpsMode, InterpolateMode, Op};
use flow_model::ops::{Input, axis_taps};
use flow_model::{Dim, ElementType, NodeId, Tensor, Value};

use super::{Action, Form, Lowering};
use crate::dense::{
    Dense, Geometry, Interpolate, MatMul, Normalize, Pool, Pooling, Reduce, Rule, Softmax, Task, Typed,
};
use crate::error::CompileError;
use crate::kernels::sums::Normalization;

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
        if self.shape(output).contains(&0) || inputs.is_empty() {
            return None;
        }
        if let Some(task) = self.typed(&node.op) {
            let values = inputs.get(usize::from(task == Task::Select))?;
            return Plan::new(
                Typed::new(task, self.element_type(*values))?,
                inputs.clone(),
                [Form::Any; 2],
            );
        }
        if !f32s(&[output, inputs[0]]) {
            return None;
        }
        let shape = self.shape(inputs[0]);
        let axis = |axis: i64| usize::try_from(if axis < 0 { axis + shape.len() as i64 } else { axis }).ok();
        match &node.op {
            Op::Softmax { axis: along } => Plan::new(
                Softmax::new(axis(*along)?, shape.len()),
                vec![inputs[0]],
                [Form::Any; 2],
            ),
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
                let geometry = Geometry::new(&shape, &self.shape(inputs[1]), transpose)?;
                let computed = inputs.iter().all(|&v| self.constant(v).is_none());
                let mut product = MatMul::new(geometry, computed);
                let mut read = vec![inputs[0]];
                match self.constant(inputs[1]) {
                    Some(weights) => product.pack(&weights.to_f32()).ok()?,
                    None => read.push(inputs[1]),
                }
                Plan::new(product, read, [Form::Plain; 2])
            }
            Op::Mvn(attrs) => {
                let list = match inputs.get(1) {
                    Some(&axes) => Some(self.constant(axes)?.to_i64()),
                    None => None,
                };
                let mut axes = attrs.reduced_axes(shape.len(), list.as_deref()).ok()?;
                axes.sort_unstable();
                let how = Normalization::of(attrs, &shape, &axes);
                let plan = Normalize::new(Rule::Mvn(how), &shape, &axes);
                Plan::new(plan, vec![inputs[0]], [Form::Plain; 2])
            }
            Op::NormalizeL2 { eps, eps_mode } => {
                let axes = self.constant(inputs[1])?.to_i64();
                let axes: Vec<usize> = axes.into_iter().map(axis).collect::<Option<_>>()?;
                let rule = Rule::Norm(f64::from(*eps), *eps_mode == EpsMode::Add);
                let plan = Normalize::new(rule, &shape, &axes);
                Plan::new(plan, vec![inputs[0]], [Form::Plain; 2])
            }
            Op::AvgPool { pool, exclude_pad } => {
                let pooling = Pooling::Average {
                    exclude_pad: *exclude_pad,
                };
                let plan = Pool::new(pooling, pool, &shape, &self.shape(output))?;
                Plan::new(plan, vec![inputs[0]], [Form::Image; 2])
            }
            Op::MaxPool(pool) if !self.is_read(id, 1) => {
                let plan = Pool::new(Pooling::Max, pool, &shape, &self.shape(output))?;
                Plan::new(plan, vec![inputs[0]], [Form::Image; 2])
            }
            Op::Interpolate(attrs) if attrs.mode != InterpolateMode::Nearest => {
                let others: Option<Vec<&Tensor>> = inputs[1..].iter().map(|&v| self.constant(v)).collect();
                let others = others?;
                let shapes: Vec<Vec<Dim>> = others
                    .iter()
                    .map(|t| t.shape().iter().map(|&d| Some(d)).collect())
                    .collect();
                let data = self.graph.info(inputs[0]);
                let mut known = vec![Input {
                    element_type: data.element_type,
                    shape: &data.shape,
                    value: None,
                }];
                known.extend(others.iter().zip(&shapes).map(|(tensor, shape)| Input {
                    element_type: tensor.element_type(),
                    shape,
                    value: Some(tensor),
                }));
                let passes = axis_taps(attrs, &known, &shape, &self.shape(output)).ok()??;
                let form = self.form_of(output, &[]);
                Plan::new(Interpolate::new(passes), vec![inputs[0]], [form; 2])
            }
            _ => None,
        }
    }

    /// The element-wise operation on integers and booleans, if it is one.
    fn typed(&self, op: &Op) -> Option<Task> {
        match op {
            Op::Binary(kind) => Some(Task::Binary(*kind)),
            Op::Convert(to) => Some(Task::Convert(*to)),
            Op::Select => Some(Task::Select),
            _ => None,
        }
    }

    /// Whether somebody reads an output of an operation.
    pub(super) fn is_read(&self, id: NodeId, port: u32) -> bool {
        let mut inputs = self.graph.nodes.iter().flat_map(|n| &n.inputs);
        inputs.any(|v| v.node == id && v.port == port)
    }
}
