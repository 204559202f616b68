use std::path::Path;
use std::sync::Arc;

use super::{Weights, parse};
use proptest::prelude::*;

use crate::error::ModelError;
use crate::graph::{Graph, Node, NodeId, OutputInfo, Value};
use crate::op::{
    AutoPad, ConvAttrs, Dequantize, Lookup, Op, Quantize, QuantizedBatchMatMul, QuantizedConv,
    QuantizedDeconv,
};
use crate::tensor::{ElementType, Tensor};

/// `max(x + (1, -5), 0)` of f32 [1, 2].
pub(crate) const RELU_XML: &str = r#"<?xml version="1.0"?>
<net name="relu" version="11">
<layers>
<layer id="0" name="x" type="Parameter" version="opset1"><data shape="1,2" element_type="f32"/>
<output><port id="0" precision="FP32" names="x"><dim>1</dim><dim>2</dim></port></output></layer>
<layer id="1" name="c" type="Const" version="opset1"><data element_type="f32" shape="2" offset="1" size="8"/>
<output><port id="0" precision="FP32"><dim>2</dim></port></output></layer>
<layer id="2" name="sum" type="Add" version="opset1"><data auto_broadcast="numpy"/>
<input><port id="0" precision="FP32"><dim>1</dim><dim>2</dim></port><port id="1" precision="FP32"><dim>2</dim></port></input>
<output><port id="2" precision="FP32" names="sum_tensor"><dim>1</dim><dim>2</dim></port></output></layer>
<layer id="3" name="relu" type="ReLU" version="opset1">
<input><port id="0" precision="FP32"><dim>1</dim><dim>2</dim></port></input>
<output><port id="1" precision="FP32" names="y"><dim>1</dim><dim>2</dim></port></output></layer>
<layer id="4" name="y/result" type="Result" version="opset1">
<input><port id="0" precision="FP32"><dim>1</dim><dim>2</dim></port></input></layer>
</layers>
<edges>
<edge from-layer="0" from-port="0" to-layer="2" to-port="0"/>
<edge from-layer="1" from-port="0" to-layer="2" to-port="1"/>
<edge from-layer="2" from-port="2" to-layer="3" to-port="0"/>
<edge from-layer="3" from-port="1" to-layer="4" to-port="0"/>
</edges>
</net>
"#;

/// The constants of [`RELU_XML`], at an odd place.
pub(crate) fn relu_weights() -> Vec<u8> {
    let mut bytes = vec![0xff];
    bytes.extend(1f32.to_le_bytes());
    bytes.extend((-5f32).to_le_bytes());
    bytes
}

fn read(xml: &str, weights: Vec<u8>) -> Result<Graph, ModelError> {
    parse(
        Path::new("m.xml"),
        xml.as_bytes(),
        Weights::Memory(Arc::new(weights)),
    )
}

pub(crate) fn relu_model() -> Graph {
    read(RELU_XML, relu_weights()).unwrap()
}

/// The message of reading the model after replacing a text in it.
fn message(from: &str, to: &str) -> String {
    assert!(RELU_XML.contains(from), "{from}");
    read(&RELU_XML.replacen(from, to, 1), relu_weights())
        .unwrap_err()
        .to_string()
}

#[test]
fn a_model_is_read_with_names_lines_and_values() {
    let graph = relu_model();
    assert_eq!(graph.name, "relu");
    assert_eq!((graph.parameters.len(), graph.results.len()), (1, 1));
    let sum = &graph.nodes[2];
    assert_eq!((&*sum.name, sum.line), ("sum", 8));
    assert_eq!(&*sum.outputs[0].names[0], "sum_tensor");
    let Op::Constant(c) = &graph.nodes[1].op else {
        panic!("not a constant")
    };
    assert_eq!(c.to_f32(), [1.0, -5.0]);
}

#[test]
fn layers_may_stand_in_any_order() {
    let (head, rest) = RELU_XML.split_once("<layer id=\"0\"").unwrap();
    let (first, rest) = rest.split_once("<layer id=\"1\"").unwrap();
    let (rest, tail) = rest.split_once("</layers>").unwrap();
    let xml = format!("{head}<layer id=\"1\"{rest}<layer id=\"0\"{first}</layers>{tail}");
    let graph = read(&xml, relu_weights()).unwrap();
    for (id, node) in graph.iter() {
        assert!(node.inputs.iter().all(|v| v.node < id));
    }
    assert_eq!(graph.nodes.len(), 5);
}

