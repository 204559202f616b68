//! What workers and edges measure: counts as atomics that anyone may read at any time, times as histograms that
//! are merged when they are read.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crossbeam::utils::CachePadded;
use serde::Serialize;

use crate::ledger::lock;
pub(crate) use crate::times::Times;

/// Percentiles of a time in milliseconds, within 1 %; all zero when nothing was measured.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Percentiles {
    /// Median.
    pub p50: f64,
    /// 95 % took no longer.
    pub p95: f64,
    /// 99 % took no longer.
    pub p99: f64,
}

/// The meter of one replica; written by its thread. One that is left behind writes no more: it settles nothing, and looks
/// whether it has been replaced before it counts what it did.
#[derive(Default)]
pub(crate) struct Meter {
    /// Packets taken (for a source: given).
    pub(crate) taken: Counter,
    /// Packets emitted (for a sink: acknowledged).
    pub(crate) passed: Counter,
    /// Packets settled as dropped.
    pub(crate) dropped: Counter,
    /// Packets that failed, dead letters included.
    pub(crate) failed: Counter,
    /// Packets that vanished inside the instance.
    pub(crate) unaccounted: Counter,
    /// Packets under way when the run was cut short.
    pub(crate) aborted: Counter,
    /// Batches that failed and were processed one packet at a time.
    pub(crate) rerun: Counter,
    times: Mutex<WorkerTimes>,
    batches: Mutex<Batches>,
}

/// Why a batch was closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum BatchClose {
    /// It had `max` packets.
    Full,
    /// It had been open for `max_wait`.
    Wait,
    /// Every stream had given `per_stream_max`.
    Streams,
    /// A packet in it would have been too late.
    Deadline,
    /// A stream ended.
    End,
    /// Another replica asked for something.
    Asked,
    /// What waited was of another shape or epoch.
    Mixed,
}

#[derive(Default)]
struct Batches {
    sizes: BTreeMap<usize, u64>,
    closed: BTreeMap<BatchClose, u64>,
    padding: u64,
}

/// Batches of a stage, all replicas together.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct BatchReport {
    /// Number of batches by the number of packets in them.
    pub sizes: BTreeMap<usize, u64>,
    /// Number of batches by the reason for which they were closed.
    pub closed: BTreeMap<BatchClose, u64>,
    /// Places that were padded to reach one of `sizes`.
    pub padding: u64,
    /// Batches that failed and were processed one packet at a time.
    pub rerun: u64,
}

#[derive(Default)]
struct WorkerTimes {
    service: Times,
    wait: Times,
    latency: Times,
    busy: Duration,
    blocked: Duration,
    first: Option<Instant>,
    last: Option<Instant>,
}

/// One call of an instance.
pub(crate) struct Call {
    /// How long its packet waited in the queue.
    pub(crate) wait: Option<Duration>,
    /// When it began.
    pub(crate) began: Instant,
    /// How long it took without the time it spent waiting for room downstream.
    pub(crate) service: Duration,
    /// How long it waited for room downstream.
    pub(crate) blocked: Duration,
    /// When it ended.
    pub(crate) ended: Instant,
    /// For a sink, the age of the packet it delivered.
    pub(crate) age: Option<Duration>,
}

/// Calls that are kept back at most.
const KEPT_BACK: usize = 32;

/// Longest time for which calls are kept back.
const KEPT_FOR: Duration = Duration::from_millis(1);

/// Calls on their way to a meter: those that follow each other closely are recorded together.
pub(crate) struct Calls {
    meter: Arc<Meter>,
    kept: Vec<Call>,
    /// Time that the calls that are kept took.
    time: Duration,
}

impl Calls {
    pub(crate) fn new(meter: Arc<Meter>) -> Self {
        Self {
            meter,
            kept: Vec::with_capacity(KEPT_BACK),
            time: Duration::ZERO,
        }
    }

    /// Records a call; with those to come, where `more` follow at once.
    pub(crate) fn add(&mut self, call: Call, more: bool) {
        self.time += call.service + call.blocked;
        self.kept.push(call);
        if !more || self.time > KEPT_FOR || self.kept.len() == KEPT_BACK {
            self.record();
        }
    }

