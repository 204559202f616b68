//! What leaves the pipeline: order and age of the packets that sinks take.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use super::PARTS;
use super::load::Due;
use crate::clock::Clock;
use crate::config::plan::{Order, Pipeline, PreparedPipeline};
use crate::error::StageError;
use crate::layer::SinkLayer;
use crate::ledger::lock;
use crate::metrics::{Percentiles, Times};
use crate::packet::{Packet, PacketId, StreamId};
use crate::registry::{PreparedComponent, Role};
use crate::stage::Sink;

/// Most violations that are named; all are counted.
const NAMED: usize = 8;

/// Stands for the warm-up.
const WARM_UP: usize = PARTS;

pub(super) struct Deliveries {
    violations: AtomicU64,
    named: Mutex<Vec<String>>,
    /// Sinks whose order is not checked, since the pipeline does not promise it.
    unordered: Vec<String>,
    delivered: AtomicU64,
    last: Mutex<Option<Instant>>,
    part: AtomicUsize,
    latency: Mutex<Latency>,
    /// The clock by which packets are captured.
    clock: Arc<dyn Clock>,
}

#[derive(Default)]
struct Latency {
    window: Times,
    parts: [Times; PARTS],
}

impl Deliveries {
    /// Wraps the sinks of a pipeline.
    pub(super) fn observe(prepared: &mut PreparedPipeline, clock: &Arc<dyn Clock>) -> Arc<Self> {
        let sinks = prepared.pipeline.components.iter().enumerate();
        let sinks = sinks.filter(|(_, c)| c.role == Role::Sink);
        let unordered = sinks
            .filter(|(index, _)| !keeps_order(&prepared.pipeline, *index))
            .map(|(_, c)| c.name.to_string());
        let this = Arc::new(Self {
            violations: AtomicU64::new(0),
            named: Mutex::default(),
            unordered: unordered.collect(),
            delivered: AtomicU64::new(0),
            last: Mutex::default(),
            part: AtomicUsize::new(WARM_UP),
            latency: Mutex::default(),
            clock: clock.clone(),
        });
        let all_optional = !prepared
            .pipeline
            .components
            .iter()
            .any(|c| c.role == Role::Sink && c.required);
        let parts = std::mem::take(&mut prepared.parts).into_iter();
        let parts = parts.zip(&prepared.pipeline.components);
        prepared.parts = parts
            .map(|(part, component)| match part {
                PreparedComponent::Sink(part) => {
                    let name = component.name.clone();
                    let ordered = !this.unordered.iter().any(|n| **n == *name);
                    let timed = component.required || all_optional;
                    let this = this.clone();
                    PreparedComponent::Sink(part.layered(move |_, inner| {
                        Box::new(Observed {
                            inner,
                            deliveries: this.clone(),
                            name: name.clone(),
                            last: Vec::new(),
                            ordered,
                            timed,
                        })
                    }))
                }
                other => other,
            })
            .collect();
        this
    }

    /// Packets that came before one that their source gave earlier, or twice.
    pub(super) fn violations(&self) -> (u64, Vec<String>) {
        (self.violations.load(Ordering::Relaxed), lock(&self.named).clone())
    }

    pub(super) fn unordered(&self) -> &[String] {
        &self.unordered
    }

    /// When the last packet was delivered.
    pub(super) fn last(&self) -> Option<Instant> {
        *lock(&self.last)
    }

    /// From now on latencies belong to this part of the run; `None`: the warm-up.
    pub(super) fn part(&self, part: Option<usize>) {
        self.part.store(part.unwrap_or(WARM_UP), Ordering::Relaxed);
    }

    /// Latencies since the last call, in milliseconds.
    pub(super) fn window(&self) -> Option<Percentiles> {
        let mut latency = lock(&self.latency);
        let measured = latency.window.measured();
        latency.window.clear();
        measured
    }

    /// 99th percentile and number of latencies of each part of the run.
    pub(super) fn by_part(&self) -> Vec<(Option<Percentiles>, u64)> {
        let latency = lock(&self.latency);
        latency.parts.iter().map(|t| (t.measured(), t.count())).collect()
    }
}

/// Whether the pipeline promises a sink the packets of each stream in order and once: nothing before it gives up
/// order, and no stream comes to a component by two ways.
fn keeps_order(pipeline: &Pipeline, sink: usize) -> bool {
    let mut open = vec![sink];
    let mut seen = BTreeSet::new();
    while let Some(index) = open.pop() {
        let Some(component) = pipeline.components.get(index) else {
            continue;
        };
        if !seen.insert(index) {
            continue;
        }
        if component.order == Order::None && component.replica_count() > 1 {
            return false;
        }
        let mut streams: Vec<&StreamId> = Vec::new();
        for input in &component.inputs {
            if let Some(producer) = pipeline.components.get(input.from) {
                streams.extend(&producer.streams);
            }
            open.push(input.from);
        }
        let all = streams.len();
        streams.sort();
        streams.dedup();
        // A join puts them together again.
        if streams.len() < all && component.join.is_none() {
            return false;
        }
    }
    true
}

struct Observed {
    inner: Box<dyn Sink>,
    deliveries: Arc<Deliveries>,
    name: Arc<str>,
    /// The last packet of each stream.
    last: Vec<PacketId>,
    ordered: bool,
    timed: bool,
}

impl Observed {
    fn check(&mut self, id: &PacketId) {
        let Some(last) = self.last.iter_mut().find(|last| last.stream == id.stream) else {
            self.last.push(id.clone());
            return;
        };
        if (last.epoch, last.seq) >= (id.epoch, id.seq) {
            self.deliveries.violations.fetch_add(1, Ordering::Relaxed);
            let mut named = lock(&self.deliveries.named);
            if named.len() < NAMED {
                named.push(format!(
                    "`{}` got packet {}:{} of stream `{}` after {}:{}",
                    self.name, id.epoch, id.seq, id.stream, last.epoch, last.seq
                ));
            }
        }
        (last.epoch, last.seq) = (id.epoch, id.seq);
    }
}

impl SinkLayer for Observed {
    fn inner(&mut self) -> &mut dyn Sink {
        &mut *self.inner
    }

    fn consume(&mut self, packet: Packet) -> Result<(), StageError> {
        if self.ordered {
            self.check(&packet.header.id);
        }
        let due = packet.attachment::<Due>().map(|due| due.0);
        let captured = packet.header.captured;
        self.inner.consume(packet)?;
        let now = Instant::now();
        self.deliveries.delivered.fetch_add(1, Ordering::Relaxed);
        *lock(&self.deliveries.last) = Some(now);
        if self.timed {
            // Schedules are kept by the clock of the machine, whatever that of the run does.
            let age = match due {
                Some(due) => now.saturating_duration_since(due),
                None => self.deliveries.clock.now().saturating_duration_since(captured),
            };
            let part = self.deliveries.part.load(Ordering::Relaxed);
            let mut latency = lock(&self.deliveries.latency);
            latency.window.record(age);
            if let Some(times) = latency.parts.get_mut(part) {
                times.record(age);
            }
        }
        Ok(())
    }
}
