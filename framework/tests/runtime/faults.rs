//! Errors, panics and broken contracts.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use flow::config::plan::{BackoffSpec, DeadLetterSpec, OnError, Replicas};
use flow::error::StageError;
use flow::packet::{Packet, StreamId};
use flow::runtime::Outcome;
use flow::stage::{Emitter, Stage};

use super::harness::{Build, fatal, number, oops};

#[test]
fn a_damaged_packet_is_dropped_under_its_code_and_the_run_goes_on() {
    let mut build = Build::new();
    build.source("cam", 100);
    build.each("decode", &["cam"], |packet, out| {
        if number(&packet) == 40 {
            return Err(oops());
        }
        out.emit(packet);
        Ok(())
    });
    let seen = build.sink("out", &["decode"]);
    let report = build.run();
    assert_eq!(report.outcome, Outcome::LossBeyondLimit);
    assert_eq!(report.exit_code(), 3);
    assert_eq!(report.ledger.dropped["error:E0499"], 1);
    assert_eq!(report.ledger.out, 99);
    assert!(report.ledger.balanced);
    assert_eq!(seen.len(), 99);
}

#[test]
fn loss_within_the_limit_is_ok() {
    let mut build = Build::new();
    build.runtime().max_loss = 0.02;
    build.source_with("cam", 98, |n, out| {
        if n % 50 == 0 {
            out.fail(None, oops());
        }
        Ok(())
    });
    build.sink("out", &["cam"]);
    let report = build.run();
    assert_eq!(report.ledger.entered, 100);
    assert_eq!(report.ledger.dropped["error:E0499"], 2);
    assert_eq!(report.outcome, Outcome::Ok);
}

#[test]
fn a_panic_is_an_error_of_its_packet_and_the_instance_is_rebuilt() {
    let built = Arc::new(AtomicU32::new(0));
    let building = built.clone();
    let mut build = Build::new();
    build.source("cam", 50);
    build.stage("stage", &["cam"], move |_| {
        building.fetch_add(1, Ordering::Relaxed);
        super::harness::Each(|packet: Packet, out: &mut dyn Emitter| {
            assert!(number(&packet) % 20 != 10, "a bug");
            out.emit(packet);
            Ok(())
        })
    });
    let seen = build.sink("out", &["stage"]);
    let report = build.run();
    assert_eq!(report.ledger.dropped["error:E0401"], 2);
    assert_eq!(seen.len(), 48);
    assert_eq!(built.load(Ordering::Relaxed), 3);
    assert_eq!(report.stage("stage").unwrap().restarts, 2);
    assert!(report.failure.is_none());
}

#[test]
fn a_stage_that_always_panics_exhausts_its_budget_and_fails_the_pipeline() {
    let mut build = Build::new();
    build.source("cam", 50);
    build.each("stage", &["cam"], |_, _| panic!("always"));
    build.sink("out", &["stage"]);
    let report = build.run();
    assert_eq!(report.outcome, Outcome::Failed);
    assert_eq!(report.exit_code(), 4);
    assert_eq!(report.failure.as_ref().unwrap().code, "E0404");
    assert_eq!(report.stage("stage").unwrap().restarts, 5);
    assert!(report.ledger.balanced, "{report}");
}

#[test]
fn a_stage_with_one_replica_per_stream_takes_only_its_stream_with_it() {
    let mut build = Build::new();
    build.source("bad", 100_000);
    build.source("good", 200);
    let stage = build.each("decode", &["bad", "good"], |packet, out| {
        assert!(&*packet.header.id.stream != "bad", "cannot decode");
        out.emit(packet);
        Ok(())
    });
    stage.replicas = Replicas::PerStream;
    let seen = build.sink("out", &["decode"]);
    let report = build.run();
    assert_eq!(seen.numbers("good"), (0..200).collect::<Vec<_>>());
    assert_eq!(report.outcome, Outcome::Failed);
    assert!(report.ledger.balanced);
    assert!(
        report.streams["bad"].entered < 100_000,
        "the source of a lost stream ends"
    );
}

