//! Compiled programs against the reference evaluator, on small graphs of every fused pattern.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests")]

use std::sync::Arc;

use flow_cpu::kernels::Isa;
use flow_cpu::{CompileOptions, Input, compile};
use flow_model::op::{
    AutoPad, BinaryKind, ConvAttrs, Dequantize, Lookup, Op, PoolAttrs, Quantize, QuantizedConv,
    QuantizedMatMul, ReduceKind, UnaryKind,
};
use flow_model::ops::{DepthToSpace, DepthToSpaceMode};
use flow_model::{ElementType, Graph, Node, NodeId, OutputInfo, Tensor, Value};
use proptest::prelude::*;

/// Builds graphs node by node.
#[derive(Default)]
struct Builder {
    graph: Graph,
}

impl Builder {
    fn node(&mut self, op: Op, inputs: &[Value], element_type: ElementType, shape: &[usize]) -> Value {
        let id = self.graph.push(Node {
            name: Arc::from(format!("n{}", self.graph.nodes.len())),
            line: 0,
            op,
            inputs: inputs.to_vec(),
            outputs: vec![OutputInfo::fixed(element_type, shape)],
        });
        Value::of(id)
    }
    fn input(&mut self, element_type: ElementType, shape: &[usize]) -> Value {
        let value = self.node(Op::Parameter, &[], element_type, shape);
        self.graph.parameters.push(value.node);
        value
    }
    fn constant(&mut self, tensor: Tensor) -> Value {
        let (t, shape) = (tensor.element_type(), tensor.shape().to_vec());
        self.node(Op::Constant(tensor), &[], t, &shape)
    }
    fn result(&mut self, value: Value) {
        let info = self.graph.info(value).clone();
        let id: NodeId = self
            .node(
                Op::Result,
                &[value],
                info.element_type,
                &info.static_shape().unwrap(),
            )
            .node;
        self.graph.results.push(id);
    }
    fn shape(&self, value: Value) -> Vec<usize> {
        self.graph.info(value).static_shape().unwrap()
    }
    fn unary(&mut self, op: Op, value: Value, element_type: ElementType) -> Value {
        let shape = self.shape(value);
        self.node(op, &[value], element_type, &shape)
    }
    fn quantize(&mut self, value: Value, low: f32, high: f32, t: ElementType) -> Value {
        let start = if t == ElementType::I8 { -128 } else { 0 };
        let q = Quantize {
            input_low: vec![low],
            input_high: vec![high],
            axis: None,
            levels: 256,
            low: start,
            high: start + 255,
            element_type: t,
        };
        self.unary(Op::Quantize(q), value, t)
    }
    fn dequantize(&mut self, value: Value, scale: f32, zero_point: f32) -> Value {
        let d = Dequantize {
            scale: vec![scale],
            zero_point: vec![zero_point],
            axis: None,
        };
        self.unary(Op::Dequantize(d), value, ElementType::F32)
    }
    /// Quantizes and dequantizes; numbers that are not round keep sums away from ties.
    fn fake_quantize(&mut self, value: Value, low: f32, high: f32, t: ElementType) -> Value {
        let scale = (high - low) / 255.0;
        let start = if t == ElementType::I8 { -128.0 } else { 0.0 };
        let codes = self.quantize(value, low, high, t);
        self.dequantize(codes, scale, start - low / scale)
    }
    fn add(&mut self, a: Value, b: Value) -> Value {
        let shape = self.shape(a);
        self.node(Op::Binary(BinaryKind::Add), &[a, b], ElementType::F32, &shape)
    }
    fn relu(&mut self, value: Value) -> Value {
        self.unary(Op::Unary(UnaryKind::Relu), value, ElementType::F32)
    }
    /// Integer convolution with per-channel dequantization, bias and perhaps Relu; real values out.
    fn convolution(&mut self, data: Value, c: &Conv, noise: &mut Noise) -> Value {
        let shape = self.shape(data);
        let (n, ic, h, w) = (shape[0], shape[1], shape[2], shape[3]);
        let (groups, oc) = if c.depthwise { (ic, ic) } else { (1, c.outputs) };
        let taps = ic / groups * c.kernel * c.kernel;
        let codes: Vec<i8> = (0..oc * taps).map(|_| noise.next() as i8).collect();
        let weights =
            self.constant(Tensor::from_slice(&[oc, ic / groups, c.kernel, c.kernel], &codes).unwrap());
        let size = |x: usize| (x + 2 * c.pad - c.kernel) / c.stride + 1;
        let output = [n, oc, size(h), size(w)];
        let q = QuantizedConv {
            conv: attrs(c.stride, c.pad),
            groups,
            data_zero_point: vec![c.zero_point],
            weight_zero_point: if c.asymmetric {
                (0..oc).map(|_| (noise.next() % 30) as i32 - 15).collect()
            } else {
                vec![0]
            },
        };
        let sums = self.node(
            Op::QuantizedConvolution(q),
            &[data, weights],
            ElementType::I32,
            &output,
        );
        let real = self.node(
            Op::Dequantize(Dequantize {
                scale: (0..oc)
                    .map(|_| (1.0 + noise.unit()) * 0.5 / taps as f32 / 100.0)
                    .collect(),
                zero_point: vec![0.0],
                axis: Some(1),
            }),
            &[sums],
            ElementType::F32,
            &output,
        );
        let bias: Vec<f32> = (0..oc).map(|_| noise.unit() - 0.5).collect();
        let bias = self.constant(Tensor::from_slice(&[1, oc, 1, 1], &bias).unwrap());
        let real = self.add(real, bias);
        if c.relu { self.relu(real) } else { real }
    }
}

