//! Packets that fail: how they are counted, set aside and run again.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests")]

use std::path::Path;

use flow_tests::command::{Finished, Flowrun, json, lines};
use flow_tests::media;
use flow_tests::pipeline::{self, assert_ledger, files, folder, summary};
use serde_json::Value as Json;
use tempfile::TempDir;

const FLOWRUN: &str = env!("CARGO_BIN_EXE_flowrun-under-test");

/// The command under test, in that folder.
fn command(folder: &Path, more: &[&str]) -> Flowrun {
    pipeline::command(FLOWRUN, folder, more)
}

/// Runs the pipeline in that folder; it must be free of loss. Gives its summary.
#[track_caller]
fn run(folder: &Path, more: &[&str]) -> Json {
    pipeline::run(FLOWRUN, folder, more)
}

/// A folder in which one of three pictures cannot be decoded.
fn one_bad_picture(runtime: &str) -> TempDir {
    let folder = folder(&format!(
        "version: 1\nsources:\n  pictures: {{type: images, path: shots}}\nstages:\n  \
         decode: {{type: decode, inputs: [pictures]}}\nsinks:\n  \
         copies: {{type: images, inputs: [decode], path: \"copies/{{origin}}.png\"}}\n\
         {runtime}\n"
    ));
    let shots = folder.path().join("shots");
    std::fs::create_dir(&shots).unwrap();
    std::fs::write(shots.join("a.ppm"), media::ppm(20, 20)).unwrap();
    std::fs::write(shots.join("b.ppm"), &media::ppm(20, 20)[..300]).unwrap();
    std::fs::write(shots.join("c.ppm"), media::ppm(20, 20)).unwrap();
    folder
}

fn run_bad_picture(runtime: &str) -> (Finished, Json, usize) {
    let folder = one_bad_picture(runtime);
    let finished = command(folder.path(), &[]).run();
    let summary = summary(folder.path());
    let copies = files(&folder.path().join("copies")).len();
    (finished, summary, copies)
}

#[test]
fn a_picture_that_cannot_be_decoded_is_counted_and_the_limit_decides_the_exit_code() {
    let (finished, summary, copies) = run_bad_picture("");
    let finished = finished.expect(3);
    assert!(finished.stderr.contains("max_loss"), "{}", finished.stderr);
    assert_ledger(&summary, 3, 2);
    assert_eq!(copies, 2);
    let dropped = summary["ledger"]["dropped"].as_object().unwrap();
    assert_eq!(dropped.values().map(|n| n.as_u64().unwrap()).sum::<u64>(), 1);

    let (finished, summary, _) = run_bad_picture("runtime: {max_loss: 10%}");
    finished.expect(3);
    assert_ledger(&summary, 3, 2);

    let (finished, ..) = run_bad_picture("runtime: {max_loss: 50%}");
    finished.expect(0);
}

#[test]
fn on_error_fail_ends_the_run_with_the_place_and_the_reason() {
    let folder = one_bad_picture("");
    let more = ["--set", "stages.decode.on_error.action=fail"];
    let finished = command(folder.path(), &more).run().expect(4);
    assert!(finished.stderr.contains("error[E05"), "{}", finished.stderr);
    assert!(finished.stderr.contains("decode"), "{}", finished.stderr);
    summary(folder.path());
}

#[test]
fn dead_letters_name_the_packet_the_stage_and_the_reason() {
    let folder = one_bad_picture("");
    let more = [
        "--set",
        "stages.decode.on_error={action: dead_letter, path: dead.jsonl}",
    ];
    command(folder.path(), &more).run().expect(3);
    assert_eq!(summary(folder.path())["ledger"]["dead_lettered"], 1);
    let letters = lines(folder.path().join("dead.jsonl"));
    assert_eq!(letters.len(), 1);
    assert_eq!(letters[0]["stage"], "decode");
    assert_eq!(letters[0]["seq"], 1);
}

#[test]
fn dead_letters_in_a_folder_keep_what_failed_and_can_be_run_again() {
    let folder = one_bad_picture("");
    let more = [
        "--set",
        "stages.decode.on_error={action: dead_letter, folder: dead}",
    ];
    command(folder.path(), &more).run().expect(3);
    assert_eq!(summary(folder.path())["ledger"]["dead_lettered"], 1);
    let dead = folder.path().join("dead");
    let letters = files(&dead);
    assert_eq!(letters.len(), 1);
    assert!(letters[0].ends_with("-decode-pictures-0-1"), "{letters:?}");
    let letter = dead.join(&letters[0]);
    assert_eq!(files(&letter), ["letter.json", "picture.pnm"]);
    let carried = std::fs::read(letter.join("picture.pnm")).unwrap();
    assert_eq!(carried, std::fs::read(folder.path().join("shots/b.ppm")).unwrap());
    let said = json(letter.join("letter.json"));
    assert_eq!((&said["stage"], &said["seq"]), (&"decode".into(), &1.into()));
    assert!(
        said["errors"][0].as_str().is_some_and(|e| !e.is_empty()),
        "{said}"
    );

    // Once what was wrong is mended, the same pipeline takes the letters in place of its source.
    let again = ["--set", "sources.pictures={type: dead_letters, path: dead}"];
    command(folder.path(), &again).run().expect(3);
    std::fs::write(letter.join("picture.pnm"), media::ppm(20, 20)).unwrap();
    assert_ledger(&run(folder.path(), &again), 1, 1);
    let copies = files(&folder.path().join("copies"));
    assert!(copies.contains(&format!("{}.png", letters[0])), "{copies:?}");
}

/// A sink that refuses a frame: its letter has the frame as a picture, and a source gives that again.
#[test]
fn a_frame_that_failed_is_a_picture() {
    let folder = folder(
        "version: 1\nsources:\n  pictures: {type: images, path: shots}\nstages:\n  \
         decode: {type: decode, inputs: [pictures]}\nsinks:\n  \
         video:\n    type: video\n    inputs: [decode]\n    path: clip.y4m\n    \
         on_error: {action: dead_letter, folder: dead}\n",
    );
    let shots = folder.path().join("shots");
    std::fs::create_dir(&shots).unwrap();
    std::fs::write(shots.join("a.ppm"), media::ppm(20, 20)).unwrap();
    std::fs::write(shots.join("b.ppm"), media::ppm(30, 10)).unwrap();
    command(folder.path(), &[]).run();
    let letters = files(&folder.path().join("dead"));
    assert_eq!(letters.len(), 1, "{letters:?}");
    let letter = folder.path().join("dead").join(&letters[0]);
    assert_eq!(files(&letter), ["frame.png", "letter.json"]);
    assert_eq!(
        json(letter.join("letter.json"))["files"][0]["about"],
        "frame 30x10 rgb"
    );
    let again = [
        "--set",
        "sources.pictures={type: dead_letters, path: dead, stage: video}",
    ];
    assert_ledger(&run(folder.path(), &again), 1, 1);
}
