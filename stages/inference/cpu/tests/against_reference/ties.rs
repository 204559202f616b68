//! Values next to ties, one kind of step after the other: each evaluates them again as the model does.
//!
//! Data and weights are multiples of powers of two, and the steps of a quantization are such multiples but for the last
//! bits: one sum in a few dozen lies in the middle between two levels, or next to it, where the order of f32 additions
//! decides. Each graph ends in a depthwise convolution, so that its codes are wanted as codes.

use flow_cpu::kernels::Isa;
use flow_cpu::{CompileOptions, Input, compile};
use flow_model::op::{
    AutoPad, BinaryKind, ConvAttrs, DeconvAttrs, EpsMode, MvnAttrs, MvnAxes, Op, PoolAttrs, UnaryKind,
};
use flow_model::{ElementType, Graph, Tensor, Value};

use crate::support::{Builder, Noise, image};

/// Width of a level of the quantization under test.
const STEP: f32 = 29.00001 / 8192.0;

fn f32s(b: &mut Builder, shape: &[usize], values: &[f32]) -> Value {
    let tensor = Tensor::from_slice(shape, values).unwrap();
    b.constant(tensor)
}

fn quantize_by(b: &mut Builder, x: Value, steps: &[f32], least: f32, levels: u32) -> Value {
    let shape = b.shape(x);
    let mut along = vec![1; shape.len()];
    if steps.len() > 1 {
        along[1] = steps.len();
    }
    let limits = [least, least + (levels - 1) as f32].map(|level| {
        let values: Vec<f32> = steps.iter().map(|s| s * level).collect();
        f32s(b, &along, &values)
    });
    let inputs = [x, limits[0], limits[1], limits[0], limits[1]];
    b.node(Op::FakeQuantize { levels }, &inputs, ElementType::F32, &shape)
}

/// Levels of `step` from `least` steps on.
fn quantized(b: &mut Builder, x: Value, step: f32, least: f32) -> Value {
    quantize_by(b, x, &[step], least, 256)
}

/// Weights: small codes by a power of two.
fn weights(b: &mut Builder, noise: &mut Noise, shape: &[usize]) -> Value {
    let codes: Vec<i8> = (0..shape.iter().product::<usize>())
        .map(|_| (noise.next() % 17) as i8 - 8)
        .collect();
    let w = b.constant(Tensor::from_slice(shape, &codes).unwrap());
    let w = b.node(Op::Convert(ElementType::F32), &[w], ElementType::F32, shape);
    let scale = f32s(b, &[1], &[1.0 / 128.0]);
    b.node(
        Op::Binary(BinaryKind::Multiply),
        &[w, scale],
        ElementType::F32,
        shape,
    )
}

fn attrs(stride: usize, pad: isize) -> ConvAttrs {
    ConvAttrs {
        strides: vec![stride; 2],
        dilations: vec![1; 2],
        pads_begin: vec![pad; 2],
        pads_end: vec![pad; 2],
        auto_pad: AutoPad::Explicit,
    }
}

/// An integer convolution behind codes of `[1, C, H, W]`.
fn reader(b: &mut Builder, y: Value) -> Value {
    let shape = b.shape(y);
    let w = vec![1_i8; shape[1]];
    let kernel = [shape[1], 1, 1, 1, 1];
    let w = b.constant(Tensor::from_slice(&kernel, &w).unwrap());
    let w = b.node(Op::Convert(ElementType::F32), &[w], ElementType::F32, &kernel);
    b.node(
        Op::GroupConvolution(attrs(1, 0)),
        &[y, w],
        ElementType::F32,
        &shape,
    )
}

/// The codes of a model on every instruction set are those of its own arithmetic, no step is left out, and some values
/// lay next to ties.
#[track_caller]
fn check(graph: &Graph, inputs: &[Tensor], step: f32) {
    let expected = flow_model::evaluate(graph, inputs).unwrap();
    let lowered = flow_lpt::transform(graph, &flow_lpt::Options::default()).unwrap();
    for isa in Isa::ALL.into_iter().filter(|isa| isa.is_supported()) {
        let options = CompileOptions {
            isa: Some(isa),
            rounding_of: Some(graph),
        };
        let program = compile(&lowered.graph, &options).unwrap();
        let unguarded: Vec<_> = program
            .steps()
            .iter()
            .filter_map(|s| s.unguarded.as_ref())
            .collect();
        assert!(unguarded.is_empty(), "{unguarded:?}");
        let mut request = program.request();
        let slices: Vec<Input<'_>> = inputs.iter().map(|t| Input::Values(t.bytes())).collect();
        request.run(&slices).unwrap();
        for (index, expected) in expected.iter().enumerate() {
            let found = request.output(index).chunks_exact(4);
            let found: Vec<f32> = found.map(|v| f32::from_le_bytes(v.try_into().unwrap())).collect();
            let expected = expected.to_f32();
            assert_eq!(found.len(), expected.len());
            let differ = found
                .iter()
                .zip(&expected)
                .filter(|(a, b)| (*a - *b).abs() > step / 2.0);
            assert_eq!(
                differ.count(),
                0,
                "of {} codes, {isa}, output {index}",
                found.len()
            );
        }
        assert!(request.rounding_counts()[1] > 0, "no value lay near a tie");
    }
}

