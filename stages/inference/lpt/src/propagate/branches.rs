//! Convolutions of data whose scales differ between runs of channels, as behind a Concat of branches.
//!
//! One integer accumulator cannot hold codes of different scales, and bringing them to one scale loses levels. The
//! convolution becomes one integer convolution per run, each with the scale and zero point of its run, whose
//! results are added in f32: every partial sum is exact, so nothing is coarser than in the model.

use std::sync::Arc;

use flow_model::graph::{Node, NodeId, OutputInfo, Value};
use flow_model::op::{BinaryKind, ConvAttrs, Dequantize, Op, QuantizedConv};
use flow_model::tensor::{ElementType, Tensor};

use super::Sweep;
use super::coded::Coded;
use super::layout::normalized;
use super::sums::{self, Codes};
use crate::dequantization::{at, len, uniform};
use crate::report::{Reason, ReasonCode};

/// Most runs that a convolution is taken apart into.
const MAX_RUNS: usize = 8;

/// Fewest terms of a sum per run, on average, that pay: a further f32 result per output costs about as much as
/// 16 multiplications of codes, and a multiplication of codes about a quarter of one in f32.
const MIN_TERMS: usize = 32;

/// Channels with one scale and zero point.
#[derive(Debug, Clone, PartialEq)]
struct Run {
    start: usize,
    end: usize,
    scale: f32,
    zero_point: f32,
}

/// Runs of channels with equal pairs.
fn runs(d: &Dequantize) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for i in 0..len(d) {
        let (scale, zero_point) = (at(&d.scale, i), at(&d.zero_point, i));
        match runs.last_mut() {
            Some(run) if (run.scale, run.zero_point) == (scale, zero_point) => run.end = i + 1,
            _ => runs.push(Run {
                start: i,
                end: i + 1,
                scale,
                zero_point,
            }),
        }
    }
    runs
}

