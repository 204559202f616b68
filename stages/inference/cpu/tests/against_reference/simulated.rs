//! Quantized models without low precision transformations: every FakeQuantize in f32, equal to the last bit. A value
//! that is rounded in another order falls on another level sooner or later.

use flow_model::op::{AutoPad, BinaryKind, ConvAttrs, Op};
use flow_model::{ElementType, Tensor, Value};
use proptest::prelude::*;

use crate::real::{as_image, check_bits};
use crate::support::{Builder, Noise, image};

/// A FakeQuantize with limits of that shape; some intervals are inverted or empty.
fn fake_quantize(b: &mut Builder, x: Value, levels: u32, limits: &[usize], noise: &mut Noise) -> Value {
    let count: usize = limits.iter().product();
    let low: Vec<f32> = (0..count).map(|_| noise.unit() * 2.0 - 1.5).collect();
    let high: Vec<f32> = low
        .iter()
        .map(|low| match noise.next() % 8 {
            0 => *low,
            1 => low - noise.unit(),
            _ => low + noise.unit() * 3.0,
        })
        .collect();
    let sides = [&low, &high, &high, &low].map(|v| Tensor::from_slice(limits, v).unwrap());
    let [il, ih, ol, oh] = sides.map(|side| b.constant(side));
    let shape = b.shape(x);
    b.node(
        Op::FakeQuantize { levels },
        &[x, il, ih, ol, oh],
        ElementType::F32,
        &shape,
    )
}

fn convolution(b: &mut Builder, x: Value, outputs: usize, kernel: usize, noise: &mut Noise) -> Value {
    let shape = b.shape(x);
    let weights = image(noise, &[outputs, shape[1], kernel, kernel]);
    let weights = b.constant(weights);
    let pads = vec![(kernel / 2) as isize; 2];
    let attrs = ConvAttrs {
        strides: vec![1, 1],
        dilations: vec![1, 1],
        pads_begin: pads.clone(),
        pads_end: pads,
        auto_pad: AutoPad::Explicit,
    };
    let shape = [shape[0], outputs, shape[2], shape[3]];
    b.node(Op::Convolution(attrs), &[x, weights], ElementType::F32, &shape)
}

fn with_constant(b: &mut Builder, kind: BinaryKind, x: Value, shape: &[usize], noise: &mut Noise) -> Value {
    let values: Vec<f32> = (0..shape.iter().product::<usize>())
        .map(|_| noise.unit() + 0.1)
        .collect();
    let constant = b.constant(Tensor::from_slice(shape, &values).unwrap());
    let to = b.shape(x);
    b.node(Op::Binary(kind), &[x, constant], ElementType::F32, &to)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn values_fall_on_the_levels_of_the_reference(
        shape in [1usize..3, 1..40, 1..5, 1..40], along in any::<[bool; 4]>(), rank in 0usize..=4, levels in 2u32..300,
        images: bool, folded: bool, seed: u64,
    ) {
        let mut noise = Noise(seed);
        let mut b = Builder::default();
        let x = b.input(ElementType::F32, &shape);
        let mut y = if images { as_image(&mut b, x) } else { x };
        if folded {
            y = with_constant(&mut b, BinaryKind::Multiply, y, &[1, shape[1], 1, 1], &mut noise);
            y = with_constant(&mut b, BinaryKind::Add, y, &[1], &mut noise);
        }
        let limits: Vec<usize> = (4 - rank..4).map(|i| if along[i] { shape[i] } else { 1 }).collect();
        let y = fake_quantize(&mut b, y, levels, &limits, &mut noise);
        b.result(y);
        check_bits(&b, &[image(&mut noise, &shape)], 0);
    }

    #[test]
    fn layers_round_as_the_reference(
        inputs in prop::sample::select(vec![3usize, 16, 33]), outputs in prop::sample::select(vec![1usize, 16, 35]),
        size in [1usize..8, 1..20], kernel in prop::sample::select(vec![1usize, 3]), scaled: bool, seed: u64,
    ) {
        let mut noise = Noise(seed);
        let mut b = Builder::default();
        let shape = [1, inputs, size[0], size[1]];
        let x = b.input(ElementType::F32, &shape);
        let x = fake_quantize(&mut b, x, 256, &[], &mut noise);
        let mut y = convolution(&mut b, x, outputs, kernel, &mut noise);
        let per_channel = [1, outputs, 1, 1];
        if scaled {
            y = with_constant(&mut b, BinaryKind::Multiply, y, &per_channel, &mut noise);
        }
        y = with_constant(&mut b, BinaryKind::Add, y, &per_channel, &mut noise);
        y = b.relu(y);
        let y = fake_quantize(&mut b, y, 256, &[1, outputs, 1, 1], &mut noise);
        b.result(y);
        check_bits(&b, &[image(&mut noise, &shape)], 0);
    }
}

#[test]
fn pointwise_convolutions_sum_many_channels_in_blocks() {
    let mut noise = Noise(5);
    let mut b = Builder::default();
    let shape = [1, 2700, 2, 3];
    let x = b.input(ElementType::F32, &shape);
    let y = convolution(&mut b, x, 40, 1, &mut noise);
    b.result(y);
    check_bits(&b, &[image(&mut noise, &shape)], 0);
}
