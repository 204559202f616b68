//! Codes rounded as the model's own f32 arithmetic rounds them.

use flow_cpu::kernels::Isa;
use flow_cpu::{CompileOptions, Input, compile};
use flow_model::op::{AutoPad, BinaryKind, ConvAttrs, Op, ReduceKind, UnaryKind};
use flow_model::{ElementType, Graph, Tensor, Value};

use crate::support::{Builder, Noise, image};

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

/// Checks on each instruction set that a model, lowered, gives the codes of its own arithmetic, and returns how often
/// a vector of codes was evaluated again.
fn codes_equal(graph: &Graph, input: &Tensor, step: f32) -> u64 {
    let expected = flow_model::evaluate(graph, std::slice::from_ref(input)).unwrap()[0].to_f32();
    let lowered = flow_lpt::transform(graph, &flow_lpt::Options::default()).unwrap();
    let mut doubts = 0;
    for isa in Isa::ALL.into_iter().filter(|isa| isa.is_supported()) {
        let options = CompileOptions {
            isa: Some(isa),
            rounding_of: Some(graph),
        };
        let program = compile(&lowered.graph, &options).unwrap();
        let mut request = program.request();
        request.run(&[Input::Values(input.bytes())]).unwrap();
        let mut shared = program.request();
        shared.share(3, |_| ()).unwrap();
        shared.run(&[Input::Values(input.bytes())]).unwrap();
        assert!(shared.output(0) == request.output(0), "{isa}: three threads");
        assert_eq!(shared.rounding_counts(), request.rounding_counts(), "{isa}");
        let found = request.output(0).chunks_exact(4);
        let found: Vec<f32> = found.map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
        assert_eq!(found.len(), expected.len());
        for (i, (a, b)) in found.iter().zip(&expected).enumerate() {
            assert!((a - b).abs() <= step / 2.0, "{isa}, code {i}: {a} is not {b}");
        }
        doubts += request.rounding_counts()[1];
    }
    doubts
}

/// A FakeQuantize per tensor.
fn quantized(b: &mut Builder, x: Value, low: f32, high: f32) -> Value {
    let shape = b.graph.info(x).static_shape().unwrap();
    let limits = [low, high, low, high].map(|v| b.constant(Tensor::from_slice(&[1], &[v]).unwrap()));
    let inputs = [x, limits[0], limits[1], limits[2], limits[3]];
    b.node(
        Op::FakeQuantize { levels: 256 },
        &inputs,
        ElementType::F32,
        &shape,
    )
}

#[test]
fn sums_of_codes_are_rounded_as_the_model_rounds_them() {
    let mut doubts = 0;
    for kind in [ReduceKind::Sum, ReduceKind::Mean] {
        let mut b = Builder::default();
        let shape = [1, 4096, 2, 2];
        let x = b.input(ElementType::F32, &shape);
        let x = quantized(&mut b, x, -1.7, 1.6);
        let axes = b.constant(Tensor::from_slice(&[2], &[2i64, 3]).unwrap());
        let op = Op::Reduce {
            kind,
            keep_dims: true,
        };
        let y = b.node(op, &[x, axes], ElementType::F32, &[1, 4096, 1, 1]);
        let factor = if kind == ReduceKind::Sum { 4.0 } else { 1.0 };
        // One step of the result is four steps of the sum: every fourth sum lies next to a tie.
        let y = quantized(&mut b, y, -1.7 * factor, 1.6 * factor);
        let w: Vec<i8> = vec![1; 4096];
        let w = b.constant(Tensor::from_slice(&[4096, 1, 1, 1, 1], &w).unwrap());
        let w = b.node(
            Op::Convert(ElementType::F32),
            &[w],
            ElementType::F32,
            &[4096, 1, 1, 1, 1],
        );
        let attrs = ConvAttrs {
            strides: vec![1; 2],
            dilations: vec![1; 2],
            pads_begin: vec![0; 2],
            pads_end: vec![0; 2],
            auto_pad: AutoPad::Explicit,
        };
        let y = b.node(
            Op::GroupConvolution(attrs),
            &[y, w],
            ElementType::F32,
            &[1, 4096, 1, 1],
        );
        b.result(y);
        let input = image(&mut Noise(7), &shape);
        doubts += codes_equal(&b.graph, &input, 3.3 / 255.0 * factor);
    }
    assert!(doubts > 0, "no value lay near a tie");
}

