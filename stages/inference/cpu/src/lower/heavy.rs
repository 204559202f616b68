//! Chains: what starts them, and how they become steps.

use flow_model::op::{BinaryKind, Op};
use flow_model::{NodeId, Tensor, Value};

use super::chain::{self, Abilities, Chain, End, Site};
use super::{Action, Form, Lowering, Pending};
use crate::error::CompileError;
use crate::kernels::literal::Literal;
use crate::kernels::{ArgError, Epilogue, EpilogueSpec, Halo, MidSpec, OutputKind, ResidualSpec};

/// A root with its chain, ready to run.
pub(super) struct Heavy {
    pub action: Action,
    /// The value the kernel reads.
    pub data: Value,
    /// Padding it needs around it: margin and stored code.
    pub halo: Option<(Halo, u8)>,
    pub macs: u64,
    pub literal: Option<Box<Literal>>,
}

impl Lowering<'_> {
    /// Tries to start a chain at `id`. Passes run in order of preference: what has weights first.
    pub(super) fn plan_chain(&mut self, id: NodeId, pass: usize) {
        if self.taken[id.index()] || self.users[id.index()].is_empty() {
            return;
        }
        let planned = match (&self.graph.node(id).op, pass) {
            (Op::QuantizedConvolution(_), 0) => self.quantized_convolution(id),
            (Op::QuantizedMatMul(_), 0) => self.quantized_matmul(id),
            (Op::Convolution(a) | Op::GroupConvolution(a), 0) => self.convolution(id, &a.clone()),
            (Op::AvgPool { .. } | Op::Reduce { .. }, 1) => self.average(id),
            (Op::Binary(BinaryKind::Add | BinaryKind::Subtract), 1) => self.addition(id),
            (Op::Dequantize(_), 2) => self.requantization(id),
            _ => None,
        };
        if let Some((heavy, chain)) = planned {
            let last = chain.members.last().copied().unwrap_or(id);
            self.taken[id.index()] = true;
            for member in &chain.members {
                self.taken[member.index()] = true;
            }
            self.pending.insert(
                last,
                Pending {
                    root: id,
                    heavy,
                    chain,
                },
            );
        }
    }

    /// Emits a step whose chain ends here.
    pub(super) fn emit_chain(&mut self, pending: Pending) -> Result<(), CompileError> {
        let Pending { root, heavy, chain } = pending;
        let rank = self.graph.info(heavy.data).shape.len();
        let form = if rank == 4 { Form::Image } else { Form::Plain };
        let mut data = self.materialize(heavy.data, form)?;
        if let Some((halo, fill)) = heavy.halo {
            data = self.with_halo(heavy.data, data, halo, fill);
        }
        let mut inputs = vec![data];
        if let Some(residual) = &chain.residual {
            inputs.push(self.materialize(residual.codes, form)?);
        }
        let output = self.produce(chain.output, form);
        self.push(heavy.action, inputs, vec![output], root);
        if let Some(step) = self.draft.steps.last_mut() {
            step.members = chain.members;
            step.macs = heavy.macs;
            step.literal = heavy.literal;
        }
        Ok(())
    }

    pub(super) fn extend(&self, site: Site, abilities: Abilities, start: Chain) -> Option<Chain> {
        let taken = |id: NodeId| self.taken[id.index()];
        chain::extend(self.graph, &self.users, &taken, site, abilities, start)
    }

    pub(super) fn constant(&self, value: Value) -> Option<&Tensor> {
        match &self.graph.node(value.node).op {
            Op::Constant(tensor) => Some(tensor),
            _ => None,
        }
    }
