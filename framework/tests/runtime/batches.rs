//! Batches: when they close, what they hold, and what happens when one fails.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use flow::clock::ManualClock;
use flow::config::plan::{BatchSpec, QueueSpec, Replicas};
use flow::error::StageError;
use flow::metrics::BatchClose;
use flow::packet::{Packet, Payload};
use flow::ports::PortType;
use flow::runtime::{Outcome, RunReport};
use flow::stage::{Emitter, Stage, StopFlag, WorkerContext};

use super::harness::{Barrier, Build, fatal, number, oops, taken, until};

const MS: Duration = Duration::from_millis(1);

/// Batches as they came: stream and number of each packet.
type Log = Arc<Mutex<Vec<Vec<(String, u64)>>>>;

/// Logs its batches; poison makes it fail or panic.
#[derive(Clone, Default)]
struct Batching {
    log: Log,
    poison: Option<u64>,
    fatal: bool,
    gate: Option<Barrier>,
}

impl Batching {
    fn check(&self, packet: &Packet) -> Result<(), StageError> {
        match self.poison == Some(number(packet)) {
            true if self.fatal => Err(fatal()),
            true => Err(oops()),
            false => Ok(()),
        }
    }
}

impl Stage for Batching {
    fn process(&mut self, packet: Packet, out: &mut dyn Emitter) -> Result<(), StageError> {
        self.process_batch(&[packet], out)
    }
    fn process_batch(&mut self, packets: &[Packet], out: &mut dyn Emitter) -> Result<(), StageError> {
        let entry = |p: &Packet| (p.header.id.stream.to_string(), number(p));
        self.log.lock().unwrap().push(packets.iter().map(entry).collect());
        if let Some(gate) = self.gate.take() {
            gate.pass();
        }
        packets.iter().try_for_each(|packet| self.check(packet))?;
        packets.iter().for_each(|packet| out.emit(packet.clone()));
        Ok(())
    }
}

fn spec(max: usize) -> BatchSpec {
    BatchSpec {
        max,
        max_wait: 15 * MS,
        per_stream_max: max,
        sizes: Vec::new(),
    }
}

fn closed(report: &RunReport, stage: &str) -> Vec<(BatchClose, u64)> {
    let batches = report.stage(stage).unwrap().batches.as_ref().unwrap();
    batches.closed.iter().map(|(close, n)| (*close, *n)).collect()
}

/// A pipeline whose sources have given everything before the first batch is let go.
fn filled(sources: &[(&str, u64)], batching: Batching, spec: BatchSpec) -> (RunReport, Log) {
    let clock = ManualClock::new();
    let gate = Barrier::new();
    let log = batching.log.clone();
    let batching = Batching {
        gate: Some(gate.clone()),
        ..batching
    };
    let mut build = Build::new();
    let names: Vec<&str> = sources.iter().map(|(name, _)| *name).collect();
    build.source("first", 1);
    let mut inputs = vec!["first"];
    inputs.extend(&names);
    for (name, count) in sources {
        build.source(name, *count);
    }
    build.stage("infer", &inputs, move |_| batching.clone()).batch = Some(spec);
    let capacity = 64;
    build.queue(
        "infer",
        QueueSpec {
            capacity,
            ..QueueSpec::default()
        },
    );
    build.sink("out", &["infer"]);
    let running = build.start(&clock);
    // The first batch holds the stage until all that follows waits in the queue.
    let total: u64 = 1 + sources.iter().map(|(_, n)| n).sum::<u64>();
    let entered = || {
        let streams = running.handle().progress().streams;
        streams.iter().map(|stream| stream.entered).sum::<u64>()
    };
    until(|| entered() == total);
    gate.reached.recv().unwrap();
    gate.open(1);
    while running
        .handle()
        .progress()
        .streams
        .iter()
        .any(|s| s.settled < s.entered)
    {
        clock.advance(15 * MS);
        std::thread::yield_now();
    }
    (running.wait(), log)
}

#[test]
fn a_batch_is_closed_when_it_has_been_open_for_max_wait() {
    let clock = ManualClock::new();
    let hold = Barrier::new();
    let source = hold.clone();
    let mut build = Build::new();
    build.source_with("cam", 4, move |n, _| {
        if n == 3 {
            source.pass();
        }
        Ok(())
    });
    let batching = Batching::default();
    let log = batching.log.clone();
    build.stage("infer", &["cam"], move |_| batching.clone()).batch = Some(spec(8));
    build.sink("out", &["infer"]);
    let running = build.start(&clock);
    clock.await_timer(15 * MS);
    until(|| taken(&running, "infer") == 3);
    clock.advance(14 * MS);
    assert!(log.lock().unwrap().is_empty());
    clock.advance(MS);
    until(|| !log.lock().unwrap().is_empty());
    hold.open(1);
    let report = running.wait();
    let sizes: Vec<usize> = log.lock().unwrap().iter().map(Vec::len).collect();
    assert_eq!(sizes, [3, 1]);
    assert_eq!(
        closed(&report, "infer"),
        [(BatchClose::Wait, 1), (BatchClose::End, 1)]
    );
    assert_eq!(report.outcome, Outcome::Ok);
}

