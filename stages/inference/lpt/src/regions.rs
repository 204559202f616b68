//! Regions of f32 operations that begin at codes and end at codes: a plugin runs each as part of the integer
//! operation before or behind it.

use flow_model::graph::{Graph, Node, NodeId, Value};
use flow_model::op::{BinaryKind, Op, ReduceKind};
use flow_model::tensor::ElementType;

/// Which nodes of a graph lie in such regions.
pub(crate) struct Regions<'a> {
    graph: &'a Graph,
    users: Vec<Vec<NodeId>>,
    from_codes: Vec<bool>,
    to_codes: Vec<bool>,
    leads_to_codes: Vec<bool>,
}

/// Operations that a plugin can run between a dequantization and a quantization without storing f32.
fn is_fusable(node: &Node) -> bool {
    let kind = match &node.op {
        Op::Unary(_) | Op::Clamp { .. } | Op::PRelu | Op::AvgPool { .. } => true,
        Op::Reduce { kind, .. } => matches!(kind, ReduceKind::Mean | ReduceKind::Sum),
        Op::Binary(kind) => matches!(
            kind,
            BinaryKind::Add
                | BinaryKind::Subtract
                | BinaryKind::Multiply
                | BinaryKind::Divide
                | BinaryKind::Maximum
                | BinaryKind::Minimum
                | BinaryKind::Power
                | BinaryKind::SquaredDifference
        ),
        _ => false,
    };
    kind && node.outputs.iter().all(|o| o.element_type == ElementType::F32)
}

impl<'a> Regions<'a> {
    /// Finds the regions.
    pub(crate) fn new(graph: &'a Graph) -> Self {
        let users = graph.users();
        let mut from_codes = vec![false; graph.nodes.len()];
        for (id, node) in graph.iter() {
            let is_source = |v: &Value| match graph.node(v.node).op {
                Op::Constant(_) => true,
                Op::Dequantize(_) => true,
                _ => from_codes[v.node.index()],
            };
            let is_constant = |v: &Value| matches!(graph.node(v.node).op, Op::Constant(_));
            from_codes[id.index()] =
                is_fusable(node) && node.inputs.iter().all(is_source) && !node.inputs.iter().all(is_constant);
        }
        let mut to_codes = vec![false; graph.nodes.len()];
        let mut leads_to_codes = vec![false; graph.nodes.len()];
        for (id, node) in graph.iter().collect::<Vec<_>>().into_iter().rev() {
            let ends = |reached: &[bool], u: &NodeId| {
                matches!(graph.node(*u).op, Op::Quantize(_)) || reached[u.index()]
            };
            let of_node = &users[id.index()];
            to_codes[id.index()] =
                is_fusable(node) && !of_node.is_empty() && of_node.iter().all(|u| ends(&to_codes, u));
            leads_to_codes[id.index()] = is_fusable(node) && of_node.iter().any(|u| ends(&leads_to_codes, u));
        }
        Self {
            graph,
            users,
            from_codes,
            to_codes,
            leads_to_codes,
        }
    }

    /// The nodes that use a node.
    pub(crate) fn users(&self, id: NodeId) -> &[NodeId] {
        &self.users[id.index()]
    }

    /// Whether some path from the node through fusable operations ends in a Quantize.
    pub(crate) fn leads_to_codes(&self, id: NodeId) -> bool {
        self.leads_to_codes[id.index()]
    }

    /// Whether all that the node computes with comes from codes.
    pub(crate) fn comes_from_codes(&self, id: NodeId) -> bool {
        self.from_codes[id.index()]
    }

    /// Whether the node is of a type that regions hold.
    pub(crate) fn is_fusable(&self, id: NodeId) -> bool {
        is_fusable(self.graph.node(id))
    }

    /// The integer operation that a node of a region, or the addition of a bias to sums, is part of.
    pub(crate) fn host(&self, id: NodeId) -> Option<NodeId> {
        if !self.from_codes[id.index()] {
            return None;
        }
        let sums = self.sums_before(id);
        if self.to_codes[id.index()] {
            return sums.or_else(|| self.quantize_after(id));
        }
        sums.filter(|_| self.is_bias(id))
    }

    /// The operation on codes whose i32 sums a node is computed from.
    fn sums_before(&self, id: NodeId) -> Option<NodeId> {
        let mut at = id;
        loop {
            let node = self.graph.node(at);
            let mut inputs = node
                .inputs
                .iter()
                .filter(|v| !matches!(self.graph.node(v.node).op, Op::Constant(_)))
                .map(|v| v.node);
            let next = inputs.next()?;
            match &self.graph.node(next).op {
                Op::Dequantize(_) => {
                    let codes = self.graph.node(next).inputs.first()?;
                    let is_sums = self.graph.info(*codes).element_type == ElementType::I32;
                    return is_sums.then_some(codes.node);
                }
                // With several sources the operation belongs to what quantizes it.
                _ if inputs.next().is_some() => return None,
                _ => at = next,
            }
        }
    }

    fn quantize_after(&self, id: NodeId) -> Option<NodeId> {
        let mut at = id;
        loop {
            let &next = self.users[at.index()].first()?;
            if matches!(self.graph.node(next).op, Op::Quantize(_)) {
                return Some(next);
            }
            at = next;
        }
    }

    /// Whether a node adds a constant to dequantized sums.
    fn is_bias(&self, id: NodeId) -> bool {
        let node = self.graph.node(id);
        let is = |port: usize, test: fn(&Op) -> bool| {
            node.inputs
                .get(port)
                .is_some_and(|v| test(&self.graph.node(v.node).op))
        };
        let constant = |op: &Op| matches!(op, Op::Constant(_));
        let dequantize = |op: &Op| matches!(op, Op::Dequantize(_));
        matches!(node.op, Op::Binary(BinaryKind::Add))
            && (is(0, dequantize) && is(1, constant) || is(1, dequantize) && is(0, constant))
    }
}
