//! Transposed convolutions of codes with constant codes.

use flow_model::graph::{Node, NodeId};
use flow_model::op::{AutoPad, ConvAttrs, DeconvAttrs, Op, QuantizedDeconv};

use super::Sweep;
use super::convolution::Operands;
use super::sums;
use crate::dequantization::{at, uniform};
use crate::report::{Reason, ReasonCode};

impl Sweep<'_> {
    /// `y = deconv(q - z, w - z_w) * (s * s_w)`, with the scale of the data per tensor, or per group of channels.
    pub(super) fn deconvolution(
        &mut self,
        id: NodeId,
        node: &Node,
        attrs: &DeconvAttrs,
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
        let conv = self.explicit_deconvolution(node, attrs, &shape)?;
        let per_group = self.data_per_group(node, &d, groups, shape[1])?;
        let group_of = |oc: usize| oc / (shape[0] / groups.max(1)).max(1);
        let mut zero_points = Vec::with_capacity(per_group.len());
        for &(_, z) in &per_group {
            let (integer, rest) = sums::split_zero_point(z, &coded);
            if rest != 0.0 {
                return Err(Reason::new(
                    ReasonCode::DataZeroPoint,
                    format!(
                        "the data of \"{}\" have the zero point {z}, which is no code, and its outputs sum \
                         different numbers of taps",
                        node.name
                    ),
                ));
            }
            zero_points.push(integer);
        }
        let inner: usize = shape[1..].iter().product();
        let channels = sums::channels(&codes, 1, shape[0], inner);
        sums::check_range(&node.name, &channels, &coded, |oc| at(&zero_points, group_of(oc)))?;
        let scale = (0..shape[0])
            .map(|oc| sums::product(&node.name, at(&per_group, group_of(oc)).0, at(&codes.scale, oc)))
            .collect::<Result<Vec<_>, _>>()?;
        let op = Op::QuantizedDeconvolution(QuantizedDeconv {
            conv,
            output_padding: attrs.output_padding.clone(),
            groups,
            data_zero_point: uniform(zero_points),
            weight_zero_point: codes.zero_point,
        });
        let sums = self.push_sums(node, coded.codes, codes.tensor, op);
        self.dequantize_sums(id, node, sums, scale, vec![0.0], 1);
        Ok(true)
    }

    /// The attributes with padding spelled out; `weights` are `[OC, C/groups, kernel..]`.
    fn explicit_deconvolution(
        &self,
        node: &Node,
        attrs: &DeconvAttrs,
        weights: &[usize],
    ) -> Result<ConvAttrs, Reason> {
        let conv = ConvAttrs {
            auto_pad: AutoPad::Explicit,
            ..attrs.conv.clone()
        };
        if attrs.conv.auto_pad == AutoPad::Explicit && node.inputs.len() == 2 {
            return Ok(conv);
        }
        // Shape inference has written the padding where lengths are fixed.
        let (input, output) = (&self.old.info(node.inputs[0]).shape, &node.outputs[0].shape);
        let fits = |i: usize| -> Option<bool> {
            let (input, output) = ((*input.get(i + 2)?)?, (*output.get(i + 2)?)?);
            let full = (input.checked_sub(1)? * conv.strides[i])
                + (weights.get(i + 2)?.checked_sub(1)? * conv.dilations[i])
                + 1
                + attrs.output_padding[i];
            let cut = conv.pads_begin[i].checked_add(conv.pads_end[i])?;
            Some(isize::try_from(full).ok()?.checked_sub(cut)? == isize::try_from(output).ok()?)
        };
        if (0..conv.strides.len()).all(|i| fits(i) == Some(true)) {
            return Ok(conv);
        }
        Err(Reason::new(
            ReasonCode::DynamicShape,
            format!("what \"{}\" cuts off depends on the input shape", node.name),
        ))
    }
}
