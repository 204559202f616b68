//! Convolutions of branches with different scales.

use flow_model::graph::Graph;
use flow_model::op::Op;
use flow_model::tensor::ElementType;

use crate::report::ReasonCode;
use crate::testing::{Builder, check, conv, kinds, noise};

/// Two or three branches of `channels` each, quantized to different intervals, joined and convolved.
fn joined(channels: usize, limits: &[(f32, f32)], through_reshape: bool) -> Graph {
    let mut b = Builder::default();
    let x = b.parameter(ElementType::F32, &[1, channels, 5, 5]);
    let mut parts = Vec::new();
    for (i, &(low, high)) in limits.iter().enumerate() {
        parts.push(b.fake_quantize(&format!("branch{i}"), x, low, high));
    }
    let mut y = b.node("concat", Op::Concat { axis: 1 }, &parts);
    if through_reshape {
        let shape = b.i64s(&[0, 0, 0, 0]);
        y = b.node("reshape", Op::Reshape { special_zero: true }, &[y, shape]);
    }
    let inputs = channels * limits.len();
    let codes: Vec<i8> = (0..3 * inputs * 9).map(|i| (i * 37 % 255) as u8 as i8).collect();
    let w = b.weights(&[3, inputs, 3, 3], &codes, &[0.01, 0.002, 0.005]);
    let y = b.node("conv", Op::Convolution(conv(1)), &[y, w]);
    b.result(y);
    b.graph
}

const SIGNED: (f32, f32) = (-1.0 / 127.0 * 128.0, 1.0);

#[test]
fn each_scale_has_its_own_sums() {
    let graph = joined(4, &[(0.0, 0.5), (0.0, 1.0), SIGNED], false);
    let lowered = check(&graph, &noise(&[1, 4, 5, 5], 1), 1e-4);
    assert_eq!(
        kinds(&lowered.graph)[4..],
        [
            "QuantizedConvolution",
            "Dequantize",
            "QuantizedConvolution",
            "Dequantize",
            "Add",
            "QuantizedConvolution",
            "Dequantize",
            "Add",
            "Result"
        ]
    );
    assert!(lowered.report.layer("conv").unwrap().is_integer());
}

#[test]
fn equal_neighbours_share_their_sums() {
    let graph = joined(4, &[(0.0, 0.5), (0.0, 0.5), SIGNED], false);
    let lowered = check(&graph, &noise(&[1, 4, 5, 5], 1), 1e-4);
    let count = |kind| kinds(&lowered.graph).iter().filter(|k| **k == kind).count();
    assert_eq!((count("QuantizedConvolution"), count("Concat")), (2, 1));
}

#[test]
fn behind_other_operations_the_codes_are_split_again() {
    let graph = joined(4, &[(0.0, 0.5), SIGNED], true);
    let lowered = check(&graph, &noise(&[1, 4, 5, 5], 1), 1e-4);
    let count = |kind| kinds(&lowered.graph).iter().filter(|k| **k == kind).count();
    assert_eq!((count("QuantizedConvolution"), count("VariadicSplit")), (2, 1));
}

#[test]
fn short_sums_are_not_taken_apart() {
    let graph = joined(1, &[(0.0, 0.5), SIGNED], false);
    let lowered = check(&graph, &noise(&[1, 1, 5, 5], 1), 1e-4);
    let reason = lowered.report.layer("conv").unwrap().reason.clone().unwrap();
    assert_eq!(reason.code, ReasonCode::DataGranularity);
}
