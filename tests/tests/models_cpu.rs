//! The CPU plugin on real models. Needs `FLOW_SHARED`: a folder with `models` and `oracle`.
#![cfg(feature = "models")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests")]

use std::path::PathBuf;

use flow_inference::{Device, Engine, Options};
use flow_model::Tensor;

fn shared(path: &str) -> PathBuf {
    let root = std::env::var_os("FLOW_SHARED").expect("FLOW_SHARED: the folder with models and oracle");
    PathBuf::from(root).join(path)
}

fn load(model: &str, options: &Options) -> Engine {
    Engine::load(shared(&format!("models/{model}.xml")), options).unwrap()
}

fn input(model: &str, sample: &str) -> Tensor {
    flow_model::npy::read(shared(&format!("oracle/{model}/{sample}.in.npy"))).unwrap()
}

/// `||a - b|| / ||b||`.
fn error(a: &Tensor, b: &Tensor) -> f64 {
    assert_eq!(a.shape(), b.shape());
    let (a, b) = (a.to_f64(), b.to_f64());
    let difference: f64 = a.iter().zip(&b).map(|(a, b)| (a - b) * (a - b)).sum();
    (difference / b.iter().map(|b| b * b).sum::<f64>()).sqrt()
}

#[test]
fn f32_models_agree_with_the_reference() {
    for (model, sample) in [
        ("ultraface-rfb-320-fp32", "face_1.jpg"),
        ("fastestdet-fp32", "fd_3.jpg"),
    ] {
        let found = load(model, &Options::default())
            .infer(&[input(model, sample)])
            .unwrap();
        for (i, found) in found.iter().enumerate() {
            let expected = shared(&format!("oracle/{model}/{sample}.literal.{i}.npy"));
            let expected = flow_model::npy::read(expected).unwrap();
            let error = error(found, &expected);
            assert!(error < 1e-4, "{model} output {i}: error {error}");
        }
    }
}

#[test]
fn every_convolution_and_product_has_an_integer_kernel() {
    for (model, count) in [
        ("resnet50-int8", 54),
        ("mobilenet-v2-ptq-int8", 53),
        ("mobilenet-v2-qat-uint8", 53),
        ("movenet-lightning-int8", 74),
        ("ultraface-rfb-320-int8", 52),
        ("fastestdet-int8", 70),
    ] {
        let engine = load(model, &Options::default());
        let integer = engine
            .program()
            .unwrap()
            .steps()
            .iter()
            .filter(|s| s.kernel.starts_with("conv_u8") || s.kernel.starts_with("depthwise_u8"))
            .count();
        assert_eq!(integer, count, "{model}");
    }
}

/// Rounding at a tie may go either way in one layer, and networks amplify it; classes survive.
#[test]
fn classifiers_find_the_class_of_the_picture() {
    for model in ["mobilenet-v2-ptq-int8", "mobilenet-v2-qat-uint8"] {
        let engine = load(model, &Options::default());
        for (sample, class) in [
            ("cat.bmp", 286),
            ("parrot.jpg", 89),
            ("grace_hopper.bmp", 653),
            ("sunflower.bmp", 986),
        ] {
            let scores = engine.infer(&[input(model, sample)]).unwrap()[0].to_f64();
            let best = scores
                .iter()
                .enumerate()
                .max_by(|a, b| a.1.total_cmp(b.1))
                .unwrap()
                .0;
            assert_eq!(best, class, "{model} {sample}");
        }
    }
}

#[test]
fn integer_models_give_the_same_bits_on_every_instruction_set() {
    for (model, sample) in [
        ("ultraface-rfb-320-int8", "face_1.jpg"),
        ("mobilenet-v2-qat-uint8", "cat.bmp"),
    ] {
        let input = [input(model, sample)];
        let best = load(model, &Options::default()).infer(&input).unwrap();
        let options = Options {
            isa: Some(flow_cpu::kernels::Isa::Scalar),
            ..Options::default()
        };
        let scalar = load(model, &options).infer(&input).unwrap();
        assert_eq!(best, scalar, "{model}");
    }
}

#[test]
fn integer_models_stay_close_to_the_reference_evaluator() {
    for (model, sample, limit) in [
        ("ultraface-rfb-320-int8", "face_1.jpg", 0.003),
        ("mobilenet-v2-qat-uint8", "cat.bmp", 0.03),
        ("mobilenet-v2-ptq-int8", "cat.bmp", 0.03),
    ] {
        let input = [input(model, sample)];
        let reference = Options {
            device: Device::Reference,
            ..Options::default()
        };
        let expected = load(model, &reference).infer(&input).unwrap();
        let found = load(model, &Options::default()).infer(&input).unwrap();
        for (found, expected) in found.iter().zip(&expected) {
            let error = error(found, expected);
            assert!(error < limit, "{model}: error {error}");
        }
    }
}

/// Without low precision transformations every FakeQuantize is computed in f32, as the network says: by the kernels to
/// the last bit as by the reference evaluator.
#[test]
fn quantized_models_in_f32_equal_the_reference_evaluator() {
    for (model, sample, literal) in [
        ("mobilenet-v2-ptq-int8", "cat.bmp", true),
        ("mobilenet-v2-qat-uint8", "cat.bmp", true),
        ("movenet-lightning-int8", "squat.bmp", true),
        // OpenVINO quantizes products with compressed weights once more (`docs/numerics.md`).
        ("resnet50-int8", "cat.bmp", false),
        ("ultraface-rfb-320-int8", "face_1.jpg", false),
        ("fastestdet-int8", "fd_3.jpg", false),
    ] {
        let input = [input(model, sample)];
        let [found, expected] = [Device::Cpu, Device::Reference].map(|device| {
            let options = Options {
                device,
                lpt: false,
                ..Options::default()
            };
            load(model, &options).infer(&input).unwrap()
        });
        assert_eq!(found, expected, "{model}");
        for (i, found) in found.iter().enumerate().filter(|_| literal) {
            let expected = shared(&format!("oracle/{model}/{sample}.literal.{i}.npy"));
            let error = error(found, &flow_model::npy::read(expected).unwrap());
            assert!(error < 1e-5, "{model} output {i}: error {error}");
        }
    }
}
