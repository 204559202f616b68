//! Equalization of channels: what makes one channel of a value greater than the others moves into the weights that take it.
//!
//! A value with one scale for all channels serves the small ones badly. Dividing channel `c` by a positive `s[c]` where the
//! value is made, and multiplying the weights that take it by `s[c]`, computes the same function with channels alike. The
//! factors are `s[c] = max|x[c]|^alpha / max|w[c]|^(1 - alpha)`: those of SmoothQuant (Xiao et al., 2022), which at
//! `alpha` 0.5 are those of cross-layer equalization (Nagel et al., 2019) with ranges that were measured. They are rounded
//! to powers of two, so that the network in f32 gives the same bits.
//!
//! A value is made by a convolution, a matrix product or a scaling per channel (the end of a layer normalization), with a
//! bias and what keeps positive factors (ReLU, PReLU, pooling) between.

use flow_model::op::{BinaryKind, Op, UnaryKind};
use flow_model::{ElementType, Graph, NodeId, Tensor, Value};

use crate::data::Dataset;
use crate::error::QuantizeError;
use crate::placement::kinds::{is_depthwise, is_linear, weight_port};
use crate::run::{Progress, Runner, watching};

/// Greatest binary exponent of a factor, either way.
const MOST: f32 = 10.0;

/// A value whose channels can be scaled.
#[derive(Debug)]
struct Candidate {
    value: Value,
    /// The axis of its channels, and their number.
    axis: usize,
    channels: usize,
    /// Constants to divide along the axis of a tensor of theirs that holds the channels.
    divided: Vec<(NodeId, Along)>,
    /// Weights to multiply along that axis.
    multiplied: Vec<(NodeId, usize)>,
}

/// Where a constant holds one number per channel.
#[derive(Debug, Clone, Copy)]
enum Along {
    /// Along this axis.
    Axis(usize),
    /// Nowhere: it is one number for all channels, to be spread along this axis of a shape of that rank.
    Spread(usize, usize),
}

/// A network that computes the same, with channels alike as `alpha` says (from 0, all as the weights would have it, to 1,
/// as the values would), and the names of the values it was done for.
///
/// # Errors
/// If a sample does not fit, or the caller stops it.
pub fn equalize(
    graph: &Graph,
    data: &dyn Dataset,
    alpha: f32,
    threads: usize,
    progress: &dyn Progress,
) -> Result<(Graph, Vec<String>), QuantizeError> {
    let candidates = candidates(graph);
    let mut graph = graph.clone();
    if candidates.is_empty() {
        return Ok((graph, Vec::new()));
    }
    let greatest = greatest(&graph, &candidates, data, threads, progress)?;
    let mut names = Vec::new();
    for (candidate, values) in candidates.iter().zip(&greatest) {
        let mut weights = vec![0f32; candidate.channels];
        for &(id, axis) in &candidate.multiplied {
            if let Op::Constant(tensor) = &graph.node(id).op {
                along(tensor.shape(), axis, &tensor.to_f32(), |c, w| {
                    weights[c] = weights[c].max(w.abs())
                });
            }
        }
        let factors = factors(values, &weights, alpha);
        if factors.iter().all(|&f| f == 1.0) {
            continue;
        }
        for &(id, along) in &candidate.divided {
            scale(&mut graph, id, along, |c| 1.0 / factors[c], candidate.channels);
        }
        for &(id, axis) in &candidate.multiplied {
            scale(
                &mut graph,
                id,
                Along::Axis(axis),
                |c| factors[c],
                candidate.channels,
            );
        }
        names.push(graph.node(candidate.value.node).name.to_string());
    }
    graph.infer_shapes()?;
    Ok((graph, names))
}

/// What to divide each channel by: a power of two, 1 on average over the logarithms, 1 where a channel or its weights are
/// zero throughout.
fn factors(values: &[f32], weights: &[f32], alpha: f32) -> Vec<f32> {
    let wanted: Vec<Option<f32>> = values
        .iter()
        .zip(weights)
        .map(|(&x, &w)| {
            let alive = x > f32::MIN_POSITIVE && w > f32::MIN_POSITIVE;
            alive.then(|| alpha * x.log2() - (1.0 - alpha) * w.log2())
        })
        .collect();
    let alive = wanted.iter().flatten();
    let mean = alive.clone().sum::<f32>() / alive.count().max(1) as f32;
    let factor = |w: &Option<f32>| w.map_or(1.0, |w| (w - mean).round().clamp(-MOST, MOST).exp2());
    wanted.iter().map(factor).collect()
}

