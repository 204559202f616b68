//! What the weights of a layer meet at some places of its output.

use flow_model::{Graph, NodeId, Value};

use super::{DAMPING, descend, gram};
use crate::error::QuantizeError;
use crate::ranges::Limits;
use crate::run::in_parallel;
use crate::weights::QuantizedWeights;
use crate::window::Window;

/// Most and fewest places of the output that are looked at, over all samples.
const PLACES: [usize; 2] = [8192, 1024];
/// Bytes that a layer should not exceed.
const BYTES: usize = 64 << 20;

/// Inputs of a layer: for each place that is looked at, for each group of channels, what the weights of a filter meet.
pub(super) struct Patches {
    /// The input of the layer.
    pub value: Value,
    pub window: Window,
    limits: Option<Limits>,
    groups: usize,
    /// Weights of a filter.
    filter: usize,
    /// Places per sample, and of how many.
    places: usize,
    of: usize,
    samples: usize,
    /// The inputs, once they have been gathered.
    pub rows: Vec<f32>,
}

impl Patches {
    /// None for layers that have no windows, or whose limits do not fit.
    pub(super) fn of(
        graph: &Graph,
        id: NodeId,
        limits: Option<Limits>,
        outputs: usize,
        samples: usize,
    ) -> Option<Self> {
        let window = Window::of(graph, id)?;
        let node = graph.node(id);
        let weights: usize = graph.info(*node.inputs.get(1)?).static_shape()?.iter().product();
        let filter = weights / outputs.max(1);
        let width = window.channels * window.size();
        let groups = width / filter.max(1);
        let channels = limits.as_ref().map_or(1, Limits::channels);
        if groups == 0 || groups * filter != width || !outputs.is_multiple_of(groups) {
            return None;
        }
        if channels != 1 && !(window.image && channels == window.channels) {
            return None;
        }
        let elements: usize = graph.info(node.inputs[0]).static_shape()?.iter().product();
        let plane: usize = window.plane.iter().product::<usize>() * window.channels;
        let batch = elements.checked_div(plane)?;
        let of = window.places.iter().product::<usize>() * batch;
        let wanted = (BYTES / 4 / width.max(1)).clamp(PLACES[1], PLACES[0]);
        Some(Self {
            value: node.inputs[0],
            window,
            limits,
            groups,
            filter,
            places: wanted.div_ceil(samples.max(1)).min(of),
            of,
            samples,
            rows: Vec::new(),
        })
    }

    /// Bytes of all inputs.
    pub(super) fn bytes(&self) -> usize {
        [self.places, self.samples, self.groups, self.filter, 4]
            .into_iter()
            .fold(1, usize::saturating_mul)
    }

    /// What is met in one sample, with the channels of its values last.
    pub(super) fn take(&self, sample: usize, values: &[f32]) -> Vec<f32> {
        let (channels, taps) = (self.window.channels, self.window.size());
        let width = channels * taps;
        let mut rows = vec![0f32; self.places * width];
        let per_sample: usize = self.window.places.iter().product();
        let size = self.window.plane.iter().product::<usize>() * channels;
        for (at, row) in rows.chunks_exact_mut(width.max(1)).enumerate() {
            // One of each stretch, of each sample another.
            let stretch = at * self.of / self.places..(at + 1) * self.of / self.places;
            let place = stretch.start + (sample * 7 + at * 3) % stretch.len().max(1);
            let of_batch = values.get(place / per_sample.max(1) * size..).unwrap_or_default();
            self.window
                .patch(of_batch, place % per_sample.max(1), |tap, pixel| {
                    for (c, &x) in pixel.unwrap_or_default().iter().enumerate() {
                        row[c * taps + tap] = match &self.limits {
                            Some(limits) => limits.round(if limits.channels() > 1 { c } else { 0 }, x),
                            None => x,
                        };
                    }
                });
        }
        rows
    }

    /// Rounds the weights of the layer.
    pub(super) fn round(
        &mut self,
        exact: &[f32],
        weights: &mut QuantizedWeights,
        columns: bool,
        centred: bool,
        threads: usize,
    ) -> Result<(), QuantizeError> {
        let outputs = weights.scales.len();
        let (n, per_group) = (self.filter, outputs / self.groups);
        let places = self.places * self.samples;
        let most = weights
            .codes
            .iter()
            .map(|q| f32::from(q.unsigned_abs()))
            .fold(0.0, f32::max);
        let at = |o: usize, i: usize| if columns { i * outputs + o } else { o * n + i };
        let chosen = |group: usize, inner_threads: usize| -> Result<Vec<Vec<i8>>, QuantizeError> {
            let mut rows: Vec<f32> = Vec::with_capacity(places * n);
            for place in self.rows.chunks_exact(self.groups * n) {
                rows.extend(&place[group * n..(group + 1) * n]);
            }
            if centred {
                gram::centre(&mut rows, n);
            }
            let mut gram = gram::gram(&rows, n, inner_threads)?;
            let trace: f32 = (0..n).map(|i| gram[i * n + i]).sum();
            let damping = DAMPING * trace / n.max(1) as f32;
            (0..n).for_each(|i| gram[i * n + i] += damping);
            let one = |o: usize| {
                let scale = weights.scales[o];
                let exact: Vec<f32> = (0..n).map(|i| exact[at(o, i)] / scale).collect();
                let mut codes: Vec<i8> = (0..n).map(|i| weights.codes[at(o, i)]).collect();
                if damping > 0.0 && scale > 0.0 {
                    descend(&gram, &exact, &mut codes, most);
                }
                codes
            };
            let first = group * per_group;
            Ok(in_parallel(per_group, inner_threads, |o| one(first + o)))
        };
        let found: Vec<Result<Vec<Vec<i8>>, QuantizeError>> = match self.groups {
            1 => vec![chosen(0, threads)],
            groups => in_parallel(groups, threads, |group| chosen(group, 1)),
        };
        let found = found.into_iter().collect::<Result<Vec<_>, _>>()?;
        for (o, codes) in found.into_iter().flatten().enumerate() {
            for (i, code) in codes.into_iter().enumerate() {
                weights.codes[at(o, i)] = code;
            }
        }
        self.rows = Vec::new();
        Ok(())
    }
}
