//! Quantized weights: any constant chain read into integer codes with a scale and a zero point per output
//! channel.
//!
//! Two forms are read: `FakeQuantize(constant)`, and an integer constant with
//! `Convert -> [Subtract zero point] -> Multiply scale`. Operations that move values may stand anywhere in the
//! chain. Every code remembers which pair of scale and zero point it belongs to, so that the
//! shape operations need not know about axes: at the end each output channel must have met one pair only.

mod channels;
pub(crate) mod fold;
mod grouped;

use flow_model::graph::{Graph, Value};
use flow_model::op::{BinaryKind, Op};
use flow_model::ops::fake_quantize::level;
use flow_model::tensor::{ElementType, Tensor};

use crate::constants;
use crate::dequantization::of_interval;
use crate::propagate::moves_values;
use crate::report::{Reason, ReasonCode};
use channels::{finish, per_channel};
use grouped::Grouped;

/// Weights as signed 8-bit codes: `w = (code - zero_point) * scale`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Weights {
    /// I8 codes in the shape of the chain's result.
    pub(crate) codes: Tensor,
    /// One scale, or one per output channel.
    pub(crate) scale: Vec<f32>,
    /// One zero point, or one per output channel.
    pub(crate) zero_point: Vec<i32>,
}

/// Which axes number the output channels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ChannelAxes {
    /// This many leading axes: 1 for Convolution and `[N, K]`, 2 for GroupConvolution.
    Leading(usize),
    /// The last axis: `[K, N]`.
    Last,
    /// The axis behind this many group axes and the input channels: 0 for ConvolutionBackpropData, 1 for
    /// GroupConvolutionBackpropData. Codes come out with input and output channels swapped, and then the
    /// leading axes number the output channels.
    Swapped(usize),
}

impl ChannelAxes {
    /// Number of output channels, and the channel of each element in row-major order.
    fn of(self, shape: &[usize]) -> (usize, impl Iterator<Item = usize> + use<>) {
        let (channels, inner) = match self {
            Self::Leading(n) => {
                let (outer, inner) = shape.split_at(n.min(shape.len()));
                (outer.iter().product(), inner.iter().product())
            }
            Self::Swapped(groups) => return Self::Leading(groups + 1).of(shape),
            Self::Last => (shape.last().copied().unwrap_or(1), 1),
        };
        (channels, channel_of_each(channels, inner))
    }
}

/// The channel of each element where `inner` elements of a channel lie together and channels follow in turn,
/// without end.
pub(crate) fn channel_of_each(channels: usize, inner: usize) -> impl Iterator<Item = usize> + use<> {
    let inner = inner.max(1);
    (0..channels)
        .flat_map(move |channel| std::iter::repeat_n(channel, inner))
        .cycle()
}

/// The values along a chain, from the constant to the operation that uses them.
enum Chain {
    Float { shape: Vec<usize>, values: Vec<f32> },
    Codes(Grouped),
}

/// Longest chain that is read; real ones have at most six operations.
const MAX_CHAIN: usize = 32;

/// Reads the weights at `value`.
///
/// # Errors
/// The reason why they are no codes, naming the operation where the chain stops.
pub(crate) fn read(graph: &Graph, value: Value, axes: ChannelAxes) -> Result<Weights, Reason> {
    let mut steps = Vec::new();
    let mut at = value;
    let leaf = loop {
        let node = graph.node(at.node);
        if let Op::Constant(tensor) = &node.op {
            break tensor;
        }
        let known = data_port(graph, at).filter(|_| steps.len() < MAX_CHAIN);
        let Some(port) = known else {
            return Err(Reason::new(
                ReasonCode::WeightsNotQuantized,
                format!(
                    "weights come from \"{}\", which is no constant with a scale",
                    node.name
                ),
            ));
        };
        steps.push((at, port));
        at = node.inputs[port];
    };
    if let Some(weights) = per_channel(graph, &steps, leaf, axes, &graph.node(value.node).name) {
        return weights;
    }
    let mut chain = from_constant(leaf).ok_or_else(|| {
        Reason::new(
            ReasonCode::WeightsNotQuantized,
            format!(
                "weights \"{}\" have element type {:?}",
                graph.node(at.node).name,
                leaf.element_type()
            ),
        )
    })?;
    for &(value, port) in steps.iter().rev() {
        chain = apply(graph, value, port, chain)?;
    }
    match chain {
        Chain::Codes(grouped) => finish(grouped, axes, &graph.node(value.node).name),
        Chain::Float { .. } => Err(Reason::new(
            ReasonCode::WeightsNotQuantized,
            format!(
                "weights \"{}\" are f32 constants without FakeQuantize",
                graph.node(at.node).name
            ),
        )),
    }
}