/// The greatest magnitude of each channel of the candidates' values over the samples.
fn greatest(
    graph: &Graph,
    candidates: &[Candidate],
    data: &dyn Dataset,
    threads: usize,
    progress: &dyn Progress,
) -> Result<Vec<Vec<f32>>, QuantizeError> {
    let values: Vec<Value> = candidates.iter().map(|c| c.value).collect();
    let runner = Runner::new(watching(graph, &values), threads, progress)?;
    let mut greatest: Vec<Vec<f32>> = candidates.iter().map(|c| vec![0.0; c.channels]).collect();
    runner.for_each(
        data,
        "equalization",
        |(): &mut (), _, outputs| {
            let seen = candidates.iter().enumerate().map(|(at, candidate)| {
                let mut most = vec![0f32; candidate.channels];
                let shape = graph.info(candidate.value).static_shape().unwrap_or_default();
                outputs.with(at, |values| {
                    along(&shape, candidate.axis, values, |c, v| {
                        most[c] = most[c].max(v.abs())
                    });
                });
                most
            });
            Ok(seen.collect::<Vec<_>>())
        },
        |_, seen: Vec<Vec<f32>>| {
            for (all, seen) in greatest.iter_mut().zip(&seen) {
                all.iter_mut().zip(seen).for_each(|(a, s)| *a = a.max(*s));
            }
            Ok(())
        },
    )?;
    Ok(greatest)
}

/// Calls `take` with each value and its place along an axis.
fn along(shape: &[usize], axis: usize, values: &[f32], mut take: impl FnMut(usize, f32)) {
    let inner: usize = shape[axis + 1..].iter().product();
    for (at, part) in values.chunks_exact(inner.max(1)).enumerate() {
        part.iter().for_each(|&v| take(at % shape[axis], v));
    }
}

/// Multiplies a constant by a factor per channel.
fn scale(graph: &mut Graph, id: NodeId, place: Along, factor: impl Fn(usize) -> f32, channels: usize) {
    let Op::Constant(tensor) = &graph.node(id).op else {
        return;
    };
    let (shape, values) = match place {
        Along::Axis(axis) => {
            let mut scaled = Vec::with_capacity(tensor.to_f32().len());
            along(tensor.shape(), axis, &tensor.to_f32(), |c, v| {
                scaled.push(v * factor(c))
            });
            (tensor.shape().to_vec(), scaled)
        }
        Along::Spread(axis, rank) => {
            let value = tensor.to_f32().first().copied().unwrap_or_default();
            let mut shape = vec![1; rank];
            shape[axis] = channels;
            (shape, (0..channels).map(|c| value * factor(c)).collect())
        }
    };
    if let Ok(tensor) = Tensor::from_slice(&shape, &values) {
        let node = &mut graph.nodes[id.index()];
        node.op = Op::Constant(tensor);
        node.outputs.clear();
    }
}

/// All values whose channels can be scaled, in topological order.
fn candidates(graph: &Graph) -> Vec<Candidate> {
    let users = graph.users();
    let outputs = graph
        .iter()
        .flat_map(|(id, node)| (0..node.outputs.len() as u32).map(move |port| Value { node: id, port }));
    outputs
        .filter_map(|value| {
            let shape = graph.info(value).static_shape()?;
            let taken: Vec<(usize, NodeId, usize)> = users[value.node.index()]
                .iter()
                .map(|&user| taker(graph, &users, value, user, shape.len()))
                .collect::<Option<_>>()?;
            let &(axis, ..) = taken.first()?;
            let channels = *shape.get(axis)?;
            let alike = taken.iter().all(|t| t.0 == axis);
            // Depthwise convolutions alone have a scale per channel already.
            let spared = users[value.node.index()].iter().all(|&u| is_depthwise(graph, u));
            if !alike || spared || channels < 2 {
                return None;
            }
            Some(Candidate {
                value,
                axis,
                channels,
                divided: makers(graph, &users, value, axis, channels)?,
                multiplied: taken
                    .into_iter()
                    .map(|(_, weights, along)| (weights, along))
                    .collect(),
            })
        })
        .collect()
}

