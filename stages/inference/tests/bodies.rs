//! Quantized networks with loops, on both devices.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests")]

use std::path::Path;
use std::sync::Arc;

use flow_model::body::{BodyInput, BodyOutput, Iteration, IterationKind, Slicing};
use flow_model::graph::{Graph, Node, OutputInfo, Value};
use flow_model::op::{AutoPad, BinaryKind, ConvAttrs, Op};
use flow_model::{ElementType, Tensor};

use flow_inference::{Device, Engine, Options};

fn push(graph: &mut Graph, name: &str, op: Op, inputs: &[Value]) -> Value {
    Value::of(graph.push(Node {
        name: Arc::from(name),
        line: 0,
        op,
        inputs: inputs.to_vec(),
        outputs: Vec::new(),
    }))
}

fn parameter(graph: &mut Graph, name: &str, shape: &[usize]) -> Value {
    let value = push(graph, name, Op::Parameter, &[]);
    graph.nodes[value.node.index()].outputs = vec![OutputInfo::fixed(ElementType::F32, shape)];
    graph.parameters.push(value.node);
    value
}

fn result(graph: &mut Graph, value: Value) {
    let id = push(graph, "result", Op::Result, &[value]);
    graph.results.push(id.node);
}

fn quantized(graph: &mut Graph, name: &str, value: Value, levels: u32, low: f32, high: f32) -> Value {
    let mut inputs = vec![value];
    for (what, limit) in [("il", low), ("ih", high), ("ol", low), ("oh", high)] {
        inputs.push(push(
            graph,
            &format!("{name}/{what}"),
            Op::Constant(Tensor::scalar(limit)),
            &[],
        ));
    }
    push(graph, name, Op::FakeQuantize { levels }, &inputs)
}

/// A convolution between FakeQuantizes whose result is added to what it gets, in a loop over `trips` (an input of the
/// network where it is `None`).
fn network(trips: Option<i64>) -> Graph {
    let mut body = Graph::default();
    let x = parameter(&mut body, "x", &[1, 2, 4, 4]);
    let data = quantized(&mut body, "x/fq", x, 256, -4.0, 3.96875);
    let weights: Vec<f32> = (0..36).map(|i| (i * 7 % 13) as f32 / 16.0 - 0.375).collect();
    let weights = Tensor::from_slice(&[2, 2, 3, 3], &weights).unwrap();
    let weights = push(&mut body, "w", Op::Constant(weights), &[]);
    let weights = quantized(&mut body, "w/fq", weights, 255, -0.5, 0.5);
    let attributes = ConvAttrs {
        strides: vec![1; 2],
        dilations: vec![1; 2],
        pads_begin: vec![1; 2],
        pads_end: vec![1; 2],
        auto_pad: AutoPad::Explicit,
    };
    let sums = push(&mut body, "conv", Op::Convolution(attributes), &[data, weights]);
    let sums = quantized(&mut body, "conv/fq", sums, 256, -2.0, 2.0);
    let sum = push(&mut body, "sum", Op::Binary(BinaryKind::Add), &[sums, x]);
    result(&mut body, sum);
    body.infer_shapes().unwrap();
    let iteration = Iteration {
        kind: IterationKind::Loop,
        graph: body,
        inputs: vec![BodyInput::Merged { input: 2, result: 0 }],
        outputs: vec![
            BodyOutput {
                result: 0,
                concatenated: None,
            },
            BodyOutput {
                result: 0,
                concatenated: Some(Slicing {
                    axis: 0,
                    start: 0,
                    end: -1,
                    stride: 1,
                }),
            },
        ],
        condition: None,
    };
    let mut graph = Graph::default();
    let x = parameter(&mut graph, "image", &[1, 2, 4, 4]);
    let trips = match trips {
        Some(trips) => push(&mut graph, "trips", Op::Constant(Tensor::scalar(trips)), &[]),
        None => {
            let value = parameter(&mut graph, "trips", &[]);
            graph.nodes[value.node.index()].outputs = vec![OutputInfo::fixed(ElementType::I64, &[])];
            value
        }
    };
    let start = Tensor::from_i128(ElementType::Boolean, &[], &[1]).unwrap();
    let start = push(&mut graph, "start", Op::Constant(start), &[]);
    let last = push(
        &mut graph,
        "loop",
        Op::Iteration(Arc::new(iteration)),
        &[trips, start, x],
    );
    result(&mut graph, last);
    result(&mut graph, Value { port: 1, ..last });
    graph.infer_shapes().unwrap();
    graph
}

fn engine(graph: Graph, device: Device, lpt: bool) -> Engine {
    let options = Options {
        device,
        lpt,
        ..Options::default()
    };
    Engine::from_graph(Path::new("loop.xml"), graph, &options).unwrap()
}

/// Largest difference, in steps of the FakeQuantize behind the convolution.
fn steps(a: &Tensor, b: &Tensor) -> f32 {
    assert_eq!(a.shape(), b.shape());
    let pairs = a.to_f32().into_iter().zip(b.to_f32());
    pairs
        .map(|(a, b)| (a - b).abs() / (4.0 / 255.0))
        .fold(0.0, f32::max)
}

#[test]
fn a_loop_of_known_length_runs_on_codes() {
    let values: Vec<f32> = (0..32).map(|i| (i * 5 % 17) as f32 / 4.0 - 2.0).collect();
    let x = Tensor::from_slice(&[1, 2, 4, 4], &values).unwrap();
    let trips = Tensor::scalar(3i64);
    for known in [true, false] {
        let both = [x.clone(), trips.clone()];
        let inputs = if known { &both[..1] } else { &both[..] };
        let graph = || network(known.then_some(3));
        let expected = engine(graph(), Device::Reference, false).infer(inputs).unwrap();
        assert_eq!(expected[1].shape(), [3, 2, 4, 4]);
        for device in [Device::Cpu, Device::Reference] {
            let engine = engine(graph(), device, true);
            let outputs = engine.infer(inputs).unwrap();
            assert!(steps(&outputs[0], &expected[0]) <= 1.01, "{known} {device}");
            assert!(steps(&outputs[1], &expected[1]) <= 1.01, "{known} {device}");
            let rows = engine.inspect();
            let row = |name: &str| {
                rows.iter()
                    .find(|r| r.name == name)
                    .unwrap_or_else(|| panic!("{name}"))
            };
            if known && device == Device::Cpu {
                assert_eq!(row("loop/1/conv").precision, "U8");
                assert!(row("loop/1/conv").kernel.as_ref().unwrap().contains("conv_u8s8"));
            } else {
                assert_eq!(row("loop/conv").precision, "U8");
                let reason = row("loop").reason.as_ref().unwrap();
                assert!(reason.starts_with("in-body: \"loop\" runs a body of"), "{reason}");
            }
        }
    }
}
