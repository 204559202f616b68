//! Interpolation that lands on pixels.

use flow_model::graph::{Node, NodeId};
use flow_model::op::{InterpolateAttrs, InterpolateMode, Op};
use flow_model::tensor::Tensor;

use super::super::Sweep;
use crate::constants;
use crate::report::Reason;

/// Pixels up to which an interpolation is tried out.
const MAX_PIXELS: usize = 1 << 22;

impl Sweep<'_> {
    /// An Interpolate that mixes pixels works on codes where it mixes none.
    pub(in super::super) fn interpolate(&mut self, id: NodeId, node: &Node) -> Result<bool, Reason> {
        if self.coded(node.inputs[0]).is_none() {
            return Ok(false);
        }
        let Some(op) = self.on_pixels(node) else {
            return Ok(false);
        };
        let nearest = Node { op, ..node.clone() };
        self.layout(id, &nearest)
    }

    /// The Interpolate that takes the nearest pixel, if the given one has no other pixel to mix in: where all of
    /// its coordinates fall on pixels (shrinking by a whole factor, growing from one pixel).
    fn on_pixels(&self, node: &Node) -> Option<Op> {
        let Op::Interpolate(attrs) = &node.op else {
            return None;
        };
        let pads = attrs.pads_begin.iter().chain(&attrs.pads_end);
        if attrs.mode == InterpolateMode::Nearest || pads.into_iter().any(|&p| p != 0) {
            return None;
        }
        let nearest = Op::Interpolate(InterpolateAttrs {
            mode: InterpolateMode::Nearest,
            ..attrs.clone()
        });
        let mut shape = self.old.info(node.inputs[0]).static_shape()?;
        let output = node.outputs.first()?.static_shape()?;
        let rest: Vec<Tensor> = node.inputs[1..]
            .iter()
            .map(|&v| constants::tensor(self.old, v))
            .collect::<Option<_>>()?;
        let axes_port = if attrs.version >= 11 { 1 } else { 2 };
        let named: Option<Vec<i64>> = rest.get(axes_port).map(Tensor::to_i64);
        let rank = shape.len() as i64;
        let moved: Vec<usize> = (0..shape.len()).filter(|&a| shape[a] != output[a]).collect();
        if let Some(named) = named {
            // The other axes do not matter: one pixel stands for them.
            for (axis, length) in shape.iter_mut().enumerate() {
                if !named.iter().any(|&n| n == axis as i64 || n + rank == axis as i64) {
                    *length = 1;
                }
            }
        }
        let count = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d))?;
        let out_count = output.iter().try_fold(1usize, |n, &d| n.checked_mul(d))?;
        if count > MAX_PIXELS || out_count > MAX_PIXELS.saturating_mul(16) {
            return None;
        }
        let same = |axis: usize| -> Option<bool> {
            let inner: usize = shape[axis + 1..].iter().product();
            let coordinates: Vec<f32> = (0..count)
                .map(|i| (i / inner.max(1) % shape[axis]) as f32)
                .collect();
            let mut inputs = vec![Tensor::from_slice(&shape, &coordinates).ok()?];
            inputs.extend(rest.iter().cloned());
            let run = |op: &Op| flow_model::ops::evaluate(op, &inputs).ok()?.into_iter().next();
            Some(run(&node.op)?.to_f32() == run(&nearest)?.to_f32())
        };
        moved
            .into_iter()
            .all(|axis| same(axis) == Some(true))
            .then_some(nearest)
    }
}
