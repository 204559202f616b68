use std::path::Path;
use std::sync::Arc;

use crate::graph::Graph;
use crate::ir::{Weights, parse, to_bytes};
use crate::tensor::Tensor;
use crate::unroll::{has_bodies, inline_bodies};

/// A layer with f32 ports.
fn layer(id: usize, name: &str, kind: &str, data: &str, inputs: &[&str], outputs: &[&str]) -> String {
    let ports = |list: &[&str], first: usize| -> String {
        list.iter()
            .enumerate()
            .map(|(i, text)| {
                let (precision, dims) = text.split_once(' ').unwrap_or((text, ""));
                let dims: String = dims
                    .split(',')
                    .filter(|d| !d.is_empty())
                    .map(|d| format!("<dim>{d}</dim>"))
                    .collect();
                format!(
                    "<port id=\"{}\" precision=\"{precision}\">{dims}</port>",
                    first + i
                )
            })
            .collect()
    };
    let opset = match kind {
        "Loop" => 5,
        "If" => 8,
        _ => 1,
    };
    let mut text =
        format!("<layer id=\"{id}\" name=\"{name}\" type=\"{kind}\" version=\"opset{opset}\">{data}");
    if !inputs.is_empty() {
        text += &format!("<input>{}</input>", ports(inputs, 0));
    }
    if !outputs.is_empty() {
        text += &format!("<output>{}</output>", ports(outputs, inputs.len()));
    }
    text + "</layer>\n"
}

fn edges(list: &[[usize; 4]]) -> String {
    let edges: String = list
        .iter()
        .map(|[a, b, c, d]| {
            format!("<edge from-layer=\"{a}\" from-port=\"{b}\" to-layer=\"{c}\" to-port=\"{d}\"/>")
        })
        .collect();
    format!("<edges>{edges}</edges>")
}

fn parameter(id: usize, name: &str, element_type: &str, port: &str) -> String {
    let shape = port.split_once(' ').map_or("", |p| p.1);
    let data = format!("<data shape=\"{shape}\" element_type=\"{element_type}\"/>");
    layer(id, name, "Parameter", &data, &[], &[port])
}

fn constant(id: usize, name: &str, element_type: &str, port: &str, offset: usize, size: usize) -> String {
    let shape = port.split_once(' ').map_or("", |p| p.1);
    let data = format!(
        "<data element_type=\"{element_type}\" shape=\"{shape}\" offset=\"{offset}\" size=\"{size}\"/>"
    );
    layer(id, name, "Const", &data, &[], &[port])
}

fn read(xml: &str, weights: Vec<u8>) -> Result<Graph, String> {
    let weights = Weights::Memory(Arc::new(weights));
    parse(Path::new("m.xml"), xml.as_bytes(), weights).map_err(|e| e.to_string())
}

/// Sums slices of `X` along axis 1 onto `H`: the last sum, and all of them; slices from the end if `stride` is -1.
fn iterator(stride: i64, shape: &str) -> String {
    let (start, end) = if stride > 0 { (0, -1) } else { (-1, 0) };
    let slicing = format!("axis=\"1\" start=\"{start}\" end=\"{end}\" stride=\"{stride}\" part_size=\"1\"");
    let body = layer(
        0,
        "xi",
        "Parameter",
        "<data shape=\"2,1\" element_type=\"f32\"/>",
        &[],
        &["FP32 2,1"],
    ) + &layer(
        1,
        "hi",
        "Parameter",
        "<data shape=\"2,1\" element_type=\"f32\"/>",
        &[],
        &["FP32 2,1"],
    ) + &layer(2, "s", "Add", "", &["FP32 2,1", "FP32 2,1"], &["FP32 2,1"])
        + &layer(3, "r", "Result", "", &["FP32 2,1"], &[]);
    let data = format!(
        "<port_map><input external_port_id=\"0\" internal_layer_id=\"0\" {slicing}/>\
         <input external_port_id=\"1\" internal_layer_id=\"1\"/>\
         <output external_port_id=\"2\" internal_layer_id=\"3\"/>\
         <output external_port_id=\"3\" internal_layer_id=\"3\" {slicing}/></port_map>\
         <back_edges><edge from-layer=\"3\" to-layer=\"1\"/></back_edges>\
         <body><layers>{body}</layers>{}</body>",
        edges(&[[0, 0, 2, 0], [1, 0, 2, 1], [2, 2, 3, 0]])
    );
    let x = format!("FP32 2,{shape}");
    let layers = layer(
        0,
        "X",
        "Parameter",
        &format!("<data shape=\"2,{shape}\" element_type=\"f32\"/>"),
        &[],
        &[&x],
    ) + &parameter(1, "H", "f32", "FP32 2,1")
        + &layer(
            2,
            "ti",
            "TensorIterator",
            &data,
            &[&x, "FP32 2,1"],
            &["FP32 2,1", &x],
        )
        + &layer(3, "last", "Result", "", &["FP32 2,1"], &[])
        + &layer(4, "all", "Result", "", &[&x], &[]);
    let edges = edges(&[[0, 0, 2, 0], [1, 0, 2, 1], [2, 2, 3, 0], [2, 3, 4, 0]]);
    format!("<net name=\"n\" version=\"11\"><layers>{layers}</layers>{edges}</net>")
}

