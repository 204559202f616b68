//! Every error code that the sources use is explained, and every code that is explained is used.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

fn rust_files(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            rust_files(&path, files);
        } else if path.extension().is_some_and(|e| e == "rs") {
            files.push(path);
        }
    }
}

/// Codes such as `E0107` that stand in quotes.
fn quoted_codes(text: &str) -> impl Iterator<Item = String> + '_ {
    text.split('"')
        .filter(|part| {
            part.len() == 5 && part.starts_with("E0") && part[1..].bytes().all(|b| b.is_ascii_digit())
        })
        .map(str::to_owned)
}

#[test]
fn used_and_explained_codes_are_the_same() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut files = Vec::new();
    for folder in ["framework/src", "stages", "pipelines/src"] {
        rust_files(&root.join(folder), &mut files);
    }
    assert!(files.len() > 50, "only {} source files found", files.len());
    let table = std::fs::read_to_string(root.join("framework/src/codes.rs")).unwrap();
    let named: Vec<(&str, &str)> = table
        .lines()
        .filter_map(|line| {
            let (name, rest) = line.trim().split_once(" = \"E0")?;
            let code = &line[line.find("\"E0")? + 1..][..5];
            (!rest.is_empty()).then_some((name, code))
        })
        .collect();
    assert!(named.len() > 30, "only {} named codes found", named.len());
    let mut used = BTreeSet::new();
    for file in &files {
        if file.to_string_lossy().contains("framework/src/codes") {
            continue;
        }
        let text = std::fs::read_to_string(file).unwrap();
        used.extend(quoted_codes(&text));
        for (name, code) in &named {
            let reference = format!("codes::{name}");
            let is_used = text.match_indices(&reference).any(|(at, _)| {
                let after = text[at + reference.len()..].chars().next();
                !after.is_some_and(|c| c.is_ascii_alphanumeric() || c == '_')
            });
            if is_used {
                used.insert((*code).to_owned());
            }
        }
    }
    // Stands in a test for a code that is not explained.
    used.remove("E9999");
    let explained: BTreeSet<String> = flow::codes::all().map(|e| e.code.to_owned()).collect();
    let missing: Vec<_> = used.difference(&explained).collect();
    let unused: Vec<_> = explained.difference(&used).collect();
    assert!(missing.is_empty(), "not explained: {missing:?}");
    assert!(unused.is_empty(), "explained but not used: {unused:?}");
}
