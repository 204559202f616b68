//! Operations that move values.

use flow_model::graph::{Graph, Value};
use flow_model::op::{
    CoordinateMode, InterpolateAttrs, InterpolateMode, NearestMode, Op, PadMode, ReduceKind,
    StridedSliceAttrs,
};
use flow_model::ops::{DepthToSpace, DepthToSpaceMode};
use flow_model::tensor::{ElementType, Tensor};

use crate::report::{Fate, ReasonCode};
use crate::testing::{Builder, check, conv, kinds, noise};

const DATA: [usize; 4] = [1, 4, 4, 4];

/// FakeQuantize with a scale per channel, `middle`, and a FakeQuantize whose table or codes need codes.
fn per_channel(middle: impl Fn(&mut Builder, Value) -> Value) -> (Graph, crate::Lowered) {
    let mut b = Builder::default();
    let x = b.parameter(ElementType::F32, &DATA);
    let low = b.f32s(&[], &[0.0]);
    let high = b.f32s(&[1, 4, 1, 1], &[0.25, 0.25, 0.5, 1.0]);
    let x = b.node(
        "first",
        Op::FakeQuantize { levels: 256 },
        &[x, low, high, low, high],
    );
    let x = middle(&mut b, x);
    b.result(x);
    let lowered = check(&b.graph, &noise(&DATA, 1), 1e-6);
    (b.graph, lowered)
}

/// The scales of the last Dequantize, and their axis.
fn scales(lowered: &crate::Lowered) -> (Vec<f32>, Option<usize>) {
    let last = lowered.graph.nodes.iter().rev().find_map(|n| match &n.op {
        Op::Dequantize(d) => Some((d.scale.iter().map(|s| s * 255.0).collect(), d.axis)),
        _ => None,
    });
    last.unwrap()
}

#[test]
fn scales_go_where_their_values_go() {
    type Middle = fn(&mut Builder, Value) -> Value;
    let cases: [(&str, Middle, Vec<f32>, Option<usize>); 7] = [
        (
            "strided slice that removes an axis",
            |b, x| {
                let [begin, end, strides] = [[0, 3, 0, 0], [0, 0, 9, 9], [1, -1, 1, 1]].map(|v| b.i64s(&v));
                let attrs = StridedSliceAttrs {
                    begin_mask: vec![false, false, true, true],
                    end_mask: vec![false, true, true, true],
                    shrink_axis_mask: vec![true, false, false, false],
                    ..StridedSliceAttrs::default()
                };
                b.node("move", Op::StridedSlice(attrs), &[x, begin, end, strides])
            },
            vec![1.0, 0.5, 0.25, 0.25],
            Some(0),
        ),
        (
            "gather with a matrix of indices",
            |b, x| {
                let indices = b.constant(Tensor::from_slice(&[2, 2], &[2i64, 2, 0, 1]).unwrap());
                let axis = b.i64s(&[1]);
                b.node("move", Op::Gather { batch_dims: 0 }, &[x, indices, axis])
            },
            vec![0.5, 0.25],
            Some(1),
        ),
        (
            "blocks of equal channels",
            |b, x| {
                // Channels 2 and 3 are sliced off: what is left has one scale.
                let [start, stop, step, axes] = [0, 2, 1, 1].map(|v| b.i64s(&[v]));
                b.node("move", Op::Slice, &[x, start, stop, step, axes])
            },
            vec![0.25],
            None,
        ),
        (
            "reshape",
            |b, x| {
                let shape = b.i64s(&[4, 16]);
                b.node("move", Op::Reshape { special_zero: false }, &[x, shape])
            },
            vec![0.25, 0.25, 0.5, 1.0],
            Some(0),
        ),
        (
            "padding around the scaled axis",
            |b, x| {
                let [begin, end] = [[0, 1, 1, 1], [0, 0, 1, 0]].map(|v| b.i64s(&v));
                let zero = b.f32s(&[], &[0.0]);
                b.node("move", Op::Pad(PadMode::Constant), &[x, begin, end, zero])
            },
            vec![0.25, 0.25, 0.25, 0.5, 1.0],
            Some(1),
        ),
        (
            "padding by reflection",
            |b, x| {
                let [begin, end] = [[0, 0, 0, 0], [0, 2, 1, 0]].map(|v| b.i64s(&v));
                b.node("move", Op::Pad(PadMode::Reflect), &[x, begin, end])
            },
            vec![0.25, 0.25, 0.5, 1.0, 0.5, 0.25],
            Some(1),
        ),
        (
            "broadcast to a new axis",
            |b, x| {
                let shape = b.i64s(&[2, 1, 4, 4, 4]);
                b.node("move", Op::Broadcast, &[x, shape])
            },
            vec![0.25, 0.25, 0.5, 1.0],
            Some(2),
        ),
    ];
    for (what, middle, expected, axis) in cases {
        // A maximum behind keeps codes worthwhile.
        let (_, lowered) = per_channel(|b, x| {
            let y = middle(b, x);
            let rank = b.graph.info(y).shape.len() as i64;
            let axes = b.i64s(&[rank - 1]);
            let kind = ReduceKind::Max;
            b.node(
                "max",
                Op::Reduce {
                    kind,
                    keep_dims: true,
                },
                &[y, axes],
            )
        });
        assert!(lowered.report.layer("move").unwrap().is_integer(), "{what}");
        assert_eq!(scales(&lowered), (expected, axis), "{what}");
    }
}

#[test]
fn channels_mixed_in_blocks_stay_float() {
    let (_, lowered) = per_channel(|b, x| {
        let op = Op::standard(DepthToSpace {
            block_size: 2,
            mode: DepthToSpaceMode::DepthFirst,
        });
        b.node("wide", op, &[x])
    });
    let reason = lowered.report.layer("wide").unwrap().reason.clone().unwrap();
    assert_eq!(reason.code, ReasonCode::AxisNotKept);
}

