//! Integer sums of every shape, in all bits: what follows them is a scale that is a power of two.

use flow_cpu::kernels::Isa;
use flow_model::op::{
    AutoPad, ConvAttrs, Op, QuantizedBatchMatMul, QuantizedConv, QuantizedDeconv, QuantizedMatMul,
};
use flow_model::ops::Input;
use flow_model::{ElementType, Tensor, Value};
use proptest::prelude::*;

use crate::support::{Builder, Noise, run};

/// Runs on several instruction sets and compares in all bits.
fn check_exact(b: &Builder, inputs: &[Tensor]) {
    let expected = flow_model::evaluate(&b.graph, inputs).unwrap();
    for isa in [Some(Isa::Scalar), Some(Isa::Avx2), None] {
        assert_eq!(run(&b.graph, inputs, isa), expected, "{isa:?}");
    }
}

/// Codes of a type, extreme ones more often.
fn codes(noise: &mut Noise, t: ElementType, shape: &[usize]) -> Tensor {
    let values: Vec<i128> = (0..shape.iter().product::<usize>())
        .map(|_| {
            let code = match noise.next() % 4 {
                0 => 0,
                1 => 255,
                _ => noise.next() % 256,
            };
            i128::from(code) - if t == ElementType::I8 { 128 } else { 0 }
        })
        .collect();
    Tensor::from_i128(t, shape, &values).unwrap()
}

fn code_type(signed: bool) -> ElementType {
    if signed { ElementType::I8 } else { ElementType::U8 }
}

/// A zero point among the codes of a type.
fn zero_point(noise: &mut Noise, t: ElementType) -> i32 {
    (noise.next() % 256) as i32 - if t == ElementType::I8 { 128 } else { 0 }
}

/// Adds an integer operation and its dequantization; false if shapes make no output.
fn sums(b: &mut Builder, op: Op, inputs: &[Value]) -> bool {
    let infos: Vec<_> = inputs.iter().map(|&v| b.graph.info(v).clone()).collect();
    let described: Vec<Input> = infos
        .iter()
        .map(|info| Input {
            element_type: info.element_type,
            shape: &info.shape,
            value: None,
        })
        .collect();
    let Ok(outputs) = flow_model::ops::infer(&op, &described) else {
        return false;
    };
    let shape = outputs[0].static_shape().unwrap();
    let sums = b.node(op, inputs, ElementType::I32, &shape);
    let real = b.dequantize(sums, 0.015_625, 0.0);
    b.result(real);
    true
}

fn attrs(list: &[[usize; 4]]) -> ConvAttrs {
    let of = |i: usize| list.iter().map(|a| a[i]).collect::<Vec<_>>();
    let signed = |i: usize| list.iter().map(|a| a[i] as isize).collect::<Vec<_>>();
    ConvAttrs {
        strides: of(0),
        dilations: of(1),
        pads_begin: signed(2),
        pads_end: signed(3),
        auto_pad: AutoPad::Explicit,
    }
}