    /// Records what is kept back.
    pub(crate) fn record(&mut self) {
        self.time = Duration::ZERO;
        if !self.kept.is_empty() {
            let mut times = lock(&self.meter.times);
            self.kept.drain(..).for_each(|call| times.record(&call));
        }
    }
}

impl Drop for Calls {
    fn drop(&mut self) {
        self.record();
    }
}

impl WorkerTimes {
    fn record(&mut self, call: &Call) {
        self.service.record(call.service);
        self.busy += call.service;
        self.blocked += call.blocked;
        if let Some(wait) = call.wait {
            self.wait.record(wait);
        }
        if let Some(age) = call.age {
            self.latency.record(age);
        }
        self.first.get_or_insert(call.began);
        self.last = Some(call.ended);
    }
}

impl Meter {
    /// Records one call of the instance.
    pub(crate) fn served(&self, call: &Call) {
        lock(&self.times).record(call);
    }

    /// Records how long a packet of a batch waited in the queue.
    pub(crate) fn waited(&self, wait: Duration) {
        lock(&self.times).wait.record(wait);
    }

    /// Counts a batch: its packets, the length it runs at, and why it was closed.
    pub(crate) fn batched(&self, packets: usize, padded: usize, close: BatchClose) {
        let mut batches = lock(&self.batches);
        *batches.sizes.entry(packets).or_default() += 1;
        *batches.closed.entry(close).or_default() += 1;
        batches.padding += padded.saturating_sub(packets) as u64;
    }
}