/// The operations between the constant and `value`, nearest to `value` first; empty if `value` is no chain.
pub(crate) fn chain_nodes(graph: &Graph, value: Value) -> Vec<Value> {
    let mut nodes = Vec::new();
    let mut at = value;
    while nodes.len() < MAX_CHAIN {
        if matches!(graph.node(at.node).op, Op::Constant(_)) {
            return nodes;
        }
        let Some(port) = data_port(graph, at) else { break };
        nodes.push(at);
        at = graph.node(at.node).inputs[port];
    }
    Vec::new()
}

/// The input port through which weights pass, for operations that a chain may hold.
fn data_port(graph: &Graph, value: Value) -> Option<usize> {
    let node = graph.node(value.node);
    match &node.op {
        Op::Convert(to) if to.is_float() => Some(0),
        Op::Binary(BinaryKind::Subtract)
        | Op::FakeQuantize { .. }
        | Op::Dequantize(_)
        | Op::Reshape { .. }
        | Op::Transpose
        | Op::Squeeze
        | Op::Unsqueeze => Some(0),
        // What Pad brings in is no weight.
        Op::Pad(_) => None,
        op if moves_values(op) => Some(0),
        Op::Binary(BinaryKind::Divide) => Some(0),
        Op::Binary(BinaryKind::Add) if node.inputs.len() == 2 => {
            let constant = |v: Value| matches!(graph.node(v.node).op, Op::Constant(_));
            Some(usize::from(constant(node.inputs[0]) && !constant(node.inputs[1])))
        }
        Op::Binary(BinaryKind::Multiply) if node.inputs.len() == 2 => {
            // The scale is the smaller factor; of two equal ones, the plain constant.
            let weight = |v: Value| {
                let elements = graph.info(v).static_shape().map(|s| s.iter().product::<usize>());
                (elements, !matches!(graph.node(v.node).op, Op::Constant(_)))
            };
            Some(usize::from(weight(node.inputs[1]) > weight(node.inputs[0])))
        }
        _ => None,
    }
    .filter(|&port| port < node.inputs.len())
}

fn from_constant(tensor: &Tensor) -> Option<Chain> {
    let shape = tensor.shape().to_vec();
    match tensor.element_type() {
        ElementType::I8 | ElementType::U8 | ElementType::I4 | ElementType::U4 => {
            let bytes = tensor.bytes().iter();
            let codes = match tensor.element_type() {
                ElementType::I8 => bytes.map(|&b| i16::from(b as i8)).collect(),
                ElementType::U8 => bytes.map(|&b| i16::from(b)).collect(),
                _ => tensor.to_i64().into_iter().map(|v| v as i16).collect(),
            };
            Some(Chain::Codes(Grouped::new(shape, codes, 1.0, 0.0)))
        }
        ElementType::F32 | ElementType::F16 | ElementType::Bf16 => Some(Chain::Float {
            shape,
            values: tensor.to_f32(),
        }),
        _ => None,
    }
}