/// A convolution of any kind between two quantizations.
fn convolved(seed: u64, input: [usize; 4], kernel: &[usize], op: Op, output: [usize; 4]) {
    let mut noise = Noise(seed);
    let mut b = Builder::default();
    let x = b.input(ElementType::F32, &input);
    let x = quantized(&mut b, x, 1.0 / 128.0, -100.0);
    let w = weights(&mut b, &mut noise, kernel);
    let y = b.node(op, &[x, w], ElementType::F32, &output);
    let y = quantized(&mut b, y, STEP, -128.0);
    let y = reader(&mut b, y);
    b.result(y);
    check(&b.graph, &[image(&mut noise, &input)], STEP);
}

#[test]
fn grouped_convolutions() {
    // Vectors of 16 channels reach over several groups, and groups over several vectors.
    for (seed, groups, inputs, outputs, k) in [(1, 3, 5, 5, 3), (2, 2, 7, 24, 1), (3, 5, 2, 3, 3)] {
        convolved(
            seed,
            [2, groups * inputs, 9, 8],
            &[groups, outputs, inputs, k, k],
            Op::GroupConvolution(attrs(1, (k / 2) as isize)),
            [2, groups * outputs, 9, 8],
        );
    }
}

fn deconv(stride: usize, pad: isize) -> DeconvAttrs {
    DeconvAttrs {
        conv: attrs(stride, pad),
        output_padding: vec![0; 2],
    }
}

#[test]
fn transposed_convolutions() {
    for (seed, stride, k, pad) in [
        (1, 2, 3, 1),
        (2, 2, 4, 1),
        (3, 1, 3, 1),
        (4, 1, 2, 0),
        (5, 3, 2, 0),
    ] {
        let [h, w] = [7, 6].map(|n| (n - 1) * stride + k - 2 * pad as usize);
        let op = Op::ConvolutionBackpropData(deconv(stride, pad));
        convolved(seed, [1, 10, 7, 6], &[10, 18, k, k], op, [1, 18, h, w]);
        let op = Op::GroupConvolutionBackpropData(deconv(stride, pad));
        convolved(seed + 10, [1, 8, 7, 6], &[2, 4, 9, k, k], op, [1, 18, h, w]);
        let op = Op::GroupConvolutionBackpropData(deconv(stride, pad));
        convolved(seed + 20, [1, 20, 7, 6], &[20, 1, 1, k, k], op, [1, 20, h, w]);
    }
}

fn product(transpose_a: bool, transpose_b: bool) -> Op {
    Op::MatMul {
        transpose_a,
        transpose_b,
    }
}

#[test]
fn products_with_constants() {
    for (seed, k, n, transpose_b) in [(1, 40, 21, true), (2, 1100, 30, false)] {
        let mut noise = Noise(seed);
        let mut b = Builder::default();
        let x = b.input(ElementType::F32, &[11, k]);
        let x = quantized(&mut b, x, 1.0 / 128.0, -100.0);
        let shape = if transpose_b { [n, k] } else { [k, n] };
        let w = weights(&mut b, &mut noise, &shape);
        let y = b.node(product(false, transpose_b), &[x, w], ElementType::F32, &[11, n]);
        let y = quantized(&mut b, y, STEP, -128.0);
        let w = weights(&mut b, &mut noise, &[4, n]);
        let z = b.node(product(false, true), &[y, w], ElementType::F32, &[11, 4]);
        b.result(z);
        b.result(y);
        check(&b.graph, &[image(&mut noise, &[11, k])], STEP / 128.0);
    }
}

#[test]
fn products_of_two_activations() {
    for (seed, k, transpose) in [
        (1, 40, [false, true]),
        (2, 600, [true, false]),
        (3, 30, [true, true]),
    ] {
        let mut noise = Noise(seed);
        let mut b = Builder::default();
        let shape = |flip: bool, rows: usize, columns: usize| match flip {
            true => [2, columns, rows],
            false => [2, rows, columns],
        };
        let shapes = [shape(transpose[0], 50, k), shape(transpose[1], k, 61)];
        let factors = shapes.map(|shape| {
            let x = b.input(ElementType::F32, &shape);
            quantized(&mut b, x, 1.0 / 128.0, -100.0)
        });
        let y = b.node(
            product(transpose[0], transpose[1]),
            &factors,
            ElementType::F32,
            &[2, 50, 61],
        );
        let y = quantized(&mut b, y, STEP * 16.0, -128.0);
        let w = weights(&mut b, &mut noise, &[4, 61]);
        let z = b.node(product(false, true), &[y, w], ElementType::F32, &[2, 50, 4]);
        b.result(z);
        b.result(y);
        let inputs = shapes.map(|shape| image(&mut noise, &shape));
        check(&b.graph, &inputs, STEP / 128.0);
    }
}

