//! What one sample says of a value.

use flow_model::Graph;

use super::{Estimator, Watch};
use crate::histogram::Counter;

/// Values that are looked at at a time.
const BLOCK: usize = 1024;
/// Channels that are put in order at a time: those whose values lie in a cache line.
const LANES: usize = 16;

/// What one sample says of one watched value.
pub(super) struct Seen {
    pub min: Vec<f32>,
    pub max: Vec<f32>,
    /// Statistics that the estimator takes in place of the extremes.
    pub each: [Vec<f32>; 3],
}

/// How the values of a watched value lie, and which belong together.
#[derive(Debug, Clone, Copy)]
pub(super) struct Order {
    /// Number of channels that are told apart.
    pub channels: usize,
    /// Values of one channel that stand together, or of one sample of a batch where channels are last.
    inner: usize,
    /// Whether the channels of a pixel lie together.
    pixels: bool,
}

impl Order {
    /// `pixels` tells whether the value comes with its channels last.
    pub(super) fn of(graph: &Graph, watch: Watch, pixels: bool) -> Self {
        let shape = graph.info(watch.value).static_shape().unwrap_or_default();
        if !watch.per_channel || shape.len() < 2 {
            return Self {
                channels: 1,
                inner: shape.iter().product(),
                pixels: false,
            };
        }
        Self {
            channels: shape[1],
            inner: shape[2..].iter().product(),
            pixels,
        }
    }

    /// Calls `take` with a channel and its values, once per place in the batch.
    fn each_channel(self, values: &[f32], mut take: impl FnMut(usize, &[f32])) {
        let inner = self.inner.max(1);
        if !self.pixels {
            for (at, part) in values.chunks_exact(inner).enumerate() {
                take(at % self.channels, part);
            }
            return;
        }
        let mut planes = vec![0f32; LANES * inner];
        for sample in values.chunks_exact((inner * self.channels).max(1)) {
            for first in (0..self.channels).step_by(LANES) {
                let lanes = LANES.min(self.channels - first);
                for (at, pixel) in sample.chunks_exact(self.channels).enumerate() {
                    for (lane, &value) in pixel[first..first + lanes].iter().enumerate() {
                        planes[lane * inner + at] = value;
                    }
                }
                for (lane, plane) in planes.chunks_exact(inner).take(lanes).enumerate() {
                    take(first + lane, plane);
                }
            }
        }
    }
}

/// What one sample says of a value, which also is counted where there are counters; none where a value is not
/// finite.
pub(super) fn seen_of(
    values: &[f32],
    order: Order,
    estimator: Estimator,
    counters: &mut [Counter],
) -> Option<Seen> {
    let channels = order.channels;
    let mut min = vec![f32::INFINITY; channels];
    let mut max = vec![f32::NEG_INFINITY; channels];
    let mut finite = true;
    order.each_channel(values, |c, values| {
        // All at once for values that are in the cache.
        for block in values.chunks(BLOCK) {
            finite &= all_finite(block);
            let (low, high) = extremes(block);
            min[c] = min[c].min(low);
            max[c] = max[c].max(high);
            if let Some(counter) = counters.get_mut(c) {
                counter.add(block);
            }
        }
    });
    if !finite {
        return None;
    }
    let each = match estimator {
        Estimator::Quantile(share) => quantiles(values, order, share),
        _ => {
            let magnitude = min.iter().zip(&max).map(|(a, b)| a.abs().max(b.abs())).collect();
            [min.clone(), max.clone(), magnitude]
        }
    };
    Some(Seen { min, max, each })
}

fn all_finite(values: &[f32]) -> bool {
    // Zero times what is not finite is not a number; several lanes, so that the compiler uses vectors.
    let mut sums = [0f32; 16];
    let (whole, rest) = values.as_chunks::<16>();
    for part in whole {
        for i in 0..16 {
            sums[i] += part[i] * 0.0;
        }
    }
    sums.iter().all(|sum| *sum == 0.0) && rest.iter().all(|v| v.is_finite())
}

fn extremes(values: &[f32]) -> (f32, f32) {
    // Several lanes, so that the compiler uses vectors.
    let mut low = [f32::INFINITY; 16];
    let mut high = [f32::NEG_INFINITY; 16];
    let (whole, rest) = values.as_chunks::<16>();
    for part in whole {
        for i in 0..16 {
            low[i] = if part[i] < low[i] { part[i] } else { low[i] };
            high[i] = if part[i] > high[i] { part[i] } else { high[i] };
        }
    }
    let low = low.iter().chain(rest).copied().fold(f32::INFINITY, f32::min);
    let high = high.iter().chain(rest).copied().fold(f32::NEG_INFINITY, f32::max);
    (low, high)
}

/// Low and high quantile, and the high one of magnitudes, per channel, interpolated as numpy does.
fn quantiles(values: &[f32], order: Order, share: f32) -> [Vec<f32>; 3] {
    let mut sorted: Vec<Vec<f32>> = vec![Vec::new(); order.channels];
    order.each_channel(values, |c, values| sorted[c].extend_from_slice(values));
    let mut found = [Vec::new(), Vec::new(), Vec::new()];
    for values in &mut sorted {
        found[0].push(quantile(values, share));
        found[1].push(quantile(values, 1.0 - share));
        values.iter_mut().for_each(|v| *v = v.abs());
        found[2].push(quantile(values, 1.0 - share));
    }
    found
}

pub(super) fn quantile(values: &mut [f32], share: f32) -> f32 {
    if values.is_empty() {
        return 0.0;
    }
    let place = f64::from(share) * (values.len() - 1) as f64;
    let below = place.floor() as usize;
    let (_, &mut low, above) = values.select_nth_unstable_by(below, f32::total_cmp);
    let high = above.iter().copied().fold(f32::INFINITY, f32::min);
    if above.is_empty() {
        return low;
    }
    (f64::from(low) + (f64::from(high) - f64::from(low)) * (place - below as f64)) as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channels_are_told_apart_whichever_way_they_lie() {
        for channels in [3, 16, 37] {
            let value = |n: usize, c: usize, i: usize| (n * 1000 + c * 10 + i) as f32;
            let (inner, batch) = (5, 2);
            let mut planes = Vec::new();
            let mut pixels = Vec::new();
            for n in 0..batch {
                (0..channels).for_each(|c| planes.extend((0..inner).map(|i| value(n, c, i))));
                (0..inner).for_each(|i| pixels.extend((0..channels).map(|c| value(n, c, i))));
            }
            let collect = |pixels: bool, values: &[f32]| {
                let mut found = Vec::new();
                let order = Order {
                    channels,
                    inner,
                    pixels,
                };
                order.each_channel(values, |c, values| found.push((c, values.to_vec())));
                found
            };
            assert_eq!(collect(false, &planes), collect(true, &pixels), "{channels}");
        }
    }

    #[test]
    fn what_is_not_finite_is_found_wherever_it_stands() {
        for place in [0, 15, 16, 40, 49] {
            for wrong in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                let mut values = vec![f32::MAX; 50];
                assert!(all_finite(&values));
                values[place] = wrong;
                assert!(!all_finite(&values), "{wrong} at {place}");
            }
        }
    }
}
