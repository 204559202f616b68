//! Single operations against OpenVINO's CPU plugin: every case of `golden/operators`, which the scripts there
//! made. A case is an IR and the tensors of its inputs and results; reading it tests `parse` as well.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests")]

mod golden_cases;

use std::path::Path;

use flow_model::{Graph, Tensor, evaluate, ir, text};
use golden_cases::{arrays, cases};

/// Cases whose floats differ by more than [`TOLERANCE`], and by how much they may.
const LOOSE: &[(&str, f64)] = &[
    ("cubic", 1e-5),
    ("deconv_groups", 2e-5),
    ("deconv_plain", 2e-5),
    ("fourier", 1e-5),
    ("grid_sample", 1e-5),
    ("pillow", 1e-5),
];

/// Ending of the names of cases that are equal to the last bit.
const EXACT: &str = "_bits";

/// How far floats may lie apart, absolute below 1 and relative above.
const TOLERANCE: f64 = 2e-6;

/// Says where two tensors differ.
fn compare(found: &Tensor, expected: &Tensor, tolerance: f64) -> Result<(), String> {
    if found.element_type() != expected.element_type() || found.shape() != expected.shape() {
        return Err(format!("{found:?} is not {expected:?}"));
    }
    let near = |a: f64, b: f64| {
        a == b || (a.is_nan() && b.is_nan()) || (a - b).abs() <= tolerance * b.abs().max(1.0)
    };
    let exact = !found.element_type().is_float();
    let pairs = found.to_f64().into_iter().zip(expected.to_f64());
    for (i, (a, b)) in pairs.enumerate() {
        if if exact { a != b } else { !near(a, b) } {
            return Err(format!("element {i} of {:?}: {a} is not {b}", found.shape()));
        }
    }
    Ok(())
}

fn check(graph: &Graph, inputs: &[Tensor], expected: &[Tensor], tolerance: f64) -> Result<(), String> {
    let found = evaluate(graph, inputs).map_err(|e| e.to_string())?;
    assert_eq!(found.len(), expected.len());
    for (i, (found, expected)) in found.iter().zip(expected).enumerate() {
        let layer = &graph.node(graph.node(graph.results[i]).inputs[0].node).name;
        let said = &graph.node(graph.results[i]).outputs[0].shape;
        let fits = said.len() == found.shape().len()
            && said
                .iter()
                .zip(found.shape())
                .all(|(s, f)| s.is_none_or(|s| s == *f));
        if !fits {
            return Err(format!(
                "result {i} of {layer}: {said:?} was inferred, found {:?}",
                found.shape()
            ));
        }
        compare(found, expected, tolerance).map_err(|e| format!("result {i} of {layer}: {e}"))?;
    }
    Ok(())
}

/// As read; with every axis of the inputs open; and written and read again.
fn run(path: &Path) -> Result<(), String> {
    let name = path.file_stem().unwrap().to_string_lossy();
    let tolerance = match LOOSE.iter().find(|l| l.0 == name) {
        _ if name.ends_with(EXACT) => 0.0,
        Some(loose) => loose.1,
        None => TOLERANCE,
    };
    let graph = ir::read(path).map_err(|e| e.to_string())?;
    let mut inputs = arrays(&path.with_extension("npy"));
    let expected = inputs.split_off(graph.parameters.len());
    assert_eq!(expected.len(), graph.results.len(), "{name}");
    check(&graph, &inputs, &expected, tolerance)?;

    // The last axis of integers stays: its length may be a rank.
    let open = inputs.iter().map(|t| match t.shape() {
        [outer @ .., last] if t.element_type().is_integer() => {
            let outer = outer.iter().map(|_| None);
            outer.chain([Some(*last)]).collect()
        }
        shape => vec![None; shape.len()],
    });
    let open: Vec<_> = open.collect();
    let open = graph
        .with_input_shapes(&open)
        .map_err(|e| format!("open axes: {e}"))?;
    check(&open, &inputs, &expected, tolerance).map_err(|e| format!("open axes: {e}"))?;

    let (xml, weights) = ir::to_bytes(&graph).map_err(|e| format!("written: {e}"))?;
    let weights = ir::Weights::Memory(std::sync::Arc::new(weights));
    let again = ir::parse(path, xml.as_bytes(), weights).map_err(|e| format!("written: {e}"))?;
    if text::to_text(&again) != text::to_text(&graph) {
        return Err("what was written is not what was read".to_owned());
    }
    check(&again, &inputs, &expected, tolerance).map_err(|e| format!("written: {e}"))
}

#[test]
fn operations_equal_openvino() {
    let paths = cases();
    let wrong: Vec<String> = paths
        .iter()
        .filter_map(|path| run(path).err().map(|e| format!("{}: {e}", path.display())))
        .collect();
    assert!(
        wrong.is_empty(),
        "{} of {}:\n{}",
        wrong.len(),
        paths.len(),
        wrong.join("\n")
    );
}
