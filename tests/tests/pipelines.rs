//! Whole pipelines through the command: what goes in, what comes out, and what is said about it.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests")]

use std::path::Path;

use flow_tests::command::{Flowrun, json, lines};
use flow_tests::pipeline::{self, assert_ledger, files, folder, summary};
use flow_tests::{media, network};
use serde_json::Value as Json;

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

/// Packets that a clip gives when it is read back and decoded.
fn frames_of(clip: &Path) -> u64 {
    let pipeline = format!(
        "version: 1\nsources:\n  clip: {{type: file, path: {clip:?}}}\nstages:\n  \
         decode: {{type: decode, inputs: [clip]}}\nsinks:\n  done: {{type: null, inputs: [decode]}}\n"
    );
    let folder = folder(&pipeline);
    let summary = run(folder.path(), &[]);
    let taken = summary["ledger"]["in"].as_u64().unwrap();
    assert_ledger(&summary, taken, taken);
    taken
}

const DETECT: &str = r#"
version: 1
name: detect
models:
  net: {path: detector.xml}
sources:
  scene: {type: synthetic, size: [96, 64], count: 20, rate: 20}
stages:
  input: {type: letterbox, inputs: [scene], size: model}
  net_out: {type: infer, inputs: [input], model: net}
  boxes:
    {type: detect, inputs: [net_out], format: decoded_boxes, background: 0, labels: [none, thing], threshold: 0.5}
  draw: {type: overlay, inputs: [boxes]}
sinks:
  lines: {type: jsonl, inputs: [boxes], path: boxes.jsonl}
  video: {type: video, inputs: [draw], path: annotated.avi}
  raw: {type: video, inputs: [draw], path: annotated.y4m}
  pictures: {type: images, inputs: [draw], path: "frames/{stream}-{seq:03}.png"}
  counts: {type: stats, inputs: [boxes], path: stats.json}
"#;

#[test]
fn frames_are_detected_drawn_counted_and_written_in_every_form() {
    let folder = folder(DETECT);
    let path = folder.path();
    network::detector(path);
    let summary = run(path, &[]);
    assert_ledger(&summary, 20, 20);
    let lines = lines(path.join("boxes.jsonl"));
    assert_eq!(lines.len(), 20);
    let mut found = 0;
    for (seq, line) in lines.iter().enumerate() {
        assert_eq!(line["stream"], "scene");
        assert_eq!(line["seq"], seq as u64);
        assert_eq!(line["size"], serde_json::json!([96, 64]));
        let pts = line["pts"].as_f64().unwrap();
        assert!((pts - seq as f64 / 20.0).abs() < 1e-6, "{pts}");
        let mut best = 1.0;
        for detection in line["detections"].as_array().unwrap() {
            found += 1;
            assert_eq!(detection["label"], "thing");
            let score = detection["score"].as_f64().unwrap();
            assert!((0.5..=best).contains(&score), "{score} after {best}");
            best = score;
            let corners: Vec<f64> = detection["box"]
                .as_array()
                .unwrap()
                .iter()
                .map(|v| v.as_f64().unwrap())
                .collect();
            assert!(corners[0] < corners[2] && corners[1] < corners[3], "{corners:?}");
            assert!(corners.iter().all(|&v| v >= 0.0), "{corners:?}");
            assert!(corners[2] <= 96.0 && corners[3] <= 64.0, "{corners:?}");
        }
    }
    assert!(
        found > 20,
        "only {found} detections: the network is of no use here"
    );
    assert_eq!(frames_of(&path.join("annotated.avi")), 20);
    assert_eq!(frames_of(&path.join("annotated.y4m")), 20);
    let pictures = files(&path.join("frames"));
    assert_eq!(pictures.len(), 20);
    assert_eq!(pictures[7], "scene-007.png");
    let stats = json(path.join("stats.json"));
    assert_eq!(stats["packets"], 20);
    assert_eq!(stats["classes"]["thing"], found);
    // Nothing but the outputs is left, no temporary file either.
    let expected = [
        "annotated.avi",
        "annotated.y4m",
        "boxes.jsonl",
        "detector.bin",
        "detector.xml",
        "frames",
        "pipeline.yaml",
        "stats.json",
        "summary.json",
    ];
    assert_eq!(files(path), expected);
}

