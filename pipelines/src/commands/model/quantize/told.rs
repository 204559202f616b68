//! What is said of a quantization in the end.

use std::path::Path;

use flow_quantize::{Accuracy, Quantized};
use serde_json::json;

use super::samples::Samples;
use crate::cli::Quantize;
use crate::commands::print;
use crate::failure::Failure;

/// Most skipped files that are named.
const NAMED: usize = 5;

/// A quantization that is done.
pub struct Done<'a> {
    pub args: &'a Quantize,
    pub samples: &'a Samples,
    /// Samples that calibration saw.
    pub calibrated: usize,
    pub quantized: &'a Quantized,
    pub accuracy: Option<&'a Accuracy>,
}

/// Warns of files that cannot be used.
pub fn tell_skipped(samples: &Samples) {
    let skipped = &samples.skipped;
    if skipped.is_empty() {
        return;
    }
    eprintln!(
        "warning: {} files cannot be used and are left out:",
        skipped.len()
    );
    for (name, why) in skipped.iter().take(NAMED) {
        eprintln!("  {name}: {why}");
    }
    if skipped.len() > NAMED {
        eprintln!("  and {} more", skipped.len() - NAMED);
    }
}

impl Done<'_> {
    /// Prints a summary, or JSON where that was asked for.
    pub fn tell(&self, seconds: f64) -> Result<(), Failure> {
        let args = self.args;
        let size = |path: &Path| std::fs::metadata(path.with_extension("bin")).map_or(0, |m| m.len());
        let (before, after) = (size(&args.model), size(&args.output));
        let scheme = &self.quantized.scheme;
        if args.json {
            let left: Vec<_> = self
                .quantized
                .left
                .iter()
                .map(|(id, why)| {
                    let node = self.quantized.original.node(*id);
                    json!({"name": &*node.name, "type": node.op.type_name(), "reason": why.to_string()})
                })
                .collect();
            return print(&format!(
                "{}\n",
                json!({
                    "output": args.output,
                    "samples": self.calibrated,
                    "skipped": self.samples.skipped.len(),
                    "activations": scheme.activations.len(),
                    "weights": scheme.weights.len(),
                    "left": left,
                    "bytes": {"before": before, "after": after},
                    "accuracy": self.accuracy.map(|a| {
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
            self.calibrated,
            before as f64 / 1e6,
            after as f64 / 1e6,
        ))?;
        let Some(a) = self.accuracy else { return Ok(()) };
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
