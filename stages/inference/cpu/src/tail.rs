//! The part of a network whose shapes are known only at run time.
//!
//! Operations such as NonMaxSuppression and NonZero make values whose shape depends on values. They and what
//! follows them are the tail of the network: the reference evaluator runs it in the same request, after the head,
//! whose shapes are fixed and whose steps have kernels.

use std::sync::Arc;

use flow_model::{ElementType, Graph, Node, NodeId, Op, OutputInfo, Tensor, Value};

use crate::error::RunError;
use crate::record::StepRecord;

/// Where an output of the network comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    /// Output of the head.
    Head(usize),
    /// Output of the tail.
    Tail(usize),
}

/// A network cut in two.
pub(crate) struct Cut {
    /// What has fixed shapes; its outputs are those the network has there, then what the tail reads.
    pub head: Graph,
    pub tail: Tail,
}

/// The rest.
#[derive(Debug)]
pub(crate) struct Tail {
    graph: Graph,
    /// For each input of the tail the output of the head that it is.
    inputs: Vec<usize>,
    /// Where each output of the network comes from.
    pub origins: Vec<Origin>,
}

/// Cuts a network whose inputs have fixed shapes; `None` if all its shapes are fixed.
pub(crate) fn cut(graph: &Graph) -> Option<Cut> {
    let mut fixed: Vec<bool> = Vec::with_capacity(graph.nodes.len());
    for (_, node) in graph.iter() {
        let shapes = node.outputs.iter().all(|o| o.static_shape().is_some());
        // An open Parameter is told as such, by the head.
        let parameter = matches!(node.op, Op::Parameter);
        fixed.push(parameter || (shapes && node.inputs.iter().all(|v| fixed[v.node.index()])));
    }
    if fixed.iter().all(|&f| f) {
        return None;
    }
    let empty = || Graph {
        name: graph.name.clone(),
        ..Graph::default()
    };
    let mut cutter = Cutter {
        graph,
        head: empty(),
        tail: empty(),
        head_ids: vec![None; graph.nodes.len()],
        tail_ids: vec![None; graph.nodes.len()],
        inputs: Vec::new(),
        crossing: Vec::new(),
    };
    for (id, node) in graph.iter() {
        match (fixed[id.index()], &node.op) {
            (_, Op::Result) => {}
            (true, _) => cutter.keep(id),
            (false, _) => cutter.move_to_tail(id),
        }
    }
    // Results of the head first, in order; then what crosses.
    let mut origins = vec![Origin::Head(0); graph.results.len()];
    for (index, &id) in graph.results.iter().enumerate() {
        if fixed[id.index()] {
            origins[index] = Origin::Head(cutter.head.results.len());
            let value = graph.node(id).inputs[0];
            cutter.head_result(id, value);
        } else {
            origins[index] = Origin::Tail(cutter.tail.results.len());
            cutter.move_to_tail(id);
        }
    }
    let inputs = cutter.crossing.clone().into_iter().map(|value| {
        cutter.head_result(value.node, value);
        cutter.head.results.len() - 1
    });
    let inputs = inputs.collect();
    Some(Cut {
        head: cutter.head,
        tail: Tail {
            graph: cutter.tail,
            inputs,
            origins,
        },
    })
}

struct Cutter<'a> {
    graph: &'a Graph,
    head: Graph,
    tail: Graph,
    head_ids: Vec<Option<NodeId>>,
    tail_ids: Vec<Option<NodeId>>,
    /// Parameters of the tail by the value they stand for.
    inputs: Vec<(Value, NodeId)>,
    /// Values of the head that the tail reads, in the order of its Parameters.
    crossing: Vec<Value>,
}

