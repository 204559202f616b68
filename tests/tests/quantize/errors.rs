//! The exact words of errors: `tests/golden/quantize/CASE.txt`. `FLOW_BLESS=1` writes them anew; read them afterwards.

use std::path::Path;

use flow_model::{Op, Tensor, ir};
use flow_tests::network;

use crate::{flowrun, in_f32, pictures, repository};

/// The words of `model quantize` with these arguments, in that folder.
fn said(folder: &Path, arguments: &[&str]) -> String {
    let all = [&["model", "quantize"], arguments].concat();
    let finished = flowrun(folder, &all);
    assert_eq!(finished.stdout, "", "{arguments:?}");
    format!("exit {}\n{}", finished.code.unwrap(), finished.stderr)
}

fn check(case: &str, found: &str) {
    let path = format!("{}/golden/quantize/{case}.txt", env!("CARGO_MANIFEST_DIR"));
    if std::env::var_os("FLOW_BLESS").is_some() {
        std::fs::write(&path, found).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        found == expected,
        "{case}\n-- expected\n{expected}-- found\n{found}"
    );
}

#[test]
fn errors_say_what_was_expected_what_was_found_and_what_to_do() {
    let with = pictures(3);
    let folder = with.path();
    std::fs::remove_file(folder.join("data/torn.jpg")).unwrap();
    std::fs::create_dir(folder.join("empty")).unwrap();
    let torn = folder.join("torn");
    std::fs::create_dir(&torn).unwrap();
    std::fs::write(torn.join("a.jpg"), b"\xff\xd8\xff no picture").unwrap();
    let graph = in_f32(network::classifier_graph(5));
    ir::write(&graph, folder.join("net.xml")).unwrap();
    network::classifier(folder);
    let open = graph
        .with_input_shapes(&[vec![None, Some(3), Some(24), None]])
        .unwrap();
    ir::write(&open, folder.join("open.xml")).unwrap();
    let mut broken = graph.clone();
    for node in &mut broken.nodes {
        if let Op::Constant(tensor) = &mut node.op
            && tensor.shape().len() == 4
        {
            let mut values = tensor.to_f32();
            values[0] = f32::NAN;
            *tensor = Tensor::from_slice(tensor.shape(), &values).unwrap();
            break;
        }
    }
    ir::write(&broken, folder.join("nan.xml")).unwrap();
    let run = |case: &str, arguments: &[&str]| check(case, &said(folder, arguments));
    run("no_pictures", &["net.xml", "--data", "empty", "-o", "q.xml"]);
    run(
        "nothing_named",
        &["net.xml", "--data", "shots/*.png", "-o", "q.xml"],
    );
    run("none_decodes", &["net.xml", "--data", "torn", "-o", "q.xml"]);
    run(
        "too_few",
        &[
            "net.xml",
            "--data",
            "data/0.ppm",
            "-o",
            "q.xml",
            "--max-drop",
            "0.1",
        ],
    );
    run(
        "quantized_already",
        &["classifier.xml", "--data", "data", "-o", "q.xml"],
    );
    run("open_shape", &["open.xml", "--data", "data", "-o", "q.xml"]);
    run(
        "not_finite",
        &["nan.xml", "--data", "data", "-o", "q.xml", "--threads", "1"],
    );
    // A folder that nobody can write to, whoever runs the tests.
    run(
        "cannot_write",
        &["net.xml", "--data", "data", "-o", "/proc/q.xml"],
    );
    run("no_such_model", &["nothing.xml", "--data", "data", "-o", "q.xml"]);
    run("over_the_model", &["net.xml", "--data", "data", "-o", "net.xml"]);
    run(
        "metric_without_use",
        &["net.xml", "--data", "data", "-o", "q.xml", "--metric", "top1"],
    );
    run(
        "no_boxes",
        &[
            "net.xml",
            "--data",
            "data",
            "-o",
            "q.xml",
            "--max-drop",
            "0",
            "--metric",
            "map",
        ],
    );
    std::fs::write(folder.join("q.xml.calibration"), "something else").unwrap();
    run("kept_is_nothing", &["net.xml", "--data", "data", "-o", "q.xml"]);
    assert!(!folder.join("q.xml").exists());
    std::fs::remove_file(folder.join("q.xml.calibration")).unwrap();
    // What the message about the open shape advises works.
    flowrun(
        folder,
        &[
            "model",
            "quantize",
            "open.xml",
            "--data",
            "data",
            "-o",
            "q.xml",
            "--shape",
            "[1,3,24,32]",
        ],
    )
    .expect(0);
}

#[test]
fn the_files_of_golden_texts_are_all_used() {
    let texts = std::fs::read_dir(Path::new(&repository("tests/golden/quantize"))).unwrap();
    assert_eq!(texts.count(), 13);
}
