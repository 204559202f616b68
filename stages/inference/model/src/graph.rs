//! The graph: nodes in topological order.

use std::sync::Arc;

use crate::op::Op;
use crate::tensor::ElementType;

/// Index of a node in [`Graph::nodes`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(pub u32);

impl NodeId {
    /// The index as `usize`.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// One output of one node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Value {
    /// The node.
    pub node: NodeId,
    /// Index among the node's outputs, from 0.
    pub port: u32,
}

impl Value {
    /// The first output of `node`.
    pub fn of(node: NodeId) -> Self {
        Self { node, port: 0 }
    }
}

/// Length of an axis; `None` where it is not fixed.
pub type Dim = Option<usize>;

/// Axis lengths of a value, some of which may not be fixed.
pub type PartialShape = Vec<Dim>;

/// Limits of the length of an open axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Bounds {
    /// Least length.
    pub low: usize,
    /// Greatest length; `None`: no limit.
    pub high: Option<usize>,
}

impl Bounds {
    /// Whether an axis may have that length.
    pub fn allow(&self, length: usize) -> bool {
        length >= self.low && self.high.is_none_or(|high| length <= high)
    }
}

/// `?`, `1..8` or `32..`.
impl std::fmt::Display for Bounds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.low, self.high) {
            (0, None) => f.write_str("?"),
            (low, None) => write!(f, "{low}.."),
            (low, Some(high)) if low == high => write!(f, "{low}"),
            (low, Some(high)) => write!(f, "{low}..{high}"),
        }
    }
}

/// Type, shape and names of one output of a node.
#[derive(Debug, Clone, PartialEq)]
pub struct OutputInfo {
    /// Element type.
    pub element_type: ElementType,
    /// Axis lengths.
    pub shape: PartialShape,
    /// Tensor names the model file gives, often none.
    pub names: Vec<Arc<str>>,
}

impl OutputInfo {
    /// An output without names and with a fixed shape.
    pub fn fixed(element_type: ElementType, shape: &[usize]) -> Self {
        Self {
            element_type,
            shape: shape.iter().map(|&d| Some(d)).collect(),
            names: Vec::new(),
        }
    }

    /// The shape, if every axis is fixed.
    pub fn static_shape(&self) -> Option<Vec<usize>> {
        self.shape.iter().copied().collect()
    }
}

/// An operation with its inputs and the type and shape of its outputs.
#[derive(Debug, Clone)]
pub struct Node {
    /// Name of the layer in the model file; nodes that passes make get a derived name (`conv1/dequantize`).
    pub name: Arc<str>,
    /// Line of the layer in the model file; 0 for nodes that passes make.
    pub line: u32,
    /// The operation and its attributes.
    pub op: Op,
    /// Where each input comes from; always nodes with a lower index.
    pub inputs: Vec<Value>,
    /// Its outputs.
    pub outputs: Vec<OutputInfo>,
}

/// A network: nodes in topological order, every input at a lower index than its user.
#[derive(Debug, Clone, Default)]
pub struct Graph {
    /// Name of the network.
    pub name: String,
    /// The nodes.
    pub nodes: Vec<Node>,
    /// Parameter nodes in the order of the model file: the network's inputs.
    pub parameters: Vec<NodeId>,
    /// For each Parameter the limits of its axes, as far as the model file states them; passes drop them.
    pub bounds: Vec<Vec<Bounds>>,
    /// Result nodes in the order of the model file: the network's outputs.
    pub results: Vec<NodeId>,
}

impl Graph {
    /// The node with that id.
    ///
    /// # Panics
    /// If the id is not of this graph.
    pub fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id.index()]
    }

    /// Type and shape of a value.
    ///
    /// # Panics
    /// If the value is not of this graph.
    pub fn info(&self, value: Value) -> &OutputInfo {
        &self.nodes[value.node.index()].outputs[value.port as usize]
    }

    /// The nodes with their ids, in topological order.
    pub fn iter(&self) -> impl Iterator<Item = (NodeId, &Node)> {
        self.nodes
            .iter()
            .enumerate()
            .map(|(i, node)| (NodeId(i as u32), node))
    }

    /// Limits of an axis of the input of that index.
    pub fn axis_bounds(&self, input: usize, axis: usize) -> Bounds {
        let stated = self.bounds.get(input).and_then(|axes| axes.get(axis));
        stated.copied().unwrap_or_default()
    }

    /// The shape of the input of that index in words, with the limits of open axes: `[1..8,3,?,?]`.
    pub fn input_shape_text(&self, input: usize) -> String {
        let info = self
            .parameters
            .get(input)
            .and_then(|id| self.node(*id).outputs.first());
        let dims: Vec<String> = info
            .map(|info| info.shape.as_slice())
            .unwrap_or_default()
            .iter()
            .enumerate()
            .map(|(axis, d)| match d {
                Some(length) => length.to_string(),
                None => self.axis_bounds(input, axis).to_string(),
            })
            .collect();
        format!("[{}]", dims.join(","))
    }

    /// Appends a node whose inputs are all in the graph already.
    pub fn push(&mut self, node: Node) -> NodeId {
        debug_assert!(
            node.inputs.iter().all(|v| v.node.index() < self.nodes.len()),
            "inputs come first"
        );
        let id = NodeId(self.nodes.len() as u32);
        self.nodes.push(node);
        id
    }

    /// For each node, the nodes that use any of its outputs, each once per use, in order.
    pub fn users(&self) -> Vec<Vec<NodeId>> {
        let mut users = vec![Vec::new(); self.nodes.len()];
        for (id, node) in self.iter() {
            for input in &node.inputs {
                users[input.node.index()].push(id);
            }
        }
        users
    }
}
