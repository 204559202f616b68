//! The reference evaluator and the IR reader and writer over the real models in `FLOW_SHARED`.
#![cfg(feature = "models")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests")]

use std::path::{Path, PathBuf};

use flow_model::{Graph, Op, evaluate, ir, npy, passes};

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

/// Float networks agree with OpenVINO to 1e-4. In quantized ones a difference in the last bit of an f32 sum
/// now and then moves a value to the next level, and what follows amplifies it; OpenVINO's own 8-bit execution
/// differs from its float simulation for the same reason, and measures how much the network amplifies.
#[test]
fn the_evaluator_agrees_with_the_oracle() {
    for model in models() {
        let graph = ir::read(&model).unwrap();
        for base in samples(&model) {
            let input = npy::read(format!("{base}.in.npy")).unwrap();
            for (i, output) in evaluate(&graph, &[input]).unwrap().iter().enumerate() {
                let literal = npy::read(format!("{base}.literal.{i}.npy")).unwrap();
                let openvino = npy::read(format!("{base}.openvino.{i}.npy")).unwrap();
                assert_eq!(output.element_type(), literal.element_type());
                assert_eq!(output.shape(), literal.shape());
                let (ours, literal) = (output.to_f64(), literal.to_f64());
                let (error, theirs) = (error(&ours, &literal), error(&openvino.to_f64(), &literal));
                let allowed = if model.to_str().unwrap().contains("fp32") {
                    1e-4
                } else {
                    (3.0 * theirs).max(0.025)
                };
                assert!(
                    error <= allowed,
                    "{base} output {i}: error {error}, OpenVINO's {theirs}"
                );
                if model.to_str().unwrap().contains("mobilenet") {
                    let top = |v: &[f64]| (0..v.len()).max_by(|&a, &b| v[a].total_cmp(&v[b]).then(b.cmp(&a)));
                    assert_eq!(top(&ours), top(&literal), "{base}: class");
                }
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
