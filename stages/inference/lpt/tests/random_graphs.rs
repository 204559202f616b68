//! Random small quantized graphs: the transformed graph gives what the FakeQuantize graph gives.
#![allow(clippy::unwrap_used, reason = "tests")]

use flow_lpt::{Numerics, Options, transform};
use flow_model::graph::{Graph, Node, OutputInfo, Value};
use flow_model::op::{
    AutoPad, BinaryKind, ConvAttrs, DeconvAttrs, Op, PadMode, PoolAttrs, ReduceKind, UnaryKind,
};
use flow_model::tensor::{ElementType, Tensor};
use flow_model::{evaluate, ops};
use proptest::prelude::*;

/// One operation between two FakeQuantizes.
#[derive(Debug, Clone)]
enum Middle {
    Convolution {
        kernel: usize,
        depthwise: bool,
        asymmetric: bool,
    },
    Relu,
    Sigmoid,
    MaxPool,
    AvgPool,
    Transpose,
    AddItself,
    ConcatWithFirst,
    AddConstant(f32),
    MultiplyConstant(f32),
    Deconvolution {
        asymmetric: bool,
    },
    MultiplyWithItself {
        transpose: bool,
    },
    PadAndSlice,
    ReverseChannels,
    SplitAndSwap,
    Clamp(f32, f32),
    PRelu(f32),
    ScalePerChannel,
    QuantizePerChannel(Interval),
    ReduceMaxAndBroadcast,
}

/// A FakeQuantize: its interval and levels.
#[derive(Debug, Clone)]
struct Interval {
    low: f32,
    high: f32,
    levels: u32,
}

fn interval() -> impl Strategy<Value = Interval> {
    let symmetric = (0.1f32..4.0).prop_map(|h| (-h / 127.0 * 128.0, h));
    let positive = (0.1f32..4.0).prop_map(|h| (0.0, h));
    // The zero of these falls on a level, or between two.
    let asymmetric = (0.02f32..0.03, 1u32..255).prop_map(|(s, z)| (-s * z as f32, s * (255 - z) as f32));
    let anywhere = (-3.0f32..-0.1, 0.1f32..3.0);
    (
        prop_oneof![symmetric, positive, asymmetric, anywhere],
        prop_oneof![4 => Just(256u32), 1 => Just(255), 1 => Just(16)],
    )
        .prop_map(|((low, high), levels)| Interval { low, high, levels })
}

fn middle() -> impl Strategy<Value = Middle> {
    prop_oneof![
        (prop_oneof![Just(1usize), Just(3)], any::<bool>(), any::<bool>()).prop_map(
            |(kernel, depthwise, asymmetric)| Middle::Convolution {
                kernel,
                depthwise,
                asymmetric
            }
        ),
        Just(Middle::Relu),
        Just(Middle::Sigmoid),
        Just(Middle::MaxPool),
        Just(Middle::AvgPool),
        Just(Middle::Transpose),
        Just(Middle::AddItself),
        Just(Middle::ConcatWithFirst),
        (-1.0f32..1.0).prop_map(Middle::AddConstant),
        prop_oneof![0.2f32..2.0, -2.0f32..-0.2].prop_map(Middle::MultiplyConstant),
        any::<bool>().prop_map(|asymmetric| Middle::Deconvolution { asymmetric }),
        any::<bool>().prop_map(|transpose| Middle::MultiplyWithItself { transpose }),
        Just(Middle::PadAndSlice),
        Just(Middle::ReverseChannels),
        Just(Middle::SplitAndSwap),
        (-1.0f32..0.5, 0.5f32..2.0).prop_map(|(low, high)| Middle::Clamp(low, high)),
        (-0.5f32..2.0).prop_map(Middle::PRelu),
        Just(Middle::ScalePerChannel),
        interval().prop_map(Middle::QuantizePerChannel),
        Just(Middle::ReduceMaxAndBroadcast),
    ]
}

struct Builder {
    graph: Graph,
    random: u32,
}

impl Builder {
    fn next(&mut self) -> u32 {
        self.random = self.random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        self.random >> 8
    }

    fn push(&mut self, op: Op, inputs: Vec<Value>, outputs: Vec<OutputInfo>) -> Value {
        let name = format!("n{}", self.graph.nodes.len());
        Value::of(self.graph.push(Node {
            name: name.into(),
            line: 0,
            op,
            inputs,
            outputs,
        }))
    }

