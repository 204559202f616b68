//! Where a network is quantized.
//!
//! A quantization is wanted at every input of the operations that run in 8 bits. From there it moves up, against the
//! flow of data, through operations that only move values, until it meets the operation that computes them; where a value
//! has several users, it moves up only if all of them want it. Operations that run as one with what computes their input
//! (bias, activation function) want none. This is what NNCF's propagation comes to
//! (`nncf/common/quantization/quantizer_propagation`).

mod fusing;
mod ignored;
pub(crate) mod kinds;

use std::collections::BTreeMap;

use flow_model::op::Op;
use flow_model::{Graph, NodeId, Value};

pub use ignored::Left;
use kinds::{
    computed, data_inputs, is_depthwise, is_elementwise, is_linear, is_quantized, moves_values, weight_port,
};

/// One input of one node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Edge {
    /// The node.
    pub node: NodeId,
    /// Index among its inputs.
    pub port: usize,
}

/// A value that is quantized for some of its users.
#[derive(Debug, Clone, PartialEq)]
pub struct ActivationPoint {
    /// The value.
    pub value: Value,
    /// The users that take the quantized value.
    pub edges: Vec<Edge>,
    /// All of them are depthwise convolutions, so that each channel may have its own scale.
    pub per_channel: bool,
    /// Limits must lie symmetrically around zero.
    pub symmetric: bool,
    /// Points with the same number share their limits: they meet in a Concat.
    pub unified: Option<usize>,
}

/// Constant weights that are quantized.
#[derive(Debug, Clone, PartialEq)]
pub struct WeightPoint {
    /// The operation and the input that holds them.
    pub edge: Edge,
    /// Axes along which each place has its own limits.
    pub axes: Vec<usize>,
}

/// Where a network is quantized.
#[derive(Debug, Clone, Default)]
pub struct Placement {
    /// Values, in topological order.
    pub activations: Vec<ActivationPoint>,
    /// Weights, in topological order.
    pub weights: Vec<WeightPoint>,
    /// Operations that could be quantized and are not, with the reason.
    pub left: Vec<(NodeId, Left)>,
}

/// Which operations are left alone.
#[derive(Debug, Clone, Copy)]
pub struct PlacementOptions<'a> {
    /// For each node whether it stays in floating point.
    pub ignored: &'a [bool],
    /// Quantize operations behind the last weights as well.
    pub quantize_tail: bool,
}

/// What a user wants of a value.
#[derive(Debug, Clone, Copy)]
struct Want {
    per_channel: bool,
    symmetric: bool,
    group: usize,
}

/// Places quantizations in a network whose constants are folded.
pub fn place(graph: &Graph, options: &PlacementOptions<'_>) -> Placement {
    let computed = computed(graph);
    let left = ignored::left(graph, &computed, options.ignored, !options.quantize_tail);
    let leaders = fusing::leaders(graph, &computed);
    let users = uses(graph);
    let mut placement = Placement::default();
    let mut wants: BTreeMap<Edge, Want> = BTreeMap::new();
    let mut groups = Groups::default();
    for (id, node) in graph.iter() {
        let leads = leaders[id.index()] == id && is_quantized(&node.op) && computed[id.index()];
        if !leads {
            continue;
        }
        if let Some(why) = left[id.index()] {
            placement.left.push((id, why));
            continue;
        }
        let weights = weight_port(graph, node);
        let data = data_inputs(graph, node, &computed);
        if data.is_empty() {
            continue;
        }
        for &port in &data {
            let want = Want {
                per_channel: is_depthwise(graph, id),
                symmetric: is_linear(&node.op) && weights.is_none(),
                group: groups.open(),
            };
            wants.insert(Edge { node: id, port }, want);
        }
        if let Some(port) = weights {
            placement.weights.push(WeightPoint {
                edge: Edge { node: id, port },
                axes: kinds::weight_axes(graph, node, port),
            });
        }
    }
    let mut moved = vec![false; graph.nodes.len()];
    for (id, node) in graph.iter().collect::<Vec<_>>().into_iter().rev() {
        if !computed[id.index()] {
            continue;
        }
        let ports = 0..node.outputs.len() as u32;
        let values = ports.map(|port| Value { node: id, port });
        let used: Vec<(Value, &[Edge])> = values
            .map(|v| (v, users.get(&v).map(Vec::as_slice).unwrap_or_default()))
            .filter(|(_, edges)| !edges.is_empty())
            .collect();
        let all = used
            .iter()
            .all(|(_, edges)| edges.iter().all(|e| wants.contains_key(e)));
        let inputs = data_inputs(graph, node, &computed);
        let passes = moves_values(&node.op) && left[id.index()].is_none_or(|l| l == Left::Tail);
        if all && passes && !used.is_empty() && !inputs.is_empty() {
            let edges: Vec<Edge> = used.iter().flat_map(|(_, edges)| edges.iter().copied()).collect();
            let want = joined(&edges, &mut wants, &mut groups);
            for port in inputs {
                // The limits of what meets in a Concat, or is split, are one.
                wants.insert(
                    Edge { node: id, port },
                    Want {
                        per_channel: false,
                        ..want
                    },
                );
            }
            moved[id.index()] = true;
            continue;
        }
        for (value, edges) in used {
            let wanted: Vec<Edge> = edges.iter().copied().filter(|e| wants.contains_key(e)).collect();
            if wanted.is_empty() || is_lone_arithmetic(graph, &wanted, &computed, &moved) {
                continue;
            }
            let want = joined(&wanted, &mut wants, &mut groups);
            placement.activations.push(ActivationPoint {
                value,
                edges: wanted,
                per_channel: want.per_channel,
                symmetric: want.symmetric,
                unified: Some(want.group),
            });
        }
    }
    placement.activations.reverse();
    number_groups(&mut placement.activations, &mut groups);
    placement
}

