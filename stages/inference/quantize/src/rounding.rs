//! Rounding of weights by what it does to the output of their layer.
//!
//! Rounding each weight to the nearest code makes the error of the weights least, not that of what the layer gives. With the
//! rounded inputs `x` of a layer and the error `d` of the weights of an output channel, the error of its output has the mean
//! square `d' E[x x'] d`; where the bias is corrected afterwards, which takes out its mean, the variance `d' Cov[x] d` is what
//! remains. As in AdaRound (Nagel et al., 2020) each weight takes the code below or the one above. Where AdaRound relaxes
//! that choice and follows gradients, this goes over the weights and takes whatever changes of a code make the error less
//! until none does: coordinate descent, as in QuantEase (Behdin et al., 2023), which is quick and always gives the same.

mod gather;
mod gram;

use flow_model::op::Op;
use flow_model::{Graph, Value};

use crate::bias::Governing;
use crate::data::{Dataset, Part};
use crate::error::QuantizeError;
use crate::insert::Scheme;
use crate::placement::Edge;
use crate::run::{Progress, Runner, Steps, channels_moved_last};
use gather::Patches;

/// Samples that layers are measured on.
const SAMPLES: usize = 64;
/// Bytes of inputs that are kept at a time; a layer that takes more goes alone.
const KEPT: usize = 256 << 20;
/// What is added to the diagonal, as a share of its mean: inputs of few samples tell directions apart that others would not.
const DAMPING: f32 = 0.01;
/// Most times that all weights of a channel are gone over.
const SWEEPS: usize = 30;

/// Rounds the weights of a scheme by the samples. `centred` is for networks whose biases are corrected afterwards.
pub(crate) fn round(
    graph: &Graph,
    scheme: &mut Scheme,
    centred: bool,
    data: &dyn Dataset,
    threads: usize,
    progress: &dyn Progress,
) -> Result<(), QuantizeError> {
    let part = Part::spread(data, SAMPLES);
    let governing = Governing::new(graph, scheme);
    let layers: Vec<(usize, Patches)> = scheme
        .weights
        .iter()
        .enumerate()
        .filter(|(_, (point, _))| point.edge.port == 1)
        .filter_map(|(at, (point, weights))| {
            let id = point.edge.node;
            let limits = governing.of(Edge { node: id, port: 0 }).cloned();
            let outputs = weights.scales.len();
            Some((at, Patches::of(graph, id, limits, outputs, part.len())?))
        })
        .collect();
    let mut batches: Vec<Vec<(usize, Patches)>> = Vec::new();
    let mut kept = usize::MAX;
    for layer in layers {
        let bytes = layer.1.bytes();
        if kept.saturating_add(bytes) > KEPT {
            batches.push(Vec::new());
            kept = 0;
        }
        kept += bytes;
        if let Some(batch) = batches.last_mut() {
            batch.push(layer);
        }
    }
    let steps: usize = batches.iter().map(|b| b.len() + part.len()).sum();
    progress.phase("rounding weights", steps);
    for mut batch in batches {
        gather(graph, &mut batch, &part, threads, progress)?;
        for (at, mut patches) in batch {
            if progress.stopped() {
                return Err(QuantizeError::Stopped);
            }
            let (point, weights) = &mut scheme.weights[at];
            let node = graph.node(point.edge.node);
            if let Op::Constant(exact) = &graph.node(node.inputs[1].node).op {
                let columns = matches!(
                    node.op,
                    Op::MatMul {
                        transpose_b: false,
                        ..
                    }
                );
                patches.round(&exact.to_f32(), weights, columns, centred, threads)?;
            }
            progress.step();
        }
    }
    Ok(())
}