fn apply(graph: &Graph, value: Value, port: usize, chain: Chain) -> Result<Chain, Reason> {
    let node = graph.node(value.node);
    let not_quantized = |what: &str| {
        Reason::new(
            ReasonCode::WeightsNotQuantized,
            format!("weights pass \"{}\", {what}", node.name),
        )
    };
    let constant = |port: usize| {
        node.inputs
            .get(port)
            .and_then(|&v| constants::tensor(graph, v))
            .ok_or_else(|| not_quantized("whose other input is not constant"))
    };
    match &node.op {
        Op::Convert(_) => Ok(chain),
        Op::Reshape { .. } | Op::Squeeze | Op::Unsqueeze => {
            let shape = graph
                .info(value)
                .static_shape()
                .ok_or_else(|| not_quantized("whose shape is not fixed"))?;
            match chain {
                Chain::Float { values, .. } if values.len() == shape.iter().product() => {
                    Ok(Chain::Float { shape, values })
                }
                Chain::Codes(grouped) if grouped.len() == shape.iter().product() => {
                    Ok(Chain::Codes(grouped.reshaped(&shape)))
                }
                _ => Err(not_quantized("whose shape does not fit")),
            }
        }
        Op::Transpose => {
            let order: Vec<usize> = constant(1)?
                .to_i64()
                .into_iter()
                .map(|v| usize::try_from(v).unwrap_or(usize::MAX))
                .collect();
            match chain {
                Chain::Codes(grouped) => grouped
                    .transpose(&order)
                    .map(Chain::Codes)
                    .ok_or_else(|| not_quantized("whose order does not fit")),
                Chain::Float { shape, values } => grouped::permutation(&shape, &order)
                    .map(|(shape, source)| Chain::Float {
                        shape,
                        values: source.into_iter().map(|i| values[i]).collect(),
                    })
                    .ok_or_else(|| not_quantized("whose order does not fit")),
            }
        }
        Op::Binary(BinaryKind::Subtract) => {
            let operand = constant(1)?;
            combine(chain, &operand, |v, c| v - c, |(s, z), c| (s, z + c / s))
                .ok_or_else(|| not_quantized("whose operand does not broadcast to them"))
        }
        Op::Binary(BinaryKind::Add) => {
            let operand = constant(1 - port)?;
            combine(chain, &operand, |v, c| v + c, |(s, z), c| (s, z - c / s))
                .ok_or_else(|| not_quantized("whose operand does not broadcast to them"))
        }
        Op::Binary(BinaryKind::Divide) => {
            let operand = constant(1)?;
            combine(chain, &operand, |v, c| v / c, |(s, z), c| (s / c, z))
                .ok_or_else(|| not_quantized("whose operand does not broadcast to them"))
        }
        Op::Binary(BinaryKind::Multiply) => {
            let operand = constant(1 - port)?;
            combine(chain, &operand, |v, c| v * c, |(s, z), c| (s * c, z))
                .ok_or_else(|| not_quantized("whose operand does not broadcast to them"))
        }
        Op::FakeQuantize { levels } => {
            if !(2..=256).contains(levels) {
                return Err(Reason::new(
                    ReasonCode::TooManyLevels,
                    format!("FakeQuantize \"{}\" of weights has {levels} levels", node.name),
                ));
            }
            let limits = [constant(1)?, constant(2)?, constant(3)?, constant(4)?];
            let (shape, values) = match chain {
                Chain::Float { shape, values } => (shape, values),
                Chain::Codes(grouped) => grouped.into_values(),
            };
            quantize(shape, &values, &limits, *levels)
                .map(Chain::Codes)
                .ok_or_else(|| not_quantized("whose limits do not broadcast to them or are not finite"))
        }
        op if moves_values(op) => {
            let shape = match &chain {
                Chain::Float { shape, .. } => shape,
                Chain::Codes(grouped) => grouped.shape(),
            };
            let count: usize = shape.iter().product();
            let output = graph.info(value).static_shape().unwrap_or_default();
            let moved = output.iter().try_fold(1usize, |n, &d| n.checked_mul(d));
            if moved.is_none_or(|n| n > count.saturating_mul(2).max(constants::MAX_GROWTH)) {
                return Err(not_quantized("which makes them much larger"));
            }
            let places: Vec<i32> = (0..i32::try_from(count).unwrap_or(0)).collect();
            let mut inputs =
                vec![Tensor::from_slice(shape, &places).map_err(|e| not_quantized(&e.to_string()))?];
            for port in 1..node.inputs.len() {
                inputs.push(constant(port)?);
            }
            let moved = flow_model::ops::evaluate(op, &inputs)
                .ok()
                .and_then(|outputs| outputs.into_iter().nth(value.port as usize))
                .ok_or_else(|| not_quantized("which cannot be followed"))?;
            let source: Vec<usize> = moved
                .to_i64()
                .into_iter()
                .filter_map(|i| usize::try_from(i).ok().filter(|&i| i < count))
                .collect();
            if source.len() != moved.len() {
                return Err(not_quantized("which cannot be followed"));
            }
            Ok(match chain {
                Chain::Codes(grouped) => Chain::Codes(grouped.gathered(moved.shape(), &source)),
                Chain::Float { values, .. } => Chain::Float {
                    shape: moved.shape().to_vec(),
                    values: source.into_iter().map(|i| values[i]).collect(),
                },
            })
        }
        Op::Dequantize(dequantize) => {
            let Chain::Codes(mut grouped) = chain else {
                return Err(not_quantized("which expects codes"));
            };
            let rank = grouped.shape().len();
            let along = |values: &[f32]| {
                let mut shape = vec![1; dequantize.axis.map_or(0, |a| rank.saturating_sub(a))];
                if let (Some(first), false) = (shape.first_mut(), values.len() == 1) {
                    *first = values.len();
                }
                Tensor::from_slice(&shape, values).ok()
            };
            let fits = match (along(&dequantize.zero_point), along(&dequantize.scale)) {
                (Some(zero_point), Some(scale)) => {
                    grouped.combine(&zero_point, |(s, z), c| (s, z + c / s))
                        && grouped.combine(&scale, |(s, z), c| (s * c, z))
                }
                _ => false,
            };
            match fits {
                true => Ok(Chain::Codes(grouped)),
                false => Err(not_quantized("whose axis does not fit")),
            }
        }
        _ => Err(not_quantized("which no chain of weights holds")),
    }
}

