//! Quantization within a limit: what costs most accuracy goes back to floating point, until the limit holds.

use std::collections::BTreeSet;

use flow_model::{Graph, NodeId};

use crate::data::Dataset;
use crate::error::QuantizeError;
use crate::insert::{Scheme, WeightStorage, insert};
use crate::metric::{Metric, Ranking, scored};
use crate::placement::Edge;
use crate::placement::kinds::{computed, data_inputs, moves_values};
use crate::quantize::Quantized;
use crate::run::Progress;

/// Samples that the ranking of layers runs on.
const RANKED_ON: usize = 24;

/// Operations that go back to floating point together: they share a quantized value.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Unit {
    /// The operations.
    nodes: BTreeSet<NodeId>,
    /// The inputs at which their data are quantized.
    edges: BTreeSet<Edge>,
}

/// One layer, or a few, that went back to floating point.
#[derive(Debug, Clone)]
pub struct Revert {
    /// Names of the layers.
    pub layers: Vec<String>,
    /// The score behind it.
    pub score: f64,
}

/// How it went.
#[derive(Debug, Clone)]
pub struct Accuracy {
    /// What was measured.
    pub metric: String,
    /// The score of the f32 network.
    pub reference: f64,
    /// The score of the network with everything quantized.
    pub quantized: f64,
    /// The score of the network that came out.
    pub reached: f64,
    /// The greatest drop that was allowed.
    pub max_drop: f64,
    /// Samples the score was measured on; `None` where the metric has data of its own.
    pub samples: Option<usize>,
    /// What went back to floating point, in order.
    pub reverted: Vec<Revert>,
}

impl Accuracy {
    /// Whether the limit holds.
    pub fn holds(&self) -> bool {
        self.reference - self.reached <= self.max_drop
    }

    /// What the score was measured on, to stand behind the name of the metric; empty where it has data of its own.
    pub fn measured_on(&self) -> String {
        self.samples.map_or_else(String::new, |n| {
            format!(" on {n} samples that calibration did not see")
        })
    }
}

/// Takes layers back to floating point until the score is at most `max_drop` below that of the f32 network. Layers are
/// ranked by the error of the outputs on `data` when they alone are quantized.
///
/// # Errors
/// If a network does not run or cannot be scored.
pub fn within(
    quantized: &mut Quantized,
    metric: &mut dyn Metric,
    max_drop: f64,
    data: &dyn Dataset,
    storage: WeightStorage,
    threads: usize,
    progress: &dyn Progress,
) -> Result<Accuracy, QuantizeError> {
    let original = quantized.original.clone();
    let reference = metric.reference(&original)?;
    if !reference.is_finite() {
        return Err(QuantizeError::Metric {
            metric: metric.name(),
            message: format!(
                "the f32 network scores {reference}, which no drop can be measured from; expected a number"
            ),
        });
    }
    let first = scored(metric, &quantized.graph)?;
    let mut accuracy = Accuracy {
        metric: metric.name(),
        reference,
        quantized: first,
        reached: first,
        max_drop,
        samples: metric.samples(),
        reverted: Vec::new(),
    };
    if accuracy.holds() {
        return Ok(accuracy);
    }
    let ranking = Ranking::new(
        &original,
        metric.kept_outputs(),
        data,
        RANKED_ON,
        threads,
        progress,
    )?;
    loop {
        let units = units(&original, &quantized.scheme);
        let ranked = rank(quantized, units, &ranking, storage, progress)?;
        let changed = revert(quantized, &ranked, metric, &mut accuracy, storage, progress)?;
        // What was passed over may help now that others changed.
        if accuracy.holds() || !changed {
            return Ok(accuracy);
        }
    }
}

/// Takes units back to floating point in order until the limit holds, and tells whether there was any that helped. Steps
/// double while they help, and the step with which the limit holds is cut down to what it takes: scores are measured some
/// times the logarithm of the number of units, not once for each.
fn revert(
    quantized: &mut Quantized,
    ranked: &[Unit],
    metric: &mut dyn Metric,
    accuracy: &mut Accuracy,
    storage: WeightStorage,
    progress: &dyn Progress,
) -> Result<bool, QuantizeError> {
    progress.phase("taking layers back", ranked.len());
    let original = quantized.original.clone();
    let (mut at, mut step, mut changed) = (0, 1, false);
    while at < ranked.len() && !accuracy.holds() {
        let mut batch = &ranked[at..ranked.len().min(at + step)];
        let mut attempt = Attempt::of(quantized, batch, metric, storage)?;
        if attempt.score < accuracy.reached {
            // Together with what went before it makes things worse. A single unit is passed over.
            at += usize::from(batch.len() == 1);
            step = 1;
            continue;
        }
        let holds = |score: f64| accuracy.reference - score <= accuracy.max_drop;
        if holds(attempt.score) {
            // The fewest that suffice lie in `few..=batch.len()`.
            let mut few = 1;
            while few < batch.len() {
                let half = few + (batch.len() - few) / 2;
                let less = Attempt::of(quantized, &batch[..half], metric, storage)?;
                if holds(less.score) {
                    (batch, attempt) = (&batch[..half], less);
                } else {
                    few = half + 1;
                }
            }
        }
        let nodes = batch.iter().flat_map(|unit| &unit.nodes);
        let layers = nodes.map(|&id| original.node(id).name.to_string()).collect();
        let score = attempt.score;
        (quantized.scheme, quantized.graph, accuracy.reached) = (attempt.scheme, attempt.graph, score);
        accuracy.reverted.push(Revert { layers, score });
        batch.iter().for_each(|_| progress.step());
        (at, step, changed) = (at + batch.len(), step * 2, true);
    }
    Ok(changed)
}

