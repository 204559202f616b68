//! Transposed convolutions.

use flow_model::graph::Graph;
use flow_model::op::{AutoPad, ConvAttrs, DeconvAttrs, Op};
use flow_model::tensor::{ElementType, Tensor};

use crate::report::ReasonCode;
use crate::testing::{Builder, check, kinds, noise};

fn attrs(stride: usize, pad: isize) -> DeconvAttrs {
    DeconvAttrs {
        conv: ConvAttrs {
            strides: vec![stride; 2],
            dilations: vec![1; 2],
            pads_begin: vec![pad; 2],
            pads_end: vec![pad; 2],
            auto_pad: AutoPad::Explicit,
        },
        output_padding: vec![0, 1],
    }
}

const DATA: [usize; 4] = [1, 4, 3, 3];

/// Weights `[4, 3, 2, 3]`, or `[2, 2, 3, 2, 3]`, with one scale and zero point per output channel.
fn deconvolution(low: f32, high: f32, grouped: bool) -> Graph {
    let mut b = Builder::default();
    let x = b.parameter(ElementType::F32, &DATA);
    let x = b.fake_quantize("fq", x, low, high);
    let (shape, along): (&[usize], &[usize]) = match grouped {
        true => (&[2, 2, 3, 2, 3], &[2, 1, 3, 1, 1]),
        false => (&[4, 3, 2, 3], &[1, 3, 1, 1]),
    };
    let codes: Vec<i8> = (0..72).map(|i| (i * 37 % 255) as u8 as i8).collect();
    let w = b.constant(Tensor::from_slice(shape, &codes).unwrap());
    let w = b.node("convert", Op::Convert(ElementType::F32), &[w]);
    let channels: usize = along.iter().product();
    let zero_points: Vec<f32> = (0..channels).map(|i| i as f32 * 3.0 - 4.0).collect();
    let zero_points = b.f32s(along, &zero_points);
    let subtract = Op::Binary(flow_model::op::BinaryKind::Subtract);
    let w = b.node("subtract", subtract, &[w, zero_points]);
    let scales: Vec<f32> = (1..=channels).map(|i| i as f32 * 0.002).collect();
    let scales = b.f32s(along, &scales);
    let multiply = Op::Binary(flow_model::op::BinaryKind::Multiply);
    let w = b.node("multiply", multiply, &[w, scales]);
    let op = match grouped {
        true => Op::GroupConvolutionBackpropData(attrs(2, 1)),
        false => Op::ConvolutionBackpropData(attrs(2, 1)),
    };
    let x = b.node("deconv", op, &[x, w]);
    b.result(x);
    b.graph
}

#[test]
fn deconvolutions_of_codes_are_integer() {
    for grouped in [false, true] {
        for (low, high) in [
            (0.0, 1.0),
            (-1.0 / 127.0 * 128.0, 1.0),
            (-51.0 / 255.0, 204.0 / 255.0),
        ] {
            let lowered = check(&deconvolution(low, high, grouped), &noise(&DATA, 1), 1e-5);
            assert_eq!(
                kinds(&lowered.graph),
                [
                    "Parameter",
                    "Quantize",
                    "QuantizedDeconvolution",
                    "Dequantize",
                    "Result"
                ]
            );
            let layer = lowered.report.layer("deconv").unwrap();
            assert!(layer.is_integer(), "{layer:?}");
        }
    }
}

#[test]
fn a_zero_point_between_codes_is_told() {
    let lowered = check(&deconvolution(-1.0, 1.0, false), &noise(&DATA, 1), 1e-5);
    let reason = lowered.report.layer("deconv").unwrap().reason.clone().unwrap();
    assert_eq!(reason.code, ReasonCode::DataZeroPoint);
}

#[test]
fn groups_take_a_scale_per_group() {
    let mut b = Builder::default();
    let x = b.parameter(ElementType::F32, &DATA);
    let low = b.f32s(&[], &[0.0]);
    let high = b.f32s(&[1, 4, 1, 1], &[0.25, 0.25, 0.5, 0.5]);
    let x = b.node("fq", Op::FakeQuantize { levels: 256 }, &[x, low, high, low, high]);
    let w = b.weights(&[2, 2, 1, 2, 2], &(0..16).collect::<Vec<i8>>(), &[0.01]);
    let x = b.node("deconv", Op::GroupConvolutionBackpropData(attrs(1, 0)), &[x, w]);
    b.result(x);
    let lowered = check(&b.graph, &noise(&DATA, 1), 1e-5);
    assert!(lowered.report.layer("deconv").unwrap().is_integer());
}
