//! Bodies put into the graph around them, where it is known before the first input how often they run.

use std::sync::Arc;

use crate::body::{BodyInput, Branch, Iteration, Slicing};
use crate::error::{ModelError, OpError};
use crate::graph::{Graph, Node, NodeId, OutputInfo, Value};
use crate::op::Op;
use crate::ops::{self, control};
use crate::passes::{eliminate_dead, fold_constants};
use crate::tensor::{ElementType, Tensor};

/// Most iterations that are put behind one another.
const MAX_UNROLLED: usize = 256;
/// Most nodes that a graph may grow to.
const MAX_NODES: usize = 50_000;

/// Whether the graph has operations with bodies.
pub fn has_bodies(graph: &Graph) -> bool {
    graph.nodes.iter().any(|n| control::has_bodies(&n.op))
}

/// Replaces each If whose condition is constant by its branch, and each Loop or TensorIterator that runs a known
/// number of times by as many copies of its body, so that passes and plugins work on them as on any other
/// operation. Nodes are named after the operation, the number of the iteration and their name in the body. What
/// runs as often as its values say, more than 256 times, or would grow the graph beyond 50000 nodes stays.
///
/// # Errors
/// If the graph does not fit together, which a graph that was read does not cause.
pub fn inline_bodies(graph: &Graph) -> Result<Graph, ModelError> {
    let mut inlined = graph.clone();
    for _ in 0..=crate::body::MAX_DEPTH {
        if !has_bodies(&inlined) {
            break;
        }
        // Conditions and trip counts are often computed from shapes.
        let folded = fold_constants(&inlined)?;
        let mut inliner = Inliner {
            old: &folded,
            new: Graph {
                name: folded.name.clone(),
                bounds: graph.bounds.clone(),
                ..Graph::default()
            },
            map: Vec::with_capacity(folded.nodes.len()),
            changed: false,
        };
        inliner.run()?;
        let changed = inliner.changed;
        inlined = inliner.new;
        if !changed {
            break;
        }
        inlined.infer_shapes()?;
        inlined = eliminate_dead(&inlined);
        inlined.bounds.clone_from(&graph.bounds);
    }
    Ok(inlined)
}

struct Inliner<'a> {
    old: &'a Graph,
    new: Graph,
    /// For each node of the old graph what stands for its outputs.
    map: Vec<Vec<Value>>,
    changed: bool,
}

