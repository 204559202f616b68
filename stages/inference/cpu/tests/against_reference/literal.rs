//! Codes rounded as the model's own f32 arithmetic rounds them.

use flow_cpu::kernels::Isa;
use flow_cpu::{CompileOptions, Input, compile};
use flow_model::op::{AutoPad, BinaryKind, ConvAttrs, Op, UnaryKind};
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
