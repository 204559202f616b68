//! The cases of `golden/operators`.

use std::path::{Path, PathBuf};

use flow_model::{Tensor, npy};

fn collect(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, found);
        } else if path.extension().is_some_and(|e| e == "xml") {
            found.push(path);
        }
    }
}

/// The model file of every case of `golden/operators`, sorted.
pub fn cases() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/operators");
    let mut paths = Vec::new();
    collect(&folder, &mut paths);
    assert!(!paths.is_empty());
    paths.sort();
    paths
}

/// The arrays of a file that holds several, one after another.
pub fn arrays(path: &Path) -> Vec<Tensor> {
    let bytes = std::fs::read(path).unwrap();
    let magic = b"\x93NUMPY";
    let starts: Vec<usize> = bytes
        .windows(magic.len())
        .enumerate()
        .filter(|(_, w)| w == magic)
        .map(|(i, _)| i)
        .collect();
    let ends = starts.iter().skip(1).copied().chain([bytes.len()]);
    starts
        .iter()
        .zip(ends)
        .map(|(&start, end)| npy::parse(&bytes[start..end]).unwrap())
        .collect()
}
