//! Shape inference over a graph.

use std::collections::HashMap;

use crate::error::{ModelError, OpError, bail};
use crate::graph::{Graph, Node, OutputInfo, PartialShape, Value};
use crate::op::Op;
use crate::ops::{self, Input};
use crate::tensor::Tensor;
use crate::text::describe;

/// Most axes of a value.
pub(crate) const MAX_RANK: usize = 64;

/// Values of more elements are not computed while shapes are inferred.
const MAX_KNOWN: usize = 1024;

impl Graph {
    /// Computes type and shape of every value anew from the Parameters and Constants, and the padding that
    /// `auto_pad` chooses. What follows from shapes and small constants (ShapeOf, Gather, Concat.. up to a
    /// Reshape's pattern) is computed on the way.
    ///
    /// # Errors
    /// If the inputs of an operation do not fit it.
    pub fn infer_shapes(&mut self) -> Result<(), ModelError> {
        self.infer_each(|_, _, inferred| Ok(inferred))
    }

    /// The graph for other shapes of its Parameters, given in their order; `None` leaves an axis open.
    ///
    /// # Errors
    /// If there are more or fewer shapes than Parameters, or the inputs of an operation do not fit it.
    pub fn with_input_shapes(&self, shapes: &[PartialShape]) -> Result<Graph, ModelError> {
        let mut graph = self.clone();
        if shapes.len() != graph.parameters.len() {
            return Err(ModelError::Layer {
                layer: graph.name.clone(),
                kind: "network".to_owned(),
                line: 0,
                source: OpError(format!(
                    "expected {} input shapes, found {}",
                    graph.parameters.len(),
                    shapes.len()
                )),
            });
        }
        for (id, shape) in graph.parameters.iter().zip(shapes) {
            if let Some(output) = graph.nodes[id.index()].outputs.first_mut() {
                output.shape.clone_from(shape);
            }
        }
        graph.infer_shapes()?;
        Ok(graph)
    }

    /// Infers shapes and fails where they contradict what the nodes say already; axes that cannot be
    /// inferred keep what the nodes say, unless the lengths of axes depend on values somewhere: then what is said
    /// may be no more than a bound.
    pub(crate) fn check_shapes(&mut self) -> Result<(), ModelError> {
        let decided = |node: &Node| matches!(&node.op, Op::Standard(o) if o.decides_lengths());
        let bounds = self.nodes.iter().any(decided);
        self.infer_each(|node, port, inferred| {
            let Some(said) = node.outputs.get(port) else {
                return Ok(inferred);
            };
            let fits = |(a, b): (&Option<usize>, &Option<usize>)| a.is_none() || b.is_none() || a == b;
            if said.element_type != inferred.element_type
                || said.shape.len() != inferred.shape.len()
                || !said.shape.iter().zip(&inferred.shape).all(fits)
            {
                return Err(OpError(format!(
                    "output {port} is said to be {}, its inputs make it {}",
                    describe(said),
                    describe(&inferred)
                )));
            }
            let shape = said
                .shape
                .iter()
                .zip(&inferred.shape)
                .map(|(a, b)| b.or(a.filter(|_| !bounds)))
                .collect();
            Ok(OutputInfo { shape, ..inferred })
        })
    }