fn attrs(stride: usize, pad: usize) -> ConvAttrs {
    ConvAttrs {
        strides: vec![stride; 2],
        dilations: vec![1; 2],
        pads_begin: vec![pad as isize; 2],
        pads_end: vec![pad as isize; 2],
        auto_pad: AutoPad::Explicit,
    }
}

#[derive(Debug, Clone)]
struct Conv {
    outputs: usize,
    kernel: usize,
    stride: usize,
    pad: usize,
    depthwise: bool,
    asymmetric: bool,
    relu: bool,
    zero_point: i32,
}

fn any_conv() -> impl Strategy<Value = Conv> {
    (
        1usize..70,
        0usize..3,
        1usize..3,
        any::<bool>(),
        any::<bool>(),
        any::<bool>(),
        0i32..256,
    )
        .prop_map(
            |(outputs, half, stride, depthwise, asymmetric, relu, zero_point)| Conv {
                outputs,
                kernel: 2 * half + 1,
                stride,
                pad: half,
                depthwise,
                asymmetric,
                relu,
                zero_point,
            },
        )
}

/// A small generator: proptest shrinks the shapes, not the numbers.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 33
    }
    fn unit(&mut self) -> f32 {
        (self.next() % 10_000) as f32 / 10_000.0
    }
}

fn run(graph: &Graph, inputs: &[Tensor], isa: Option<Isa>) -> Vec<Tensor> {
    let program = compile(
        graph,
        &CompileOptions {
            isa,
            rounding_of: None,
        },
    )
    .unwrap();
    assert!(
        program.steps().iter().all(|s| !s.reference),
        "a step has no kernel: {:?}",
        program.steps()
    );
    let mut request = program.request();
    let slices: Vec<Input<'_>> = inputs.iter().map(|t| Input::Values(t.bytes())).collect();
    // Twice: the second run finds an arena full of the first.
    request.run(&slices).unwrap();
    request.run(&slices).unwrap();
    program
        .outputs()
        .iter()
        .enumerate()
        .map(|(i, p)| Tensor::new(p.element_type, p.shape.clone(), request.output(i)).unwrap())
        .collect()
}

/// Codes may differ by one step where the real value lies at a tie, which is rare; `rare` says how rare.
fn check(graph: &Graph, inputs: &[Tensor], rare: f64) {
    let expected = flow_model::evaluate(graph, inputs).unwrap();
    let scalar = run(graph, inputs, Some(Isa::Scalar));
    let best = run(graph, inputs, None);
    assert_eq!(scalar, best, "instruction sets differ");
    for (found, expected) in best.iter().zip(&expected) {
        assert_eq!(found.shape(), expected.shape());
        assert_eq!(found.element_type(), expected.element_type());
        let (a, b) = (found.to_f64(), expected.to_f64());
        let step = if found.element_type() == ElementType::F32 {
            1e-4
        } else {
            1.0
        };
        let mut off = 0;
        for (a, b) in a.iter().zip(&b) {
            assert!(
                (a - b).abs() <= step * b.abs().max(1.0).min(1.0 / step),
                "{a} is not {b}"
            );
            off += usize::from(a != b && step == 1.0);
        }
        assert!(
            off as f64 <= rare * a.len() as f64 + 1.0,
            "{off} of {} codes differ",
            a.len()
        );
    }
}

