//! Convolutions of codes with constant codes.

use std::sync::Arc;

use flow_model::graph::{Node, NodeId, OutputInfo, Value};
use flow_model::op::{AutoPad, ConvAttrs, Dequantize, Op, QuantizedConv};
use flow_model::tensor::ElementType;

use super::Sweep;
use super::coded::Coded;
use super::sums::{self, Codes};
use crate::dequantization::{at, uniform};
use crate::report::{Reason, ReasonCode};

/// Both operands of a convolution, as codes.
pub(super) struct Operands {
    /// The weights.
    pub(super) codes: Codes,
    /// The data.
    pub(super) coded: Coded,
    /// What the codes of the data mean.
    pub(super) data: Arc<Dequantize>,
    /// Shape of the weights, `[OC, C/groups, kernel..]`.
    pub(super) shape: Vec<usize>,
    /// Number of groups.
    pub(super) groups: usize,
}

impl Sweep<'_> {
    /// `y = conv(q - z, w - z_w) * (s * s_w)`, with the scale of the data per tensor, or per group of channels.
    pub(super) fn convolution(
        &mut self,
        id: NodeId,
        node: &Node,
        attrs: &ConvAttrs,
        grouped: bool,
    ) -> Result<bool, Reason> {
        let Some(operands) = self.operands(node, grouped)? else {
            return Ok(false);
        };
        let Operands {
            codes,
            coded,
            data: d,
            shape,
            groups,
        } = operands;
        let out_channels = shape[0];
        let conv = self.explicit(node, attrs, &shape)?;
        let per_group = match self.data_per_group(node, &d, groups, shape[1]) {
            Ok(per_group) => per_group,
            Err(_) if groups == 1 && self.convolution_by_runs(id, node, &conv, &coded, &codes)? => {
                return Ok(true);
            }
            Err(reason) => return Err(reason),
        };
        let out_per_group = (out_channels / groups.max(1)).max(1);
        let group_of = |oc: usize| oc / out_per_group;

        let zero_points: Vec<(i32, f64)> = per_group
            .iter()
            .map(|&(_, z)| sums::split_zero_point(z, &coded))
            .collect();
        let pads = conv.pads_begin.iter().chain(&conv.pads_end);
        let padded = pads.into_iter().any(|&p| p != 0);
        let between = zero_points.iter().position(|z| padded && z.1 != 0.0);
        let inner: usize = shape[1..].iter().product();
        let channels = sums::channels(&codes, 1, out_channels, inner);
        sums::check_range(&node.name, &channels, &coded, |oc| {
            at(&zero_points, group_of(oc)).0
        })?;

        let mut scale = Vec::with_capacity(out_channels);
        let mut rest = Vec::with_capacity(out_channels);
        for (oc, channel) in channels.iter().enumerate() {
            let group = group_of(oc);
            let data_scale = at(&per_group, group).0;
            scale.push(sums::product(&node.name, data_scale, at(&codes.scale, oc))?);
            rest.push((at(&zero_points, group).1 * channel.sum as f64) as f32);
        }
        let border = match between {
            None => None,
            Some(i) => {
                let border = (groups == 1)
                    .then(|| self.border(node, &conv, &codes, &scale, zero_points[i].1))
                    .flatten();
                rest.fill(0.0);
                Some(border.ok_or_else(|| padded_between_codes(node, per_group[i].1))?)
            }
        };
        let sums = self.push_sums(
            node,
            coded.codes,
            codes.tensor,
            Op::QuantizedConvolution(QuantizedConv {
                conv,
                groups,
                data_zero_point: uniform(zero_points.iter().map(|z| z.0).collect()),
                weight_zero_point: codes.zero_point,
            }),
        );
        self.dequantize_sums(id, node, sums, scale, rest, 1);
        if let Some(border) = border {
            self.add_border(id, node, border);
        }
        Ok(true)
    }

    /// What a convolution or transposed convolution multiplies; `None` where it stays in f32 for a reason that is noted
    /// already.
    pub(super) fn operands(&mut self, node: &Node, grouped: bool) -> Result<Option<Operands>, Reason> {
        // Without codes the weights pass has noted why.
        let Some(codes) = Codes::of(self.old, node.inputs[1]) else {
            return Ok(None);
        };
        let input = node.inputs[0];
        let coded = self.as_affine(input).ok_or_else(|| self.not_codes(node, input))?;
        let Some(data) = coded.affine().cloned() else {
            return Ok(None);
        };
        if codes.tensor.is_empty() {
            return Ok(None);
        }
        let groups = match grouped {
            true => self.old.info(node.inputs[1]).shape[0].unwrap_or(1),
            false => 1,
        };
        Ok(Some(Operands {
            shape: codes.tensor.shape().to_vec(),
            codes,
            coded,
            data,
            groups,
        }))
    }

    /// Scale and zero point of the data: one pair, or one per group.
    pub(super) fn data_per_group(
        &self,
        node: &Node,
        d: &Dequantize,
        groups: usize,
        channels_per_group: usize,
    ) -> Result<Vec<(f32, f32)>, Reason> {
        let pair = |i: usize| (at(&d.scale, i), at(&d.zero_point, i));
        let Some(axis) = d.axis else {
            return Ok(vec![pair(0)]);
        };
        let count = crate::dequantization::len(d);
        let refused = |what: String| Reason::new(ReasonCode::DataGranularity, what);
        let fits = axis == 1 && channels_per_group.checked_mul(groups) == Some(count);
        let mut pairs = Vec::with_capacity(groups);
        for group in 0..groups {
            let first = group * channels_per_group;
            let equal = fits && (first..first + channels_per_group).all(|c| pair(c) == pair(first));
            if !equal {
                return Err(refused(format!(
                    "the data of \"{}\" have {count} scales along axis {axis}, and each of its sums mixes {} \
                     of them",
                    node.name, channels_per_group
                )));
            }
            pairs.push(pair(first));
        }
        let one_zero_point = pairs.iter().all(|p| p.1 == pairs[0].1);
        if !one_zero_point && channels_per_group != 1 {
            return Err(refused(format!(
                "the groups of \"{}\" have data with different zero points",
                node.name
            )));
        }
        Ok(pairs)
    }

    /// The attributes with padding spelled out.
    fn explicit(&self, node: &Node, attrs: &ConvAttrs, weights: &[usize]) -> Result<ConvAttrs, Reason> {
        let mut conv = attrs.clone();
        let spatial = attrs.strides.len();
        match attrs.auto_pad {
            AutoPad::Explicit => {}
            AutoPad::Valid => {
                conv.pads_begin = vec![0; spatial];
                conv.pads_end = vec![0; spatial];
            }
            AutoPad::SameUpper | AutoPad::SameLower => {
                let input = &self.old.info(node.inputs[0]).shape;
                let mut total = Vec::with_capacity(spatial);
                for i in 0..spatial {
                    let (Some(Some(length)), Some(&kernel)) = (input.get(i + 2), weights.get(i + 2)) else {
                        return Err(Reason::new(
                            ReasonCode::DynamicShape,
                            format!("the padding of \"{}\" depends on the input shape", node.name),
                        ));
                    };
                    total.push(same_padding(
                        *length,
                        kernel,
                        attrs.strides[i],
                        attrs.dilations[i],
                    ));
                }
                let small = total.iter().map(|t| t / 2).collect();
                let large = total.iter().map(|t| t - t / 2).collect();
                (conv.pads_begin, conv.pads_end) = match attrs.auto_pad {
                    AutoPad::SameUpper => (small, large),
                    _ => (large, small),
                };
            }
        }
        conv.auto_pad = AutoPad::Explicit;
        Ok(conv)
    }

    /// Adds an operation on codes and constant codes that gives i32 sums.
    pub(super) fn push_sums(
        &mut self,
        node: &Node,
        data: Value,
        weights: flow_model::Tensor,
        op: Op,
    ) -> Value {
        let info = OutputInfo::fixed(ElementType::I8, weights.shape());
        let weights = self.new.push(Node {
            name: format!("{}/weights", node.name).into(),
            line: 0,
            op: Op::Constant(weights),
            inputs: Vec::new(),
            outputs: vec![info],
        });
        Value::of(self.new.push(Node {
            name: node.name.clone(),
            line: node.line,
            op,
            inputs: vec![data, Value::of(weights)],
            outputs: vec![OutputInfo {
                element_type: ElementType::I32,
                shape: node.outputs[0].shape.clone(),
                names: Vec::new(),
            }],
        }))
    }

    /// Adds the Dequantize of i32 sums, which stands for the node of the old graph.
    pub(super) fn dequantize_sums(
        &mut self,
        id: NodeId,
        node: &Node,
        sums: Value,
        scale: Vec<f32>,
        zero_point: Vec<f32>,
        axis: usize,
    ) {
        let (scale, zero_point) = (uniform(scale), uniform(zero_point));
        let dequantize = Arc::new(Dequantize {
            axis: (scale.len() > 1 || zero_point.len() > 1).then_some(axis),
            scale,
            zero_point,
        });
        let name = format!("{}/dequantize", node.name);
        let value = self.push_dequantize(sums, &dequantize, name, node.outputs[0].clone());
        self.plain.insert(Value::of(id), value);
    }
}

/// Why data with that zero point cannot be padded.
pub(super) fn padded_between_codes(node: &Node, zero_point: f32) -> Reason {
    Reason::new(
        ReasonCode::DataZeroPoint,
        format!(
            "\"{}\" pads data whose zero point is {zero_point}, which is no code",
            node.name
        ),
    )
}

/// Padding that makes the output `ceil(length / stride)` long.
fn same_padding(length: usize, kernel: usize, stride: usize, dilation: usize) -> isize {
    let out = length.div_ceil(stride.max(1));
    let window = (kernel.saturating_sub(1))
        .saturating_mul(dilation)
        .saturating_add(1);
    let needed = out
        .saturating_sub(1)
        .saturating_mul(stride)
        .saturating_add(window);
    isize::try_from(needed.saturating_sub(length)).unwrap_or(isize::MAX)
}
