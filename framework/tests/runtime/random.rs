//! Small random pipelines with random faults: all end, and the books balance.

use std::time::Duration;

use flow::config::plan::{
    BackoffSpec, BatchSpec, DeadLetterSpec, Join, Lossy, OnError, Order, Overflow, QueueSpec, Replicas, Route,
};
use flow::packet::Packet;
use flow::runtime::{Outcome, RunOptions, start};
use flow::stage::Emitter;

use super::harness::{Build, Dice, Each, fatal, oops};

/// A pipeline of up to 3 sources, 4 stages and 3 sinks, any of which may fail.
fn random(seed: u64) -> Build {
    random_with(seed, true)
}

/// With `timeouts`, threads may be left behind.
fn random_with(seed: u64, timeouts: bool) -> Build {
    let mut dice = Dice::new(seed);
    let mut build = Build::new();
    build.runtime().drain_timeout = Duration::from_secs(30);
    let mut names: Vec<String> = Vec::new();
    for n in 0..=dice.roll(2) {
        let name = format!("source{n}");
        let mut faults = Dice::new(seed ^ (n + 100));
        let source = build.source_with(&name, dice.roll(60), move |_, out| {
            match faults.roll(60) {
                0 => return Err(oops()),
                1 => out.fail(None, oops()),
                2 => out.discontinuity(),
                3 => assert!(faults.roll(4) != 0, "a bug in a source"),
                _ => {}
            }
            Ok(())
        });
        source.live = dice.roll(2) == 0;
        names.push(name);
    }
    let sources = names.len();
    for n in 0..dice.roll(4) {
        let name = format!("stage{n}");
        let inputs = pick(&mut dice, &names);
        let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
        let trouble = dice.roll(3) * 25;
        let stage = build.stage(&name, &inputs, move |replica| {
            let mut faults = Dice::new(seed ^ (n * 31 + replica as u64 + 1000));
            Each(move |packet: Packet, out: &mut dyn Emitter| {
                if faults.roll(5) == 0 {
                    std::thread::yield_now();
                }
                if trouble == 0 {
                    out.emit(packet);
                    return Ok(());
                }
                match faults.roll(trouble * 4) {
                    0 => return Err(oops()),
                    1 => return Err(fatal()),
                    2 => panic!("before the packet is settled"),
                    3 => {
                        out.emit(packet);
                        panic!("after the packet is settled");
                    }
                    4 => out.drop_packet(&packet.header, "random"),
                    5 => out.fail(&packet.header, oops()),
                    6 => {
                        // Longer than some may take.
                        let began = std::time::Instant::now();
                        while began.elapsed() < Duration::from_millis(2) {
                            std::thread::yield_now();
                        }
                        out.emit(packet);
                    }
                    _ => out.emit(packet),
                }
                Ok(())
            })
        });
        stage.replicas = match dice.roll(4) {
            0 => Replicas::PerStream,
            n => Replicas::Count(n as usize),
        };
        stage.route = if dice.roll(4) == 0 {
            Route::ByStream
        } else {
            Route::Any
        };
        stage.order = if dice.roll(5) == 0 {
            Order::None
        } else {
            Order::PerStream
        };
        stage.batch = (dice.roll(3) == 0).then(|| BatchSpec {
            max: 1 + dice.roll(6) as usize,
            max_wait: Duration::from_micros(dice.roll(3) * 300),
            per_stream_max: 1 + dice.roll(6) as usize,
            sizes: Vec::new(),
        });
        stage.timeout = (dice.roll(4) == 0 && timeouts).then(|| Duration::from_micros(1 + dice.roll(2000)));
        stage.window = (dice.roll(3) == 0).then(|| 1 + dice.roll(4) as usize);
        stage.join = [None, Some(Join::All), Some(Join::Any)][dice.roll(3) as usize];
        let joins = stage.join.is_some();
        if joins {
            stage.batch = None;
        }
        stage.on_error = match dice.roll(6) {
            0 => OnError::Fail,
            1 => OnError::DeadLetter(DeadLetterSpec::default()),
            2 => OnError::Retry {
                max: 2,
                backoff: BackoffSpec::default(),
                then: Box::new(OnError::Drop),
            },
            _ => OnError::Drop,
        };
        let mut queue = random_queue(&mut dice);
        if joins {
            // Handing over on one way would wait for the other one; the check of files refuses it.
            queue.capacity = queue.capacity.max(1);
        }
        build.queue(&name, queue);
        names.push(name);
    }
    // Every component is taken by some sink.
    for n in 0..=dice.roll(2) {
        let name = format!("sink{n}");
        let inputs: Vec<&str> = if n == 0 {
            names.iter().map(String::as_str).collect()
        } else {
            vec![&names[dice.roll(names.len() as u64) as usize]]
        };
        let mut faults = Dice::new(seed ^ (n + 5000));
        let sink = build.sink_with(&name, &inputs, move |_| match faults.roll(200) {
            0 => Err(oops()),
            1 if faults.roll(3) == 0 => panic!("a bug in a sink"),
            _ => Ok(()),
        });
        sink.required = n == 0 || dice.roll(2) == 0;
        let queue = random_queue(&mut dice);
        build.queue(&name, queue);
    }
    assert!(sources > 0);
    build
}

