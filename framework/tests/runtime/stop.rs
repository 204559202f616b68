//! Stops, drains and cuts.

use std::time::Duration;

use flow::config::plan::Replicas;
use flow::runtime::{Outcome, RunOptions, run, start};

use super::harness::{Barrier, Build};

const ENDLESS: u64 = u64::MAX;

#[test]
fn a_stop_ends_the_sources_and_drains_the_rest() {
    for after in [0, 1, 17, 200] {
        let mut build = Build::new();
        build.source("a", ENDLESS);
        build.source("b", ENDLESS);
        build.pass("stage", &["a", "b"]).replicas = Replicas::Count(2);
        let seen = build.sink("out", &["stage"]);
        let running = start(build.prepared(), &RunOptions::default()).unwrap();
        let handle = running.handle();
        while seen.len() < after {
            std::thread::yield_now();
        }
        handle.stop();
        assert!(handle.is_stopping());
        let report = running.wait();
        assert_eq!(report.outcome, Outcome::Ok, "{report}");
        assert_eq!(report.ledger.out, report.ledger.entered);
        assert_eq!(seen.len() as u64, report.ledger.out);
        assert_eq!(*seen.closed.lock().unwrap(), 1);
        assert_eq!(seen.ended.lock().unwrap().len(), 2);
    }
}

#[test]
fn a_duration_is_a_stop_at_a_time() {
    let mut build = Build::new();
    build.source("cam", ENDLESS);
    build.sink("out", &["cam"]);
    let options = RunOptions {
        duration: Some(Duration::from_millis(50)),
        ..RunOptions::default()
    };
    let report = run(build.prepared(), &options).unwrap();
    assert_eq!(report.outcome, Outcome::Ok);
    assert!(report.seconds >= 0.05);
}

#[test]
fn a_thread_that_never_comes_back_does_not_hang_the_process() {
    let barrier = Barrier::new();
    let stuck = barrier.clone();
    let mut build = Build::new();
    build.runtime().drain_timeout = Duration::from_millis(20);
    build.source("cam", ENDLESS);
    build.each("stage", &["cam"], move |packet, out| {
        stuck.pass();
        out.emit(packet);
        Ok(())
    });
    let seen = build.sink("out", &["stage"]);
    let running = start(build.prepared(), &RunOptions::default()).unwrap();
    barrier.reached.recv().unwrap();
    running.handle().stop();
    let report = running.wait();
    assert_eq!(report.outcome, Outcome::CutShort);
    assert_eq!(report.exit_code(), 5);
    assert_eq!(report.wedged, ["stage#0"]);
    assert!(report.ledger.balanced, "{report}");
    assert_eq!(report.ledger.dropped["aborted"], report.ledger.entered);
    assert_eq!(
        *seen.closed.lock().unwrap(),
        0,
        "what was cut off must not look whole"
    );
}

#[test]
fn an_abort_cuts_the_run_short_at_once() {
    let barrier = Barrier::new();
    let stuck = barrier.clone();
    let mut build = Build::new();
    build.source("cam", ENDLESS);
    build.pass("a", &["cam"]).replicas = Replicas::Count(3);
    build.sink_with("out", &["a"], move |_| {
        stuck.pass();
        Ok(())
    });
    let running = start(build.prepared(), &RunOptions::default()).unwrap();
    let handle = running.handle();
    barrier.reached.recv().unwrap();
    handle.abort();
    barrier.open(1);
    let report = running.wait();
    assert_eq!(report.exit_code(), 5);
    assert!(report.wedged.is_empty(), "{:?}", report.wedged);
    assert!(report.ledger.balanced, "{report}");
    assert_eq!(
        report.ledger.out + report.ledger.dropped["aborted"],
        report.ledger.entered
    );
}

#[test]
fn progress_can_be_watched() {
    let barrier = Barrier::new();
    let waiting = barrier.clone();
    let mut build = Build::new();
    build.source("cam", 20);
    let mut first = true;
    build.each("stage", &["cam"], move |packet, out| {
        if std::mem::take(&mut first) {
            waiting.pass();
        }
        out.emit(packet);
        Ok(())
    });
    build.sink("out", &["stage"]);
    let running = start(build.prepared(), &RunOptions::default()).unwrap();
    let handle = running.handle();
    barrier.reached.recv().unwrap();
    // The stage has one packet, its queue fills to four, and one more is with the source.
    let full = loop {
        let progress = handle.progress();
        if progress.stages[1].waiting == 4 && progress.streams[0].entered == 6 {
            break progress;
        }
        std::thread::yield_now();
    };
    assert_eq!(full.streams[0].expected, Some(20));
    assert_eq!(full.streams[0].settled, 0);
    assert_eq!(full.stages[1].packets, 1);
    barrier.open(1);
    let report = running.wait();
    assert_eq!(handle.progress().streams[0].settled, 20);
    let edge = &report.edges[0];
    assert_eq!((edge.name.as_str(), edge.deepest), ("cam -> stage", 4));
}
