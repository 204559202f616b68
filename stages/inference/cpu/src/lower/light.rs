//! Element-wise operations without a chain, and the way out: the reference evaluator.

use std::sync::Arc;

use flow_model::op::{BinaryKind, Op, Quantize};
use flow_model::{ElementType, Graph, Node, NodeId, OutputInfo, Value};

use super::chain::stored_table;
use super::{Action, Form, Home, Lowering, Rounding, TensorDraft};
use crate::error::CompileError;
use crate::kernels::AlignedVec;
use crate::kernels::functions::{self, Unary};
use crate::placement::Placement;
use crate::rows::{function, operation};

impl Lowering<'_> {
    /// Handles an element-wise operation; false if it is none.
    pub(super) fn emit_light(&mut self, id: NodeId) -> Result<bool, CompileError> {
        let graph = self.graph;
        let node = graph.node(id);
        let output = Value::of(id);
        let f32s = node
            .inputs
            .iter()
            .chain([&output])
            .all(|&v| self.element_type(v) == ElementType::F32);
        if let Op::Quantize(q) = &node.op {
            self.emit_quantization(id, q)?;
            return Ok(true);
        }
        let mut rounding = Rounding::Nothing;
        let action = match &node.op {
            Op::Lookup(l) => {
                let table = self.literal_table(id);
                rounding = match &table {
                    Ok(_) => Rounding::Exact,
                    Err(why) => Rounding::Unguarded(why.clone()),
                };
                let stored = || stored_table(l, self.element_type(node.inputs[0]));
                Action::Table(table.ok().flatten().unwrap_or_else(stored))
            }
            Op::Clamp { min, max } if f32s => Action::Clamp(*min, *max),
            Op::Unary(kind) if f32s => match function(*kind) {
                Some((function, parameter)) => Action::Apply(function, parameter),
                None => return Ok(false),
            },
            Op::Binary(BinaryKind::Power) if f32s && let Some(power) = self.fixed_power(node.inputs[1]) => {
                let base = self.materialize(node.inputs[0], Form::Any)?;
                let form = self.form_of(output, &[base]);
                let tensor = self.produce(output, form);
                self.push(Action::Apply(power, 0.0), vec![base], vec![tensor], id);
                return Ok(true);
            }
            Op::PRelu if f32s => return self.emit_slopes(id),
            Op::Binary(kind) if f32s => match operation(*kind) {
                Some(operation) => Action::Combine(operation),
                None => return Ok(false),
            },
            _ => return Ok(false),
        };
        let mut inputs = Vec::new();
        for &input in &node.inputs {
            inputs.push(self.materialize(input, Form::Any)?);
        }
        let form = self.form_of(output, &inputs);
        let tensor = self.produce(output, form);
        self.push(action, inputs, vec![tensor], id);
        self.note_rounding(rounding, None);
        Ok(true)
    }

    /// A quantization of real values: where they are not the model's to the last bit, codes next to ties are evaluated
    /// again from what the values were computed of.
    fn emit_quantization(&mut self, id: NodeId, q: &Quantize) -> Result<(), CompileError> {
        let (data, output) = (self.graph.node(id).inputs[0], Value::of(id));
        let straight = self.literal_quantization(id);
        let exact = straight
            .as_ref()
            .map_err(String::clone)
            .and_then(|_| self.exact(data));
        let (rounding, recall, leaves) = match exact {
            Ok(()) => (Rounding::Exact, None, Vec::new()),
            Err(why) => match self.recall(id) {
                Ok((recall, leaves)) => (Rounding::Guarded, Some(Box::new(recall)), leaves),
                Err(and) if and == why => (Rounding::Unguarded(why), None, Vec::new()),
                Err(and) => (Rounding::Unguarded(format!("{why}; {and}")), None, Vec::new()),
            },
        };
        let mut inputs = vec![self.materialize(data, Form::Any)?];
        for leaf in leaves {
            inputs.push(self.materialize(leaf, Form::Any)?);
        }
        let form = self.form_of(output, &inputs[..1]);
        let tensor = self.produce(output, form);
        if let Some(index) = self.graph.parameters.iter().position(|&p| Value::of(p) == data)
            && self.users[data.node.index()].len() == 1
        {
            self.draft.input_quantize[index] = Some(self.draft.steps.len());
        }
        let action = Action::Quantize(q.clone(), straight.ok().flatten());
        self.push(action, inputs, vec![tensor], id);
        self.note_rounding(rounding, recall);
        Ok(())
    }

    /// PRelu with constant slopes.
    fn emit_slopes(&mut self, id: NodeId) -> Result<bool, CompileError> {
        let node = self.graph.node(id);
        let (data, output) = (node.inputs[0], Value::of(id));
        let Some(slopes) = self.constant(node.inputs[1]) else {
            return Ok(false);
        };
        let rank = self.shape(data).len();
        // Slopes of one axis lie along axis 1, whatever the rank.
        let shape = match *slopes.shape() {
            [n] if rank > 1 => {
                let mut shape = vec![1; rank];
                shape[1] = n;
                shape
            }
            ref shape => shape.to_vec(),
        };
        let home = Home::Constant(Arc::new(AlignedVec::from_slice(slopes.bytes())));
        self.draft.tensors.push(TensorDraft {
            element_type: ElementType::F32,
            placement: Placement::plain(&shape),
            fill: 0,
            home,
        });
        let slopes = self.draft.tensors.len() - 1;
        let data = self.materialize(data, Form::Any)?;
        let form = self.form_of(output, &[data]);
        let tensor = self.produce(output, form);
        self.push(
            Action::Combine(functions::leaky),
            vec![data, slopes],
            vec![tensor],
            id,
        );
        Ok(true)
    }

    /// The function in place of a power with that exponent.
    fn fixed_power(&self, exponent: Value) -> Option<Unary> {
        let exponent = self.constant(exponent)?;
        (exponent.len() == 1).then(|| functions::fixed_power(exponent.to_f32()[0]))?
    }

    /// Leaves an operation to the reference evaluator: a graph of its own with its constants inside.
    pub(super) fn emit_evaluation(&mut self, id: NodeId) -> Result<(), CompileError> {
        let graph = self.graph;
        let node = graph.node(id);
        let mut small = Graph::default();
        let mut inputs = Vec::new();
        let mut sources: Vec<(Value, Value)> = Vec::new();
        for &input in &node.inputs {
            if let Some((_, value)) = sources.iter().find(|(from, _)| *from == input) {
                inputs.push(*value);
                continue;
            }
            let origin = graph.node(input.node);
            let value = if matches!(origin.op, Op::Constant(_)) {
                Value::of(small.push(origin.clone()))
            } else {
                let parameter = small.push(Node {
                    name: origin.name.clone(),
                    line: origin.line,
                    op: Op::Parameter,
                    inputs: Vec::new(),
                    outputs: vec![graph.info(input).clone()],
                });
                small.parameters.push(parameter);
                Value::of(parameter)
            };
            sources.push((input, value));
            inputs.push(value);
        }
        let operation = small.push(Node {
            inputs,
            ..node.clone()
        });
        let mut outputs = Vec::new();
        for (port, info) in node.outputs.iter().enumerate() {
            let port = port as u32;
            let result = small.push(Node {
                name: node.name.clone(),
                line: node.line,
                op: Op::Result,
                inputs: vec![Value {
                    node: operation,
                    port,
                }],
                outputs: vec![OutputInfo {
                    names: Vec::new(),
                    ..info.clone()
                }],
            });
            small.results.push(result);
            outputs.push(Value { node: id, port });
        }
        let mut tensors = Vec::new();
        for (from, _) in &sources {
            if !matches!(graph.node(from.node).op, Op::Constant(_)) {
                tensors.push(self.materialize(*from, Form::Any)?);
            }
        }
        let results = outputs.iter().map(|&v| self.produce(v, Form::Plain)).collect();
        self.push(Action::Evaluate(Box::new(small)), tensors, results, id);
        Ok(())
    }
}
