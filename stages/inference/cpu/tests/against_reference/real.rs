//! f32 kernels against the reference evaluator: equal bits where the order of roundings is stated, and one unit in the
//! last place where functions are approximated.

use flow_cpu::kernels::Isa;
use flow_model::op::{
    AutoPad, BinaryKind, ConvAttrs, CoordinateMode, DeconvAttrs, EpsMode, InterpolateAttrs, InterpolateMode,
    MvnAttrs, MvnAxes, NearestMode, Op, PoolAttrs, ReduceKind, UnaryKind,
};
use flow_model::{ElementType, Tensor, Value};
use proptest::prelude::*;

use crate::support::{Builder, Noise, image, run};

/// Runs on every instruction set, which must agree in every bit, and compares: at most `units` in the last place.
pub fn check_bits(b: &Builder, inputs: &[Tensor], units: i64) {
    let expected = flow_model::evaluate(&b.graph, inputs).unwrap();
    let found = run(&b.graph, inputs, None);
    for isa in [Isa::Scalar, Isa::Avx2] {
        assert_eq!(run(&b.graph, inputs, Some(isa)), found, "{isa} differs");
    }
    for (found, expected) in found.iter().zip(&expected) {
        assert_eq!(found.shape(), expected.shape());
        assert_eq!(found.element_type(), expected.element_type());
        if found.element_type() != ElementType::F32 {
            assert_eq!(found, expected);
            continue;
        }
        for (f, e) in found.to_f32().into_iter().zip(expected.to_f32()) {
            let apart = (i64::from(f.to_bits()) - i64::from(e.to_bits())).abs();
            assert!(
                f == e || (f.is_nan() && e.is_nan()) || apart <= units,
                "{f} is not {e}"
            );
        }
    }
}

/// A value that is an image in memory, as it is behind a pooling.
pub fn as_image(b: &mut Builder, x: Value) -> Value {
    let shape = b.shape(x);
    let pool = Op::MaxPool(PoolAttrs {
        kernel: vec![1, 1],
        strides: vec![1, 1],
        dilations: vec![1, 1],
        pads_begin: vec![0, 0],
        pads_end: vec![0, 0],
        auto_pad: AutoPad::Explicit,
        ceil: false,
    });
    b.node(pool, &[x], ElementType::F32, &shape)
}