fn run(graph: &Graph, inputs: &[Tensor]) -> Vec<Tensor> {
    crate::evaluate(graph, inputs).unwrap()
}

#[test]
fn slices_go_in_sums_go_around_and_parts_come_out_joined() {
    let x = Tensor::from_slice(&[2, 3], &[1f32, 2.0, 3.0, 10.0, 20.0, 30.0]).unwrap();
    let h = Tensor::from_slice(&[2, 1], &[100f32, 1000.0]).unwrap();
    for (stride, last, all) in [
        (1, [106.0, 1060.0], [101.0, 103.0, 106.0, 1010.0, 1030.0, 1060.0]),
        (-1, [106.0, 1060.0], [106.0, 105.0, 103.0, 1060.0, 1050.0, 1030.0]),
    ] {
        for shape in ["3", "-1"] {
            let graph = read(&iterator(stride, shape), Vec::new()).unwrap();
            let inputs = [x.clone(), h.clone()];
            let outputs = run(&graph, &inputs);
            assert_eq!(outputs[0].to_f32(), last);
            assert_eq!(
                (outputs[1].shape(), outputs[1].to_f32().as_slice()),
                (&[2, 3][..], &all[..])
            );
            let inlined = inline_bodies(&graph).unwrap();
            assert_eq!(has_bodies(&inlined), shape == "-1");
            assert_eq!(run(&inlined, &inputs), outputs);
            let (xml, bin) = to_bytes(&graph).unwrap();
            assert_eq!(run(&read(&xml, bin).unwrap(), &inputs), outputs);
        }
    }
}

#[test]
fn port_maps_that_do_not_fit_are_told() {
    let whole = iterator(1, "3");
    for (from, to, message) in [
        (
            "internal_layer_id=\"1\"",
            "internal_layer_id=\"2\"",
            "`internal_layer_id` is 2, which is no Parameter layer of its body",
        ),
        (
            "external_port_id=\"1\"",
            "external_port_id=\"7\"",
            "`external_port_id` is 7, which is no input port of it",
        ),
        (
            "<input external_port_id=\"1\" internal_layer_id=\"1\"/>",
            "",
            "a back edge leads to Parameter 1 of its body, which is no merged input",
        ),
        (
            "<output external_port_id=\"2\" internal_layer_id=\"3\"/>",
            "",
            "output 0 is mapped to nothing",
        ),
        (
            "stride=\"1\"",
            "stride=\"0\"",
            "expected parts as long as their distance",
        ),
        (
            "end=\"-1\"",
            "end=\"7\"",
            "parts of 1 from 0 to 7 do not divide an axis of length 3",
        ),
        (
            "axis=\"1\"",
            "axis=\"5\"",
            "axis 5 is not an axis of a tensor of rank 2",
        ),
        (
            "type=\"Add\"",
            "type=\"Ad\"",
            "line 5: layer \"ti/s\": Ad (opset1): there is no such operation; did you mean Add?",
        ),
        (
            "from-layer=\"3\" to-layer=\"1\"",
            "from-layer=\"2\" to-layer=\"1\"",
            "`from-layer` is 2, which is no Result layer of its body",
        ),
    ] {
        assert!(whole.contains(from), "{from}");
        let error = read(&whole.replacen(from, to, 1), Vec::new()).unwrap_err();
        assert!(error.contains(message), "{from} -> {to}: {error}");
        assert!(error.contains("ti"), "{error}");
    }
}

