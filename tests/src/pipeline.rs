//! A pipeline file in a folder of its own, run there.

use std::path::Path;

use serde_json::Value as Json;
use tempfile::TempDir;

use crate::command::{Flowrun, assert_balanced, json};

/// An empty folder with that pipeline file in it.
pub fn folder(pipeline: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("pipeline.yaml"), pipeline).unwrap();
    folder
}

/// The command `run pipeline.yaml --summary summary.json`, with further arguments.
pub fn command(flowrun: &str, folder: &Path, more: &[&str]) -> Flowrun {
    let fixed = ["run", "pipeline.yaml", "--summary", "summary.json"];
    Flowrun::new(flowrun, folder, fixed.iter().chain(more))
}

/// Runs the pipeline in that folder; it must be free of loss. Gives its summary.
#[track_caller]
pub fn run(flowrun: &str, folder: &Path, more: &[&str]) -> Json {
    command(flowrun, folder, more).run().expect(0);
    summary(folder)
}

/// What a run in that folder said at its end; the books must balance.
#[track_caller]
pub fn summary(folder: &Path) -> Json {
    let summary = json(folder.join("summary.json"));
    assert_balanced(&summary);
    summary
}

/// So many packets came in, and so many went out.
#[track_caller]
pub fn assert_ledger(summary: &Json, taken: u64, out: u64) {
    assert_eq!(summary["ledger"]["in"], taken, "{summary}");
    assert_eq!(summary["ledger"]["out"], out, "{summary}");
}

/// Names of the files in a folder, sorted.
pub fn files(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}
