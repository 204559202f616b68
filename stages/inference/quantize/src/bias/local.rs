//! Each operation by itself: the mean difference that its own rounding makes, on the inputs of the f32 network.
//!
//! NNCF's fast bias correction feeds a tensor that is constant per channel; here the means are those over the samples
//! themselves, so that borders and rounding of activations count as they do in use. Most layers need but sums of their
//! inputs ([`super::sums`]); beside the others stands a rounded twin.

use std::collections::{BTreeMap, HashMap};

use flow_model::op::{BinaryKind, Op};
use flow_model::{Graph, NodeId, Tensor, Value};

use super::Governing;
use super::probe::{over_samples, push, push_mean, watch};
use super::sums::InputSums;
use crate::checkpoint::Place;
use crate::data::{Dataset, Part};
use crate::error::QuantizeError;
use crate::insert::{Scheme, channel_axis, rounded};
use crate::placement::kinds::{computed, data_inputs};
use crate::placement::{Edge, WeightPoint};
use crate::run::{Progress, channels_moved_last};
use crate::weights::QuantizedWeights;

/// Samples that means are taken over. A mean over places and samples needs fewer than a range does.
const SAMPLES: usize = 64;

/// What to add to the output channels of each operation with quantized weights.
pub(crate) fn correct(
    graph: &Graph,
    scheme: &Scheme,
    data: &dyn Dataset,
    threads: usize,
    progress: &dyn Progress,
    place: Place<'_>,
) -> Result<BTreeMap<NodeId, Vec<f32>>, QuantizeError> {
    let probe = Probe::new(graph, scheme)?;
    if probe.layers.is_empty() {
        return Ok(BTreeMap::new());
    }
    let part = Part::spread(data, SAMPLES);
    let take = |at: usize, values: &[f32]| match probe.sums.get(at) {
        Some(sums) => sums.take(values),
        None => values.iter().map(|&v| f64::from(v)).collect(),
    };
    let means = over_samples(
        probe.graph,
        &part,
        threads,
        progress,
        "bias correction",
        place,
        take,
    )?;
    let mut shifts = BTreeMap::new();
    for layer in &probe.layers {
        let Some(means) = means.get(layer.result) else {
            continue;
        };
        let shift = match probe.sums.get(layer.result) {
            Some(sums) => from_sums(graph, layer, sums, means),
            None => Some(means.iter().map(|&m| m as f32).collect()),
        };
        shifts.extend(shift.map(|shift| (layer.point.edge.node, shift)));
    }
    Ok(shifts)
}

/// A layer, and which result of the probe tells of it.
struct Layer<'a> {
    point: &'a WeightPoint,
    weights: &'a QuantizedWeights,
    result: usize,
}

/// The f32 network whose results are what sums are taken of, and behind these the mean differences per output channel of
/// layers with a rounded twin.
struct Probe<'a> {
    graph: Graph,
    sums: Vec<InputSums<'a>>,
    layers: Vec<Layer<'a>>,
}

impl<'a> Probe<'a> {
    fn new(graph: &'a Graph, scheme: &'a Scheme) -> Result<Self, QuantizeError> {
        let computed = computed(graph);
        let governing = Governing::new(graph, scheme);
        let mut sums: Vec<InputSums<'a>> = Vec::new();
        let mut of_value: HashMap<Value, Vec<usize>> = HashMap::new();
        let (mut layers, mut twins) = (Vec::new(), Vec::new());
        for (point, weights) in &scheme.weights {
            let id = point.edge.node;
            let own = match point.edge.port {
                1 => InputSums::of(graph, id, governing.of(Edge { node: id, port: 0 })),
                _ => None,
            };
            match own {
                Some(own) => {
                    let known = of_value.entry(own.value).or_default();
                    let result = known
                        .iter()
                        .copied()
                        .find(|&at| sums[at] == own)
                        .unwrap_or_else(|| {
                            known.push(sums.len());
                            sums.push(own);
                            sums.len() - 1
                        });
                    layers.push(Layer {
                        point,
                        weights,
                        result,
                    });
                }
                None => twins.push((point, weights)),
            }
        }
        let mut probe = graph.clone();
        probe.results.clear();
        for sums in &sums {
            let moved = sums
                .image()
                .then(|| channels_moved_last(&mut probe, sums.value))
                .flatten();
            watch(&mut probe, moved.unwrap_or(sums.value));
        }
        for (point, weights) in twins {
            let id = point.edge.node;
            let node = graph.node(id);
            let Some((axis, _)) = channel_axis(graph, id) else {
                continue;
            };
            let mut inputs = node.inputs.clone();
            for port in data_inputs(graph, node, &computed) {
                if let Some(limits) = governing.of(Edge { node: id, port }) {
                    let rank = graph.info(inputs[port]).shape.len();
                    inputs[port] = rounded(inputs[port], rank, limits, |_, op, inputs| {
                        push(&mut probe, op, inputs)
                    })?;
                }
            }
            let Ok(values) = Tensor::from_slice(&weights.shape, &weights.values()) else {
                continue;
            };
            inputs[point.edge.port] = push(&mut probe, Op::Constant(values), Vec::new());
            let twin = push(&mut probe, node.op.clone(), inputs);
            let difference = Op::Binary(BinaryKind::Subtract);
            let difference = push(&mut probe, difference, vec![Value::of(id), twin]);
            let rank = graph.info(Value::of(id)).shape.len();
            let result = probe.results.len();
            push_mean(&mut probe, difference, rank, axis);
            layers.push(Layer {
                point,
                weights,
                result,
            });
        }
        Ok(Self {
            graph: probe,
            sums,
            layers,
        })
    }
}

/// The shift of each output channel of a layer, from sums of its input.
fn from_sums(graph: &Graph, layer: &Layer<'_>, sums: &InputSums<'_>, means: &[f64]) -> Option<Vec<f32>> {
    let id = layer.point.edge.node;
    let node = graph.node(id);
    let Op::Constant(exact) = &graph.node(node.inputs[layer.point.edge.port].node).op else {
        return None;
    };
    let (exact, rounded) = (exact.to_f32(), layer.weights.values());
    let (axis, outputs) = channel_axis(graph, id)?;
    let output = graph.info(Value::of(id)).static_shape()?;
    let places = output.iter().product::<usize>() / output.get(axis).copied().filter(|&d| d > 0)?;
    let filter = exact.len() / outputs.max(1);
    let columns = matches!(
        node.op,
        Op::MatMul {
            transpose_b: false,
            ..
        }
    );
    let weight = |o: usize, i: usize| {
        let at = if columns { i * outputs + o } else { o * filter + i };
        (exact[at], rounded[at])
    };
    Some(sums.shift(means, outputs, filter, places, weight))
}
