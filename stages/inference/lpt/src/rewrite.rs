//! Building one graph from another, node by node.

use std::collections::HashMap;

use flow_model::graph::{Graph, Node, NodeId, Value};
use flow_model::op::Op;

/// A graph under construction that follows an old one in topological order.
pub(crate) struct Rewriter<'a> {
    old: &'a Graph,
    new: Graph,
    map: HashMap<Value, Value>,
}

impl<'a> Rewriter<'a> {
    /// Starts an empty graph of the same name.
    pub(crate) fn new(old: &'a Graph) -> Self {
        Self {
            old,
            new: Graph {
                name: old.name.clone(),
                ..Graph::default()
            },
            map: HashMap::new(),
        }
    }

    /// The new graph so far.
    pub(crate) fn graph(&self) -> &Graph {
        &self.new
    }

    /// Adds a node to the new graph.
    pub(crate) fn push(&mut self, node: Node) -> NodeId {
        self.new.push(node)
    }

    /// Says that `new` stands for `old`.
    pub(crate) fn replace(&mut self, old: Value, new: Value) {
        self.map.insert(old, new);
    }

    /// What stands for the value of the old graph.
    pub(crate) fn value(&self, old: Value) -> Value {
        // Every node is kept or replaced before its users are met, since both graphs are in topological order.
        self.map.get(&old).copied().unwrap_or(old)
    }

    /// What stands for the inputs of a node of the old graph.
    pub(crate) fn inputs(&self, id: NodeId) -> Vec<Value> {
        self.old.node(id).inputs.iter().map(|&v| self.value(v)).collect()
    }

    /// Adds a node of the old graph as it is, on what stands for its inputs.
    pub(crate) fn keep(&mut self, id: NodeId) -> NodeId {
        let mut node = self.old.node(id).clone();
        node.inputs = self.inputs(id);
        self.keep_as(id, node)
    }

    /// Adds `node`, whose outputs stand for those of node `id` of the old graph.
    pub(crate) fn keep_as(&mut self, id: NodeId, node: Node) -> NodeId {
        let ports = node.outputs.len().max(1) as u32;
        let (is_parameter, is_result) = (matches!(node.op, Op::Parameter), matches!(node.op, Op::Result));
        let new = self.new.push(node);
        for port in 0..ports {
            self.replace(Value { node: id, port }, Value { node: new, port });
        }
        if is_parameter {
            self.new.parameters.push(new);
        }
        if is_result {
            self.new.results.push(new);
        }
        new
    }

    /// The new graph, with parameters and results in the old order.
    pub(crate) fn finish(mut self) -> Graph {
        let order = |ids: &[NodeId]| -> Vec<NodeId> {
            ids.iter().map(|&id| self.value(Value::of(id)).node).collect()
        };
        let parameters = order(&self.old.parameters);
        let results = order(&self.old.results);
        self.new.parameters = parameters;
        self.new.results = results;
        self.new
    }
}

/// Removes nodes that no result depends on. Parameters stay.
pub(crate) fn remove_dead(graph: &Graph) -> Graph {
    let mut live = vec![false; graph.nodes.len()];
    for &id in graph.results.iter().chain(&graph.parameters) {
        live[id.index()] = true;
    }
    for (id, node) in graph.iter().collect::<Vec<_>>().into_iter().rev() {
        if live[id.index()] {
            for input in &node.inputs {
                live[input.node.index()] = true;
            }
        }
    }
    let mut rewriter = Rewriter::new(graph);
    for (id, _) in graph.iter() {
        if live[id.index()] {
            rewriter.keep(id);
        }
    }
    rewriter.finish()
}
