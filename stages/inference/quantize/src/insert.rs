//! Building the quantized network.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use flow_model::op::{BinaryKind, Op};
use flow_model::{ElementType, Graph, Node, NodeId, OutputInfo, Tensor, Value};

use crate::error::QuantizeError;
use crate::placement::{ActivationPoint, Edge, WeightPoint};
use crate::ranges::Limits;
use crate::weights::{LEVELS, QuantizedWeights};

/// How quantized weights are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WeightStorage {
    /// As `i8` codes, a Convert and a Multiply: a quarter of the size.
    #[default]
    I8,
    /// As the rounded f32 values and a FakeQuantize.
    F32,
}

/// Everything that is decided about a quantized network.
#[derive(Debug, Clone, Default)]
pub struct Scheme {
    /// Quantized values with their limits.
    pub activations: Vec<(ActivationPoint, Limits)>,
    /// Quantized weights.
    pub weights: Vec<(WeightPoint, QuantizedWeights)>,
    /// What is added to each output channel of an operation with weights, next to the bias it has.
    pub shifts: BTreeMap<NodeId, Vec<f32>>,
}

/// The network with FakeQuantize operations where the scheme says.
///
/// # Errors
/// If the shapes no longer fit, which no scheme made for the graph causes.
pub fn insert(graph: &Graph, scheme: &Scheme, storage: WeightStorage) -> Result<Graph, QuantizeError> {
    let mut builder = Builder {
        source: graph,
        made: Graph {
            name: graph.name.clone(),
            ..Graph::default()
        },
        ids: Vec::with_capacity(graph.nodes.len()),
        values: HashMap::new(),
        edges: HashMap::new(),
    };
    let points: BTreeMap<Value, &(ActivationPoint, Limits)> =
        scheme.activations.iter().map(|p| (p.0.value, p)).collect();
    let weights: BTreeMap<Edge, &QuantizedWeights> =
        scheme.weights.iter().map(|(p, w)| (p.edge, w)).collect();
    let biases = biases(graph, &scheme.shifts);
    for (id, node) in graph.iter() {
        for port in 0..node.inputs.len() {
            let edge = Edge { node: id, port };
            if let Some(weights) = weights.get(&edge) {
                let name = &graph.node(node.inputs[port].node).name;
                let value = builder.weights(name, weights, storage)?;
                builder.edges.insert(edge, value);
            }
            if let Some((tensor, name)) = biases.get(&edge) {
                let value = builder.constant(name, tensor.clone());
                builder.edges.insert(edge, value);
            }
        }
        builder.copy(id);
        if let Some(shift) = scheme.shifts.get(&id)
            && bias_edge(graph, id).is_none()
        {
            builder.add_bias(id, shift)?;
        }
        for port in 0..node.outputs.len() as u32 {
            let value = Value { node: id, port };
            if let Some((point, limits)) = points.get(&value) {
                builder.fake_quantize(point, limits)?;
            }
        }
    }
    let Builder { mut made, ids, .. } = builder;
    let copies = |list: &[NodeId]| list.iter().map(|id| ids[id.index()]).collect();
    made.parameters = copies(&graph.parameters);
    made.results = copies(&graph.results);
    made.infer_shapes()?;
    Ok(Graph {
        bounds: graph.bounds.clone(),
        ..flow_model::passes::eliminate_dead(&made)
    })
}

/// The input that holds the bias of an operation with weights: the constant of the Add that alone uses it.
pub(crate) fn bias_edge(graph: &Graph, id: NodeId) -> Option<Edge> {
    let mut users = graph
        .iter()
        .filter(|(_, n)| n.inputs.iter().any(|v| v.node == id));
    let (user, node) = users.next()?;
    if users.next().is_some() || !matches!(node.op, Op::Binary(BinaryKind::Add)) {
        return None;
    }
    let port = (0..2).find(|&p| matches!(graph.node(node.inputs[p].node).op, Op::Constant(_)))?;
    let Op::Constant(bias) = &graph.node(node.inputs[port].node).op else {
        return None;
    };
    let (axis, channels) = channel_axis(graph, id)?;
    let rank = graph.info(Value::of(id)).shape.len();
    // One value per output channel, or one for all.
    let from = rank.checked_sub(bias.shape().len())?;
    let fits = bias
        .shape()
        .iter()
        .enumerate()
        .all(|(a, &d)| d == 1 || (a + from == axis && d == channels));
    (fits && bias.element_type() == ElementType::F32).then_some(Edge { node: user, port })
}