fn image(noise: &mut Noise, shape: &[usize]) -> Tensor {
    let values: Vec<f32> = (0..shape.iter().product::<usize>())
        .map(|_| noise.unit() * 4.0 - 2.0)
        .collect();
    Tensor::from_slice(shape, &values).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn convolution_with_epilogue(
        c in any_conv(), n in 1usize..3, ic in 1usize..40, h in 1usize..9, w in 1usize..9, signed: bool, seed: u64,
    ) {
        let mut noise = Noise(seed);
        let mut b = Builder::default();
        let shape = [n, ic, h, w];
        let x = b.input(ElementType::F32, &shape);
        let t = if signed { ElementType::I8 } else { ElementType::U8 };
        let codes = b.quantize(x, -1.7, 1.6, t);
        let c = Conv { zero_point: if signed { c.zero_point - 128 } else { c.zero_point }, ..c };
        let real = b.convolution(codes, &c, &mut noise);
        let quantized = b.quantize(real, -1.1, 1.3, t);
        b.result(quantized);
        check(&b.graph, &[image(&mut noise, &shape)], 0.01);
    }

    #[test]
    fn residual_with_inner_rounding(
        c in any_conv(), ic in 1usize..40, h in 1usize..9, w in 1usize..9, seed: u64, inner: bool, relu: bool,
    ) {
        let mut noise = Noise(seed);
        let mut b = Builder::default();
        let shape = [1, ic, h, w];
        let x = b.input(ElementType::F32, &shape);
        let codes = b.quantize(x, -1.7, 1.6, ElementType::U8);
        // Without inner rounding the activation would stand between the sum and the residual.
        let main = b.convolution(codes, &Conv { relu: c.relu && inner, ..c.clone() }, &mut noise);
        let main = if inner {
            b.fake_quantize(main, -1.2345, 1.1876, ElementType::I8)
        } else {
            main
        };
        let skip = b.convolution(codes, &c, &mut noise);
        let skip_real = b.fake_quantize(skip, -1.0131, 1.4871, ElementType::U8);
        let sum = b.add(main, skip_real);
        let sum = if relu { b.relu(sum) } else { sum };
        let out = b.quantize(sum, -1.9713, 2.0317, ElementType::U8);
        b.result(out);
        check(&b.graph, &[image(&mut noise, &shape)], 0.02);
    }

    #[test]
    fn pooling_concat_shuffle_and_lookup(
        ic in 1usize..20, h in 3usize..9, w in 3usize..9, seed: u64, signed: bool,
    ) {
        let mut noise = Noise(seed);
        let mut b = Builder::default();
        let t = if signed { ElementType::I8 } else { ElementType::U8 };
        let shape = [1, 2 * ic, h, w];
        let x = b.input(ElementType::F32, &shape);
        let codes = b.quantize(x, -1.7, 1.6, t);
        let table = Box::new(std::array::from_fn(|i| (i * 7 % 256) as u8));
        let looked = b.unary(Op::Lookup(Lookup { table, element_type: t }), codes, t);
        let both = b.node(Op::Concat { axis: 1 }, &[looked, codes], t, &[1, 4 * ic, h, w]);
        let order = b.constant(Tensor::from_slice(&[4], &[0i64, 2, 1, 3]).unwrap());
        let split = b.constant(Tensor::from_slice(&[4], &[1i64, 2, 2 * ic as i64, (h * w) as i64]).unwrap());
        let whole = b.constant(Tensor::from_slice(&[4], &[1i64, 4 * ic as i64, h as i64, w as i64]).unwrap());
        let parts = b.node(Op::Reshape { special_zero: false }, &[both, split], t, &[1, 2, 2 * ic, h * w]);
        let mixed = b.node(Op::Transpose, &[parts, order], t, &[1, 2 * ic, 2, h * w]);
        let mixed = b.node(Op::Reshape { special_zero: false }, &[mixed, whole], t, &[1, 4 * ic, h, w]);
        let pool = Op::MaxPool(PoolAttrs {
            kernel: vec![3, 3],
            strides: vec![2, 2],
            dilations: vec![1, 1],
            pads_begin: vec![1, 1],
            pads_end: vec![1, 1],
            auto_pad: AutoPad::Explicit,
            ceil: false,
        });
        let pooled = b.node(pool, &[mixed], t, &[1, 4 * ic, (h - 1) / 2 + 1, (w - 1) / 2 + 1]);
        b.result(pooled);
        b.result(mixed);
        check(&b.graph, &[image(&mut noise, &shape)], 0.0);
    }

    #[test]
    fn depth_to_space_of_codes(c in 1usize..9, h in 1usize..5, w in 1usize..5, block in 1usize..4, depth_first: bool, seed: u64) {
        let mut noise = Noise(seed);
        let mut b = Builder::default();
        let t = ElementType::U8;
        let shape = [1, c * block * block, h, w];
        let x = b.input(ElementType::F32, &shape);
        let codes = b.quantize(x, -1.7, 1.6, t);
        let mode = if depth_first { DepthToSpaceMode::DepthFirst } else { DepthToSpaceMode::BlocksFirst };
        let op = Op::standard(DepthToSpace { block_size: block, mode });
        let wide = b.node(op, &[codes], t, &[1, c, h * block, w * block]);
        b.result(wide);
        check(&b.graph, &[image(&mut noise, &shape)], 0.0);
    }

    #[test]
    fn average_and_product(ic in 1usize..60, n in 1usize..40, h in 1usize..8, w in 1usize..8, seed: u64) {
        let mut noise = Noise(seed);
        let mut b = Builder::default();
        let shape = [1, ic, h, w];
        let x = b.input(ElementType::F32, &shape);
        let codes = b.quantize(x, -1.7, 1.6, ElementType::U8);
        let real = b.dequantize(codes, 3.3 / 255.0, 131.0);
        let axes = b.constant(Tensor::from_slice(&[2], &[2i64, 3]).unwrap());
        let mean = Op::Reduce { kind: ReduceKind::Mean, keep_dims: false };
        let mean = b.node(mean, &[real, axes], ElementType::F32, &[1, ic]);
        let row = b.quantize(mean, -0.6, 0.5, ElementType::U8);
        let weights: Vec<i8> = (0..ic * n).map(|_| noise.next() as i8).collect();
        let weights = b.constant(Tensor::from_slice(&[ic, n], &weights).unwrap());
        let product = Op::QuantizedMatMul(QuantizedMatMul {
            transpose_b: false,
            data_zero_point: 139,
            weight_zero_point: vec![3],
        });
        let sums = b.node(product, &[row, weights], ElementType::I32, &[1, n]);
        let real = b.dequantize(sums, 0.003, 0.0);
        b.result(row);
        b.result(real);
        // One code of the row in a tie would move the whole product.
        let mut only_row = b.graph.clone();
        only_row.results.truncate(1);
        let inputs = [image(&mut noise, &shape)];
        check(&only_row, &inputs, 0.02);
        let expected = flow_model::evaluate(&b.graph, &inputs).unwrap();
        let found = run(&b.graph, &inputs, None);
        if found[0] == expected[0] {
            for (a, b) in found[1].to_f32().iter().zip(expected[1].to_f32()) {
                prop_assert!((a - b).abs() <= 1e-5 * b.abs().max(1.0));
            }
        }
    }

    #[test]
    fn codes_instead_of_values_give_the_same(ic in 1usize..5, h in 1usize..9, w in 1usize..9, c in any_conv(), seed: u64) {
        let mut noise = Noise(seed);
        let mut b = Builder::default();
        let shape = [1, ic, h, w];
        let x = b.input(ElementType::F32, &shape);
        let codes = b.quantize(x, -1.7, 1.6, ElementType::U8);
        let real = b.convolution(codes, &c, &mut noise);
        b.result(real);
        let input = image(&mut noise, &shape);
        let program = compile(&b.graph, &CompileOptions::default()).unwrap();
        let port = program.inputs()[0].quantization.unwrap();
        prop_assert_eq!((port.low, port.high, port.levels), (-1.7, 1.6, 256));
        let mut request = program.request();
        request.run(&[Input::Values(input.bytes())]).unwrap();
        let by_values = request.output(0).to_vec();
        let codes = flow_model::evaluate::evaluate_values(&b.graph, &[input], &[codes]).unwrap();
        request.run(&[Input::Codes(codes[0].bytes())]).unwrap();
        prop_assert_eq!(request.output(0), &by_values[..]);
    }

    #[test]
    fn f32_convolution(
        c in any_conv(), n in 1usize..3, ic in 1usize..20, h in 1usize..9, w in 1usize..9, seed: u64,
    ) {
        let mut noise = Noise(seed);
        let mut b = Builder::default();
        let shape = [n, ic, h, w];
        let x = b.input(ElementType::F32, &shape);
        let (op, oc, weight_shape) = if c.depthwise {
            (Op::GroupConvolution(attrs(c.stride, c.pad)), ic, vec![ic, 1, 1, c.kernel, c.kernel])
        } else {
            (Op::Convolution(attrs(c.stride, c.pad)), c.outputs, vec![c.outputs, ic, c.kernel, c.kernel])
        };
        let weights: Vec<f32> = (0..weight_shape.iter().product::<usize>()).map(|_| noise.unit() - 0.5).collect();
        let weights = b.constant(Tensor::from_slice(&weight_shape, &weights).unwrap());
        let size = |x: usize| (x + 2 * c.pad - c.kernel) / c.stride + 1;
        let output = [n, oc, size(h), size(w)];
        let y = b.node(op, &[x, weights], ElementType::F32, &output);
        let bias: Vec<f32> = (0..oc).map(|_| noise.unit()).collect();
        let bias = b.constant(Tensor::from_slice(&[1, oc, 1, 1], &bias).unwrap());
        let y = b.add(y, bias);
        let y = if c.relu { b.relu(y) } else { y };
        b.result(y);
        let input = [image(&mut noise, &shape)];
        let expected = flow_model::evaluate(&b.graph, &input).unwrap();
        let found = run(&b.graph, &input, None);
        for (a, b) in found[0].to_f32().iter().zip(expected[0].to_f32()) {
            prop_assert!((a - b).abs() <= 1e-4 * b.abs().max(1.0), "{} is not {}", a, b);
        }
    }
}