#[test]
fn the_summary_has_the_fields_that_scripts_read() {
    let folder = folder(DETECT);
    network::detector(folder.path());
    let summary = run(folder.path(), &[]);
    assert_eq!(summary["ledger"]["dropped"], serde_json::json!({}));
    assert_eq!(summary["ledger"]["dead_lettered"], 0);
    assert!(summary["seconds"].as_f64().unwrap() > 0.0);
    let stages = summary["stages"].as_object().unwrap();
    let names: Vec<_> = stages.keys().map(String::as_str).collect();
    let expected = [
        "scene", "input", "net_out", "boxes", "lines", "counts", "draw", "video", "raw", "pictures",
    ];
    for name in expected {
        assert!(names.contains(&name), "no `{name}` in {names:?}");
        let stage = &stages[name];
        assert_eq!(stage["packets"], 20, "{name}");
        assert!(stage["fps"].as_f64().unwrap() > 0.0, "{name}");
        let times = ["service_ms", "queue_wait_ms"].map(|k| &stage[k]);
        for time in times.into_iter().filter(|_| name != "scene") {
            let at = |p: &str| time[p].as_f64().unwrap_or_else(|| panic!("{name} {time}"));
            assert!(at("p50") <= at("p95") && at("p95") <= at("p99"), "{name} {time}");
        }
    }
    // `-` is stdout, which then holds nothing else.
    let to_stdout = Flowrun::new(FLOWRUN, folder.path(), ["run", "pipeline.yaml", "--summary", "-"]);
    assert_eq!(to_stdout.run().expect(0).json()["ledger"]["in"], 20);
}

#[test]
fn replicas_change_nothing_in_what_is_written() {
    let folder = folder(DETECT);
    let path = folder.path();
    network::detector(path);
    let mut written = Vec::new();
    for replicas in ["1", "4"] {
        let set = |stage: &str| format!("stages.{stage}.replicas={replicas}");
        let (input, net, boxes, draw) = (set("input"), set("net_out"), set("boxes"), set("draw"));
        let more = [
            "--set", &*input, "--set", &*net, "--set", &*boxes, "--set", &*draw,
        ];
        run(path, &more);
        written.push(
            ["boxes.jsonl", "annotated.avi", "annotated.y4m"].map(|f| std::fs::read(path.join(f)).unwrap()),
        );
    }
    assert!(!written[0][0].is_empty());
    assert!(
        written[0] == written[1],
        "outputs differ between one and four replicas"
    );
}

#[test]
fn pictures_are_classified_by_name() {
    let folder = folder(
        r#"
version: 1
models: {net: {path: classifier.xml}}
sources:
  pictures: {type: images, path: shots}
stages:
  decode: {type: decode, inputs: [pictures]}
  input: {type: resize, inputs: [decode], size: model}
  net_out: {type: infer, inputs: [input], model: net}
  top: {type: classify, inputs: [net_out], top_k: 3, labels: [ant, bee, cat, dog, elk]}
sinks:
  lines: {type: jsonl, inputs: [top], path: "-"}
"#,
    );
    let path = folder.path();
    network::classifier(path);
    std::fs::create_dir(path.join("shots")).unwrap();
    for (name, width) in [("b.ppm", 40), ("a.ppm", 64), ("c.ppm", 33)] {
        std::fs::write(path.join("shots").join(name), media::ppm(width, 30)).unwrap();
    }
    let finished = command(path, &[]).run().expect(0);
    let lines: Vec<Json> = finished
        .stdout
        .lines()
        .map(|l| serde_json::from_str(l).unwrap())
        .collect();
    let origins: Vec<_> = lines.iter().map(|l| l["origin"].as_str().unwrap()).collect();
    assert_eq!(origins, ["a.ppm", "b.ppm", "c.ppm"]);
    for line in &lines {
        let classes = line["classes"].as_array().unwrap();
        assert_eq!(classes.len(), 3);
        let scores: Vec<f64> = classes.iter().map(|c| c["score"].as_f64().unwrap()).collect();
        assert!(scores.is_sorted_by(|a, b| a >= b), "{scores:?}");
        let index = classes[0]["class"].as_u64().unwrap() as usize;
        assert_eq!(classes[0]["label"], ["ant", "bee", "cat", "dog", "elk"][index]);
    }
    assert_ledger(&summary(path), 3, 3);
}