impl Sweep<'_> {
    /// A convolution without groups of data with a scale per channel; `Ok(false)` where it is none of these or
    /// does not pay.
    pub(super) fn convolution_by_runs(
        &mut self,
        id: NodeId,
        node: &Node,
        conv: &ConvAttrs,
        coded: &Coded,
        codes: &Codes,
    ) -> Result<bool, Reason> {
        let Some(d) = coded.affine().filter(|d| d.axis == Some(1)).cloned() else {
            return Ok(false);
        };
        let shape = codes.tensor.shape().to_vec();
        let runs = runs(&d);
        let terms: usize = shape[1..].iter().product();
        if len(&d) != shape[1] || runs.len() > MAX_RUNS || terms < MIN_TERMS.saturating_mul(runs.len()) {
            return Ok(false);
        }
        let padded = conv.pads_begin.iter().chain(&conv.pads_end).any(|&p| p != 0);
        let mut parts = Vec::with_capacity(runs.len());
        for run in &runs {
            let (zero_point, rest) = sums::split_zero_point(run.zero_point, coded);
            if padded && rest != 0.0 {
                return Err(super::convolution::padded_between_codes(node, run.zero_point));
            }
            let codes = codes.inputs(run.start..run.end)?;
            let inner: usize = codes.tensor.shape()[1..].iter().product();
            let channels = sums::channels(&codes, 1, shape[0], inner);
            sums::check_range(&node.name, &channels, coded, |_| zero_point)?;
            let mut scale = Vec::with_capacity(shape[0]);
            let mut shift = Vec::with_capacity(shape[0]);
            for (oc, channel) in channels.iter().enumerate() {
                scale.push(sums::product(&node.name, run.scale, at(&codes.scale, oc))?);
                shift.push((rest * channel.sum as f64) as f32);
            }
            parts.push((codes, zero_point, uniform(scale), uniform(shift)));
        }
        let data = self.split_runs(node, coded, &runs);
        let mut total: Option<Value> = None;
        for (i, ((codes, zero_point, scale, shift), data)) in parts.into_iter().zip(data).enumerate() {
            let part = Node {
                name: match i {
                    0 => node.name.clone(),
                    _ => format!("{}/{i}", node.name).into(),
                },
                ..node.clone()
            };
            let op = Op::QuantizedConvolution(QuantizedConv {
                conv: conv.clone(),
                groups: 1,
                data_zero_point: vec![zero_point],
                weight_zero_point: codes.zero_point,
            });
            let sums = self.push_sums(&part, data, codes.tensor, op);
            let dequantize = Arc::new(Dequantize {
                axis: (scale.len() > 1 || shift.len() > 1).then_some(1),
                scale,
                zero_point: shift,
            });
            let info = OutputInfo {
                names: Vec::new(),
                ..node.outputs[0].clone()
            };
            let name = format!("{}/dequantize", part.name);
            let value = self.push_dequantize(sums, &dequantize, name, info.clone());
            total = Some(match total {
                None => value,
                Some(total) => Value::of(self.new.push(Node {
                    name: format!("{}/add", part.name).into(),
                    line: 0,
                    op: Op::Binary(BinaryKind::Add),
                    inputs: vec![total, value],
                    outputs: vec![info],
                })),
            });
        }
        if let Some(total) = total {
            self.plain.insert(Value::of(id), total);
        }
        Ok(true)
    }

    /// The codes of each run: the inputs of the Concat that joined them where they are whole runs, else parts of
    /// a VariadicSplit.
    fn split_runs(&mut self, node: &Node, coded: &Coded, runs: &[Run]) -> Vec<Value> {
        if let Some(parts) = self.inputs_of_concat(coded.codes, runs) {
            return parts
                .into_iter()
                .enumerate()
                .map(|(i, inputs)| match inputs[..] {
                    [one] => one,
                    _ => self.push_concat(format!("{}/data/{i}", node.name), &inputs, coded.element_type),
                })
                .collect();
        }
        let lengths: Vec<i64> = runs.iter().map(|r| (r.end - r.start) as i64).collect();
        let constant = |values: &[i64], shape: &[usize]| {
            Tensor::from_slice(shape, values).ok().map(|tensor| Node {
                name: format!("{}/data/split", node.name).into(),
                line: 0,
                outputs: vec![OutputInfo::fixed(ElementType::I64, shape)],
                op: Op::Constant(tensor),
                inputs: Vec::new(),
            })
        };
        let (Some(axis), Some(lengths)) = (constant(&[1], &[]), constant(&lengths, &[runs.len()])) else {
            return Vec::new();
        };
        let (axis, lengths) = (Value::of(self.new.push(axis)), Value::of(self.new.push(lengths)));
        let whole = self.new.info(coded.codes).clone();
        let outputs = runs
            .iter()
            .map(|run| {
                let mut info = OutputInfo {
                    names: Vec::new(),
                    ..whole.clone()
                };
                info.shape[1] = Some(run.end - run.start);
                info
            })
            .collect();
        let split = self.new.push(Node {
            name: format!("{}/data", node.name).into(),
            line: 0,
            op: Op::VariadicSplit,
            inputs: vec![coded.codes, axis, lengths],
            outputs,
        });
        (0..runs.len() as u32)
            .map(|port| Value { node: split, port })
            .collect()
    }

    /// For each run the inputs of the Concat at `codes` that it consists of.
    fn inputs_of_concat(&self, codes: Value, runs: &[Run]) -> Option<Vec<Vec<Value>>> {
        let concat = self.new.node(codes.node);
        let Op::Concat { axis } = concat.op else {
            return None;
        };
        if normalized(axis, concat.outputs[0].shape.len()) != Some(1) {
            return None;
        }
        let mut inputs = concat.inputs.iter();
        let mut start = 0;
        let mut parts = Vec::with_capacity(runs.len());
        for run in runs {
            let mut of_run = Vec::new();
            while start < run.end {
                let &input = inputs.next()?;
                start += self.new.info(input).shape[1]?;
                of_run.push(input);
            }
            if start != run.end {
                return None;
            }
            parts.push(of_run);
        }
        Some(parts)
    }

    fn push_concat(&mut self, name: String, inputs: &[Value], element_type: ElementType) -> Value {
        let mut shape = self.new.info(inputs[0]).shape.clone();
        shape[1] = inputs.iter().map(|&v| self.new.info(v).shape[1]).sum();
        Value::of(self.new.push(Node {
            name: name.into(),
            line: 0,
            op: Op::Concat { axis: 1 },
            inputs: inputs.to_vec(),
            outputs: vec![OutputInfo {
                element_type,
                shape,
                names: Vec::new(),
            }],
        }))
    }
}

impl Codes {
    /// The codes of some input channels.
    fn inputs(&self, range: std::ops::Range<usize>) -> Result<Self, Reason> {
        let mut shape = self.tensor.shape().to_vec();
        let inner: usize = shape[2..].iter().product();
        let of_channel = (shape[1] * inner).max(1);
        let bytes = self.tensor.bytes().chunks(of_channel);
        let taken: Vec<i8> = bytes
            .flat_map(|channel| &channel[range.start * inner..range.end * inner])
            .map(|&byte| byte as i8)
            .collect();
        shape[1] = range.len();
        let tensor = Tensor::from_slice(&shape, &taken)
            .map_err(|e| Reason::new(ReasonCode::WeightsNotQuantized, e.to_string()))?;
        Ok(Self {
            tensor,
            scale: self.scale.clone(),
            zero_point: self.zero_point.clone(),
        })
    }
}