/// Runs the network over the samples and keeps inputs of some layers.
fn gather(
    graph: &Graph,
    layers: &mut [(usize, Patches)],
    data: &dyn Dataset,
    threads: usize,
    progress: &dyn Progress,
) -> Result<(), QuantizeError> {
    let mut watching = graph.clone();
    watching.results.clear();
    // Several layers may take one value.
    let mut values: Vec<(Value, bool)> = Vec::new();
    let mut results = Vec::new();
    for (_, patches) in layers.iter() {
        let wanted = (patches.value, patches.window.image);
        let known = values.iter().position(|v| *v == wanted);
        results.push(known.unwrap_or(values.len()));
        if known.is_none() {
            values.push(wanted);
            let moved = wanted.1.then(|| channels_moved_last(&mut watching, wanted.0));
            crate::bias::watch(&mut watching, moved.flatten().unwrap_or(wanted.0));
        }
    }
    watching.infer_shapes()?;
    let steps = Steps(progress);
    let runner = Runner::new(flow_model::passes::eliminate_dead(&watching), threads, &steps)?;
    let read: &[(usize, Patches)] = layers;
    let mut found: Vec<Vec<f32>> = read
        .iter()
        .map(|(_, p)| Vec::with_capacity(p.bytes() / 4))
        .collect();
    runner.for_each(
        data,
        "rounding weights",
        |(): &mut (), index, outputs| {
            let take = |((_, patches), &result): (&(usize, Patches), &usize)| {
                outputs.with(result, |values| patches.take(index, values))
            };
            Ok(read.iter().zip(&results).map(take).collect::<Vec<_>>())
        },
        |_, taken| {
            found.iter_mut().zip(taken).for_each(|(all, one)| all.extend(one));
            Ok(())
        },
    )?;
    for ((_, patches), found) in layers.iter_mut().zip(found) {
        patches.rows = found;
    }
    Ok(())
}

