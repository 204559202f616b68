//! What the runtime itself costs: a source, two stages and a sink that do nothing, three queues between them, one
//! thread each.
//!
//! `hop_cost [PACKETS] [CAPACITY]` first sends PACKETS empty packets as fast as they are taken, then gives one packet
//! each millisecond to see how long one waits on its way from thread to thread while nothing else is to be done: the time
//! from when it is sent to when the next thread has it, by queue. The machine's own wake-ups are timed the same way, since
//! no runtime that sleeps can be faster. One JSON object on standard output says what was found. `tests/compare/hop_cost.py` sets it beside GStreamer.
#![allow(clippy::print_stdout, reason = "the answer is its output")]
#![allow(missing_docs, reason = "a program")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::Thread;
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
/// Queues between source and sink.
const HOPS: usize = 3;
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

/// Ends a chain of threads; no time is that late.
const LAST: u64 = u64::MAX;

/// What the machine takes to wake a thread that sleeps, without any of the runtime: a chain of threads, each of which
/// wakes the next, at the pace of the idle run. Largest p50 and p99 of its links, in milliseconds.
fn bare_wakes() -> (f64, f64) {
    let start = Instant::now();
    let nanos = move || start.elapsed().as_nanos() as u64;
    let sent: Vec<AtomicU64> = (0..HOPS).map(|_| AtomicU64::new(0)).collect();
    let sent = Arc::new(sent);
    let mut next: Option<Thread> = None;
    let mut links = Vec::new();
    for link in (0..HOPS).rev() {
        let (sent, follower) = (sent.clone(), next.take());
        let thread = std::thread::spawn(move || {
            let mut waits = Vec::with_capacity(IDLE_PACKETS as usize);
            let mut seen = 0;
            while seen != LAST {
                let at = sent.get(link).map_or(LAST, |at| at.load(Ordering::Acquire));
                if at == seen {
                    std::thread::park();
                    continue;
                }
                let now = if at == LAST { LAST } else { nanos() };
                if at != LAST {
                    waits.push(now.saturating_sub(at));
                }
                seen = at;
                if let Some(follower) = &follower {
                    let next = sent.get(link + 1);
                    next.into_iter().for_each(|at| at.store(now, Ordering::Release));
                    follower.unpark();
                }
            }
            waits
        });
        next = Some(thread.thread().clone());
        links.push(thread);
    }
    let send = |value| {
        let first = sent.first();
        first
            .into_iter()
            .for_each(|at| at.store(value, Ordering::Release));
        next.iter().for_each(Thread::unpark);
    };
    for _ in 0..IDLE_PACKETS {
        std::thread::sleep(PAUSE);
        send(nanos());
    }
    std::thread::sleep(PAUSE);
    send(LAST);
    let mut worst = (0.0_f64, 0.0_f64);
    for link in links {
        let mut waits = link.join().unwrap_or_default();
        waits.sort_unstable();
        let at = |share: f64| {
            waits
                .get((waits.len() as f64 * share) as usize)
                .map_or(0.0, |ns| *ns as f64 / 1e6)
        };
        worst = (worst.0.max(at(0.50)), worst.1.max(at(0.99)));
    }
    worst
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
    let bare = bare_wakes();
    let waits = idle.stages.iter().skip(1).map(|(_, stage)| stage.queue_wait_ms);
    let (p50, p99) = waits.fold((0.0_f64, 0.0_f64), |(p50, p99), wait| {
        (p50.max(wait.p50), p99.max(wait.p99))
    });
    println!(
        "{{\"packets\": {packets}, \"seconds\": {seconds:.4}, \"packets_per_second\": {:.0}, \"cpu_seconds\": {cpu:.2}, \
         \"idle_hop_p50_us\": {:.1}, \"idle_hop_p99_us\": {:.1}, \"idle_cpu_share\": {:.3}, \
         \"bare_wake_p50_us\": {:.1}, \"bare_wake_p99_us\": {:.1}}}",
        packets as f64 / seconds,
        p50 * 1000.0,
        p99 * 1000.0,
        idle_cpu / idle_seconds,
        bare.0 * 1000.0,
        bare.1 * 1000.0,
    );
}
