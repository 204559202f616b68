//! Chains of integer operations: codes equal the reference's but where a value lies at a tie.

use flow_cpu::{CompileOptions, Input, compile};
use flow_model::op::{
    AutoPad, ConvAttrs, Dequantize, Lookup, Op, PoolAttrs, QuantizedConv, QuantizedMatMul, ReduceKind,
};
use flow_model::ops::{DepthToSpace, DepthToSpaceMode};
use flow_model::{ElementType, Tensor, Value};
use proptest::prelude::*;

use crate::support::{Builder, Noise, check, image, run};

impl Builder {
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
    fn sums_over_images(ic in 1usize..60, h in 1usize..8, w in 1usize..8, signed: bool, keep_dims: bool, seed: u64) {
        let mut noise = Noise(seed);
        let mut b = Builder::default();
        let shape = [1, ic, h, w];
        let x = b.input(ElementType::F32, &shape);
        let t = if signed { ElementType::I8 } else { ElementType::U8 };
        let codes = b.quantize(x, -1.7, 1.6, t);
        let real = b.dequantize(codes, 3.3 / 255.0, if signed { 3.0 } else { 131.0 });
        let axes = b.constant(Tensor::from_slice(&[2], &[2i64, -1]).unwrap());
        let sum = Op::Reduce { kind: ReduceKind::Sum, keep_dims };
        let out = if keep_dims { vec![1, ic, 1, 1] } else { vec![1, ic] };
        let sum = b.node(sum, &[real, axes], ElementType::F32, &out);
        let n = (h * w) as f32;
        let row = b.quantize(sum, -0.6 * n, 0.5 * n, ElementType::U8);
        b.result(row);
        let program = compile(&b.graph, &CompileOptions::default()).unwrap();
        let kernels: Vec<String> = program.steps().iter().map(|s| s.kernel.clone()).collect();
        prop_assert!(kernels.iter().any(|k| k.starts_with("avg_pool_u8")), "{:?}", kernels);
        check(&b.graph, &[image(&mut noise, &shape)], 0.02);
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