<<<<<<< HEAD
=======

    fn quantized_convolution(&self, id: NodeId) -> Option<(Heavy, Chain)> {
        let node = self.graph.node(id);
        let Op::QuantizedConvolution(q) = &node.op else {
            return None;
        };
        let (data, weights) = (node.inputs[0], self.constant(node.inputs[1])?);
        let (input, output) = (self.shape(data), self.shape(Value::of(id)));
        let ([_, ic, h, w], &[_, oc, oh, ow]) = (input.as_slice(), output.as_slice()) else {
            return None;
        };
        let (&ic, &h, &w) = (ic, h, w);
        let &[_, group_ic, kh, kw] = weights.shape() else {
            return None;
        };
        let window = window_of_conv(&q.conv, [kh, kw])?;
        let abilities = Abilities {
            residual: true,
            codes: true,
            table: true,
            per_channel: true,
        };
        let site = Site {
            rank: 4,
            axis: 1,
            channels: oc,
        };
        let chain = self.extend(site, abilities, Chain::start(Value::of(id)))?;
        let bias = bias_of(self.element_type(data)) as i32;
        let zero_points: Vec<i32> = q.data_zero_point.iter().map(|z| z + bias).collect();
        let packed = Weights {
            codes: weight_codes(weights)?,
            zero_point: &q.weight_zero_point,
            data_zero_point: &zero_points,
        };
        let depthwise = q.groups == ic && q.groups == oc;
        let root = match (depthwise, q.groups) {
            (true, _) => Some(Root::Depthwise),
            (false, 1) => Some(super::exact::dense(ic, window.taps())),
            _ => None,
        };
        let literal = root.and_then(|root| self.literal_sums(id, &chain, site, window, root));
        let epilogue = match &literal {
            Some(_) => scaled(oc, &chain).ok()?,
            None => epilogue(oc, &chain).ok()?,
        };
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
            action,
            data,
            halo: Some((halo, fill)),
            macs: macs(&output, group_ic * kh * kw),
            literal,
        };
        Some((heavy, chain))
    }

    fn quantized_matmul(&self, id: NodeId) -> Option<(Heavy, Chain)> {
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
        let abilities = Abilities {
            residual: true,
            codes: true,
            table: true,
            per_channel: true,
        };
        let site = Site {
            rank: output.len(),
            axis: output.len() - 1,
            channels: n,
        };
        let chain = self.extend(site, abilities, Chain::start(Value::of(id)))?;
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

    fn convolution(&self, id: NodeId, attrs: &ConvAttrs) -> Option<(Heavy, Chain)> {
        let node = self.graph.node(id);
        let (data, weights) = (node.inputs[0], self.constant(node.inputs[1])?);
        let (input, output) = (self.shape(data), self.shape(Value::of(id)));
        let (&[_, ic, h, w], &[_, oc, oh, ow]) = (input.as_slice(), output.as_slice()) else {
            return None;
        };
        let (groups, group_ic, kh, kw) = match (&node.op, weights.shape()) {
            (Op::Convolution(_), &[_, c, kh, kw]) => (1, c, kh, kw),
            (Op::GroupConvolution(_), &[groups, _, c, kh, kw]) => (groups, c, kh, kw),
            _ => return None,
        };
        if weights.element_type() != ElementType::F32 || self.element_type(data) != ElementType::F32 {
            return None;
        }
        let window = window_of_conv(attrs, [kh, kw])?;
        let abilities = Abilities {
            residual: false,
            codes: false,
            table: false,
            per_channel: true,
        };
        let site = Site {
            rank: 4,
            axis: 1,
            channels: oc,
        };
        let chain = self.extend(site, abilities, Chain::start(Value::of(id)))?;
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
            let conv = ConvF32::new(self.table, window, channels, &values, epilogue).ok()?;
            Action::ConvF32(Box::new(conv))
        };
        let heavy = Heavy {
            action,
            data,
            halo: Some((window.halo(h, w, oh, ow).ok()?, 0)),
            macs: macs(&output, taps),
            literal: None,
        };
        Some((heavy, chain))
    }

    /// An average of dequantized codes: the sum of codes, then an epilogue.
    fn average(&self, id: NodeId) -> Option<(Heavy, Chain)> {
        let node = self.graph.node(id);
        let real = node.inputs[0];
        let Op::Dequantize(d) = &self.graph.node(real.node).op else {
            return None;
        };
        let data = self.graph.node(real.node).inputs[0];
        let (input, output) = (self.shape(data), self.shape(Value::of(id)));
        let &[_, channels, h, w] = input.as_slice() else {
            return None;
        };
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
                kind: ReduceKind::Mean,
                ..
            } => {
                let axes = self.constant(*node.inputs.get(1)?)?.to_i64();
                let mut axes: Vec<i64> = axes.into_iter().map(|a| if a < 0 { a + 4 } else { a }).collect();
                axes.sort_unstable();
                if axes != [2, 3] || input[0] != 1 {
                    return None;
                }
                let window = Window {
                    kernel: [h, w],
                    ..Window::POINT
                };
                (window, AverageOver::Valid, 1)
            }
            _ => return None,
        };
        if output.len() == 4 && !windows_meet_image(&window, &input, &output) {
            return None;
        }
        let abilities = Abilities {
            residual: false,
            codes: true,
            table: true,
            per_channel: true,
        };
        let site = Site {
            rank: 4,
            axis,
            channels,
        };
        let mut start = Chain::start(Value::of(id));
        start.first = chain::dequantization(d, bias, site)?;
        let site = Site {
            rank: output.len(),
            ..site
        };
        let chain = self.extend(site, abilities, start)?;
        let literal = match over {
            AverageOver::Valid => self.literal_mean(id, &chain, site, window),
            AverageOver::All { .. } => None,
        };
        let epilogue = Box::new(match &literal {
            Some(_) => scaled(channels, &chain).ok()?,
            None => epilogue(channels, &chain).ok()?,
        });
        let heavy = Heavy {
            action: Action::AvgPoolU8 {
                window,
                over,
                epilogue,
            },
            data,
            halo: None,
            macs: 0,
            literal,
        };
        Some((heavy, chain))
    }

    /// A sum of two dequantized values.
    fn addition(&self, id: NodeId) -> Option<(Heavy, Chain)> {
        let node = self.graph.node(id);
        let &[a, b] = node.inputs.as_slice() else {
            return None;
        };
        let site = self.pixel_site(Value::of(id))?;
        let (data, first) = self.dequantized(a, site)?;
        let (codes, mut second) = self.dequantized(b, site)?;
        if self.shape(data) != self.shape(codes) || self.shape(data) != self.shape(Value::of(id)) {
            return None;
        }
        if matches!(node.op, Op::Binary(BinaryKind::Subtract)) {
            let minus = PerChannel::one(-1.0);
            second.scale = second.scale.zip(&minus, |a, b| a * b);
            second.offset = second.offset.zip(&minus, |a, b| a * b);
        }
        let mut start = Chain::start(Value::of(id));
        start.first = first;
        start.residual = Some(chain::Residual {
            codes,
            affine: second,
        });
        self.affine(id, data, site, start)
    }

    /// A dequantization and what follows it, if that is anything.
    fn requantization(&self, id: NodeId) -> Option<(Heavy, Chain)> {
        let site = self.pixel_site(Value::of(id))?;
        let (data, first) = self.dequantized(Value::of(id), site)?;
        let mut start = Chain::start(Value::of(id));
        start.first = first;
        let (heavy, chain) = self.affine(id, data, site, start)?;
        (!chain.members.is_empty()).then_some((heavy, chain))
    }

    fn affine(&self, root: NodeId, data: Value, site: Site, start: Chain) -> Option<(Heavy, Chain)> {
        let abilities = Abilities {
            residual: false,
            codes: true,
            table: true,
            per_channel: true,
        };
        let chain = self.extend(site, abilities, start)?;
        let literal = self.literal_codes(root, &chain, site);
        let epilogue = Box::new(match &literal {
            Some(_) => scaled(site.channels, &chain).ok()?,
            None => epilogue(site.channels, &chain).ok()?,
        });
        let heavy = Heavy {
            action: Action::AffineU8(epilogue),
            data,
            halo: None,
            macs: 0,
            literal,
        };
        Some((heavy, chain))
    }

    /// Channels of an element-wise operation: axis 1 of images, else the last axis.
    fn pixel_site(&self, output: Value) -> Option<Site> {
        let shape = self.shape(output);
        let axis = if shape.len() == 4 {
            1
        } else {
            shape.len().checked_sub(1)?
        };
        (!shape.contains(&0)).then(|| Site {
            rank: shape.len(),
            axis,
            channels: shape[axis],
        })
    }

    /// Codes behind a dequantization, and what stored codes mean.
    fn dequantized(&self, value: Value, site: Site) -> Option<(Value, Affine)> {
        let node = self.graph.node(value.node);
        let Op::Dequantize(d) = &node.op else {
            return None;
        };
        let codes = *node.inputs.first()?;
        let element_type = self.element_type(codes);
        if !is_code(element_type) || matches!(self.graph.node(codes.node).op, Op::Constant(_)) {
            return None;
        }
        Some((codes, chain::dequantization(d, bias_of(element_type), site)?))
    }