#[test]
fn wrong_inputs_are_refused() {
    let mut b = Builder::default();
    let x = b.input(ElementType::F32, &[1, 2]);
    let y = b.relu(x);
    b.result(y);
    let program = compile(&b.graph, &CompileOptions::default()).unwrap();
    let mut request = program.request();
    assert!(request.run(&[]).is_err());
    assert!(request.run(&[Input::Values(&[0; 7])]).is_err());
    assert!(request.run(&[Input::Codes(&[0; 2])]).is_err());
    request
        .run(&[Input::Values(bytemuck::cast_slice(&[-1f32, 2.0]))])
        .unwrap();
    assert_eq!(request.output(0), bytemuck::cast_slice::<f32, u8>(&[0.0, 2.0]));
    // Misaligned memory is as good as any.
    let bytes: Vec<u8> = [0u8]
        .into_iter()
        .chain(bytemuck::cast_slice(&[3f32, -4.0]).iter().copied())
        .collect();
    request.run(&[Input::Values(&bytes[1..])]).unwrap();
    assert_eq!(request.output(0), bytemuck::cast_slice::<f32, u8>(&[3.0, 0.0]));
}

#[test]
fn an_operation_without_a_kernel_runs_on_the_reference() {
    let mut b = Builder::default();
    let x = b.input(ElementType::F32, &[2, 3]);
    let y = b.unary(Op::Unary(UnaryKind::Erf), x, ElementType::F32);
    b.result(y);
    let program = compile(&b.graph, &CompileOptions::default()).unwrap();
    assert!(program.steps()[0].reference);
    let input = image(&mut Noise(1), &[2, 3]);
    let mut request = program.request();
    request.run(&[Input::Values(input.bytes())]).unwrap();
    assert_eq!(
        request.output(0),
        flow_model::evaluate(&b.graph, &[input]).unwrap()[0].bytes()
    );
}

