//! Tiny quantized networks, written as OpenVINO IR.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use flow_model::op::{AutoPad, BinaryKind, ConvAttrs, Op, ReduceKind, UnaryKind};
use flow_model::{ElementType, Graph, Node, OutputInfo, Tensor, Value, ir};

use crate::corrupt::Random;

/// Height and width of the pictures that the networks take.
pub const INPUT: (usize, usize) = (24, 32);
/// Channels between the layers.
const CHANNELS: usize = 8;

/// Builds a graph of standard operations.
struct Builder {
    graph: Graph,
    random: Random,
}

impl Builder {
    fn new(name: &str) -> Self {
        let graph = Graph {
            name: name.into(),
            ..Graph::default()
        };
        Self {
            graph,
            random: Random(7),
        }
    }

    fn node(&mut self, name: &str, op: Op, inputs: &[Value], outputs: &[&[usize]]) -> Value {
        let element_type = match &op {
            Op::Constant(tensor) => tensor.element_type(),
            _ => ElementType::F32,
        };
        let outputs = outputs.iter().map(|shape| {
            let mut info = OutputInfo::fixed(element_type, shape);
            if !matches!(op, Op::Constant(_) | Op::Result) {
                info.names.push(Arc::from(name));
            }
            info
        });
        let outputs = outputs.collect();
        Value::of(self.graph.push(Node {
            name: Arc::from(name),
            line: 0,
            op,
            inputs: inputs.to_vec(),
            outputs,
        }))
    }

    fn shape(&self, value: Value) -> Vec<usize> {
        self.graph.info(value).static_shape().unwrap()
    }

    fn floats(&mut self, name: &str, shape: &[usize], values: &[f32]) -> Value {
        let tensor = Tensor::from_slice(shape, values).unwrap();
        self.node(name, Op::Constant(tensor), &[], &[shape])
    }

    fn integers(&mut self, name: &str, values: &[i64]) -> Value {
        let shape = [values.len()];
        let tensor = Tensor::from_slice(&shape, values).unwrap();
        self.node(name, Op::Constant(tensor), &[], &[&shape])
    }

    fn fake_quantize(&mut self, name: &str, value: Value, levels: u32, low: f32, high: f32) -> Value {
        let shape = self.shape(value);
        let low = self.floats(&format!("{name}/low"), &[], &[low]);
        let high = self.floats(&format!("{name}/high"), &[], &[high]);
        let inputs = [value, low, high, low, high];
        self.node(name, Op::FakeQuantize { levels }, &inputs, &[&shape])
    }

    /// Random weights with a FakeQuantize behind them.
    fn weights(&mut self, name: &str, shape: &[usize]) -> Value {
        let count = shape.iter().product();
        let values: Vec<f32> = (0..count)
            .map(|_| (self.random.below(255) as f32 - 127.0) * 0.01)
            .collect();
        let constant = self.floats(&format!("{name}/values"), shape, &values);
        self.fake_quantize(name, constant, 255, -1.27, 1.27)
    }

    fn convolution(&mut self, name: &str, data: Value, kernel: usize, stride: usize, bias: &[f32]) -> Value {
        let shape = self.shape(data);
        let outputs = bias.len();
        let weights = self.weights(&format!("{name}/weights"), &[outputs, shape[1], kernel, kernel]);
        let pad = kernel / 2;
        let attributes = ConvAttrs {
            strides: vec![stride; 2],
            dilations: vec![1; 2],
            pads_begin: vec![pad as isize; 2],
            pads_end: vec![pad as isize; 2],
            auto_pad: AutoPad::Explicit,
        };
        let size = |x: usize| (x + 2 * pad - kernel) / stride + 1;
        let output = [1, outputs, size(shape[2]), size(shape[3])];
        let sums = self.node(name, Op::Convolution(attributes), &[data, weights], &[&output]);
        let bias = self.floats(&format!("{name}/bias"), &[1, outputs, 1, 1], bias);
        let add = Op::Binary(BinaryKind::Add);
        self.node(&format!("{name}/add"), add, &[sums, bias], &[&output])
    }

    fn result(&mut self, value: Value, name: &str, shape: &[usize]) {
        let id = self
            .node(&format!("{name}/result"), Op::Result, &[value], &[shape])
            .node;
        self.graph.results.push(id);
    }

