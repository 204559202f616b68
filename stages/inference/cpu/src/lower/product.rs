//! Matrix products of codes.

use flow_model::op::Op;
use flow_model::{ElementType, NodeId, Value};

use super::chain::{Abilities, Chain, Site, bias_of};
use super::heavy::{Heavy, epilogue, macs};
use super::{Action, Lowering};
use crate::kernels::{Channels, ConvU8, WeightCodes, Weights, Window};

impl Lowering<'_> {
    pub(super) fn quantized_matmul(&self, id: NodeId) -> Option<(Heavy, Chain)> {
        let node = self.graph.node(id);
        let Op::QuantizedMatMul(q) = &node.op else {
            return None;
        };
        let (data, weights) = (node.inputs[0], self.constant(node.inputs[1])?);
        let output = self.shape(Value::of(id));
        let &[rows, columns] = weights.shape() else {
            return None;
        };
        let (n, k) = if q.transpose_b {
            (rows, columns)
        } else {
            (columns, rows)
        };
        // Rank 4 lies as images elsewhere; a product wants rows.
        if output.len() < 2 || output.len() == 4 || self.shape(data).len() != output.len() {
            return None;
        }
        let codes = if q.transpose_b {
            weights.bytes().to_vec()
        } else {
            let bytes = weights.bytes();
            (0..n * k).map(|i| bytes[i % k * n + i / k]).collect()
        };
        let site = Site {
            rank: output.len(),
            axis: output.len() - 1,
            channels: n,
        };
        let chain = self.extend(site, Abilities::EVERYTHING, Chain::start(Value::of(id)))?;
        let zero_point = q.data_zero_point + bias_of(self.element_type(data)) as i32;
        let packed = Weights {
            codes: match weights.element_type() {
                ElementType::I8 => WeightCodes::I8(bytemuck::cast_slice(&codes)),
                ElementType::U8 => WeightCodes::U8(&codes),
                _ => return None,
            },
            zero_point: &q.weight_zero_point,
            data_zero_point: &[zero_point],
        };
        let epilogue = epilogue(n, &chain).ok()?;
        let conv = ConvU8::new(
            self.table,
            Window::POINT,
            Channels::dense(k, n),
            &packed,
            epilogue,
            k,
        )
        .ok()?;
        let heavy = Heavy {
            action: Action::ConvU8(Box::new(conv)),
            data,
            halo: None,
            macs: macs(&output, k),
            literal: None,
        };
        Some((heavy, chain))
    }
}