#[test]
fn a_full_batch_does_not_wait_and_its_length_is_padded() {
    let mut build = Build::new();
    build.source("cam", 11);
    let batching = Batching::default();
    let spec = BatchSpec {
        sizes: vec![2, 4],
        ..spec(4)
    };
    build.stage("infer", &["cam"], move |_| batching.clone()).batch = Some(spec);
    let seen = build.sink("out", &["infer"]);
    let report = build.start(&ManualClock::new()).wait();
    assert_eq!(seen.numbers("cam"), (0..11).collect::<Vec<_>>());
    let batches = report.stage("infer").unwrap().batches.clone().unwrap();
    assert_eq!(batches.sizes, [(3, 1), (4, 2)].into());
    assert_eq!(batches.padding, 1);
    assert_eq!(
        closed(&report, "infer"),
        [(BatchClose::Full, 2), (BatchClose::End, 1)]
    );
}

#[test]
fn a_busy_stream_does_not_fill_batches_alone() {
    let (report, log) = filled(&[("busy", 30), ("calm", 6)], Batching::default(), spec(4));
    let log = log.lock().unwrap();
    let count = |batch: &[(String, u64)], stream| batch.iter().filter(|(s, _)| s == stream).count();
    // The first one took what there was; behind it everything waited.
    let mixed: Vec<_> = log[1..].iter().filter(|batch| count(batch, "calm") > 0).collect();
    assert!(
        mixed
            .iter()
            .all(|batch| count(batch, "busy").abs_diff(count(batch, "calm")) <= 1),
        "{log:?}"
    );
    assert!(!mixed.is_empty() && count(&log[1], "calm") > 0, "{log:?}");
    let busy: Vec<u64> = log
        .iter()
        .flatten()
        .filter(|(s, _)| s == "busy")
        .map(|(_, n)| *n)
        .collect();
    assert_eq!(busy, (0..30).collect::<Vec<_>>(), "oldest first inside a stream");
    assert!(report.ledger.balanced);
}

#[test]
fn a_batch_takes_no_more_than_per_stream_max_of_a_stream() {
    let spec = BatchSpec {
        per_stream_max: 2,
        ..spec(8)
    };
    let (report, log) = filled(&[("a", 20), ("b", 20)], Batching::default(), spec);
    for batch in log.lock().unwrap().iter() {
        for stream in ["a", "b"] {
            assert!(
                batch.iter().filter(|(s, _)| s == stream).count() <= 2,
                "{batch:?}"
            );
        }
    }
    assert!(
        closed(&report, "infer")
            .iter()
            .any(|(close, _)| *close == BatchClose::Streams)
    );
    assert_eq!(report.ledger.out, 41);
}

#[test]
fn only_the_poison_packet_of_a_batch_fails() {
    for fatal in [false, true] {
        let batching = Batching {
            poison: Some(5),
            fatal,
            ..Batching::default()
        };
        let mut build = Build::new();
        build.source("cam", 16);
        let stage = build.stage("infer", &["cam"], move |_| batching.clone());
        stage.batch = Some(spec(8));
        let seen = build.sink("out", &["infer"]);
        let report = build.start(&ManualClock::new()).wait();
        let expected: Vec<u64> = (0..16).filter(|n| *n != 5).collect();
        assert_eq!(seen.numbers("cam"), expected);
        let code = if fatal { "error:E0498" } else { "error:E0499" };
        assert_eq!(report.ledger.dropped[code], 1);
        let stage = report.stage("infer").unwrap();
        assert_eq!(stage.batches.as_ref().unwrap().rerun, 1);
        // The batch, and the packet alone.
        assert_eq!(stage.restarts, if fatal { 2 } else { 0 });
        assert!(report.ledger.balanced, "{report}");
    }
}

/// A payload of one of several shapes.
struct Shaped(u64);

impl Payload for Shaped {
    fn port_type(&self) -> PortType {
        PortType("number")
    }
    fn bytes(&self) -> usize {
        8
    }
    fn shape_key(&self) -> u64 {
        self.0
    }
}

