//! Maxima and minima.

use flow_model::evaluate;
use flow_model::graph::{Graph, Value};
use flow_model::op::{AutoPad, BinaryKind, Op, PoolAttrs, ReduceKind};
use flow_model::tensor::ElementType;

use crate::report::ReasonCode;
use crate::testing::{Builder, check, conv, kinds, noise};
use crate::{Numerics, Options, transform};

const DATA: [usize; 4] = [1, 2, 4, 4];

/// Quantized, multiplied with one factor per channel, and pooled in some way.
fn scaled(factors: &[f32], pool: impl Fn(&mut Builder, Value) -> Value) -> Graph {
    let mut b = Builder::default();
    let x = b.parameter(ElementType::F32, &DATA);
    let x = b.fake_quantize("fq", x, -51.0 / 255.0, 204.0 / 255.0);
    let factors = b.f32s(&[1, factors.len(), 1, 1], factors);
    let x = b.node("scale", Op::Binary(BinaryKind::Multiply), &[x, factors]);
    let x = pool(&mut b, x);
    b.result(x);
    b.graph
}

fn max_pool(b: &mut Builder, x: Value) -> Value {
    let pool = PoolAttrs {
        kernel: vec![2, 2],
        strides: vec![2, 2],
        dilations: vec![1, 1],
        pads_begin: vec![0, 1],
        pads_end: vec![1, 0],
        auto_pad: AutoPad::Explicit,
        ceil: false,
    };
    b.node("pool", Op::MaxPool(pool), &[x])
}

fn reduce_min(b: &mut Builder, x: Value) -> Value {
    let axes = b.i64s(&[2, 3]);
    let kind = ReduceKind::Min;
    b.node(
        "pool",
        Op::Reduce {
            kind,
            keep_dims: false,
        },
        &[x, axes],
    )
}

#[test]
fn codes_that_count_down_are_reversed_first() {
    for pool in [max_pool, reduce_min] {
        for factors in [&[-0.5][..], &[-0.5, -2.0]] {
            let lowered = check(&scaled(factors, pool), &noise(&DATA, 1), 1e-6);
            assert!(lowered.report.layer("pool").unwrap().is_integer());
            assert_eq!(kinds(&lowered.graph)[1..3], ["Quantize", "Lookup"]);
        }
        let lowered = check(&scaled(&[0.5, 2.0], pool), &noise(&DATA, 1), 1e-6);
        assert!(!kinds(&lowered.graph).contains(&"Lookup"));
    }
}

#[test]
fn averages_before_sums_are_rounded_as_openvino_does() {
    let mut b = Builder::default();
    let x = b.parameter(ElementType::F32, &DATA);
    let x = b.fake_quantize("fq", x, 0.0, 1.0);
    let pool = PoolAttrs {
        kernel: vec![2, 2],
        strides: vec![1, 1],
        dilations: vec![1, 1],
        pads_begin: vec![0, 0],
        pads_end: vec![0, 0],
        auto_pad: AutoPad::Explicit,
        ceil: false,
    };
    let exclude_pad = true;
    let x = b.node("pool", Op::AvgPool { pool, exclude_pad }, &[x]);
    let w = b.weights(&[1, 2, 1, 1], &[1, 0], &[1.0]);
    let x = b.node("conv", Op::Convolution(conv(0)), &[x, w]);
    b.result(x);
    let run = |numerics| {
        let options = Options {
            numerics,
            ..Options::default()
        };
        let lowered = transform(&b.graph, &options).unwrap();
        let integer = lowered.report.layer("conv").unwrap().is_integer();
        let y = evaluate(&lowered.graph, &[noise(&DATA, 1)]).unwrap().remove(0);
        (integer, y.to_f32())
    };
    let (literal, exact) = run(Numerics::Literal);
    let (rounded, codes) = run(Numerics::OpenVino);
    assert_eq!((literal, rounded), (false, true));
    for (x, y) in exact.iter().zip(&codes) {
        assert!((x - y).abs() <= 0.51 / 255.0);
        assert!((y * 255.0 - (y * 255.0).round()).abs() < 1e-3, "{y} is a level");
    }
}

#[test]
fn channels_of_both_directions_stay_float() {
    let lowered = check(&scaled(&[0.5, -2.0], max_pool), &noise(&DATA, 1), 1e-6);
    let reason = lowered.report.layer("pool").unwrap().reason.clone().unwrap();
    assert_eq!(reason.code, ReasonCode::NotMonotonic);
}