/// Whether a value is quantized only for arithmetic with a constant: that gains nothing.
fn is_lone_arithmetic(graph: &Graph, edges: &[Edge], computed: &[bool], moved: &[bool]) -> bool {
    let [edge] = edges else { return false };
    let node = graph.node(edge.node);
    !moved[edge.node.index()] && is_elementwise(&node.op) && data_inputs(graph, node, computed).len() == 1
}

/// The users of each value that take data.
fn uses(graph: &Graph) -> BTreeMap<Value, Vec<Edge>> {
    let mut uses: BTreeMap<Value, Vec<Edge>> = BTreeMap::new();
    for (id, node) in graph.iter() {
        if matches!(node.op, Op::ShapeOf(_)) {
            continue;
        }
        for (port, value) in node.inputs.iter().enumerate() {
            uses.entry(*value).or_default().push(Edge { node: id, port });
        }
    }
    uses
}

/// What the users want together.
fn joined(edges: &[Edge], wants: &mut BTreeMap<Edge, Want>, groups: &mut Groups) -> Want {
    let mut all: Option<Want> = None;
    for edge in edges {
        let Some(want) = wants.get(edge).copied() else {
            continue;
        };
        all = Some(match all {
            None => want,
            Some(a) => Want {
                per_channel: a.per_channel && want.per_channel,
                symmetric: a.symmetric || want.symmetric,
                group: groups.join(a.group, want.group),
            },
        });
    }
    all.unwrap_or(Want {
        per_channel: false,
        symmetric: false,
        group: groups.open(),
    })
}

/// Keeps numbers of groups with several points, from 0; what is true of one point of a group is true of all.
fn number_groups(points: &mut [ActivationPoint], groups: &mut Groups) {
    let mut members: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for (index, point) in points.iter_mut().enumerate() {
        if let Some(group) = point.unified.take() {
            members.entry(groups.root(group)).or_default().push(index);
        }
    }
    for (number, indices) in members.into_values().filter(|m| m.len() > 1).enumerate() {
        let symmetric = indices.iter().any(|&i| points[i].symmetric);
        for i in indices {
            points[i].unified = Some(number);
            points[i].per_channel = false;
            points[i].symmetric = symmetric;
        }
    }
}

/// Disjoint sets.
#[derive(Debug, Default)]
struct Groups(Vec<usize>);

impl Groups {
    fn open(&mut self) -> usize {
        self.0.push(self.0.len());
        self.0.len() - 1
    }

    fn root(&mut self, mut at: usize) -> usize {
        while self.0[at] != at {
            self.0[at] = self.0[self.0[at]];
            at = self.0[at];
        }
        at
    }

    fn join(&mut self, a: usize, b: usize) -> usize {
        let (a, b) = (self.root(a), self.root(b));
        self.0[a.max(b)] = a.min(b);
        a.min(b)
    }
}
