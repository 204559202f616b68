//! Operations that only move elements: they become views, and views become copies where needed.

use std::sync::Arc;

use flow_model::op::{InterpolateMode, Op};
use flow_model::{ElementType, Graph, Node, NodeId, OutputInfo, Tensor, Value};

use super::{Action, CopyPart, Form, Home, Lowering, Moved, TensorId};
use crate::error::CompileError;
use crate::placement::Placement;

/// For each element in logical order, the index of its source, in logical order too.
pub(crate) type IndexMap = Arc<[u32]>;

impl Lowering<'_> {
    /// Handles an operation that only moves elements; false if it is none.
    pub(super) fn emit_movement(&mut self, id: NodeId) -> Result<bool, CompileError> {
        let graph = self.graph;
        let node = graph.node(id);
        match &node.op {
            Op::Reshape { .. } | Op::Squeeze | Op::Unsqueeze => {
                self.moved.insert(
                    Value::of(id),
                    Moved {
                        base: node.inputs[0],
                        map: None,
                    },
                );
                Ok(true)
            }
            Op::Transpose
            | Op::Split { .. }
            | Op::VariadicSplit
            | Op::Slice
            | Op::StridedSlice(_)
            | Op::Gather { .. }
            | Op::GatherNd { .. }
            | Op::Broadcast
                if self.constant_but_first(node) =>
            {
                self.view(id)
            }
            Op::Interpolate(attrs)
                if attrs.mode == InterpolateMode::Nearest
                    && attrs.pads_begin.iter().chain(&attrs.pads_end).all(|&p| p == 0)
                    && self.constant_but_first(node) =>
            {
                self.view(id)
            }
            Op::Standard(operation) if operation.moves_values() && self.constant_but_first(node) => {
                self.view(id)
            }
            Op::Concat { axis } => {
                let rank = graph.info(Value::of(id)).shape.len();
                let axis = if *axis < 0 { axis + rank as i64 } else { *axis };
                let Ok(axis) = usize::try_from(axis) else {
                    return Ok(false);
                };
                self.concat(id, axis)?;
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    /// Notes the outputs of an operation as views of its first input; false if its map cannot be had.
    fn view(&mut self, id: NodeId) -> Result<bool, CompileError> {
        let node = self.graph.node(id);
        let Some(maps) = index_maps(self.graph, node) else {
            return Ok(false);
        };
        let count = count(&self.shape(node.inputs[0]));
        for (port, map) in maps.into_iter().enumerate() {
            let value = Value {
                node: id,
                port: port as u32,
            };
            // All of it as it lies: the bytes themselves.
            let in_order = map.len() == count && map.iter().enumerate().all(|(i, &from)| i == from as usize);
            let moved = Moved {
                base: node.inputs[0],
                map: (!in_order).then_some(map),
            };
            self.moved.insert(value, moved);
        }
        Ok(true)
    }

    fn constant_but_first(&self, node: &Node) -> bool {
        node.inputs[1..]
            .iter()
            .all(|v| matches!(self.graph.node(v.node).op, Op::Constant(_)))
    }

    fn concat(&mut self, id: NodeId, axis: usize) -> Result<(), CompileError> {
        let value = Value::of(id);
        let mut inputs = Vec::new();
        let mut parts = Vec::new();
        let mut start = 0;
        for &input in &self.graph.node(id).inputs {
            let shape = self.shape(input);
            let (tensor, map) = self.source(input)?;
            let length = shape[axis];
            inputs.push(tensor);
            parts.push(CopyPart {
                shape,
                map,
                axis,
                start,
            });
            start += length;
        }
        let output = self.produce(value, self.form_of(value, &inputs));
        self.push(Action::Copy(parts), inputs, vec![output], id);
        Ok(())
    }

    /// A tensor in memory and the map that leads to `value` from it (`None`: in order).
    fn source(&mut self, value: Value) -> Result<(TensorId, Option<IndexMap>), CompileError> {
        if self.held.contains_key(&value) {
            return Ok((self.materialize(value, Form::Any)?, None));
        }
        let Some(moved) = self.moved.get(&value).cloned() else {
            return Ok((self.materialize(value, Form::Any)?, None));
        };
        let (tensor, inner) = self.source(moved.base)?;
        let map = match (moved.map, inner) {
            (None, inner) => inner,
            (outer, None) => outer,
            (Some(outer), Some(inner)) => Some(outer.iter().map(|&i| inner[i as usize]).collect()),
        };
        // Same elements in the same order, but another shape: only a map tells copies so.
        let map = map.or_else(|| {
            let held = self.draft.tensors[tensor].placement.shape();
            (held != self.shape(value)).then(|| (0..count(&held) as u32).collect())
        });
        Ok((tensor, map))
    }

    pub(super) fn materialize_moved(
        &mut self,
        value: Value,
        moved: Moved,
        form: Form,
    ) -> Result<TensorId, CompileError> {
        if moved.map.is_none() && self.shape(moved.base) == self.shape(value) {
            let tensor = self.materialize(moved.base, form)?;
            self.held.entry(value).or_default().push(tensor);
            return Ok(tensor);
        }
        let plain_base = moved.map.is_none() && form != Form::Image;
        if plain_base {
            let base = self.materialize(moved.base, Form::Any)?;
            if let Placement::Plain { .. } = self.draft.tensors[base].placement {
                let tensor = self.add_tensor(value, Form::Plain, Home::Alias(base));
                self.held.entry(value).or_default().push(tensor);
                return Ok(tensor);
            }
        }
        let (base, map) = self.source(value)?;
        let form = match form {
            Form::Any => self.form_of(value, &[base]),
            form => form,
        };
        let mut part = self.whole(value);
        part.map = map;
        let tensor = self.produce(value, form);
        self.push(Action::Copy(vec![part]), vec![base], vec![tensor], value.node);
        Ok(tensor)
    }
}

/// Most elements of a value for which a map is made; larger ones are left to the reference evaluator.
const MAX_MAP: usize = 1 << 26;

fn count(shape: &[usize]) -> usize {
    shape.iter().product()
}

/// Where each output element of an operation that only moves elements of its first input comes from: the
/// operation itself, run on the indices of the elements.
fn index_maps(graph: &Graph, node: &Node) -> Option<Vec<IndexMap>> {
    let shape = graph.info(node.inputs[0]).static_shape()?;
    let most = MAX_MAP.min(flow_model::limits::max_elements());
    if count(&shape) > most {
        return None;
    }
    let indices: Vec<i32> = (0..count(&shape) as i32).collect();
    let mut small = Graph::default();
    let parameter = small.push(Node {
        name: "indices".into(),
        line: 0,
        op: Op::Parameter,
        inputs: Vec::new(),
        outputs: vec![OutputInfo::fixed(ElementType::I32, &shape)],
    });
    small.parameters.push(parameter);
    let mut inputs = vec![Value::of(parameter)];
    for constant in &node.inputs[1..] {
        inputs.push(Value::of(small.push(graph.node(constant.node).clone())));
    }
    let mut outputs = node.outputs.clone();
    for output in &mut outputs {
        output.element_type = ElementType::I32;
    }
    let ports = outputs.len();
    let moved = small.push(Node {
        inputs,
        outputs: outputs.clone(),
        ..node.clone()
    });
    for (port, output) in outputs.into_iter().enumerate() {
        let result = small.push(Node {
            name: "moved".into(),
            line: 0,
            op: Op::Result,
            inputs: vec![Value {
                node: moved,
                port: port as u32,
            }],
            outputs: vec![output],
        });
        small.results.push(result);
    }
    let indices = Tensor::from_slice(&shape, &indices).ok()?;
    let results = flow_model::evaluate(&small, &[indices]).ok()?;
    debug_assert_eq!(results.len(), ports);
    results
        .iter()
        .map(|t| Some(t.to_vec::<i32>()?.into_iter().map(|i| i as u32).collect()))
        .collect()
}