/// Per spatial axis: length and kernel, and stride, dilation, padding before and after.
fn axes() -> impl Strategy<Value = Vec<([usize; 2], [usize; 4])>> {
    prop::collection::vec(([1usize..10, 1..5], [1usize..4, 1..3, 0..3, 0..3]), 1..3)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn convolutions(
        axes in axes(), n in 1usize..3, groups in 1usize..5, [ic, oc] in [1usize..20, 1..40], depthwise: bool,
        signed: [bool; 2], seed: u64,
    ) {
        let (ic, oc) = if depthwise { (1, 1) } else { (ic, oc) };
        let groups = if depthwise { groups * 17 } else { groups };
        let mut noise = Noise(seed);
        let (t, wt) = (code_type(signed[0]), code_type(signed[1]));
        let mut shape = vec![n, ic * groups];
        shape.extend(axes.iter().map(|a| a.0[0]));
        let mut kernel = vec![oc * groups, ic];
        kernel.extend(axes.iter().map(|a| a.0[1]));
        let mut b = Builder::default();
        let x = b.input(t, &shape);
        let weights = codes(&mut noise, wt, &kernel);
        let w = b.constant(weights);
        let op = Op::QuantizedConvolution(QuantizedConv {
            conv: attrs(&axes.iter().map(|a| a.1).collect::<Vec<_>>()),
            groups,
            data_zero_point: vec![zero_point(&mut noise, t)],
            weight_zero_point: (0..oc * groups).map(|_| zero_point(&mut noise, wt)).collect(),
        });
        prop_assume!(sums(&mut b, op, &[x, w]));
        check_exact(&b, &[codes(&mut noise, t, &shape)]);
    }

    #[test]
    fn deconvolutions(
        axes in axes(), extra in [0usize..3, 0..3], n in 1usize..3, groups in 1usize..4, [ic, oc] in [1usize..20, 1..40],
        depthwise: bool, signed: [bool; 2], seed: u64,
    ) {
        let (ic, oc) = if depthwise { (1, 1) } else { (ic, oc) };
        let groups = if depthwise { groups * 17 } else { groups };
        let mut noise = Noise(seed);
        let (t, wt) = (code_type(signed[0]), code_type(signed[1]));
        let mut shape = vec![n, ic * groups];
        shape.extend(axes.iter().map(|a| a.0[0]));
        let mut kernel = vec![oc * groups, ic];
        kernel.extend(axes.iter().map(|a| a.0[1]));
        let mut b = Builder::default();
        let x = b.input(t, &shape);
        let weights = codes(&mut noise, wt, &kernel);
        let w = b.constant(weights);
        let op = Op::QuantizedDeconvolution(QuantizedDeconv {
            conv: attrs(&axes.iter().map(|a| a.1).collect::<Vec<_>>()),
            output_padding: extra[..axes.len()].to_vec(),
            groups,
            data_zero_point: vec![zero_point(&mut noise, t)],
            weight_zero_point: (0..oc * groups).map(|_| zero_point(&mut noise, wt)).collect(),
        });
        prop_assume!(sums(&mut b, op, &[x, w]));
        check_exact(&b, &[codes(&mut noise, t, &shape)]);
    }

    #[test]
    fn products_of_two_activations(
        batch in prop::collection::vec((1usize..4, any::<[bool; 2]>()), 0..3),
        [rows, inner, columns] in [1usize..20, 1..50, 1..40],
        transpose: [bool; 2], signed: [bool; 2], constant: bool, vector: bool, seed: u64,
    ) {
        let mut noise = Noise(seed);
        let types = signed.map(code_type);
        let shapes = [0, 1].map(|k| -> Vec<usize> {
            if vector && k == 0 && batch.is_empty() {
                return vec![inner];
            }
            let own = batch.iter().map(|(n, ones)| if ones[k] { 1 } else { *n });
            let mut last = if k == 0 { [rows, inner] } else { [inner, columns] };
            if transpose[k] {
                last.reverse();
            }
            own.chain(last).collect()
        });
        let tensors = [0, 1].map(|k| codes(&mut noise, types[k], &shapes[k]));
        let mut b = Builder::default();
        let x = b.input(types[0], &shapes[0]);
        let y = if constant { b.constant(tensors[1].clone()) } else { b.input(types[1], &shapes[1]) };
        let op = Op::QuantizedBatchMatMul(QuantizedBatchMatMul {
            transpose_a: transpose[0],
            transpose_b: transpose[1],
            zero_point_a: zero_point(&mut noise, types[0]),
            zero_point_b: zero_point(&mut noise, types[1]),
        });
        prop_assert!(sums(&mut b, op, &[x, y]));
        check_exact(&b, &tensors[..if constant { 1 } else { 2 }]);
    }

    #[test]
    fn products_with_weights(
        outer in prop::collection::vec(1usize..6, 0..4), [inner, columns] in [1usize..50, 1..40], transpose_b: bool,
        signed: [bool; 2], seed: u64,
    ) {
        let mut noise = Noise(seed);
        let types = signed.map(code_type);
        let mut shape = outer;
        shape.push(inner);
        let kernel = if transpose_b { [columns, inner] } else { [inner, columns] };
        let mut b = Builder::default();
        let x = b.input(types[0], &shape);
        let weights = codes(&mut noise, types[1], &kernel);
        let w = b.constant(weights);
        let op = Op::QuantizedMatMul(QuantizedMatMul {
            transpose_b,
            data_zero_point: zero_point(&mut noise, types[0]),
            weight_zero_point: (0..columns).map(|_| zero_point(&mut noise, types[1])).collect(),
        });
        prop_assert!(sums(&mut b, op, &[x, w]));
        check_exact(&b, &[codes(&mut noise, types[0], &shape)]);
    }
}