#[test]
fn a_batch_never_mixes_shapes_and_the_stage_hears_of_a_change() {
    #[derive(Clone, Default)]
    struct Shapes(Arc<Mutex<Vec<Vec<u64>>>>, Arc<Mutex<u32>>);
    impl Stage for Shapes {
        fn process(&mut self, packet: Packet, out: &mut dyn Emitter) -> Result<(), StageError> {
            self.process_batch(&[packet], out)
        }
        fn process_batch(&mut self, packets: &[Packet], out: &mut dyn Emitter) -> Result<(), StageError> {
            let shapes = packets.iter().map(|p| p.payload::<Shaped>().unwrap().0);
            self.0.lock().unwrap().push(shapes.collect());
            packets.iter().for_each(|packet| out.emit(packet.clone()));
            Ok(())
        }
        fn shape_changed(
            &mut self,
            _: &flow::packet::StreamId,
            _: &mut dyn Emitter,
        ) -> Result<(), StageError> {
            *self.1.lock().unwrap() += 1;
            Ok(())
        }
    }
    let mut build = Build::new();
    build.source("cam", 12);
    build.each("scale", &["cam"], |packet, out| {
        let shape = 1 + number(&packet) / 6;
        out.emit(packet.with_payload(Arc::new(Shaped(shape))));
        Ok(())
    });
    let shapes = Shapes::default();
    let given = shapes.clone();
    build.stage("infer", &["scale"], move |_| given.clone()).batch = Some(spec(4));
    build.sink_with("out", &["infer"], |_| Ok(()));
    let report = build.start(&ManualClock::new()).wait();
    for batch in shapes.0.lock().unwrap().iter() {
        assert!(batch.iter().all(|shape| *shape == batch[0]), "{batch:?}");
    }
    assert_eq!(*shapes.1.lock().unwrap(), 1);
    assert_eq!(report.ledger.out, 12);
}

#[test]
fn a_batch_is_closed_in_time_for_its_earliest_deadline() {
    let clock = ManualClock::new();
    let hold = Barrier::new();
    let source = hold.clone();
    let mut build = Build::new();
    build.source_with("cam", 2, move |n, _| {
        if n == 1 {
            source.pass();
        }
        Ok(())
    });
    let batching = Batching::default();
    let stage = build.stage("infer", &["cam"], move |_| batching.clone());
    stage.batch = Some(BatchSpec {
        max_wait: 1000 * MS,
        ..spec(8)
    });
    stage.deadline = Some(100 * MS);
    let seen = build.sink("out", &["infer"]);
    let running = build.start(&clock);
    clock.await_timer(100 * MS);
    clock.advance(100 * MS);
    until(|| seen.len() == 1);
    hold.open(1);
    let report = running.wait();
    assert_eq!(
        closed(&report, "infer"),
        [(BatchClose::Deadline, 1), (BatchClose::End, 1)]
    );
    assert_eq!(report.ledger.out, 2);
}

#[test]
fn replicas_with_batches_keep_the_order_and_lose_nothing() {
    for window in [None, Some(4), Some(5)] {
        let mut build = Build::new();
        build.source("left", 500);
        build.source("right", 300);
        let stage = build.stage("infer", &["left", "right"], |replica| {
            let mut dice = super::harness::Dice::new(replica as u64);
            super::harness::Each(move |packet: Packet, out: &mut dyn Emitter| {
                if dice.roll(3) == 0 {
                    std::thread::yield_now();
                }
                out.emit(packet);
                Ok(())
            })
        });
        stage.replicas = Replicas::Count(3);
        stage.window = window;
        stage.batch = Some(BatchSpec {
            max_wait: MS,
            ..spec(4)
        });
        let seen = build.sink("out", &["infer"]);
        let report = build.run();
        assert_eq!(seen.numbers("left"), (0..500).collect::<Vec<_>>());
        assert_eq!(seen.numbers("right"), (0..300).collect::<Vec<_>>());
        assert_eq!(report.outcome, Outcome::Ok, "{report}");
    }
}

#[test]
fn an_open_batch_is_aborted_with_the_run() {
    struct Never(StopFlag);
    impl Stage for Never {
        fn open(&mut self, cx: &WorkerContext) -> Result<(), StageError> {
            self.0 = cx.stopping.clone();
            Ok(())
        }
        fn process(&mut self, _: Packet, _: &mut dyn Emitter) -> Result<(), StageError> {
            unreachable!("the batch is never closed")
        }
    }
    let hold = Barrier::new();
    let source = hold.clone();
    let clock = ManualClock::new();
    let mut build = Build::new();
    build.source_with("cam", 4, move |n, _| {
        if n == 3 {
            source.pass();
        }
        Ok(())
    });
    build
        .stage("infer", &["cam"], |_| Never(StopFlag::default()))
        .batch = Some(spec(8));
    build.sink("out", &["infer"]);
    let running = build.start(&clock);
    until(|| taken(&running, "infer") == 3);
    running.handle().abort();
    hold.open(1);
    let report = running.wait();
    assert_eq!(report.outcome, Outcome::CutShort);
    assert!(report.ledger.dropped["aborted"] >= 3);
    assert!(report.ledger.balanced, "{report}");
}
