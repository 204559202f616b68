//! A pipeline with a stage kind of one's own: `motion` beside kinds that flowrun has.

mod motion;

use std::process::ExitCode;

use flow::config;
use flow::diagnostics::Diagnostics;
use flow::registry::Registry;
use flow::runtime::{self, RunOptions, RunReport};

/// A scene that changes every second, seen at 30 frames per second: most frames are much like the one before.
const PIPELINE: &str = r#"
version: 1
name: motion
sources:
  scene: {type: synthetic, size: [320, 180], count: 120, cut_every: 30, noise: [0, 0], seed: 7}
stages:
  motion: {type: motion, inputs: [scene], threshold: 12}
sinks:
  count: {type: stats, inputs: [motion]}
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
    flow_output::register(&mut registry);
    motion::register(&mut registry);
    registry
}

/// Takes a pipeline through its four phases: parse, check, prepare, run.
fn run(yaml: &str) -> Result<RunReport, Box<dyn std::error::Error>> {
    let registry = registry();
    let document = config::parse("motion.yaml", yaml.as_bytes(), &config::Options::default())?;
    let checked = config::check(&document, &registry)?;
    warn(&checked.warnings);
    let prepared = config::prepare(&checked.pipeline, &registry)?;
    Ok(runtime::run(prepared, &RunOptions::default())?)
}

fn warn(warnings: &Diagnostics) {
    if !warnings.is_empty() {
        eprint!("{warnings}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_frame_is_let_through_or_counted_as_still() {
        let report = run(PIPELINE).unwrap();
        assert_eq!(report.exit_code(), 0);
        assert_eq!(report.ledger.entered, 120);
        let still = report.ledger.dropped["still"];
        assert_eq!(report.ledger.out + still, 120);
        assert!(
            (4..=60).contains(&report.ledger.out),
            "{} let through",
            report.ledger.out
        );
    }

    #[test]
    fn a_wrong_key_is_refused_with_a_suggestion() {
        let error = run(&PIPELINE.replace("threshold", "treshold"))
            .unwrap_err()
            .to_string();
        assert!(error.contains("E0107") && error.contains("threshold"), "{error}");
    }
}
