//! Rules about time, under a clock that is moved by hand.

use std::time::Duration;

use flow::clock::ManualClock;
use flow::config::plan::{OnExceed, RateLimitSpec, RateScope};
use flow::runtime::Outcome;

use super::harness::{Barrier, Build, number, taken, until};

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