#[test]
fn errors_say_where_and_what() {
    let cases = [
        (
            "version=\"11\"",
            "version=\"7\"",
            &["m.xml:2", "10 or 11", "found 7"][..],
        ),
        (
            "layer id=\"2\"",
            "layer id=\"1\"",
            &["m.xml:8", "\"sum\" (Add)", "id 1"],
        ),
        (
            "from-port=\"2\"",
            "from-port=\"9\"",
            &["edge from 2:9 to 3:0", "no output port 9"],
        ),
        ("to-layer=\"4\"", "to-layer=\"8\"", &["there is no layer 8"]),
        ("to-port=\"1\"/>", "to-port=\"0\"/>", &["has two edges"]),
        (
            "<edge from-layer=\"3\" from-port=\"1\" to-layer=\"4\" to-port=\"0\"/>",
            "",
            &["y/result", "no edge"],
        ),
        (
            "offset=\"1\"",
            "offset=\"2\"",
            &["\"c\" (Const)", "8 bytes from byte 2", "9 bytes"],
        ),
        (
            "offset=\"1\"",
            "offset=\"18446744073709551615\"",
            &["have 9 bytes"],
        ),
        ("size=\"8\"", "size=\"7\"", &["needs 8 bytes"]),
        (
            "shape=\"2\" ",
            "shape=\"9999999999999999999\" ",
            &["too many bytes"],
        ),
        (
            "element_type=\"f32\" shape=\"2\"",
            "element_type=\"str\" shape=\"2\"",
            &["`element_type`", "\"str\""],
        ),
        (
            "type=\"ReLU\"",
            "type=\"LeLU\"",
            &["not supported", "\"relu\": LeLU (opset1)", "line 11"],
        ),
        (
            "<dim>2</dim></port></output></layer>\n<layer id=\"4\"",
            "<dim>3</dim></port></output></layer>\n<layer id=\"4\"",
            &["f32 [1, 3]", "f32 [1, 2]"],
        ),
        ("<dim>2</dim>", "<dim>-2</dim>", &["axis length or -1", "-2"]),
        ("<net", "<nut", &["not an OpenVINO IR"]),
        (
            "<?xml version=\"1.0\"?>",
            "<!DOCTYPE net [<!ENTITY a \"b\">]>",
            &["not an OpenVINO IR", "DTD"],
        ),
    ];
    for (from, to, parts) in cases {
        let message = message(from, to);
        for part in parts {
            assert!(message.contains(part), "{from} -> {to}: {message}");
        }
    }
}

#[test]
fn cycles_are_found() {
    let xml = RELU_XML.replace(
        "from-layer=\"0\" from-port=\"0\"",
        "from-layer=\"3\" from-port=\"1\"",
    );
    let message = read(&xml, relu_weights()).unwrap_err().to_string();
    assert!(message.contains("feeds itself"), "{message}");
}

#[test]
fn a_missing_weights_file_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.xml");
    std::fs::write(&path, RELU_XML).unwrap();
    let message = super::read(&path).unwrap_err().to_string();
    assert!(
        message.contains("model.bin") && message.contains("beside"),
        "{message}"
    );
    assert!(
        super::read(dir.path().join("none.xml"))
            .unwrap_err()
            .to_string()
            .contains("none.xml")
    );
}

#[test]
fn deep_nesting_is_refused() {
    let deep = "<a>".repeat(200_000);
    assert!(read(&deep, Vec::new()).is_err());
}

/// Everything but lines and positions of the two graphs is equal.
pub(crate) fn assert_equal(a: &Graph, b: &Graph) {
    assert_eq!(a.nodes.len(), b.nodes.len());
    assert_eq!((&a.parameters, &a.results), (&b.parameters, &b.results));
    for (a, b) in a.nodes.iter().zip(&b.nodes) {
        assert_eq!((&a.name, &a.inputs, &a.outputs), (&b.name, &b.inputs, &b.outputs));
        match (&a.op, &b.op) {
            (Op::Constant(a), Op::Constant(b)) => assert!(a == b),
            (x, y) => assert_eq!(format!("{x:?}"), format!("{y:?}"), "{}", a.name),
        }
    }
}

#[test]
fn what_is_written_reads_back_equal() {
    let graph = relu_model();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("again.xml");
    super::write(&graph, &path).unwrap();
    assert_equal(&super::read(&path).unwrap(), &graph);
}

