//! Small networks in which the engine once differed from OpenVINO: `tests/golden/engine/CASE` holds `model.xml`,
//! `model.bin`, the inputs `in.0.npy, ...` and the outputs `out.0.npy, ...` that OpenVINO computes literally.
//! `tests/differential/keep.py` writes such a folder. Each runs on the reference evaluator, before and after low
//! precision transformations, and on every instruction set of this machine.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::path::{Path, PathBuf};

use flow_cpu::kernels::Isa;
use flow_inference::Engine;
use flow_model::{Tensor, npy};
use flow_tests::engine::{infer, options};

/// Largest difference, as a part of the largest value expected.
const CLOSE: f64 = 2e-5;

/// Networks with values next to ties. The reference evaluator runs the transformed graph in that graph's own arithmetic, which
/// may put such a value one step elsewhere; the CPU plugin goes back to the model's.
const NEXT_TO_TIES: [&str; 6] = [
    "factor_behind_levels",
    "limits_along_two_axes_behind_deconvolution",
    "norm_of_next_to_nothing",
    "table_behind_a_convolution",
    "table_through_many_levels",
    "weights_between_levels_in_f32",
];

fn cases() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/engine");
    let mut folders: Vec<PathBuf> = std::fs::read_dir(root)
        .unwrap()
        .map(|e| e.unwrap().path())
        .collect();
    folders.sort();
    folders
}

fn expected(folder: &Path) -> Vec<Tensor> {
    let file = |i: usize| folder.join(format!("out.{i}.npy"));
    let files = (0..).map(file).take_while(|f| f.exists());
    files.map(|f| npy::read(f).unwrap()).collect()
}

/// The difference as a part of the largest value expected; infinite where the outputs are not comparable.
fn difference(found: &Tensor, expected: &Tensor) -> f64 {
    if found.shape() != expected.shape() || found.element_type() != expected.element_type() {
        return f64::INFINITY;
    }
    let (found, expected) = (found.to_f64(), expected.to_f64());
    let largest = expected.iter().fold(1e-6f64, |m, v| m.max(v.abs()));
    let apart = found.iter().zip(&expected).map(|(a, b)| (a - b).abs() / largest);
    apart.fold(0.0, |m, d| if d.is_nan() { f64::INFINITY } else { d.max(m) })
}

#[test]
fn networks_that_differed_once_agree() {
    let folders = cases();
    assert!(folders.len() >= 8, "only {} cases", folders.len());
    let sets = Isa::ALL.into_iter().filter(|isa| isa.is_supported());
    let mut ways = vec![
        "ref-float".to_owned(),
        "ref-literal".to_owned(),
        "cpu-float".to_owned(),
    ];
    ways.extend(sets.map(|isa| format!("{isa}-literal")));
    let mut wrong = String::new();
    for folder in &folders {
        let expected = expected(folder);
        assert!(!expected.is_empty(), "{}: no outputs", folder.display());
        let next_to_ties = NEXT_TO_TIES.iter().any(|case| folder.ends_with(case));
        for way in ways.iter().filter(|way| !next_to_ties || *way != "ref-literal") {
            let said = match infer(folder, &options(way).unwrap()) {
                Err(message) => message,
                Ok(found) if found.len() != expected.len() => format!("{} outputs", found.len()),
                Ok(found) => {
                    let pairs = found.iter().zip(&expected);
                    let worst = pairs.map(|(a, b)| difference(a, b)).fold(0.0, f64::max);
                    if worst <= CLOSE {
                        continue;
                    }
                    format!("differs by {worst:.2e} of the largest value")
                }
            };
            wrong.push_str(&format!("{} on {way}: {said}\n", folder.display()));
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

/// Steps of the networks that may give other codes than the model's own f32 arithmetic next to ties, as `CASE: STEP`. A new
/// one is either to be guarded or to be named here with its reason.
const UNGUARDED: [&str; 1] = [
    // All levels mean one value, so that codes may be others than the levels.
    "output_interval_without_width: fake_quantize_2",
];

#[test]
fn every_step_that_rounds_is_guarded() {
    let (mut unguarded, mut named) = (Vec::new(), 0);
    for folder in cases() {
        let engine = Engine::load(folder.join("model.xml"), &options("cpu-literal").unwrap()).unwrap();
        let case = folder.file_name().unwrap().to_string_lossy().into_owned();
        for step in engine.program().unwrap().steps() {
            if let Some(why) = &step.unguarded {
                let name = format!("{case}: {}", step.name);
                match UNGUARDED.contains(&name.as_str()) {
                    true => named += 1,
                    false => unguarded.push(format!("{name}: {why}")),
                }
            }
        }
    }
    assert!(unguarded.is_empty(), "{unguarded:#?}");
    assert_eq!(named, UNGUARDED.len(), "a step that is named here is guarded");
}
