//! What requests refuse, and what runs without kernels.

use flow_cpu::{CompileOptions, Input, compile};
use flow_model::op::{Op, UnaryKind};
use flow_model::{ElementType, Tensor};

use crate::support::Builder;

#[test]
fn wrong_inputs_are_refused() {
    let mut b = Builder::default();
    let x = b.input(ElementType::F32, &[1, 2]);
    let y = b.relu(x);
    b.result(y);
    let program = compile(&b.graph, &CompileOptions::default()).unwrap();
    let mut request = program.request();
    assert!(request.run(&[]).is_err());
    assert!(request.run(&[Input::Values(&[0; 7])]).is_err());
    assert!(request.run(&[Input::Codes(&[0; 2])]).is_err());
    request
        .run(&[Input::Values(bytemuck::cast_slice(&[-1f32, 2.0]))])
        .unwrap();
    assert_eq!(request.output(0), bytemuck::cast_slice::<f32, u8>(&[0.0, 2.0]));
    // Misaligned memory is as good as any.
    let bytes: Vec<u8> = [0u8]
        .into_iter()
        .chain(bytemuck::cast_slice(&[3f32, -4.0]).iter().copied())
        .collect();
    request.run(&[Input::Values(&bytes[1..])]).unwrap();
    assert_eq!(request.output(0), bytemuck::cast_slice::<f32, u8>(&[3.0, 0.0]));
}

#[test]
fn an_operation_without_a_kernel_runs_on_the_reference() {
    let mut b = Builder::default();
    let x = b.input(ElementType::Boolean, &[2, 3]);
    let y = b.unary(Op::Unary(UnaryKind::LogicalNot), x, ElementType::Boolean);
    b.result(y);
    let program = compile(&b.graph, &CompileOptions::default()).unwrap();
    assert!(program.steps()[0].reference);
    let input = Tensor::from_i128(ElementType::Boolean, &[2, 3], &[1, 0, 0, 1, 1, 0]).unwrap();
    let mut request = program.request();
    request.run(&[Input::Values(input.bytes())]).unwrap();
    assert_eq!(
        request.output(0),
        flow_model::evaluate(&b.graph, &[input]).unwrap()[0].bytes()
    );
}
