//! Each operation by itself: the mean difference that its own rounding makes, on the inputs of the f32 network.
//!
//! NNCF's fast bias correction feeds a tensor that is constant per channel; here the operation runs on the samples
//! themselves, so that borders and rounding of activations count as they do in use.

use std::collections::BTreeMap;

use flow_model::op::{BinaryKind, Op};
use flow_model::{Graph, NodeId, Tensor, Value};

use super::Governing;
use super::probe::{Means, over_samples, push, push_mean};
use crate::checkpoint::Place;
use crate::data::{Dataset, Part};
use crate::error::QuantizeError;
use crate::insert::{Scheme, channel_axis, rounded};
use crate::placement::Edge;
use crate::placement::kinds::{computed, data_inputs};
use crate::run::Progress;

/// Samples that means are taken over. A mean over places and samples needs fewer than a range does, and a sample costs two
/// passes here.
const SAMPLES: usize = 128;

/// What to add to the output channels of each operation with quantized weights.
pub(crate) fn correct(
    graph: &Graph,
    scheme: &Scheme,
    data: &dyn Dataset,
    threads: usize,
    progress: &dyn Progress,
    place: Place<'_>,
) -> Result<BTreeMap<NodeId, Vec<f32>>, QuantizeError> {
    let (probe, layers) = probe(graph, scheme)?;
    if layers.is_empty() {
        return Ok(BTreeMap::new());
    }
    let part = Part::spread(data, SAMPLES);
    let means = over_samples(probe, &part, threads, progress, "bias correction", place)?;
    let shift = |means: Means| means.into_iter().map(|m| m as f32).collect();
    Ok(layers
        .into_iter()
        .zip(means)
        .map(|(id, means)| (id, shift(means)))
        .collect())
}

/// The f32 network, and beside each operation with quantized weights its quantized twin; results are the mean differences
/// per output channel.
fn probe(graph: &Graph, scheme: &Scheme) -> Result<(Graph, Vec<NodeId>), QuantizeError> {
    let computed = computed(graph);
    let governing = Governing::new(graph, scheme);
    let mut probe = graph.clone();
    probe.results.clear();
    let mut layers = Vec::new();
    for (point, weights) in &scheme.weights {
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
        let difference = push(
            &mut probe,
            Op::Binary(BinaryKind::Subtract),
            vec![Value::of(id), twin],
        );
        let rank = graph.info(Value::of(id)).shape.len();
        push_mean(&mut probe, difference, rank, axis);
        layers.push(id);
    }
    Ok((probe, layers))
}
