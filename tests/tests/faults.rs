//! Damaged media and models: an error or a counted loss, never a panic, a hang or an unbalanced ledger.
//!
//! Everything is seeded: a failure names the seed, and the same seed fails again.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests")]

use std::path::Path;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use flow::config::{Options, check, parse, prepare};
use flow::registry::Registry;
use flow::runtime::{Outcome, RunOptions, RunReport, start};
use flow_inference::{Device, Engine};
use flow_model::{ElementType, Tensor, ir};
use flow_tests::command::{Flowrun, assert_balanced, json};
use flow_tests::corrupt::{damaged, renumbered};
use flow_tests::{media, network};

const FLOWRUN: &str = env!("CARGO_BIN_EXE_flowrun-under-test");

/// Longer than any variant takes on a busy machine.
const STALLED: Duration = Duration::from_secs(60);

/// Runs `body` for each seed on a thread of its own; a panic or a stall fails the test and names the seed.
fn for_each_seed(seeds: u64, body: impl Fn(u64) + Send + 'static) {
    let (send, begun) = channel();
    let thread = std::thread::spawn(move || {
        for seed in 0..seeds {
            send.send(seed).unwrap();
            body(seed);
        }
    });
    let mut last = None;
    loop {
        match begun.recv_timeout(STALLED) {
            Ok(seed) => last = Some(seed),
            Err(RecvTimeoutError::Timeout) => panic!("seed {last:?} stalls"),
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    assert!(thread.join().is_ok(), "seed {last:?} panics");
    assert_eq!(last, Some(seeds - 1));
}

fn registry() -> Registry {
    let mut registry = Registry::new();
    flow_decode::register(&mut registry);
    flow_preprocess::register(&mut registry);
    flow_inference::register(&mut registry);
    flow_postprocess::register(&mut registry);
    flow_output::register(&mut registry);
    registry
}

/// Runs a pipeline in this process; `None` if it is refused before it starts.
fn run(folder: &Path, text: &str) -> Option<RunReport> {
    let text = text.replace("FOLDER", folder.to_str().unwrap());
    let options = Options {
        set: &[],
        environment: &|_| None,
        ..Options::default()
    };
    let document = parse("pipeline.yaml", text.as_bytes(), &options).unwrap_or_else(|e| panic!("{e}"));
    let checked = check(&document, &registry()).unwrap_or_else(|e| panic!("{e}"));
    let prepared = match prepare(&checked.pipeline, &registry()) {
        Ok(prepared) => prepared,
        Err(refused) => {
            assert!(refused.has_errors());
            return None;
        }
    };
    let report = start(prepared, &RunOptions::default()).unwrap().wait();
    assert!(report.ledger.balanced, "{report}");
    assert!(
        report.mismatches.is_empty() && report.wedged.is_empty(),
        "{report}"
    );
    let lost = report.ledger.dropped.keys().map(|reason| reason.to_string());
    let failure = report.failure.iter().map(|f| f.code.to_owned());
    for code in lost.chain(failure) {
        assert!(!code.contains("E0401"), "a stage panicked: {report}");
    }
    Some(report)
}

/// Runs damaged variants of a clip through a pipeline. Some must get through, some must not.
fn damage_clip(name: &'static str, whole: Vec<u8>, seeds: u64) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_owned();
    for_each_seed(seeds, move |seed| {
        std::fs::write(path.join(name), damaged(&whole, seed)).unwrap();
        let pipeline = format!(
            "version: 1\nsources:\n  clip: {{type: file, path: FOLDER/{name}}}\nstages:\n  \
             decode: {{type: decode, inputs: [clip]}}\n  prep: {{type: letterbox, inputs: [decode], size: [32, 24]}}\n\
             sinks:\n  done: {{type: null, inputs: [prep]}}\n"
        );
        if let Some(report) = run(&path, &pipeline) {
            assert!(report.ledger.entered <= 200, "{report}");
        }
    });
    drop(folder);
}

#[test]
fn damaged_clips_are_refused_or_their_losses_counted() {
    for name in ["baseline.mp4", "fragmented.mp4", "bframes.h264", "mjpeg.avi"] {
        damage_clip(name, std::fs::read(media::clip(name)).unwrap(), 100);
    }
    damage_clip("clip.y4m", media::y4m(32, 24, 6), 60);
    damage_clip("picture.ppm", media::ppm(40, 30), 60);
}

/// Loads a model for both devices and, if it can be loaded, runs it.
fn load_and_run(path: &Path) -> bool {
    let mut ran = false;
    for device in [Device::Cpu, Device::Reference] {
        let options = flow_inference::Options {
            device,
            ..flow_inference::Options::default()
        };
        let Ok(engine) = Engine::load(path, &options) else {
            continue;
        };
        let inputs: Option<Vec<Tensor>> = engine
            .inputs()
            .iter()
            .map(|port| {
                let count = port.shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d))?;
                let small = count <= 1 << 20 && port.element_type == ElementType::F32;
                small.then(|| Tensor::from_slice(&port.shape, &vec![100f32; count]).ok())?
            })
            .collect();
        if let Some(inputs) = inputs {
            ran |= engine.infer(&inputs).is_ok();
        }
    }
    ran
}