/// Adds one and goes on while the sum is below 30; `trips` and the number of the iteration are used too.
fn counting(trips: i64) -> (String, Vec<u8>) {
    let body = parameter(0, "i", "i64", "I64")
        + &parameter(1, "a", "f32", "FP32 1,2")
        + &constant(2, "one", "f32", "FP32", 16, 4)
        + &layer(3, "more", "Add", "", &["FP32 1,2", "FP32"], &["FP32 1,2"])
        + &constant(4, "axes", "i64", "I64 2", 24, 16)
        + &layer(
            5,
            "sum",
            "ReduceSum",
            "<data keep_dims=\"false\"/>",
            &["FP32 1,2", "I64 2"],
            &["FP32"],
        )
        + &constant(6, "limit", "f32", "FP32", 20, 4)
        + &layer(7, "below", "Less", "", &["FP32", "FP32"], &["BOOL"])
        + &layer(8, "goes-on", "Result", "", &["BOOL"], &[])
        + &layer(9, "value", "Result", "", &["FP32 1,2"], &[])
        + &layer(
            10,
            "number",
            "Convert",
            "<data destination_type=\"f32\"/>",
            &["I64"],
            &["FP32"],
        )
        + &layer(11, "scaled", "Multiply", "", &["FP32 1,2", "FP32"], &["FP32 1,2"])
        + &layer(12, "product", "Result", "", &["FP32 1,2"], &[]);
    let inner = edges(&[
        [1, 0, 3, 0],
        [2, 0, 3, 1],
        [3, 2, 5, 0],
        [4, 0, 5, 1],
        [5, 2, 7, 0],
        [6, 0, 7, 1],
        [7, 2, 8, 0],
        [3, 2, 9, 0],
        [0, 0, 10, 0],
        [3, 2, 11, 0],
        [10, 1, 11, 1],
        [11, 2, 12, 0],
    ]);
    let data = format!(
        "<port_map><input external_port_id=\"2\" internal_layer_id=\"1\"/>\
         <output external_port_id=\"3\" internal_layer_id=\"9\"/>\
         <output external_port_id=\"4\" internal_layer_id=\"12\" axis=\"0\" start=\"0\" end=\"-1\" stride=\"1\" part_size=\"1\"/>\
         <input external_port_id=\"-1\" internal_layer_id=\"0\" purpose=\"current_iteration\"/>\
         <output external_port_id=\"-1\" internal_layer_id=\"8\" purpose=\"execution_condition\"/></port_map>\
         <back_edges><edge from-layer=\"9\" to-layer=\"1\"/></back_edges><body><layers>{body}</layers>{inner}</body>"
    );
    let layers = parameter(0, "A", "f32", "FP32 1,2")
        + &constant(1, "trips", "i64", "I64", 0, 8)
        + &constant(2, "start", "boolean", "BOOL", 8, 1)
        + &layer(
            3,
            "loop",
            "Loop",
            &data,
            &["I64", "BOOL", "FP32 1,2"],
            &["FP32 1,2", "FP32 -1,2"],
        )
        + &layer(4, "last", "Result", "", &["FP32 1,2"], &[])
        + &layer(5, "all", "Result", "", &["FP32 -1,2"], &[]);
    let edges = edges(&[
        [1, 0, 3, 0],
        [2, 0, 3, 1],
        [0, 0, 3, 2],
        [3, 3, 4, 0],
        [3, 4, 5, 0],
    ]);
    let mut weights = trips.to_le_bytes().to_vec();
    weights.extend([1u8; 8]);
    weights.extend(1f32.to_le_bytes());
    weights.extend(30f32.to_le_bytes());
    weights.extend(0i64.to_le_bytes());
    weights.extend(1i64.to_le_bytes());
    (
        format!("<net name=\"n\" version=\"11\"><layers>{layers}</layers>{edges}</net>"),
        weights,
    )
}

#[test]
fn a_loop_ends_by_its_condition_or_its_trip_count() {
    let a = Tensor::from_slice(&[1, 2], &[0f32, 20.0]).unwrap();
    // Sums 22, 24, .., 30: five iterations.
    for (trips, count) in [(-1, 5usize), (3, 3), (100, 5), (0, 0)] {
        let (xml, weights) = counting(trips);
        let graph = read(&xml, weights).unwrap();
        let outputs = run(&graph, std::slice::from_ref(&a));
        assert_eq!(outputs[0].to_f32(), [count as f32, 20.0 + count as f32]);
        assert_eq!(outputs[1].shape(), [count, 2]);
        let expected: Vec<f32> = (0..count)
            .flat_map(|i| [(i * (i + 1)) as f32, (i * (i + 21)) as f32])
            .collect();
        assert_eq!(outputs[1].to_f32(), expected);
        let (xml, bin) = to_bytes(&graph).unwrap();
        assert_eq!(run(&read(&xml, bin).unwrap(), std::slice::from_ref(&a)), outputs);
    }
}

