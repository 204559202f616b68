//! Convolutions with constant weights, on codes and on f32.

use flow_model::op::{ConvAttrs, Op};
use flow_model::{ElementType, NodeId, Tensor, Value};

use super::chain::{Abilities, Chain, Site, bias_of};
use super::exact::Sum;
use super::heavy::{Heavy, finish, macs};
use super::window::{image_dims, kernel_dims, window_of_conv};
use super::{Action, Form, Lowering};
use crate::kernels::{
    Channels, ConvF32, ConvU8, DepthwiseF32, DepthwiseU8, EpilogueF32, Halo, WeightCodes, Weights,
};
use crate::literal::POINTWISE_BLOCK;

impl Lowering<'_> {
    pub(super) fn quantized_convolution(&self, id: NodeId) -> Option<(Heavy, Chain)> {
        let node = self.graph.node(id);
        let Op::QuantizedConvolution(q) = &node.op else {
            return None;
        };
        let (data, weights) = (node.inputs[0], self.constant(node.inputs[1])?);
        let (input, output) = (self.shape(data), self.shape(Value::of(id)));
        let ([_, ic, h, w], [_, oc, oh, ow]) = (image_dims(&input)?, image_dims(&output)?);
        let [_, group_ic, kh, kw] = kernel_dims(weights.shape())?;
        let window = window_of_conv(&q.conv, [kh, kw])?;
        let site = Site {
            rank: output.len(),
            axis: 1,
            channels: oc,
        };
        let chain = self.extend(site, Abilities::EVERYTHING, Chain::start(Value::of(id)))?;
        let bias = bias_of(self.element_type(data)) as i32;
        let zero_points: Vec<i32> = q.data_zero_point.iter().map(|z| z + bias).collect();
        let packed = Weights {
            codes: weight_codes(weights)?,
            zero_point: &q.weight_zero_point,
            data_zero_point: &zero_points,
        };
        let depthwise = q.groups == ic && q.groups == oc;
        let sum = Sum::convolution(&packed, &window, ic, q.groups);
        let guard = self.literal_sums(id, &chain, site, &sum);
        let (chain, guard) = self.or_real(id, site, chain, guard)?;
        let (epilogue, guard) = finish(oc, &chain, guard)?;
        let action = if depthwise {
            Action::DepthwiseU8(Box::new(
                DepthwiseU8::new(self.table, window, &packed, epilogue).ok()?,
            ))
        } else {
            let channels = Channels {
                input: ic,
                output: oc,
                groups: q.groups,
            };
            let stride = super::pixel_stride(self.element_type(data), ic);
            let conv = ConvU8::new(self.table, window, channels, &packed, epilogue, stride).ok()?;
            Action::ConvU8(Box::new(conv))
        };
        let halo = window.halo(h, w, oh, ow).ok()?;
        let fill = zero_points.first().and_then(|&z| u8::try_from(z).ok())?;
        // The halo holds one code for all channels.
        let one_fill = zero_points.iter().all(|&z| z == i32::from(fill));
        if halo != Halo::default() && !one_fill {
            return None;
        }
        let heavy = Heavy {
            form: Form::Image,
            halo: Some((halo, fill)),
            macs: macs(&output, group_ic * kh * kw),
            ..Heavy::new(action, data).guarded(guard)
        };
        Some((heavy, chain))
    }

    pub(super) fn convolution(&self, id: NodeId, attrs: &ConvAttrs) -> Option<(Heavy, Chain)> {
        let node = self.graph.node(id);
        let (data, weights) = (node.inputs[0], self.constant(node.inputs[1])?);
        let (input, output) = (self.shape(data), self.shape(Value::of(id)));
        let ([_, ic, h, w], [_, oc, oh, ow]) = (image_dims(&input)?, image_dims(&output)?);
        let (groups, kernel) = match (&node.op, weights.shape()) {
            (Op::Convolution(_), kernel) => (1, kernel),
            (Op::GroupConvolution(_), [groups, kernel @ ..]) => (*groups, kernel),
            _ => return None,
        };
        let [_, group_ic, kh, kw] = kernel_dims(kernel)?;
        if weights.element_type() != ElementType::F32 || self.element_type(data) != ElementType::F32 {
            return None;
        }
        let window = window_of_conv(attrs, [kh, kw])?;
        let site = Site {
            rank: output.len(),
            axis: 1,
            channels: oc,
        };
        let chain = self.extend(site, Abilities::REAL, Chain::start(Value::of(id)))?;
        // A scale after the convolution moves into the weights.
        let taps = group_ic * kh * kw;
        let scale = &chain.first.scale;
        let values: Vec<f32> = weights
            .to_f32()
            .into_iter()
            .enumerate()
            .map(|(i, v)| (f64::from(v) * scale.at(i / taps)) as f32)
            .collect();
        let epilogue = EpilogueF32::new(
            oc,
            &chain.first.offset.to_f32(),
            &chain.low.to_f32(),
            &chain.high.to_f32(),
        )
        .ok()?;
        let action = if groups == ic && groups == oc {
            Action::DepthwiseF32(Box::new(DepthwiseF32::new(window, &values, epilogue).ok()?))
        } else {
            let channels = Channels {
                input: ic,
                output: oc,
                groups,
            };
            let mut conv = ConvF32::new(self.table, window, channels, &values, epilogue).ok()?;
            if window.taps() == 1 {
                conv = conv.in_blocks(POINTWISE_BLOCK);
            }
            Action::ConvF32(Box::new(conv))
        };
        let heavy = Heavy {
            form: Form::Image,
            halo: Some((window.halo(h, w, oh, ow).ok()?, 0)),
            macs: macs(&output, taps),
            ..Heavy::new(action, data)
        };
        Some((heavy, chain))
    }
}

pub(super) fn weight_codes(weights: &Tensor) -> Option<WeightCodes<'_>> {
    match weights.element_type() {
        ElementType::I8 => Some(WeightCodes::I8(bytemuck::cast_slice(weights.bytes()))),
        ElementType::U8 => Some(WeightCodes::U8(weights.bytes())),
        _ => None,
    }
}
