//! One operation after another, in topological order: the mean of what each gives in the quantized network, whose earlier
//! operations are corrected already, is moved to the mean in f32.

use std::collections::BTreeMap;

use flow_model::{Graph, NodeId, Value};

use super::probe::{Means, channel_means};
use crate::checkpoint::{Place, Reader, Writer};
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
    place: Place<'_>,
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
    let mut known: Vec<Vec<f32>> = place
        .at
        .load(place.name)
        .and_then(|b| decoded(&b))
        .unwrap_or_default();
    known.truncate(layers.len());
    for (at, (&(id, axis), wanted)) in layers.iter().zip(&wanted).enumerate() {
        if let Some(shift) = known.get(at) {
            if !shift.is_empty() {
                corrected.shifts.insert(id, shift.clone());
            }
            progress.step();
            continue;
        }
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
        // A layer that has no shift is kept as one of no channels.
        known.push(corrected.shifts.get(&id).cloned().unwrap_or_default());
        place.at.save(place.name, encoded(&known))?;
        progress.step();
    }
    Ok(corrected.shifts)
}

fn encoded(shifts: &[Vec<f32>]) -> Vec<u8> {
    let mut bytes = Writer::default();
    bytes.number(shifts.len() as u64);
    shifts.iter().for_each(|shift| bytes.floats(shift));
    bytes.0
}

fn decoded(bytes: &[u8]) -> Option<Vec<Vec<f32>>> {
    let mut from = Reader(bytes);
    (0..from.count(8)?).map(|_| from.floats()).collect()
}