#[test]
fn on_error_fail_ends_the_pipeline() {
    let mut build = Build::new();
    build.source("cam", 1_000_000);
    let stage = build.each("stage", &["cam"], |packet, out| {
        if number(&packet) == 5 {
            return Err(oops());
        }
        out.emit(packet);
        Ok(())
    });
    stage.on_error = OnError::Fail;
    let seen = build.sink("out", &["stage"]);
    let report = build.run();
    assert_eq!(report.exit_code(), 4);
    assert_eq!(report.failure.as_ref().unwrap().component, "stage");
    assert!(report.ledger.balanced);
    assert!(report.ledger.entered < 1_000_000);
    assert_eq!(
        *seen.closed.lock().unwrap(),
        1,
        "what was delivered is finished properly"
    );
}

#[test]
fn retries_give_the_packet_again_and_then_do_what_follows() {
    let mut build = Build::new();
    build.source("cam", 10);
    let tries = Arc::new(AtomicU32::new(0));
    let trying = tries.clone();
    let stage = build.each("stage", &["cam"], move |packet, out| {
        match number(&packet) {
            3 if trying.fetch_add(1, Ordering::Relaxed) < 2 => return Err(oops()),
            7 => panic!("poison"),
            _ => out.emit(packet),
        }
        Ok(())
    });
    stage.on_error = OnError::Retry {
        max: 2,
        backoff: BackoffSpec::default(),
        then: Box::new(OnError::DeadLetter(DeadLetterSpec::default())),
    };
    let seen = build.sink("out", &["stage"]);
    let report = build.run();
    assert_eq!(seen.numbers("cam"), [0, 1, 2, 3, 4, 5, 6, 8, 9]);
    assert_eq!(tries.load(Ordering::Relaxed), 3);
    assert_eq!(report.ledger.dead_lettered, 1);
    assert_eq!(report.stage("stage").unwrap().restarts, 3);
    assert!(report.ledger.balanced);
}

#[test]
fn dead_letters_are_json_lines_up_to_a_limit() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("dead/letters.jsonl");
    for (max_bytes, outcome) in [(1 << 20, Outcome::LossBeyondLimit), (300, Outcome::Failed)] {
        let mut build = Build::new();
        build.source("cam", 10);
        build
            .each("stage", &["cam"], |packet, out| {
                if number(&packet) % 2 == 1 {
                    return Err(oops().caused_by(std::io::Error::other("the disk")));
                }
                out.emit(packet);
                Ok(())
            })
            .on_error = OnError::DeadLetter(DeadLetterSpec {
            path: Some(path.clone()),
            max_bytes,
            ..DeadLetterSpec::default()
        });
        build.sink("out", &["stage"]);
        let report = build.run();
        assert_eq!(report.outcome, outcome, "{report}");
        assert!(report.ledger.balanced);
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.len() as u64 <= max_bytes);
        let lines: Vec<serde_json::Value> = text
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        assert_eq!(report.ledger.dead_lettered, lines.len() as u64);
        let first = &lines[0];
        assert_eq!((&first["stage"], &first["seq"]), (&"stage".into(), &1.into()));
        assert_eq!(first["code"], "E0499");
        assert_eq!(first["errors"], serde_json::json!(["oops", "the disk"]));
    }
}

#[test]
fn a_source_that_fails_ends_its_stream_and_the_others_go_on() {
    let mut build = Build::new();
    build.source_with("bad", 100, |n, _| if n == 10 { Err(fatal()) } else { Ok(()) });
    build.source_with("panics", 100, |n, _| {
        assert!(n < 5, "a bug");
        Ok(())
    });
    build.source("good", 300);
    let seen = build.sink("out", &["bad", "panics", "good"]);
    let report = build.run();
    assert_eq!(report.outcome, Outcome::Failed);
    assert_eq!(seen.numbers("bad").len(), 10);
    assert_eq!(seen.numbers("panics").len(), 5);
    assert_eq!(seen.numbers("good").len(), 300);
    assert_eq!(report.ledger.out, 315);
    assert!(report.ledger.balanced);
}

#[test]
fn a_damaged_access_unit_of_a_source_is_counted() {
    let mut build = Build::new();
    build.source_with("cam", 10, |n, _| if n == 4 { Err(oops()) } else { Ok(()) });
    let seen = build.sink("out", &["cam"]);
    let report = build.run();
    assert_eq!((report.ledger.entered, report.ledger.out), (10, 9));
    assert_eq!(report.ledger.dropped["error:E0499"], 1);
    let ids = seen.packets.lock().unwrap();
    let seqs: Vec<u64> = ids.iter().map(|(id, _)| id.seq).collect();
    assert_eq!(seqs, [0, 1, 2, 3, 5, 6, 7, 8, 9], "it takes a sequence number");
}