/// Two convolutions, their Concat, perhaps a Relu, a FakeQuantize with limits per channel or one for all, and a
/// depthwise convolution. Many sums lie in the middle between two levels: how f32 rounds decides.
fn branches(noise: &mut Noise, relu: bool, per_channel: bool) -> Graph {
    let (size, parts, inputs) = (12, [3, 20], 4);
    let whole = 23;
    let mut b = Builder::default();
    let shape = [1, whole, size, size];
    let attrs = ConvAttrs {
        strides: vec![1; 2],
        dilations: vec![1; 2],
        pads_begin: vec![0; 2],
        pads_end: vec![0; 2],
        auto_pad: AutoPad::Explicit,
    };
    let weights = |b: &mut Builder, noise: &mut Noise, shape: &[usize]| {
        let count: usize = shape.iter().product();
        let codes: Vec<i8> = (0..count).map(|_| (noise.next() % 17) as i8 - 8).collect();
        let w = b.constant(Tensor::from_slice(shape, &codes).unwrap());
        let w = b.node(Op::Convert(ElementType::F32), &[w], ElementType::F32, shape);
        let scale = b.constant(Tensor::from_slice(&[1], &[1.0_f32 / 128.0]).unwrap());
        b.node(
            Op::Binary(BinaryKind::Multiply),
            &[w, scale],
            ElementType::F32,
            shape,
        )
    };
    let x = b.input(ElementType::F32, &[1, inputs, size, size]);
    let x = quantized(&mut b, x, 0.0, 255.0 / 128.0);
    let convolved = parts.map(|channels| {
        let w = weights(&mut b, noise, &[channels, inputs, 1, 1]);
        let shape = [1, channels, size, size];
        b.node(Op::Convolution(attrs.clone()), &[x, w], ElementType::F32, &shape)
    });
    let mut y = b.node(Op::Concat { axis: -3 }, &convolved, ElementType::F32, &shape);
    if relu {
        y = b.relu(y);
    }
    // Sums are multiples of 2^-14, a step is an even number of them, but for last bits: one sum in 29 to 52 lies in the
    // middle between two levels, or next to it.
    let count = if per_channel { whole } else { 1 };
    let steps: Vec<f32> = (0..count).map(|c| (29.00001 + c as f32) / 8192.0).collect();
    let least = if relu { 0.0 } else { -100.0 };
    let limits = [least, least + 255.0, least, least + 255.0].map(|levels| {
        let values: Vec<f32> = steps.iter().map(|s| s * levels).collect();
        b.constant(Tensor::from_slice(&[1, count, 1, 1], &values).unwrap())
    });
    let inputs = [y, limits[0], limits[1], limits[2], limits[3]];
    let y = b.node(
        Op::FakeQuantize { levels: 256 },
        &inputs,
        ElementType::F32,
        &shape,
    );
    let w = vec![1_i8; whole];
    let w = b.constant(Tensor::from_slice(&[whole, 1, 1, 1, 1], &w).unwrap());
    let w = b.node(
        Op::Convert(ElementType::F32),
        &[w],
        ElementType::F32,
        &[whole, 1, 1, 1, 1],
    );
    let z = b.node(Op::GroupConvolution(attrs), &[y, w], ElementType::F32, &shape);
    b.result(z);
    b.result(y);
    b.graph
}

#[test]
fn branches_of_a_quantization_are_rounded_as_the_whole() {
    for (seed, relu, per_channel) in [
        (1, false, false),
        (2, true, false),
        (3, false, true),
        (4, true, true),
    ] {
        let mut noise = Noise(seed);
        let graph = branches(&mut noise, relu, per_channel);
        let input = image(&mut noise, &[1, 4, 12, 12]);
        let doubts = codes_equal(&graph, &input, 29.0 / 8192.0);
        assert!(doubts > 0, "no value lay near a tie");
        if per_channel {
            continue;
        }
        // What the codes behind the Concat mean in f32, to the last bit.
        let expected = flow_model::evaluate(&graph, std::slice::from_ref(&input)).unwrap();
        let lowered = flow_lpt::transform(&graph, &flow_lpt::Options::default()).unwrap();
        let options = CompileOptions {
            isa: None,
            rounding_of: Some(&graph),
        };
        let program = compile(&lowered.graph, &options).unwrap();
        let mut request = program.request();
        request.run(&[Input::Values(input.bytes())]).unwrap();
        assert!(
            request.output(1) == expected[1].bytes(),
            "values of codes, seed {seed}"
        );
    }
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
        let mut counts = Vec::new();
        for isa in Isa::ALL.into_iter().filter(|isa| isa.is_supported()) {
            let options = CompileOptions {
                isa: Some(isa),
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
            let mut shared = program.request();
            shared.share(3, |_| ()).unwrap();
            shared.run(&[Input::Values(input.bytes())]).unwrap();
            assert!(shared.output(0) == request.output(0), "{isa}: three threads");
            assert_eq!(shared.rounding_counts(), request.rounding_counts(), "{isa}");
            let step = 4.0713 / 255.0;
            let differ = found
                .iter()
                .zip(&expected)
                .filter(|(a, b)| (*a - *b).abs() > step / 2.0)
                .count();
            assert_eq!(differ, 0, "of {} codes, {isa}", found.len());
            let [all, again] = request.rounding_counts();
            assert!(again < all / 8, "{again} of {all} vectors evaluated again");
            doubts += again;
            counts.push([all, again]);
        }
        assert!(counts.iter().all(|&c| c == counts[0]), "{counts:?}");
    }
    assert!(doubts > 0, "no value lay near a tie");
}
