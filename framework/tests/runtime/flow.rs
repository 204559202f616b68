//! Order, fan-out, fan-in, routing and the ends of streams.

use std::sync::{Arc, Mutex};

use flow::config::plan::{Order, QueueSpec, Replicas, Route};
use flow::error::StageError;
use flow::packet::{Packet, StreamId};
use flow::runtime::Outcome;
use flow::stage::{Emitter, Stage, WorkerContext};
use proptest::prelude::*;

use super::harness::{Build, Dice, Each, Opening, number};

#[test]
fn a_chain_delivers_everything_in_order() {
    let mut build = Build::new();
    build.source("cam", 1000);
    build.pass("a", &["cam"]);
    build.pass("b", &["a"]);
    let seen = build.sink("out", &["b"]);
    let report = build.run();
    assert_eq!(report.outcome, Outcome::Ok);
    assert!(report.ledger.balanced);
    assert_eq!((report.ledger.entered, report.ledger.out), (1000, 1000));
    assert_eq!(seen.numbers("cam"), (0..1000).collect::<Vec<_>>());
    assert_eq!(seen.ended.lock().unwrap().len(), 1);
    assert_eq!(*seen.closed.lock().unwrap(), 1);
    assert_eq!(report.stage("b").unwrap().packets, 1000);
    assert_eq!(report.edges.len(), 3);
}

#[test]
fn the_summary_has_the_documented_keys() {
    let mut build = Build::new();
    build.source("cam", 3);
    build.sink("out", &["cam"]);
    let report = build.run();
    let json = report.to_json();
    assert_eq!(json["ledger"]["balanced"], true);
    assert_eq!(json["ledger"]["in"], 3);
    assert_eq!(json["ledger"]["out"], 3);
    assert_eq!(json["ledger"]["dead_lettered"], 0);
    assert!(json["ledger"]["dropped"].as_object().unwrap().is_empty());
    let sink = &json["stages"]["out"];
    assert_eq!(sink["packets"], 3);
    for times in ["service_ms", "queue_wait_ms"] {
        for key in ["p50", "p95", "p99"] {
            assert!(sink[times][key].is_number(), "{times}.{key}");
        }
    }
    assert!(sink["fps"].is_number() && json["seconds"].is_number());
    assert!(report.to_string().contains("ledger: 3 in = 3 out"));
}

#[test]
fn fan_out_delivers_to_every_sink_and_counts_once() {
    let mut build = Build::new();
    build.source("cam", 200);
    build.pass("a", &["cam"]);
    let left = build.sink("left", &["a"]);
    build.pass("b", &["a"]);
    let right = build.sink("right", &["b"]);
    let report = build.run();
    assert_eq!(report.outcome, Outcome::Ok);
    assert_eq!(report.ledger.out, 200);
    assert_eq!(left.numbers("cam"), right.numbers("cam"));
    assert_eq!(left.len(), 200);
}

#[test]
fn fan_in_merges_streams_and_ends_each_once() {
    let mut build = Build::new();
    build.source("a", 100);
    build.source("b", 50);
    build.source("c", 0);
    build.pass("merge", &["a", "b", "c"]);
    let seen = build.sink("out", &["merge"]);
    let report = build.run();
    assert_eq!(report.outcome, Outcome::Ok);
    assert_eq!(seen.numbers("a"), (0..100).collect::<Vec<_>>());
    assert_eq!(seen.numbers("b"), (0..50).collect::<Vec<_>>());
    let mut ended = seen.ended.lock().unwrap().clone();
    ended.sort();
    assert_eq!(ended, ["a".into(), "b".into(), "c".into()] as [StreamId; 3]);
    assert_eq!(report.streams["b"].out, 50);
}

#[test]
fn branches_that_rejoin_deliver_both_copies_and_count_once() {
    let mut build = Build::new();
    build.source("cam", 100);
    build.pass("a", &["cam"]).replicas = Replicas::Count(2);
    build.pass("b", &["cam"]);
    build.pass("join", &["a", "b"]).replicas = Replicas::Count(3);
    let seen = build.sink("out", &["join"]);
    let report = build.run();
    assert_eq!(report.outcome, Outcome::Ok, "{report}");
    assert_eq!(report.ledger.out, 100);
    assert_eq!(seen.len(), 200);
    assert_eq!(seen.ended.lock().unwrap().len(), 1);
}