#[test]
fn the_shipped_classification_runs_with_and_without_labels() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let model = network::classifier(path);
    std::fs::create_dir(path.join("shots")).unwrap();
    std::fs::write(path.join("shots/a.ppm"), media::ppm(40, 30)).unwrap();
    std::fs::write(path.join("names.txt"), "ant\nbee\ncat\ndog\nelk\n").unwrap();
    let shipped = concat!(env!("CARGO_MANIFEST_DIR"), "/../pipelines/classify-folder.yaml");
    for labels in [None, Some("names.txt")] {
        let mut command = Flowrun::new(FLOWRUN, path, ["run", shipped])
            .env("MODEL", &model)
            .env("INPUT", "shots");
        if let Some(labels) = labels {
            command = command.env("LABELS", labels);
        }
        command.run().expect(0);
        // Without `OUT` it is the folder `out`.
        let line = &lines(path.join("out/classes.jsonl"))[0];
        assert_eq!(line["classes"].as_array().unwrap().len(), 5);
        assert_eq!(
            line["classes"][0]["label"].is_string(),
            labels.is_some(),
            "{line}"
        );
        assert!(path.join("out/a.jpg").exists());
    }
}

#[test]
fn an_uncompressed_clip_goes_round_unchanged() {
    let folder = folder(
        "version: 1\nsources:\n  clip: {type: file, path: in.y4m}\nstages:\n  decode: {type: decode, inputs: [clip]}\n\
         sinks:\n  copy: {type: video, inputs: [decode], path: out.y4m}\n",
    );
    let clip = media::y4m(64, 48, 9);
    std::fs::write(folder.path().join("in.y4m"), &clip).unwrap();
    assert_ledger(&run(folder.path(), &[]), 9, 9);
    let copy = std::fs::read(folder.path().join("out.y4m")).unwrap();
    // Headers may say the same in other words; the samples may not differ.
    let frames = |bytes: &[u8]| {
        let header = bytes.iter().position(|&b| b == b'\n').unwrap() + 1;
        bytes[header..].to_vec()
    };
    assert!(frames(&copy) == frames(&clip), "the samples differ");
}

#[test]
fn a_clip_comes_through_stdin() {
    let folder = folder(
        "version: 1\nsources:\n  clip: {type: file, path: \"-\"}\nstages:\n  decode: {type: decode, inputs: [clip]}\n\
         sinks:\n  done: {type: null, inputs: [decode]}\n",
    );
    let clip = media::y4m(32, 32, 7);
    command(folder.path(), &[]).input(clip).run().expect(0);
    assert_ledger(&summary(folder.path()), 7, 7);
}

#[test]
fn clips_of_every_container_are_read_to_the_end() {
    for (name, frames) in [
        ("baseline.mp4", 12),
        ("fragmented.mp4", 20),
        ("bframes.h264", 20),
        ("mjpeg.avi", 4),
    ] {
        assert_eq!(frames_of(&media::clip(name)), frames, "{name}");
    }
}

