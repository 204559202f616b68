//! The evaluator against outputs of OpenVINO's CPU plugin, to the last bit. `golden/make.py` made them.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests")]

use std::sync::Arc;

use flow_model::op::{
    AutoPad, BinaryKind, ConvAttrs, CoordinateMode, InterpolateAttrs, InterpolateMode, NearestMode,
    PoolAttrs, ReduceKind, UnaryKind,
};
use flow_model::{ElementType, Graph, Node, Op, OutputInfo, Tensor, Value, npy};

fn golden(name: &str) -> Tensor {
    npy::read(format!("{}/tests/golden/{name}.npy", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

fn values(shape: &[usize], seed: usize) -> Tensor {
    let value = |i: usize| (((i + seed) * 7919 % 1009) as f32 - 500.0) / 77.7;
    let values: Vec<f32> = (0..shape.iter().product()).map(value).collect();
    Tensor::from_slice(shape, &values).unwrap()
}

fn integers(list: &[i64]) -> Tensor {
    Tensor::from_slice(&[list.len()], list).unwrap()
}

#[track_caller]
fn expect_bits(found: &Tensor, name: &str) {
    let expected = golden(name);
    assert_eq!(found.shape(), expected.shape(), "{name}");
    for (i, (a, b)) in found.to_f32().iter().zip(expected.to_f32()).enumerate() {
        assert_eq!(a.to_bits(), b.to_bits(), "{name}, element {i}: {a} is not {b}");
    }
}

#[track_caller]
fn expect(op: Op, inputs: &[Tensor], name: &str) {
    expect_bits(&flow_model::ops::evaluate(&op, inputs).unwrap()[0], name);
}

fn conv(stride: usize, pad: isize) -> ConvAttrs {
    ConvAttrs {
        strides: vec![stride; 2],
        dilations: vec![1; 2],
        pads_begin: vec![pad; 2],
        pads_end: vec![pad; 2],
        auto_pad: AutoPad::Explicit,
    }
}

#[test]
fn a_convolution_runs_over_taps_then_channels() {
    let inputs = [values(&[1, 20, 7, 7], 1), values(&[6, 20, 3, 3], 3)];
    expect(Op::Convolution(conv(2, 1)), &inputs, "convolution");
}

#[test]
fn a_pointwise_convolution_sums_blocks_of_channels() {
    let inputs = [values(&[1, 1500, 2, 3], 1), values(&[8, 1500, 1, 1], 3)];
    expect(Op::Convolution(conv(1, 0)), &inputs, "pointwise");
}

#[test]
fn a_depthwise_convolution_runs_over_taps() {
    let inputs = [values(&[1, 24, 4, 4], 1), values(&[24, 1, 1, 3, 3], 3)];
    expect(Op::GroupConvolution(conv(1, 1)), &inputs, "depthwise");
}

#[test]
fn a_matrix_product_sums_blocks_of_terms() {
    let op = Op::MatMul {
        transpose_a: false,
        transpose_b: false,
    };
    let inputs = [values(&[3, 1100], 1), values(&[1100, 8], 3)];
    expect(op, &inputs, "product");
}

#[test]
fn averages_add_in_order() {
    let pool = PoolAttrs {
        kernel: vec![3; 2],
        strides: vec![2; 2],
        dilations: vec![1; 2],
        pads_begin: vec![1; 2],
        pads_end: vec![1; 2],
        auto_pad: AutoPad::Explicit,
        ceil: false,
    };
    let op = Op::AvgPool {
        pool,
        exclude_pad: true,
    };
    expect(op, &[values(&[1, 16, 6, 6], 1)], "average");
    let op = Op::Reduce {
        kind: ReduceKind::Mean,
        keep_dims: true,
    };
    expect(op, &[values(&[1, 64, 7, 7], 1), integers(&[2, 3])], "mean");
}

#[test]
fn linear_interpolation_blends_columns_then_rows() {
    let attrs = InterpolateAttrs {
        version: 11,
        mode: InterpolateMode::LinearOnnx,
        by_scales: false,
        coordinates: CoordinateMode::HalfPixel,
        nearest: NearestMode::RoundPreferFloor,
        antialias: false,
        pads_begin: vec![],
        pads_end: vec![],
        cube_coeff: -0.75,
    };
    let inputs = [values(&[1, 16, 4, 4], 1), integers(&[8, 8]), integers(&[2, 3])];
    expect(Op::Interpolate(attrs), &inputs, "linear");
}

/// A network of one input whose result is quantized.
struct Network(Graph);

impl Network {
    fn node(&mut self, op: Op, inputs: &[Value], shape: &[usize]) -> Value {
        Value::of(self.0.push(Node {
            name: Arc::from(format!("n{}", self.0.nodes.len())),
            line: 0,
            op,
            inputs: inputs.to_vec(),
            outputs: vec![OutputInfo::fixed(ElementType::F32, shape)],
        }))
    }

    fn constant(&mut self, shape: &[usize], values: &[f32]) -> Value {
        let tensor = Tensor::from_slice(shape, values).unwrap();
        self.node(Op::Constant(tensor), &[], shape)
    }

    /// Quantizes what `before` makes of the input.
    fn run(x: &Tensor, before: impl FnOnce(&mut Self, Value) -> Value) -> Tensor {
        Self::run_from(-1.23, x, before)
    }

    /// The same with another lower limit of the input.
    fn run_from(low: f32, x: &Tensor, before: impl FnOnce(&mut Self, Value) -> Value) -> Tensor {
        let mut net = Self(Graph::default());
        let parameter = net.node(Op::Parameter, &[], x.shape());
        net.0.parameters.push(parameter.node);
        let value = before(&mut net, parameter);
        let mut inputs = vec![value];
        for limit in [low, 7.7, -0.5, 6.5] {
            inputs.push(net.constant(&[1, 1, 1, 1], &[limit]));
        }
        let quantized = net.node(Op::FakeQuantize { levels: 256 }, &inputs, x.shape());
        let result = net.node(Op::Result, &[quantized], x.shape());
        net.0.results.push(result.node);
        flow_model::evaluate(&net.0, std::slice::from_ref(x))
            .unwrap()
            .remove(0)
    }
}

#[test]
fn fake_quantize_rounds_once_behind_a_sum() {
    let near = golden("near");
    let found = Network::run(&near, |net, x| {
        let identity: Vec<f32> = (0..16).map(|i| f32::from(u8::from(i % 5 == 0))).collect();
        let weights = net.constant(&[4, 4, 1, 1], &identity);
        net.node(Op::Convolution(conv(1, 0)), &[x, weights], near.shape())
    });
    expect_bits(&found, "quantized_behind_sum");
}

#[test]
fn fake_quantize_rounds_twice_elsewhere() {
    let near = golden("near");
    let found = Network::run(&near, |_, x| x);
    expect_bits(&found, "quantized_input");
    // The two differ on values next to the middle between two levels.
    assert_ne!(found, golden("quantized_behind_sum"));
}

#[test]
fn constants_before_fake_quantize_go_into_its_limits() {
    let near = golden("near");
    let x: Vec<f32> = near.to_f32().iter().map(|v| (v + 0.3) / 1.7).collect();
    let x = Tensor::from_slice(near.shape(), &x).unwrap();
    let found = Network::run(&x, |net, x| {
        let (factor, term) = (net.constant(&[], &[1.7]), net.constant(&[], &[0.3]));
        let shape = near.shape();
        let scaled = net.node(Op::Binary(BinaryKind::Multiply), &[x, factor], shape);
        net.node(Op::Binary(BinaryKind::Subtract), &[scaled, term], shape)
    });
    expect_bits(&found, "quantized_folded");
}

#[test]
fn constants_before_a_relu_that_the_limits_repeat_go_into_them() {
    let near = golden("near_positive");
    let x: Vec<f32> = near.to_f32().iter().map(|v| (v + 0.3) / 1.7).collect();
    let x = Tensor::from_slice(near.shape(), &x).unwrap();
    let found = Network::run_from(0.0, &x, |net, x| {
        let (factor, term) = (net.constant(&[], &[1.7]), net.constant(&[], &[0.3]));
        let shape = near.shape();
        let scaled = net.node(Op::Binary(BinaryKind::Multiply), &[x, factor], shape);
        let shifted = net.node(Op::Binary(BinaryKind::Subtract), &[scaled, term], shape);
        net.node(Op::Unary(UnaryKind::Relu), &[shifted], shape)
    });
    expect_bits(&found, "quantized_behind_relu");
}

#[test]
fn fake_quantize_rounds_twice_behind_a_maximum() {
    let near = golden("near");
    let found = Network::run(&near, |net, x| {
        let pool = PoolAttrs {
            kernel: vec![1; 2],
            strides: vec![1; 2],
            dilations: vec![1; 2],
            pads_begin: vec![0; 2],
            pads_end: vec![0; 2],
            auto_pad: AutoPad::Explicit,
            ceil: false,
        };
        net.node(Op::MaxPool(pool), &[x], near.shape())
    });
    expect_bits(&found, "quantized_pooled");
}
