//! Element-wise operations without a chain, and the way out: the reference evaluator.

use flow_model::op::{BinaryKind, Op};
use flow_model::{ElementType, Graph, Node, NodeId, OutputInfo, Value};

use super::chain::stored_table;
use super::{Action, Form, Function, Lowering};
use crate::error::CompileError;
use crate::rows::has_function;

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
        let action = match &node.op {
            Op::Quantize(q) => Action::Quantize(q.clone(), self.literal_quantization(id)),
            Op::Lookup(l) => Action::Table(stored_table(l, self.element_type(node.inputs[0]))),
            Op::Unary(kind) if f32s && has_function(*kind) => Action::Apply(Function::Unary(*kind)),
            Op::Clamp { min, max } if f32s => Action::Apply(Function::Clamp { min: *min, max: *max }),
            Op::Binary(kind) if f32s && has_kernel(*kind) => Action::Binary(*kind),
            Op::Softmax { axis } if f32s => {
                let rank = graph.info(output).shape.len() as i64;
                if *axis != -1 && *axis != rank - 1 {
                    return Ok(false);
                }
                let input = self.materialize(node.inputs[0], Form::Plain)?;
                let tensor = self.produce(output, Form::Plain);
                self.push(Action::Softmax, vec![input], vec![tensor], id);
                return Ok(true);
            }
            _ => return Ok(false),
        };
        let mut inputs = Vec::new();
        for &input in &node.inputs {
            inputs.push(self.materialize(input, Form::Any)?);
        }
        let form = self.form_of(output, &inputs);
        let tensor = self.produce(output, form);
        if let Action::Quantize(..) = action
            && let Some(index) = graph
                .parameters
                .iter()
                .position(|&p| Value::of(p) == node.inputs[0])
            && self.users[node.inputs[0].node.index()].len() == 1
        {
            self.draft.input_quantize[index] = Some(self.draft.steps.len());
        }
        self.push(action, inputs, vec![tensor], id);
        Ok(true)
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

fn has_kernel(kind: BinaryKind) -> bool {
    matches!(
        kind,
        BinaryKind::Add
            | BinaryKind::Subtract
            | BinaryKind::Multiply
            | BinaryKind::Divide
            | BinaryKind::Maximum
            | BinaryKind::Minimum
            | BinaryKind::SquaredDifference
    )
}
