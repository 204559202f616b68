//! Small graphs for tests.

use flow_model::graph::{Graph, Node, NodeId, OutputInfo, Value};
use flow_model::op::{AutoPad, ConvAttrs, Op};
use flow_model::tensor::{ElementType, Tensor};
use flow_model::{evaluate, ops};

use crate::{Lowered, Options, transform};

/// Builds a graph; types and shapes follow from the inputs.
#[derive(Default)]
pub(crate) struct Builder {
    pub(crate) graph: Graph,
}

impl Builder {
    pub(crate) fn parameter(&mut self, element_type: ElementType, shape: &[usize]) -> Value {
        let id = self.push(
            "input",
            Op::Parameter,
            vec![],
            vec![OutputInfo::fixed(element_type, shape)],
        );
        self.graph.parameters.push(id);
        Value::of(id)
    }

    pub(crate) fn constant(&mut self, tensor: Tensor) -> Value {
        let info = OutputInfo::fixed(tensor.element_type(), tensor.shape());
        Value::of(self.push("constant", Op::Constant(tensor), vec![], vec![info]))
    }

    pub(crate) fn f32s(&mut self, shape: &[usize], values: &[f32]) -> Value {
        self.constant(Tensor::from_slice(shape, values).unwrap())
    }

    pub(crate) fn i64s(&mut self, values: &[i64]) -> Value {
        self.constant(Tensor::from_slice(&[values.len()], values).unwrap())
    }

    pub(crate) fn node(&mut self, name: &str, op: Op, inputs: &[Value]) -> Value {
        let infos: Vec<OutputInfo> = inputs.iter().map(|&v| self.graph.info(v).clone()).collect();
        let known: Vec<ops::Input> = inputs
            .iter()
            .zip(&infos)
            .map(|(v, info)| ops::Input {
                element_type: info.element_type,
                shape: &info.shape,
                value: match &self.graph.node(v.node).op {
                    Op::Constant(tensor) => Some(tensor),
                    _ => None,
                },
            })
            .collect();
        let outputs = ops::infer(&op, &known).unwrap();
        Value::of(self.push(name, op, inputs.to_vec(), outputs))
    }

    /// A FakeQuantize with equal input and output limits per tensor.
    pub(crate) fn fake_quantize(&mut self, name: &str, x: Value, low: f32, high: f32) -> Value {
        let (low, high) = (self.f32s(&[], &[low]), self.f32s(&[], &[high]));
        self.node(name, Op::FakeQuantize { levels: 256 }, &[x, low, high, low, high])
    }

    /// Weights `codes * scale` of the given shape, one scale per entry of the first axis.
    pub(crate) fn weights(&mut self, shape: &[usize], codes: &[i8], scales: &[f32]) -> Value {
        let codes = self.constant(Tensor::from_slice(shape, codes).unwrap());
        let floats = self.node("weights/convert", Op::Convert(ElementType::F32), &[codes]);
        let mut along = vec![1; shape.len()];
        along[0] = scales.len();
        let scale = self.f32s(&along, scales);
        let multiply = Op::Binary(flow_model::op::BinaryKind::Multiply);
        self.node("weights/multiply", multiply, &[floats, scale])
    }

    pub(crate) fn result(&mut self, value: Value) {
        let info = self.graph.info(value).clone();
        let id = self.push("result", Op::Result, vec![value], vec![info]);
        self.graph.results.push(id);
    }

    fn push(&mut self, name: &str, op: Op, inputs: Vec<Value>, outputs: Vec<OutputInfo>) -> NodeId {
        self.graph.push(Node {
            name: name.into(),
            line: 0,
            op,
            inputs,
            outputs,
        })
    }
}

/// A convolution with stride 1 and the same padding on all sides.
pub(crate) fn conv(pad: isize) -> ConvAttrs {
    ConvAttrs {
        strides: vec![1, 1],
        dilations: vec![1, 1],
        pads_begin: vec![pad; 2],
        pads_end: vec![pad; 2],
        auto_pad: AutoPad::Explicit,
    }
}

/// The types of the operations of a graph, constants left out.
pub(crate) fn kinds(graph: &Graph) -> Vec<&'static str> {
    graph
        .nodes
        .iter()
        .map(|n| n.op.type_name())
        .filter(|&kind| kind != Op::Constant(Tensor::scalar(0f32)).type_name())
        .collect()
}

/// Transforms a graph, checks that its outputs stay within `tolerance`, and returns what it became.
pub(crate) fn check(graph: &Graph, input: &Tensor, tolerance: f32) -> Lowered {
    check_all(graph, std::slice::from_ref(input), tolerance)
}

/// As [`check`], for a graph of several inputs.
pub(crate) fn check_all(graph: &Graph, inputs: &[Tensor], tolerance: f32) -> Lowered {
    let lowered = transform(graph, &Options::default()).unwrap();
    let expected = evaluate(graph, inputs).unwrap();
    let ours = evaluate(&lowered.graph, inputs).unwrap();
    for (a, b) in ours.iter().zip(&expected) {
        assert_eq!((a.shape(), a.element_type()), (b.shape(), b.element_type()));
        for (x, y) in a.to_f32().iter().zip(b.to_f32()) {
            assert!((x - y).abs() <= tolerance, "{x} is not {y}");
        }
    }
    lowered
}

/// Values from -1 to 1 without pattern.
pub(crate) fn noise(shape: &[usize], seed: u32) -> Tensor {
    let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(12345);
    let values: Vec<f32> = (0..shape.iter().product())
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 23) as f32 - 1.0
        })
        .collect();
    Tensor::from_slice(shape, &values).unwrap()
}
