//! Low precision transformations of the real models: every convolution integer, and every layer within a step
//! of the FakeQuantize model.
#![cfg(feature = "models")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::collections::HashMap;
use std::path::PathBuf;

use flow_lpt::{Lowered, Numerics, Options, transform};
use flow_model::graph::{Graph, Node, NodeId, OutputInfo, Value};
use flow_model::op::Op;
use flow_model::tensor::{ElementType, Tensor};
use flow_model::{evaluate, evaluate_named, ir, npy, ops};

/// The folder with `models` and `oracle`.
fn shared() -> PathBuf {
    PathBuf::from(std::env::var("FLOW_SHARED").expect("FLOW_SHARED names the folder with models and oracle"))
}

fn read(name: &str) -> Graph {
    ir::read(shared().join(format!("models/{name}.xml"))).unwrap()
}

fn lower(graph: &Graph) -> Lowered {
    transform(graph, &Options::default()).unwrap()
}

fn sample(model: &str, file: &str) -> Tensor {
    npy::read(shared().join("oracle").join(model).join(file)).unwrap()
}

/// Relative distance `||a - b|| / ||b||`.
fn distance(a: &Tensor, b: &Tensor) -> f64 {
    assert_eq!(a.shape(), b.shape());
    let (a, b) = (a.to_f64(), b.to_f64());
    let difference: f64 = a.iter().zip(&b).map(|(x, y)| (x - y) * (x - y)).sum();
    (difference / b.iter().map(|y| y * y).sum::<f64>()).sqrt()
}

/// Largest difference of two tensors.
fn largest(a: &Tensor, b: &Tensor) -> f64 {
    let (a, b) = (a.to_f64(), b.to_f64());
    a.iter().zip(&b).map(|(x, y)| (x - y).abs()).fold(0.0, f64::max)
}

/// The graph in which every node that does the work of a FakeQuantize is a Result, and its users read a new
/// Parameter instead. Returns the names of those nodes in the order of the new Parameters and Results, which
/// follow the old ones.
fn cut_at_codes(original: &Graph, graph: &Graph) -> (Graph, Vec<String>) {
    let is_fake_quantize = |name: &str| {
        let mut found = original
            .nodes
            .iter()
            .filter(|n| matches!(n.op, Op::FakeQuantize { .. }));
        found.any(|n| *n.name == *name)
    };
    let mut cut = Graph::default();
    let (mut names, mut codes_in, mut codes_out) = (Vec::new(), Vec::new(), Vec::new());
    let mut map: HashMap<NodeId, NodeId> = HashMap::new();
    for (id, node) in graph.iter() {
        let mut copy = node.clone();
        for input in &mut copy.inputs {
            input.node = map[&input.node];
        }
        let info = OutputInfo {
            names: Vec::new(),
            ..node
                .outputs
                .first()
                .cloned()
                .unwrap_or(OutputInfo::fixed(ElementType::F32, &[]))
        };
        let mut new = cut.push(copy);
        let boundary = |op, inputs| Node {
            name: format!("{}/cut", node.name).into(),
            line: 0,
            op,
            inputs,
            outputs: vec![info.clone()],
        };
        if matches!(node.op, Op::Quantize(_) | Op::Lookup(_)) && is_fake_quantize(&node.name) {
            names.push(node.name.to_string());
            codes_out.push(cut.push(boundary(Op::Result, vec![Value::of(new)])));
            new = cut.push(boundary(Op::Parameter, Vec::new()));
            codes_in.push(new);
        }
        map.insert(id, new);
    }
    cut.parameters = graph
        .parameters
        .iter()
        .map(|id| map[id])
        .chain(codes_in)
        .collect();
    cut.results = graph.results.iter().map(|id| map[id]).chain(codes_out).collect();
    (cut, names)
}

