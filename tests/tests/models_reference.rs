//! The reference evaluator and the IR reader and writer over the real models in `FLOW_SHARED`.
#![cfg(feature = "models")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests")]

use std::path::{Path, PathBuf};

use flow_model::{Graph, Op, Tensor, evaluate, ir, npy, passes};

/// The folder with `models` and `oracle`.
fn shared() -> PathBuf {
    PathBuf::from(
        std::env::var_os("FLOW_SHARED").expect("FLOW_SHARED names the folder with models and oracle"),
    )
}

fn models() -> Vec<PathBuf> {
    let files = std::fs::read_dir(shared().join("models")).unwrap();
    let mut models: Vec<PathBuf> = files.map(|f| f.unwrap().path()).collect();
    models.retain(|p| p.extension().is_some_and(|e| e == "xml"));
    models.sort();
    assert!(models.len() >= 8, "expected the eight models, found {models:?}");
    models
}

/// The samples of a model: paths without the ending `.in.npy`.
fn samples(model: &Path) -> Vec<String> {
    let folder = shared().join("oracle").join(model.file_stem().unwrap());
    let files = std::fs::read_dir(folder).unwrap();
    let mut samples: Vec<String> = files
        .filter_map(|f| Some(f.unwrap().path().to_str()?.strip_suffix(".in.npy")?.to_owned()))
        .collect();
    samples.sort();
    assert!(!samples.is_empty(), "no oracle for {}", model.display());
    samples
}

/// `||a - b|| / ||b||`.
fn error(a: &[f64], b: &[f64]) -> f64 {
    let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|v| v * v).sum::<f64>().sqrt();
    norm(&mut a.iter().zip(b).map(|(x, y)| x - y)) / norm(&mut b.iter().copied())
}

/// Largest error allowed per network: what is left of the last bits of exponentials, and where the stored
/// outputs themselves are not what the network says (`docs/numerics.md`): OpenVINO quantizes the input of a
/// matrix product with compressed weights once more.
fn allowed(model: &str) -> f64 {
    match model {
        "fastestdet-fp32" | "ultraface-rfb-320-fp32" => 1e-6,
        "movenet-lightning-int8" | "mobilenet-v2-ptq-int8" | "mobilenet-v2-qat-uint8" => 0.0,
        "ultraface-rfb-320-int8" | "fastestdet-int8" => 1e-3,
        "resnet50-int8" => 0.05,
        _ => 1e-4,
    }
}

/// The stored output with a defect of OpenVINO undone: without low precision transformations it swaps rows and
/// columns of the class planes of this network, those after the first five.
fn mended(model: &str, stored: &Tensor) -> Vec<f64> {
    let mut values = stored.to_f64();
    if let ("fastestdet-int8", [1, channels, height, width]) = (model, stored.shape()) {
        let swapped = values.clone();
        for c in 5..*channels {
            for y in 0..*height {
                for x in 0..*width {
                    let plane = c * height * width;
                    values[plane + y * width + x] = swapped[plane + x * height + y];
                }
            }
        }
    }
    values
}

#[test]
fn the_evaluator_agrees_with_the_oracle() {
    for path in models() {
        let model = path.file_stem().and_then(|s| s.to_str()).unwrap();
        let graph = ir::read(&path).unwrap();
        for base in samples(&path) {
            let input = npy::read(format!("{base}.in.npy")).unwrap();
            for (i, output) in evaluate(&graph, &[input]).unwrap().iter().enumerate() {
                let literal = npy::read(format!("{base}.literal.{i}.npy")).unwrap();
                assert_eq!(output.element_type(), literal.element_type());
                assert_eq!(output.shape(), literal.shape());
                let error = error(&output.to_f64(), &mended(model, &literal));
                assert!(error <= allowed(model), "{base} output {i}: error {error}");
            }
        }
    }
}

#[test]
fn models_are_written_and_read_back_equal() {
    let folder = tempfile::tempdir().unwrap();
    for model in models() {
        let graph = ir::read(&model).unwrap();
        let path = folder.path().join(model.file_name().unwrap());
        ir::write(&graph, &path).unwrap();
        let again = ir::read(&path).unwrap();
        assert_eq!(graph.nodes.len(), again.nodes.len());
        for (a, b) in graph.nodes.iter().zip(&again.nodes) {
            assert_eq!((&a.name, &a.inputs, &a.outputs), (&b.name, &b.inputs, &b.outputs));
            match (&a.op, &b.op) {
                (Op::Constant(x), Op::Constant(y)) => assert!(x == y, "{}", a.name),
                (x, y) => assert_eq!(format!("{x:?}"), format!("{y:?}"), "{}", a.name),
            }
        }
    }
}

#[test]
fn folding_keeps_results_and_quantized_weights() {
    let model = shared().join("models/ultraface-rfb-320-int8.xml");
    let graph = ir::read(&model).unwrap();
    let folded = passes::fold_constants(&graph).unwrap();
    let converts = |g: &Graph| g.nodes.iter().filter(|n| matches!(n.op, Op::Convert(_))).count();
    assert_eq!(converts(&graph), converts(&folded));
    assert!(!folded.nodes.iter().any(|n| matches!(n.op, Op::ShapeOf(_))));
    let input = npy::read(format!("{}.in.npy", samples(&model)[0])).unwrap();
    let inputs = std::slice::from_ref(&input);
    assert_eq!(
        evaluate(&graph, inputs).unwrap(),
        evaluate(&folded, inputs).unwrap()
    );
}
