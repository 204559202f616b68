use std::path::Path;
use std::sync::Arc;

use flow_model::ir::{Weights, parse};
use flow_model::{Graph, Tensor};

use super::*;
use crate::device::Device;

/// A quantized convolution of 3x3 with padding, and a ReLU, on `[1..4, 1, 2..6, ?]`.
fn open() -> Graph {
    let port = |dims: &str| -> String {
        dims.split(',')
            .filter(|d| !d.is_empty())
            .map(|d| format!("<dim>{d}</dim>"))
            .collect()
    };
    let mut layers = String::new();
    let mut layer = |id: usize, name: &str, kind: &str, data: &str, inputs: &[&str], output: &str| {
        let mut text =
            format!("<layer id=\"{id}\" name=\"{name}\" type=\"{kind}\" version=\"opset1\">{data}<input>");
        for (i, dims) in inputs.iter().enumerate() {
            text += &format!("<port id=\"{i}\" precision=\"FP32\">{}</port>", port(dims));
        }
        text += "</input>";
        if kind != "Result" {
            let id = inputs.len();
            text += &format!(
                "<output><port id=\"{id}\" precision=\"FP32\">{}</port></output>",
                port(output)
            );
        }
        layers += &(text + "</layer>");
    };
    let open = "-1,1,-1,-1";
    layer(
        0,
        "x",
        "Parameter",
        "<data shape=\"1..4,1,2..6,?\" element_type=\"f32\"/>",
        &[],
        open,
    );
    let limit =
        |offset: usize| format!("<data element_type=\"f32\" shape=\"\" offset=\"{offset}\" size=\"4\"/>");
    layer(1, "low", "Const", &limit(0), &[], "");
    layer(2, "high", "Const", &limit(4), &[], "");
    layer(
        3,
        "fq",
        "FakeQuantize",
        "<data levels=\"256\"/>",
        &[open, "", "", "", ""],
        open,
    );
    let weights = "<data element_type=\"f32\" shape=\"1,1,3,3\" offset=\"8\" size=\"36\"/>";
    layer(4, "weights", "Const", weights, &[], "1,1,3,3");
    layer(5, "wlow", "Const", &limit(44), &[], "");
    layer(6, "whigh", "Const", &limit(48), &[], "");
    layer(
        7,
        "wfq",
        "FakeQuantize",
        "<data levels=\"255\"/>",
        &["1,1,3,3", "", "", "", ""],
        "1,1,3,3",
    );
    let attributes =
        "<data strides=\"1,1\" dilations=\"1,1\" pads_begin=\"1,1\" pads_end=\"1,1\" auto_pad=\"explicit\"/>";
    layer(8, "conv", "Convolution", attributes, &[open, "1,1,3,3"], open);
    layer(9, "relu", "ReLU", "", &[open], open);
    layer(10, "y", "Result", "", &[open], "");
    let mut edges = String::new();
    for [a, b, c, d] in [
        [0, 0, 3, 0],
        [1, 0, 3, 1],
        [2, 0, 3, 2],
        [1, 0, 3, 3],
        [2, 0, 3, 4],
        [4, 0, 7, 0],
        [5, 0, 7, 1],
        [6, 0, 7, 2],
        [5, 0, 7, 3],
        [6, 0, 7, 4],
        [3, 5, 8, 0],
        [7, 5, 8, 1],
        [8, 2, 9, 0],
        [9, 1, 10, 0],
    ] {
        edges += &format!("<edge from-layer=\"{a}\" from-port=\"{b}\" to-layer=\"{c}\" to-port=\"{d}\"/>");
    }
    let mut bytes: Vec<u8> = Vec::new();
    let weights = [1f32, -2.0, 3.0, 4.0, 5.0, -6.0, 7.0, 8.0, -9.0];
    for value in [0f32, 255.0].into_iter().chain(weights).chain([-12.7, 12.7]) {
        bytes.extend(value.to_le_bytes());
    }
    let xml = format!("<net name=\"n\" version=\"11\"><layers>{layers}</layers><edges>{edges}</edges></net>");
    parse(
        Path::new("open.xml"),
        xml.as_bytes(),
        Weights::Memory(Arc::new(bytes)),
    )
    .unwrap()
}

fn engine(options: Options) -> Result<Engine, EngineError> {
    Engine::from_graph("open.xml", open(), &options)
}

fn picture(shape: &[usize]) -> Tensor {
    let count: usize = shape.iter().product();
    let values: Vec<f32> = (0..count).map(|i| (i * 37 % 256) as f32).collect();
    Tensor::from_slice(shape, &values).unwrap()
}