/// Applies a broadcast constant to the values, or to the pairs the codes belong to.
fn combine(
    chain: Chain,
    operand: &Tensor,
    on_value: impl Fn(f32, f32) -> f32,
    on_pair: impl Fn((f64, f64), f64) -> (f64, f64),
) -> Option<Chain> {
    match chain {
        Chain::Codes(mut grouped) => {
            let fits = grouped.combine(operand, on_pair);
            // A scale of 0 means zeros, whatever the codes.
            grouped.flatten(|_| 0.0);
            fits.then_some(Chain::Codes(grouped))
        }
        Chain::Float { shape, mut values } => {
            let constants = operand.to_f32();
            let index = grouped::broadcast_index(operand.shape(), &shape)?;
            for (i, value) in values.iter_mut().enumerate() {
                *value = on_value(*value, constants[index.at(i)]);
            }
            Some(Chain::Float { shape, values })
        }
    }
}

/// Codes of a FakeQuantize of constants, by its literal formula.
fn quantize(shape: Vec<usize>, values: &[f32], limits: &[Tensor; 4], levels: u32) -> Option<Grouped> {
    let [input_low, input_high, output_low, output_high] = limits.each_ref().map(Tensor::to_f32);
    let mut index = Vec::with_capacity(4);
    for limit in limits {
        index.push(grouped::broadcast_index(limit.shape(), &shape)?);
    }
    let codes = values
        .iter()
        .enumerate()
        .map(|(i, &v)| {
            let low = input_low[index[0].at(i)];
            let high = input_high[index[1].at(i)];
            level(v, low, high, levels) as i16
        })
        .collect();
    let mut grouped = Grouped::new(shape, codes, 0.0, 0.0);
    // Carries the output limits as a pair first, since scale and zero point need both.
    let fits = grouped.combine(&limits[2], |_, low| (low, 0.0))
        && grouped.combine(&limits[3], |(low, _), high| (low, high));
    if !fits || !output_low.iter().chain(&output_high).all(|v| v.is_finite()) {
        return None;
    }
    grouped.map_pairs(|(low, high)| of_interval(low as f32, high as f32, levels).unwrap_or((0.0, low)));
    // An interval without width means one value for every code.
    grouped.flatten(|value| value);
    Some(grouped)
}
