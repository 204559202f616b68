//! Matrix products of codes with constant codes.

use flow_model::graph::{Node, NodeId};
use flow_model::op::{Op, QuantizedMatMul};

use super::Sweep;
use super::sums::{self, Codes};
use crate::dequantization::at;
use crate::report::{Reason, ReasonCode};

impl Sweep<'_> {
    /// `y = ((q - z) . (w - z_w)) * (s * s_w)`, with data per tensor and weights per column.
    pub(super) fn matmul(
        &mut self,
        id: NodeId,
        node: &Node,
        transpose_a: bool,
        transpose_b: bool,
    ) -> Result<bool, Reason> {
        let (data, weights) = (node.inputs[0], node.inputs[1]);
        let Some(codes) = Codes::of(self.old, weights) else {
            if self.coded(data).is_some() && self.coded(weights).is_some() {
                return Err(Reason::new(
                    ReasonCode::TwoActivations,
                    format!("both inputs of \"{}\" are computed", node.name),
                ));
            }
            return Ok(false);
        };
        let Some(coded) = self.as_affine(data) else {
            return Err(Reason::new(
                ReasonCode::DataNotQuantized,
                format!(
                    "the data of \"{}\", \"{}\", are not quantized",
                    node.name,
                    self.old.node(data.node).name
                ),
            ));
        };
        let Some(d) = coded.affine().cloned() else {
            return Ok(false);
        };
        if let Some(axis) = d.axis {
            return Err(Reason::new(
                ReasonCode::DataGranularity,
                format!("the data of \"{}\" have scales along axis {axis}", node.name),
            ));
        }
        let rank = self.old.info(data).shape.len();
        if transpose_a || rank < 2 {
            return Err(Reason::new(
                ReasonCode::NoIntegerForm,
                format!("\"{}\" reads its data transposed or as a vector", node.name),
            ));
        }
        if codes.tensor.is_empty() {
            return Ok(false);
        }
        let shape = codes.tensor.shape();
        let (columns, inner) = match transpose_b {
            true => (shape[0], shape[1]),
            false => (shape[1], shape[0]),
        };
        let (zero_point, rest) = sums::split_zero_point(d.zero_point[0], &coded);
        let together = if transpose_b { inner } else { 1 };
        let channels = sums::channels(&codes, columns, together);
        sums::check_range(&node.name, &channels, &coded, |_| zero_point)?;
        let mut scale = Vec::with_capacity(columns);
        let mut shift = Vec::with_capacity(columns);
        for (n, channel) in channels.iter().enumerate() {
            scale.push(sums::product(&node.name, d.scale[0], at(&codes.scale, n))?);
            shift.push((rest * channel.sum as f64) as f32);
        }
        let axis = node.outputs[0].shape.len() - 1;
        let sums = self.push_sums(
            node,
            coded.codes,
            codes.tensor,
            Op::QuantizedMatMul(QuantizedMatMul {
                transpose_b,
                data_zero_point: zero_point,
                weight_zero_point: codes.zero_point,
            }),
        );
        self.dequantize_sums(id, node, sums, scale, shift, axis);
        Ok(true)
    }
}
