//! The documentation against the code: generated pages are current; links, kinds, commands and targets exist.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("..")
        .canonicalize()
        .unwrap()
}

/// Path and text of the README, the pages of `docs` and the READMEs of examples.
fn pages() -> Vec<(PathBuf, String)> {
    let root = root();
    let mut paths = vec![root.join("README.md")];
    for folder in ["docs", "examples"] {
        for entry in std::fs::read_dir(root.join(folder)).unwrap() {
            let path = entry.unwrap().path();
            paths.push(if path.is_dir() {
                path.join("README.md")
            } else {
                path
            });
        }
    }
    paths.retain(|p| p.extension().is_some_and(|e| e == "md") && p.is_file());
    assert!(paths.len() >= 10, "only {} pages found", paths.len());
    paths
        .into_iter()
        .map(|p| {
            let text = std::fs::read_to_string(&p).unwrap();
            (p, text)
        })
        .collect()
}

/// Code of a page: lines of code blocks, and inline code with its line breaks as spaces.
fn code(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (i, part) in text.split("```").enumerate() {
        if i % 2 == 1 {
            found.extend(part.lines().skip(1).map(str::to_owned));
        } else {
            let (blocks, prose): (Vec<&str>, Vec<&str>) = part.lines().partition(|l| l.starts_with("    "));
            found.extend(blocks.into_iter().map(str::to_owned));
            let prose = prose.join("\n");
            found.extend(
                prose
                    .split('`')
                    .skip(1)
                    .step_by(2)
                    .map(|span| span.replace('\n', " ")),
            );
        }
    }
    found
}

fn check_generated(name: &str, generated: &str) {
    let committed = std::fs::read_to_string(root().join("docs").join(name)).unwrap_or_default();
    let line = committed
        .lines()
        .zip(generated.lines())
        .position(|(a, b)| a != b)
        .unwrap_or(committed.lines().count().min(generated.lines().count()));
    assert!(
        committed == generated,
        "docs/{name} is not what the code says, from line {} on; `make docs` writes it anew:\n{}",
        line + 1,
        generated.lines().nth(line).unwrap_or_default()
    );
}

#[test]
fn the_reference_is_current() {
    check_generated("config.md", &flow::schema::markdown(&flowrun::registry()));
}

#[test]
fn the_page_of_error_codes_is_current() {
    check_generated("error-codes.md", &flow::codes::markdown());
}

/// The anchor that a heading gets on common forges.
fn anchor(heading: &str) -> String {
    heading
        .trim_start_matches('#')
        .trim()
        .to_lowercase()
        .chars()
        .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'))
        .map(|c| if c == ' ' { '-' } else { c })
        .collect()
}

#[test]
fn links_lead_somewhere() {
    let mut wrong = Vec::new();
    let mut count = 0;
    for (page, text) in pages() {
        for target in text.split("](").skip(1).filter_map(|t| t.split(')').next()) {
            if target.contains("://") {
                continue;
            }
            count += 1;
            let (path, heading) = target.split_once('#').unwrap_or((target, ""));
            let file = if path.is_empty() {
                page.clone()
            } else {
                page.parent().unwrap().join(path)
            };
            let found = file.exists()
                && (heading.is_empty()
                    || std::fs::read_to_string(&file)
                        .unwrap_or_default()
                        .lines()
                        .any(|l| l.starts_with('#') && anchor(l) == heading));
            if !found {
                wrong.push(format!("{}: {target}", page.display()));
            }
        }
    }
    assert!(count > 20, "only {count} links found");
    assert!(wrong.is_empty(), "links to nothing:\n{}", wrong.join("\n"));
}

#[test]
fn every_page_is_in_the_list() {
    let list = std::fs::read_to_string(root().join("docs/README.md")).unwrap();
    for entry in std::fs::read_dir(root().join("docs")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(
            name == "README.md" || !name.ends_with(".md") || list.contains(&format!("]({name})")),
            "docs/README.md does not list {name}"
        );
    }
}

