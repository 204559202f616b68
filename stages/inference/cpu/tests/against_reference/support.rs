//! Builds graphs, and compares what programs compute.

use std::sync::Arc;

use flow_cpu::kernels::Isa;
use flow_cpu::{CompileOptions, Input, compile};
use flow_model::op::{BinaryKind, Dequantize, Op, Quantize, UnaryKind};
use flow_model::{ElementType, Graph, Node, NodeId, OutputInfo, Tensor, Value};

/// Builds graphs node by node.
#[derive(Default)]
pub struct Builder {
    pub graph: Graph,
}

impl Builder {
    pub fn node(&mut self, op: Op, inputs: &[Value], element_type: ElementType, shape: &[usize]) -> Value {
        let id = self.graph.push(Node {
            name: Arc::from(format!("n{}", self.graph.nodes.len())),
            line: 0,
            op,
            inputs: inputs.to_vec(),
            outputs: vec![OutputInfo::fixed(element_type, shape)],
        });
        Value::of(id)
    }
    pub fn input(&mut self, element_type: ElementType, shape: &[usize]) -> Value {
        let value = self.node(Op::Parameter, &[], element_type, shape);
        self.graph.parameters.push(value.node);
        value
    }
    pub fn constant(&mut self, tensor: Tensor) -> Value {
        let (t, shape) = (tensor.element_type(), tensor.shape().to_vec());
        self.node(Op::Constant(tensor), &[], t, &shape)
    }
    pub fn result(&mut self, value: Value) {
        let info = self.graph.info(value).clone();
        let id: NodeId = self
            .node(
                Op::Result,
                &[value],
                info.element_type,
                &info.static_shape().unwrap(),
            )
            .node;
        self.graph.results.push(id);
    }
    pub fn shape(&self, value: Value) -> Vec<usize> {
        self.graph.info(value).static_shape().unwrap()
    }
    pub fn unary(&mut self, op: Op, value: Value, element_type: ElementType) -> Value {
        let shape = self.shape(value);
        self.node(op, &[value], element_type, &shape)
    }
    pub fn quantize(&mut self, value: Value, low: f32, high: f32, t: ElementType) -> Value {
        let start = if t == ElementType::I8 { -128 } else { 0 };
        let q = Quantize {
            input_low: vec![low],
            input_high: vec![high],
            axis: None,
            levels: 256,
            low: start,
            high: start + 255,
            element_type: t,
        };
        self.unary(Op::Quantize(q), value, t)
    }
    pub fn dequantize(&mut self, value: Value, scale: f32, zero_point: f32) -> Value {
        let d = Dequantize {
            scale: vec![scale],
            zero_point: vec![zero_point],
            axis: None,
        };
        self.unary(Op::Dequantize(d), value, ElementType::F32)
    }
    /// Quantizes and dequantizes; numbers that are not round keep sums away from ties.
    pub fn fake_quantize(&mut self, value: Value, low: f32, high: f32, t: ElementType) -> Value {
        let scale = (high - low) / 255.0;
        let start = if t == ElementType::I8 { -128.0 } else { 0.0 };
        let codes = self.quantize(value, low, high, t);
        self.dequantize(codes, scale, start - low / scale)
    }
    pub fn add(&mut self, a: Value, b: Value) -> Value {
        let shape = self.shape(a);
        self.node(Op::Binary(BinaryKind::Add), &[a, b], ElementType::F32, &shape)
    }
    pub fn relu(&mut self, value: Value) -> Value {
        self.unary(Op::Unary(UnaryKind::Relu), value, ElementType::F32)
    }
}

/// A small generator: proptest shrinks the shapes, not the numbers.
pub struct Noise(pub u64);

impl Noise {
    pub fn next(&mut self) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 33
    }
    pub fn unit(&mut self) -> f32 {
        (self.next() % 10_000) as f32 / 10_000.0
    }
}

pub fn run(graph: &Graph, inputs: &[Tensor], isa: Option<Isa>) -> Vec<Tensor> {
    let program = compile(
        graph,
        &CompileOptions {
            isa,
            rounding_of: None,
        },
    )
    .unwrap();
    assert!(
        program.steps().iter().all(|s| !s.reference),
        "a step has no kernel: {:?}",
        program.steps()
    );
    let mut request = program.request();
    let slices: Vec<Input<'_>> = inputs.iter().map(|t| Input::Values(t.bytes())).collect();
    // Twice: the second run finds an arena full of the first.
    request.run(&slices).unwrap();
    request.run(&slices).unwrap();
    program
        .outputs()
        .iter()
        .enumerate()
        .map(|(i, p)| Tensor::new(p.element_type, p.shape.clone(), request.output(i)).unwrap())
        .collect()
}

/// Codes may differ by one step where the real value lies at a tie, which is rare; `rare` says how rare.
pub fn check(graph: &Graph, inputs: &[Tensor], rare: f64) {
    let expected = flow_model::evaluate(graph, inputs).unwrap();
    let best = run(graph, inputs, None);
    for isa in Isa::ALL.into_iter().filter(|isa| isa.is_supported()) {
        assert_eq!(run(graph, inputs, Some(isa)), best, "{isa} differs");
    }
    for (found, expected) in best.iter().zip(&expected) {
        assert_eq!(found.shape(), expected.shape());
        assert_eq!(found.element_type(), expected.element_type());
        let (a, b) = (found.to_f64(), expected.to_f64());
        let step = if found.element_type() == ElementType::F32 {
            1e-4
        } else {
            1.0
        };
        let mut off = 0;
        for (a, b) in a.iter().zip(&b) {
            assert!(
                (a - b).abs() <= step * b.abs().max(1.0).min(1.0 / step),
                "{a} is not {b}"
            );
            off += usize::from(a != b && step == 1.0);
        }
        assert!(
            off as f64 <= rare * a.len() as f64 + 1.0,
            "{off} of {} codes differ",
            a.len()
        );
    }
}

pub fn image(noise: &mut Noise, shape: &[usize]) -> Tensor {
    let values: Vec<f32> = (0..shape.iter().product::<usize>())
        .map(|_| noise.unit() * 4.0 - 2.0)
        .collect();
    Tensor::from_slice(shape, &values).unwrap()
}
