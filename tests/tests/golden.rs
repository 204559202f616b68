//! Faulty pipelines and arguments, and the exact words that the command says about them.
//!
//! `tests/golden/check/CASE` holds `pipeline.yaml`, where needed `set` (one `--set` argument per line), and
//! `expected.txt`: what `flowrun check` writes to stderr. `tests/golden/run/CASE` holds `expected.txt`: the
//! exit code and stderr of `flowrun --quiet run pipeline.yaml`, or of the command in `args` (one argument per
//! line) with the environment in `env`. Cases of `run` find the small files that `populate` makes beside their
//! pipeline.
//!
//! `tests/golden/benchmark_app/CASE` holds `args` and `expected.txt` in the same way, for that command; what it prints
//! on stdout is its own matter.
//!
//! `FLOW_BLESS=1 cargo test -p flow-tests --test golden` writes the expectations anew; read them afterwards.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use flow_tests::command::Flowrun;
use flow_tests::{media, network};

const FLOWRUN: &str = env!("CARGO_BIN_EXE_flowrun-under-test");
const BENCHMARK_APP: &str = env!("CARGO_BIN_EXE_benchmark-app-under-test");

fn cases(of: &str) -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden").join(of);
    let mut folders: Vec<_> = std::fs::read_dir(&root)
        .unwrap()
        .map(|e| e.unwrap().path())
        .collect();
    folders.sort();
    folders
}

fn lines(file: PathBuf) -> Vec<String> {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

/// Compares with the expectation, or writes it anew.
fn compare(folder: &Path, said: &str, wrong: &mut String) {
    let expectation = folder.join("expected.txt");
    if std::env::var_os("FLOW_BLESS").is_some() {
        std::fs::write(&expectation, said).unwrap();
        return;
    }
    let expected = std::fs::read_to_string(&expectation).unwrap_or_default();
    if said != expected {
        wrong.push_str(&format!(
            "== {}\n-- expected\n{expected}-- found\n{said}",
            folder.display()
        ));
    }
}

/// Codes such as `error[E0107]` in a text.
fn codes(said: &str) -> impl Iterator<Item = String> + '_ {
    said.match_indices("[E0")
        .filter_map(|(at, _)| said.get(at + 1..at + 6).map(str::to_owned))
}

#[test]
fn check_says_what_is_expected_and_every_code_has_a_case() {
    let folders = cases("check");
    assert!(folders.len() >= 35, "only {} cases", folders.len());
    let mut seen = BTreeSet::new();
    let mut wrong = String::new();
    for folder in &folders {
        let mut arguments = vec!["check".to_owned(), "pipeline.yaml".to_owned()];
        for set in lines(folder.join("set")) {
            arguments.extend(["--set".to_owned(), set]);
        }
        let finished = Flowrun::new(FLOWRUN, folder, &arguments).run();
        let errors = finished.stderr.contains("error[");
        let name = folder.display();
        assert_eq!(finished.code, Some(if errors { 2 } else { 0 }), "{name}");
        assert_eq!(finished.stdout.is_empty(), errors, "{name}");
        seen.extend(codes(&finished.stderr));
        compare(folder, &finished.stderr, &mut wrong);
    }
    assert!(wrong.is_empty(), "{wrong}");
    // E0001 and E0213 stand among the cases of `run`; E0003 wants a file of more than 1 MiB.
    let elsewhere = ["E0001", "E0003", "E0213"];
    let unseen: Vec<&str> = flow::codes::all()
        .map(|e| e.code)
        .filter(|code| *code < "E0300" && !("E0120"..="E0199").contains(code))
        .filter(|code| !seen.contains(*code) && !elsewhere.contains(code))
        .collect();
    assert!(unseen.is_empty(), "no case shows {unseen:?}");
}

