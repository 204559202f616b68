//! Small networks for tests.

use flow_model::op::{AutoPad, BinaryKind, ConvAttrs, Op, PoolAttrs, UnaryKind};
use flow_model::{ElementType, Graph, Node, OutputInfo, Tensor, Value};

use crate::data::InMemory;

/// Builds a network step by step.
#[derive(Default)]
pub(crate) struct Net {
    pub graph: Graph,
    seed: u64,
}

impl Net {
    pub(crate) fn push(&mut self, name: &str, op: Op, inputs: &[Value]) -> Value {
        let id = self.graph.push(Node {
            name: name.into(),
            line: 0,
            op,
            inputs: inputs.to_vec(),
            outputs: Vec::new(),
        });
        let outputs = match self.graph.node(id).op {
            Op::Result => vec![self.graph.info(inputs[0]).clone()],
            _ => Vec::new(),
        };
        if outputs.is_empty() && !matches!(self.graph.node(id).op, Op::Parameter) {
            self.graph.infer_shapes().unwrap();
        }
        Value::of(id)
    }

    pub(crate) fn input(&mut self, shape: &[usize]) -> Value {
        let id = self.graph.push(Node {
            name: "x".into(),
            line: 0,
            op: Op::Parameter,
            inputs: Vec::new(),
            outputs: vec![OutputInfo::fixed(ElementType::F32, shape)],
        });
        self.graph.parameters.push(id);
        Value::of(id)
    }

    pub(crate) fn constant(&mut self, name: &str, shape: &[usize], values: &[f32]) -> Value {
        self.push(
            name,
            Op::Constant(Tensor::from_slice(shape, values).unwrap()),
            &[],
        )
    }

    /// Values between -1 and 1, always the same.
    pub(crate) fn random(&mut self, count: usize) -> Vec<f32> {
        (0..count)
            .map(|_| {
                self.seed = self
                    .seed
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1_442_695_040_888_963_407);
                ((self.seed >> 40) as f32 / (1u64 << 23) as f32) - 1.0
            })
            .collect()
    }

    fn channels(&self, value: Value) -> usize {
        self.graph.info(value).shape[1].unwrap()
    }

    /// A 3x3 convolution with a bias.
    pub(crate) fn conv(&mut self, name: &str, x: Value, outputs: usize) -> Value {
        let inputs = self.channels(x);
        let weights = self.random(outputs * inputs * 9);
        let shape = [outputs, inputs, 3, 3];
        self.convolution(name, x, Op::Convolution, &shape, &weights, outputs)
    }

    /// A 3x3 depthwise convolution with a bias.
    pub(crate) fn depthwise(&mut self, name: &str, x: Value) -> Value {
        let channels = self.channels(x);
        let weights = self.random(channels * 9);
        let shape = [channels, 1, 1, 3, 3];
        self.convolution(name, x, Op::GroupConvolution, &shape, &weights, channels)
    }

    pub(crate) fn convolution(
        &mut self,
        name: &str,
        x: Value,
        op: fn(ConvAttrs) -> Op,
        shape: &[usize],
        weights: &[f32],
        outputs: usize,
    ) -> Value {
        let w = self.constant(&format!("{name}/w"), shape, weights);
        let op = op(ConvAttrs {
            strides: vec![1, 1],
            dilations: vec![1, 1],
            pads_begin: vec![1, 1],
            pads_end: vec![1, 1],
            auto_pad: AutoPad::Explicit,
        });
        let y = self.push(name, op, &[x, w]);
        let bias = self.random(outputs);
        let b = self.constant(&format!("{name}/b"), &[1, outputs, 1, 1], &bias);
        self.push(&format!("{name}/biased"), Op::Binary(BinaryKind::Add), &[y, b])
    }

    pub(crate) fn relu(&mut self, name: &str, x: Value) -> Value {
        self.push(name, Op::Unary(UnaryKind::Relu), &[x])
    }

    pub(crate) fn max_pool(&mut self, name: &str, x: Value) -> Value {
        let op = Op::MaxPool(PoolAttrs {
            kernel: vec![2, 2],
            strides: vec![2, 2],
            dilations: vec![1, 1],
            pads_begin: vec![0, 0],
            pads_end: vec![0, 0],
            auto_pad: AutoPad::Explicit,
            ceil: false,
        });
        self.push(name, op, &[x])
    }

    pub(crate) fn add(&mut self, name: &str, a: Value, b: Value) -> Value {
        self.push(name, Op::Binary(BinaryKind::Add), &[a, b])
    }

    pub(crate) fn result(mut self, values: &[Value]) -> Graph {
        for (index, value) in values.iter().enumerate() {
            let id = self.push(&format!("result {index}"), Op::Result, &[*value]);
            self.graph.results.push(id.node);
        }
        self.graph.infer_shapes().unwrap();
        self.graph
    }
}

/// `count` random samples of one input.
pub(crate) fn samples(shape: &[usize], count: usize) -> InMemory {
    let mut net = Net {
        seed: 99,
        ..Net::default()
    };
    let size: usize = shape.iter().product();
    let sample = |_| vec![Tensor::from_slice(shape, &net.random(size)).unwrap()];
    InMemory((0..count).map(sample).collect())
}
