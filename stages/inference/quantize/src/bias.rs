//! Corrections of biases: rounding weights and activations moves the mean of what an operation gives; a bias moves it back.

mod local;
mod probe;
mod sequential;
mod sums;

use std::collections::{BTreeMap, HashMap};

use flow_model::{Graph, NodeId};

use crate::checkpoint::Place;
use crate::data::Dataset;
use crate::error::QuantizeError;
use crate::insert::Scheme;
use crate::placement::Edge;
use crate::placement::kinds::{computed, data_inputs, moves_values};
use crate::ranges::Limits;
use crate::run::Progress;
pub(crate) use probe::watch;

/// How biases are corrected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum BiasCorrection {
    /// Not at all.
    None,
    /// Each operation by itself, on what the f32 network feeds it.
    #[default]
    Fast,
    /// One operation after another, each on what the quantized and corrected network before it feeds it.
    Full,
}

/// What to add to the output channels of each operation with quantized weights.
pub(crate) fn correct(
    way: BiasCorrection,
    graph: &Graph,
    scheme: &Scheme,
    data: &dyn Dataset,
    threads: usize,
    progress: &dyn Progress,
    place: Place<'_>,
) -> Result<BTreeMap<NodeId, Vec<f32>>, QuantizeError> {
    match way {
        BiasCorrection::None => Ok(BTreeMap::new()),
        BiasCorrection::Fast => local::correct(graph, scheme, data, threads, progress, place),
        BiasCorrection::Full => sequential::correct(graph, scheme, data, threads, progress, place),
    }
}

/// For each input of an operation the limits that its values have been rounded to.
pub(crate) struct Governing<'a> {
    graph: &'a Graph,
    computed: Vec<bool>,
    limits: HashMap<Edge, &'a Limits>,
}

impl<'a> Governing<'a> {
    pub(crate) fn new(graph: &'a Graph, scheme: &'a Scheme) -> Self {
        let mut limits = HashMap::new();
        for (point, found) in &scheme.activations {
            limits.extend(point.edges.iter().map(|e| (*e, found)));
        }
        Self {
            graph,
            computed: computed(graph),
            limits,
        }
    }

    /// The limits of the quantization that stands at this input, or above it behind operations that only move values.
    pub(crate) fn of(&self, edge: Edge) -> Option<&'a Limits> {
        if let Some(limits) = self.limits.get(&edge) {
            return Some(limits);
        }
        let source = self.graph.node(edge.node).inputs[edge.port].node;
        let node = self.graph.node(source);
        if !moves_values(&node.op) {
            return None;
        }
        let port = *data_inputs(self.graph, node, &self.computed).first()?;
        self.of(Edge { node: source, port })
    }
}
