//! Metrics in the text format of Prometheus (version 0.0.4).
//!
//! Counters end in `_total` or `_seconds_total`; times are in seconds. Percentiles are those since the start of the run.

use std::fmt::Write as _;

use super::Graph;
use super::process;
use crate::ledger::LedgerReport;
use crate::metrics::Percentiles;
use crate::runtime::{Snapshot, StageSnapshot};

/// `Content-Type` of the text.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// A family under construction.
struct Family<'a> {
    out: &'a mut String,
    name: &'static str,
}

impl<'a> Family<'a> {
    fn new(out: &'a mut String, name: &'static str, kind: &str, help: &str) -> Self {
        let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
        Self { out, name }
    }

    fn sample(&mut self, labels: &[(&str, &str)], value: f64) {
        self.out.push_str(self.name);
        for (i, (key, value)) in labels.iter().enumerate() {
            let open = if i == 0 { '{' } else { ',' };
            let _ = write!(self.out, "{open}{key}=\"{}\"", escaped(value));
        }
        if !labels.is_empty() {
            self.out.push('}');
        }
        let _ = writeln!(self.out, " {value}");
    }
}

/// A label's value: backslash, quote and line break are escaped.
fn escaped(value: &str) -> String {
    value
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

/// The metrics of a run.
pub fn text(graph: &Graph, run: &Snapshot) -> String {
    let mut out = String::with_capacity(8192);
    let pipeline = run.pipeline.as_str();
    let one = |flag: bool| if flag { 1.0 } else { 0.0 };
    Family::new(
        &mut out,
        "flowrun_up_seconds",
        "gauge",
        "Seconds since the run began.",
    )
    .sample(&[("pipeline", pipeline)], run.seconds);
    Family::new(
        &mut out,
        "flowrun_ready",
        "gauge",
        "Whether every stage is open and sources have begun.",
    )
    .sample(&[("pipeline", pipeline)], one(run.ready));
    Family::new(
        &mut out,
        "flowrun_failed",
        "gauge",
        "Whether the pipeline has failed.",
    )
    .sample(&[("pipeline", pipeline)], one(run.failure.is_some()));
    streams(&mut out, run);
    stages(&mut out, run);
    batches(&mut out, run);
    edges(&mut out, graph, run);
    let mut family = Family::new(
        &mut out,
        "flowrun_pin_ok",
        "gauge",
        "Whether a pinned worker is where it was told to be.",
    );
    for pin in &run.pins {
        family.sample(&[("worker", &pin.worker)], one(pin.ok));
    }
    let process = process::look();
    Family::new(
        &mut out,
        "process_resident_memory_bytes",
        "gauge",
        "Resident memory.",
    )
    .sample(&[], process.rss as f64);
    Family::new(&mut out, "process_open_fds", "gauge", "Open file descriptors.")
        .sample(&[], process.fds as f64);
    Family::new(&mut out, "process_threads", "gauge", "Threads.").sample(&[], process.threads as f64);
    out
}

fn streams(out: &mut String, run: &Snapshot) {
    let mut family = |name, help, of: fn(&LedgerReport) -> u64| {
        let mut family = Family::new(out, name, "counter", help);
        for (stream, ledger) in &run.streams {
            family.sample(&[("stream", stream)], of(ledger) as f64);
        }
    };
    family("flowrun_packets_in_total", "Packets that sources gave.", |l| {
        l.entered
    });
    family(
        "flowrun_packets_out_total",
        "Packets that reached every required sink.",
        |l| l.out,
    );
    family(
        "flowrun_dead_lettered_total",
        "Packets set aside as dead letters.",
        |l| l.dead_lettered,
    );
    let mut family = Family::new(
        out,
        "flowrun_dropped_total",
        "counter",
        "Packets dropped, by reason.",
    );
    for (stream, ledger) in &run.streams {
        for (reason, n) in &ledger.dropped {
            family.sample(&[("stream", stream), ("reason", reason)], *n as f64);
        }
    }
    let mut family = Family::new(
        out,
        "flowrun_stream_quarantined",
        "gauge",
        "Whether the stream was given up.",
    );
    for stream in run.streams.keys() {
        let given_up = run.quarantined.contains(stream);
        family.sample(&[("stream", stream)], if given_up { 1.0 } else { 0.0 });
    }
}

fn stages(out: &mut String, run: &Snapshot) {
    let mut family = |name, kind, help, of: fn(&StageSnapshot) -> f64| {
        let mut family = Family::new(out, name, kind, help);
        for stage in &run.stages {
            family.sample(&[("stage", &stage.name)], of(stage));
        }
    };
    family(
        "flowrun_stage_packets_total",
        "counter",
        "Packets a stage took (for a source: gave).",
        |s| s.report.packets as f64,
    );
    family(
        "flowrun_stage_dropped_total",
        "counter",
        "Packets a stage settled as dropped.",
        |s| s.report.dropped as f64,
    );
    family(
        "flowrun_stage_failed_total",
        "counter",
        "Packets that failed in a stage.",
        |s| s.report.failed as f64,
    );
    family(
        "flowrun_stage_restarts_total",
        "counter",
        "Instances rebuilt.",
        |s| s.report.restarts as f64,
    );
    family("flowrun_stage_replicas", "gauge", "Workers of a stage.", |s| {
        s.report.replicas as f64
    });
    family(
        "flowrun_stage_busy_seconds_total",
        "counter",
        "Time in the stage itself, all replicas.",
        |s| s.report.busy_seconds,
    );
    family(
        "flowrun_stage_blocked_seconds_total",
        "counter",
        "Time waiting for room downstream, all replicas.",
        |s| s.report.blocked_seconds,
    );
    let mut summary = |name, help, of: fn(&StageSnapshot) -> Option<Percentiles>| {
        let mut family = Family::new(out, name, "gauge", help);
        for stage in &run.stages {
            let Some(times) = of(stage) else { continue };
            for (quantile, ms) in [("0.5", times.p50), ("0.95", times.p95), ("0.99", times.p99)] {
                family.sample(&[("stage", &stage.name), ("quantile", quantile)], ms / 1e3);
            }
        }
    };
    summary(
        "flowrun_stage_service_seconds",
        "Time in the stage itself, by quantile.",
        |s| Some(s.report.service_ms),
    );
    summary(
        "flowrun_stage_queue_wait_seconds",
        "Time packets waited before the stage, by quantile.",
        |s| Some(s.report.queue_wait_ms),
    );
    summary(
        "flowrun_sink_latency_seconds",
        "Age of packets at a sink, by quantile.",
        |s| s.report.latency_ms,
    );
}

fn batches(out: &mut String, run: &Snapshot) {
    let ran = || {
        run.stages
            .iter()
            .filter_map(|s| Some((s.name.as_str(), s.report.batches.as_ref()?)))
    };
    let mut family = Family::new(
        out,
        "flowrun_stage_batches_total",
        "counter",
        "Batches, by the packets in them.",
    );
    for (stage, batches) in ran() {
        for (packets, n) in &batches.sizes {
            family.sample(&[("stage", stage), ("packets", &packets.to_string())], *n as f64);
        }
    }
    let mut family = Family::new(
        out,
        "flowrun_stage_batches_closed_total",
        "counter",
        "Batches, by why they were closed.",
    );
    for (stage, batches) in ran() {
        for (reason, n) in &batches.closed {
            let reason = serde_json::to_value(reason).unwrap_or_default();
            family.sample(
                &[("stage", stage), ("reason", reason.as_str().unwrap_or(""))],
                *n as f64,
            );
        }
    }
    let mut family = Family::new(
        out,
        "flowrun_stage_batch_padding_total",
        "counter",
        "Places of batches that were padded.",
    );
    for (stage, batches) in ran() {
        family.sample(&[("stage", stage)], batches.padding as f64);
    }
}

fn edges(out: &mut String, graph: &Graph, run: &Snapshot) {
    let mut family = |name, kind, help, of: &dyn Fn(&crate::runtime::EdgeSnapshot) -> f64| {
        let mut family = Family::new(out, name, kind, help);
        for edge in &run.edges {
            family.sample(&[("edge", &edge.report.name)], of(edge));
        }
    };
    family(
        "flowrun_edge_packets_total",
        "counter",
        "Packets a producer handed over.",
        &|e| e.report.offered as f64,
    );
    family(
        "flowrun_edge_dropped_total",
        "counter",
        "Packets a queue dropped.",
        &|e| e.report.dropped as f64,
    );
    family(
        "flowrun_edge_waiting",
        "gauge",
        "Packets waiting in a queue.",
        &|e| e.waiting as f64,
    );
    family(
        "flowrun_edge_deepest",
        "gauge",
        "Most packets that waited at one time.",
        &|e| e.report.deepest as f64,
    );
    family(
        "flowrun_edge_capacity",
        "gauge",
        "Packets that may wait in a queue.",
        &|e| {
            graph
                .edge(&e.report.name)
                .map_or(0.0, |edge| edge.capacity as f64)
        },
    );
}
