//! Rules about time, under a clock that is moved by hand.

use std::time::Duration;

use flow::clock::ManualClock;
use flow::config::plan::{BackoffSpec, BatchSpec, OnError, OnExceed, RateLimitSpec, RateScope, Replicas};
use flow::runtime::{Outcome, RunReport};

use super::harness::{Barrier, Build, Seen, number, oops, taken, until};

const MS: Duration = Duration::from_millis(1);

#[test]
fn packets_that_have_grown_too_old_are_dropped_when_they_are_taken() {
    let clock = ManualClock::new();
    let barrier = Barrier::new();
    let inside = barrier.clone();
    let mut build = Build::new();
    build.source("cam", 4);
    let stage = build.each("slow", &["cam"], move |packet, out| {
        if number(&packet) == 0 {
            inside.pass();
        }
        out.emit(packet);
        Ok(())
    });
    stage.deadline = Some(250 * MS);
    let seen = build.sink("out", &["slow"]);
    let running = build.start(&clock);
    barrier.reached.recv().unwrap();
    until(|| running.handle().progress().streams[0].entered == 4);
    clock.advance(251 * MS);
    barrier.open(1);
    let report = running.wait();
    assert_eq!(seen.numbers("cam"), [0], "a packet at work is not interrupted");
    assert_eq!(report.ledger.dropped["deadline"], 3);
    assert_eq!(
        report.outcome,
        Outcome::Ok,
        "declared drops are no loss: {report}"
    );
    assert!(report.ledger.balanced);
}

#[test]
fn a_packet_is_tried_again_after_a_wait_and_a_stop_ends_it() {
    let clock = ManualClock::new();
    let barrier = Barrier::new();
    let inside = barrier.clone();
    let mut build = Build::new();
    build.source("cam", 1);
    let stage = build.each("stage", &["cam"], move |_, _| {
        inside.pass();
        Err(oops())
    });
    let wait = Duration::from_secs(3600);
    stage.on_error = OnError::Retry {
        max: 2,
        backoff: BackoffSpec {
            initial: wait,
            max: wait,
        },
        then: Box::new(OnError::Drop),
    };
    build.sink("out", &["stage"]);
    let running = build.start(&clock);
    barrier.open(1);
    barrier.reached.recv().unwrap();
    std::thread::sleep(20 * MS);
    assert!(barrier.reached.is_empty(), "it waits before the second try");
    clock.advance(wait);
    barrier.open(1);
    barrier.reached.recv().unwrap();
    barrier.open(1);
    running.handle().stop();
    let report = running.wait();
    assert_eq!(report.ledger.dropped["error:E0499"], 1, "{report}");
    assert!(report.ledger.balanced);
}

fn limited(on_exceed: OnExceed, per: RateScope) -> RateLimitSpec {
    RateLimitSpec {
        per_second: 10.0,
        per,
        burst: 2,
        on_exceed,
    }
}

#[test]
fn packets_beyond_the_rate_wait_for_their_turn() {
    let clock = ManualClock::new();
    let mut build = Build::new();
    build.source("cam", 5);
    build.pass("stage", &["cam"]).rate_limit = Some(limited(OnExceed::Wait, RateScope::Stage));
    let seen = build.sink("out", &["stage"]);
    let running = build.start(&clock);
    for n in 1..=3_u32 {
        clock.await_timer(n * 100 * MS);
        until(|| seen.len() as u32 == 1 + n);
        let taken = taken(&running, "stage") as u32;
        assert_eq!(taken, 2 + n, "a burst of two, then one each 100 ms");
        clock.advance(100 * MS);
    }
    let report = running.wait();
    assert_eq!(report.ledger.out, 5);
    assert_eq!(clock.elapsed(), 300 * MS);
}

#[test]
fn packets_beyond_the_rate_are_dropped_per_stream() {
    let clock = ManualClock::new();
    let mut build = Build::new();
    build.source("left", 5);
    build.source("right", 3);
    let sink = build.sink("out", &["left", "right"]);
    build.component("out").rate_limit = Some(limited(OnExceed::Drop, RateScope::Stream));
    let report = build.start(&clock).wait();
    assert_eq!(
        (sink.numbers("left"), sink.numbers("right")),
        (vec![0, 1], vec![0, 1])
    );
    assert_eq!(report.ledger.dropped["rate_limit"], 4);
    assert_eq!(report.outcome, Outcome::Ok);
}

