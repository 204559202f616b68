//! A request that has run allocates nothing when it runs again.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests")]

use std::cell::Cell;
use std::path::{Path, PathBuf};

use flow_cpu::Input;
use flow_inference::{Engine, Options};
use flow_tests::allocator::Watched;

thread_local! {
    static COUNTED: Cell<Option<usize>> = const { Cell::new(None) };
}

/// Counts the allocations of a thread that asked for it.
fn count() {
    COUNTED.with(|counted| counted.set(counted.get().map(|n| n + 1)));
}

#[global_allocator]
static ALLOCATOR: Watched = Watched(count);

/// Allocations of `work` on this thread.
fn allocations(work: impl FnOnce()) -> usize {
    COUNTED.set(Some(0));
    work();
    COUNTED.take().unwrap_or_default()
}

/// Allocations of the third run of a model on zeros.
fn of_a_run(model: &Path) -> usize {
    let engine = Engine::load(model, &Options::default()).unwrap();
    let program = engine.program().unwrap();
    let inputs: Vec<Vec<u8>> = program
        .inputs()
        .iter()
        .map(|port| vec![0; port.shape.iter().product::<usize>() * port.element_type.bits() / 8])
        .collect();
    let inputs: Vec<Input<'_>> = inputs.iter().map(|bytes| Input::Values(bytes)).collect();
    let mut request = program.request();
    for _ in 0..2 {
        request.run(&inputs).unwrap();
    }
    allocations(|| request.run(&inputs).unwrap())
}

#[test]
fn the_allocations_of_a_thread_are_counted() {
    let mut kept = Vec::new();
    assert_eq!(allocations(|| kept.push(7)), 1);
    assert_eq!(allocations(|| kept[0] = 8), 0);
}

#[test]
fn the_detector_of_the_demo_allocates_nothing() {
    let demo = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../pipelines/demo");
    for model in ["detector-int8.xml", "detector-fp32.xml"] {
        assert_eq!(of_a_run(&demo.join(model)), 0, "{model}");
    }
}

#[cfg(feature = "models")]
#[test]
fn real_models_allocate_nothing() {
    let shared = PathBuf::from(std::env::var_os("FLOW_SHARED").expect("FLOW_SHARED: the folder with models"));
    let mut found = Vec::new();
    for entry in std::fs::read_dir(shared.join("models")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|e| e == "xml") {
            found.push((path.file_stem().unwrap().to_owned(), of_a_run(&path)));
        }
    }
    assert!(found.len() >= 8, "{found:?}");
    // Its TopK and GatherND run on the reference evaluator.
    found.retain(|(model, count)| *count > 0 && model != "movenet-lightning-int8");
    assert_eq!(found, [], "allocations per run");
}