#[test]
fn several_sources_share_the_stages_and_keep_their_order() {
    let folder = folder(
        r#"
version: 1
models: {net: {path: detector.xml}}
sources:
  north: {type: synthetic, size: [64, 48], count: 30, seed: 1}
  south: {type: synthetic, size: [48, 64], count: 20, seed: 2}
  clip: {type: file, path: clip.y4m, loop: 3}
stages:
  decode: {type: decode, inputs: [clip], replicas: per_stream}
  input: {type: letterbox, inputs: [north, south, decode], size: model, replicas: 2}
  net_out: {type: infer, inputs: [input], model: net, replicas: 2}
  boxes: {type: detect, inputs: [net_out], format: decoded_boxes, background: 0}
sinks:
  lines: {type: jsonl, inputs: [boxes], path: "{stream}.jsonl"}
"#,
    );
    let path = folder.path();
    network::detector(path);
    std::fs::write(path.join("clip.y4m"), media::y4m(64, 48, 5)).unwrap();
    let summary = run(path, &[]);
    assert_ledger(&summary, 65, 65);
    for (stream, count) in [("north", 30), ("south", 20), ("clip", 15)] {
        assert_eq!(summary["streams"][stream]["out"], count);
        let lines = lines(path.join(format!("{stream}.jsonl")));
        let ids: Vec<_> = lines
            .iter()
            .map(|l| (l["epoch"].as_u64().unwrap(), l["seq"].as_u64().unwrap()))
            .collect();
        assert_eq!(ids.len(), count);
        assert!(ids.is_sorted(), "{stream}: {ids:?}");
    }
}

#[test]
fn one_source_stands_for_several_streams() {
    let folder = folder(
        "version: 1\nsources:\n  shots: {type: images, streams: \"shots/*\"}\nstages:\n  \
         decode: {type: decode, inputs: [shots], replicas: per_stream}\nsinks:\n  \
         copies: {type: images, inputs: [decode], path: \"copies/{stream}/{seq}.png\"}\n",
    );
    for (stream, count) in [("east", 2), ("west side", 3)] {
        let shots = folder.path().join("shots").join(stream);
        std::fs::create_dir_all(&shots).unwrap();
        for n in 0..count {
            std::fs::write(shots.join(format!("{n}.ppm")), media::ppm(20, 20)).unwrap();
        }
    }
    let summary = run(folder.path(), &[]);
    assert_ledger(&summary, 5, 5);
    let copies = folder.path().join("copies");
    assert_eq!(files(&copies), ["east", "west_side"]);
    assert_eq!(files(&copies.join("west_side")), ["0.png", "1.png", "2.png"]);
    assert_eq!(summary["streams"]["east"]["in"], 2, "{summary}");
    let named = [
        "--set",
        "sources.shots.streams={left: shots/east, right: {path: shots/east, loop: 2}}",
    ];
    assert_ledger(&run(folder.path(), &named), 6, 6);
}

#[test]
fn a_live_source_loses_frames_only_where_the_pipeline_says_so() {
    let folder = folder(
        r#"
version: 1
models: {net: {path: detector.xml}}
sources:
  camera: {type: file, path: clip.y4m, loop: 40, live: true}
stages:
  decode: {type: decode, inputs: [camera]}
  input: {type: letterbox, inputs: [{from: decode, queue: {capacity: 1, overflow: latest}}], size: model}
  net_out: {type: infer, inputs: [input], model: net}
  boxes: {type: detect, inputs: [net_out], format: decoded_boxes, background: 0}
  draw: {type: overlay, inputs: [boxes]}
sinks:
  pictures: {type: images, inputs: [draw], path: "frames/{epoch}-{seq}.png"}
"#,
    );
    let path = folder.path();
    network::detector(path);
    std::fs::write(path.join("clip.y4m"), media::y4m(320, 240, 10)).unwrap();
    let summary = run(path, &[]);
    let dropped = summary["ledger"]["dropped"]["overflow"].as_u64().unwrap_or(0);
    let out = summary["ledger"]["out"].as_u64().unwrap();
    assert_eq!(summary["ledger"]["in"], 400);
    assert_eq!(out + dropped, 400);
    assert!(
        dropped > 0,
        "the PNG writer kept up with a source that never waits"
    );
    assert_eq!(files(&path.join("frames")).len() as u64, out);
}

