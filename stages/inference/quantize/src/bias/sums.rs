//! Sums of what each weight of a layer multiplies.
//!
//! A convolution and a matrix product are linear, so the mean of what they give follows from the sum of the inputs that
//! meet each weight, over all places of the output: `mean(y[o]) = sum(w[o, i] * S[i]) / places`. Where a window leaves the
//! input it meets fewer values, which the sums know. That takes a sum per weight of one filter in place of a convolution.

use flow_model::{Graph, NodeId, Value};

use super::probe::Means;
use crate::ranges::Limits;
use crate::window::{Met, Window};

/// Adding this to a value below 2^22 and taking it away again rounds to a whole number, to even where it lies between.
const ROUND: f32 = 12_582_912.0;

/// The sums for one input of a layer; several layers may have the same.
#[derive(Debug, Clone)]
pub(super) struct InputSums<'a> {
    /// The value that is summed.
    pub value: Value,
    /// What it is rounded to, where it is.
    limits: Option<&'a Limits>,
    window: Window,
    met: [Vec<Met>; 3],
}

impl PartialEq for InputSums<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.value == other.value && self.limits == other.limits && self.window == other.window
    }
}

impl<'a> InputSums<'a> {
    /// The sums that the mean of a layer's output takes; none for a layer that has no such form.
    pub(super) fn of(graph: &Graph, id: NodeId, limits: Option<&'a Limits>) -> Option<Self> {
        let window = Window::of(graph, id)?;
        // Limits per channel stand for axis 1.
        let channels = limits.map_or(1, Limits::channels);
        let fits = channels == 1 || window.image && channels == window.channels;
        fits.then(|| Self {
            value: graph.node(id).inputs[0],
            limits,
            met: window.met(),
            window,
        })
    }

    /// Whether the value is to be taken with its channels moved last.
    pub(super) fn image(&self) -> bool {
        self.window.image
    }

    /// For each channel and tap the sum of the values, then for each the sum of what rounding takes from them. Channels of
    /// the values are last.
    pub(super) fn take(&self, values: &[f32]) -> Means {
        let channels = self.window.channels.max(1);
        let [depth, height, width] = self.window.plane;
        let [deep, high, wide] = &self.met;
        let size = self.window.size();
        // By tap, then the channels of the values and behind them those of what rounding takes.
        let mut sums = vec![0f64; 2 * size * channels];
        let mut of_row = vec![0f32; 2 * wide.len() * channels];
        let mut lost = vec![0f32; width * channels];
        for (at, row) in values.chunks_exact((width * channels).max(1)).enumerate() {
            let (d, h) = (at / height.max(1) % depth.max(1), at % height.max(1));
            self.lost(row, &mut lost);
            for (sums, met) in of_row.chunks_exact_mut(2 * channels).zip(wide) {
                let (kept, taken) = sums.split_at_mut(channels);
                add_pixels(met, row, kept);
                if self.limits.is_some() {
                    add_pixels(met, &lost, taken);
                }
            }
            for (i, _) in deep.iter().enumerate().filter(|(_, met)| met.has(d)) {
                for (j, _) in high.iter().enumerate().filter(|(_, met)| met.has(h)) {
                    let to = sums[(i * high.len() + j) * of_row.len()..].iter_mut();
                    to.zip(&of_row).for_each(|(a, b)| *a += f64::from(*b));
                }
            }
        }
        let in_order = |half: usize| {
            let sums = &sums;
            (0..channels).flat_map(move |c| (0..size).map(move |tap| sums[(2 * tap + half) * channels + c]))
        };
        in_order(0).chain(in_order(1)).collect()
    }

    /// What rounding takes from each value of a row of pixels.
    fn lost(&self, row: &[f32], lost: &mut [f32]) {
        let Some(limits) = self.limits else {
            return;
        };
        let of = |x: f32, low: f32, high: f32, step: f32, per_step: f32| {
            let within = if x > low { x } else { low };
            let within = if within < high { within } else { high };
            let code = ((within - low) * per_step + ROUND) - ROUND;
            x - (code * step + low)
        };
        let steps = (limits.levels - 1) as f32;
        if let ([low], [high]) = (&limits.low[..], &limits.high[..]) {
            let (low, high) = (*low, *high);
            let step = (high - low) / steps;
            let per_step = 1.0 / step;
            for (lost, &x) in lost.iter_mut().zip(row) {
                *lost = of(x, low, high, step, per_step);
            }
            return;
        }
        let channels = self.window.channels.max(1);
        for (lost, row) in lost.chunks_exact_mut(channels).zip(row.chunks_exact(channels)) {
            let both = limits.low.iter().zip(&limits.high);
            for ((lost, &x), (&low, &high)) in lost.iter_mut().zip(row).zip(both) {
                let step = (high - low) / steps;
                *lost = of(x, low, high, step, 1.0 / step);
            }
        }
    }

    /// The mean of what rounding of weights and inputs takes from each of `outputs` channels, from the sums of
    /// [`InputSums::take`] over `places` places of the output. `weight` gives a weight, as it is and rounded, for an output
    /// channel and the place in its filter.
    pub(super) fn shift(
        &self,
        sums: &[f64],
        outputs: usize,
        filter: usize,
        places: usize,
        weight: impl Fn(usize, usize) -> (f32, f32),
    ) -> Vec<f32> {
        let (kept, taken) = sums.split_at(sums.len() / 2);
        // Groups have filters over their own channels.
        let groups = (kept.len() / filter.max(1)).max(1);
        let mean = |output: usize| {
            let first = output / (outputs / groups).max(1) * filter;
            let of = |i: usize| {
                let (exact, rounded) = weight(output, i);
                let (exact, rounded) = (f64::from(exact), f64::from(rounded));
                (exact - rounded) * kept[first + i] + rounded * taken[first + i]
            };
            ((0..filter).map(of).sum::<f64>() / places.max(1) as f64) as f32
        };
        (0..outputs).map(mean).collect()
    }
}