#[test]
fn averages_that_count_padding() {
    for (seed, exclude_pad, least) in [(1, false, -100.0), (2, true, -100.0), (3, false, 0.0)] {
        let mut noise = Noise(seed);
        let mut b = Builder::default();
        let x = b.input(ElementType::F32, &[1, 20, 9, 9]);
        let x = quantized(&mut b, x, 1.3 / 128.0, least);
        let pool = PoolAttrs {
            kernel: vec![2; 2],
            strides: vec![2; 2],
            dilations: vec![1; 2],
            pads_begin: vec![1; 2],
            pads_end: vec![1; 2],
            auto_pad: AutoPad::Explicit,
            ceil: false,
        };
        let y = b.node(
            Op::AvgPool { pool, exclude_pad },
            &[x],
            ElementType::F32,
            &[1, 20, 5, 5],
        );
        let y = quantized(&mut b, y, 1.3 / 128.0, least);
        let y = reader(&mut b, y);
        b.result(y);
        check(&b.graph, &[image(&mut noise, &[1, 20, 9, 9])], 1.3 / 128.0);
    }
}

/// A convolution of `[1, 6, 8, 8]` to 20 channels.
fn convolution(b: &mut Builder, noise: &mut Noise, x: Value) -> Value {
    let shape = b.shape(x);
    let w = weights(b, noise, &[20, shape[1], 3, 3]);
    let to = [1, 20, shape[2], shape[3]];
    b.node(Op::Convolution(attrs(1, 1)), &[x, w], ElementType::F32, &to)
}

#[test]
fn tables_of_codes() {
    for function in [UnaryKind::Sigmoid, UnaryKind::HSwish, UnaryKind::Abs] {
        let mut noise = Noise(5);
        let mut b = Builder::default();
        let x = b.input(ElementType::F32, &[1, 6, 8, 8]);
        let x = quantized(&mut b, x, 1.0 / 128.0, -100.0);
        let y = convolution(&mut b, &mut noise, x);
        let y = quantized(&mut b, y, STEP, -128.0);
        let y = b.unary(Op::Unary(function), y, ElementType::F32);
        // Half of all values lie in the middle between two levels, but for last bits.
        let y = quantized(&mut b, y, STEP * 2.0, 0.0);
        let y = reader(&mut b, y);
        b.result(y);
        check(&b.graph, &[image(&mut noise, &[1, 6, 8, 8])], STEP * 2.0);
    }
}

#[test]
fn branches_of_several_scales() {
    for depthwise in [true, false] {
        let mut noise = Noise(6);
        let mut b = Builder::default();
        let x = b.input(ElementType::F32, &[1, 6, 8, 8]);
        let parts = [(1.0 / 128.0, -100.0), (1.7 / 128.0, 0.0), (0.6 / 128.0, -128.0)];
        let parts = parts.map(|(step, least)| quantized(&mut b, x, step, least));
        let joined = b.node(Op::Concat { axis: 1 }, &parts, ElementType::F32, &[1, 18, 8, 8]);
        let y = if depthwise {
            let w = weights(&mut b, &mut noise, &[18, 1, 1, 3, 3]);
            b.node(
                Op::GroupConvolution(attrs(1, 1)),
                &[joined, w],
                ElementType::F32,
                &[1, 18, 8, 8],
            )
        } else {
            convolution(&mut b, &mut noise, joined)
        };
        let y = quantized(&mut b, y, STEP, -128.0);
        let y = reader(&mut b, y);
        b.result(y);
        check(&b.graph, &[image(&mut noise, &[1, 6, 8, 8])], STEP);
    }
}

