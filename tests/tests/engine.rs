//! Small networks in which the engine once differed from OpenVINO: `tests/golden/engine/CASE` holds `model.xml`,
//! `model.bin`, the inputs `in.0.npy, ...` and the outputs `out.0.npy, ...` that OpenVINO computes literally.
//! `tests/differential/keep.py` writes such a folder. Each runs on the reference evaluator, before and after low
//! precision transformations, and on every instruction set of this machine.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::path::{Path, PathBuf};

use flow_cpu::kernels::Isa;
use flow_model::{Tensor, npy};
use flow_tests::engine::{infer, options};

/// Largest difference, as a part of the largest value expected.
const CLOSE: f64 = 2e-5;

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
        for way in &ways {
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