/// The files that the cases of `run` name.
fn populate(folder: &Path) {
    let put = |name: &str, bytes: &[u8]| std::fs::write(folder.join(name), bytes).unwrap();
    network::classifier(folder);
    network::detector(folder);
    std::fs::copy(folder.join("classifier.xml"), folder.join("no-weights.xml")).unwrap();
    let xml = std::fs::read_to_string(folder.join("classifier.xml")).unwrap();
    put("cut.xml", &xml.as_bytes()[..xml.len() / 2]);
    put("cut.bin", b"");
    put(
        "unknown-layer.xml",
        xml.replace("type=\"MatMul\"", "type=\"STFT\"").as_bytes(),
    );
    std::fs::copy(folder.join("classifier.bin"), folder.join("unknown-layer.bin")).unwrap();
    let weights = std::fs::read(folder.join("classifier.bin")).unwrap();
    std::fs::copy(folder.join("classifier.xml"), folder.join("short-weights.xml")).unwrap();
    put("short-weights.bin", &weights[..weights.len() / 2]);
    put("clip.y4m", &media::y4m(64, 48, 4));
    put("empty.mp4", b"");
    put(
        "noise.mp4",
        b"this is a text, not a clip; it only has the ending of one",
    );
    put("picture.ppm", &media::ppm(40, 30));
    let clip = std::fs::read(media::clip("baseline.mp4")).unwrap();
    put("cut.mp4", &clip[..clip.len() / 2]);
    put("labels.txt", b"a\nb\n");
    let array = flow_model::Tensor::from_slice(&[1, 3, 24, 32], &[0i32; 3 * 24 * 32]).unwrap();
    flow_model::npy::write(folder.join("data.npy"), &array).unwrap();
    put("a-file", b"");
    std::fs::create_dir(folder.join("empty-folder")).unwrap();
}

/// The text without what differs from run to run: folders, the times of log lines, the CPUs of the machine.
fn normal(said: &str, place: &Path) -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let allowed = status.lines().find_map(|l| l.strip_prefix("Cpus_allowed_list:"));
    let allowed = format!("may use only {}", allowed.unwrap().trim());
    let mut normal = String::new();
    for line in said.lines() {
        match line.split_once("s ERROR ") {
            Some((time, rest)) if time.trim().parse::<f64>().is_ok() => {
                normal.push_str("TIME ERROR ");
                normal.push_str(rest);
            }
            _ => normal.push_str(line),
        }
        normal.push('\n');
    }
    normal
        .replace(&place.display().to_string(), "FOLDER")
        .replace(&allowed, "may use only CPUS")
}

#[test]
fn run_says_what_is_expected() {
    let folders = cases("run");
    assert!(folders.len() >= 30, "only {} cases", folders.len());
    let mut wrong = String::new();
    for case in &folders {
        let place = tempfile::tempdir().unwrap();
        populate(place.path());
        let pipeline = case.join("pipeline.yaml");
        if pipeline.exists() {
            std::fs::copy(&pipeline, place.path().join("pipeline.yaml")).unwrap();
        }
        let mut arguments = lines(case.join("args"));
        if arguments.is_empty() {
            arguments = ["--quiet", "run", "pipeline.yaml"].map(str::to_owned).to_vec();
        }
        let mut flowrun = Flowrun::new(FLOWRUN, place.path(), &arguments);
        for variable in lines(case.join("env")) {
            let (name, value) = variable.split_once('=').unwrap();
            flowrun = flowrun.env(name, value);
        }
        let finished = flowrun.run();
        assert!(!finished.stderr.contains("panicked"), "{}", finished.stderr);
        assert_eq!(finished.stdout, "", "{}", case.display());
        let said = normal(&finished.stderr, place.path());
        let said = format!("exit code {}\n{said}", finished.code.expect("it exits"));
        compare(case, &said, &mut wrong);
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn benchmark_app_says_what_is_expected() {
    let folders = cases("benchmark_app");
    assert!(folders.len() >= 20, "only {} cases", folders.len());
    let place = tempfile::tempdir().unwrap();
    populate(place.path());
    let mut wrong = String::new();
    for case in &folders {
        let finished = Flowrun::new(BENCHMARK_APP, place.path(), lines(case.join("args"))).run();
        assert!(!finished.stderr.contains("panicked"), "{}", finished.stderr);
        let said = normal(&finished.stderr, place.path());
        let said = format!("exit code {}\n{said}", finished.code.expect("it exits"));
        compare(case, &said, &mut wrong);
    }
    assert!(wrong.is_empty(), "{wrong}");
}