#[test]
fn damaged_models_are_refused_or_run() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_owned();
    let (xml, weights) = ir::to_bytes(&network::detector_graph()).unwrap();
    std::fs::write(path.join("net.bin"), &weights).unwrap();
    for_each_seed(400, move |seed| {
        let bytes = match seed % 4 {
            0 => damaged(xml.as_bytes(), seed),
            _ => renumbered(&xml, seed).into_bytes(),
        };
        std::fs::write(path.join("net.xml"), bytes).unwrap();
        load_and_run(&path.join("net.xml"));
    });
    let path = folder.path().to_owned();
    let (xml, weights) = ir::to_bytes(&network::classifier_graph(4)).unwrap();
    std::fs::write(path.join("net.xml"), &xml).unwrap();
    for_each_seed(200, move |seed| {
        std::fs::write(path.join("net.bin"), damaged(&weights, seed)).unwrap();
        load_and_run(&path.join("net.xml"));
    });
    // The helper itself can tell a model that runs.
    assert!(load_and_run(&network::classifier(folder.path())));
}

#[test]
fn the_damaged_detector_of_the_demo_is_refused_or_compiled() {
    let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("../pipelines/demo");
    let xml = std::fs::read_to_string(demo.join("detector-int8.xml")).unwrap();
    let weights = std::fs::read(demo.join("detector-int8.bin")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_owned();
    let compiles = move |xml: &str, weights: &[u8]| {
        std::fs::write(path.join("net.xml"), xml).unwrap();
        std::fs::write(path.join("net.bin"), weights).unwrap();
        match Engine::load(path.join("net.xml"), &flow_inference::Options::default()) {
            Ok(_) => true,
            Err(error) => {
                let text = error.to_string();
                assert!(text.contains("net."), "the file is not named: {text}");
                assert!(
                    text.contains("layer \"") || text.contains("net.xml:"),
                    "no place: {text}"
                );
                false
            }
        }
    };
    for_each_seed(120, move |seed| match seed {
        0 => assert!(compiles(&xml, &weights)),
        1 => assert!(!compiles(&xml, &weights[..weights.len() / 2])),
        _ if seed % 4 == 0 => drop(compiles(&xml, &damaged(&weights, seed))),
        _ => drop(compiles(&renumbered(&xml, seed), &weights)),
    });
}

#[test]
fn files_of_the_wrong_kind_are_refused_before_anything_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    network::classifier(path);
    let put = |name: &str, bytes: &[u8]| std::fs::write(path.join(name), bytes).unwrap();
    put("empty.xml", b"");
    put("one-byte.xml", b"\0");
    put("zeros.xml", &[0; 4096]);
    put("text.xml", b"version: 1\n");
    put("clip.xml", &std::fs::read(media::clip("baseline.mp4")).unwrap());
    put("deep.xml", "<a>".repeat(100_000).as_bytes());
    put(
        "entities.xml",
        b"<!DOCTYPE a [<!ENTITY b \"bbbbbbbb\">]><net>&b;</net>",
    );
    std::fs::create_dir(path.join("folder.xml")).unwrap();
    let model = "version: 1\nsources:\n  scene: {type: synthetic, size: [32, 24], count: 2}\nstages:\n  \
         prep: {type: resize, inputs: [scene], size: model}\n  net: {type: infer, inputs: [prep], model: FILE}\n  \
         top: {type: classify, inputs: [net]}\nsinks:\n  lines: {type: jsonl, inputs: [top], path: out/lines.jsonl}\n";
    let clip = "version: 1\nsources:\n  clip: {type: file, path: FILE}\nstages:\n  \
         decode: {type: decode, inputs: [clip]}\nsinks:\n  video: {type: video, inputs: [decode], path: out/out.avi}\n";
    let wrong = [
        "empty.xml",
        "one-byte.xml",
        "zeros.xml",
        "text.xml",
        "deep.xml",
        "entities.xml",
        "folder.xml",
        "/dev/null",
    ];
    let models = wrong
        .iter()
        .chain(&["clip.xml", "classifier.bin"])
        .map(|file| (model, file));
    let clips = wrong
        .iter()
        .chain(&["classifier.xml", "/dev/zero"])
        .map(|file| (clip, file));
    for (pipeline, file) in models.chain(clips) {
        put("pipeline.yaml", pipeline.replace("FILE", file).as_bytes());
        let finished = Flowrun::new(FLOWRUN, path, ["run", "pipeline.yaml"])
            .run()
            .expect(2);
        assert!(finished.stderr.contains("error[E0"), "{}", finished.stderr);
        assert!(
            finished.stderr.contains(file),
            "{file} is not named: {}",
            finished.stderr
        );
        assert!(!path.join("out").exists());
    }
    // The two pipelines run when they get what they ask for.
    std::fs::copy(media::clip("baseline.mp4"), path.join("clip.mp4")).unwrap();
    for (pipeline, file) in [(model, "classifier.xml"), (clip, "clip.mp4")] {
        put("pipeline.yaml", pipeline.replace("FILE", file).as_bytes());
        Flowrun::new(FLOWRUN, path, ["run", "pipeline.yaml"])
            .run()
            .expect(0);
    }
}