#[test]
fn a_packet_that_grows_too_old_while_it_waits_for_its_turn_is_dropped() {
    let clock = ManualClock::new();
    let mut build = Build::new();
    build.source("cam", 3);
    let stage = build.pass("stage", &["cam"]);
    stage.rate_limit = Some(limited(OnExceed::Wait, RateScope::Stage));
    stage.deadline = Some(50 * MS);
    let seen = build.sink("out", &["stage"]);
    let running = build.start(&clock);
    clock.await_timer(100 * MS);
    clock.advance(100 * MS);
    let report = running.wait();
    assert_eq!(seen.numbers("cam"), [0, 1]);
    assert_eq!(report.ledger.dropped["deadline"], 1);
}

#[test]
fn a_wait_for_the_rate_ends_with_the_run() {
    let clock = ManualClock::new();
    let mut build = Build::new();
    build.source("cam", 100);
    build.pass("stage", &["cam"]).rate_limit = Some(limited(OnExceed::Wait, RateScope::Stage));
    build.sink("out", &["stage"]);
    let running = build.start(&clock);
    clock.await_timer(100 * MS);
    assert_eq!(taken(&running, "stage"), 3);
    running.handle().abort();
    let report = running.wait();
    assert_eq!(report.outcome, Outcome::CutShort);
    assert!(report.wedged.is_empty() && report.ledger.balanced, "{report}");
}

/// A stage whose third call does not return until everything else is done.
fn hanging(timeout: Duration, adjust: impl Fn(&mut flow::config::plan::Component)) -> (RunReport, Seen) {
    let clock = ManualClock::new();
    let barrier = Barrier::new();
    let inside = barrier.clone();
    let mut build = Build::new();
    build.source("cam", 30);
    let stage = build.each("hangs", &["cam"], move |packet, out| {
        if number(&packet) == 3 {
            inside.pass();
        }
        out.emit(packet);
        Ok(())
    });
    stage.timeout = Some(timeout);
    adjust(stage);
    let seen = build.sink("out", &["hangs"]);
    let running = build.start(&clock);
    let (handle, given) = (running.handle(), seen.clone());
    let watcher = std::thread::spawn(move || {
        barrier.reached.recv().unwrap();
        clock.advance(timeout);
        until(|| handle.progress().streams[0].settled == 30 || handle.is_stopping());
        // What comes too late is not taken any more.
        let before = given.len();
        barrier.open(1);
        before
    });
    let report = running.wait();
    let before = watcher.join().unwrap();
    assert_eq!(seen.len(), before);
    assert!(report.ledger.balanced, "{report}");
    (report, seen)
}

#[test]
fn a_worker_whose_call_does_not_return_is_replaced_and_only_its_packet_fails() {
    for replicas in [1, 3] {
        let (report, seen) = hanging(2000 * MS, |stage| stage.replicas = Replicas::Count(replicas));
        let expected: Vec<u64> = (0..30).filter(|n| *n != 3).collect();
        assert_eq!(seen.numbers("cam"), expected);
        assert_eq!(report.ledger.dropped["error:E0412"], 1);
        assert_eq!(report.stage("hangs").unwrap().restarts, 1);
        assert_eq!(report.outcome, Outcome::LossBeyondLimit);
    }
}

#[test]
fn a_batch_that_hangs_fails_as_a_whole() {
    let (report, seen) = hanging(2000 * MS, |stage| {
        stage.batch = Some(BatchSpec {
            max: 5,
            max_wait: MS,
            per_stream_max: 5,
            sizes: Vec::new(),
        });
    });
    assert_eq!(
        report.ledger.dropped["error:E0412"], 2,
        "3 and 4; those before were emitted"
    );
    assert_eq!(seen.len(), 28);
}

#[test]
fn without_a_budget_a_worker_that_hangs_ends_the_pipeline() {
    let (report, seen) = hanging(MS, |stage| stage.restart.max = 0);
    assert_eq!(report.outcome, Outcome::Failed);
    assert_eq!(report.failure.unwrap().code, "E0404");
    assert_eq!(seen.numbers("cam"), [0, 1, 2]);
}
