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

#[test]
fn what_leaves_every_element_in_its_place_is_not_copied() {
    let mut b = Builder::default();
    let x = b.input(ElementType::F32, &[2, 3, 4]);
    let y = b.relu(x);
    let order = b.constant(Tensor::from_slice(&[3], &[0i64, 1, 2]).unwrap());
    let y = b.node(Op::Transpose, &[y, order], ElementType::F32, &[2, 3, 4]);
    let y = b.relu(y);
    let shape = b.constant(Tensor::from_slice(&[2], &[6i64, 4]).unwrap());
    let y = b.node(
        Op::Reshape { special_zero: false },
        &[y, shape],
        ElementType::F32,
        &[6, 4],
    );
    b.result(y);
    let program = compile(&b.graph, &CompileOptions::default()).unwrap();
    let kernels: Vec<&str> = program.steps().iter().map(|s| &*s.kernel).collect();
    assert_eq!(kernels, ["unary_f32"; 2]);
    let input = crate::support::image(&mut crate::support::Noise(3), &[2, 3, 4]);
    let expected = flow_model::evaluate(&b.graph, std::slice::from_ref(&input)).unwrap();
    assert_eq!(crate::support::run(&b.graph, &[input], None), expected);
}
