//! Pooling, means and sums.

use flow_model::op::{Op, ReduceKind};
use flow_model::{ElementType, NodeId, Value};

use super::chain::{self, Abilities, Chain, Site, bias_of, is_code};
use super::heavy::{Heavy, finish};
use super::window::{image_dims, window_of_pool, windows_meet_image};
use super::{Action, Form, Lowering};
use crate::error::CompileError;
use crate::kernels::literal::Count;
use crate::kernels::{AverageOver, Window};

impl Lowering<'_> {
    /// Handles a maximum pooling; false if it is none, or not one that has a kernel.
    pub(super) fn emit_max_pool(&mut self, id: NodeId) -> Result<bool, CompileError> {
        let node = self.graph.node(id);
        let Op::MaxPool(pool) = &node.op else {
            return Ok(false);
        };
        let (data, output) = (node.inputs[0], Value::of(id));
        let indices_used = self.is_read(id, 1);
        let runs = is_code(self.element_type(data)) || self.element_type(data) == ElementType::F32;
        let Some(window) = window_of_pool(pool).filter(|_| runs && !indices_used) else {
            return Ok(false);
        };
        if !windows_meet_image(&window, &self.shape(data), &self.shape(output)) {
            return Ok(false);
        }
        let input = self.materialize(data, Form::Image)?;
        let output = self.produce(output, Form::Image);
        self.push(Action::MaxPool(window), vec![input], vec![output], id);
        Ok(true)
    }

    /// An average or a sum of dequantized codes: the sum of codes, then an epilogue.
    pub(super) fn average(&self, id: NodeId) -> Option<(Heavy, Chain)> {
        let node = self.graph.node(id);
        let real = node.inputs[0];
        let Op::Dequantize(d) = &self.graph.node(real.node).op else {
            return None;
        };
        let data = self.graph.node(real.node).inputs[0];
        let (input, output) = (self.shape(data), self.shape(Value::of(id)));
        let [_, channels, h, w] = image_dims(&input)?;
        if !is_code(self.element_type(data)) {
            return None;
        }
        let bias = bias_of(self.element_type(data));
        let (window, over, axis) = match &node.op {
            Op::AvgPool { pool, exclude_pad } => {
                let window = window_of_pool(pool)?;
                let padded = pool.pads_begin.iter().chain(&pool.pads_end).any(|&p| p > 0);
                let over = if *exclude_pad || !padded {
                    AverageOver::Valid
                } else if pool.ceil {
                    return None;
                } else {
                    // Padding counts as real zero.
                    let [zero] = d.zero_point.as_slice() else {
                        return None;
                    };
                    let code = f64::from(*zero) + bias;
                    if code.fract() != 0.0 || !(0.0..=255.0).contains(&code) {
                        return None;
                    }
                    AverageOver::All { pad_code: code as u8 }
                };
                (window, over, 1)
            }
            Op::Reduce {
                kind: kind @ (ReduceKind::Mean | ReduceKind::Sum),
                ..
            } => {
                let axes = self.constant(*node.inputs.get(1)?)?.to_i64();
                let mut axes: Vec<i64> = axes.into_iter().map(|a| if a < 0 { a + 4 } else { a }).collect();
                axes.sort_unstable();
                if input.len() != 4 || axes != [2, 3] || input[0] != 1 {
                    return None;
                }
                let window = Window {
                    kernel: [h, w],
                    ..Window::POINT
                };
                let over = match kind {
                    ReduceKind::Sum => AverageOver::Nothing,
                    _ => AverageOver::Valid,
                };
                (window, over, 1)
            }
            _ => return None,
        };
        // Sums of codes are i32.
        let summed = h.checked_mul(w)?.min(window.taps());
        if summed > i32::MAX as usize / 255 {
            return None;
        }
        if output.len() >= 3 && !windows_meet_image(&window, &input, &output) {
            return None;
        }
        let site = Site {
            rank: input.len(),
            axis,
            channels,
        };
        let mut start = Chain::start(Value::of(id));
        start.first = chain::dequantization(d, bias, site)?;
        if over == AverageOver::Nothing {
            // The sum of n values `(q - z) * s` is `(sum of q - n * z) * s`.
            start.first.offset = start.first.offset.map(|v| v * summed as f64);
        }
        let site = Site {
            rank: output.len(),
            ..site
        };
        let chain = self.extend(site, Abilities::CODES, start)?;
        let divided_by = match over {
            AverageOver::Valid => Count::Inside,
            AverageOver::Nothing => Count::One,
            AverageOver::All { .. } => Count::All,
        };
        let guard = self.literal_windows(id, &chain, site, window, divided_by);
        if self.is_literal() && !matches!(guard, Ok(Some(_))) {
            // In f32 the model's bits come by themselves.
            return None;
        }
        let (epilogue, guard) = finish(channels, &chain, guard)?;
        let action = Action::AvgPoolU8 {
            window,
            over,
            epilogue: Box::new(epilogue),
        };
        let heavy = Heavy {
            form: Form::Image,
            ..Heavy::new(action, data).guarded(guard)
        };
        Some((heavy, chain))
    }
}