fn pick(dice: &mut Dice, names: &[String]) -> Vec<String> {
    let mut picked: Vec<String> = names.iter().filter(|_| dice.roll(2) == 0).cloned().collect();
    if picked.is_empty() {
        picked.push(names[dice.roll(names.len() as u64) as usize].clone());
    }
    picked
}

fn random_queue(dice: &mut Dice) -> QueueSpec {
    QueueSpec {
        capacity: dice.roll(4) as usize,
        bytes: (dice.roll(5) == 0).then(|| 1 + dice.roll(40)),
        overflow: match dice.roll(8) {
            0 => Overflow::Latest,
            1 => Overflow::DropOldest,
            2 => Overflow::DropNewest,
            3 if dice.roll(3) == 0 => Overflow::Fail,
            _ => Overflow::Block,
        },
        lossy: if dice.roll(3) == 0 {
            Lossy::All
        } else {
            Lossy::Live
        },
    }
}

#[test]
fn random_pipelines_with_random_faults_end_balanced() {
    let mut failed = 0;
    for seed in 0..200 {
        let report = start(random(seed).prepared(), &RunOptions::default())
            .unwrap()
            .wait();
        assert!(report.ledger.balanced, "seed {seed}: {report}");
        assert!(
            !matches!(report.outcome, Outcome::CutShort | Outcome::LedgerMismatch),
            "seed {seed}: {report}"
        );
        failed += u32::from(report.outcome == Outcome::Failed);
    }
    // Otherwise the pipelines are too tame, or too wild, to show anything.
    assert!((10..190).contains(&failed), "{failed} of 200 failed");
}

/// Replicas join a stream behind queues that keep the newest packet only: what a replica sees in such a queue may be gone
/// before it takes it, and whatever it finds then, the others have their turn.
#[test]
fn replicas_that_join_what_is_dropped_meanwhile_have_their_turns() {
    for round in 0..300 {
        let report = start(random(181).prepared(), &RunOptions::default())
            .unwrap()
            .wait();
        let cut = matches!(report.outcome, Outcome::CutShort | Outcome::LedgerMismatch);
        assert!(!cut, "round {round}: {report}");
    }
}

#[test]
fn random_pipelines_stopped_at_random_moments_drain() {
    for seed in 1000..1100 {
        let running = start(random(seed).prepared(), &RunOptions::default()).unwrap();
        let handle = running.handle();
        let moment = Dice::new(seed).roll(40);
        while handle.progress().streams.iter().map(|s| s.entered).sum::<u64>() < moment {
            if handle.is_stopping() || handle.progress().elapsed > Duration::from_millis(200) {
                break;
            }
            std::thread::yield_now();
        }
        handle.stop();
        let report = running.wait();
        assert!(report.ledger.balanced, "seed {seed}: {report}");
        assert_ne!(report.outcome, Outcome::CutShort, "seed {seed}: {report}");
    }
}

#[test]
fn random_pipelines_aborted_at_random_moments_account_for_every_packet() {
    for seed in 2000..2060 {
        let running = start(random_with(seed, false).prepared(), &RunOptions::default()).unwrap();
        for _ in 0..Dice::new(seed).roll(200) {
            std::thread::yield_now();
        }
        running.handle().abort();
        let report = running.wait();
        assert!(report.ledger.balanced, "seed {seed}: {report}");
        assert!(report.wedged.is_empty(), "seed {seed}: {report}");
    }
}
