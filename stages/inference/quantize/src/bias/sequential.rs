//! One operation after another, in topological order: the mean of what each gives in the quantized network, whose earlier
//! operations are corrected already, is moved to the mean in f32.

use std::collections::BTreeMap;

use flow_model::{Graph, NodeId, Value};

use super::probe::{Means, channel_means};
use crate::data::{Dataset, Part};
use crate::error::QuantizeError;
use crate::insert::{Scheme, WeightStorage, channel_axis, insert};
use crate::run::{Progress, Silent};

/// Samples that each operation is measured on: a pass over them for each.
const SAMPLES: usize = 48;

/// What to add to the output channels of each operation with quantized weights.
pub(crate) fn correct(
    graph: &Graph,
    scheme: &Scheme,
    data: &dyn Dataset,
    threads: usize,
    progress: &dyn Progress,
) -> Result<BTreeMap<NodeId, Vec<f32>>, QuantizeError> {
    let part = Part::spread(data, SAMPLES);
    let layers: Vec<(NodeId, usize)> = scheme
        .weights
        .iter()
        .filter_map(|(point, _)| Some((point.edge.node, channel_axis(graph, point.edge.node)?.0)))
        .collect();
    let values: Vec<(Value, usize)> = layers.iter().map(|&(id, axis)| (Value::of(id), axis)).collect();
    let wanted = channel_means(graph, &values, &part, threads, progress, "f32 means")?;
    progress.phase("bias correction", layers.len());
    let mut corrected = Scheme {
        shifts: BTreeMap::new(),
        ..scheme.clone()
    };
    for (&(id, axis), wanted) in layers.iter().zip(&wanted) {
        if progress.stopped() {
            return Err(QuantizeError::Stopped);
        }
        let quantized = insert(graph, &corrected, WeightStorage::F32)?;
        let name = &graph.node(id).name;
        let copy = quantized
            .iter()
            .find(|(_, n)| n.name == *name && n.op.type_name() == graph.node(id).op.type_name());
        if let Some((copy, _)) = copy {
            let found: Vec<Means> = channel_means(
                &quantized,
                &[(Value::of(copy), axis)],
                &part,
                threads,
                &Silent,
                "",
            )?;
            let shift = wanted
                .iter()
                .zip(&found[0])
                .map(|(w, f)| (w - f) as f32)
                .collect();
            corrected.shifts.insert(id, shift);
        }
        progress.step();
    }
    Ok(corrected.shifts)
}