>>>>>>> 988edd9 (Write the kernels once over a vector trait, and compile them for six instruction sets)
}

/// Only the first scale and offset of a chain, in f32.
pub(super) fn scaled(channels: usize, chain: &Chain) -> Result<Epilogue, ArgError> {
    let (scale, bias) = (chain.first.scale.to_f32(), chain.first.offset.to_f32());
    Epilogue::new(channels, &EpilogueSpec::dequantize(scale, bias))
}

/// The epilogue of a chain.
pub(super) fn epilogue(channels: usize, chain: &Chain) -> Result<Epilogue, ArgError> {
    let (output, table) = match &chain.end {
        End::F32 => (OutputKind::F32, None),
        End::Codes { table, .. } => (OutputKind::U8, table.clone()),
    };
    Epilogue::new(
        channels,
        &EpilogueSpec {
            scale: chain.first.scale.to_f32(),
            bias: chain.first.offset.to_f32(),
            mid: chain.mid.as_ref().map(|mid| MidSpec {
                low: mid.low as f32,
                high: mid.high as f32,
                scale: mid.after.scale.to_f32(),
                offset: mid.after.offset.to_f32(),
            }),
            residual: chain.residual.as_ref().map(|residual| ResidualSpec {
                scale: residual.affine.scale.to_f32(),
                offset: residual.affine.offset.to_f32(),
            }),
            low: chain.low.to_f32(),
            high: chain.high.to_f32(),
            output,
            table,
        },
    )
}

pub(super) fn macs(output: &[usize], taps: usize) -> u64 {
    output.iter().product::<usize>() as u64 * taps as u64
}
