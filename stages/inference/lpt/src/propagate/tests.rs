//! Before and after, operation by operation.

mod branches;
mod deconvolution;
mod layout;
mod matmul;
mod order;

use flow_model::graph::{Graph, Value};
use flow_model::op::{BinaryKind, EpsMode, MvnAttrs, MvnAxes, Op, PadMode, ReduceKind, UnaryKind};
use flow_model::tensor::{ElementType, Tensor};

use crate::report::{Fate, ReasonCode};
use crate::testing::{Builder, check, conv, kinds, noise};

const DATA: [usize; 4] = [1, 2, 4, 4];
const STEP: f32 = 4.0 / 255.0;

/// `FakeQuantize(low, high) -> middle -> FakeQuantize(-2, 2)`.
fn between(low: f32, high: f32, middle: impl Fn(&mut Builder, Value) -> Value) -> Graph {
    let mut b = Builder::default();
    let x = b.parameter(ElementType::F32, &DATA);
    let x = b.fake_quantize("first", x, low, high);
    let x = middle(&mut b, x);
    let x = b.fake_quantize("last", x, -2.0, 2.0);
    b.result(x);
    b.graph
}

fn codes(count: usize) -> Vec<i8> {
    (0..count).map(|i| (i as i32 * 37 % 255 - 127) as i8).collect()
}

#[test]
fn convolutions_of_codes_are_integer() {
    let graph = between(-1.0 / 127.0 * 128.0, 1.0, |b, x| {
        let w = b.weights(&[3, 2, 3, 3], &codes(54), &[0.01, 0.002, 0.005]);
        b.node("conv", Op::Convolution(conv(1)), &[x, w])
    });
    let lowered = check(&graph, &noise(&DATA, 1), STEP);
    let conv = lowered.graph.nodes.iter().find(|n| &*n.name == "conv").unwrap();
    let Op::QuantizedConvolution(attrs) = &conv.op else {
        panic!("{:?}", conv.op)
    };
    assert_eq!(
        (&attrs.data_zero_point[..], &attrs.weight_zero_point[..]),
        (&[128][..], &[0][..])
    );
    assert_eq!(
        kinds(&lowered.graph),
        [
            "Parameter",
            "Quantize",
            "QuantizedConvolution",
            "Dequantize",
            "FakeQuantize",
            "Result"
        ],
        "codes at the end serve nobody"
    );
}

#[test]
fn a_zero_point_between_codes_is_exact_without_padding_and_refused_with_it() {
    let graph = |pad| {
        between(-1.0, 1.0, |b, x| {
            let w = b.weights(&[1, 2, 3, 3], &codes(18), &[0.004]);
            b.node("conv", Op::Convolution(conv(pad)), &[x, w])
        })
    };
    let lowered = check(&graph(0), &noise(&DATA, 2), STEP);
    assert!(lowered.report.layer("conv").unwrap().is_integer());
    let lowered = check(&graph(1), &noise(&DATA, 2), STEP);
    let layer = lowered.report.layer("conv").unwrap();
    assert_eq!(layer.reason.as_ref().unwrap().code, ReasonCode::DataZeroPoint);
}

#[test]
fn longer_sums_of_padded_data_between_codes_are_corrected_at_the_border() {
    let mut b = Builder::default();
    let shape = [2, 4, 5, 4];
    let x = b.parameter(ElementType::F32, &shape);
    let x = b.fake_quantize("first", x, -1.0, 1.0);
    let w = b.weights(&[3, 4, 3, 3], &codes(108), &[0.01, 0.002, 0.005]);
    let x = b.node("conv", Op::Convolution(conv(1)), &[x, w]);
    b.result(x);
    let lowered = check(&b.graph, &noise(&shape, 2), 2e-5);
    assert_eq!(
        kinds(&lowered.graph),
        [
            "Parameter",
            "Quantize",
            "QuantizedConvolution",
            "Dequantize",
            "Add",
            "Result"
        ]
    );
    assert!(lowered.report.layer("conv").unwrap().is_integer());
}

