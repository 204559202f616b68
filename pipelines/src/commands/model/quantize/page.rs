//! The page of `--report`.

use flow_quantize::{Dataset, Part, Progress};

use super::told::Done;
use crate::failure::Failure;

/// Most samples that layers are compared on.
const COMPARED_ON: usize = 16;

/// The page: what was decided, scores, and layers compared on samples that were held out, or on those of calibration where
/// none were.
pub fn page(
    done: &Done<'_>,
    calibration: &Part<'_>,
    held_out: &Part<'_>,
    threads: usize,
    progress: &dyn Progress,
) -> Result<String, Failure> {
    let (args, quantized) = (done.args, done.quantized);
    let (part, which) = if held_out.is_empty() {
        (calibration, "that calibration saw: no others were held out")
    } else {
        (held_out, "that calibration did not see")
    };
    let shown = Part::spread(part, COMPARED_ON);
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
        fact("Calibrated on", format!("{} samples", done.calibrated)),
        fact("Ranges", format!("{:?}, {}", args.preset, args.estimator)),
        fact("Bias correction", format!("{:?}", args.bias)),
        fact("Layers compared on", format!("{} samples {which}", shown.len())),
    ];
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
        done.accuracy,
        &comparison,
    ))
}