/// The sum of those pixels of a row that a tap meets.
fn add_pixels(met: &Met, row: &[f32], sums: &mut [f32]) {
    sums.fill(0.0);
    let channels = sums.len().max(1);
    let pixels = row.chunks_exact(channels).skip(met.first).step_by(met.step);
    for pixel in pixels.take(met.count) {
        sums.iter_mut().zip(pixel).for_each(|(sum, x)| *sum += x);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Net, samples};
    use flow_model::op::{AutoPad, ConvAttrs, Op};
    use flow_model::{Tensor, evaluate};

    /// The shift by sums, and the mean difference of what the reference evaluator gives.
    fn both(op: Op, input: &[usize], weights: &[usize], filter: usize, axis: usize, low: &[f32]) {
        let mut net = Net::default();
        let x = net.input(input);
        let count: usize = weights.iter().product();
        let exact = net.random(count);
        let coarse: Vec<f32> = exact.iter().map(|w| (w * 4.0).round() / 4.0).collect();
        let limits = Limits {
            low: low.to_vec(),
            high: low.iter().map(|l| -l).collect(),
            levels: 16,
        };
        let constant = net.constant("w", weights, &exact);
        let y = net.push("y", op, &[x, constant]);
        let graph = net.result(&[y]);
        let sums = InputSums::of(&graph, y.node, Some(&limits)).unwrap();
        let sample = samples(input, 1).0.remove(0).remove(0);
        let output = graph.info(y).static_shape().unwrap();
        let places = output.iter().product::<usize>() / output[axis];
        let flat = |o: usize, i: usize| match weights.len() {
            // A matrix holds its filters as columns.
            2 => i * weights[1] + o,
            _ => o * filter + i,
        };
        let mut turned = sample.to_f32();
        if sums.image() {
            let inner: usize = input[2..].iter().product();
            for (at, value) in turned.iter_mut().enumerate() {
                let (n, pixel, c) = (at / input[1] / inner, at / input[1] % inner, at % input[1]);
                *value = sample.to_f32()[(n * input[1] + c) * inner + pixel];
            }
        }
        let found = sums.shift(&sums.take(&turned), output[axis], filter, places, |o, i| {
            (exact[flat(o, i)], coarse[flat(o, i)])
        });

        let y_exact = evaluate(&graph, std::slice::from_ref(&sample)).unwrap()[0].to_f64();
        let inner: usize = input[2..].iter().product();
        let round = |(at, x): (usize, &f32)| {
            let channel = if low.len() > 1 { at / inner % low.len() } else { 0 };
            limits.round(channel, *x)
        };
        let rounded: Vec<f32> = sample.to_f32().iter().enumerate().map(round).collect();
        let mut graph = graph;
        graph.nodes[constant.node.index()].op = Op::Constant(Tensor::from_slice(weights, &coarse).unwrap());
        let rounded = Tensor::from_slice(input, &rounded).unwrap();
        let y_rounded = evaluate(&graph, &[rounded]).unwrap()[0].to_f64();
        let behind: usize = output[axis + 1..].iter().product();
        let mut wanted = vec![0f64; output[axis]];
        for (at, (a, b)) in y_exact.iter().zip(&y_rounded).enumerate() {
            wanted[at / behind % output[axis]] += (a - b) / places as f64;
        }
        assert!(wanted.iter().any(|w| w.abs() > 1e-3), "{wanted:?}");
        for (found, wanted) in found.iter().zip(&wanted) {
            assert!((f64::from(*found) - wanted).abs() < 1e-4, "{found} for {wanted}");
        }
    }

    fn attrs(strides: &[usize], dilations: &[usize], before: &[isize], after: &[isize]) -> ConvAttrs {
        ConvAttrs {
            strides: strides.to_vec(),
            dilations: dilations.to_vec(),
            pads_begin: before.to_vec(),
            pads_end: after.to_vec(),
            auto_pad: AutoPad::Explicit,
        }
    }

    #[test]
    fn sums_tell_the_shift_of_every_kind_of_layer() {
        let plain = attrs(&[1, 1], &[1, 1], &[0, 0], &[0, 0]);
        both(
            Op::Convolution(plain),
            &[2, 6, 9, 7],
            &[5, 6, 1, 1],
            6,
            1,
            &[-0.7],
        );
        let bordered = attrs(&[2, 1], &[1, 2], &[1, 2], &[2, 1]);
        both(
            Op::Convolution(bordered),
            &[1, 4, 9, 8],
            &[3, 4, 3, 3],
            36,
            1,
            &[-0.7],
        );
        let wide = attrs(&[3, 2], &[1, 1], &[3, 3], &[3, 3]);
        let grouped = Op::GroupConvolution(wide.clone());
        both(grouped, &[1, 4, 9, 11], &[2, 3, 2, 7, 7], 98, 1, &[-0.7]);
        let depthwise = Op::GroupConvolution(wide);
        both(
            depthwise,
            &[2, 3, 6, 6],
            &[3, 1, 1, 7, 7],
            49,
            1,
            &[-0.3, -0.6, -0.9],
        );
        let line = attrs(&[2], &[1], &[1], &[0]);
        both(Op::Convolution(line), &[1, 3, 8], &[4, 3, 3], 9, 1, &[-0.7]);
        let matrix = Op::MatMul {
            transpose_a: false,
            transpose_b: false,
        };
        both(matrix, &[1, 5, 6], &[6, 4], 6, 2, &[-0.7]);
    }
}
