//! A pipeline that counts what crosses a line and how long it stays, with a sink kind of one's own.

mod geometry;
mod zones;

use std::process::ExitCode;

use flow::config;
use flow::registry::Registry;
use flow::runtime::{self, RunOptions, RunReport};

/// Objects that move about; `truth` finds them as a detector would, `track` follows them.
const PIPELINE: &str = r#"
version: 1
name: zones
sources:
  scene: {type: synthetic, size: [640, 360], count: 300, seed: 11}
stages:
  found: {type: truth, inputs: [scene]}
  tracks: {type: track, inputs: [found]}
sinks:
  events:
    type: zones
    inputs: [tracks]
    path: "-"
    lines:
      middle: [[320, 360], [320, 0]]
    zones:
      left half: [[0, 0], [320, 0], [320, 360], [0, 360]]
"#;

fn main() -> ExitCode {
    match run(PIPELINE) {
        Ok(report) => {
            eprint!("{report}");
            ExitCode::from(report.exit_code())
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(2)
        }
    }
}

/// The kinds that pipelines of this program may use.
fn registry() -> Registry {
    let mut registry = Registry::new();
    flow_decode::register(&mut registry);
    flow_postprocess::register(&mut registry);
    flow_output::register(&mut registry);
    zones::register(&mut registry);
    registry
}

/// Takes a pipeline through its four phases: parse, check, prepare, run.
fn run(yaml: &str) -> Result<RunReport, Box<dyn std::error::Error>> {
    let registry = registry();
    let document = config::parse("zones.yaml", yaml.as_bytes(), &config::Options::default())?;
    let checked = config::check(&document, &registry)?;
    if !checked.warnings.is_empty() {
        eprint!("{}", checked.warnings);
    }
    let prepared = config::prepare(&checked.pipeline, &registry)?;
    Ok(runtime::run(prepared, &RunOptions::default())?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    /// The totals over the pipeline, with tracks from the stage `from`.
    fn totals(from: &str) -> Value {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events.jsonl");
        let yaml = PIPELINE
            .replace("path: \"-\"", &format!("path: {}", path.display()))
            .replace("inputs: [tracks]", &format!("inputs: [{from}]"))
            .replace(
                "  tracks: {type: track, inputs: [found]}\n",
                match from {
                    "found" => "",
                    _ => "  tracks: {type: track, inputs: [found]}\n",
                },
            );
        let report = run(&yaml).unwrap();
        assert_eq!(report.exit_code(), 0);
        let text = std::fs::read_to_string(path).unwrap();
        let totals = serde_json::from_str(text.lines().last().unwrap()).unwrap();
        assert!(text.lines().count() > 10, "little happens:\n{text}");
        totals
    }

    #[test]
    fn the_tracker_counts_as_true_identities_do() {
        let (tracked, truly) = (totals("tracks"), totals("found"));
        assert_eq!(tracked["event"], "total");
        assert_eq!(tracked["lines"], truly["lines"]);
        let crossings = &truly["lines"]["middle"];
        assert!(
            crossings["left"].as_u64().unwrap() + crossings["right"].as_u64().unwrap() > 2,
            "{truly}"
        );
    }
}
