//! Signals: the first one drains, the second one aborts.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests")]

use std::path::Path;

use flow_tests::command::{Flowrun, Running, assert_balanced, json, lines};
use flow_tests::network;

const FLOWRUN: &str = env!("CARGO_BIN_EXE_flowrun-under-test");

/// Frames without end, each searched, drawn and written.
const ENDLESS: &str = r#"
version: 1
models: {net: {path: detector.xml}}
sources:
  scene: {type: synthetic, size: [64, 48]}
stages:
  input: {type: letterbox, inputs: [scene], size: model}
  net_out: {type: infer, inputs: [input], model: net, replicas: 2}
  boxes: {type: detect, inputs: [net_out], format: decoded_boxes, background: 0}
  draw: {type: overlay, inputs: [boxes]}
sinks:
  lines: {type: jsonl, inputs: [boxes], path: boxes.jsonl}
  video: {type: video, inputs: [draw], path: annotated.avi}
"#;

fn start(folder: &Path, pipeline: &str) -> Running {
    std::fs::write(folder.join("pipeline.yaml"), pipeline).unwrap();
    network::detector(folder);
    let arguments = ["run", "pipeline.yaml", "--summary", "summary.json"];
    Flowrun::new(FLOWRUN, folder, arguments).start()
}

fn send(process: &Running, signal: libc::c_int) {
    let id = libc::pid_t::try_from(process.id()).unwrap();
    // SAFETY: the process is a child that has not been waited for, so the number is still its own.
    let sent = unsafe { libc::kill(id, signal) };
    assert_eq!(sent, 0);
}

fn line_count(path: &Path) -> usize {
    let bytes = std::fs::read(path).unwrap_or_default();
    bytes.iter().filter(|&&b| b == b'\n').count()
}

#[test]
fn a_signal_drains_and_leaves_whole_outputs() {
    for signal in [libc::SIGINT, libc::SIGTERM] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        let mut running = start(path, ENDLESS);
        let written = path.join("boxes.jsonl");
        running.until("twenty lines", || line_count(&written) >= 20);
        assert!(!path.join("annotated.avi").exists(), "the clip is not whole yet");
        send(&running, signal);
        let finished = running.wait().expect(0);
        assert!(finished.stderr.contains("stopping"), "{}", finished.stderr);
        assert!(finished.stderr.contains("ledger: "), "{}", finished.stderr);

        let summary = json(path.join("summary.json"));
        assert_balanced(&summary);
        let taken = summary["ledger"]["in"].as_u64().unwrap();
        assert_eq!(summary["ledger"]["out"], taken, "{summary}");
        let lines = lines(&written);
        assert_eq!(lines.len() as u64, taken);
        assert!(lines.iter().zip(0u64..).all(|(l, seq)| l["seq"] == seq));

        assert_eq!(assert_plays(path), taken);
    }
}

#[test]
fn a_second_signal_aborts_and_leaves_nothing_that_looks_whole() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    // A sink that opens a fifo waits for a reader. There is none, so the drain cannot end by itself.
    let fifo = path.join("boxes.jsonl");
    make_fifo(&fifo);
    let mut running = start(path, ENDLESS);
    let part = path.join("annotated.avi.part");
    running.until("the clip", || part.exists());
    send(&running, libc::SIGINT);
    running.until_said("stopping");
    send(&running, libc::SIGINT);
    let finished = running.wait().expect(5);
    // The other branch may have come to its end before the second signal; then, and only then, its clip is whole.
    if path.join("annotated.avi").exists() {
        assert_plays(path);
    }
    assert!(finished.stderr.contains("aborting"), "{}", finished.stderr);
    assert_balanced(&json(path.join("summary.json")));
}

/// Reads the clip from start to end without an error; gives the number of its frames.
fn assert_plays(path: &Path) -> u64 {
    let again = "version: 1\nsources:\n  clip: {type: file, path: annotated.avi}\nstages:\n  \
         decode: {type: decode, inputs: [clip]}\nsinks:\n  done: {type: null, inputs: [decode]}\n";
    std::fs::write(path.join("again.yaml"), again).unwrap();
    let arguments = ["run", "again.yaml", "--summary", "-"];
    let read = Flowrun::new(FLOWRUN, path, arguments).run().expect(0).json();
    read["ledger"]["out"].as_u64().unwrap()
}

fn make_fifo(path: &Path) {
    use std::os::unix::ffi::OsStrExt;
    let name = std::ffi::CString::new(path.as_os_str().as_bytes()).unwrap();
    // SAFETY: the name is a string that ends in a NUL and lives through the call.
    assert_eq!(unsafe { libc::mkfifo(name.as_ptr(), 0o600) }, 0);
}