/// A network with some units more in floating point.
struct Attempt {
    scheme: Scheme,
    graph: Graph,
    score: f64,
}

impl Attempt {
    fn of(
        quantized: &Quantized,
        units: &[Unit],
        metric: &mut dyn Metric,
        storage: WeightStorage,
    ) -> Result<Self, QuantizeError> {
        let scheme = units
            .iter()
            .fold(quantized.scheme.clone(), |scheme, unit| without(&scheme, unit));
        let graph = insert(&quantized.original, &scheme, storage)?;
        let score = scored(metric, &graph)?;
        Ok(Self { scheme, graph, score })
    }
}

/// The units, those first that cost most when they alone are quantized. Errors of single layers add up about; what a layer
/// buys when it alone is in floating point drowns in the noise of the others.
fn rank(
    quantized: &Quantized,
    units: Vec<Unit>,
    ranking: &Ranking<'_>,
    storage: WeightStorage,
    progress: &dyn Progress,
) -> Result<Vec<Unit>, QuantizeError> {
    progress.phase("ranking layers", units.len());
    let mut ranked = Vec::with_capacity(units.len());
    for unit in units {
        let graph = insert(&quantized.original, &only(&quantized.scheme, &unit), storage)?;
        ranked.push((ranking.error(&graph)?, unit));
        progress.step();
    }
    ranked.sort_by(|a, b| b.0.total_cmp(&a.0));
    Ok(ranked.into_iter().map(|(_, unit)| unit).collect())
}

/// The operations that are quantized, joined where they cannot be told apart.
pub(crate) fn units(graph: &Graph, scheme: &Scheme) -> Vec<Unit> {
    let computed = computed(graph);
    let quantized: BTreeSet<Edge> = scheme
        .activations
        .iter()
        .flat_map(|(p, _)| p.edges.iter().copied())
        .collect();
    let mut units: Vec<Unit> = Vec::new();
    for (id, node) in graph.iter() {
        let weighted = scheme.weights.iter().any(|(p, _)| p.edge.node == id);
        let mut edges = BTreeSet::new();
        if !moves_values(&node.op) {
            for port in data_inputs(graph, node, &computed) {
                sources(graph, Edge { node: id, port }, &quantized, &computed, &mut edges);
            }
        }
        if edges.is_empty() && !weighted {
            continue;
        }
        let mut unit = Unit {
            nodes: BTreeSet::from([id]),
            edges,
        };
        // Units that share an input are one.
        units.retain(|other| {
            let shared = !other.edges.is_disjoint(&unit.edges);
            if shared {
                unit.nodes.extend(&other.nodes);
                unit.edges.extend(&other.edges);
            }
            !shared
        });
        units.push(unit);
    }
    units
}

/// The quantized inputs that what arrives at `edge` comes through.
fn sources(
    graph: &Graph,
    edge: Edge,
    quantized: &BTreeSet<Edge>,
    computed: &[bool],
    found: &mut BTreeSet<Edge>,
) {
    if quantized.contains(&edge) {
        found.insert(edge);
        return;
    }
    let source = graph.node(edge.node).inputs[edge.port].node;
    let node = graph.node(source);
    if moves_values(&node.op) {
        for port in data_inputs(graph, node, computed) {
            sources(graph, Edge { node: source, port }, quantized, computed, found);
        }
    }
}

/// The scheme with nothing but a unit quantized.
fn only(scheme: &Scheme, unit: &Unit) -> Scheme {
    let mut left = scheme.clone();
    for (point, _) in &mut left.activations {
        point.edges.retain(|e| unit.edges.contains(e));
    }
    left.activations.retain(|(point, _)| !point.edges.is_empty());
    left.weights
        .retain(|(point, _)| unit.nodes.contains(&point.edge.node));
    left.shifts.retain(|id, _| unit.nodes.contains(id));
    left
}

/// The scheme with a unit in floating point.
fn without(scheme: &Scheme, unit: &Unit) -> Scheme {
    let mut left = scheme.clone();
    for (point, _) in &mut left.activations {
        point.edges.retain(|e| !unit.edges.contains(e));
    }
    left.activations.retain(|(point, _)| !point.edges.is_empty());
    left.weights
        .retain(|(point, _)| !unit.nodes.contains(&point.edge.node));
    left.shifts.retain(|id, _| !unit.nodes.contains(id));
    left
}
