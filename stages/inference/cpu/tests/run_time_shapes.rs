//! Networks in which shapes depend on values: the rest of them runs on kernels all the same.

use flow_cpu::{CompileOptions, Input, compile};
use flow_model::graph::{Graph, Node, OutputInfo, Value};
use flow_model::op::{BinaryKind, Op, UnaryKind};
use flow_model::ops::Input as OpInput;
use flow_model::{ElementType, OpError, Operation, Tensor};

/// The positive values of a tensor, one after another.
#[derive(Debug)]
struct Positive;

impl Operation for Positive {
    fn type_name(&self) -> &'static str {
        "Positive"
    }
    fn opset(&self) -> u32 {
        1
    }
    fn input_count(&self) -> std::ops::RangeInclusive<usize> {
        1..=1
    }
    fn infer(&self, inputs: &[OpInput]) -> Result<Vec<OutputInfo>, OpError> {
        Ok(vec![OutputInfo {
            element_type: inputs[0].element_type,
            shape: vec![None],
            names: Vec::new(),
        }])
    }
    fn evaluate(&self, inputs: &[Tensor], _: &[OutputInfo]) -> Result<Vec<Tensor>, OpError> {
        let values: Vec<f32> = inputs[0].to_f32().into_iter().filter(|&v| v > 0.0).collect();
        Ok(vec![Tensor::from_slice(&[values.len()], &values)?])
    }
}

fn push(graph: &mut Graph, name: &str, op: Op, inputs: &[Value]) -> Value {
    Value::of(graph.push(Node {
        name: name.into(),
        line: 0,
        op,
        inputs: inputs.to_vec(),
        outputs: Vec::new(),
    }))
}

#[test]
fn outputs_behind_values_have_the_shape_of_the_run() {
    let mut graph = Graph::default();
    let x = push(&mut graph, "x", Op::Parameter, &[]);
    graph.nodes[0].outputs = vec![OutputInfo::fixed(ElementType::F32, &[1, 4])];
    graph.parameters = vec![x.node];
    let one = push(&mut graph, "one", Op::Constant(Tensor::scalar(1f32)), &[]);
    let sum = push(&mut graph, "sum", Op::Binary(BinaryKind::Add), &[x, one]);
    let positive = push(&mut graph, "positive", Op::standard(Positive), &[sum]);
    let double = push(
        &mut graph,
        "double",
        Op::Binary(BinaryKind::Add),
        &[positive, positive],
    );
    let scaled = push(&mut graph, "scaled", Op::Binary(BinaryKind::Add), &[double, one]);
    let negative = push(&mut graph, "negative", Op::Unary(UnaryKind::Negative), &[sum]);
    for value in [scaled, negative, positive] {
        let result = push(&mut graph, "result", Op::Result, &[value]);
        graph.results.push(result.node);
    }
    graph.infer_shapes().unwrap();
    let program = compile(&graph, &CompileOptions::default()).unwrap();
    let shapes: Vec<&[usize]> = program.outputs().iter().map(|p| p.shape.as_slice()).collect();
    assert_eq!(shapes, [&[0][..], &[1, 4], &[0]]);
    let kernel = |name: &str| {
        program
            .steps()
            .iter()
            .find(|s| &*s.name == name)
            .unwrap()
            .reference
    };
    assert!(!kernel("sum") && kernel("positive") && kernel("scaled"));
    let mut request = program.request();
    for (input, positive) in [
        ([0f32, -3.0, 2.0, -1.0], vec![1f32, 3.0]),
        ([-1.0; 4], vec![]),
        ([1.0; 4], vec![2.0; 4]),
    ] {
        let bytes: Vec<u8> = input.iter().flat_map(|v| v.to_le_bytes()).collect();
        request.run(&[Input::Values(&bytes)]).unwrap();
        let output = |i: usize| -> Vec<f32> {
            let bytes = request.output(i).chunks_exact(4);
            bytes.map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
        };
        let expected: Vec<f32> = positive.iter().map(|v| v * 2.0 + 1.0).collect();
        assert_eq!(
            (output(0), request.output_shape(0)),
            (expected, &[positive.len()][..])
        );
        let expected: Vec<f32> = input.iter().map(|v| -(v + 1.0)).collect();
        assert_eq!((output(1), request.output_shape(1)), (expected, &[1, 4][..]));
        assert_eq!(
            (output(2), request.output_shape(2)),
            (positive.clone(), &[positive.len()][..])
        );
        assert_eq!((request.output(3), request.output_shape(3)), (&[][..], &[][..]));
        let times = request.run_profiled(&[Input::Values(&bytes)]).unwrap().len();
        assert_eq!(times, program.steps().len());
    }
}
