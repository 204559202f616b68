//! What the runtime itself costs: a source, two stages and a sink that do nothing, three queues between them, one
//! thread each.
//!
//! `hop_cost [PACKETS] [CAPACITY]` first sends PACKETS empty packets as fast as they are taken, then gives one packet
//! each millisecond to see how long one waits on its way from thread to thread while nothing else is to be done. One
//! JSON object on standard output says what was found. `tests/compare/hop_cost.py` sets it beside GStreamer.
#![allow(clippy::print_stdout, reason = "the answer is its output")]
#![allow(missing_docs, reason = "a program")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use flow::config::plan::{Component, InputEdge, Pipeline, PreparedPipeline, QueueSpec};
use flow::error::StageError;
use flow::packet::{Packet, Payload};
use flow::ports::PortType;
use flow::registry::{Prepared, PreparedComponent, Role};
use flow::runtime::{Outcome, RunOptions, RunReport, run};
use flow::stage::{Emitter, Progress, Sink, Source, SourceEmitter, Stage};

/// Packets by default.
const PACKETS: u64 = 1_000_000;
/// What a queue of GStreamer holds by default.
const CAPACITY: usize = 200;
/// Packets of the idle run, one each [`PAUSE`].
const IDLE_PACKETS: u64 = 3_000;
const PAUSE: Duration = Duration::from_millis(1);

struct Empty;

impl Payload for Empty {
    fn port_type(&self) -> PortType {
        PortType("empty")
    }
    fn bytes(&self) -> usize {
        0
    }
}

/// Gives one and the same payload over and over.
struct Same {
    payload: Arc<dyn Payload>,
    left: u64,
    pause: Duration,
}

impl Source for Same {
    fn next(&mut self, out: &mut dyn SourceEmitter) -> Result<Progress, StageError> {
        if self.left == 0 {
            return Ok(Progress::End);
        }
        self.left -= 1;
        if !self.pause.is_zero() {
            std::thread::sleep(self.pause);
        }
        out.emit(None, self.payload.clone(), &mut |_| {});
        Ok(Progress::More)
    }
}

struct Pass;

impl Stage for Pass {
    fn process(&mut self, packet: Packet, out: &mut dyn Emitter) -> Result<(), StageError> {
        out.emit(packet);
        Ok(())
    }
}

struct Nothing;

impl Sink for Nothing {
    fn consume(&mut self, _: Packet) -> Result<(), StageError> {
        Ok(())
    }
}

fn pipeline(packets: u64, capacity: usize, pause: Duration) -> PreparedPipeline {
    let source = Prepared::<dyn Source>::new(move |_| {
        Ok(Box::new(Same {
            payload: Arc::new(Empty),
            left: packets,
            pause,
        }))
    });
    let stage = || PreparedComponent::Stage(Prepared::<dyn Stage>::new(|_| Ok(Box::new(Pass))));
    let sink = Prepared::<dyn Sink>::new(|_| Ok(Box::new(Nothing)));
    let parts = vec![
        PreparedComponent::Source(source),
        stage(),
        stage(),
        PreparedComponent::Sink(sink),
    ];
    let roles = [Role::Source, Role::Stage, Role::Stage, Role::Sink];
    let names = ["source", "first", "second", "sink"];
    let components = names
        .into_iter()
        .zip(roles)
        .enumerate()
        .map(|(index, (name, role))| {
            let mut component = Component::new(name, role, "empty", Arc::new(()));
            component.streams.push("source".into());
            component.inputs.extend(index.checked_sub(1).map(|from| {
                let mut edge = InputEdge::new(from);
                edge.queue = QueueSpec {
                    capacity,
                    ..edge.queue
                };
                edge
            }));
            component
        });
    PreparedPipeline {
        pipeline: Pipeline::new("hops", components.collect()),
        parts,
    }
}

fn measure(packets: u64, capacity: usize, pause: Duration) -> Option<(RunReport, f64)> {
    let began = Instant::now();
    let report = run(pipeline(packets, capacity, pause), &RunOptions::default()).ok()?;
    let seconds = began.elapsed().as_secs_f64();
    let whole = report.outcome == Outcome::Ok && report.ledger.out == packets;
    whole.then_some((report, seconds))
}

/// CPU time of the process in seconds, from `/proc/self/stat`.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    let ticks: f64 = fields
        .skip(11)
        .take(2)
        .filter_map(|t| t.parse::<f64>().ok())
        .sum();
    // USER_HZ is 100 on Linux.
    ticks / 100.0
}

fn main() {
    let numbers: Vec<u64> = std::env::args().filter_map(|arg| arg.parse().ok()).collect();
    let packets = numbers.first().copied().unwrap_or(PACKETS);
    let capacity = numbers.get(1).map_or(CAPACITY, |n| *n as usize);
    let Some((_, seconds)) = measure(packets, capacity, Duration::ZERO) else {
        return println!("{{\"error\": \"packets were lost\"}}");
    };
    let cpu = cpu_seconds();
    let Some((idle, idle_seconds)) = measure(IDLE_PACKETS, capacity, PAUSE) else {
        return println!("{{\"error\": \"packets were lost\"}}");
    };
    let idle_cpu = cpu_seconds() - cpu;
    let waits = idle.stages.iter().skip(1).map(|(_, stage)| stage.queue_wait_ms);
    let (p50, p99) = waits.fold((0.0_f64, 0.0_f64), |(p50, p99), wait| {
        (p50.max(wait.p50), p99.max(wait.p99))
    });
    println!(
        "{{\"packets\": {packets}, \"seconds\": {seconds:.4}, \"packets_per_second\": {:.0}, \"cpu_seconds\": {cpu:.2}, \
         \"idle_hop_p50_us\": {:.1}, \"idle_hop_p99_us\": {:.1}, \"idle_cpu_share\": {:.3}}}",
        packets as f64 / seconds,
        p50 * 1000.0,
        p99 * 1000.0,
        idle_cpu / idle_seconds,
    );
}
