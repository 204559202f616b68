//! A run that was recorded is run again: the same packets, the same order, the same JSON lines byte for byte.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::path::Path;

use flow_tests::command::{Flowrun, assert_balanced, json};

const FLOWRUN: &str = env!("CARGO_BIN_EXE_flowrun-under-test");

/// Chance decides what comes through: two cameras into one file, by way of a full queue, a rate and a tracker, until the time
/// is over.
const CHANCE: &str = r#"
version: 1
sources:
  east: {type: synthetic, size: [64, 48], seed: 1}
  west: {type: synthetic, size: [64, 48], seed: 2, rate: 20}
stages:
  found: {type: truth, inputs: [east, west], replicas: 2}
  tracks:
    type: track
    inputs: [{from: found, queue: {capacity: 1, overflow: drop_oldest, lossy: all}}]
    rate_limit: {max: 400/s, on_exceed: drop}
    deadline: 5ms
sinks:
  lines: {type: jsonl, inputs: [tracks], path: "${OUT}.jsonl"}
  some: {type: jsonl, inputs: [found], path: "${OUT}.all.jsonl", required: false}
"#;

fn run(folder: &Path, out: &str, more: &[&str]) -> (Vec<u8>, Vec<u8>, serde_json::Value) {
    let fixed = ["--quiet", "run", "chance.yaml", "--summary", "summary.json"];
    let command = Flowrun::new(FLOWRUN, folder, fixed.iter().chain(more));
    command.env("OUT", out).run().expect(0);
    let summary = json(folder.join("summary.json"));
    assert_balanced(&summary);
    let read = |ending: &str| std::fs::read(folder.join(format!("{out}.{ending}"))).unwrap();
    (read("jsonl"), read("all.jsonl"), summary)
}

#[test]
fn a_replay_gives_the_same_lines_byte_for_byte() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    std::fs::write(path.join("chance.yaml"), CHANCE).unwrap();
    let (lines, some, summary) = run(
        path,
        "recorded",
        &["--duration", "1s", "--record", "headers.jsonl"],
    );
    let dropped = summary["ledger"]["dropped"].as_object().unwrap();
    assert!(
        dropped.contains_key("overflow") || dropped.contains_key("rate_limit"),
        "{summary}"
    );
    let count = lines.iter().filter(|&&b| b == b'\n').count();
    assert!(count > 20, "only {count} lines");
    for name in ["\"stream\":\"east\"", "\"stream\":\"west\""] {
        assert!(String::from_utf8_lossy(&lines).contains(name), "{name}");
    }
    for out in ["again", "once more"] {
        let (again, some_again, summary) = run(path, out, &["--replay", "headers.jsonl"]);
        assert!(again == lines, "{out}");
        assert!(some_again == some, "{out}: the optional branch");
        let dropped = summary["ledger"]["dropped"].as_object().unwrap();
        assert!(dropped.keys().all(|reason| reason == "not_recorded"), "{summary}");
    }
}

#[test]
fn other_media_and_other_pipelines_are_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let chance = CHANCE
        .replace("seed: 1}", "seed: 1, count: 40}")
        .replace("rate: 20}", "rate: 20, count: 40}");
    std::fs::write(path.join("chance.yaml"), chance).unwrap();
    run(path, "recorded", &["--record", "headers.jsonl"]);
    let replay = |more: &[&str]| {
        let fixed = ["--quiet", "run", "chance.yaml", "--replay", "headers.jsonl"];
        Flowrun::new(FLOWRUN, path, fixed.iter().chain(more))
            .env("OUT", "again")
            .run()
    };
    let said = replay(&["--set", "sources.west.rate=25"]).expect(4).stderr;
    assert!(said.contains("E0416") && said.contains("`west` gives"), "{said}");
    let text = std::fs::read_to_string(path.join("headers.jsonl")).unwrap();
    std::fs::write(path.join("headers.jsonl"), text.replace("\"west\"", "\"north\"")).unwrap();
    let said = replay(&[]).expect(2).stderr;
    assert!(said.contains("there is no `north`"), "{said}");
}