#[test]
fn streams_stay_with_their_replica() {
    for (replicas, route, workers) in [
        (Replicas::PerStream, Route::Any, 3),
        (Replicas::Count(2), Route::ByStream, 2),
    ] {
        let mut build = Build::new();
        for name in ["a", "b", "c"] {
            build.source(name, 40);
        }
        let opened = Arc::new(Mutex::new(Vec::new()));
        let streams = Arc::new(Mutex::new(Vec::<(usize, StreamId)>::new()));
        let (opening, noting) = (opened.clone(), streams.clone());
        let stage = build.stage("stage", &["a", "b", "c"], move |replica| {
            let noting = noting.clone();
            let note = move |packet: Packet, out: &mut dyn Emitter| {
                noting
                    .lock()
                    .unwrap()
                    .push((replica, packet.header.id.stream.clone()));
                out.emit(packet);
                Ok(())
            };
            Opening(Each(note), opening.clone())
        });
        (stage.replicas, stage.route) = (replicas, route);
        let seen = build.sink("out", &["stage"]);
        let report = build.run();
        assert_eq!(report.outcome, Outcome::Ok, "{report}");
        assert_eq!(opened.lock().unwrap().len(), workers);
        let mut pairs = streams.lock().unwrap().clone();
        pairs.sort();
        pairs.dedup();
        assert_eq!(pairs.len(), 3, "each stream has one replica: {pairs:?}");
        for name in ["a", "b", "c"] {
            assert_eq!(seen.numbers(name), (0..40).collect::<Vec<_>>());
        }
    }
}

/// Gives packets back `delay` packets late, the last ones on flush.
struct Delay {
    delay: usize,
    held: Vec<Packet>,
}

impl Stage for Delay {
    fn process(&mut self, packet: Packet, out: &mut dyn Emitter) -> Result<(), StageError> {
        self.held.push(packet);
        if self.held.len() > self.delay {
            out.emit(self.held.remove(0));
        }
        Ok(())
    }
    fn flush(&mut self, stream: &StreamId, out: &mut dyn Emitter) -> Result<(), StageError> {
        let (ours, others) = self
            .held
            .drain(..)
            .partition(|packet| packet.header.id.stream == *stream);
        self.held = others;
        let ours: Vec<Packet> = ours;
        ours.into_iter().for_each(|packet| out.emit(packet));
        Ok(())
    }
}

#[test]
fn a_stage_may_hold_packets_back_until_the_flush() {
    for replicas in [1, 2, 3] {
        let mut build = Build::new();
        build.source("a", 30);
        build.source("b", 7);
        let stage = build.stage("decode", &["a", "b"], |_| Delay {
            delay: 20,
            held: Vec::new(),
        });
        stage.replicas = Replicas::Count(replicas);
        let seen = build.sink("out", &["decode"]);
        let report = build.run();
        assert_eq!(report.outcome, Outcome::Ok, "{report}");
        assert_eq!(seen.numbers("a"), (0..30).collect::<Vec<_>>());
        assert_eq!(seen.numbers("b"), (0..7).collect::<Vec<_>>());
    }
}

#[test]
fn a_new_epoch_reaches_stages_once_and_starts_the_sequence_anew() {
    struct Epochs(Arc<Mutex<Vec<String>>>);
    impl Stage for Epochs {
        fn process(&mut self, packet: Packet, out: &mut dyn Emitter) -> Result<(), StageError> {
            let id = &packet.header.id;
            self.0.lock().unwrap().push(format!("{}.{}", id.epoch, id.seq));
            out.emit(packet);
            Ok(())
        }
        fn discontinuity(&mut self, stream: &StreamId, _: &mut dyn Emitter) -> Result<(), StageError> {
            self.0.lock().unwrap().push(format!("new {stream}"));
            Ok(())
        }
    }
    let mut build = Build::new();
    build.source_with("cam", 4, |n, out| {
        if n == 2 {
            out.discontinuity();
        }
        Ok(())
    });
    let told = Arc::new(Mutex::new(Vec::new()));
    let telling = told.clone();
    build.stage("stage", &["cam"], move |_| Epochs(telling.clone()));
    build.sink("out", &["stage"]);
    assert_eq!(build.run().outcome, Outcome::Ok);
    assert_eq!(*told.lock().unwrap(), ["0.0", "0.1", "new cam", "1.0", "1.1"]);
}