    fn constant(&mut self, tensor: Tensor) -> Value {
        let info = OutputInfo::fixed(tensor.element_type(), tensor.shape());
        self.push(Op::Constant(tensor), vec![], vec![info])
    }

    fn i64s(&mut self, values: &[i64]) -> Value {
        self.constant(Tensor::from_slice(&[values.len()], values).unwrap())
    }

    fn f32s(&mut self, shape: &[usize], values: &[f32]) -> Value {
        self.constant(Tensor::from_slice(shape, values).unwrap())
    }

    fn node(&mut self, op: Op, inputs: &[Value]) -> Value {
        let infos: Vec<OutputInfo> = inputs.iter().map(|&v| self.graph.info(v).clone()).collect();
        let known: Vec<ops::Input> = inputs
            .iter()
            .zip(&infos)
            .map(|(v, info)| ops::Input {
                element_type: info.element_type,
                shape: &info.shape,
                value: match &self.graph.node(v.node).op {
                    Op::Constant(tensor) => Some(tensor),
                    _ => None,
                },
            })
            .collect();
        let outputs = ops::infer(&op, &known).unwrap();
        self.push(op, inputs.to_vec(), outputs)
    }

    fn fake_quantize(&mut self, x: Value, i: &Interval) -> Value {
        let (low, high) = (self.f32s(&[], &[i.low]), self.f32s(&[], &[i.high]));
        self.node(Op::FakeQuantize { levels: i.levels }, &[x, low, high, low, high])
    }

    fn weights(&mut self, shape: &[usize], asymmetric: bool) -> Value {
        let count = shape.iter().product();
        let codes: Vec<u8> = (0..count).map(|_| self.next() as u8).collect();
        let tensor = match asymmetric {
            true => Tensor::from_slice(shape, &codes),
            false => Tensor::from_slice(shape, &codes.iter().map(|&c| c as i8).collect::<Vec<_>>()),
        };
        let mut w = self.constant(tensor.unwrap());
        w = self.node(Op::Convert(ElementType::F32), &[w]);
        let mut along = vec![1; shape.len()];
        along[0] = shape[0];
        if asymmetric {
            let zero_points: Vec<f32> = (0..shape[0]).map(|_| (self.next() as u8).into()).collect();
            let zero_points = self.f32s(&along, &zero_points);
            w = self.node(Op::Binary(BinaryKind::Subtract), &[w, zero_points]);
        }
        let scales: Vec<f32> = (0..shape[0])
            .map(|_| 0.001 + (self.next() % 1000) as f32 * 1e-6)
            .collect();
        let scales = self.f32s(&along, &scales);
        self.node(Op::Binary(BinaryKind::Multiply), &[w, scales])
    }