#[test]
fn an_optional_sink_neither_delays_nor_fails_the_others() {
    let folder = folder(
        r#"
version: 1
sources:
  scene: {type: synthetic, size: [64, 48], count: 40}
sinks:
  clip: {type: video, inputs: [scene], path: clip.y4m}
  pictures:
    type: images
    inputs: [{from: scene, queue: {capacity: 1, overflow: drop_oldest}}]
    path: "pictures/{seq}.png"
    required: false
"#,
    );
    let path = folder.path();
    // The second picture cannot be written: its name is taken by a folder.
    std::fs::create_dir_all(path.join("pictures/1.png.part")).unwrap();
    assert_ledger(&run(path, &[]), 40, 40);
    assert_eq!(frames_of(&path.join("clip.y4m")), 40);
}

#[test]
fn an_endless_source_ends_with_the_duration() {
    let folder = folder(
        "version: 1\nsources:\n  scene: {type: synthetic, size: [64, 48]}\n\
         sinks:\n  video: {type: video, inputs: [scene], path: out.avi}\n",
    );
    let summary = run(folder.path(), &["--duration", "700ms"]);
    let taken = summary["ledger"]["in"].as_u64().unwrap();
    assert!(taken > 0);
    assert_ledger(&summary, taken, taken);
    let seconds = summary["seconds"].as_f64().unwrap();
    assert!(seconds >= 0.7, "{seconds}");
    assert_eq!(frames_of(&folder.path().join("out.avi")), taken);
}

#[test]
fn a_fault_in_the_file_or_the_arguments_leaves_no_output() {
    let folder = folder(&DETECT.replace("type: overlay", "type: overlays"));
    network::detector(folder.path());
    command(folder.path(), &[]).run().expect(2);
    let prepared = DETECT.replace("path: detector.xml", "path: nothing.xml");
    std::fs::write(folder.path().join("pipeline.yaml"), prepared).unwrap();
    command(folder.path(), &[]).run().expect(2);
    command(folder.path(), &["--duration", "soon"]).run().expect(2);
    assert_eq!(
        files(folder.path()),
        ["detector.bin", "detector.xml", "pipeline.yaml"]
    );
}

#[test]
fn true_boxes_pass_an_evaluation_and_empty_results_fail_it() {
    let pipeline = r#"
version: 1
sources:
  scene: {type: synthetic, size: [160, 120], count: 10}
stages:
  boxes: {type: truth, inputs: [scene]}
sinks:
  lines: {type: jsonl, inputs: [boxes], path: truth.jsonl}
  score: {type: evaluate, inputs: [boxes], min_recall: 0.99, min_precision: 0.99, path: score.json}
"#;
    let folder = folder(pipeline);
    run(folder.path(), &[]);
    let score = json(folder.path().join("score.json"));
    assert_eq!(score["frames"], 10);
    // The truth of another scene is wrong here.
    let more = [
        "--set",
        "sinks.score.truth=truth.jsonl",
        "--set",
        "sources.scene.seed=9",
        "--set",
        "sinks.lines.path=other.jsonl",
    ];
    let finished = command(folder.path(), &more).run().expect(4);
    assert!(finished.stderr.contains("E0707"), "{}", finished.stderr);
    summary(folder.path());
}

#[test]
fn the_demo_finds_what_is_in_its_clip() {
    let folder = tempfile::tempdir().unwrap();
    let demo = concat!(env!("CARGO_MANIFEST_DIR"), "/../pipelines/demo.yaml");
    let arguments = ["run", demo, "--summary", "summary.json"];
    let command = Flowrun::new(FLOWRUN, folder.path(), arguments);
    command.env("OUT", folder.path()).run().expect(0);
    let summary = summary(folder.path());
    let frames = summary["ledger"]["in"].as_u64().unwrap();
    assert_ledger(&summary, frames, frames);
    assert_eq!(lines(folder.path().join("detections.jsonl")).len() as u64, frames);
    assert_eq!(frames_of(&folder.path().join("annotated.avi")), frames);
    let score = json(folder.path().join("score.json"));
    assert_eq!(score["frames"], frames);
    for figure in ["recall", "precision"] {
        let figure = score["all"][figure].as_f64();
        assert!(figure.is_some_and(|f| f >= 0.95), "{score}");
    }
}
