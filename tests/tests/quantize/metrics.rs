//! Scores of `--max-drop`.

use std::fmt::Write as _;

use flow_tests::network;
use serde_json::Value as Json;

use crate::{PREPROCESS, clip, flowrun, in_f32, pictures, quantize, repository};

/// What `--max-drop` measures on some frames of the demo's clip.
#[track_caller]
fn measured(extra: &[&str]) -> Json {
    let folder = tempfile::tempdir().unwrap();
    let (clip, demo) = (clip(), repository("pipelines/demo.yaml"));
    let common = [
        "--data",
        &clip,
        "--preprocess",
        &demo,
        "--subset",
        "6",
        "--held-out",
        "6",
        "--max-drop",
        "1",
    ];
    let arguments = [&common[..], &["-o", "q.xml", "--json"], extra].concat();
    quantize(folder.path(), &arguments).expect(0).json()["accuracy"].clone()
}

#[test]
fn precision_is_measured_against_true_boxes_and_against_those_of_f32() {
    let truth = repository("pipelines/demo/scene.truth.jsonl");
    let by_truth = measured(&["--metric", "map50", "--truth", &truth]);
    let score = |of: &Json, key: &str| of[key].as_f64().unwrap();
    // The network is good, and not perfect.
    let reference = score(&by_truth, "reference");
    assert!((0.8..1.0).contains(&reference), "{by_truth}");
    assert!(
        (score(&by_truth, "reached") - reference).abs() < 0.1,
        "{by_truth}"
    );
    assert_eq!(by_truth["held_out"], 6);
    let strict = measured(&["--metric", "map", "--truth", &truth]);
    assert!(score(&strict, "reference") < reference, "{strict}");
    // Limits that clip much find other boxes.
    let by_f32 = measured(&["--metric", "map", "--estimator", "quantile:0.1"]);
    assert_eq!(score(&by_f32, "reference"), 1.0);
    assert!((0.1..1.0).contains(&score(&by_f32, "reached")), "{by_f32}");
}

#[test]
fn true_classes_are_looked_up_by_the_name_of_the_picture() {
    let folder = pictures(6);
    let graph = in_f32(network::classifier_graph(5));
    flow_model::ir::write(&graph, folder.path().join("classifier.xml")).unwrap();
    std::fs::remove_file(folder.path().join("data/torn.jpg")).unwrap();
    let run = |extra: &[&str]| {
        let common = [
            "model",
            "quantize",
            "classifier.xml",
            "--data",
            "data",
            "-o",
            "q.xml",
            "--json",
        ];
        let metric = ["--max-drop", "1", "--metric", "top1"];
        flowrun(folder.path(), &[&common[..], &metric, extra].concat())
    };
    let write = |class: usize, names: std::ops::Range<usize>| {
        let mut text = String::new();
        names.for_each(|n| writeln!(text, "pictures/{n}.ppm {class}").unwrap());
        std::fs::write(folder.path().join("classes.txt"), text).unwrap();
    };
    let mut sum = 0.0;
    for class in 0..5 {
        write(class, 0..6);
        let told = run(&["--truth", "classes.txt"]).expect(0).json();
        sum += told["accuracy"]["reference"].as_f64().unwrap();
    }
    assert!((sum - 1.0).abs() < 1e-9, "each picture has one class: {sum}");
    let told = run(&[]).expect(0).json();
    assert_eq!(told["accuracy"]["reference"], 1.0, "against f32");
    write(5, 0..6);
    let said = run(&["--truth", "classes.txt"]).expect(2).stderr;
    assert!(said.contains("line 1") && said.contains("has 5"), "{said}");
    write(0, 0..2);
    let said = run(&["--truth", "classes.txt"]).expect(2).stderr;
    assert!(said.contains("no line names"), "{said}");
}

#[test]
fn what_a_metric_lacks_is_said() {
    let folder = pictures(3);
    let common = [
        "--data",
        "data",
        "-o",
        "q.xml",
        "--preprocess",
        PREPROCESS,
        "--max-drop",
        "1",
    ];
    let said = |code: i32, extra: &[&str]| {
        let arguments = [&common[..], extra].concat();
        quantize(folder.path(), &arguments).expect(code).stderr
    };
    let text = said(2, &["--metric", "map"]);
    assert!(text.contains("--detect"), "{text}");
    let text = said(4, &["--metric", "map", "--detect", "{format: yolov8}"]);
    assert!(text.contains("shape"), "{text}");
    let text = said(
        2,
        &["--metric", "map", "--detect", "{format: yolov8, threshold: 3}"],
    );
    assert!(text.contains("threshold"), "{text}");
    let text = said(2, &["--metric", "nmse", "--truth", "x.txt"]);
    assert!(text.contains("--truth belongs to"), "{text}");
    let truth = repository("pipelines/demo/scene.truth.jsonl");
    let detect = [
        "--metric",
        "map",
        "--detect",
        "{format: fastestdet}",
        "--truth",
        &truth,
    ];
    let text = said(2, &detect);
    assert!(text.contains("`origin`") && text.contains(".ppm"), "{text}");
    let text = said(4, &["--metric", "no-such-metric"]);
    assert!(text.contains("map50"), "{text}");
}

#[test]
fn a_search_names_the_best_and_what_chose_does_not_judge() {
    let folder = tempfile::tempdir().unwrap();
    let (clip, demo) = (clip(), repository("pipelines/demo.yaml"));
    let common = [
        "--data",
        &clip,
        "--preprocess",
        &demo,
        "--subset",
        "4",
        "--held-out",
        "4",
        "--search",
    ];
    let limits = ["--max-drop", "1", "--report", "q.html", "-o", "q.xml", "--json"];
    let told = quantize(folder.path(), &[&common[..], &limits].concat())
        .expect(0)
        .json();
    let tried = told["search"].as_array().unwrap();
    assert!(tried.len() >= 16, "{told}");
    let scores: Vec<f64> = tried.iter().map(|t| t["score"].as_f64().unwrap()).collect();
    assert!(scores.is_sorted_by(|a, b| a >= b), "{told}");
    // Of four samples held out two choose, and two judge.
    assert_eq!(
        (&told["samples"], &told["accuracy"]["held_out"]),
        (&4.into(), &2.into()),
        "{told}"
    );
    let page = std::fs::read_to_string(folder.path().join("q.html")).unwrap();
    assert!(
        page.contains("the best of") && page.contains("Tried: mixed, mean, bias none"),
        "{page}"
    );
    assert!(folder.path().join("q.xml").exists());
}
