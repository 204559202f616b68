//! Faulty pipeline files and the exact words that are said about them: `tests/golden/check/CASE` holds
//! `pipeline.yaml`, where needed `set` (one `--set` argument per line), and `expected.txt`.
//!
//! `FLOW_BLESS=1 cargo test -p flow --test golden_check` writes the expectations anew; read them afterwards.
#![allow(clippy::unwrap_used)]

#[path = "support/registry.rs"]
mod registry;

use std::collections::BTreeSet;
use std::path::Path;

use flow::config::{Options, check, parse};
use flow::diagnostics::Diagnostics;

/// What `check` says about the file in `folder`.
fn found(folder: &Path) -> Diagnostics {
    let bytes = std::fs::read(folder.join("pipeline.yaml")).unwrap();
    let set = std::fs::read_to_string(folder.join("set")).unwrap_or_default();
    let set: Vec<String> = set.lines().map(str::to_owned).collect();
    let options = Options {
        set: &set,
        environment: &|_| None,
    };
    match parse("pipeline.yaml", &bytes, &options).and_then(|d| check(&d, &registry::registry())) {
        Ok(checked) => checked.warnings,
        Err(diagnostics) => diagnostics,
    }
}

#[test]
fn every_case_says_what_is_expected_and_every_code_has_a_case() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/check");
    let mut folders: Vec<_> = std::fs::read_dir(&root)
        .unwrap()
        .map(|e| e.unwrap().path())
        .collect();
    folders.sort();
    assert!(folders.len() >= 35, "only {} cases", folders.len());
    let bless = std::env::var_os("FLOW_BLESS").is_some();
    let mut codes = BTreeSet::new();
    let mut wrong = String::new();
    for folder in &folders {
        let diagnostics = found(folder);
        codes.extend(diagnostics.iter().map(|d| d.code.0));
        let said = diagnostics.to_string();
        let expectation = folder.join("expected.txt");
        if bless {
            std::fs::write(&expectation, said).unwrap();
            continue;
        }
        let expected = std::fs::read_to_string(&expectation).unwrap_or_default();
        if said != expected {
            wrong.push_str(&format!(
                "== {}\n-- expected\n{expected}-- found\n{said}",
                folder.display()
            ));
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
    // E0001 wants a file that cannot be read, E0003 one of more than 1 MiB, E0213 prepared stages.
    let elsewhere = ["E0001", "E0003", "E0213"];
    let unseen: Vec<&str> = flow::codes::all()
        .map(|e| e.code)
        .filter(|code| *code < "E0300" && !("E0120"..="E0199").contains(code))
        .filter(|code| !codes.contains(code) && !elsewhere.contains(code))
        .collect();
    assert!(unseen.is_empty(), "no case shows {unseen:?}");
}