/// A model as it comes from a file: FakeQuantize on activations, weights as codes times a scale.
fn model(noise: &mut Noise, channels: [usize; 2], size: usize) -> Graph {
    let [ic, mid] = channels;
    let mut b = Builder::default();
    let f32s = |b: &mut Builder, shape: &[usize], values: &[f32]| {
        let tensor = Tensor::from_slice(shape, values).unwrap();
        b.constant(tensor)
    };
    let fq = |b: &mut Builder, x: Value, low: f32, high: f32, shape: &[usize]| {
        let limits = [low, high, low, high].map(|v| f32s(b, &[1, 1, 1, 1], &[v]));
        let inputs = [x, limits[0], limits[1], limits[2], limits[3]];
        b.node(Op::FakeQuantize { levels: 256 }, &inputs, ElementType::F32, shape)
    };
    let conv = |b: &mut Builder, noise: &mut Noise, x: Value, oc: usize, ic: usize, k: usize| {
        let codes: Vec<f32> = (0..oc * ic * k * k)
            .map(|_| (noise.next() % 255) as f32 - 127.0)
            .collect();
        let codes: Vec<i8> = codes.iter().map(|&v| v as i8).collect();
        let w = b.constant(Tensor::from_slice(&[oc, ic, k, k], &codes).unwrap());
        let w = b.node(
            Op::Convert(ElementType::F32),
            &[w],
            ElementType::F32,
            &[oc, ic, k, k],
        );
        let scales: Vec<f32> = (0..oc).map(|_| (0.5 + noise.unit()) / 1500.0).collect();
        let scale = f32s(b, &[oc, 1, 1, 1], &scales);
        let w = b.node(
            Op::Binary(BinaryKind::Multiply),
            &[w, scale],
            ElementType::F32,
            &[oc, ic, k, k],
        );
        let pad = (k / 2) as isize;
        let attrs = ConvAttrs {
            strides: vec![1; 2],
            dilations: vec![1; 2],
            pads_begin: vec![pad; 2],
            pads_end: vec![pad; 2],
            auto_pad: AutoPad::Explicit,
        };
        let shape = [1, oc, size, size];
        let y = b.node(Op::Convolution(attrs), &[x, w], ElementType::F32, &shape);
        let bias: Vec<f32> = (0..oc).map(|_| noise.unit() - 0.5).collect();
        let bias = f32s(b, &[1, oc, 1, 1], &bias);
        b.node(Op::Binary(BinaryKind::Add), &[y, bias], ElementType::F32, &shape)
    };
    let x = b.input(ElementType::F32, &[1, ic, size, size]);
    let x = fq(&mut b, x, -1.7, 1.6, &[1, ic, size, size]);
    let y = conv(&mut b, noise, x, mid, ic, 1);
    let shape = [1, mid, size, size];
    let y = b.node(Op::Unary(UnaryKind::Relu), &[y], ElementType::F32, &shape);
    let y = fq(&mut b, y, 0.0, 1.9137, &shape);
    let z = conv(&mut b, noise, y, mid, mid, 3);
    let z = fq(&mut b, z, -1.2345, 1.1876, &shape);
    let sum = b.node(Op::Binary(BinaryKind::Add), &[z, y], ElementType::F32, &shape);
    let out = fq(&mut b, sum, -1.1, 2.9713, &shape);
    b.result(out);
    b.graph
}