#[test]
fn whole_pipelines_in_pages_pass_the_check() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("page.yaml");
    let mut count = 0;
    for (page, text) in pages() {
        for block in text
            .split("```yaml\n")
            .skip(1)
            .filter_map(|b| b.split("```").next())
        {
            if !block.starts_with("version: 1\n") {
                continue;
            }
            count += 1;
            std::fs::write(&file, block).unwrap();
            let mut command = Command::new(env!("CARGO_BIN_EXE_flowrun-under-test"));
            let done = command
                .arg("check")
                .arg(&file)
                .env("DOOR", "rtsp://door")
                .output()
                .unwrap();
            let said = String::from_utf8_lossy(&done.stderr);
            assert!(
                done.status.success() && said.is_empty(),
                "{}:\n{block}{said}",
                page.display()
            );
        }
    }
    assert!(count >= 2, "only {count} pipelines found");
}

#[test]
fn kinds_exist() {
    let registry = flowrun::registry();
    let mut known: BTreeSet<&str> = registry.kinds().map(|k| k.info.name).collect();
    // What the pages about kinds of one's own define.
    known.extend(["dark", "motion"]);
    let mut wrong = Vec::new();
    let mut count = 0;
    for (page, text) in pages() {
        // Examples of what is wrong name their code.
        for line in code(&text).iter().filter(|l| !l.contains("# E0")) {
            let starts = line.match_indices("type: ").filter(|(at, _)| {
                // Not `dtype: `.
                !line[..*at].ends_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
            });
            for (at, key) in starts {
                let kind: String = line[at + key.len()..]
                    .chars()
                    .take_while(|c| c.is_ascii_alphanumeric() || *c == '_')
                    .collect();
                count += 1;
                if !kind.starts_with(|c: char| c.is_ascii_lowercase()) || known.contains(kind.as_str()) {
                    continue;
                }
                wrong.push(format!("{}: {line}", page.display()));
            }
        }
    }
    assert!(count > 10, "only {count} kinds found");
    assert!(wrong.is_empty(), "kinds that do not exist:\n{}", wrong.join("\n"));
}

/// The help of a command; `None` if there is no such command.
fn help(command: &[&str]) -> Option<String> {
    let done = Command::new(env!("CARGO_BIN_EXE_flowrun-under-test"))
        .args(command)
        .arg("--help")
        .output()
        .unwrap();
    done.status
        .success()
        .then(|| String::from_utf8(done.stdout).unwrap())
}

#[test]
fn commands_and_their_options_exist() {
    let mut wrong = Vec::new();
    let mut count = 0;
    for (page, text) in pages() {
        for line in code(&text) {
            // Environment variables may stand before a command, and a comment behind it.
            let words: Vec<&str> = line
                .split_whitespace()
                .take_while(|w| !w.starts_with('#') && !matches!(*w, "|" | ">" | "&&"))
                .skip_while(|w| w.contains('='))
                .collect();
            let Some((program, arguments)) = words.split_first() else {
                continue;
            };
            if *program != "flowrun" && !program.ends_with("/flowrun") {
                continue;
            }
            let depth = if arguments.first() == Some(&"model") { 2 } else { 1 };
            let command: Vec<&str> = arguments
                .iter()
                .copied()
                .filter(|w| !w.starts_with('-'))
                .take(depth)
                .collect();
            // Words in capitals stand for any.
            if command
                .iter()
                .any(|w| w.starts_with(|c: char| c.is_ascii_uppercase()))
            {
                continue;
            }
            count += 1;
            let Some(help) = help(&command) else {
                wrong.push(format!("{}: {line}", page.display()));
                continue;
            };
            let options = arguments.iter().filter(|w| w.starts_with("--"));
            for option in options.map(|w| w.split('=').next().unwrap()) {
                if !help.contains(option) {
                    wrong.push(format!("{}: no {option} in {line}", page.display()));
                }
            }
        }
    }
    assert!(count > 10, "only {count} commands found");
    assert!(
        wrong.is_empty(),
        "commands that do not exist:\n{}",
        wrong.join("\n")
    );
}

#[test]
fn make_targets_exist() {
    let makefile = std::fs::read_to_string(root().join("Makefile")).unwrap();
    let mut count = 0;
    for (page, text) in pages() {
        for line in code(&text) {
            let mut words = line.split_whitespace().skip_while(|w| w.contains('='));
            if words.next() != Some("make") {
                continue;
            }
            let Some(target) = words.find(|w| !w.contains('=')) else {
                continue;
            };
            count += 1;
            assert!(
                makefile.lines().any(|l| l.starts_with(&format!("{target}:"))),
                "{}: no target {target}",
                page.display()
            );
        }
    }
    assert!(count > 1, "only {count} targets found");
}
