//! `flowrun model quantize` and `flowrun model compare` on the demo's detector.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests")]

mod errors;
mod inputs;
mod interrupted;
mod metrics;
mod outputs;

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use flow_model::{Graph, NodeId, Op, Value};
use flow_tests::command::{Finished, Flowrun};
use tempfile::TempDir;

const FLOWRUN: &str = env!("CARGO_BIN_EXE_flowrun-under-test");
const PREPROCESS: &str = "{type: letterbox, pad: 114, mean: 127, scale: 128}";

/// A file of the repository.
fn repository(file: &str) -> String {
    let path = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    path.join(file).display().to_string()
}

fn detector() -> String {
    repository("pipelines/demo/detector-fp32.xml")
}

fn clip() -> String {
    repository("pipelines/demo/scene.mp4")
}

/// Runs `model quantize` on the detector.
#[track_caller]
fn quantize(folder: &Path, extra: &[&str]) -> Finished {
    let model = detector();
    let mut arguments = vec!["model", "quantize", model.as_str()];
    arguments.extend(extra);
    flowrun(folder, &arguments)
}

/// The network without its FakeQuantize operations.
fn in_f32(mut graph: Graph) -> Graph {
    let instead: HashMap<NodeId, Value> = graph
        .iter()
        .filter(|(_, n)| matches!(n.op, Op::FakeQuantize { .. }))
        .map(|(id, n)| (id, n.inputs[0]))
        .collect();
    for value in graph.nodes.iter_mut().flat_map(|n| &mut n.inputs) {
        *value = instead.get(&value.node).copied().unwrap_or(*value);
    }
    flow_model::passes::eliminate_dead(&graph)
}

/// Names of what a folder holds.
fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut names: Vec<String> = entries
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[track_caller]
fn flowrun(folder: &Path, arguments: &[&str]) -> Finished {
    Flowrun::new(FLOWRUN, folder, arguments).run()
}

/// A folder with some pictures of blobs, and one file that is none.
fn pictures(count: usize) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    std::fs::create_dir(&data).unwrap();
    for n in 0..count {
        let mut bytes = b"P6 64 48 255\n".to_vec();
        for (y, x) in (0..48i32).flat_map(|y| (0..64i32).map(move |x| (y, x))) {
            let near = (x - 8 * n as i32 - 10).pow(2) + (y - 20).pow(2) < 100;
            bytes.extend(if near {
                [230, 40, 20 * n as u8]
            } else {
                [(x * 3) as u8, (y * 4) as u8, 90]
            });
        }
        std::fs::write(data.join(format!("{n}.ppm")), bytes).unwrap();
    }
    std::fs::write(data.join("torn.jpg"), b"\xff\xd8\xff no picture").unwrap();
    folder
}

#[test]
fn a_model_is_quantized_and_compared_and_pictures_that_do_not_decode_are_named() {
    let folder = pictures(4);
    let model = detector();
    let common = ["--data", "data", "--preprocess", PREPROCESS, "--json"];
    let mut arguments = vec!["model", "quantize", &model, "-o", "q.xml", "--report", "q.html"];
    arguments.extend(common);
    let finished = flowrun(folder.path(), &arguments).expect(0);
    assert!(finished.stderr.contains("torn.jpg"), "{}", finished.stderr);
    let told = finished.json();
    assert_eq!(
        (&told["weights"], &told["skipped"]),
        (&13.into(), &1.into()),
        "{told}"
    );
    assert!(told["bytes"]["after"].as_u64().unwrap() * 3 < told["bytes"]["before"].as_u64().unwrap());
    let page = std::fs::read_to_string(folder.path().join("q.html")).unwrap();
    assert!(page.contains("<svg") && page.contains("stem"));

    let mut arguments = vec!["model", "compare", &model, "q.xml"];
    arguments.extend(common);
    let compared = flowrun(folder.path(), &arguments).expect(0).json();
    let error = compared["outputs"][0]["relative_error"].as_f64().unwrap();
    assert!(error > 0.0 && error < 0.2, "{error}");
    assert!(compared["layers"].as_array().unwrap().len() > 20);

    let inspected = flowrun(folder.path(), &["model", "inspect", "q.xml", "--json"])
        .expect(0)
        .json();
    let text = inspected.to_string();
    assert!(text.contains("conv_u8s8"), "{text}");
    let mut arguments = vec!["model", "quantize", "q.xml", "-o", "again.xml"];
    arguments.extend(common);
    let refused = flowrun(folder.path(), &arguments).expect(4);
    assert!(refused.stderr.contains("quantized already"), "{}", refused.stderr);
    assert!(!folder.path().join("again.xml").exists());
}

#[test]
fn a_threshold_holds_on_samples_held_out_or_the_command_fails() {
    let folder = pictures(4);
    let model = detector();
    let common = [
        "--data",
        "data",
        "--preprocess",
        PREPROCESS,
        "--json",
        "-o",
        "q.xml",
    ];
    let run = |extra: &[&str]| {
        let mut arguments = vec!["model", "quantize", model.as_str()];
        arguments.extend(common);
        arguments.extend(extra);
        flowrun(folder.path(), &arguments)
    };
    let told = run(&["--max-drop", "0.5"]).expect(0).json();
    assert_eq!(
        told["samples"].as_u64().unwrap() + told["accuracy"]["held_out"].as_u64().unwrap(),
        4
    );
    assert!(told["accuracy"]["reached"].as_f64().unwrap() >= 0.5, "{told}");
    // A command that gives every model but the first a bad score.
    let metric = "if [ -e seen ]; then echo 0.1; else touch seen; echo 1; fi";
    let failed = run(&["--max-drop", "0.5", "--metric", metric]).expect(4);
    assert!(failed.stderr.contains("--max-drop 0.5"), "{}", failed.stderr);
    let failed = run(&["--max-drop", "0.5", "--metric", "echo good"]).expect(4);
    assert!(failed.stderr.contains("`good`"), "{}", failed.stderr);
}

#[test]
fn what_cannot_work_fails_before_any_work() {
    let folder = pictures(0);
    let model = detector();
    let run = |extra: &[&str]| {
        let mut arguments = vec!["model", "quantize", model.as_str()];
        arguments.extend(extra);
        flowrun(folder.path(), &arguments)
    };
    let finished = run(&["--data", "data", "-o", "q.xml"]).expect(4);
    assert!(
        finished.stderr.contains("0 usable samples"),
        "{}",
        finished.stderr
    );
    let finished = run(&["--data", "data", "-o", "nowhere/q.xml"]).expect(4);
    assert!(finished.stderr.contains("nowhere"), "{}", finished.stderr);
    let finished = run(&["--data", "*.tiff", "-o", "q.xml"]).expect(2);
    assert!(finished.stderr.contains("*.tiff"), "{}", finished.stderr);
    let finished = run(&["--data", "data", "-o", "q.xml", "--preprocess", "{type: blur}"]).expect(2);
    assert!(finished.stderr.contains("blur"), "{}", finished.stderr);
    assert!(!folder.path().join("q.xml").exists());
}