impl Inliner<'_> {
    fn run(&mut self) -> Result<(), ModelError> {
        for (id, node) in self.old.iter() {
            let inputs: Vec<Value> = node
                .inputs
                .iter()
                .map(|v| self.map[v.node.index()][v.port as usize])
                .collect();
            let values = match self.inline(node, &inputs)? {
                Some(values) => {
                    self.changed = true;
                    self.name_outputs(node, &values);
                    values
                }
                None => {
                    let new = self.new.push(Node {
                        inputs,
                        ..node.clone()
                    });
                    (0..node.outputs.len().max(1) as u32)
                        .map(|port| Value { node: new, port })
                        .collect()
                }
            };
            if self.old.parameters.contains(&id) {
                self.new.parameters.push(values[0].node);
            }
            self.map.push(values);
        }
        // In the order of the old graph.
        let of = |ids: &[NodeId]| {
            ids.iter()
                .map(|id| self.map[id.index()][0].node)
                .collect::<Vec<_>>()
        };
        let (parameters, results) = (of(&self.old.parameters), of(&self.old.results));
        self.new.parameters = parameters;
        self.new.results = results;
        Ok(())
    }

    /// Gives the values the tensor names of the outputs they stand for.
    fn name_outputs(&mut self, node: &Node, values: &[Value]) {
        for (value, info) in values.iter().zip(&node.outputs) {
            let outputs = &mut self.new.nodes[value.node.index()].outputs;
            if let Some(output) = outputs.get_mut(value.port as usize) {
                output.names.extend(info.names.iter().cloned());
            }
        }
    }

    /// The values of the operation's outputs, if its bodies could be put in its place.
    fn inline(&mut self, node: &Node, inputs: &[Value]) -> Result<Option<Vec<Value>>, ModelError> {
        match &node.op {
            Op::If(branches) => {
                let Some(condition) = inputs.first().and_then(|&v| self.constant(v)) else {
                    return Ok(None);
                };
                let branch = match condition.to_i64().as_slice() {
                    [0] => &branches.else_body,
                    [_] => &branches.then_body,
                    _ => return Ok(None),
                };
                if self.new.nodes.len() + branch.graph.nodes.len() > MAX_NODES {
                    return Ok(None);
                }
                self.branch(node, branch, inputs).map(Some)
            }
            Op::Iteration(iteration) => self.iteration(node, iteration, inputs),
            _ => Ok(None),
        }
    }

    fn constant(&self, value: Value) -> Option<&Tensor> {
        match &self.new.node(value.node).op {
            Op::Constant(tensor) => Some(tensor),
            _ => None,
        }
    }

    fn branch(&mut self, node: &Node, branch: &Branch, inputs: &[Value]) -> Result<Vec<Value>, ModelError> {
        let fed: Option<Vec<Value>> = branch.inputs.iter().map(|&i| inputs.get(i).copied()).collect();
        let results = self.copy(&node.name, &branch.graph, &fed.ok_or_else(|| broken(node))?);
        let outputs: Option<Vec<Value>> = branch.outputs.iter().map(|&i| results.get(i).copied()).collect();
        outputs.ok_or_else(|| broken(node))
    }

    /// Adds the nodes of a body; gives what its Results pass through.
    fn copy(&mut self, prefix: &str, body: &Graph, fed: &[Value]) -> Vec<Value> {
        let mut map: Vec<Vec<Value>> = Vec::with_capacity(body.nodes.len());
        for (id, node) in body.iter() {
            let inputs: Vec<Value> = node
                .inputs
                .iter()
                .map(|v| map[v.node.index()][v.port as usize])
                .collect();
            let parameter = body.parameters.iter().position(|&p| p == id);
            let values = match (parameter.and_then(|i| fed.get(i)), &node.op) {
                (Some(&value), _) => vec![value],
                (None, Op::Result) => inputs,
                _ => {
                    let mut outputs = node.outputs.clone();
                    outputs.iter_mut().for_each(|o| o.names.clear());
                    let new = self.new.push(Node {
                        name: Arc::from(format!("{prefix}/{}", node.name)),
                        inputs,
                        outputs,
                        ..node.clone()
                    });
                    (0..node.outputs.len().max(1) as u32)
                        .map(|port| Value { node: new, port })
                        .collect()
                }
            };
            map.push(values);
        }
        body.results.iter().map(|id| map[id.index()][0]).collect()
    }

    fn iteration(
        &mut self,
        node: &Node,
        iteration: &Iteration,
        inputs: &[Value],
    ) -> Result<Option<Vec<Value>>, ModelError> {
        let infos: Vec<OutputInfo> = node.inputs.iter().map(|&v| self.old.info(v).clone()).collect();
        let constants: Vec<Option<Tensor>> = inputs.iter().map(|&v| self.constant(v).cloned()).collect();
        let known: Vec<ops::Input> = infos
            .iter()
            .zip(&constants)
            .map(|(info, value)| ops::Input {
                element_type: info.element_type,
                shape: &info.shape,
                value: value.as_ref(),
            })
            .collect();
        let folded = Iteration {
            graph: fold_constants(&iteration.graph)?,
            ..iteration.clone()
        };
        let count = control::trips(&folded, &known).ok().flatten();
        // A loop that never runs is left to the evaluator, which knows what comes out of it.
        let Some(count @ 1..=MAX_UNROLLED) = count else {
            return Ok(None);
        };
        let grown = count.saturating_mul(iteration.graph.nodes.len() + 8);
        if self.new.nodes.len().saturating_add(grown) > MAX_NODES {
            return Ok(None);
        }
        let mut kept: Vec<Vec<Value>> = vec![Vec::new(); iteration.outputs.len()];
        let mut last: Vec<Value> = Vec::new();
        for index in 0..count {
            let prefix = format!("{}/{index}", node.name);
            let mut fed = Vec::with_capacity(iteration.inputs.len());
            for (parameter, kind) in iteration.inputs.iter().enumerate() {
                fed.push(match kind {
                    BodyInput::Merged { result, .. } if index > 0 => {
                        *last.get(*result).ok_or_else(|| broken(node))?
                    }
                    BodyInput::Merged { input, .. } | BodyInput::Invariant { input } => {
                        *inputs.get(*input).ok_or_else(|| broken(node))?
                    }
                    BodyInput::Sliced { input, slicing } => {
                        let info = infos.get(*input).ok_or_else(|| broken(node))?;
                        let Some(part) = part(slicing, info, index) else {
                            return Ok(None);
                        };
                        let data = *inputs.get(*input).ok_or_else(|| broken(node))?;
                        self.slice(&format!("{prefix}/slice{parameter}"), data, part, info)
                    }
                    BodyInput::CurrentIteration => {
                        let id = iteration.graph.parameters.get(parameter);
                        let info = id.and_then(|id| iteration.graph.node(*id).outputs.first());
                        let info = info.ok_or_else(|| broken(node))?;
                        let shape = vec![1; info.shape.len()];
                        let tensor = Tensor::from_i128(info.element_type, &shape, &[index as i128]);
                        let tensor = tensor.map_err(|_| broken(node))?;
                        self.push(&format!("{prefix}/iteration"), Op::Constant(tensor), &[])
                    }
                });
            }
            last = self.copy(&prefix, &iteration.graph, &fed);
            for (output, kept) in iteration.outputs.iter().zip(&mut kept) {
                kept.push(*last.get(output.result).ok_or_else(|| broken(node))?);
            }
        }
        let mut outputs = Vec::with_capacity(kept.len());
        for (port, (output, mut parts)) in iteration.outputs.iter().zip(kept).enumerate() {
            outputs.push(match &output.concatenated {
                None => parts[count - 1],
                Some(slicing) => {
                    if slicing.stride < 0 {
                        parts.reverse();
                    }
                    let op = Op::Concat { axis: slicing.axis };
                    self.push(&format!("{}/joined{port}", node.name), op, &parts)
                }
            });
        }
        Ok(Some(outputs))
    }

    fn push(&mut self, name: &str, op: Op, inputs: &[Value]) -> Value {
        Value::of(self.new.push(Node {
            name: Arc::from(name),
            line: 0,
            op,
            inputs: inputs.to_vec(),
            outputs: vec![OutputInfo::fixed(ElementType::F32, &[])],
        }))
    }

    fn slice(&mut self, name: &str, data: Value, part: [i64; 3], info: &OutputInfo) -> Value {
        let [axis, start, stop] = part;
        let mut inputs = vec![data];
        for (what, value) in [("start", start), ("stop", stop), ("step", 1), ("axis", axis)] {
            // One element always fits.
            let tensor = Tensor::from_slice(&[1], &[value]).unwrap_or_else(|_| Tensor::scalar(value));
            inputs.push(self.push(&format!("{name}/{what}"), Op::Constant(tensor), &[]));
        }
        let value = self.push(name, Op::Slice, &inputs);
        self.new.nodes[value.node.index()].outputs[0].element_type = info.element_type;
        value
    }
}

/// Axis, begin and end of a part.
fn part(slicing: &Slicing, info: &OutputInfo, index: usize) -> Option<[i64; 3]> {
    let axis = ops::axis(slicing.axis, info.shape.len()).ok()?;
    let parts = slicing.parts(info.shape[axis]?).ok()?;
    let start = parts.start(index);
    Some([axis as i64, start as i64, (start + parts.step) as i64])
}

fn broken(node: &Node) -> ModelError {
    ModelError::Layer {
        layer: node.name.to_string(),
        kind: node.op.type_name().to_owned(),
        line: node.line,
        source: OpError("its ports do not fit its body".to_owned()),
    }
}
