//! Matrix products.

use flow_model::evaluate;
use flow_model::graph::Graph;
use flow_model::op::Op;
use flow_model::tensor::{ElementType, Tensor};

use crate::report::ReasonCode;
use crate::testing::{Builder, check_all, kinds, noise};

/// `FakeQuantize(a) . FakeQuantize(b)` with the limits of each.
fn product(shapes: [&[usize]; 2], limits: [(f32, f32); 2], transpose_a: bool, transpose_b: bool) -> Graph {
    let mut b = Builder::default();
    let x = b.parameter(ElementType::F32, shapes[0]);
    let y = b.parameter(ElementType::F32, shapes[1]);
    let x = b.fake_quantize("x", x, limits[0].0, limits[0].1);
    let y = b.fake_quantize("y", y, limits[1].0, limits[1].1);
    let op = Op::MatMul {
        transpose_a,
        transpose_b,
    };
    let z = b.node("product", op, &[x, y]);
    b.result(z);
    b.graph
}

const SIGNED: (f32, f32) = (-1.0 / 127.0 * 128.0, 1.0);
const INTEGER_ZERO_POINT: (f32, f32) = (-51.0 / 255.0, 204.0 / 255.0);

#[test]
fn two_activations_multiply_as_codes() {
    for (a, b, ta, tb) in [
        (&[2, 3, 4][..], &[2, 4, 5][..], false, false),
        (&[2, 4, 3], &[5, 4], true, true),
        (&[1, 3, 4], &[2, 5, 4], false, true),
        (&[4], &[4, 5], false, false),
        (&[3, 4], &[4], false, false),
    ] {
        let graph = product([a, b], [SIGNED, INTEGER_ZERO_POINT], ta, tb);
        let lowered = check_all(&graph, &[noise(a, 1), noise(b, 2)], 1e-5);
        assert_eq!(
            kinds(&lowered.graph),
            [
                "Parameter",
                "Parameter",
                "Quantize",
                "Quantize",
                "QuantizedBatchMatMul",
                "Dequantize",
                "Result"
            ]
        );
        assert!(lowered.report.layer("product").unwrap().is_integer());
    }
}

#[test]
fn long_sums_of_activations_stay_float() {
    let graph = product([&[1, 70_000], &[70_000, 1]], [SIGNED, (0.0, 1.0)], false, false);
    let inputs = [noise(&[1, 70_000], 1), noise(&[70_000, 1], 2)];
    let lowered = check_all(&graph, &inputs, 1e-2);
    let reason = lowered.report.layer("product").unwrap().reason.clone().unwrap();
    assert_eq!(reason.code, ReasonCode::Accumulator);
}

#[test]
fn scales_along_rows_and_batches_follow_to_the_product() {
    let graph = |axis: usize, transpose_a: bool| {
        let mut b = Builder::default();
        let shape = [2, 3, 4];
        let x = b.parameter(ElementType::F32, &shape);
        let y = b.parameter(ElementType::F32, &[4, 5]);
        let mut along = [1; 3];
        along[axis] = shape[axis];
        let high: Vec<f32> = (1..=shape[axis]).map(|i| i as f32 * 0.3).collect();
        let low = b.f32s(&[], &[0.0]);
        let high = b.f32s(&along, &high);
        let fq = Op::FakeQuantize { levels: 256 };
        let mut x = b.node("x", fq, &[x, low, high, low, high]);
        if transpose_a {
            let order = b.i64s(&[0, 2, 1]);
            x = b.node("transpose", Op::Transpose, &[x, order]);
        }
        let y = b.fake_quantize("y", y, SIGNED.0, SIGNED.1);
        let op = Op::MatMul {
            transpose_a,
            transpose_b: false,
        };
        let z = b.node("product", op, &[x, y]);
        b.result(z);
        let inputs = [noise(&shape, 1), noise(&[4, 5], 2)];
        let lowered = check_all(&b.graph, &inputs, 1e-5);
        lowered
            .report
            .layer("product")
            .unwrap()
            .reason
            .clone()
            .map(|r| r.code)
    };
    for transposed in [false, true] {
        assert_eq!(graph(0, transposed), None);
        assert_eq!(graph(1, transposed), None);
        assert_eq!(graph(2, transposed), Some(ReasonCode::DataGranularity));
    }
}

#[test]
fn constant_weights_take_vectors_transposed_data_and_batches() {
    for (data, weights, transpose_a, scales) in [
        (&[4][..], &[4, 3][..], false, 1),
        (&[4, 2], &[4, 3], true, 1),
        (&[2, 2, 4], &[2, 4, 3], false, 1),
        (&[2, 2, 4], &[4, 3], false, 4),
    ] {
        let mut b = Builder::default();
        let x = b.parameter(ElementType::F32, data);
        let x = b.fake_quantize("x", x, INTEGER_ZERO_POINT.0, INTEGER_ZERO_POINT.1);
        let codes: Vec<i8> = (0..weights.iter().product::<usize>() as i8)
            .map(|i| i * 5 - 50)
            .collect();
        let w = b.weights(weights, &codes, &vec![0.01; scales]);
        let op = Op::MatMul {
            transpose_a,
            transpose_b: false,
        };
        let z = b.node("product", op, &[x, w]);
        b.result(z);
        let lowered = check_all(&b.graph, &[noise(data, 3)], 1e-5);
        let layer = lowered.report.layer("product").unwrap();
        assert!(layer.is_integer(), "{data:?} {weights:?}: {layer:?}");
    }
}

#[test]
fn a_zero_point_between_codes_of_an_activation_is_told() {
    let graph = product([&[2, 4], &[4, 2]], [(-1.0, 1.0), (0.0, 1.0)], false, false);
    let lowered = check_all(&graph, &[noise(&[2, 4], 1), noise(&[4, 2], 2)], 1e-5);
    let reason = lowered.report.layer("product").unwrap().reason.clone().unwrap();
    assert_eq!(reason.code, ReasonCode::DataZeroPoint);
    // In OpenVINO's numerics zero points are rounded, which moves every value by half a step.
    let options = crate::Options {
        numerics: crate::Numerics::OpenVino,
        ..crate::Options::default()
    };
    let lowered = crate::transform(&graph, &options).unwrap();
    assert!(lowered.report.layer("product").unwrap().is_integer());
    let input = [noise(&[2, 4], 1), noise(&[4, 2], 2)];
    let ours: Vec<Tensor> = evaluate(&lowered.graph, &input).unwrap();
    let literal = evaluate(&graph, &input).unwrap();
    for (x, y) in ours[0].to_f32().iter().zip(literal[0].to_f32()) {
        assert!((x - y).abs() <= 4.0 * 0.5 / 255.0 * 2.0, "{x} is not {y}");
    }
}