#[test]
fn operations_in_f32_behind_sums() {
    let half = |b: &mut Builder| f32s(b, &[1], &[0.5]);
    type Between = fn(&mut Builder, Value) -> Value;
    let cases: [Between; 4] = [
        |b, y| b.unary(Op::Unary(UnaryKind::Swish { beta: 1.0 }), y, ElementType::F32),
        |b, y| {
            let gate = b.unary(Op::Unary(UnaryKind::HSigmoid), y, ElementType::F32);
            let shape = b.shape(y);
            b.node(
                Op::Binary(BinaryKind::Multiply),
                &[y, gate],
                ElementType::F32,
                &shape,
            )
        },
        |b, y| {
            let slopes: Vec<f32> = (0..20).map(|c| c as f32 / 64.0).collect();
            let slopes = f32s(b, &[20], &slopes);
            b.node(Op::PRelu, &[y, slopes], ElementType::F32, &[1, 20, 8, 8])
        },
        |b, y| {
            let pool = PoolAttrs {
                kernel: vec![3; 2],
                strides: vec![1; 2],
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
            b.unary(op, y, ElementType::F32)
        },
    ];
    for (seed, between) in cases.into_iter().enumerate() {
        let mut noise = Noise(seed as u64);
        let mut b = Builder::default();
        let x = b.input(ElementType::F32, &[1, 6, 8, 8]);
        let x = quantized(&mut b, x, 1.0 / 128.0, -100.0);
        let y = convolution(&mut b, &mut noise, x);
        let scale = half(&mut b);
        let y = b.node(
            Op::Binary(BinaryKind::Multiply),
            &[y, scale],
            ElementType::F32,
            &[1, 20, 8, 8],
        );
        let y = between(&mut b, y);
        let y = quantized(&mut b, y, STEP / 2.0, -128.0);
        let y = reader(&mut b, y);
        b.result(y);
        check(&b.graph, &[image(&mut noise, &[1, 6, 8, 8])], STEP / 2.0);
    }
}

#[test]
fn real_values_that_are_quantized_for_nobody() {
    let mut noise = Noise(8);
    let mut b = Builder::default();
    let x = b.input(ElementType::F32, &[1, 6, 8, 8]);
    let x = quantized(&mut b, x, 1.0 / 128.0, -100.0);
    let y = convolution(&mut b, &mut noise, x);
    let y = quantized(&mut b, y, STEP, -128.0);
    b.result(y);
    let steps: Vec<f32> = (0..20).map(|c| (29.00001 + c as f32) / 8192.0).collect();
    let y = convolution(&mut b, &mut noise, x);
    let y = quantize_by(&mut b, y, &steps, -8.0, 16);
    b.result(y);
    check(&b.graph, &[image(&mut noise, &[1, 6, 8, 8])], STEP);
}

#[test]
fn normalizations_of_sums() {
    let axes = |b: &mut Builder, axes: &[i64]| b.constant(Tensor::from_slice(&[axes.len()], axes).unwrap());
    let mvn = Op::Mvn(MvnAttrs {
        axes: MvnAxes::Input,
        normalize_variance: true,
        eps: 1e-5,
        eps_outside: false,
    });
    let eps_mode = EpsMode::Max;
    let operations = [
        (
            Op::NormalizeL2 { eps: 1e-10, eps_mode },
            Some([1].as_slice()),
            1.0 / 64.0,
        ),
        (mvn, Some([1, 2, 3].as_slice()), 1.0 / 32.0),
        (Op::Softmax { axis: 1 }, None, 1.0 / 512.0),
        (Op::Softmax { axis: 3 }, None, 1.0 / 512.0),
    ];
    for (op, along, step) in operations {
        let mut noise = Noise(13);
        let mut b = Builder::default();
        let x = b.input(ElementType::F32, &[1, 6, 8, 8]);
        let x = quantized(&mut b, x, STEP, -128.0);
        let y = convolution(&mut b, &mut noise, x);
        let shape = b.shape(y);
        let mut inputs = vec![y];
        inputs.extend(along.map(|a| axes(&mut b, a)));
        let y = b.node(op, &inputs, ElementType::F32, &shape);
        let y = quantized(&mut b, y, step, -128.0);
        let y = reader(&mut b, y);
        b.result(y);
        check(&b.graph, &[image(&mut noise, &[1, 6, 8, 8])], step);
    }
}

#[test]
fn what_is_not_guarded_says_why() {
    let mut noise = Noise(9);
    let mut b = Builder::default();
    let x = b.input(ElementType::F32, &[1, 6, 96, 96]);
    let x = quantized(&mut b, x, 1.0 / 128.0, -100.0);
    let y = convolution(&mut b, &mut noise, x);
    // Each element depends on all channels, and there are too many to evaluate them again.
    let y = b.unary(Op::Softmax { axis: 1 }, y, ElementType::F32);
    let y = quantized(&mut b, y, 1.0 / 255.0, 0.0);
    let y = reader(&mut b, y);
    b.result(y);
    let lowered = flow_lpt::transform(&b.graph, &flow_lpt::Options::default()).unwrap();
    let steps = |rounding_of| {
        let options = CompileOptions {
            isa: None,
            rounding_of,
        };
        let program = compile(&lowered.graph, &options).unwrap();
        program
            .steps()
            .iter()
            .filter_map(|s| s.unguarded.clone())
            .collect::<Vec<_>>()
    };
    let said = steps(Some(&b.graph));
    assert!(matches!(&said[..], [why] if why.contains("SoftMax")), "{said:?}");
    assert!(steps(None).is_empty(), "nobody asked for the model's rounding");
}
