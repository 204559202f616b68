//! `kill -9` at a random moment: every output can be read up to its last whole record.
//!
//! `FLOW_KILLS` is the number of moments (8; `make kill` takes 100), `FLOW_KILL_SEED` chooses others.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests")]

use std::path::{Path, PathBuf};
use std::time::Duration;

use flow_tests::command::{Flowrun, assert_balanced, json};
use serde_json::Value;

const FLOWRUN: &str = env!("CARGO_BIN_EXE_flowrun-under-test");

/// Every sink that writes files, each in every form it has.
const WRITE: &str = r#"
version: 1
sources:
  scene: {type: synthetic, size: [96, 64], seed: 1}
stages:
  boxes: {type: truth, inputs: [scene]}
sinks:
  lines: {type: jsonl, inputs: [boxes], path: lines.jsonl}
  blocks: {type: jsonl, inputs: [boxes], path: blocks.jsonl, flush: block}
  avi: {type: video, inputs: [scene], path: video.avi}
  y4m: {type: video, inputs: [scene], path: video.y4m}
  mjpeg: {type: video, inputs: [scene], path: video.mjpeg}
  png: {type: images, inputs: [scene], path: "png/{seq:06}.png"}
  jpg: {type: images, inputs: [scene], path: "jpg/{seq:06}.jpg"}
"#;

fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).map_or(otherwise, |text| text.parse().expect(name))
}

/// The objects on the whole lines of a file; what stands behind the last line feed does not count.
fn whole_lines(path: &Path) -> Vec<Value> {
    let bytes = std::fs::read(path).unwrap();
    let end = bytes.iter().rposition(|&b| b == b'\n').map_or(0, |at| at + 1);
    let text = std::str::from_utf8(&bytes[..end]).unwrap();
    let line =
        |line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{}: {e}: {line}", path.display()));
    text.lines().map(line).collect()
}

/// Reads a clip or a folder of pictures with flowrun: frames that are whole, and those that are cut off.
fn read(folder: &Path, what: &str, kind: &str) -> (u64, u64) {
    let text = format!(
        "version: 1\nruntime: {{max_loss: 100%}}\nsources:\n  in: {{type: {kind}, path: {what:?}}}\nstages:\n  \
         decode: {{type: decode, inputs: [in]}}\nsinks:\n  done: {{type: null, inputs: [decode]}}\n"
    );
    std::fs::write(folder.join("read.yaml"), text).unwrap();
    let arguments = ["-q", "run", "read.yaml", "--summary", "read.json"];
    Flowrun::new(FLOWRUN, folder, arguments).run().expect(0);
    let summary = json(folder.join("read.json"));
    assert_balanced(&summary);
    let (taken, given) = (&summary["ledger"]["in"], &summary["ledger"]["out"]);
    (
        given.as_u64().unwrap(),
        taken.as_u64().unwrap() - given.as_u64().unwrap(),
    )
}

fn files(folder: &Path, ending: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path());
    entries
        .filter(|p| p.extension().is_some_and(|e| e == ending))
        .collect()
}

/// Runs the pipeline, kills it after `wait`, and reads what there is.
fn kill_after(wait: Duration) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    std::fs::write(path.join("write.yaml"), WRITE).unwrap();
    let mut running = Flowrun::new(FLOWRUN, path, ["-q", "run", "write.yaml"]).start();
    // Whichever comes last: then there is something to read in each.
    let begun = ["video.avi.part", "video.y4m.part", "video.mjpeg.part"].map(|name| path.join(name));
    running.until("the outputs", || {
        let written = |p: &PathBuf| std::fs::metadata(p).is_ok_and(|m| m.len() > 0);
        begun.iter().all(written)
            && path.join("jpg/000001.jpg").exists()
            && path.join("png/000001.png").exists()
    });
    std::thread::sleep(wait);
    let finished = running.kill();
    assert_eq!(finished.code, None, "ended by the signal: {}", finished.stderr);

    for name in ["lines.jsonl", "blocks.jsonl"] {
        let lines = whole_lines(&path.join(name));
        assert!(
            lines.iter().zip(0u64..).all(|(line, seq)| line["seq"] == seq),
            "{name}"
        );
        assert!(name == "blocks.jsonl" || !lines.is_empty());
    }
    let size = |name: &str| std::fs::metadata(path.join(name)).unwrap().len();
    // Cut off within a frame or not: all before it is there.
    for name in ["video.avi.part", "video.y4m.part", "video.mjpeg.part"] {
        let (whole, cut) = read(path, name, "file");
        assert!(
            whole > 0 && cut <= 1,
            "{name}: {whole} whole and {cut} cut frames in {} bytes",
            size(name)
        );
        if name == "video.y4m.part" {
            let header = std::fs::read(path.join(name))
                .unwrap()
                .iter()
                .position(|&b| b == b'\n')
                .unwrap()
                + 1;
            let frame = 6 + 96 * 64 * 3;
            assert_eq!(
                whole,
                (size(name) - header as u64) / frame,
                "each whole frame is read"
            );
        }
    }
    for ending in ["png", "jpg"] {
        let written = files(&path.join(ending), ending);
        let (whole, cut) = read(path, &format!("{ending}/*.{ending}"), "images");
        assert_eq!(
            (whole, cut),
            (written.len() as u64, 0),
            "a picture with its final name is whole"
        );
        assert!(files(&path.join(ending), "part").len() <= 1);
    }
}

#[test]
fn outputs_are_readable_up_to_their_last_whole_record() {
    // A 64-bit linear congruential generator (Knuth's MMIX).
    let mut state = number("FLOW_KILL_SEED", 0);
    for _ in 0..number("FLOW_KILLS", 8) {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let wait = Duration::from_micros((state >> 33) % 250_000);
        println!("killed after {wait:?}");
        kill_after(wait);
    }
}