#[test]
fn depthwise_convolutions_take_a_scale_per_channel_and_others_do_not() {
    let graph = |depthwise: bool| {
        let mut b = Builder::default();
        let x = b.parameter(ElementType::F32, &DATA);
        let low = b.f32s(&[1, 2, 1, 1], &[0.0, -0.5]);
        let high = b.f32s(&[1, 2, 1, 1], &[1.0, 0.5 / 128.0 * 127.0]);
        let x = b.node(
            "first",
            Op::FakeQuantize { levels: 256 },
            &[x, low, high, low, high],
        );
        let x = match depthwise {
            true => {
                let w = b.weights(&[2, 1, 1, 3, 3], &codes(18), &[0.01, 0.02]);
                b.node("conv", Op::GroupConvolution(conv(1)), &[x, w])
            }
            false => {
                let w = b.weights(&[2, 2, 3, 3], &codes(36), &[0.01, 0.02]);
                b.node("conv", Op::Convolution(conv(1)), &[x, w])
            }
        };
        b.result(x);
        b.graph
    };
    let lowered = check(&graph(true), &noise(&DATA, 3), 1e-4);
    assert!(lowered.report.layer("conv").unwrap().is_integer());
    let lowered = check(&graph(false), &noise(&DATA, 3), 1e-4);
    let reason = lowered.report.layer("conv").unwrap().reason.clone().unwrap();
    assert_eq!(reason.code, ReasonCode::DataGranularity);
}

#[test]
fn depth_to_space_works_on_codes() {
    let graph = between(-1.0, 1.0, |b, x| {
        let shape = b.i64s(&[1, 8, 2, 2]);
        let x = b.node("reshape", Op::Reshape { special_zero: false }, &[x, shape]);
        let mode = flow_model::ops::DepthToSpaceMode::DepthFirst;
        b.node(
            "wide",
            Op::standard(flow_model::ops::DepthToSpace { block_size: 2, mode }),
            &[x],
        )
    });
    let lowered = check(&graph, &noise(&DATA, 4), STEP);
    assert!(lowered.report.layer("wide").unwrap().is_integer());
}

#[test]
fn layout_maxima_and_padding_work_on_codes() {
    let graph = between(-1.0 / 127.0 * 128.0, 1.0, |b, x| {
        let order = b.i64s(&[0, 2, 3, 1]);
        let x = b.node("transpose", Op::Transpose, &[x, order]);
        let (begin, end) = (b.i64s(&[0, 1, 1, 0]), b.i64s(&[0, 0, 1, 0]));
        let zero = b.f32s(&[], &[0.0]);
        let x = b.node("pad", Op::Pad(PadMode::Constant), &[x, begin, end, zero]);
        let axes = b.i64s(&[1]);
        let kind = flow_model::op::ReduceKind::Max;
        let x = b.node(
            "max",
            Op::Reduce {
                kind,
                keep_dims: true,
            },
            &[x, axes],
        );
        b.node("relu", Op::Unary(UnaryKind::Relu), &[x])
    });
    let lowered = check(&graph, &noise(&DATA, 4), STEP);
    for name in ["first", "transpose", "pad", "max"] {
        assert!(lowered.report.layer(name).unwrap().is_integer(), "{name}");
    }
    let relu = lowered.report.layer("relu").unwrap();
    assert_eq!(
        relu.fate,
        Fate::FusedInto("last".into()),
        "the table of the FakeQuantize behind it"
    );
    assert!(kinds(&lowered.graph).contains(&"Lookup"));
}

#[test]
fn a_function_on_the_grid_of_its_codes_is_a_table_that_convolutions_read() {
    let graph = between(-1.0 / 127.0 * 128.0, 1.0, |b, x| {
        let x = b.node("relu", Op::Unary(UnaryKind::Relu), &[x]);
        let w = b.weights(&[1, 2, 1, 1], &codes(2), &[0.004]);
        b.node("conv", Op::Convolution(conv(0)), &[x, w])
    });
    let lowered = check(&graph, &noise(&DATA, 5), STEP);
    assert!(lowered.report.layer("conv").unwrap().is_integer());
    assert!(lowered.report.layer("relu").unwrap().is_integer());
}

#[test]
fn the_same_grid_twice_is_no_operation() {
    let graph = between(-2.0, 2.0, |_, x| x);
    let lowered = check(&graph, &noise(&DATA, 6), 1e-6);
    assert_eq!(lowered.report.layer("last").unwrap().fate, Fate::Removed);
}