    fn infer_each(
        &mut self,
        merge: impl Fn(&Node, usize, OutputInfo) -> Result<OutputInfo, OpError>,
    ) -> Result<(), ModelError> {
        let mut known: HashMap<Value, Tensor> = HashMap::new();
        for index in 0..self.nodes.len() {
            let (before, rest) = self.nodes.split_at_mut(index);
            let node = &mut rest[0];
            let located = |node: &Node, source: OpError| ModelError::Layer {
                layer: node.name.to_string(),
                kind: node.op.type_name().to_owned(),
                line: node.line,
                source,
            };
            if matches!(node.op, Op::Parameter) {
                if node.outputs.len() != 1 {
                    let message = format!("expected one output, found {}", node.outputs.len());
                    return Err(located(node, OpError(message)));
                }
                continue;
            }
            let mut inputs = Vec::with_capacity(node.inputs.len());
            for value in &node.inputs {
                let from = before.get(value.node.index());
                let Some((from, info)) =
                    from.and_then(|f| f.outputs.get(value.port as usize).map(|i| (f, i)))
                else {
                    return Err(located(
                        node,
                        OpError(format!("{value:?} does not come before it")),
                    ));
                };
                inputs.push(Input {
                    element_type: info.element_type,
                    shape: &info.shape,
                    value: match &from.op {
                        Op::Constant(tensor) => Some(tensor),
                        _ => known.get(value),
                    },
                });
            }
            let inferred = ops::infer(&node.op, &inputs).map_err(|e| located(node, e))?;
            for info in &inferred {
                check_size(info).map_err(|e| located(node, e))?;
            }
            let values = small_values(&node.op, &inputs, &inferred);
            ops::settle(&mut node.op, &inputs);
            // A second output that nobody uses may be left out.
            let said = node.outputs.len();
            if said > inferred.len() {
                let message = format!("expected {} outputs, found {said}", inferred.len());
                return Err(located(node, OpError(message)));
            }
            let count = if said == 0 { inferred.len() } else { said };
            let mut outputs = Vec::with_capacity(count);
            for (port, info) in inferred.into_iter().take(count).enumerate() {
                let names = node
                    .outputs
                    .get(port)
                    .map(|o| o.names.clone())
                    .unwrap_or_default();
                let merged = merge(node, port, info).map_err(|e| located(node, e))?;
                outputs.push(OutputInfo { names, ..merged });
            }
            node.outputs = outputs;
            let id = crate::graph::NodeId(index as u32);
            for (port, tensor) in values.into_iter().enumerate() {
                let port = port as u32;
                known.insert(Value { node: id, port }, tensor);
            }
        }
        Ok(())
    }
}

/// Fails where a value cannot be held, whatever its open axes are.
fn check_size(info: &OutputInfo) -> Result<(), OpError> {
    let fixed: Vec<usize> = info.shape.iter().flatten().copied().collect();
    let bytes = crate::tensor::element_count(&fixed).and_then(|n| info.element_type.byte_len(n));
    let limit = crate::limits::memory();
    match bytes {
        _ if info.shape.len() > MAX_RANK => bail!(
            "its output has {} axes, expected at most {MAX_RANK}",
            info.shape.len()
        ),
        Some(bytes) if bytes <= limit => Ok(()),
        _ => bail!(
            "its output {} takes more than {} MiB, which is the limit (see FLOW_MEMORY_LIMIT)",
            describe(info),
            limit >> 20
        ),
    }
}

/// The outputs of an operation, if they follow from known inputs and all are small.
fn small_values(op: &Op, inputs: &[Input], outputs: &[OutputInfo]) -> Vec<Tensor> {
    let small = |shape: &[Option<usize>]| {
        shape
            .iter()
            .copied()
            .try_fold(1usize, |n, d| n.checked_mul(d?))
            .is_some_and(|n| n <= MAX_KNOWN)
    };
    if matches!(op, Op::Constant(_))
        || ops::control::has_bodies(op)
        || !outputs.iter().all(|o| small(&o.shape))
    {
        return Vec::new();
    }
    if let (Op::ShapeOf(element_type), Some(input)) = (op, inputs.first()) {
        let lengths: Option<Vec<i128>> = input.shape.iter().map(|d| d.map(|d| d as i128)).collect();
        return lengths
            .and_then(|l| Tensor::from_i128(*element_type, &[l.len()], &l).ok())
            .into_iter()
            .collect();
    }
    if !inputs.iter().all(|i| small(i.shape)) {
        return Vec::new();
    }
    let tensors: Option<Vec<Tensor>> = inputs.iter().map(|i| i.value.cloned()).collect();
    // What does not evaluate here is reported when the network runs.
    tensors.and_then(|t| ops::fold(op, &t)).unwrap_or_default()
}