#[test]
fn a_loop_that_does_not_end_is_stopped() {
    let (xml, mut weights) = counting(-1);
    weights[20..24].copy_from_slice(&f32::INFINITY.to_le_bytes());
    // The value goes around without parts to keep.
    let graph = read(
        &xml.replace(
            " axis=\"0\" start=\"0\" end=\"-1\" stride=\"1\" part_size=\"1\"",
            "",
        )
        .replace("FP32 -1,2", "FP32 1,2")
        .replace("<dim>-1</dim><dim>2</dim>", "<dim>1</dim><dim>2</dim>"),
        weights,
    )
    .unwrap();
    let a = Tensor::from_slice(&[1, 2], &[0f32, 20.0]).unwrap();
    let error = crate::evaluate(&graph, &[a]).unwrap_err().to_string();
    assert!(
        error.contains("\"loop\" (Loop)") && error.contains("more than 262144 iterations"),
        "{error}"
    );
}

/// ReLU or Negative of `A`.
fn choice(condition: &str) -> String {
    let branch = |name: &str, kind: &str| {
        let body = parameter(0, "a", "f32", "FP32 2")
            + &layer(1, name, kind, "", &["FP32 2"], &["FP32 2"])
            + &layer(2, "r", "Result", "", &["FP32 2"], &[]);
        format!("<layers>{body}</layers>{}", edges(&[[0, 0, 1, 0], [1, 1, 2, 0]]))
    };
    let map = "<input external_port_id=\"1\" internal_layer_id=\"0\"/><output external_port_id=\"2\" internal_layer_id=\"2\"/>";
    let data = format!(
        "<then_port_map>{map}</then_port_map><else_port_map>{map}</else_port_map>\
         <then_body>{}</then_body><else_body>{}</else_body>",
        branch("relu", "ReLU"),
        branch("negative", "Negative")
    );
    let layers = condition.to_owned()
        + &parameter(1, "A", "f32", "FP32 2")
        + &layer(2, "if", "If", &data, &["BOOL", "FP32 2"], &["FP32 2"])
        + &layer(3, "y", "Result", "", &["FP32 2"], &[]);
    let edges = edges(&[[0, 0, 2, 0], [1, 0, 2, 1], [2, 2, 3, 0]]);
    format!("<net name=\"n\" version=\"11\"><layers>{layers}</layers>{edges}</net>")
}

#[test]
fn the_condition_chooses_the_branch() {
    let a = Tensor::from_slice(&[2], &[-3f32, 4.0]).unwrap();
    let graph = read(&choice(&parameter(0, "C", "boolean", "BOOL")), Vec::new()).unwrap();
    assert!(has_bodies(&inline_bodies(&graph).unwrap()));
    let (xml, bin) = to_bytes(&graph).unwrap();
    for graph in [&graph, &read(&xml, bin).unwrap()] {
        for (value, expected) in [(1, [0.0, 4.0]), (0, [3.0, -4.0])] {
            let condition = Tensor::from_i128(crate::ElementType::Boolean, &[], &[value]).unwrap();
            assert_eq!(run(graph, &[condition, a.clone()])[0].to_f32(), expected);
        }
    }
    let fixed = read(&choice(&constant(0, "C", "boolean", "BOOL", 0, 1)), vec![0]).unwrap();
    let inlined = inline_bodies(&fixed).unwrap();
    assert!(!has_bodies(&inlined) && inlined.nodes.iter().any(|n| &*n.name == "if/negative"));
    assert_eq!(run(&inlined, &[a])[0].to_f32(), [3.0, -4.0]);
}

#[test]
fn bodies_nested_too_deep_are_refused() {
    let mut inner = choice(&parameter(0, "C", "boolean", "BOOL"));
    for _ in 0..20 {
        // The whole network as the body of a loop around it: only the nesting is right, which is seen first.
        inner = format!(
            "<layers><layer id=\"0\" name=\"deep\" type=\"Loop\" version=\"opset5\"><input><port id=\"0\"/>\
             <port id=\"1\"/></input><body>{inner}</body></layer><layer id=\"1\" name=\"c\" type=\"Parameter\" version=\"opset1\">\
             <output><port id=\"0\"/></output></layer></layers><edges><edge from-layer=\"1\" from-port=\"0\" to-layer=\"0\" to-port=\"0\"/>\
             <edge from-layer=\"1\" from-port=\"0\" to-layer=\"0\" to-port=\"1\"/></edges>"
        );
    }
    let error = read(&format!("<net version=\"11\">{inner}</net>"), Vec::new()).unwrap_err();
    assert!(error.contains("nested deeper than 6"), "{error}");
}