#[test]
fn bytes_from_outside_are_codes() {
    let mut b = Builder::default();
    let x = b.parameter(ElementType::U8, &DATA);
    let x = b.node("convert", Op::Convert(ElementType::F32), &[x]);
    let limits = [0.0, 255.0, -1.0, 127.0 / 128.0].map(|v| b.f32s(&[], &[v]));
    let inputs = [&[x][..], &limits].concat();
    let x = b.node("first", Op::FakeQuantize { levels: 256 }, &inputs);
    let w = b.weights(&[1, 2, 1, 1], &codes(2), &[0.004]);
    let x = b.node("conv", Op::Convolution(conv(0)), &[x, w]);
    b.result(x);
    let bytes: Vec<u8> = (0..32).map(|i| i * 8).collect();
    let input = Tensor::from_slice(&DATA, &bytes).unwrap();
    let lowered = check(&b.graph, &input, 1e-4);
    assert_eq!(
        kinds(&lowered.graph),
        ["Parameter", "QuantizedConvolution", "Dequantize", "Result"]
    );
}

#[test]
fn concat_keeps_different_scales_per_channel() {
    let mut b = Builder::default();
    let x = b.parameter(ElementType::F32, &DATA);
    let small = b.fake_quantize("small", x, 0.0, 0.5);
    let large = b.fake_quantize("large", x, 0.0, 1.0);
    let joined = b.node("concat", Op::Concat { axis: 1 }, &[small, large]);
    let w = b.weights(&[4, 1, 1, 1, 1], &codes(4), &[0.01]);
    let x = b.node("conv", Op::GroupConvolution(conv(0)), &[joined, w]);
    b.result(x);
    let lowered = check(&b.graph, &noise(&DATA, 7), 1e-4);
    assert!(lowered.report.layer("concat").unwrap().is_integer());
    assert!(lowered.report.layer("conv").unwrap().is_integer());
}

#[test]
fn residuals_stay_between_codes() {
    let graph = between(-1.0 / 127.0 * 128.0, 1.0, |b, x| {
        let w = b.weights(&[2, 2, 1, 1], &codes(4), &[0.004, 0.003]);
        let y = b.node("conv", Op::Convolution(conv(0)), &[x, w]);
        let bias = b.f32s(&[1, 2, 1, 1], &[0.1, -0.2]);
        let y = b.node("bias", Op::Binary(BinaryKind::Add), &[y, bias]);
        let y = b.fake_quantize("mid", y, -1.0, 1.0);
        let sum = b.node("add", Op::Binary(BinaryKind::Add), &[x, y]);
        let w = b.weights(&[2, 2, 1, 1], &codes(4), &[0.004, 0.003]);
        let sum = b.fake_quantize("sum", sum, -2.0 / 127.0 * 128.0, 2.0);
        b.node("next", Op::Convolution(conv(0)), &[sum, w])
    });
    let lowered = check(&graph, &noise(&DATA, 8), STEP);
    let report = &lowered.report;
    assert_eq!(report.layer("bias").unwrap().fate, Fate::FusedInto("conv".into()));
    assert_eq!(report.layer("add").unwrap().fate, Fate::FusedInto("sum".into()));
    for name in ["conv", "bias", "mid", "add", "sum", "next"] {
        assert!(report.layer(name).unwrap().is_integer(), "{name}");
    }
}

#[test]
fn sums_that_leave_32_bits_stay_float() {
    let mut b = Builder::default();
    let x = b.parameter(ElementType::F32, &[1, 70_000]);
    let x = b.fake_quantize("first", x, 0.0, 1.0);
    let w = b.weights(&[1, 70_000], &vec![127; 70_000], &[0.01]);
    let op = Op::MatMul {
        transpose_a: false,
        transpose_b: true,
    };
    let x = b.node("matmul", op, &[x, w]);
    b.result(x);
    let lowered = check(&b.graph, &noise(&[1, 70_000], 9), 0.5);
    let reason = lowered.report.layer("matmul").unwrap().reason.clone().unwrap();
    assert_eq!(reason.code, ReasonCode::Accumulator);
}

/// `x^3 + y`, an operation that says that it maps values.
#[derive(Debug)]
struct CubeAnd;