/// The codes that a FakeQuantize of the model gives: its output on the grid `0..levels`.
fn codes(graph: &Graph, name: &str, output: &Tensor) -> Tensor {
    let node = graph.nodes.iter().find(|n| *n.name == *name).unwrap();
    let Op::FakeQuantize { levels } = node.op else {
        panic!("{name} is a FakeQuantize")
    };
    let limit = |port: usize| match &graph.node(node.inputs[port].node).op {
        Op::Constant(tensor) => tensor.clone(),
        _ => panic!("limits of {name} are constant"),
    };
    let zero = Tensor::scalar(0f32);
    let last = Tensor::scalar((levels - 1) as f32);
    let on_grid = [output.clone(), limit(3), limit(4), zero, last];
    let value = ops::evaluate(&node.op, &on_grid).unwrap().remove(0);
    Tensor::from_f64(ElementType::U8, value.shape(), &value.to_f64()).unwrap()
}

/// Layer by layer: given the codes of the model, each layer of the transformed model gives the model's next
/// codes, but for ties. Comparing only the ends would not do: in a deep quantized network one tie that falls
/// the other way changes, some layers on, a third of all codes.
fn check_layers(model: &str, input: &Tensor) {
    let graph = read(model);
    let lowered = lower(&graph);
    let (cut, names) = cut_at_codes(&graph, &lowered.graph);
    let wanted: Vec<&str> = names.iter().map(String::as_str).collect();
    let literal = evaluate_named(&graph, std::slice::from_ref(input), &wanted).unwrap();
    let forced: Vec<Tensor> = wanted
        .iter()
        .zip(&literal)
        .map(|(name, output)| codes(&graph, name, output))
        .collect();
    let mut inputs = vec![input.clone()];
    inputs.extend(forced.iter().cloned());
    let outputs = evaluate(&cut, &inputs).unwrap();
    let results = lowered.graph.results.len();
    for (i, (ours, expected)) in outputs[results..].iter().zip(&forced).enumerate() {
        assert_eq!(ours.shape(), expected.shape(), "{}", names[i]);
        assert!(
            largest(ours, expected) <= 1.0,
            "{model}: {} is more than a step off",
            names[i]
        );
        let (a, b) = (ours.bytes(), expected.bytes());
        let differ = a.iter().zip(b).filter(|(x, y)| x != y).count();
        let node = lowered.graph.nodes.iter().find(|n| *n.name == *names[i]).unwrap();
        // Between two grids of codes, where codes are interpolated with weights in sixteenths, and where two
        // grids are added, ties come by construction; the literal order of roundings decides them, which the
        // transformed graph does not follow.
        let share = match (&node.op, &lowered.graph.node(node.inputs[0].node).op) {
            (Op::Lookup(_), _) => 5,
            (_, Op::Interpolate(_)) => 12,
            (_, Op::Binary(_)) => 500,
            _ => 2000,
        };
        assert!(
            differ <= 1 + ours.len() / share,
            "{model}: {differ} of {} codes of {} differ",
            ours.len(),
            names[i]
        );
    }
    let whole = evaluate(&graph, std::slice::from_ref(input)).unwrap();
    for (i, (ours, expected)) in outputs[..results].iter().zip(&whole).enumerate() {
        let fits = match expected.element_type() {
            ElementType::U8 => largest(ours, expected) <= 1.0,
            _ => distance(ours, expected) <= 1e-3,
        };
        assert!(
            fits,
            "{model}: output {i} differs by {}",
            distance(ours, expected)
        );
    }
}

/// All operations of these types are integer.
fn check_counts(model: &str, counts: &[(&str, usize)]) {
    let report = lower(&read(model)).report;
    for &(kind, expected) in counts {
        let count = report.count(kind);
        assert_eq!(
            (count.total, count.integer),
            (expected, expected),
            "{kind} of {model}"
        );
    }
}