    fn apply(&mut self, middle: &Middle, x: Value, first: Value) -> Value {
        let shape = self.graph.info(x).static_shape().unwrap();
        let pool = PoolAttrs {
            kernel: vec![2, 2],
            strides: vec![1, 1],
            dilations: vec![1, 1],
            pads_begin: vec![0, 0],
            pads_end: vec![1, 1],
            auto_pad: AutoPad::Explicit,
            ceil: false,
        };
        match *middle {
            Middle::Convolution {
                kernel,
                depthwise,
                asymmetric,
            } => {
                let pad = (kernel / 2) as isize;
                let conv = ConvAttrs {
                    strides: vec![1, 1],
                    dilations: vec![1, 1],
                    pads_begin: vec![pad; 2],
                    pads_end: vec![pad; 2],
                    auto_pad: AutoPad::Explicit,
                };
                let c = shape[1];
                let (op, w) = match depthwise {
                    true => (Op::GroupConvolution(conv), vec![c, 1, 1, kernel, kernel]),
                    false => (Op::Convolution(conv), vec![3, c, kernel, kernel]),
                };
                let w = self.weights(&w, asymmetric);
                let y = self.node(op, &[x, w]);
                let out = self.graph.info(y).static_shape().unwrap()[1];
                let bias: Vec<f32> = (0..out)
                    .map(|_| (self.next() % 200) as f32 / 100.0 - 1.0)
                    .collect();
                let bias = self.f32s(&[1, out, 1, 1], &bias);
                self.node(Op::Binary(BinaryKind::Add), &[y, bias])
            }
            Middle::Relu => self.node(Op::Unary(UnaryKind::Relu), &[x]),
            Middle::Sigmoid => self.node(Op::Unary(UnaryKind::Sigmoid), &[x]),
            Middle::MaxPool => {
                let y = self.node(Op::MaxPool(pool), &[x]);
                Value { port: 0, ..y }
            }
            Middle::AvgPool => self.node(
                Op::AvgPool {
                    pool,
                    exclude_pad: true,
                },
                &[x],
            ),
            Middle::Transpose => {
                let order = self.constant(Tensor::from_slice(&[4], &[0i64, 1, 3, 2]).unwrap());
                self.node(Op::Transpose, &[x, order])
            }
            Middle::AddItself => self.node(Op::Binary(BinaryKind::Add), &[x, x]),
            Middle::ConcatWithFirst => self.node(Op::Concat { axis: 1 }, &[x, first]),
            Middle::AddConstant(c) => {
                let c = self.f32s(&[], &[c]);
                self.node(Op::Binary(BinaryKind::Add), &[x, c])
            }
            Middle::MultiplyConstant(c) => {
                let c = self.f32s(&[], &[c]);
                self.node(Op::Binary(BinaryKind::Multiply), &[x, c])
            }
            Middle::Deconvolution { asymmetric } => {
                // Weights with a scale per input channel would not do: transposed, it is per output channel.
                let w = self.weights(&[2, shape[1], 3, 3], asymmetric);
                let order = self.constant(Tensor::from_slice(&[4], &[1i64, 0, 2, 3]).unwrap());
                let w = self.node(Op::Transpose, &[w, order]);
                let attrs = DeconvAttrs {
                    conv: ConvAttrs {
                        strides: vec![1, 1],
                        dilations: vec![1, 1],
                        pads_begin: vec![1, 1],
                        pads_end: vec![1, 1],
                        auto_pad: AutoPad::Explicit,
                    },
                    output_padding: vec![0, 0],
                };
                self.node(Op::ConvolutionBackpropData(attrs), &[x, w])
            }
            Middle::MultiplyWithItself { transpose } => {
                let op = Op::MatMul {
                    transpose_a: false,
                    transpose_b: transpose,
                };
                self.node(op, &[x, x])
            }
            Middle::PadAndSlice => {
                let pads = self.i64s(&[0, 0, 1, 1]);
                let x = self.node(Op::Pad(PadMode::Constant), &[x, pads, pads]);
                let [start, stop, step, axes] = [[1, 0], [6, 5], [1, 1], [2, 3]].map(|v| self.i64s(&v));
                self.node(Op::Slice, &[x, start, stop, step, axes])
            }
            Middle::ReverseChannels => {
                let order: Vec<i64> = (0..shape[1] as i64).rev().collect();
                let (order, axis) = (self.i64s(&order), self.i64s(&[1]));
                self.node(Op::Gather { batch_dims: 0 }, &[x, order, axis])
            }
            Middle::SplitAndSwap => {
                let (axis, lengths) = (self.i64s(&[1]), self.i64s(&[1, shape[1] as i64 - 1]));
                let parts = self.node(Op::VariadicSplit, &[x, axis, lengths]);
                self.node(Op::Concat { axis: -3 }, &[Value { port: 1, ..parts }, parts])
            }
            Middle::Clamp(min, max) => self.node(Op::Clamp { min, max }, &[x]),
            Middle::PRelu(slope) => {
                let slope = self.f32s(&[1], &[slope]);
                self.node(Op::PRelu, &[x, slope])
            }
            Middle::ScalePerChannel => {
                let factors: Vec<f32> = (0..shape[1]).map(|c| 0.5 + 0.25 * c as f32).collect();
                let factors = self.f32s(&[1, shape[1], 1, 1], &factors);
                self.node(Op::Binary(BinaryKind::Multiply), &[x, factors])
            }
            Middle::QuantizePerChannel(ref i) => {
                let along = [1, shape[1], 1, 1];
                let scaled = |v: f32| {
                    (0..shape[1])
                        .map(|c| v * (1.0 + 0.5 * c as f32))
                        .collect::<Vec<_>>()
                };
                let (low, high) = (
                    self.f32s(&along, &scaled(i.low)),
                    self.f32s(&along, &scaled(i.high)),
                );
                self.node(Op::FakeQuantize { levels: i.levels }, &[x, low, high, low, high])
            }
            Middle::ReduceMaxAndBroadcast => {
                let axes = self.i64s(&[-1]);
                let kind = ReduceKind::Max;
                let y = self.node(
                    Op::Reduce {
                        kind,
                        keep_dims: true,
                    },
                    &[x, axes],
                );
                let target: Vec<i64> = shape.iter().map(|&d| d as i64).collect();
                let target = self.i64s(&target);
                self.node(Op::Broadcast, &[y, target])
            }
        }
    }
}