#[test]
fn sources_read_only_after_all_stages_are_open() {
    struct Slow(Arc<Mutex<Vec<&'static str>>>);
    impl Stage for Slow {
        fn open(&mut self, _: &WorkerContext) -> Result<(), StageError> {
            self.0.lock().unwrap().push("open");
            Ok(())
        }
        fn process(&mut self, packet: Packet, out: &mut dyn Emitter) -> Result<(), StageError> {
            out.emit(packet);
            Ok(())
        }
    }
    let log = Arc::new(Mutex::new(Vec::new()));
    let (source_log, stage_log) = (log.clone(), log.clone());
    let mut build = Build::new();
    build.source_with("cam", 1, move |_, _| {
        source_log.lock().unwrap().push("read");
        Ok(())
    });
    build
        .stage("model", &["cam"], move |_| Slow(stage_log.clone()))
        .replicas = Replicas::Count(3);
    build.sink("out", &["model"]);
    assert_eq!(build.run().outcome, Outcome::Ok);
    assert_eq!(*log.lock().unwrap(), ["open", "open", "open", "read"]);
}

/// Burns time that differs from packet to packet.
fn work(dice: &mut Dice) {
    for _ in 0..dice.roll(2000) {
        std::hint::spin_loop();
    }
    if dice.roll(8) == 0 {
        std::thread::yield_now();
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Replicas with random service times that drop some packets keep the order of each stream.
    #[test]
    fn replicas_keep_the_order_of_each_stream(
        seed in any::<u64>(),
        replicas in 1_usize..5,
        capacity in 0_usize..4,
        streams in 1_usize..4,
        drops in 0_u64..5,
    ) {
        let mut build = Build::new();
        let names: Vec<String> = (0..streams).map(|n| format!("cam{n}")).collect();
        for name in &names {
            build.source(name, 60);
        }
        let inputs: Vec<&str> = names.iter().map(String::as_str).collect();
        let stage = build.stage("stage", &inputs, move |replica| {
            let mut dice = Dice::new(seed ^ replica as u64);
            Each(move |packet: Packet, out: &mut dyn Emitter| {
                work(&mut dice);
                if number(&packet) % 5 < drops {
                    out.drop_packet(&packet.header, "unlucky");
                } else {
                    out.emit(packet);
                }
                Ok(())
            })
        });
        stage.replicas = Replicas::Count(replicas);
        let seen = build.sink("out", &["stage"]);
        let queue = QueueSpec { capacity, ..QueueSpec::default() };
        build.queue("stage", queue).queue("out", queue);
        let report = build.run();
        prop_assert_eq!(report.outcome, Outcome::Ok);
        let expected: Vec<u64> = (0..60).filter(|n| n % 5 >= drops).collect();
        for name in &names {
            prop_assert_eq!(&seen.numbers(name), &expected);
        }
        let lost = 60 * streams as u64 - report.ledger.out;
        prop_assert_eq!(report.ledger.dropped.get("unlucky").copied().unwrap_or(0), lost);
    }
}

#[test]
fn order_none_delivers_everything_in_some_order() {
    let mut build = Build::new();
    build.source("cam", 300);
    let stage = build.pass("stage", &["cam"]);
    stage.replicas = Replicas::Count(3);
    stage.order = Order::None;
    let seen = build.sink("out", &["stage"]);
    let report = build.run();
    assert_eq!(report.outcome, Outcome::Ok);
    let mut numbers = seen.numbers("cam");
    numbers.sort_unstable();
    assert_eq!(numbers, (0..300).collect::<Vec<_>>());
    assert_eq!(seen.ended.lock().unwrap().len(), 1);
}