/// The axis of the channels of a value that a node multiplies with constant weights, these weights, and their axis that
/// runs over the same channels.
fn taker(
    graph: &Graph,
    users: &[Vec<NodeId>],
    value: Value,
    user: NodeId,
    rank: usize,
) -> Option<(usize, NodeId, usize)> {
    let node = graph.node(user);
    if node.inputs.first() != Some(&value) || weight_port(graph, node) != Some(1) {
        return None;
    }
    let weights = own_constant(graph, users, node.inputs[1])?;
    match node.op {
        Op::Convolution(_) => Some((1, weights, 1)),
        Op::GroupConvolution(_) if is_depthwise(graph, user) => Some((1, weights, 0)),
        Op::MatMul {
            transpose_a: false,
            transpose_b,
        } if graph.info(node.inputs[1]).shape.len() == 2 => {
            Some((rank.checked_sub(1)?, weights, usize::from(transpose_b)))
        }
        _ => None,
    }
}

/// The constants to divide so that each channel of a value is divided.
fn makers(
    graph: &Graph,
    users: &[Vec<NodeId>],
    value: Value,
    axis: usize,
    channels: usize,
) -> Option<Vec<(NodeId, Along)>> {
    let mut divided = Vec::new();
    let mut at = value;
    // Bias, activation function and pooling: few operations.
    for step in 0..8 {
        if at.port != 0 || (step > 0 && users[at.node.index()].len() != 1) {
            return None;
        }
        let node = graph.node(at.node);
        let shape = graph.info(at).static_shape()?;
        if shape.get(axis) != Some(&channels) {
            return None;
        }
        match &node.op {
            Op::Unary(UnaryKind::Relu) | Op::MaxPool(_) | Op::AvgPool { .. } => at = node.inputs[0],
            Op::PRelu if matches!(graph.node(node.inputs[1].node).op, Op::Constant(_)) => at = node.inputs[0],
            Op::Binary(kind @ (BinaryKind::Add | BinaryKind::Multiply)) => {
                let constant = |p: &usize| matches!(graph.node(node.inputs[*p].node).op, Op::Constant(_));
                let port = (0..2).find(constant)?;
                let id = own_constant(graph, users, node.inputs[port])?;
                divided.push((id, held(graph, id, axis, channels, shape.len())?));
                if *kind == BinaryKind::Multiply {
                    return Some(divided);
                }
                at = node.inputs[1 - port];
            }
            op if is_linear(op) && weight_port(graph, node) == Some(1) => {
                let weights = own_constant(graph, users, node.inputs[1])?;
                let along = match op {
                    Op::Convolution(_) => 0,
                    Op::GroupConvolution(_) if is_depthwise(graph, at.node) => {
                        // Several outputs for each channel would need two axes.
                        (graph.info(node.inputs[1]).shape.get(1) == Some(&Some(1))).then_some(0)?
                    }
                    Op::MatMul { transpose_b, .. }
                        if axis + 1 == shape.len() && graph.info(node.inputs[1]).shape.len() == 2 =>
                    {
                        usize::from(!transpose_b)
                    }
                    _ => return None,
                };
                divided.push((weights, Along::Axis(along)));
                return Some(divided);
            }
            _ => return None,
        }
    }
    None
}

/// The constant that gives a value, if nothing else uses it.
fn own_constant(graph: &Graph, users: &[Vec<NodeId>], value: Value) -> Option<NodeId> {
    let node = graph.node(value.node);
    let alone = users[value.node.index()].len() == 1;
    let float = graph.info(value).element_type == ElementType::F32;
    (matches!(node.op, Op::Constant(_)) && alone && float).then_some(value.node)
}

