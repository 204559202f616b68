//! A pipeline from frames to detections allocates nothing for a packet once it has warmed up.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests")]

use std::backtrace::Backtrace;
use std::cell::Cell;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use flow::config;
use flow::runtime::{self, Outcome, RunHandle, RunOptions};
use flow_tests::allocator::Watched;

/// Allocations of all threads that take part.
static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);
static COUNTING: AtomicBool = AtomicBool::new(false);
/// Where the first few came from.
static PLACES: Mutex<Vec<Backtrace>> = Mutex::new(Vec::new());

/// Backtraces that are kept.
const NAMED: usize = 2;

thread_local! {
    /// The thread is not counted: it runs the test, or is counting already.
    static APART: Cell<bool> = const { Cell::new(false) };
}

fn count() {
    if !COUNTING.load(Ordering::Relaxed) || APART.get() {
        return;
    }
    APART.set(true);
    ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
    let mut places = PLACES.lock().unwrap();
    if places.len() < NAMED {
        places.push(Backtrace::force_capture());
    }
    drop(places);
    APART.set(false);
}

#[global_allocator]
static ALLOCATOR: Watched = Watched(count);

/// Packets before it is counted, and in each of the [`WINDOWS`] in which it is.
const WARM_UP: u64 = 200;
const COUNTED: u64 = 60;
const WINDOWS: usize = 5;

/// Waits until the sink has taken that many packets.
fn until_taken(handle: &RunHandle, packets: u64) {
    let taken = || {
        let progress = handle.progress();
        let sink = progress.stages.iter().find(|stage| stage.name == "out");
        sink.unwrap().packets
    };
    while taken() < packets {
        assert!(!handle.is_stopping(), "the run ended");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Allocations in each window of a pipeline that does not end by itself.
fn allocations(stages: &str) -> Vec<u64> {
    let demo = concat!(env!("CARGO_MANIFEST_DIR"), "/../pipelines/demo");
    let text = format!(
        "version: 1\n\
         models: {{detector: {{path: {demo}/detector-int8.xml}}}}\n\
         sources: {{cam: {{type: synthetic, size: [160, 96], seed: 1}}}}\n\
         stages:\n{stages}\
         \x20 raw: {{type: infer, inputs: [input], model: detector}}\n\
         \x20 boxes: {{type: detect, inputs: [raw], format: fastestdet, labels: {demo}/labels.txt}}\n\
         sinks: {{out: {{type: \"null\", inputs: [boxes]}}}}\n"
    );
    let registry = flowrun::registry();
    let document = config::parse("counted.yaml", text.as_bytes(), &config::Options::default()).unwrap();
    let checked = config::check(&document, &registry).unwrap();
    let prepared = config::prepare(&checked.pipeline, &registry).unwrap();
    let running = runtime::start(prepared, &RunOptions::default()).unwrap();
    let handle = running.handle();
    let supervised = std::thread::spawn(move || {
        APART.set(true);
        running.wait()
    });
    until_taken(&handle, WARM_UP);
    PLACES.lock().unwrap().clear();
    COUNTING.store(true, Ordering::Relaxed);
    let mut found = Vec::new();
    for window in 1..=WINDOWS as u64 {
        let before = ALLOCATIONS.load(Ordering::Relaxed);
        until_taken(&handle, WARM_UP + window * COUNTED);
        found.push(ALLOCATIONS.load(Ordering::Relaxed) - before);
    }
    COUNTING.store(false, Ordering::Relaxed);
    handle.stop();
    let report = supervised.join().unwrap();
    assert_eq!(report.outcome, Outcome::Ok, "{report}");
    found
}

/// Nothing in most windows: what may come now and then is that more packets than ever are under way at one time.
fn assert_none(stages: &str) {
    let found = allocations(stages);
    let without = found.iter().filter(|n| **n == 0).count();
    let few = found.iter().all(|n| *n < COUNTED / 4);
    let places = PLACES.lock().unwrap();
    let places: Vec<String> = places.iter().map(ToString::to_string).collect();
    assert!(
        without > WINDOWS / 2 && few,
        "allocations in windows of {COUNTED} packets: {found:?}, of\n{stages}\n{}",
        places.join("\n\n")
    );
}

/// One test, since the harness allocates when another one begins or ends.
#[test]
fn a_packet_costs_no_allocation() {
    APART.set(true);
    assert_none("  input: {type: resize, inputs: [cam], size: model, mean: 127, scale: 128}\n");
    assert_none(
        "  cut: {type: crop, inputs: [cam], rect: [0.1, 0.1, 0.8, 0.8]}\n  \
           bgr: {type: convert, inputs: [cut], color: bgr}\n  \
           input: {type: letterbox, inputs: [bgr], size: model, mean: 127, scale: 128, tables: \"off\"}\n",
    );
}