#[test]
fn codes_are_rounded_as_the_model_rounds_them() {
    let mut doubts = 0;
    for (seed, channels) in [(1, [3, 40]), (2, [20, 64]), (3, [1, 7])] {
        let mut noise = Noise(seed);
        let graph = model(&mut noise, channels, 24);
        let input = image(&mut noise, &[1, channels[0], 24, 24]);
        let expected = flow_model::evaluate(&graph, std::slice::from_ref(&input)).unwrap()[0].to_f32();
        let lowered = flow_lpt::transform(&graph, &flow_lpt::Options::default()).unwrap();
        for isa in [Some(Isa::Scalar), None] {
            let options = CompileOptions {
                isa,
                rounding_of: Some(&graph),
            };
            let program = compile(&lowered.graph, &options).unwrap();
            let mut request = program.request();
            request.run(&[Input::Values(input.bytes())]).unwrap();
            let found: Vec<f32> = request
                .output(0)
                .chunks_exact(4)
                .map(|b| f32::from_le_bytes(b.try_into().unwrap()))
                .collect();
            let step = 4.0713 / 255.0;
            let differ = found
                .iter()
                .zip(&expected)
                .filter(|(a, b)| (*a - *b).abs() > step / 2.0)
                .count();
            assert_eq!(differ, 0, "of {} codes, {isa:?}", found.len());
            let [all, again] = request.rounding_counts();
            assert!(again < all / 8, "{again} of {all} vectors evaluated again");
            doubts += again;
        }
    }
    assert!(doubts > 0, "no value lay near a tie");
}