/// The axis of the output of an operation with weights that holds the output channels, and their number.
pub(crate) fn channel_axis(graph: &Graph, id: NodeId) -> Option<(usize, usize)> {
    let shape = &graph.info(Value::of(id)).shape;
    let node = graph.node(id);
    let axis = match node.op {
        Op::MatMul { .. } if crate::placement::kinds::weight_port(graph, node) == Some(0) => {
            shape.len().checked_sub(2)?
        }
        Op::MatMul { .. } => shape.len().checked_sub(1)?,
        _ => 1,
    };
    Some((axis, (*shape.get(axis)?)?))
}

/// New bias constants by the edge that takes them.
fn biases(graph: &Graph, shifts: &BTreeMap<NodeId, Vec<f32>>) -> BTreeMap<Edge, (Tensor, Arc<str>)> {
    let mut biases = BTreeMap::new();
    for (&id, shift) in shifts {
        let Some(edge) = bias_edge(graph, id) else {
            continue;
        };
        let constant = graph.node(graph.node(edge.node).inputs[edge.port].node);
        let Op::Constant(bias) = &constant.op else {
            continue;
        };
        let old = bias.to_f32();
        let new: Vec<f32> = shift
            .iter()
            .enumerate()
            .map(|(c, s)| old.get(c).or(old.first()).copied().unwrap_or_default() + s)
            .collect();
        if let Some(tensor) = channel_tensor(graph, id, &new) {
            biases.insert(edge, (tensor, constant.name.clone()));
        }
    }
    biases
}

/// One value per output channel of an operation, shaped to be added to its output.
fn channel_tensor(graph: &Graph, id: NodeId, values: &[f32]) -> Option<Tensor> {
    let (axis, channels) = channel_axis(graph, id)?;
    let mut shape = vec![1; graph.info(Value::of(id)).shape.len()];
    shape[axis] = channels;
    Tensor::from_slice(&shape, values).ok()
}

struct Builder<'a> {
    source: &'a Graph,
    made: Graph,
    /// For each node of the source its copy.
    ids: Vec<NodeId>,
    values: HashMap<Value, Value>,
    edges: HashMap<Edge, Value>,
}