fn broadcast(a: &[usize], b: &[usize]) -> Vec<usize> {
    a.iter().zip(b).map(|(&a, &b)| a.max(b)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn binary_operations_broadcast(
        shape in [1usize..3, 1..6, 1..5, 1..40], ones in [any::<[bool; 4]>(), any::<[bool; 4]>()], seed: u64, images: bool,
    ) {
        let shapes = ones.map(|ones| std::array::from_fn::<usize, 4, _>(|i| if ones[i] { 1 } else { shape[i] }));
        let out = broadcast(&shapes[0], &shapes[1]);
        let mut b = Builder::default();
        let inputs = shapes.map(|s| b.input(ElementType::F32, &s));
        let [mut x, y] = inputs;
        if images {
            x = as_image(&mut b, x);
        }
        for kind in [
            BinaryKind::Add, BinaryKind::Subtract, BinaryKind::Multiply, BinaryKind::Divide, BinaryKind::Maximum,
            BinaryKind::Minimum, BinaryKind::SquaredDifference, BinaryKind::Power, BinaryKind::Mod, BinaryKind::FloorMod,
        ] {
            let z = b.node(Op::Binary(kind), &[x, y], ElementType::F32, &out);
            b.result(z);
        }
        let mut noise = Noise(seed);
        let tensors = shapes.map(|s| image(&mut noise, &s));
        check_bits(&b, &tensors, 0);
    }

    #[test]
    fn functions(shape in [1usize..3, 1..6, 1..5, 1..70], seed: u64, images: bool) {
        let mut b = Builder::default();
        let mut x = b.input(ElementType::F32, &shape);
        if images {
            x = as_image(&mut b, x);
        }
        for kind in [
            UnaryKind::Relu, UnaryKind::Tanh, UnaryKind::Log, UnaryKind::Sqrt, UnaryKind::Abs, UnaryKind::Negative,
            UnaryKind::Floor, UnaryKind::Ceiling, UnaryKind::Sin, UnaryKind::Atan, UnaryKind::SoftSign,
            UnaryKind::Round { half_to_even: true }, UnaryKind::Round { half_to_even: false }, UnaryKind::HSwish, UnaryKind::HSigmoid, UnaryKind::Gelu { tanh: false }, UnaryKind::Gelu { tanh: true }, UnaryKind::Mish, UnaryKind::SoftPlus,
            UnaryKind::Erf,
        ] {
            let y = b.unary(Op::Unary(kind), x, ElementType::F32);
            b.result(y);
        }
        let slope = b.constant(Tensor::from_slice(&[shape[1]], &vec![0.3f32; shape[1]]).unwrap());
        let y = b.node(Op::PRelu, &[x, slope], ElementType::F32, &shape);
        b.result(y);
        let y = b.unary(Op::Clamp { min: -0.5, max: 0.7 }, x, ElementType::F32);
        b.result(y);
        for exponent in [2.0f32, 3.0, 0.5, -1.0] {
            let exponent = b.constant(Tensor::scalar(exponent));
            let y = b.node(Op::Binary(BinaryKind::Power), &[x, exponent], ElementType::F32, &shape);
            b.result(y);
        }
        check_bits(&b, &[image(&mut Noise(seed), &shape)], 0);
    }

    #[test]
    fn exponentials(shape in [1usize..3, 1..6, 1..5, 1..70], seed: u64) {
        let mut b = Builder::default();
        let x = b.input(ElementType::F32, &shape);
        for kind in [
            UnaryKind::Sigmoid, UnaryKind::Exp, UnaryKind::Swish { beta: 1.7 }, UnaryKind::Elu { alpha: 0.7 },
        ] {
            let y = b.unary(Op::Unary(kind), x, ElementType::F32);
            b.result(y);
        }
        check_bits(&b, &[image(&mut Noise(seed), &shape)], 0);
    }

    #[test]
    fn normalizations(
        shape in [1usize..4, 1..20, 1..6, 1..50], axes in any::<[bool; 4]>(), variance: bool, outside: bool, seed: u64,
    ) {
        let mut b = Builder::default();
        let x = b.input(ElementType::F32, &shape);
        let list: Vec<i64> = (0..4).filter(|&i| axes[i as usize]).collect();
        prop_assume!(!list.is_empty());
        let list = b.constant(Tensor::from_slice(&[list.len()], &list).unwrap());
        let mvn = Op::Mvn(MvnAttrs {
            axes: MvnAxes::Input,
            normalize_variance: variance,
            eps: 1e-3,
            eps_outside: outside,
        });
        let y = b.node(mvn, &[x, list], ElementType::F32, &shape);
        b.result(y);
        for eps_mode in [EpsMode::Add, EpsMode::Max] {
            let y = b.node(Op::NormalizeL2 { eps: 0.5, eps_mode }, &[x, list], ElementType::F32, &shape);
            b.result(y);
        }
        check_bits(&b, &[image(&mut Noise(seed), &shape)], 1);
    }

    #[test]
    fn pooling_over_one_to_three_axes(
        axes in prop::collection::vec(([4usize..10, 1..4], [1usize..3, 0..2, 0..2]), 1..4), ceil: bool, seed: u64,
    ) {
        let of = |f: fn(&([usize; 2], [usize; 3])) -> usize| axes.iter().map(f).collect::<Vec<_>>();
        let pool = PoolAttrs {
            kernel: of(|a| a.0[1]),
            strides: of(|a| a.1[0]),
            dilations: vec![1; axes.len()],
            pads_begin: of(|a| a.1[1].min(a.0[1] - 1)),
            pads_end: of(|a| a.1[2].min(a.0[1] - 1)),
            auto_pad: AutoPad::Explicit,
            ceil,
        };
        let shape: Vec<usize> = [2, 5].into_iter().chain(axes.iter().map(|a| a.0[0])).collect();
        let input = image(&mut Noise(seed), &shape);
        let mut b = Builder::default();
        let x = b.input(ElementType::F32, &shape);
        for op in [
            Op::MaxPool(pool.clone()),
            Op::AvgPool { pool: pool.clone(), exclude_pad: true },
            Op::AvgPool { pool, exclude_pad: false },
        ] {
            let Ok(pooled) = flow_model::ops::evaluate(&op, std::slice::from_ref(&input)) else {
                continue;
            };
            let y = b.node(op, &[x], ElementType::F32, pooled[0].shape());
            b.result(y);
        }
        check_bits(&b, &[input], 0);
    }

    #[test]
    fn interpolation(
        [h, w, oh, ow] in [1usize..9, 1..9, 1..20, 1..20], c in 1usize..6, kind in 0usize..3, coordinates in 0usize..5,
        antialias: bool, images: bool, seed: u64,
    ) {
        let attrs = InterpolateAttrs {
            mode: [InterpolateMode::Linear, InterpolateMode::LinearOnnx, InterpolateMode::Cubic][kind],
            by_scales: false,
            coordinates: [
                CoordinateMode::HalfPixel, CoordinateMode::PytorchHalfPixel, CoordinateMode::Asymmetric,
                CoordinateMode::TfHalfPixelForNn, CoordinateMode::AlignCorners,
            ][coordinates],
            nearest: NearestMode::RoundPreferFloor,
            antialias,
            cube_coeff: -0.75,
            pads_begin: vec![],
            pads_end: vec![],
            version: 11,
        };
        let shape = [2, c, h, w];
        let mut b = Builder::default();
        let x = b.input(ElementType::F32, &shape);
        let sizes = b.constant(Tensor::from_slice(&[2], &[oh as i64, ow as i64]).unwrap());
        let axes = b.constant(Tensor::from_slice(&[2], &[2i64, 3]).unwrap());
        let mut y = b.node(Op::Interpolate(attrs), &[x, sizes, axes], ElementType::F32, &[2, c, oh, ow]);
        if images {
            y = as_image(&mut b, y);
        }
        b.result(y);
        check_bits(&b, &[image(&mut Noise(seed), &shape)], 0);
    }

    #[test]
    fn integers_booleans_and_conversions(shape in [1usize..4, 1..20], seed: u64) {
        let mut b = Builder::default();
        let wide = [shape[0], 1, shape[1]];
        let tall = [3, 1];
        let all = [shape[0], 3, shape[1]];
        let mut noise = Noise(seed);
        let mut inputs = vec![];
        for t in [ElementType::I32, ElementType::I64, ElementType::U8, ElementType::F32] {
            let mut tensor = |shape: &[usize]| {
                let values: Vec<i128> = (0..shape.iter().product::<usize>())
                    .map(|_| i128::from(noise.next() % 9) - if t == ElementType::U8 { 0 } else { 4 })
                    .collect();
                let tensor = Tensor::from_i128(t, shape, &values).unwrap();
                inputs.push(tensor);
                b.input(t, shape)
            };
            let (x, y) = (tensor(&wide), tensor(&tall));
            if t != ElementType::F32 {
                for kind in [
                    BinaryKind::Add, BinaryKind::Subtract, BinaryKind::Multiply, BinaryKind::Maximum,
                    BinaryKind::Minimum,
                ] {
                    let z = b.node(Op::Binary(kind), &[x, y], t, &all);
                    b.result(z);
                }
            }
            for kind in [
                BinaryKind::Equal, BinaryKind::NotEqual, BinaryKind::Less, BinaryKind::LessEqual, BinaryKind::Greater,
                BinaryKind::GreaterEqual,
            ] {
                let z = b.node(Op::Binary(kind), &[x, y], ElementType::Boolean, &all);
                let chosen = b.node(Op::Select, &[z, x, y], t, &all);
                b.result(chosen);
                let w = b.node(Op::Binary(BinaryKind::LogicalXor), &[z, z], ElementType::Boolean, &all);
                b.result(w);
            }
            for to in [ElementType::F32, ElementType::I32, ElementType::I64, ElementType::U8, ElementType::Boolean] {
                let z = b.unary(Op::Convert(to), x, to);
                if to != t {
                    b.result(z);
                }
            }
        }
        check_bits(&b, &inputs, 0);
    }

    #[test]
    fn deconvolutions(
        axes in prop::collection::vec(([1usize..8, 1..5], [1usize..4, 1..3, 0..3, 0..3]), 1..3), groups in 1usize..4,
        [ic, oc] in [1usize..12, 1..20], depthwise: bool, seed: u64,
    ) {
        let (ic, oc) = if depthwise { (1, 1) } else { (ic, oc) };
        let mut noise = Noise(seed);
        let of = |i: usize| axes.iter().map(|a| a.1[i]).collect::<Vec<_>>();
        let signed = |i: usize| axes.iter().map(|a| a.1[i] as isize).collect::<Vec<_>>();
        let shape: Vec<usize> = [2, ic * groups].into_iter().chain(axes.iter().map(|a| a.0[0])).collect();
        let kernel: Vec<usize> = [groups, ic, oc].into_iter().chain(axes.iter().map(|a| a.0[1])).collect();
        let op = Op::GroupConvolutionBackpropData(DeconvAttrs {
            conv: ConvAttrs {
                strides: of(0),
                dilations: of(1),
                pads_begin: signed(2),
                pads_end: signed(3),
                auto_pad: AutoPad::Explicit,
            },
            output_padding: vec![0; axes.len()],
        });
        let (input, weights) = (image(&mut noise, &shape), image(&mut noise, &kernel));
        let Ok(outputs) = flow_model::ops::evaluate(&op, &[input.clone(), weights.clone()]) else {
            return Ok(());
        };
        let mut b = Builder::default();
        let x = b.input(ElementType::F32, &shape);
        let w = b.constant(weights);
        let y = b.node(op, &[x, w], ElementType::F32, outputs[0].shape());
        b.result(y);
        let found = run(&b.graph, std::slice::from_ref(&input), None);
        for (f, e) in found[0].to_f32().iter().zip(outputs[0].to_f32()) {
            prop_assert!((f - e).abs() <= 1e-4 * e.abs().max(1.0), "{f} is not {e}");
        }
    }

    #[test]
    fn softmax_along_every_axis(shape in [1usize..3, 1..20, 1..5, 1..90], seed: u64, images: bool) {
        let mut b = Builder::default();
        let mut x = b.input(ElementType::F32, &shape);
        if images {
            x = as_image(&mut b, x);
        }
        for axis in [0, 1, 2, 3, -1, -3] {
            let y = b.unary(Op::Softmax { axis }, x, ElementType::F32);
            b.result(y);
        }
        check_bits(&b, &[image(&mut Noise(seed), &shape)], 0);
    }

    #[test]
    fn reductions_over_any_axes(
        shape in [1usize..4, 1..20, 1..6, 1..50], axes in any::<[bool; 4]>(), keep_dims: bool, seed: u64, images: bool,
    ) {
        let mut b = Builder::default();
        let mut x = b.input(ElementType::F32, &shape);
        if images {
            x = as_image(&mut b, x);
        }
        let list: Vec<i64> = (0..4).filter(|&i| axes[i as usize]).collect();
        let out: Vec<usize> = (0..4)
            .filter_map(|i| match (axes[i], keep_dims) {
                (true, true) => Some(1),
                (true, false) => None,
                _ => Some(shape[i]),
            })
            .collect();
        let list = b.constant(Tensor::from_slice(&[list.len()], &list).unwrap());
        for kind in [
            ReduceKind::Mean, ReduceKind::Sum, ReduceKind::Max, ReduceKind::Min, ReduceKind::Prod, ReduceKind::L2,
        ] {
            let y = b.node(Op::Reduce { kind, keep_dims }, &[x, list], ElementType::F32, &out);
            b.result(y);
        }
        check_bits(&b, &[image(&mut Noise(seed), &shape)], 0);
    }

    #[test]
    fn matrix_products_of_any_rank(
        batch in prop::collection::vec((1usize..4, any::<[bool; 2]>()), 0..3),
        [rows, inner, columns] in [1usize..20, 1..50, 1..40],
        vectors in any::<[bool; 2]>(), transpose in any::<[bool; 2]>(), constant: bool, deep: bool, seed: u64,
    ) {
        let inner = if deep { inner + 1024 } else { inner };
        let shapes = [0, 1].map(|k| -> Vec<usize> {
            if vectors[k] && batch.is_empty() {
                return vec![inner];
            }
            let own = batch.iter().map(|(n, ones)| if ones[k] { 1 } else { *n });
            let mut last = if k == 0 { [rows, inner] } else { [inner, columns] };
            if transpose[k] {
                last.reverse();
            }
            own.chain(last).collect()
        });
        let mut noise = Noise(seed);
        let tensors = [0, 1].map(|k| image(&mut noise, &shapes[k]));
        let mut b = Builder::default();
        let x = b.input(ElementType::F32, &shapes[0]);
        let y = if constant { b.constant(tensors[1].clone()) } else { b.input(ElementType::F32, &shapes[1]) };
        let op = Op::MatMul { transpose_a: transpose[0], transpose_b: transpose[1] };
        let product = flow_model::ops::evaluate(&op, &tensors).unwrap();
        let z = b.node(op, &[x, y], ElementType::F32, product[0].shape());
        b.result(z);
        check_bits(&b, &tensors[..if constant { 1 } else { 2 }], 0);
    }
}