#[test]
fn all_of_resnet50_but_the_last_layer_runs_on_codes() {
    check_counts(
        "resnet50-int8",
        &[("Convolution", 53), ("MatMul", 1), ("FakeQuantize", 71)],
    );
    let report = lower(&read("resnet50-int8")).report;
    let float: Vec<_> = report.float_layers().map(|l| l.kind).collect();
    assert_eq!(float, ["SoftMax"]);
    check_layers("resnet50-int8", &sample("resnet50-int8", "cat.bmp.in.npy"));
}

#[test]
fn mobilenet_with_zero_points_in_its_weights() {
    let model = "mobilenet-v2-qat-uint8";
    check_counts(model, &[("Convolution", 36), ("GroupConvolution", 17)]);
    for picture in ["cat.bmp", "sunflower.bmp"] {
        check_layers(model, &sample(model, &format!("{picture}.in.npy")));
    }
}

#[test]
fn mobilenet_with_scales_behind_shape_operations() {
    let model = "mobilenet-v2-ptq-int8";
    check_counts(model, &[("Convolution", 36), ("GroupConvolution", 17)]);
    for picture in ["cat.bmp", "sunflower.bmp"] {
        check_layers(model, &sample(model, &format!("{picture}.in.npy")));
    }
}

#[test]
fn movenet() {
    let model = "movenet-lightning-int8";
    check_counts(model, &[("Convolution", 50), ("GroupConvolution", 24)]);
    check_layers(model, &sample(model, "squat.bmp.in.npy"));
}

#[test]
fn ultraface() {
    let model = "ultraface-rfb-320-int8";
    check_counts(model, &[("Convolution", 34), ("GroupConvolution", 18)]);
    check_layers(model, &sample(model, "face_12.jpg.in.npy"));
}

#[test]
fn fastestdet() {
    let model = "fastestdet-int8";
    check_counts(model, &[("Convolution", 42), ("GroupConvolution", 28)]);
    check_layers(model, &sample(model, "fd_3.jpg.in.npy"));
}

/// The whole transformed model against the stored outputs of the FakeQuantize model, where ties do not pile up.
#[test]
fn ultraface_gives_the_stored_outputs() {
    let model = "ultraface-rfb-320-int8";
    let lowered = lower(&read(model));
    for picture in ["face_1.jpg", "face_12.jpg", "face_17.jpg"] {
        let outputs = evaluate(&lowered.graph, &[sample(model, &format!("{picture}.in.npy"))]).unwrap();
        for (i, output) in outputs.iter().enumerate() {
            let literal = sample(model, &format!("{picture}.literal.{i}.npy"));
            let found = distance(output, &literal);
            assert!(found <= 0.002, "{picture} output {i}: distance {found}");
        }
    }
}

/// Models without FakeQuantize pass unharmed.
#[test]
fn models_in_f32_stay_what_they_are() {
    for (model, picture) in [
        ("ultraface-rfb-320-fp32", "face_1.jpg"),
        ("fastestdet-fp32", "fd_3.jpg"),
    ] {
        let graph = read(model);
        let lowered = lower(&graph);
        assert_eq!(lowered.report.count("Convolution").integer, 0);
        let input = sample(model, &format!("{picture}.in.npy"));
        let ours = evaluate(&lowered.graph, std::slice::from_ref(&input)).unwrap();
        let expected = evaluate(&graph, &[input]).unwrap();
        assert_eq!(ours, expected, "{model}");
    }
}

/// OpenVINO's numerics clip inside the residual blocks instead of rounding, and leave the rest alone.
#[test]
fn openvino_numerics_drop_the_inner_rounding_of_residuals() {
    let graph = read("resnet50-int8");
    let options = Options {
        numerics: Numerics::OpenVino,
        ..Options::default()
    };
    let lowered = transform(&graph, &options).unwrap();
    let clamps = lowered
        .graph
        .nodes
        .iter()
        .filter(|n| matches!(n.op, Op::Clamp { .. }));
    // 16 blocks, 4 of which also have a convolution in the shortcut.
    assert_eq!(clamps.count(), 20);
    assert_eq!(lowered.report.count("Convolution").integer, 53);
}