/// Where a constant that is added to or multiplied with a value of that rank holds the channels of its axis.
fn held(graph: &Graph, id: NodeId, axis: usize, channels: usize, rank: usize) -> Option<Along> {
    let shape = graph.info(Value::of(id)).static_shape()?;
    let before = rank.checked_sub(shape.len())?;
    match axis.checked_sub(before).map(|axis| shape[axis]) {
        Some(count) if count == channels => Some(Along::Axis(axis - before)),
        _ => shape.iter().all(|&d| d == 1).then_some(Along::Spread(axis, rank)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Net, samples};
    use crate::{Estimator, InMemory, Options, Silent, quantize};
    use flow_model::evaluate;

    const SHAPE: [usize; 4] = [1, 4, 8, 8];

    /// `loud` gives channels whose magnitudes differ by up to 2^10; `depthwise` keeps that, `quiet` takes it away.
    fn convolutions() -> Graph {
        let mut net = Net::default();
        let x = net.input(&SHAPE);
        let loudness = |channel: usize| ((channel * 7 % 11) as f32).exp2();
        let mut weights = net.random(8 * 4 * 9);
        weights
            .iter_mut()
            .enumerate()
            .for_each(|(i, w)| *w *= loudness(i / 36));
        let a = net.convolution("loud", x, Op::Convolution, &[8, 4, 3, 3], &weights, 8);
        let a = net.relu("loud/relu", a);
        let a = net.depthwise("depthwise", a);
        let mut weights = net.random(8 * 8 * 9);
        weights
            .iter_mut()
            .enumerate()
            .for_each(|(i, w)| *w /= loudness(i / 9 % 8));
        let b = net.convolution("quiet", a, Op::Convolution, &[8, 8, 3, 3], &weights, 8);
        net.result(&[b])
    }

    /// A normalization scaled per channel, with channels that stick out, and two matrix products, one with its weights
    /// transposed.
    fn products() -> Graph {
        let mut net = Net::default();
        let x = net.input(&[1, 5, 16]);
        let scale: Vec<f32> = (0..16)
            .map(|c| if c == 3 || c == 9 { 60.0 } else { 1.0 })
            .collect();
        let scale = net.constant("gamma", &[1, 1, 16], &scale);
        let y = net.push("scaled", Op::Binary(BinaryKind::Multiply), &[x, scale]);
        let beta = net.constant("beta", &[1, 1, 1], &[0.1]);
        let y = net.add("normalized", y, beta);
        let product = |net: &mut Net, name: &str, transpose_b: bool| {
            let values = net.random(16 * 8);
            let shape = if transpose_b { [8, 16] } else { [16, 8] };
            let w = net.constant(&format!("{name}/w"), &shape, &values);
            let op = Op::MatMul {
                transpose_a: false,
                transpose_b,
            };
            net.push(name, op, &[y, w])
        };
        let (a, b) = (product(&mut net, "a", false), product(&mut net, "b", true));
        net.result(&[a, b])
    }

    fn error(original: &Graph, found: &Graph, data: &InMemory) -> f64 {
        let (mut off, mut whole) = (0.0, 0.0);
        for sample in &data.0 {
            let outputs = evaluate(original, sample).unwrap().into_iter();
            for (f, q) in outputs.zip(evaluate(found, sample).unwrap()) {
                for (f, q) in f.to_f64().iter().zip(q.to_f64()) {
                    off += (f - q) * (f - q);
                    whole += f * f;
                }
            }
        }
        (off / whole).sqrt()
    }

    #[track_caller]
    fn helps(graph: &Graph, shape: &[usize], alpha: f32, names: &[&str]) {
        let data = samples(shape, 8);
        let (equal, found) = equalize(graph, &data, alpha, 2, &Silent).unwrap();
        assert_eq!(found, names);
        assert_ne!(
            flow_model::ir::to_bytes(&equal).unwrap(),
            flow_model::ir::to_bytes(graph).unwrap()
        );
        assert_eq!(
            error(graph, &equal, &data),
            0.0,
            "in f32 the function is the same"
        );
        let options = Options {
            estimator: Estimator::Extreme,
            ..Options::default()
        };
        let of = |net: &Graph| {
            error(
                graph,
                &quantize(net, &data, &options, &Silent).unwrap().graph,
                &data,
            )
        };
        let (before, after) = (of(graph), of(&equal));
        assert!(after < 0.7 * before, "{after} is no better than {before}");
    }

    #[test]
    fn convolutions_with_channels_far_apart_gain_and_compute_the_same() {
        helps(&convolutions(), &SHAPE, 0.5, &["depthwise/biased"]);
    }

    #[test]
    fn matrix_products_behind_a_normalization_gain_and_compute_the_same() {
        helps(&products(), &[1, 5, 16], 0.5, &["normalized"]);
    }

    #[test]
    fn factors_are_powers_of_two_between_values_and_weights() {
        // sqrt(x / w) is 8, 2, 1/2 and, of a dead channel, nothing; their mean over the logarithms is 2.
        let values = [64.0, 4.0, 0.25, 0.0];
        assert_eq!(factors(&values, &[1.0; 4], 0.5), [4.0, 1.0, 0.25, 1.0]);
        // With alpha 1 values alone count: all channels become alike.
        let found = factors(&values[..3], &[1.0, 7.0, 0.1], 1.0);
        assert_eq!(found, [16.0, 1.0, 0.0625]);
    }

    #[test]
    fn values_with_other_users_and_behind_other_functions_are_left() {
        // The residual takes the value as it is.
        let mut net = Net::default();
        let x = net.input(&SHAPE);
        let a = net.conv("a", x, 4);
        let b = net.conv("b", a, 4);
        let both = net.add("both", a, b);
        let s = net.push("s", Op::Unary(UnaryKind::Sigmoid), &[both]);
        let c = net.conv("c", s, 4);
        assert!(candidates(&net.result(&[c])).is_empty());
    }
}