/// `input -> FakeQuantize -> middle -> FakeQuantize`, with some operations in the middle.
fn build(first: &Interval, middles: &[Middle], last: &Interval, seed: u32) -> Graph {
    let mut b = Builder {
        graph: Graph::default(),
        random: seed,
    };
    let x = b.push(
        Op::Parameter,
        vec![],
        vec![OutputInfo::fixed(ElementType::F32, &[1, 3, 5, 5])],
    );
    b.graph.parameters.push(x.node);
    let first = b.fake_quantize(x, first);
    let mut y = first;
    for middle in middles {
        y = b.apply(middle, y, first);
    }
    let y = b.fake_quantize(y, last);
    let info = b.graph.info(y).clone();
    let result = b.push(Op::Result, vec![y], vec![info]);
    b.graph.results.push(result.node);
    b.graph
}

/// A graph and what it is transformed to agree within one output step.
fn agree(graph: &Graph, step: f32, seed: u32) -> Result<(), TestCaseError> {
    let lowered = transform(graph, &Options::default()).unwrap();
    let values: Vec<f32> = (0..75u32)
        .map(|i| {
            let bits = (i ^ seed).wrapping_mul(2_654_435_761);
            (bits >> 8) as f32 / (1 << 22) as f32 - 2.0
        })
        .collect();
    let input = [Tensor::from_slice(&[1, 3, 5, 5], &values).unwrap()];
    let expected = evaluate(graph, &input).unwrap().remove(0);
    let ours = evaluate(&lowered.graph, &input).unwrap().remove(0);
    // OpenVINO's numerics are coarser; they must at least run.
    let options = Options {
        numerics: Numerics::OpenVino,
        ..Options::default()
    };
    let other = transform(graph, &options).unwrap();
    let other = evaluate(&other.graph, &input).unwrap().remove(0);
    prop_assert_eq!(other.shape(), expected.shape());
    for layer in lowered.report.float_layers() {
        let reason = layer.reason.as_ref().unwrap();
        prop_assert!(
            !reason.message.is_empty() && !reason.remedy.is_empty(),
            "{}",
            reason
        );
    }
    prop_assert_eq!(ours.shape(), expected.shape());
    let (a, b) = (ours.to_f32(), expected.to_f32());
    for (x, y) in a.iter().zip(&b) {
        prop_assert!((x - y).abs() <= step * 1.01, "{} is not {}, step {}", x, y, step);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn transformed_graphs_agree_within_a_step(
        first in interval(),
        middles in prop::collection::vec(middle(), 1..4),
        last in interval(),
        seed in any::<u32>(),
    ) {
        let graph = build(&first, &middles, &last, seed);
        let step = (last.high - last.low) / (last.levels - 1) as f32;
        agree(&graph, step, seed)?;
    }

    #[test]
    fn a_second_transformation_changes_nothing(
        first in interval(),
        middles in prop::collection::vec(middle(), 1..4),
        last in interval(),
        seed in any::<u32>(),
    ) {
        let graph = build(&first, &middles, &last, seed);
        let once = transform(&graph, &Options::default()).unwrap().graph;
        let twice = transform(&once, &Options::default()).unwrap().graph;
        let count = |g: &Graph| g.nodes.iter().filter(|n| matches!(
            n.op,
            Op::QuantizedConvolution(_) | Op::Quantize(_) | Op::Lookup(_) | Op::FakeQuantize { .. }
        )).count();
        prop_assert_eq!(count(&once), count(&twice));
    }
}
