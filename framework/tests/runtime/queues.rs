//! What happens when a queue is full.

use flow::config::plan::{Lossy, Overflow, QueueSpec};
use flow::error::StageError;
use flow::packet::Packet;
use flow::runtime::{Outcome, RunReport};
use flow::stage::{Emitter, Stage, StopFlag, WorkerContext};

use super::harness::{Barrier, Build, Seen};

/// A source of ten numbers, a stage that holds the first one until all ten have been offered, and what came out.
fn stalled(overflow: Overflow, capacity: usize, live: bool, lossy: Lossy) -> (RunReport, Vec<u64>) {
    let barrier = Barrier::new();
    let mut build = Build::new();
    let (source, stage) = (barrier.clone(), barrier.clone());
    let component = build.source_with("cam", 11, move |n, _| {
        match n {
            // Only go on once the first packet is in the stage, so that the queue holds what follows.
            1 => source.reached.recv().unwrap(),
            10 if overflow != Overflow::Block => source.open(1),
            _ => {}
        }
        if overflow == Overflow::Block && n == 3 {
            source.open(1);
        }
        Ok(())
    });
    component.live = live;
    let mut first = true;
    build.each("slow", &["cam"], move |packet, out| {
        if std::mem::take(&mut first) {
            stage.pass();
        }
        out.emit(packet);
        Ok(())
    });
    build.queue(
        "slow",
        QueueSpec {
            capacity,
            overflow,
            lossy,
            ..QueueSpec::default()
        },
    );
    let seen: Seen = build.sink("out", &["slow"]);
    let report = build.run();
    let numbers = seen.numbers("cam");
    assert!(report.ledger.balanced, "{report}");
    assert_eq!(report.ledger.entered, report.ledger.settled());
    (report, numbers)
}

#[test]
fn block_loses_nothing() {
    let (report, numbers) = stalled(Overflow::Block, 3, true, Lossy::Live);
    assert_eq!(report.outcome, Outcome::Ok);
    assert_eq!(numbers, (0..11).collect::<Vec<_>>());
}

#[test]
fn latest_keeps_the_newest_packet() {
    let (report, numbers) = stalled(Overflow::Latest, 1, true, Lossy::Live);
    assert_eq!(report.outcome, Outcome::Ok);
    // The stage was let go before the last number was given: it took 9 or, replaced in time, 10.
    assert_eq!(numbers.first(), Some(&0));
    assert_eq!(numbers.last(), Some(&10));
    assert!(numbers.len() <= 3, "{numbers:?}");
    assert_eq!(report.ledger.dropped["overflow"], 11 - numbers.len() as u64);
}

#[test]
fn drop_oldest_keeps_the_newest_and_drop_newest_the_oldest() {
    let (report, numbers) = stalled(Overflow::DropOldest, 3, true, Lossy::Live);
    assert_eq!(report.outcome, Outcome::Ok);
    assert_eq!(numbers.first(), Some(&0));
    assert!(
        numbers.ends_with(&[8, 9, 10]) || numbers.ends_with(&[7, 8, 9, 10]),
        "{numbers:?}"
    );
    assert!(numbers.is_sorted());

    let (report, numbers) = stalled(Overflow::DropNewest, 3, true, Lossy::Live);
    assert_eq!(report.outcome, Outcome::Ok);
    assert!(numbers.starts_with(&[0, 1, 2, 3]), "{numbers:?}");
    assert!(numbers.len() <= 5, "{numbers:?}");
    let edge = report.edges.iter().find(|e| e.name == "cam -> slow").unwrap();
    assert_eq!(edge.dropped, 11 - numbers.len() as u64);
    assert_eq!(edge.offered, 11);
}

/// Holds its first packet until the pipeline has been told to stop.
struct UntilStop {
    stopping: StopFlag,
}

impl Stage for UntilStop {
    fn open(&mut self, cx: &WorkerContext) -> Result<(), StageError> {
        self.stopping = cx.stopping.clone();
        Ok(())
    }
    fn process(&mut self, packet: Packet, out: &mut dyn Emitter) -> Result<(), StageError> {
        while !self.stopping.is_set() {
            std::thread::yield_now();
        }
        out.emit(packet);
        Ok(())
    }
}

#[test]
fn fail_ends_the_pipeline() {
    let mut build = Build::new();
    build.source("cam", 1000);
    build.stage("slow", &["cam"], |_| UntilStop {
        stopping: StopFlag::default(),
    });
    let queue = QueueSpec {
        capacity: 3,
        overflow: Overflow::Fail,
        lossy: Lossy::Live,
        ..QueueSpec::default()
    };
    build.queue("slow", queue);
    let seen = build.sink("out", &["slow"]);
    let report = build.run();
    assert_eq!(report.outcome, Outcome::Failed);
    assert_eq!(report.failure.as_ref().unwrap().code, "E0407");
    assert!(report.ledger.balanced, "{report}");
    assert_eq!(report.ledger.dropped["overflow"], 1);
    let kept = report.ledger.entered - 1;
    assert_eq!(seen.numbers("cam"), (0..kept).collect::<Vec<_>>());
}

#[test]
fn all_streams_may_be_dropped_where_the_edge_says_so() {
    let (report, _) = stalled(Overflow::Latest, 1, false, Lossy::All);
    assert_eq!(report.outcome, Outcome::Ok);
    assert!(report.ledger.dropped["overflow"] >= 8);
}

#[test]
fn a_file_waits_where_a_camera_would_be_dropped() {
    for overflow in [Overflow::Latest, Overflow::DropOldest, Overflow::DropNewest] {
        let mut build = Build::new();
        build.source("file", 500);
        build.source("camera", 500).live = true;
        build.pass("slow", &["file", "camera"]);
        let queue = QueueSpec {
            capacity: 1,
            overflow,
            lossy: Lossy::Live,
            ..QueueSpec::default()
        };
        let seen = build.sink("out", &["slow"]);
        build.queue("slow", queue);
        let report = build.run();
        assert_eq!(report.outcome, Outcome::Ok, "{report}");
        assert_eq!(seen.numbers("file"), (0..500).collect::<Vec<_>>());
        assert!(report.streams["file"].dropped.is_empty());
        assert!(seen.numbers("camera").is_sorted());
        let camera = &report.streams["camera"];
        assert_eq!(
            camera.out + camera.dropped.get("overflow").copied().unwrap_or(0),
            500
        );
    }
}

#[test]
fn an_optional_sink_neither_delays_nor_fails_required_ones() {
    let barrier = Barrier::new();
    let optional = barrier.clone();
    let mut build = Build::new();
    build.source("cam", 100);
    build.pass("stage", &["cam"]);
    let seen = build.sink("required", &["stage"]);
    let mut count = 0;
    let sink = build.sink_with("overlay", &["stage"], move |_| {
        count += 1;
        if count == 1 {
            optional.pass();
        }
        panic!("an optional sink may fail");
    });
    sink.required = false;
    let required = seen.clone();
    // The sink is let go only once the required one has everything, or after the source has ended.
    let watcher = std::thread::spawn(move || {
        barrier.reached.recv().unwrap();
        while required.len() < 100 {
            std::thread::yield_now();
        }
        barrier.open(1);
    });
    let report = build.run();
    watcher.join().unwrap();
    assert_eq!(report.outcome, Outcome::Ok, "{report}");
    assert_eq!(report.ledger.out, 100);
    assert!(
        report.ledger.dropped.is_empty(),
        "drops of optional branches do not count"
    );
    assert_eq!(report.warnings.len(), 1, "{:?}", report.warnings);
}
