//! A short soak with faults, and soaks that must not pass.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests")]

use std::path::Path;

use flow_tests::command::{Finished, Flowrun, assert_balanced};
use flow_tests::network;
use serde_json::Value;

const FLOWRUN: &str = env!("CARGO_BIN_EXE_flowrun-under-test");

const PIPELINE: &str = r#"
version: 1
models: {net: {path: detector.xml}}
sources:
  east: {type: synthetic, size: [64, 48], seed: 1}
  west: {type: synthetic, size: [64, 48], seed: 2, count: 40}
stages:
  input: {type: letterbox, inputs: [east, west], size: model}
  net_out: {type: infer, inputs: [input], model: net, replicas: 2}
  boxes: {type: detect, inputs: [net_out], format: decoded_boxes, background: 0}
sinks:
  lines: {type: jsonl, inputs: [boxes], path: boxes.jsonl}
"#;

fn soak(folder: &Path, pipeline: &str, arguments: &[&str]) -> Finished {
    std::fs::write(folder.join("pipeline.yaml"), pipeline).unwrap();
    network::detector(folder);
    let fixed = ["soak", "pipeline.yaml", "--json", "--max-drift", "off"];
    Flowrun::new(FLOWRUN, folder, fixed.iter().chain(arguments)).run()
}

fn check<'a>(report: &'a Value, name: &str) -> &'a Value {
    let checks = report["checks"].as_array().unwrap();
    checks.iter().find(|check| check["name"] == name).unwrap()
}

#[test]
fn a_pipeline_bears_faults_of_every_kind() {
    let folder = tempfile::tempdir().unwrap();
    let faults = "panic=2%,stall=0.3%/200ms,slow=2%/10ms,corrupt=1%,source_loss=0.5%/100ms,sink_error=1%,\
                  clock_jump=0.5%/5s";
    let arguments = [
        "--duration",
        "24s",
        "--load",
        "poisson:30",
        "--chaos",
        faults,
        "--seed",
        "7",
        // However busy the machine is.
        "--min-packets",
        "100",
        "--report",
        "soak.html",
    ];
    let report = soak(folder.path(), PIPELINE, &arguments).expect(0).json();

    assert_eq!(report["passed"], true, "{report}");
    assert_balanced(&report["run"]);
    for name in [
        "ledger",
        "end of the run",
        "order",
        "file descriptors",
        "threads",
        "restarts",
        "recovery",
    ] {
        assert_eq!(check(&report, name)["status"], "pass", "{name}: {report}");
    }
    for fault in report["faults"].as_array().unwrap() {
        assert!(fault[1].as_u64().unwrap() > 0, "{fault}");
    }
    // West gives 40 frames at a time: it has begun anew.
    let west = report["run"]["streams"]["west"]["in"].as_u64().unwrap();
    assert!(west > 80, "{west}");
    let page = std::fs::read_to_string(folder.path().join("soak.html")).unwrap();
    assert!(page.contains("<polyline") && page.contains("source_loss") && !page.contains("NaN"));
}

#[test]
fn a_run_with_too_little_traffic_does_not_pass() {
    let folder = tempfile::tempdir().unwrap();
    let arguments = [
        "--duration",
        "5s",
        "--load",
        "constant:10",
        "--min-packets",
        "1000000",
    ];
    let report = soak(folder.path(), PIPELINE, &arguments).expect(4).json();
    assert_eq!(report["passed"], false);
    assert_eq!(check(&report, "enough traffic")["status"], "fail");
    assert_eq!(check(&report, "order")["status"], "pass");
}

#[test]
fn faults_that_cannot_happen_are_usage_errors() {
    let folder = tempfile::tempdir().unwrap();
    let arguments = ["--duration", "5s", "--chaos", "panic@boxs=1%"];
    let said = soak(folder.path(), PIPELINE, &arguments).expect(2).stderr;
    assert!(said.contains("did you mean `boxes`?"), "{said}");
}

#[test]
fn sixty_four_cameras_share_a_stage_without_loss_or_disorder() {
    let folder = tempfile::tempdir().unwrap();
    let names: Vec<String> = (0..64).map(|n| format!("cam{n}")).collect();
    let sources: String = names
        .iter()
        .enumerate()
        .map(|(n, name)| {
            format!("  {name}: {{type: synthetic, size: [16, 16], objects: [1, 1], seed: {n}}}\n")
        })
        .collect();
    let pipeline = format!(
        "version: 1\nsources:\n{sources}stages:\n  input: {{type: letterbox, inputs: [{}], size: [16, 16], \
         replicas: 2}}\nsinks:\n  out: {{type: \"null\", inputs: [input]}}\n",
        names.join(", ")
    );
    let arguments = [
        "--duration",
        "6s",
        "--load",
        "constant:30",
        "--min-packets",
        "2000",
    ];
    let report = soak(folder.path(), &pipeline, &arguments).expect(0).json();

    assert_balanced(&report["run"]);
    for name in ["ledger", "end of the run", "order", "threads"] {
        assert_eq!(check(&report, name)["status"], "pass", "{name}: {report}");
    }
    let ledger = &report["run"]["ledger"];
    assert_eq!(ledger["in"], ledger["out"], "nothing is dropped: {ledger}");
    let streams = report["run"]["streams"].as_object().unwrap();
    assert_eq!(streams.len(), 64);
    for (name, stream) in streams {
        assert!(stream["in"].as_u64().unwrap() > 20, "{name}: {stream}");
    }
}
