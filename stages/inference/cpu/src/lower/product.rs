//! Matrix products of codes.

use flow_model::op::Op;
use flow_model::{ElementType, NodeId, Value};

use super::chain::{Abilities, Chain, Site, bias_of};
use super::exact::Sum;
use super::heavy::{Heavy, finish, macs};
use super::{Action, Lowering};
use crate::dense::{Geometry, ProductU8};
use crate::kernels::{Channels, ConvU8, WeightCodes, Weights, Window};
use crate::literal::PRODUCT_BLOCK;

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
        if output.contains(&0) || k == 0 {
            return None;
        }
        let codes = if q.transpose_b {
            weights.bytes().to_vec()
        } else {
            let bytes = weights.bytes();
            (0..n * k).map(|i| bytes[i % k * n + i / k]).collect()
        };
        let site = last_axis(&output)?;
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
        let sum = Sum {
            block: PRODUCT_BLOCK,
            axis: self.shape(data).len().saturating_sub(1),
            ..Sum::convolution(&packed, &Window::POINT, k, 1)
        };
        let guard = self.literal_sums(id, &chain, site, &sum);
        let (chain, guard) = self.or_real(id, site, chain, guard)?;
        let (epilogue, guard) = finish(n, &chain, guard)?;
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
            macs: macs(&output, k),
            ..Heavy::new(Action::ConvU8(Box::new(conv)), data).guarded(guard)
        };
        Some((heavy, chain))
    }

    /// A product of two values of codes.
    pub(super) fn quantized_product(&self, id: NodeId) -> Option<(Heavy, Chain)> {
        let node = self.graph.node(id);
        let Op::QuantizedBatchMatMul(q) = &node.op else {
            return None;
        };
        let (a, b) = (node.inputs[0], node.inputs[1]);
        let output = self.shape(Value::of(id));
        if output.contains(&0) {
            return None;
        }
        let transpose = [q.transpose_a, q.transpose_b];
        let geometry = Geometry::new(&self.shape(a), &self.shape(b), transpose)?;
        // A product with a vector has no axis of columns: one channel.
        let site = Site {
            channels: geometry.size[2],
            ..last_axis(&output)?
        };
        if self.shape(b).len() < 2 {
            return None;
        }
        let chain = self.extend(site, Abilities::EVERYTHING, Chain::start(Value::of(id)))?;
        let stored = |value: Value, zero: i32| zero + bias_of(self.element_type(value)) as i32;
        let zero_points = [stored(a, q.zero_point_a), stored(b, q.zero_point_b)];
        let macs = geometry.macs();
        let distances = [geometry.left, geometry.right];
        let guard = self.literal_product(id, &chain, site, geometry.size[1], distances);
        let (chain, guard) = self.or_real(id, site, chain, guard)?;
        let (epilogue, guard) = finish(site.channels, &chain, guard)?;
        let product = ProductU8::new(geometry, zero_points, epilogue)?;
        let heavy = Heavy {
            second: Some(b),
            macs,
            ..Heavy::new(Action::Dense(Box::new(product)), a).guarded(guard)
        };
        Some((heavy, chain))
    }
}

/// Channels of a product: the last axis.
fn last_axis(output: &[usize]) -> Option<Site> {
    Some(Site {
        rank: output.len(),
        axis: output.len().checked_sub(1)?,
        channels: *output.last()?,
    })
}
