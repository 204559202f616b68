//! What calibration reads: clips, folders, pipelines that say how.

use std::path::Path;

use crate::{PREPROCESS, clip, pictures, quantize};

/// Quantizes with these arguments, and gives what is told and the bytes of the weights and limits.
#[track_caller]
fn made(folder: &Path, extra: &[&str]) -> (serde_json::Value, Vec<u8>) {
    let mut arguments = vec!["-o", "q.xml", "--json"];
    arguments.extend(extra);
    let told = quantize(folder, &arguments).expect(0).json();
    (told, std::fs::read(folder.join("q.bin")).unwrap())
}

#[test]
fn frames_of_a_clip_calibrate_and_the_same_seed_takes_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let clip = clip();
    let run = |seed: &str| {
        let arguments = [
            "--data",
            &clip,
            "--subset",
            "3",
            "--preprocess",
            PREPROCESS,
            "--seed",
            seed,
        ];
        made(folder.path(), &arguments)
    };
    let (told, first) = run("0");
    assert_eq!(told["samples"], 3, "{told}");
    assert_eq!(told["skipped"], 0, "{told}");
    let (_, seven) = run("7");
    assert!(first != seven);
    assert!(seven == run("7").1);
}

#[test]
fn a_folder_may_mix_pictures_and_clips() {
    let folder = pictures(3);
    std::fs::copy(clip(), folder.path().join("data/2a.mp4")).unwrap();
    let arguments = ["--data", "data", "--subset", "40", "--preprocess", PREPROCESS];
    let (told, _) = made(folder.path(), &arguments);
    // Three pictures come to nothing among three hundred frames; the clip gives the rest.
    assert_eq!(told["samples"], 40, "{told}");
}

#[test]
fn a_clip_that_is_cut_off_gives_what_it_has_and_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let whole = std::fs::read(clip()).unwrap();
    std::fs::write(folder.path().join("torn.mp4"), &whole[..whole.len() / 2]).unwrap();
    let arguments = [
        "--data",
        "torn.mp4",
        "-o",
        "q.xml",
        "--subset",
        "8",
        "--preprocess",
        PREPROCESS,
    ];
    let finished = quantize(folder.path(), &arguments);
    assert!(finished.stderr.contains("torn.mp4"), "{}", finished.stderr);
    assert!(!finished.stderr.contains("panicked"), "{}", finished.stderr);
}

#[test]
fn what_never_ends_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let finished = quantize(folder.path(), &["--data", "/dev/zero", "-o", "q.xml"]).expect(2);
    assert!(finished.stderr.contains("/dev/zero"), "{}", finished.stderr);
}

/// Keys of stages before the network that any stage has, and variables that a run would need.
const PIPELINE: &str = "
version: 1
models: {net: {path: \"${MODEL:?the network}\"}}
sources: {clip: {type: file, path: \"${INPUT:?a clip}\"}}
stages:
  decode: {type: decode, inputs: [clip]}
  CROP
  input: {type: letterbox, inputs: [{from: BEFORE, queue: {capacity: 3}}], pad: \"${PAD:-114}\", mean: 127, scale: 128, threads: 1, replicas: 2}
  detect: {type: infer, inputs: [input], model: net}
  MORE
sinks: {none: {type: null, inputs: [detect]}OTHER}
";

const SECOND: &str = ", more: {type: null, inputs: [other]}";

fn pipeline(folder: &Path, crop: &str, more: &str, edit: (&str, &str)) {
    let text = PIPELINE
        .replace("CROP", crop)
        .replace("MORE", more)
        .replace("OTHER", if more.is_empty() { "" } else { SECOND })
        .replace("BEFORE", if crop.is_empty() { "decode" } else { "crop" })
        .replace("\"${PAD:-114}\"", "114")
        .replace("type: null", "type: 'null'");
    std::fs::write(folder.join("net.yaml"), text.replace(edit.0, edit.1)).unwrap();
}

#[test]
fn a_pipeline_says_how_pictures_become_inputs() {
    let folder = pictures(2);
    let arguments = ["--data", "data", "--preprocess"];
    let by = |how: &str| made(folder.path(), &[&arguments[..], &[how]].concat()).1;
    pipeline(folder.path(), "", "", ("", ""));
    assert!(by(PREPROCESS) == by("net.yaml"));
    assert!(by("{type: resize}") != by("net.yaml"));

    let refused = |said: &[&str]| {
        let arguments = ["--data", "data", "-o", "no.xml", "--preprocess", "net.yaml"];
        let stderr = quantize(folder.path(), &arguments).expect(2).stderr;
        for said in said {
            assert!(stderr.contains(said), "{said}: {stderr}");
        }
    };
    let crop = "crop: {type: crop, inputs: [decode], box: [0, 0, 8, 8]}";
    pipeline(folder.path(), crop, "", ("", ""));
    refused(&["crop", "input"]);
    pipeline(folder.path(), "", "", ("scale: 128", "scale: 0"));
    refused(&["scale"]);
    let second = "other: {type: infer, inputs: [input], model: other.xml}";
    pipeline(
        folder.path(),
        "",
        second,
        ("path: \"${MODEL:?the network}\"", "path: that.xml"),
    );
    refused(&["`detect`", "`other`", "0 of which run"]);
    // Which of two is meant is clear where one runs this model.
    pipeline(folder.path(), "", second, ("", ""));
    by("net.yaml");
    let refused = quantize(
        folder.path(),
        &["--data", "data", "-o", "no.xml", "--preprocess", "{scale: 0}"],
    )
    .expect(2);
    assert!(refused.stderr.contains("scale"), "{}", refused.stderr);
}