impl Builder<'_> {
    fn push(&mut self, name: &str, op: Op, inputs: Vec<Value>) -> Value {
        let id = self.made.push(Node {
            name: name.into(),
            line: 0,
            op,
            inputs,
            outputs: Vec::new(),
        });
        Value::of(id)
    }

    fn constant(&mut self, name: &str, tensor: Tensor) -> Value {
        self.push(name, Op::Constant(tensor), Vec::new())
    }

    fn copy(&mut self, id: NodeId) {
        let node = self.source.node(id);
        let inputs = node.inputs.iter().enumerate().map(|(port, value)| {
            let edge = self.edges.get(&Edge { node: id, port });
            edge.or_else(|| self.values.get(value)).copied().unwrap_or(*value)
        });
        let inputs = inputs.collect();
        let new = self.made.push(Node {
            inputs,
            ..node.clone()
        });
        for port in 0..node.outputs.len().max(1) as u32 {
            self.values
                .insert(Value { node: id, port }, Value { node: new, port });
        }
        self.ids.push(new);
    }

    fn add_bias(&mut self, id: NodeId, shift: &[f32]) -> Result<(), QuantizeError> {
        let Some(tensor) = channel_tensor(self.source, id, shift) else {
            return Ok(());
        };
        let name = self.source.node(id).name.clone();
        let bias = self.constant(&format!("{name}/bias"), tensor);
        let value = self.values[&Value::of(id)];
        // Tensor names stay with what the users read.
        let names = std::mem::take(&mut self.made.nodes[value.node.index()].outputs[0].names);
        let sum = self.push(
            &format!("{name}/shifted"),
            Op::Binary(BinaryKind::Add),
            vec![value, bias],
        );
        self.made.nodes[sum.node.index()].outputs = vec![OutputInfo {
            names,
            ..OutputInfo::fixed(ElementType::F32, &[])
        }];
        self.values.insert(Value::of(id), sum);
        Ok(())
    }

    fn fake_quantize(&mut self, point: &ActivationPoint, limits: &Limits) -> Result<(), QuantizeError> {
        let layer = &self.source.node(point.value.node).name;
        let name = format!("{layer}/fq_output_{}", point.value.port);
        let rank = self.source.info(point.value).shape.len();
        let input = self.values[&point.value];
        let quantized = rounded(input, rank, limits, |part, op, inputs| {
            self.push(&format!("{name}{part}"), op, inputs)
        })?;
        for edge in &point.edges {
            self.edges.insert(*edge, quantized);
        }
        Ok(())
    }

    fn weights(
        &mut self,
        name: &str,
        weights: &QuantizedWeights,
        storage: WeightStorage,
    ) -> Result<Value, QuantizeError> {
        let broken = || internal(name);
        match storage {
            WeightStorage::I8 => {
                let codes = self.constant(name, weights.code_tensor().ok_or_else(broken)?);
                let float = self.push(
                    &format!("{name}/convert"),
                    Op::Convert(ElementType::F32),
                    vec![codes],
                );
                let scale = self.constant(
                    &format!("{name}/scale"),
                    weights.scale_tensor(1.0).ok_or_else(broken)?,
                );
                let op = Op::Binary(BinaryKind::Multiply);
                Ok(self.push(&format!("{name}/fq_weights"), op, vec![float, scale]))
            }
            WeightStorage::F32 => {
                let values = self.constant(name, tensor(&weights.shape, &weights.values())?);
                let name = format!("{name}/fq_weights");
                let low = weights.scale_tensor(-127.0).ok_or_else(broken)?;
                let high = weights.scale_tensor(127.0).ok_or_else(broken)?;
                let low = self.constant(&format!("{name}/low"), low);
                let high = self.constant(&format!("{name}/high"), high);
                let op = Op::FakeQuantize { levels: LEVELS };
                Ok(self.push(&name, op, vec![values, low, high, low, high]))
            }
        }
    }
}

/// Appends a FakeQuantize of a value of `rank` axes. `push` appends a node, given what tells its name from that of the
/// FakeQuantize.
pub(crate) fn rounded(
    value: Value,
    rank: usize,
    limits: &Limits,
    mut push: impl FnMut(&str, Op, Vec<Value>) -> Value,
) -> Result<Value, QuantizeError> {
    let mut shape = Vec::new();
    if limits.channels() > 1 {
        shape = vec![1; rank];
        *shape.get_mut(1).ok_or_else(|| internal("limits"))? = limits.channels();
    }
    let low = push("/low", Op::Constant(tensor(&shape, &limits.low)?), Vec::new());
    let high = push("/high", Op::Constant(tensor(&shape, &limits.high)?), Vec::new());
    let op = Op::FakeQuantize {
        levels: limits.levels,
    };
    Ok(push("", op, vec![value, low, high, low, high]))
}

fn tensor(shape: &[usize], values: &[f32]) -> Result<Tensor, QuantizeError> {
    Tensor::from_slice(shape, values).map_err(|_| internal("limits"))
}

fn internal(name: &str) -> QuantizeError {
    QuantizeError::Nothing(format!("\"{name}\" has values that do not fit its shape"))
}