    /// Pictures of samples 0 to 255, and two quantized convolutions on them.
    fn backbone(&mut self) -> Value {
        let data = self.node("data", Op::Parameter, &[], &[&[1, 3, INPUT.0, INPUT.1]]);
        self.graph.parameters.push(data.node);
        let data = self.fake_quantize("data/fq", data, 256, 0.0, 255.0);
        let mut value = data;
        for (name, stride, high) in [("conv1", 2, 900.0), ("conv2", 1, 1500.0)] {
            let shape = self.convolution(name, value, 3, stride, &[0.5; CHANNELS]);
            let output = self.shape(shape);
            let relu = Op::Unary(UnaryKind::Relu);
            let relu = self.node(&format!("{name}/relu"), relu, &[shape], &[&output]);
            value = self.fake_quantize(&format!("{name}/fq"), relu, 256, 0.0, high);
        }
        value
    }
}

/// A network with probabilities `[1, classes]` of pictures; `data` is f32 `[1,3,24,32]` of samples 0 to 255.
pub fn classifier_graph(classes: usize) -> Graph {
    let mut b = Builder::new("tiny-classifier");
    let features = b.backbone();
    let axes = b.integers("axes", &[2, 3]);
    let mean = Op::Reduce {
        kind: ReduceKind::Mean,
        keep_dims: false,
    };
    let mean = b.node("mean", mean, &[features, axes], &[&[1, CHANNELS]]);
    let mean = b.fake_quantize("mean/fq", mean, 256, 0.0, 800.0);
    let weights = b.weights("head/weights", &[CHANNELS, classes]);
    let product = Op::MatMul {
        transpose_a: false,
        transpose_b: false,
    };
    let scores = b.node("head", product, &[mean, weights], &[&[1, classes]]);
    let small = b.floats("head/small", &[1, 1], &[0.01]);
    let scores = b.node(
        "logits",
        Op::Binary(BinaryKind::Multiply),
        &[scores, small],
        &[&[1, classes]],
    );
    let scores = b.node("scores", Op::Softmax { axis: 1 }, &[scores], &[&[1, classes]]);
    b.result(scores, "scores", &[1, classes]);
    b.graph
}

/// A network with scores `[1,192,2]` and boxes `[1,192,4]` in 0 to 1; `data` as of [`classifier_graph`].
pub fn detector_graph() -> Graph {
    let mut b = Builder::new("tiny-detector");
    let features = b.backbone();
    let small = b.floats("small", &[1, 1, 1, 1], &[0.0005]);
    let shape = b.shape(features);
    let multiply = Op::Binary(BinaryKind::Multiply);
    let features = b.node("scaled", multiply, &[features, small], &[&shape]);
    let features = b.fake_quantize("scaled/fq", features, 256, 0.0, 0.75);
    let maps = b.convolution("heads", features, 1, 1, &[0.0, 0.3, -1.5, -1.5, 1.5, 1.5]);
    let cells = shape[2] * shape[3];
    let pattern = b.integers("pattern", &[1, 6, -1]);
    let rows = Op::Reshape { special_zero: false };
    let rows = b.node("rows", rows, &[maps, pattern], &[&[1, 6, cells]]);
    let order = b.integers("order", &[0, 2, 1]);
    let rows = b.node("cells", Op::Transpose, &[rows, order], &[&[1, cells, 6]]);
    let axis = {
        let tensor = Tensor::from_slice(&[], &[2i64]).unwrap();
        b.node("axis", Op::Constant(tensor), &[], &[&[]])
    };
    let lengths = b.integers("lengths", &[2, 4]);
    let parts = b.graph.push(Node {
        name: Arc::from("parts"),
        line: 0,
        op: Op::VariadicSplit,
        inputs: vec![rows, axis, lengths],
        outputs: vec![
            OutputInfo::fixed(ElementType::F32, &[1, cells, 2]),
            OutputInfo::fixed(ElementType::F32, &[1, cells, 4]),
        ],
    });
    let part = |port| Value { node: parts, port };
    let scores = b.node("scores", Op::Softmax { axis: 2 }, &[part(0)], &[&[1, cells, 2]]);
    let sigmoid = Op::Unary(UnaryKind::Sigmoid);
    let boxes = b.node("boxes", sigmoid, &[part(1)], &[&[1, cells, 4]]);
    b.result(scores, "scores", &[1, cells, 2]);
    b.result(boxes, "boxes", &[1, cells, 4]);
    b.graph
}

/// Writes `classifier.xml` with its `.bin` into the folder.
pub fn classifier(folder: &Path) -> PathBuf {
    write(&classifier_graph(5), folder, "classifier.xml")
}

/// Writes `detector.xml` with its `.bin` into the folder.
pub fn detector(folder: &Path) -> PathBuf {
    write(&detector_graph(), folder, "detector.xml")
}

fn write(graph: &Graph, folder: &Path, name: &str) -> PathBuf {
    let path = folder.join(name);
    ir::write(graph, &path).expect("the network can be written");
    path
}
