//! What a quantization leaves, and what it does not touch.

use crate::{PREPROCESS, detector, flowrun, names, pictures, quantize};

#[test]
fn a_report_needs_no_samples_of_its_own() {
    let folder = pictures(1);
    let arguments = [
        "--data",
        "data",
        "-o",
        "q.xml",
        "--preprocess",
        PREPROCESS,
        "--report",
        "q.html",
    ];
    quantize(folder.path(), &arguments).expect(0);
    let page = std::fs::read_to_string(folder.path().join("q.html")).unwrap();
    assert!(page.contains("no others were held out"), "{page}");
    assert_eq!(names(folder.path()), ["data", "q.bin", "q.html", "q.xml"]);
}

#[test]
fn a_quiet_command_tells_no_warning_and_still_counts_what_is_left_out() {
    let folder = pictures(2);
    let told = |quiet: &[&str]| {
        let arguments = [
            "--data",
            "data",
            "-o",
            "q.xml",
            "--preprocess",
            PREPROCESS,
            "--json",
        ];
        quantize(folder.path(), &[&arguments[..], quiet].concat()).expect(0)
    };
    let (loud, quiet) = (told(&[]), told(&["--quiet"]));
    assert!(loud.stderr.contains("torn.jpg"), "{}", loud.stderr);
    assert_eq!(quiet.stderr, "");
    assert_eq!(
        (&loud.json()["skipped"], &quiet.json()["skipped"]),
        (&1.into(), &1.into())
    );
}

#[test]
fn weights_are_rounded_by_the_samples_where_that_is_asked_for() {
    let folder = pictures(3);
    let made = |extra: &[&str]| {
        let arguments = [
            "--data",
            "data",
            "-o",
            "q.xml",
            "--preprocess",
            PREPROCESS,
            "--quiet",
        ];
        quantize(folder.path(), &[&arguments[..], extra].concat()).expect(0);
        std::fs::read(folder.path().join("q.bin")).unwrap()
    };
    let (nearest, chosen) = (made(&[]), made(&["--adaround"]));
    assert_eq!(nearest.len(), chosen.len());
    assert_ne!(nearest, chosen);
    assert_eq!(made(&["--adaround", "--threads", "1"]), chosen);
}

#[test]
fn nothing_can_be_measured_on_no_samples() {
    let folder = pictures(1);
    let common = [
        "--data",
        "data",
        "-o",
        "q.xml",
        "--preprocess",
        PREPROCESS,
        "--max-drop",
        "0.1",
    ];
    let finished = quantize(folder.path(), &common).expect(4);
    assert!(
        finished.stderr.contains("at least 2") && finished.stderr.contains("does not see"),
        "{}",
        finished.stderr
    );
    let none = [&common[..], &["--held-out", "0"]].concat();
    let finished = quantize(folder.path(), &none).expect(2);
    assert!(finished.stderr.contains("--held-out"), "{}", finished.stderr);
}

#[test]
fn the_model_that_is_quantized_is_not_written_over() {
    let folder = pictures(1);
    let (from, to) = (detector(), folder.path().join("net.xml"));
    std::fs::copy(&from, &to).unwrap();
    std::fs::copy(from.replace(".xml", ".bin"), folder.path().join("net.bin")).unwrap();
    let before = std::fs::read(&to).unwrap();
    std::os::unix::fs::symlink("net.xml", folder.path().join("link.xml")).unwrap();
    let run = |output: &str| {
        let arguments = ["model", "quantize", "net.xml", "--data", "data", "-o", output];
        flowrun(folder.path(), &arguments).expect(2).stderr
    };
    for output in ["net.xml", "./net.xml", "data/../net.xml", "link.xml"] {
        let said = run(output);
        assert!(said.contains("choose another name"), "{output}: {said}");
    }
    for output in ["net.bin", "q", "q.bin"] {
        let said = run(output);
        assert!(said.contains(".xml"), "{output}: {said}");
    }
    assert!(run("data").contains(".xml"));
    assert_eq!(std::fs::read(&to).unwrap(), before);
    assert_eq!(names(folder.path()), ["data", "link.xml", "net.bin", "net.xml"]);
}

#[test]
fn a_report_that_cannot_be_written_costs_no_work() {
    let folder = pictures(1);
    for report in ["nowhere/q.html", "data"] {
        let arguments = ["--data", "data", "-o", "q.xml", "--report", report];
        let finished = quantize(folder.path(), &arguments).expect(2);
        assert!(finished.stderr.contains(report), "{}", finished.stderr);
        let model = detector();
        let arguments = [
            "model", "compare", &model, &model, "--data", "data", "--report", report,
        ];
        let finished = flowrun(folder.path(), &arguments).expect(2);
        assert!(finished.stderr.contains(report), "{}", finished.stderr);
    }
    assert_eq!(names(folder.path()), ["data"]);
}
