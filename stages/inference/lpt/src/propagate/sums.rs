//! What integer convolutions and matrix products share: constant codes, and sums that fit 32 bits.

use flow_model::graph::{Graph, Value};
use flow_model::op::{Dequantize, Op};
use flow_model::tensor::Tensor;

use super::coded::Coded;
use crate::dequantization::{at, integer_zero_point, is_usable_scale};
use crate::report::{Reason, ReasonCode};
use crate::weights::channel_of_each;

/// Constant i8 codes of weights with scale and zero point per output channel.
pub(super) struct Codes {
    pub(super) tensor: Tensor,
    pub(super) scale: Vec<f32>,
    pub(super) zero_point: Vec<i32>,
}

impl Codes {
    /// The codes behind a weights input, as the weights pass leaves them.
    pub(super) fn of(graph: &Graph, input: Value) -> Option<Self> {
        let mut node = graph.node(input.node);
        while let Op::Reshape { .. } | Op::Transpose = node.op {
            node = graph.node(node.inputs.first()?.node);
        }
        let Op::Dequantize(Dequantize {
            scale, zero_point, ..
        }) = &node.op
        else {
            return None;
        };
        let Op::Constant(tensor) = &graph.node(node.inputs.first()?.node).op else {
            return None;
        };
        Some(Self {
            tensor: tensor.clone(),
            scale: scale.clone(),
            zero_point: zero_point
                .iter()
                .map(|&z| integer_zero_point(f64::from(z)))
                .collect::<Option<_>>()?,
        })
    }
}

/// How the sums of one output channel come about.
pub(super) struct Channel {
    /// Sum of the weights, zero point subtracted.
    pub(super) sum: i64,
    /// Sum of their magnitudes.
    pub(super) magnitude: i64,
}

/// Sums over the weights of each output channel of each of `matrices` sets of weights; `inner` codes of a channel
/// lie together, and channels follow in turn.
pub(super) fn channels(codes: &Codes, matrices: usize, count: usize, inner: usize) -> Vec<Channel> {
    let mut channels = Vec::with_capacity(matrices * count);
    let bytes = codes.tensor.bytes();
    for matrix in bytes.chunks(bytes.len().div_ceil(matrices.max(1)).max(1)) {
        let first = channels.len();
        channels.extend((0..count).map(|_| Channel { sum: 0, magnitude: 0 }));
        let runs = matrix.chunks(inner.max(1));
        for (run, channel) in runs.zip(channel_of_each(count, 1)) {
            let zero_point = at(&codes.zero_point, channel);
            let weight = |&byte: &u8| i64::from(i32::from(byte as i8) - zero_point);
            channels[first + channel].sum += run.iter().map(weight).sum::<i64>();
            channels[first + channel].magnitude += run.iter().map(|b| weight(b).abs()).sum::<i64>();
        }
    }
    channels
}

/// The integer zero point that an operation subtracts from codes with the zero point `exact`, and what is
/// left of `exact`.
///
/// The rest is no error: without padding every weight of a channel meets it, so it moves the sums of that
/// channel by `rest * sum of weights`, which the dequantization of the sums subtracts.
pub(super) fn split_zero_point(exact: f32, coded: &Coded) -> (i32, f64) {
    let exact = f64::from(exact);
    let (low, high) = Coded::full_range(coded.element_type);
    let near = integer_zero_point(exact).map_or(exact.round_ties_even(), f64::from);
    let integer = near.clamp(f64::from(low), f64::from(high)) as i32;
    let rest = exact - f64::from(integer);
    if rest.abs() <= crate::dequantization::ZERO_POINT_TOLERANCE {
        return (integer, 0.0);
    }
    (integer, rest)
}

/// Checks that no sum of a channel leaves 32 bits.
pub(super) fn check_range(
    name: &str,
    channels: &[Channel],
    coded: &Coded,
    zero_point: impl Fn(usize) -> i32,
) -> Result<(), Reason> {
    for (i, channel) in channels.iter().enumerate() {
        let far = coded.distance(zero_point(i));
        if channel
            .magnitude
            .checked_mul(far)
            .is_none_or(|m| m > i64::from(i32::MAX))
        {
            return Err(Reason::new(
                ReasonCode::Accumulator,
                format!(
                    "channel {i} of \"{name}\" sums weights of total magnitude {} with codes up to {far}",
                    channel.magnitude
                ),
            ));
        }
    }
    Ok(())
}

/// The product of a data scale and a weights scale.
pub(super) fn product(name: &str, data: f32, weights: f32) -> Result<f32, Reason> {
    let scale = f64::from(data) * f64::from(weights);
    if is_usable_scale(scale) {
        return Ok(scale as f32);
    }
    Err(Reason::new(
        ReasonCode::ScaleRange,
        format!("the product of scales {data:e} and {weights:e} of \"{name}\" is no normal f32"),
    ))
}