#[test]
fn padding_of_several_axes_takes_the_code_of_its_value() {
    for (low, high, value, code) in [
        (-1.0 / 127.0 * 128.0, 1.0, 0.0, Some(128)),
        (0.0, 1.0, 0.0, Some(0)),
        (0.0, 2.55, 0.05, Some(5)),
        (-1.0, 1.0, 0.0, None),
        (0.5, 3.05, 0.0, None),
    ] {
        let mut b = Builder::default();
        let x = b.parameter(ElementType::F32, &DATA);
        let x = b.fake_quantize("first", x, low, high);
        let [begin, end] = [[0, 0, 1, 2], [0, 1, 2, 1]].map(|v| b.i64s(&v));
        let value = b.f32s(&[], &[value]);
        let x = b.node("pad", Op::Pad(PadMode::Constant), &[x, begin, end, value]);
        let w = b.weights(&[1, 5, 1, 1], &[3, -4, 5, 6, 7], &[0.01]);
        let x = b.node("conv", Op::Convolution(conv(0)), &[x, w]);
        b.result(x);
        let lowered = check(&b.graph, &noise(&DATA, 2), 1e-5);
        let pad = lowered.report.layer("pad").unwrap();
        assert_eq!(pad.is_integer(), code.is_some(), "{low} {high}");
        match code {
            Some(code) => {
                let node = lowered.graph.nodes.iter().find(|n| &*n.name == "pad").unwrap();
                let Op::Constant(tensor) = &lowered.graph.node(node.inputs[3].node).op else {
                    panic!("the value is constant")
                };
                assert_eq!(tensor.to_i64(), [code]);
            }
            None => assert_eq!(
                pad.reason.as_ref().unwrap().code,
                ReasonCode::ValueNotRepresentable
            ),
        }
    }
}

fn interpolate(mode: InterpolateMode, coordinates: CoordinateMode) -> Op {
    Op::Interpolate(InterpolateAttrs {
        mode,
        by_scales: false,
        coordinates,
        nearest: NearestMode::RoundPreferFloor,
        antialias: false,
        cube_coeff: -0.75,
        pads_begin: vec![],
        pads_end: vec![],
        version: 11,
    })
}

#[test]
fn interpolation_on_pixels_takes_the_nearest() {
    for (mode, coordinates, input, size, exact) in [
        (
            InterpolateMode::LinearOnnx,
            CoordinateMode::Asymmetric,
            4,
            2,
            true,
        ),
        (InterpolateMode::Linear, CoordinateMode::AlignCorners, 4, 2, true),
        (InterpolateMode::Cubic, CoordinateMode::HalfPixel, 3, 1, true),
        (InterpolateMode::LinearOnnx, CoordinateMode::HalfPixel, 1, 5, true),
        (InterpolateMode::LinearOnnx, CoordinateMode::HalfPixel, 4, 4, true),
        (
            InterpolateMode::LinearOnnx,
            CoordinateMode::HalfPixel,
            4,
            8,
            false,
        ),
        (
            InterpolateMode::LinearOnnx,
            CoordinateMode::HalfPixel,
            4,
            2,
            false,
        ),
    ] {
        let mut b = Builder::default();
        let shape = [1, 2, input, input];
        let x = b.parameter(ElementType::F32, &shape);
        let x = b.fake_quantize("first", x, 0.0, 1.0);
        let (sizes, axes) = (b.i64s(&[size; 2]), b.i64s(&[2, 3]));
        let x = b.node("resize", interpolate(mode, coordinates), &[x, sizes, axes]);
        let w = b.weights(&[1, 2, 1, 1], &[3, -4], &[0.01]);
        let x = b.node("conv", Op::Convolution(conv(0)), &[x, w]);
        b.result(x);
        let lowered = check(&b.graph, &noise(&shape, 2), 1e-6);
        let conv = lowered.report.layer("conv").unwrap();
        assert_eq!(
            conv.is_integer(),
            exact,
            "{mode:?} {coordinates:?} {input} to {size}"
        );
        if !exact {
            assert_eq!(conv.reason.as_ref().unwrap().code, ReasonCode::DataOffGrid);
        }
    }
}

#[test]
fn a_split_of_channels_splits_their_scales() {
    let mut b = Builder::default();
    let x = b.parameter(ElementType::F32, &DATA);
    let low = b.f32s(&[], &[0.0]);
    let high = b.f32s(&[1, 4, 1, 1], &[0.25, 0.25, 0.5, 1.0]);
    let x = b.node(
        "first",
        Op::FakeQuantize { levels: 256 },
        &[x, low, high, low, high],
    );
    let (axis, lengths) = (b.i64s(&[1]), b.i64s(&[2, 1, 1]));
    let x = b.node("split", Op::VariadicSplit, &[x, axis, lengths]);
    for (port, channels) in [(0, 2), (1, 1)] {
        let w = b.weights(&[1, channels, 1, 1], &[3, -4][..channels], &[0.01]);
        let y = b.node("conv", Op::Convolution(conv(0)), &[Value { port, ..x }, w]);
        b.result(y);
    }
    let lowered = check(&b.graph, &noise(&DATA, 3), 1e-5);
    assert_eq!(
        kinds(&lowered.graph),
        [
            "Parameter",
            "Quantize",
            "VariadicSplit",
            "QuantizedConvolution",
            "Dequantize",
            "Result",
            "QuantizedConvolution",
            "Dequantize",
            "Result"
        ]
    );
    assert_eq!(lowered.report.layer("split").unwrap().fate, Fate::Kept);
}
