//! The demo detector on every instruction set of this machine: the same bits, and no set skipped.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::path::{Path, PathBuf};

use flow_cpu::kernels::Isa;
use flow_inference::{Engine, Numerics, Options};
use flow_model::Tensor;
use flow_tests::command::Flowrun;

const FLOWRUN: &str = env!("CARGO_BIN_EXE_flowrun-under-test");

fn detector() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../pipelines/demo/detector-int8.xml")
}

/// A picture of gradients and specks, the same on every run.
fn picture(shape: &[usize]) -> Tensor {
    let mut state = 1_u32;
    let values: Vec<f32> = (0..shape.iter().product())
        .map(|i| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let speck = if state >> 28 == 0 { 1.0 } else { 0.0 };
            ((i % 320) as f32 / 160.0 - 1.0) * 0.7 + speck * 0.3
        })
        .collect();
    Tensor::from_slice(shape, &values).unwrap()
}

#[test]
fn the_detector_gives_the_same_bits_on_every_instruction_set() {
    for numerics in [Numerics::Literal, Numerics::OpenVino] {
        let mut first: Option<Vec<Tensor>> = None;
        let mut ran = Vec::new();
        for isa in Isa::ALL {
            let options = Options {
                numerics,
                isa: Some(isa),
                ..Options::default()
            };
            let engine = Engine::load(detector(), &options).unwrap();
            let outputs = engine.infer(&[picture(&engine.inputs()[0].shape)]).unwrap();
            let used = engine.program().unwrap().isa();
            assert!(used <= isa);
            ran.push(used);
            match &first {
                None => first = Some(outputs),
                Some(first) => assert!(first == &outputs, "{used} differs, {numerics:?}"),
            }
        }
        ran.dedup();
        let has: Vec<Isa> = Isa::ALL.into_iter().filter(|isa| isa.is_supported()).collect();
        assert_eq!(ran, has, "an instruction set of this machine was skipped");
    }
}

#[test]
fn an_instruction_set_is_capped_by_option_and_by_variable() {
    let folder = tempfile::tempdir().unwrap();
    let model = detector().display().to_string();
    let inspect = |arguments: &[&str], cap: Option<&str>| {
        let all: Vec<&str> = ["model", "inspect", &model]
            .into_iter()
            .chain(arguments.iter().copied())
            .collect();
        let command = Flowrun::new(FLOWRUN, folder.path(), all);
        match cap {
            Some(cap) => command.env("FLOW_MAX_ISA", cap).run(),
            None => command.run(),
        }
    };
    let kernels = inspect(&["--isa", "scalar"], None);
    assert!(
        kernels.stdout.contains("conv_u8s8_3x3_scalar"),
        "{}",
        kernels.stdout
    );
    let kernels = inspect(&[], Some("scalar"));
    assert!(
        kernels.stdout.contains("conv_u8s8_3x3_scalar"),
        "{}",
        kernels.stdout
    );
    let kernels = inspect(&["--isa", "avx512vnni"], Some("scalar"));
    assert!(
        kernels.stdout.contains("conv_u8s8_3x3_scalar"),
        "{}",
        kernels.stdout
    );
    if Isa::Avx2.is_supported() {
        let kernels = inspect(&["--isa", "avx2"], None);
        assert!(
            kernels.stdout.contains("conv_u8s8_3x3_avx2_maddubs"),
            "{}",
            kernels.stdout
        );
    }
    let wrong = inspect(&["--isa", "avx1024"], None);
    assert!(
        wrong.stderr.contains("avx1024") && wrong.stderr.contains("avx512vnni"),
        "{}",
        wrong.stderr
    );
    let wrong = inspect(&[], Some("avx1024"));
    assert!(
        wrong.stderr.contains("FLOW_MAX_ISA") && wrong.stderr.contains("avx512vnni"),
        "{}",
        wrong.stderr
    );
}