impl flow_model::Operation for CubeAnd {
    fn type_name(&self) -> &'static str {
        "CubeAnd"
    }

    fn opset(&self) -> u32 {
        1
    }

    fn input_count(&self) -> std::ops::RangeInclusive<usize> {
        2..=2
    }

    fn infer(
        &self,
        inputs: &[flow_model::ops::Input],
    ) -> Result<Vec<flow_model::OutputInfo>, flow_model::OpError> {
        assert!(inputs[1].shape.is_empty(), "scalars stay scalars");
        Ok(vec![flow_model::OutputInfo {
            element_type: inputs[0].element_type,
            shape: inputs[0].shape.to_vec(),
            names: Vec::new(),
        }])
    }

    fn evaluate(
        &self,
        inputs: &[Tensor],
        _outputs: &[flow_model::OutputInfo],
    ) -> Result<Vec<Tensor>, flow_model::OpError> {
        let y = inputs[1].to_f32()[0];
        let values: Vec<f32> = inputs[0].to_f32().iter().map(|x| x * x * x + y).collect();
        Ok(vec![Tensor::from_slice(inputs[0].shape(), &values)?])
    }

    fn maps_values(&self) -> bool {
        true
    }
}

#[test]
fn operations_that_map_values_become_tables() {
    let graph = between(-1.0, 1.0, |b, x| {
        let y = b.f32s(&[], &[0.25]);
        b.node("cube", Op::standard(CubeAnd), &[x, y])
    });
    let lowered = check(&graph, &noise(&DATA, 4), STEP);
    assert_eq!(
        lowered.report.layer("cube").unwrap().fate,
        Fate::FusedInto("last".into())
    );
    assert!(kinds(&lowered.graph).contains(&"Lookup"));
}

#[test]
fn means_and_sums_are_part_of_what_quantizes_them() {
    for kind in [ReduceKind::Mean, ReduceKind::Sum] {
        let reduced = |b: &mut Builder, x: Value| {
            let axes = b.i64s(&[2, 3]);
            let keep_dims = true;
            b.node("reduce", Op::Reduce { kind, keep_dims }, &[x, axes])
        };
        let weighted = |b: &mut Builder, x: Value| {
            let x = b.fake_quantize("last", x, -2.0, 2.0);
            let w = b.weights(&[3, 2, 1, 1], &codes(6), &[0.01]);
            let x = b.node("conv", Op::Convolution(conv(0)), &[x, w]);
            b.result(x);
        };
        let start = |b: &mut Builder| {
            let x = b.parameter(ElementType::F32, &DATA);
            b.fake_quantize("first", x, -1.0, 1.0)
        };
        let mut b = Builder::default();
        let x = start(&mut b);
        let x = reduced(&mut b, x);
        weighted(&mut b, x);
        let lowered = check(&b.graph, &noise(&DATA, 5), 1e-5);
        for name in ["first", "reduce", "last", "conv"] {
            let layer = lowered.report.layer(name).unwrap();
            assert!(layer.is_integer(), "{layer:?}");
        }
        // A sum that a convolution reads as it is lies on no levels of 8 bits.
        let mut b = Builder::default();
        let x = start(&mut b);
        let x = reduced(&mut b, x);
        let w = b.weights(&[3, 2, 1, 1], &codes(6), &[0.01]);
        let x = b.node("conv", Op::Convolution(conv(0)), &[x, w]);
        b.result(x);
        let lowered = check(&b.graph, &noise(&DATA, 5), 1e-5);
        let reason = lowered.report.layer("conv").unwrap().reason.clone().unwrap();
        assert_eq!(reason.code, ReasonCode::DataOffGrid);
        assert!(reason.message.contains("\"reduce\""), "{reason}");
    }
}