#[test]
fn a_clip_that_breaks_off_in_a_run_is_counted_and_its_copy_plays() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let clip = std::fs::read(media::clip("bframes.h264")).unwrap();
    std::fs::write(path.join("clip.h264"), &clip[..clip.len() * 2 / 3]).unwrap();
    let text = "version: 1\nsources:\n  clip: {type: file, path: clip.h264}\nstages:\n  \
         decode: {type: decode, inputs: [clip]}\nsinks:\n  video: {type: video, inputs: [decode], path: out.avi}\n";
    std::fs::write(path.join("pipeline.yaml"), text).unwrap();
    let arguments = ["run", "pipeline.yaml", "--summary", "summary.json"];
    let finished = Flowrun::new(FLOWRUN, path, arguments).run();
    assert!(matches!(finished.code, Some(0 | 3)), "{}", finished.stderr);
    let summary = json(path.join("summary.json"));
    assert_balanced(&summary);
    let out = summary["ledger"]["out"].as_u64().unwrap();
    assert!(out >= 8, "{summary}");
    let again = text
        .replace("out.avi", "again.avi")
        .replace("clip.h264", "out.avi");
    std::fs::write(path.join("pipeline.yaml"), again).unwrap();
    Flowrun::new(FLOWRUN, path, arguments).run().expect(0);
    assert_eq!(json(path.join("summary.json"))["ledger"]["out"], out);
}

#[test]
fn a_failure_in_the_middle_fails_the_run_and_keeps_what_was_delivered() {
    let folder = tempfile::tempdir().unwrap();
    let text = "version: 1\nsources:\n  clip: {type: images, path: FOLDER/shots}\nstages:\n  \
         decode: {type: decode, inputs: [clip], on_error: {action: fail}}\nsinks:\n  \
         video: {type: video, inputs: [decode], path: FOLDER/out.avi}\n";
    let shots = folder.path().join("shots");
    std::fs::create_dir(&shots).unwrap();
    for i in 0..4 {
        std::fs::write(shots.join(format!("{i}.ppm")), media::ppm(16, 16)).unwrap();
    }
    std::fs::write(shots.join("2.ppm"), b"P6 16 16 255\ncut").unwrap();
    let report = run(folder.path(), text).expect("it starts");
    assert_eq!(report.outcome, Outcome::Failed, "{report}");
    let failure = report.failure.expect("it says why");
    assert_eq!((&*failure.component, failure.code), ("decode", "E0512"));
    assert!(failure.message.contains("2.ppm"), "{}", failure.message);
    let text = "version: 1\nsources:\n  clip: {type: file, path: FOLDER/out.avi}\nsinks:\n  \
         done: {type: null, inputs: [clip]}\n";
    let copy = run(folder.path(), text).expect("the clip can be read");
    assert_eq!(copy.ledger.out, report.ledger.out);
}
