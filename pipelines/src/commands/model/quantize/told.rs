//! What is said of a quantization in the end.

use std::path::Path;

use flow_quantize::Trial;
use serde_json::json;

use super::division::Division;
use super::samples::Samples;
use super::work::Outcome;
use crate::cli::Quantize;
use crate::commands::print;
use crate::failure::Failure;

/// Most skipped files that are named.
const NAMED: usize = 5;

/// A quantization that is done.
pub struct Done<'a> {
    pub args: &'a Quantize,
    pub samples: &'a Samples,
    pub division: &'a Division,
    pub outcome: &'a Outcome,
}

/// Warns of files that cannot be used, unless only errors are to be told.
pub fn tell_skipped(samples: &Samples, quiet: bool) {
    let skipped = &samples.skipped;
    if quiet || skipped.is_empty() {
        return;
    }
    match skipped.len() {
        1 => eprintln!("warning: 1 file cannot be used and is left out:"),
        count => eprintln!("warning: {count} files cannot be used and are left out:"),
    }
    for (name, why) in skipped.iter().take(NAMED) {
        eprintln!("  {name}: {}", why.trim());
    }
    if skipped.len() > NAMED {
        eprintln!("  and {} more", skipped.len() - NAMED);
    }
}

impl Done<'_> {
    /// What a search tried, best first.
    pub fn trials(&self) -> Vec<&Trial> {
        let tried = self.outcome.searched.iter().flat_map(|s| &s.trials);
        let mut trials: Vec<&Trial> = tried.collect();
        trials.sort_by(|a, b| b.score.total_cmp(&a.score));
        trials
    }

    /// Preset, estimator and correction of biases of the model.
    pub fn chosen(&self) -> String {
        match &self.outcome.searched {
            Some(searched) => format!(
                "{}, the best of {}",
                searched.trials[searched.chosen],
                searched.trials.len()
            ),
            None => {
                let args = self.args;
                format!("{:?}, {}, bias {:?}", args.preset, args.estimator, args.bias).to_lowercase()
            }
        }
    }

    /// Prints a summary, or JSON where that was asked for.
    pub fn tell(&self, seconds: f64) -> Result<(), Failure> {
        let args = self.args;
        let size = |path: &Path| std::fs::metadata(path.with_extension("bin")).map_or(0, |m| m.len());
        let (before, after) = (size(&args.model), size(&args.output));
        let scheme = &self.outcome.quantized.scheme;
        if args.json {
            let left: Vec<_> = self
                .outcome
                .quantized
                .left
                .iter()
                .map(|(id, why)| {
                    let node = self.outcome.quantized.original.node(*id);
                    json!({"name": &*node.name, "type": node.op.type_name(), "reason": why.to_string()})
                })
                .collect();
            return print(&format!(
                "{}\n",
                json!({
                    "output": args.output,
                    "samples": self.division.calibration.len(),
                    "skipped": self.samples.skipped.len(),
                    "activations": scheme.activations.len(),
                    "weights": scheme.weights.len(),
                    "left": left,
                    "search": self.trials().iter().map(|t| json!({"options": t.to_string(), "score": t.score})).collect::<Vec<_>>(),
                "bytes": {"before": before, "after": after},
                    "accuracy": self.outcome.accuracy.as_ref().map(|a| {
                        json!({
                            "metric": a.metric,
                            "reference": a.reference,
                            "quantized": a.quantized,
                            "reached": a.reached,
                            "max_drop": a.max_drop,
                            "held_out": a.samples,
                            "reverted": a.reverted.iter().flat_map(|r| r.layers.iter().cloned()).collect::<Vec<_>>(),
                        })
                    }),
                    "seconds": seconds,
                })
            ));
        }
        print(&format!(
            "{}: {} activations and {} weights in 8 bits, calibrated on {} samples in {seconds:.1} s; weights {:.2} MB -> {:.2} MB\n",
            args.output.display(),
            scheme.activations.len(),
            scheme.weights.len(),
            self.division.calibration.len(),
            before as f64 / 1e6,
            after as f64 / 1e6,
        ))?;
        if let Some(searched) = &self.outcome.searched {
            print(&format!("{:.5} in f32\n", searched.reference))?;
            for trial in self.trials() {
                let mark = if *trial == searched.trials[searched.chosen] {
                    "  (chosen)"
                } else {
                    ""
                };
                print(&format!("{:.5} with {trial}{mark}\n", trial.score))?;
            }
        }
        let Some(a) = &self.outcome.accuracy else {
            return Ok(());
        };
        print(&format!(
            "{}: {:.5} in f32, {:.5} all in 8 bits, {:.5} with {} layers in f32 again{}\n",
            a.metric,
            a.reference,
            a.quantized,
            a.reached,
            a.reverted.iter().map(|r| r.layers.len()).sum::<usize>(),
            a.measured_on()
        ))
    }
}
