//! The page of `--report`.

use flow_quantize::{Dataset, Part, Progress};

use super::told::Done;
use crate::failure::Failure;

/// Most samples that layers are compared on.
const COMPARED_ON: usize = 16;

/// The page: what was decided, scores, and layers compared on samples that were held out, or on those of calibration where
/// none were.
pub fn page(done: &Done<'_>, threads: usize, progress: &dyn Progress) -> Result<String, Failure> {
    let (args, quantized) = (done.args, &done.outcome.quantized);
    let (part, which) = if done.division.measuring.is_empty() {
        (
            &done.division.calibration,
            "that calibration saw: no others were held out",
        )
    } else {
        (&done.division.measuring, "that calibration did not see")
    };
    let part = Part::new(done.samples, part.clone());
    let shown = Part::spread(&part, COMPARED_ON);
    let comparison = flow_quantize::compare(&quantized.original, &quantized.graph, &shown, threads, progress)
        .map_err(Failure::failed)?;
    let fact = |name: &str, value: String| (name.to_owned(), value);
    let mut facts = vec![
        fact("Model", args.model.display().to_string()),
        fact(
            "Quantized activations",
            quantized.scheme.activations.len().to_string(),
        ),
        fact("Quantized weights", quantized.scheme.weights.len().to_string()),
        fact(
            "Calibrated on",
            format!("{} samples", done.division.calibration.len()),
        ),
        fact("Chosen", done.chosen()),
        fact("Layers compared on", format!("{} samples {which}", shown.len())),
    ];
    for trial in done.trials() {
        facts.push(fact(&format!("Tried: {trial}"), format!("{:.5}", trial.score)));
    }
    for (id, why) in &quantized.left {
        let node = quantized.original.node(*id);
        facts.push(fact(
            "Left in f32",
            format!("{} ({}): {why}", node.name, node.op.type_name()),
        ));
    }
    Ok(flow_quantize::report::html(
        &format!("Quantization of {}", args.model.display()),
        &facts,
        done.outcome.accuracy.as_ref(),
        &comparison,
    ))
}