/// A counter that one thread at a time writes, readable by all.
#[derive(Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    /// Adds one. Nobody else does meanwhile, which spares the bus a lock.
    pub(crate) fn bump(&self) {
        self.0.store(self.get() + 1, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The meter of one edge; written by its producer's and its consumer's threads. Queues in order of arrival count what is
/// offered and taken themselves.
#[derive(Default)]
pub(crate) struct EdgeMeter {
    /// Packets the producer handed over.
    pub(crate) offered: CachePadded<AtomicU64>,
    /// Packets the queue dropped.
    pub(crate) dropped: AtomicU64,
    /// Packets the consumer took.
    pub(crate) taken: CachePadded<AtomicU64>,
}

impl EdgeMeter {
    pub(crate) fn offered(&self) {
        self.offered.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn dropped(&self) {
        self.dropped.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn taken(&self) {
        self.taken.fetch_add(1, Ordering::Relaxed);
    }
}

/// What one source, stage or sink did, all replicas together.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct StageReport {
    /// Packets taken (for a source: given).
    pub packets: u64,
    /// Packets a second between the first and the last packet.
    pub fps: f64,
    /// Time in the stage itself, without waiting for room downstream.
    pub service_ms: Percentiles,
    /// Time packets waited in the queues before the stage.
    pub queue_wait_ms: Percentiles,
    /// Time all replicas spent in the stage itself, in seconds. Where it comes near to the time of the run times the
    /// number of replicas, the stage is what holds up the others.
    pub busy_seconds: f64,
    /// Time all replicas waited for room downstream, or before they tried a packet again, in seconds.
    pub blocked_seconds: f64,
    /// Sinks: age of the packets when they were delivered, since their source took them in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latency_ms: Option<Percentiles>,
    /// Packets settled as dropped.
    pub dropped: u64,
    /// Packets that failed.
    pub failed: u64,
    /// Times an instance was rebuilt.
    pub restarts: u64,
    /// Number of workers.
    pub replicas: usize,
    /// What batches it ran, where it does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub batches: Option<BatchReport>,
    /// Packets emitted, or acknowledged by a sink.
    #[serde(skip)]
    pub passed: u64,
    /// Packets that vanished inside instances.
    #[serde(skip)]
    pub unaccounted: u64,
    /// Packets under way when the run was cut short.
    #[serde(skip)]
    pub aborted: u64,
}

impl StageReport {
    /// Whether every packet taken was settled.
    pub fn balanced(&self) -> bool {
        self.packets == self.passed + self.dropped + self.failed + self.unaccounted + self.aborted
            && self.unaccounted == 0
    }
}

/// Merges the meters of a component's workers.
pub(crate) fn merge<'a>(meters: impl IntoIterator<Item = &'a Meter>, sink: bool) -> StageReport {
    let mut report = StageReport::default();
    let mut all = WorkerTimes::default();
    for meter in meters {
        report.replicas += 1;
        report.packets += meter.taken.get();
        report.passed += meter.passed.get();
        report.dropped += meter.dropped.get();
        report.failed += meter.failed.get();
        report.unaccounted += meter.unaccounted.get();
        report.aborted += meter.aborted.get();
        let batches = lock(&meter.batches);
        if !batches.sizes.is_empty() {
            let report = report.batches.get_or_insert_default();
            for (size, n) in &batches.sizes {
                *report.sizes.entry(*size).or_default() += n;
            }
            for (close, n) in &batches.closed {
                *report.closed.entry(*close).or_default() += n;
            }
            report.padding += batches.padding;
            report.rerun += meter.rerun.get();
        }
        let times = lock(&meter.times);
        all.service.merge(&times.service);
        all.wait.merge(&times.wait);
        all.latency.merge(&times.latency);
        all.busy += times.busy;
        all.blocked += times.blocked;
        all.first = all.first.into_iter().chain(times.first).min();
        all.last = all.last.into_iter().chain(times.last).max();
    }
    if let (Some(first), Some(last)) = (all.first, all.last) {
        let seconds = last.duration_since(first).as_secs_f64();
        if seconds > 0.0 {
            report.fps = report.packets as f64 / seconds;
        }
    }
    report.busy_seconds = all.busy.as_secs_f64();
    report.blocked_seconds = all.blocked.as_secs_f64();
    report.service_ms = all.service.percentiles();
    report.queue_wait_ms = all.wait.percentiles();
    report.latency_ms = sink.then(|| all.latency.percentiles());
    report
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_merge_into_one_report() {
        let start = Instant::now();
        let meters = [Meter::default(), Meter::default()];
        for (i, meter) in meters.iter().enumerate() {
            for n in 0..50_u32 {
                meter.taken.bump();
                meter.passed.bump();
                let service = Duration::from_millis(1 + i as u64);
                let ended = start + Duration::from_millis(20) * (n + 1);
                meter.served(&Call {
                    wait: Some(Duration::from_micros(500)),
                    began: start,
                    service,
                    blocked: Duration::ZERO,
                    ended,
                    age: None,
                });
            }
        }
        let report = merge(&meters, false);
        assert_eq!((report.packets, report.replicas), (100, 2));
        assert!(report.balanced());
        assert!((report.fps - 100.0).abs() < 0.5, "{}", report.fps);
        assert!(
            (report.service_ms.p50 - 1.0).abs() < 0.02,
            "{:?}",
            report.service_ms
        );
        assert!(
            (report.service_ms.p99 - 2.0).abs() < 0.03,
            "{:?}",
            report.service_ms
        );
        assert!((report.queue_wait_ms.p95 - 0.5).abs() < 0.01);
        assert_eq!(report.latency_ms, None);
    }

    #[test]
    fn calls_that_follow_each_other_are_recorded_together_and_none_is_kept_for_long() {
        let meter = Arc::new(Meter::default());
        let mut calls = Calls::new(meter.clone());
        let start = Instant::now();
        let call = |began: Duration, service: Duration| Call {
            wait: None,
            began: start + began,
            service,
            blocked: Duration::ZERO,
            ended: start + began + service,
            age: None,
        };
        let recorded = || lock(&meter.times).service.count();
        let short = Duration::from_micros(1);
        for n in 0..3 {
            calls.add(call(n * short, short), true);
        }
        assert_eq!(recorded(), 0);
        calls.add(call(3 * short, short), false);
        assert_eq!(recorded(), 4, "the worker is about to wait");
        calls.add(call(4 * short, 2 * KEPT_FOR), true);
        assert_eq!(recorded(), 5, "a long call is seen at once");
        for _ in 0..KEPT_BACK + 1 {
            calls.add(call(Duration::ZERO, Duration::ZERO), true);
        }
        assert_eq!(recorded(), 5 + KEPT_BACK as u64);
        drop(calls);
        assert_eq!(recorded(), 6 + KEPT_BACK as u64);
    }
}