#[test]
fn normalizations_are_f32_between_codes() {
    let mvn = Op::Mvn(MvnAttrs {
        axes: MvnAxes::Input,
        normalize_variance: true,
        eps: 1e-2,
        eps_outside: false,
    });
    let eps_mode = EpsMode::Add;
    for op in [mvn, Op::NormalizeL2 { eps: 1e-2, eps_mode }] {
        let mut b = Builder::default();
        let x = b.parameter(ElementType::F32, &DATA);
        let x = b.fake_quantize("first", x, -1.0, 1.0);
        let w = b.weights(&[2, 2, 1, 1], &codes(4), &[0.01]);
        let x = b.node("before", Op::Convolution(conv(0)), &[x, w]);
        let x = b.fake_quantize("middle", x, -0.1, 0.1);
        let axes = b.i64s(&[2, 3]);
        let x = b.node("normalize", op.clone(), &[x, axes]);
        let x = b.fake_quantize("last", x, -2.0, 2.0);
        let x = b.node("behind", Op::Convolution(conv(0)), &[x, w]);
        b.result(x);
        for numerics in [crate::Numerics::Literal, crate::Numerics::OpenVino] {
            let options = crate::Options {
                numerics,
                ..crate::Options::default()
            };
            let lowered = crate::transform(&b.graph, &options).unwrap();
            for name in ["first", "before", "last", "behind"] {
                let layer = lowered.report.layer(name).unwrap();
                assert!(layer.is_integer(), "{layer:?}");
            }
            let reason = lowered.report.layer("normalize").unwrap().reason.clone().unwrap();
            assert_eq!(reason.code, ReasonCode::NoIntegerForm);
            assert!(reason.message.contains("epsilon"), "{reason}");
        }
        check(&b.graph, &noise(&DATA, 6), 1e-4);
    }
}

#[test]
fn slopes_between_a_quantization_and_sums_ask_for_another_quantization() {
    let mut b = Builder::default();
    let x = b.parameter(ElementType::F32, &DATA);
    let x = b.fake_quantize("first", x, -1.0, 1.0);
    let slope = b.f32s(&[1], &[0.3]);
    let x = b.node("slope", Op::PRelu, &[x, slope]);
    let w = b.weights(&[2, 2, 1, 1], &codes(4), &[0.01]);
    let x = b.node("conv", Op::Convolution(conv(0)), &[x, w]);
    b.result(x);
    let lowered = check(&b.graph, &noise(&DATA, 7), 1e-5);
    let reason = lowered.report.layer("conv").unwrap().reason.clone().unwrap();
    assert_eq!(
        reason.to_string(),
        "data-off-grid: the data of \"conv\" leave the levels they were quantized to in \"slope\"; add a FakeQuantize \
         behind that operation"
    );
}

#[test]
fn activations_with_parameters_become_tables() {
    for (kind, values) in [
        ("HardSigmoid", &[0.3, 0.4][..]),
        ("Selu", &[1.67, 1.05]),
        ("Swish", &[0.7]),
    ] {
        let graph = between(-1.0, 1.0, |b, x| {
            let attributes = flow_model::ops::attributes::Attributes {
                kind,
                opset: 4,
                pairs: Vec::new(),
                inputs: values.len() + 1,
            };
            let op = flow_model::ops::parse(&attributes).unwrap().unwrap();
            let mut inputs = vec![x];
            inputs.extend(values.iter().map(|&v| b.f32s(&[], &[v])));
            b.node("map", op, &inputs)
        });
        let lowered = check(&graph, &noise(&DATA, 4), STEP);
        let fate = &lowered.report.layer("map").unwrap().fate;
        assert_eq!(*fate, Fate::FusedInto("last".into()), "{kind}");
    }
}

#[test]
fn codes_between_two_levels_go_where_each_numerics_says() {
    // Every other code of 0..1 lies in the middle between two levels of 0..2.
    let mut b = Builder::default();
    let x = b.parameter(ElementType::F32, &[1, 1, 1, 256]);
    let x = b.fake_quantize("first", x, 0.0, 1.0);
    let x = b.fake_quantize("last", x, 0.0, 2.0);
    let w = b.weights(&[1, 1, 1, 1], &[1], &[1.0]);
    let x = b.node("conv", Op::Convolution(conv(0)), &[x, w]);
    b.result(x);
    let table = |numerics| {
        let options = crate::Options {
            numerics,
            ..crate::Options::default()
        };
        let lowered = crate::transform(&b.graph, &options).unwrap();
        let found = lowered.graph.nodes.iter().find_map(|n| match &n.op {
            Op::Lookup(l) => Some(l.table.clone()),
            _ => None,
        });
        found.unwrap()
    };
    // As OpenVINO 2026.4 gives them with and without its transformations.
    assert_eq!(table(crate::Numerics::OpenVino)[..8], [0, 1, 1, 2, 2, 3, 3, 4]);
    assert_eq!(table(crate::Numerics::Literal)[..8], [0, 0, 1, 2, 2, 2, 3, 4]);
}
