//! Packets that fail for good, in a folder with what they carried.

use std::path::Path;
use std::time::Duration;

use flow::config::plan::{BackoffSpec, BatchSpec, DeadLetterSpec, OnError};
use flow::packet::Packet;
use flow::runtime::{Outcome, RunReport};
use flow::stage::{Emitter, Stage};

use super::harness::{Build, fatal, number, oops};

fn into(folder: &Path) -> OnError {
    OnError::DeadLetter(DeadLetterSpec {
        folder: Some(folder.to_path_buf()),
        max_bytes: 1 << 20,
        max_count: 1000,
        ..DeadLetterSpec::default()
    })
}

/// The letters in a folder by name, each with the number that its packet carried.
fn letters(folder: &Path) -> Vec<(serde_json::Value, u64)> {
    let mut found: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|e| e.unwrap().path())
        .collect();
    found.sort();
    let read = |path: std::path::PathBuf| {
        let letter = std::fs::read(path.join("letter.json")).unwrap();
        let carried = std::fs::read_to_string(path.join("_.._number.txt")).unwrap();
        (serde_json::from_slice(&letter).unwrap(), carried.parse().unwrap())
    };
    found.into_iter().map(read).collect()
}

fn numbers(folder: &Path) -> Vec<u64> {
    letters(folder).into_iter().map(|(_, number)| number).collect()
}

#[test]
fn a_letter_has_the_packet_the_error_and_the_payload() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().join("dead");
    let mut build = Build::new();
    build.source("cam", 10);
    let stage = build.each("stage", &["cam"], |packet, out| {
        match number(&packet) {
            3 => return Err(oops().caused_by(std::io::Error::other("the disk"))),
            5 => panic!("poison"),
            7 => out.fail(&packet.header, oops()),
            _ => out.emit(packet),
        }
        Ok(())
    });
    stage.on_error = OnError::Retry {
        max: 1,
        backoff: BackoffSpec::default(),
        then: Box::new(into(&folder)),
    };
    let seen = build.sink("out", &["stage"]);
    let report = build.run();
    assert_eq!(report.outcome, Outcome::LossBeyondLimit, "{report}");
    assert_eq!(report.ledger.dead_lettered, 3);
    assert_eq!(seen.numbers("cam"), [0, 1, 2, 4, 6, 8, 9]);
    let letters = letters(&folder);
    let facts = letters.iter().map(|(letter, number)| {
        let facts = (
            letter["seq"].as_u64(),
            letter["attempts"].as_u64(),
            letter["code"].as_str(),
        );
        (*number, facts)
    });
    let facts: Vec<_> = facts.collect();
    let fact = |seq, attempts, code| (seq, (Some(seq), Some(attempts), Some(code)));
    assert_eq!(
        facts,
        [fact(3, 2, "E0499"), fact(5, 2, "E0401"), fact(7, 1, "E0499")]
    );
    let first = &letters[0].0;
    assert_eq!(
        (&first["stage"], &first["stream"]),
        (&"stage".into(), &"cam".into())
    );
    assert_eq!(first["errors"], serde_json::json!(["oops", "the disk"]));
    assert_eq!(first["files"][0]["about"], "the number 3");
}

/// Holds every third packet back until the flush, and breaks at number 8.
struct Holds(Vec<Packet>);

impl Stage for Holds {
    fn process(&mut self, packet: Packet, out: &mut dyn Emitter) -> Result<(), flow::error::StageError> {
        match number(&packet) {
            8 => return Err(fatal()),
            n if n % 3 == 0 => self.0.push(packet),
            _ => out.emit(packet),
        }
        Ok(())
    }
    fn flush(
        &mut self,
        _: &flow::packet::StreamId,
        out: &mut dyn Emitter,
    ) -> Result<(), flow::error::StageError> {
        self.0.drain(..).for_each(|packet| out.emit(packet));
        Ok(())
    }
}

#[test]
fn what_an_instance_held_back_when_it_broke_is_written_as_well() {
    let folder = tempfile::tempdir().unwrap();
    let mut build = Build::new();
    build.source("cam", 12);
    build.stage("stage", &["cam"], |_| Holds(Vec::new())).on_error = into(folder.path());
    let seen = build.sink("out", &["stage"]);
    let report = build.run();
    assert!(report.ledger.balanced, "{report}");
    let mut dead = numbers(folder.path());
    dead.sort_unstable();
    assert_eq!(dead, [0, 3, 6, 8]);
    assert_eq!(seen.len(), 8);
}

#[test]
fn only_the_packet_at_fault_of_a_batch_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let mut build = Build::new();
    build.source("cam", 16);
    let stage = build.each("stage", &["cam"], |packet, out| {
        if number(&packet) == 6 {
            return Err(oops());
        }
        out.emit(packet);
        Ok(())
    });
    stage.batch = Some(BatchSpec {
        max: 4,
        max_wait: Duration::from_secs(10),
        per_stream_max: 4,
        sizes: Vec::new(),
    });
    stage.on_error = into(folder.path());
    build.sink("out", &["stage"]);
    let report = build.run();
    assert_eq!(report.ledger.out, 15, "{report}");
    assert_eq!(numbers(folder.path()), [6]);
}

fn all_fail(folder: &Path, max_bytes: u64, max_count: u64) -> RunReport {
    let mut build = Build::new();
    build.source("cam", 10);
    build.each("stage", &["cam"], |_, _| Err(oops())).on_error = OnError::DeadLetter(DeadLetterSpec {
        folder: Some(folder.to_path_buf()),
        max_bytes,
        max_count,
        ..DeadLetterSpec::default()
    });
    build.sink("out", &["stage"]);
    build.run()
}

#[test]
fn a_folder_is_bounded_in_letters_and_bytes_over_all_runs() {
    let folder = tempfile::tempdir().unwrap();
    // What a run that was killed left half done goes, and other files are let be.
    std::fs::create_dir(folder.path().join(".part-1-2")).unwrap();
    let report = all_fail(folder.path(), 1 << 20, 4);
    assert_eq!(report.outcome, Outcome::Failed);
    let failure = report.failure.as_ref().unwrap();
    assert_eq!(failure.code, "E0409");
    assert!(
        failure.message.contains("4 letters (`max_count`)"),
        "{}",
        failure.message
    );
    assert!(report.ledger.balanced, "{report}");
    assert_eq!(report.ledger.dead_lettered, 4);
    assert_eq!(letters(folder.path()).len(), 4);
    let report = all_fail(folder.path(), 1 << 20, 6);
    assert_eq!(report.ledger.dead_lettered, 2);
    let bytes = || {
        let files = letters_of(folder.path());
        files
            .iter()
            .map(|file| file.metadata().unwrap().len())
            .sum::<u64>()
    };
    let limit = bytes() + bytes() / 4;
    let report = all_fail(folder.path(), limit, 1000);
    assert!(report.failure.unwrap().message.contains("`max_bytes`"));
    assert!(report.ledger.dead_lettered >= 1);
    assert!(
        bytes() <= limit && bytes() > limit - 400,
        "{} of {limit}",
        bytes()
    );
}

fn letters_of(folder: &Path) -> Vec<std::path::PathBuf> {
    let within = |folder: &Path| {
        std::fs::read_dir(folder)
            .unwrap()
            .map(|e| e.unwrap().path())
            .collect()
    };
    let letters: Vec<std::path::PathBuf> = within(folder);
    letters.iter().flat_map(|letter| within(letter)).collect()
}