#[test]
fn each_shape_is_compiled_once_and_gives_what_a_fixed_network_gives() {
    let engine = engine(Options::default()).unwrap();
    assert_eq!(engine.inputs()[0].partial_shape, [None, Some(1), None, None]);
    let mut session = engine.session();
    let shapes = [[1, 1, 4, 5], [2, 1, 6, 3], [1, 1, 2, 2]];
    let mut seen = Vec::new();
    for shape in shapes.iter().chain(&shapes) {
        let x = picture(shape);
        session
            .run_shaped(&[(Input::Values(x.bytes()), x.shape())])
            .unwrap();
        assert_eq!(session.output_shape(0), shape);
        let fixed = Options {
            shapes: vec![InputShape::fixed(shape)],
            ..Options::default()
        };
        let fixed = Engine::from_graph("open.xml", open(), &fixed).unwrap();
        let expected = fixed.infer(std::slice::from_ref(&x)).unwrap();
        assert_eq!(session.output(0), expected[0].bytes());
        let conv = fixed
            .inspect()
            .into_iter()
            .find(|row| row.name == "conv")
            .unwrap();
        assert_eq!((conv.precision.as_str(), conv.reason), ("U8", None));
        let reference = engine_of(Device::Reference).infer(&[x]).unwrap();
        assert_eq!(reference[0].shape(), expected[0].shape());
        let Backend { program } = Backend::of(&mut session);
        seen.push(program);
    }
    assert_eq!(seen[..3], seen[3..]);
    assert_ne!(seen[0], seen[1]);
}

fn engine_of(device: Device) -> Engine {
    engine(Options {
        device,
        ..Options::default()
    })
    .unwrap()
}

/// Identity of the compiled network that ran last.
struct Backend {
    program: String,
}

impl Backend {
    fn of(session: &mut Session) -> Self {
        let request = session.request().unwrap();
        Self {
            program: format!(
                "{:?} {}",
                request.program().inputs()[0].shape,
                request.program().arena_bytes()
            ),
        }
    }
}

#[test]
fn shapes_outside_the_bounds_are_refused() {
    let engine = engine(Options::default()).unwrap();
    for (shape, found) in [
        (&[5, 1, 4, 4][..], "[5, 1, 4, 4]"),
        (&[1, 1, 7, 4], "[1, 1, 7, 4]"),
        (&[1, 2, 4, 4], "[1, 2, 4, 4]"),
        (&[1, 1, 4], "[1, 1, 4]"),
    ] {
        let error = engine.infer(&[picture(shape)]).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("input 0 (\"x\"): expected f32 [1..4,1,2..6,?], found {found}")
        );
        assert_eq!(error.code().0, "E0642");
    }
    // Without shapes nothing is guessed.
    let bytes = [0; 4 * 16];
    let error = engine.session().run(&[Input::Values(&bytes)]).unwrap_err();
    assert!(error.to_string().contains("open shape"), "{error}");
}

#[test]
fn stated_shapes_and_batches_close_axes() {
    let stated = |text: &str| Options {
        shapes: vec![text.parse().unwrap()],
        ..Options::default()
    };
    assert_eq!(
        engine(stated("[2,1,4,4]")).unwrap().inputs()[0].shape,
        [2, 1, 4, 4]
    );
    let partly = engine(stated("x[?,1,4,3..5]")).unwrap();
    assert_eq!(partly.inputs()[0].partial_shape, [None, Some(1), Some(4), None]);
    assert!(partly.infer(&[picture(&[3, 1, 4, 5])]).is_ok());
    assert!(partly.infer(&[picture(&[3, 1, 4, 6])]).is_err());
    let error = engine(stated("z[1,1,4,4]")).unwrap_err().to_string();
    assert!(
        error.contains("\"z\"") && error.contains("the model has x"),
        "{error}"
    );
    let error = engine(stated("[1,1,4]")).unwrap_err().to_string();
    assert!(error.contains("3 axes"), "{error}");
    let batch = |batch| Options {
        batch: Some(batch),
        ..Options::default()
    };
    assert_eq!(engine(batch(3)).unwrap().inputs()[0].partial_shape[0], Some(3));
    assert!(engine(batch(5)).unwrap_err().to_string().contains("batch 5"));
    for text in ["", "1,2", "[1,x]", "[1,2", "[9..1]", "[99999999999999999999]"] {
        assert!(text.parse::<InputShape>().is_err(), "{text}");
    }
}

#[test]
fn only_the_last_few_shapes_are_kept() {
    let graph = with_stated(open(), Path::new("open.xml"), &Options::default()).unwrap();
    let shaped = Shaped::new(Path::new("open.xml"), graph, &Options::default());
    for width in 1..=2 * MAX_KEPT {
        shaped.engine(&[&[1, 1, 2, width]]).unwrap();
    }
    let kept = shaped.kept.lock().unwrap();
    assert_eq!(kept.len(), MAX_KEPT);
    assert_eq!(kept.front().unwrap().0, [vec![1, 1, 2, 2 * MAX_KEPT]]);
}