#[test]
fn integer_operations_are_written_as_standard_ones_of_the_same_meaning() {
    let mut graph = Graph::default();
    let mut push = |op: Op, inputs: &[u32]| {
        let inputs = inputs.iter().map(|&i| Value::of(NodeId(i))).collect();
        let name = Arc::from(format!("{}{}", op.type_name(), graph.nodes.len()));
        let node = Node {
            name,
            line: 0,
            op,
            inputs,
            outputs: Vec::new(),
        };
        graph.push(node).0
    };
    let x = push(Op::Parameter, &[]);
    let q = Op::Quantize(Quantize {
        input_low: vec![-1.0],
        input_high: vec![1.0],
        axis: None,
        levels: 256,
        low: -128,
        high: 127,
        element_type: ElementType::I8,
    });
    let q = push(q, &[x]);
    let mut table = Box::new([0u8; 256]);
    table
        .iter_mut()
        .enumerate()
        .for_each(|(i, t)| *t = (i as u8).wrapping_add(3));
    let l = push(
        Op::Lookup(Lookup {
            table,
            element_type: ElementType::U8,
        }),
        &[q],
    );
    let weights = Tensor::from_slice(&[4, 1, 1], &[3i8, -4, 5, 6]).unwrap();
    let w = push(Op::Constant(weights), &[]);
    let conv = QuantizedConv {
        conv: ConvAttrs {
            strides: vec![1],
            dilations: vec![1],
            pads_begin: vec![1],
            pads_end: vec![0],
            auto_pad: AutoPad::Explicit,
        },
        groups: 2,
        data_zero_point: vec![131],
        weight_zero_point: vec![1, 0, -1, 2],
    };
    let c = push(Op::QuantizedConvolution(conv), &[l, w]);
    let d = Dequantize {
        scale: vec![0.1, 0.2, 0.3, 0.4],
        zero_point: vec![0.5],
        axis: Some(1),
    };
    let d = push(Op::Dequantize(d), &[c]);
    let r = push(Op::Result, &[d]);
    let mut results = vec![NodeId(r)];
    for groups in [1, 2] {
        let weights = Tensor::from_slice(&[4, 2 / groups, 1], &[3i8, -4, 5, 6, 7, 8, -9, 10][..8 / groups]);
        let w = push(Op::Constant(weights.unwrap()), &[]);
        let deconv = QuantizedDeconv {
            conv: ConvAttrs {
                strides: vec![2],
                dilations: vec![1],
                pads_begin: vec![1],
                pads_end: vec![0],
                auto_pad: AutoPad::Explicit,
            },
            output_padding: vec![1],
            groups,
            data_zero_point: vec![131],
            weight_zero_point: vec![1, 0, -1, 2],
        };
        let sums = push(Op::QuantizedDeconvolution(deconv), &[l, w]);
        results.push(NodeId(push(Op::Result, &[sums])));
    }
    let product = QuantizedBatchMatMul {
        transpose_a: false,
        transpose_b: true,
        zero_point_a: 131,
        zero_point_b: 7,
    };
    let product = push(Op::QuantizedBatchMatMul(product), &[l, l]);
    results.push(NodeId(push(Op::Result, &[product])));
    graph.parameters = vec![NodeId(x)];
    graph.results = results;
    graph.nodes[0].outputs = vec![OutputInfo::fixed(ElementType::F32, &[1, 2, 3])];
    graph.infer_shapes().unwrap();

    let (xml, bin) = super::to_bytes(&graph).unwrap();
    let again = read(&xml, bin).unwrap();
    let x = Tensor::from_slice(&[1, 2, 3], &[-2f32, -0.3, 0.0, 0.004, 0.7, 3.0]).unwrap();
    let run = |g: &Graph| crate::evaluate(g, std::slice::from_ref(&x)).unwrap();
    assert_eq!(run(&again), run(&graph));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Truncations, changed bytes and changed numbers end in an error or a graph, never in a panic.
    #[test]
    fn damaged_models_do_not_panic(
        cut in 0usize..4000,
        at in 0usize..4000,
        byte: u8,
        which in 0usize..80,
        number in prop_oneof![any::<i64>().prop_map(|v| v.to_string()), (0i64..9).prop_map(|v| v.to_string()), Just(String::new())],
        weights in 0usize..12,
    ) {
        let path = Path::new("m.xml");
        let memory = || Weights::Memory(Arc::new(relu_weights()[..weights.min(9)].to_vec()));
        let mut bytes = RELU_XML.as_bytes().to_vec();
        let _ = parse(path, &bytes[..cut.min(bytes.len())], memory());
        let place = at % bytes.len();
        bytes[place] = byte;
        let _ = parse(path, &bytes, memory());
        // The n-th quoted or bracketed number becomes another.
        let mut seen = 0;
        let mut text = String::new();
        for piece in RELU_XML.split_inclusive(['"', '>', '<']) {
            let body = &piece[..piece.len() - 1];
            if !body.is_empty() && body.bytes().all(|b| b.is_ascii_digit() || b == b',') {
                seen += 1;
                if seen - 1 == which {
                    text.push_str(&number);
                    text.push_str(&piece[piece.len() - 1..]);
                    continue;
                }
            }
            text.push_str(piece);
        }
        if let Ok(graph) = parse(path, text.as_bytes(), memory()) {
            let _ = crate::passes::fold_constants(&graph);
        }
    }
}
