//! Instances that are built again, and sources that are opened again.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use flow::clock::ManualClock;
use flow::config::plan::{BackoffSpec, ReconnectSpec, RestartPolicy};
use flow::error::StageError;
use flow::packet::Packet;
use flow::runtime::Outcome;
use flow::stage::{Emitter, Progress, Source, SourceEmitter, Stage, WorkerContext};

use super::harness::{Build, fatal, number, until};

const MS: Duration = Duration::from_millis(1);

#[test]
fn a_rebuilt_stage_waits_longer_after_each_failure() {
    let clock = ManualClock::new();
    let mut build = Build::new();
    build.source("cam", 6);
    let stage = build.each("stage", &["cam"], |packet, out| {
        if number(&packet) % 2 == 1 {
            return Err(fatal());
        }
        out.emit(packet);
        Ok(())
    });
    stage.restart.backoff = BackoffSpec {
        initial: 100 * MS,
        max: 300 * MS,
    };
    let seen = build.sink("out", &["stage"]);
    let running = build.start(&clock);
    let handle = running.handle();
    for (nth, longest) in [(1, 100), (2, 200), (3, 300)] {
        until(|| handle.restarts() == nth);
        clock.advance(longest * MS);
    }
    let report = running.wait();
    assert_eq!(seen.numbers("cam"), [0, 2, 4]);
    assert_eq!(clock.elapsed(), 600 * MS);
    assert!(report.failure.is_none() && report.ledger.balanced, "{report}");
}

#[test]
fn a_budget_is_had_again_once_its_window_has_passed() {
    let clock = ManualClock::new();
    let ticking = clock.clone();
    let mut build = Build::new();
    build.source("cam", 20);
    let stage = build.each("stage", &["cam"], move |packet, out| {
        if number(&packet) % 2 == 1 {
            ticking.advance(40 * MS);
            return Err(fatal());
        }
        out.emit(packet);
        Ok(())
    });
    // Two in 100 ms, but three never fall into one window of 60.
    stage.restart.max = 2;
    stage.restart.within = 60 * MS;
    build.sink("out", &["stage"]);
    let report = build.start(&clock).wait();
    assert_eq!(report.stage("stage").unwrap().restarts, 10);
    assert!(report.failure.is_none(), "{report}");
}

/// Cannot be opened until it has been tried so many times.
struct Late(Arc<AtomicU32>, u32);

impl Stage for Late {
    fn open(&mut self, _: &WorkerContext) -> Result<(), StageError> {
        match self.0.fetch_add(1, Ordering::Relaxed) {
            n if n < self.1 => Err(fatal()),
            _ => Ok(()),
        }
    }
    fn process(&mut self, packet: Packet, out: &mut dyn Emitter) -> Result<(), StageError> {
        out.emit(packet);
        Ok(())
    }
}

#[test]
fn a_policy_says_after_what_an_instance_is_rebuilt() {
    for (policy, tries, outcome) in [
        (RestartPolicy::Always, 2, Outcome::Ok),
        (RestartPolicy::Always, 9, Outcome::Failed),
        (RestartPolicy::OnFailure, 1, Outcome::Failed),
        (RestartPolicy::Never, 1, Outcome::Failed),
    ] {
        let opened = Arc::new(AtomicU32::new(0));
        let mut build = Build::new();
        build.source("cam", 10);
        let stage = build.stage("late", &["cam"], move |_| Late(opened.clone(), tries));
        stage.restart.policy = policy;
        let seen = build.sink("out", &["late"]);
        let report = build.run();
        assert_eq!(report.outcome, outcome, "{policy:?} {report}");
        assert_eq!(seen.len(), if outcome == Outcome::Ok { 10 } else { 0 });
    }
    let mut build = Build::new();
    build.source("cam", 10);
    let stage = build.each("stage", &["cam"], |_, _| Err(fatal()));
    stage.restart.policy = RestartPolicy::Never;
    build.sink("out", &["stage"]);
    let report = build.run();
    assert_eq!(report.failure.unwrap().code, "E0498");
    assert_eq!(report.stages[1].1.restarts, 0);
}

fn reconnect(initial: Duration, attempts: Option<u32>) -> Option<ReconnectSpec> {
    Some(ReconnectSpec {
        backoff: BackoffSpec {
            initial,
            max: 1000 * MS,
        },
        attempts,
    })
}

#[test]
fn a_source_that_was_lost_is_opened_again_with_a_new_epoch() {
    let clock = ManualClock::new();
    let lost = Arc::new(AtomicU32::new(0));
    let mut build = Build::new();
    let losing = lost.clone();
    let source = build.source_with("cam", 5, move |n, _| {
        if n == 3 && losing.fetch_add(1, Ordering::Relaxed) < 2 {
            return Err(fatal());
        }
        Ok(())
    });
    source.reconnect = reconnect(100 * MS, Some(1));
    let seen = build.sink("out", &["cam"]);
    let running = build.start(&clock);
    let handle = running.handle();
    for nth in 1..=2 {
        until(|| handle.restarts() == nth);
        // What it gave began the waits anew.
        clock.advance(100 * MS);
    }
    let report = running.wait();
    assert_eq!(report.outcome, Outcome::Ok, "{report}");
    let packets = seen.packets.lock().unwrap();
    let ids: Vec<(u32, u64)> = packets.iter().map(|(id, _)| (id.epoch, id.seq)).collect();
    let epoch = |epoch, count| (0..count).map(move |seq| (epoch, seq));
    assert_eq!(
        ids,
        epoch(0, 3)
            .chain(epoch(1, 3))
            .chain(epoch(2, 5))
            .collect::<Vec<_>>()
    );
}

#[test]
fn a_source_is_given_up_after_its_attempts_and_the_others_go_on() {
    let mut build = Build::new();
    let bad = build.source_with("bad", 10, |_, _| Err(fatal()));
    bad.reconnect = reconnect(Duration::ZERO, Some(3));
    build.source("good", 50);
    let seen = build.sink("out", &["bad", "good"]);
    let report = build.run();
    assert_eq!(report.outcome, Outcome::Failed);
    assert_eq!(report.stage("bad").unwrap().restarts, 3);
    assert_eq!(seen.numbers("good").len(), 50);
}

#[test]
fn a_live_source_that_ends_was_lost() {
    let mut build = Build::new();
    let source = build.source("cam", 2);
    source.live = true;
    source.reconnect = reconnect(Duration::ZERO, None);
    let seen = build.sink("out", &["cam"]);
    let running = build.start(&ManualClock::new());
    until(|| seen.len() >= 6);
    running.handle().stop();
    let report = running.wait();
    assert_eq!(report.outcome, Outcome::Ok, "{report}");
    assert!(seen.packets.lock().unwrap().iter().any(|(id, _)| id.epoch == 2));
}

/// Gives nothing, while time passes.
struct Silent(ManualClock);

impl Source for Silent {
    fn next(&mut self, _: &mut dyn SourceEmitter) -> Result<Progress, StageError> {
        self.0.advance(100 * MS);
        Ok(Progress::More)
    }
}

#[test]
fn a_source_that_gives_nothing_counts_as_lost() {
    let clock = ManualClock::new();
    let ticking = clock.clone();
    let mut build = Build::new();
    let source = build.source_of("cam", move || Silent(ticking.clone()));
    source.stall_timeout = Some(1000 * MS);
    build.sink("out", &["cam"]);
    let report = build.start(&clock).wait();
    assert_eq!(report.failure.unwrap().code, "E0415");
    assert!(clock.elapsed() <= 1300 * MS);
}
