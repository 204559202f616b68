//! Shipped pipelines on real networks and media. Needs `FLOW_SHARED`: a folder with `models` and `media`.
#![cfg(feature = "models")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests")]

use std::path::{Path, PathBuf};

use flow_tests::command::{Flowrun, assert_balanced, json, lines};
use serde_json::Value as Json;

const FLOWRUN: &str = env!("CARGO_BIN_EXE_flowrun-under-test");

fn shared(path: &str) -> PathBuf {
    let root = std::env::var_os("FLOW_SHARED").expect("FLOW_SHARED: the folder with models and media");
    PathBuf::from(root).join(path)
}

fn model(name: &str) -> PathBuf {
    shared(&format!("models/{name}.xml"))
}

/// Runs a shipped pipeline into `folder` and gives its summary.
fn run(pipeline: &str, model: &Path, input: &Path, folder: &Path, more: &[&str]) -> Json {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../pipelines/{pipeline}.yaml"));
    let arguments = ["run", file.to_str().unwrap(), "--summary", "summary.json"];
    Flowrun::new(FLOWRUN, folder, arguments.iter().chain(more))
        .env("MODEL", model)
        .env("INPUT", input)
        .env("OUT", folder)
        .run()
        .expect(0);
    let summary = json(folder.join("summary.json"));
    assert_balanced(&summary);
    summary
}

/// Frames of a clip that was written.
fn frames_of(clip: &Path) -> Json {
    let folder = tempfile::tempdir().unwrap();
    let text = format!(
        "version: 1\nsources:\n  clip: {{type: file, path: {clip:?}}}\nstages:\n  \
         decode: {{type: decode, inputs: [clip]}}\nsinks:\n  done: {{type: null, inputs: [decode]}}\n"
    );
    std::fs::write(folder.path().join("p.yaml"), text).unwrap();
    let command = Flowrun::new(FLOWRUN, folder.path(), ["run", "p.yaml", "--summary", "-"]);
    command.run().expect(0).json()["ledger"]["out"].clone()
}

#[test]
fn every_frame_of_a_clip_is_searched_for_faces_and_people() {
    let clip = shared("media/one-by-one-person-detection.mp4");
    for (pipeline, network) in [("faces", "ultraface-rfb-320-int8"), ("people", "fastestdet-int8")] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        let summary = run(pipeline, &model(network), &clip, path, &[]);
        assert_eq!(summary["ledger"]["in"], 1394, "{pipeline}");
        assert_eq!(summary["ledger"]["out"], 1394, "{pipeline}");
        let lines = lines(path.join(format!("{pipeline}.jsonl")));
        assert_eq!(lines.len(), 1394);
        assert!(lines.iter().zip(0u64..).all(|(l, seq)| l["seq"] == seq));
        let with = lines
            .iter()
            .filter(|l| !l["detections"].as_array().unwrap().is_empty())
            .count();
        // People walk in one by one, with pauses; their faces are not always turned to the camera.
        let range = if pipeline == "people" { 500..1394 } else { 50..1394 };
        assert!(range.contains(&with), "{pipeline}: found in {with} frames");
        assert_eq!(frames_of(&path.join(format!("{pipeline}.avi"))), 1394);
    }
}

#[test]
fn pictures_are_classified_as_the_manifest_says() {
    let manifest = json(shared("models/manifest.json"));
    for network in ["mobilenet-v2-ptq-int8", "mobilenet-v2-qat-uint8"] {
        let expected = expected_classes(&manifest, network);
        assert!(expected.len() >= 3, "{expected:?}");
        for (picture, class) in expected {
            let folder = tempfile::tempdir().unwrap();
            let input = shared("media").join(&picture);
            run("classify-folder", &model(network), &input, folder.path(), &[]);
            let lines = lines(folder.path().join("classes.jsonl"));
            assert_eq!(lines.len(), 1);
            assert_eq!(lines[0]["classes"][0]["class"], class, "{network} on {picture}");
        }
    }
}