impl Cutter<'_> {
    fn keep(&mut self, id: NodeId) {
        let node = self.graph.node(id);
        let inputs = node.inputs.iter().filter_map(|v| self.in_head(*v)).collect();
        let new = self.head.push(Node {
            inputs,
            ..node.clone()
        });
        self.head_ids[id.index()] = Some(new);
        if matches!(node.op, Op::Parameter) {
            self.head.parameters.push(new);
        }
        // In the order of the network, which may be another than that of the nodes.
        if self.head.parameters.len() == self.graph.parameters.len() {
            let ordered = self
                .graph
                .parameters
                .iter()
                .filter_map(|p| self.head_ids[p.index()]);
            self.head.parameters = ordered.collect();
        }
    }

    fn in_head(&self, value: Value) -> Option<Value> {
        let node = self.head_ids[value.node.index()]?;
        Some(Value { node, ..value })
    }

    fn head_result(&mut self, id: NodeId, value: Value) {
        let Some(inside) = self.in_head(value) else {
            return;
        };
        let node = self.graph.node(id);
        let result = self.head.push(Node {
            name: node.name.clone(),
            line: node.line,
            op: Op::Result,
            inputs: vec![inside],
            outputs: vec![OutputInfo {
                names: Vec::new(),
                ..self.graph.info(value).clone()
            }],
        });
        self.head.results.push(result);
    }

    fn move_to_tail(&mut self, id: NodeId) {
        let node = self.graph.node(id);
        let inputs = node.inputs.iter().map(|v| self.in_tail(*v)).collect();
        let new = self.tail.push(Node {
            inputs,
            ..node.clone()
        });
        self.tail_ids[id.index()] = Some(new);
        if matches!(node.op, Op::Result) {
            self.tail.results.push(new);
        }
    }

    fn in_tail(&mut self, value: Value) -> Value {
        if let Some(node) = self.tail_ids[value.node.index()] {
            return Value { node, ..value };
        }
        let origin = self.graph.node(value.node);
        if matches!(origin.op, Op::Constant(_)) {
            let node = self.tail.push(origin.clone());
            self.tail_ids[value.node.index()] = Some(node);
            return Value { node, ..value };
        }
        if let Some((_, node)) = self.inputs.iter().find(|(v, _)| *v == value) {
            return Value::of(*node);
        }
        let node = self.tail.push(Node {
            name: origin.name.clone(),
            line: origin.line,
            op: Op::Parameter,
            inputs: Vec::new(),
            outputs: vec![self.graph.info(value).clone()],
        });
        self.tail.parameters.push(node);
        self.inputs.push((value, node));
        self.crossing.push(value);
        Value::of(node)
    }
}

impl Tail {
    /// Runs it on the outputs of the head.
    pub fn run<'a>(
        &self,
        output: impl Fn(usize) -> (ElementType, &'a [usize], &'a [u8]),
    ) -> Result<Vec<Tensor>, RunError> {
        let mut inputs = Vec::with_capacity(self.inputs.len());
        for &index in &self.inputs {
            let (element_type, shape, bytes) = output(index);
            let tensor = Tensor::new(element_type, shape.to_vec(), bytes);
            inputs.push(tensor.map_err(|e| RunError::Internal {
                step: "tail".to_owned(),
                message: e.to_string(),
            })?);
        }
        Ok(flow_model::evaluate(&self.graph, &inputs)?)
    }

    /// What its operations are.
    pub fn records(&self) -> impl Iterator<Item = StepRecord> {
        let work = |node: &&Node| !matches!(node.op, Op::Parameter | Op::Constant(_) | Op::Result);
        self.graph.nodes.iter().filter(work).map(|node| StepRecord {
            name: Arc::clone(&node.name),
            fused: Vec::new(),
            kernel: "reference".to_owned(),
            precision: node
                .inputs
                .first()
                .map_or(ElementType::F32, |v| self.graph.info(*v).element_type),
            macs: 0,
            bytes: 0,
            shape: node.outputs.first().map(closed).unwrap_or_default(),
            reference: true,
            unguarded: None,
        })
    }
}

/// The shape with 0 for open axes.
pub(crate) fn closed(info: &OutputInfo) -> Vec<usize> {
    info.shape.iter().map(|d| d.unwrap_or(0)).collect()
}