/// Chooses for each weight of a channel the code below or above, so that `error' gram error` becomes least by changes of
/// single codes. `exact` holds the weights in units of their scale, `codes` those that they were rounded to.
fn descend(gram: &[f32], exact: &[f32], codes: &mut [i8], most: f32) {
    let n = exact.len();
    let mut slope = vec![0f32; n];
    let add = |slope: &mut [f32], i: usize, by: f32| {
        let row = &gram[i * n..(i + 1) * n];
        slope.iter_mut().zip(row).for_each(|(s, g)| *s += g * by);
    };
    for (i, (&t, &q)) in exact.iter().zip(&*codes).enumerate() {
        let error = f32::from(q) - t;
        if error != 0.0 {
            add(&mut slope, i, error);
        }
    }
    for _ in 0..SWEEPS {
        let mut changed = false;
        for i in 0..n {
            let code = f32::from(codes[i]);
            let other = if code > exact[i] { code - 1.0 } else { code + 1.0 };
            let beside = (other - exact[i]).abs() < 1.0 && other.abs() <= most;
            let by = other - code;
            // The change of the error; what is less than rounding of sums would turn to and fro.
            let own = gram[i * n + i];
            if beside && 2.0 * by * slope[i] + own < -1e-4 * own {
                codes[i] = other as i8;
                add(&mut slope, i, by);
                changed = true;
            }
        }
        if !changed {
            break;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Net, samples};
    use crate::{BiasCorrection, InMemory, Options, OverflowFix, Quantized, Silent, prepare, quantize};
    use flow_model::{Tensor, evaluate};

    fn error(gram: &[f32], exact: &[f32], codes: &[i8]) -> f32 {
        let off: Vec<f32> = exact.iter().zip(codes).map(|(t, &q)| f32::from(q) - t).collect();
        let n = off.len();
        (0..n * n).map(|at| off[at / n] * gram[at] * off[at % n]).sum()
    }

    #[test]
    fn no_single_code_could_be_changed_for_the_better() {
        let n = 12;
        let mut net = Net::default();
        let rows: Vec<f32> = net.random(20 * n).iter().map(|v| v + 0.8).collect();
        let gram = gram::gram(&rows, n, 1).unwrap();
        let exact: Vec<f32> = net.random(n).iter().map(|v| v * 9.0).collect();
        let nearest: Vec<i8> = exact.iter().map(|t| t.round() as i8).collect();
        let mut codes = nearest.clone();
        descend(&gram, &exact, &mut codes, 127.0);
        let reached = error(&gram, &exact, &codes);
        assert!(reached < 0.5 * error(&gram, &exact, &nearest), "{reached}");
        for i in 0..n {
            assert!((f32::from(codes[i]) - exact[i]).abs() < 1.0, "{i}");
            let mut other = codes.clone();
            other[i] += if f32::from(codes[i]) > exact[i] { -1 } else { 1 };
            assert!(error(&gram, &exact, &other) >= 0.999 * reached, "{i}");
        }
        // Weights at the end of the codes stay there.
        let mut ends = vec![2i8; 12];
        descend(&gram, &[2.4; 12], &mut ends, 2.0);
        assert_eq!(ends, [2; 12]);
    }

    /// Layers of every kind that is rounded by data, on inputs whose neighbours are alike.
    fn network() -> Graph {
        let mut net = Net::default();
        let x = net.input(&[1, 3, 8, 8]);
        let a = net.conv("a", x, 16);
        let a = net.relu("a/relu", a);
        let d = net.depthwise("d", a);
        let b = net.conv("b", d, 8);
        let weights = net.random(8 * 6);
        let weights = net.constant("m/weights", &[8, 6], &weights);
        let matrix = Op::MatMul {
            transpose_a: false,
            transpose_b: false,
        };
        let m = net.push("m", matrix, &[b, weights]);
        prepare(&net.result(&[m])).unwrap()
    }

    fn alike(count: usize, first: usize) -> InMemory {
        let made = samples(&[1, 3, 8, 8], first + count).0.into_iter().skip(first);
        let smooth = made.map(|sample| {
            let values = sample[0].to_f32();
            let near = |i: usize| values[i / 64 * 64..(i / 64 + 1) * 64].iter().sum::<f32>() / 16.0 + 0.5;
            let values: Vec<f32> = (0..values.len()).map(|i| 0.2 * values[i] + near(i)).collect();
            vec![Tensor::from_slice(&[1, 3, 8, 8], &values).unwrap()]
        });
        InMemory(smooth.collect())
    }

    fn made(bias: BiasCorrection, adaround: bool, threads: usize) -> Quantized {
        let options = Options {
            bias,
            adaround,
            threads,
            // Coarse weights: their error is to be the greater one beside that of activations.
            overflow_fix: OverflowFix::All,
            ..Options::default()
        };
        quantize(&network(), &alike(40, 0), &options, &Silent).unwrap()
    }

    /// The distance from f32 of the outputs of a network, over samples that were not seen.
    fn off(original: &Graph, graph: &Graph) -> f64 {
        let of = |sample: &Vec<Tensor>| {
            let f = evaluate(original, sample).unwrap()[0].to_f64();
            let q = evaluate(graph, sample).unwrap()[0].to_f64();
            f.iter().zip(&q).map(|(f, q)| (f - q) * (f - q)).sum::<f64>()
        };
        alike(20, 40).0.iter().map(of).sum::<f64>().sqrt()
    }

    /// The f32 network with rounded weights, and nothing else rounded.
    fn weights_alone(quantized: &Quantized) -> Graph {
        let mut graph = quantized.original.clone();
        for (point, weights) in &quantized.scheme.weights {
            let constant = graph.node(point.edge.node).inputs[1].node;
            let values = Tensor::from_slice(&weights.shape, &weights.values()).unwrap();
            graph.nodes[constant.index()].op = Op::Constant(values);
        }
        graph
    }

    #[test]
    fn outputs_of_samples_not_seen_come_nearer_and_codes_stay_beside_the_weights() {
        for bias in [BiasCorrection::None, BiasCorrection::Fast] {
            let (nearest, chosen) = (made(bias, false, 2), made(bias, true, 2));
            let mut changed = 0;
            for ((point, a), (_, b)) in nearest.scheme.weights.iter().zip(&chosen.scheme.weights) {
                let steps = a.codes.iter().zip(&b.codes).map(|(a, b)| a.abs_diff(*b));
                assert!(steps.clone().all(|s| s <= 1), "{point:?}");
                assert!(b.codes.iter().all(|q| q.abs() <= 64), "{point:?}");
                changed += steps.filter(|s| *s == 1).count();
            }
            assert!(changed > 100, "{changed}");
            let off = |made: fn(&Quantized) -> Graph| {
                [&nearest, &chosen].map(|quantized| off(&quantized.original, &made(quantized)))
            };
            let [before, after] = off(|quantized| quantized.graph.clone());
            assert!(after < before, "{bias:?}: {before} to {after}");
            if bias == BiasCorrection::None {
                let [before, after] = off(weights_alone);
                assert!(after < 0.6 * before, "{before} to {after}");
            }
        }
    }

    #[test]
    fn threads_choose_the_same() {
        let codes = |threads| {
            let scheme = made(BiasCorrection::Fast, true, threads).scheme;
            scheme
                .weights
                .into_iter()
                .map(|(_, w)| w.codes)
                .collect::<Vec<_>>()
        };
        assert_eq!(codes(1), codes(3));
    }
}