#[test]
fn a_required_sink_that_breaks_fails_the_run_and_is_not_rebuilt() {
    let mut build = Build::new();
    build.source("cam", 100_000);
    build.sink_with("out", &["cam"], |packet| {
        if number(&packet) == 3 {
            Err(fatal())
        } else {
            Ok(())
        }
    });
    let report = build.run();
    assert_eq!(report.outcome, Outcome::Failed);
    assert_eq!(report.ledger.out, 3);
    assert!(report.ledger.balanced, "{report}");
    assert_eq!(report.stage("out").unwrap().restarts, 0);
}

#[test]
fn a_stage_that_cannot_open_fails_the_run_before_anything_is_read() {
    struct Broken;
    impl Stage for Broken {
        fn open(&mut self, _: &flow::stage::WorkerContext) -> Result<(), StageError> {
            Err(fatal())
        }
        fn process(&mut self, _: Packet, _: &mut dyn Emitter) -> Result<(), StageError> {
            Ok(())
        }
    }
    let mut build = Build::new();
    build.source("cam", 100);
    build.stage("model", &["cam"], |_| Broken);
    build.sink("out", &["model"]);
    let report = build.run();
    assert_eq!(report.outcome, Outcome::Failed);
    assert_eq!(report.ledger.entered, 0);
    assert_eq!(report.failure.unwrap().code, "E0498");
}

#[test]
fn the_worst_outcome_over_required_sinks_wins() {
    let mut build = Build::new();
    build.source("cam", 10);
    build.each("picky", &["cam"], |packet, out| {
        match number(&packet) {
            2 => out.drop_packet(&packet.header, "boring"),
            _ => out.emit(packet),
        }
        Ok(())
    });
    build.sink("left", &["picky"]);
    build.sink_with("right", &["cam"], |packet| {
        if number(&packet) < 4 { Err(oops()) } else { Ok(()) }
    });
    let report = build.run();
    assert_eq!(report.ledger.out, 6);
    assert_eq!(report.ledger.dropped["error:E0499"], 4);
    assert!(!report.ledger.dropped.contains_key("boring"));
}

/// Breaks its contract in one of several ways at packet 5.
fn breaking(deed: &'static str) -> flow::runtime::RunReport {
    struct Keeps(&'static str, Vec<Packet>);
    impl Stage for Keeps {
        fn process(&mut self, packet: Packet, out: &mut dyn Emitter) -> Result<(), StageError> {
            if number(&packet) == 5 {
                match self.0 {
                    "swallows" => {}
                    "twice" => {
                        out.emit(packet.clone());
                        out.emit(packet);
                    }
                    "unknown" => {
                        let mut other = packet.clone();
                        other.header.id.seq += 1000;
                        out.emit(packet);
                        out.emit(other);
                    }
                    "keeps" => self.1.push(packet),
                    _ => unreachable!(),
                }
            } else {
                out.emit(packet);
            }
            Ok(())
        }
        fn flush(&mut self, _: &StreamId, _: &mut dyn Emitter) -> Result<(), StageError> {
            Ok(())
        }
    }
    let mut build = Build::new();
    build.source("cam", 20);
    build
        .stage("stage", &["cam"], move |_| Keeps(deed, Vec::new()))
        .replicas = Replicas::Count(2);
    build.sink("out", &["stage"]);
    build.run()
}

#[test]
fn broken_contracts_are_ledger_mismatches_that_name_stage_and_packet() {
    for (deed, seq) in [("swallows", 5), ("keeps", 5), ("twice", 5), ("unknown", 1005)] {
        let report = breaking(deed);
        assert_eq!(report.exit_code(), 6, "{deed}: {report}");
        assert!(!report.ledger.balanced);
        let message = &report.mismatches[0];
        assert!(message.contains("`stage`"), "{message}");
        assert!(
            message.contains(&format!("stream `cam`, epoch 0, seq {seq}")),
            "{message}"
        );
    }
}
