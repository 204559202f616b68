//! From codes to one scale and zero point per output channel.

use flow_model::graph::{Graph, Value};
use flow_model::op::{BinaryKind, Op};
use flow_model::tensor::{ElementType, Tensor, TensorError};

use super::grouped::Grouped;
use super::{ChannelAxes, Weights};
use crate::constants;
use crate::dequantization::{integer_zero_point, is_usable_scale, uniform};
use crate::report::{Reason, ReasonCode};

/// The common case, without a pair for each element: codes of 8 bits whose zero points and scales are one or one per
/// leading channel. `None` if it is another.
pub(super) fn per_channel(
    graph: &Graph,
    steps: &[(Value, usize)],
    leaf: &Tensor,
    axes: ChannelAxes,
    name: &str,
) -> Option<Result<Weights, Reason>> {
    let ChannelAxes::Leading(leading) = axes else {
        return None;
    };
    let shape = leaf.shape();
    let signed = leaf.element_type() == ElementType::I8;
    if !signed && leaf.element_type() != ElementType::U8 || leading > shape.len() {
        return None;
    }
    let (outer, inner) = shape.split_at(leading);
    let (channels, inner) = (outer.iter().product::<usize>(), inner.iter().product::<usize>());
    let mut pairs = vec![(1.0_f64, 0.0_f64); channels];
    for &(value, port) in steps.iter().rev() {
        let node = graph.node(value.node);
        let kind = match &node.op {
            Op::Convert(_) => continue,
            Op::Binary(kind @ (BinaryKind::Subtract | BinaryKind::Multiply)) => *kind,
            _ => return None,
        };
        if kind == BinaryKind::Subtract && port != 0 {
            return None;
        }
        let operand = constants::tensor(graph, *node.inputs.get(1 - port)?)?;
        let missing = shape.len().checked_sub(operand.shape().len())?;
        let along = |(i, &d): (usize, &usize)| match i + missing {
            i if i < leading => d == shape[i],
            _ => d == 1,
        };
        let constants = operand.to_f64();
        if constants.len() != 1 && (missing > 0 || !operand.shape().iter().enumerate().all(along)) {
            return None;
        }
        for (channel, (scale, zero_point)) in pairs.iter_mut().enumerate() {
            let c = *constants.get(if constants.len() == 1 { 0 } else { channel })?;
            match kind {
                BinaryKind::Subtract => *zero_point += c / *scale,
                _ => *scale *= c,
            }
            if *scale == 0.0 {
                return None;
            }
        }
    }
    let code = |byte: u8| {
        if signed {
            i16::from(byte as i8)
        } else {
            i16::from(byte)
        }
    };
    let ranges = leaf.bytes().chunks(inner.max(1)).map(|codes| {
        codes.iter().fold((i16::MAX, i16::MIN), |(low, high), &byte| {
            (low.min(code(byte)), high.max(code(byte)))
        })
    });
    let filled = pairs.iter().map(|&pair| (inner > 0).then_some(pair));
    let points = match points(filled.zip(ranges), name) {
        Ok(points) => points,
        Err(reason) => return Some(Err(reason)),
    };
    let codes = if signed && points.shift.iter().all(|&s| s == 0) {
        Ok(leaf.clone())
    } else {
        let channels = leaf.bytes().chunks(inner.max(1)).zip(&points.shift);
        let codes: Vec<i8> = channels
            .flat_map(|(codes, &shift)| codes.iter().map(move |&b| (i32::from(code(b)) - shift) as i8))
            .collect();
        Tensor::from_slice(shape, &codes)
    };
    Some(weights_of(codes, points, name))
}

/// Checks that every output channel has one pair, and shifts codes into i8.
pub(super) fn finish(grouped: Grouped, axes: ChannelAxes, name: &str) -> Result<Weights, Reason> {
    let grouped = match axes {
        ChannelAxes::Swapped(groups) => {
            let mut order: Vec<usize> = (0..grouped.shape().len()).collect();
            order.swap(groups, groups + 1);
            grouped.transpose(&order).ok_or_else(|| {
                Reason::new(
                    ReasonCode::WeightsNotQuantized,
                    format!("weights \"{name}\" have too few axes"),
                )
            })?
        }
        _ => grouped,
    };
    let shape = grouped.shape().to_vec();
    let (channels, channel_of) = axes.of(&shape);
    let mut pair_of = vec![None; channels];
    let mut range = vec![(i16::MAX, i16::MIN); channels];
    for ((code, group), channel) in grouped.iter().zip(channel_of) {
        match pair_of[channel] {
            None => pair_of[channel] = Some(group),
            Some(seen) if seen == group || grouped.pair(seen) == grouped.pair(group) => {}
            Some(seen) => {
                let ((a, _), (b, _)) = (grouped.pair(seen), grouped.pair(group));
                return Err(Reason::new(
                    ReasonCode::WeightsGranularity,
                    format!("weights \"{name}\" have scales {a:e} and {b:e} in output channel {channel}"),
                ));
            }
        }
        let (low, high) = &mut range[channel];
        *low = (*low).min(code);
        *high = (*high).max(code);
    }
    let pairs = pair_of.into_iter().map(|group| group.map(|g| grouped.pair(g)));
    let points = points(pairs.zip(range), name)?;
    let (_, channel_of) = axes.of(&shape);
    let codes: Vec<i8> = grouped
        .iter()
        .zip(channel_of)
        .map(|((code, _), channel)| (i32::from(code) - points.shift[channel]) as i8)
        .collect();
    weights_of(Tensor::from_slice(&shape, &codes), points, name)
}

/// Scale and zero point of each output channel, and what is subtracted from its codes.
struct Points {
    scale: Vec<f32>,
    zero_point: Vec<i32>,
    shift: Vec<i32>,
}

/// From pairs of scale and zero point, where a channel has weights, and the least and the largest code of each channel.
fn points(
    channels: impl Iterator<Item = (Option<(f64, f64)>, (i16, i16))>,
    name: &str,
) -> Result<Points, Reason> {
    let mut points = Points {
        scale: Vec::new(),
        zero_point: Vec::new(),
        shift: Vec::new(),
    };
    for (channel, (pair, (low, high))) in channels.enumerate() {
        let Some((s, z)) = pair else {
            points.scale.push(1.0);
            points.zero_point.push(0);
            points.shift.push(0);
            continue;
        };
        if !is_usable_scale(s) {
            return Err(Reason::new(
                ReasonCode::ScaleRange,
                format!("weights \"{name}\" have scale {s:e} in output channel {channel}"),
            ));
        }
        let z = integer_zero_point(z).ok_or_else(|| {
            Reason::new(
                ReasonCode::WeightsZeroPoint,
                format!("weights \"{name}\" have zero point {z} in output channel {channel}"),
            )
        })?;
        let fits = |shift: i32| i32::from(low) - shift >= -128 && i32::from(high) - shift <= 127;
        // Zero point 0 where the codes allow it: kernels skip its correction.
        let shift = [z, 0, 128].into_iter().find(|&s| fits(s)).unwrap_or(128);
        points.scale.push(s as f32);
        points.zero_point.push(z - shift);
        points.shift.push(shift);
    }
    Ok(points)
}

fn weights_of(codes: Result<Tensor, TensorError>, points: Points, name: &str) -> Result<Weights, Reason> {
    let codes = codes.map_err(|e| {
        Reason::new(
            ReasonCode::WeightsNotQuantized,
            format!("weights \"{name}\": {e}"),
        )
    })?;
    Ok(Weights {
        codes,
        scale: uniform(points.scale),
        zero_point: uniform(points.zero_point),
    })
}
