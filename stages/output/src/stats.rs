//! Sink `stats`: how many of what, and how fast.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Instant;

use flow::error::{Code, PrepareError, StageError};
use flow::packet::{Packet, StreamId};
use flow::ports::Ports;
use flow::registry::{Config, ConfigIssue, KindInfo, PrepareContext, Prepared, Registry, Replication};
use flow::stage::Sink;
use flow_frame::{
    CLASSES, Classes, DETECTIONS, Detections, ENCODED, FRAME, KEY_POINTS, KeyPoints, TENSOR, TENSORS,
};
use hdrhistogram::Histogram;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::file::{PartFile, check_writable};
use crate::record::round;

/// Counts packets and what was found in them per class, and measures the time from source to here. The result
/// goes to the log, and to a JSON file if one is named.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StatsConfig {
    /// JSON file that is written at the end.
    pub path: Option<PathBuf>,
}

impl Config for StatsConfig {
    fn check(&self) -> Vec<ConfigIssue> {
        match &self.path {
            Some(path) if path.file_name().is_none() => vec![ConfigIssue {
                code: Code("E0160"),
                key: "path".into(),
                message: "the path names no file".into(),
                help: Some("give the name of a file, such as `out/stats.json`".into()),
            }],
            _ => Vec::new(),
        }
    }
}

/// What was counted.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// Packets.
    pub packets: u64,
    /// Packets in which nothing was found, of those that carry results.
    pub empty: u64,
    /// Packets per second, from the first to the last.
    pub fps: f64,
    /// Packets per stream.
    pub streams: BTreeMap<String, u64>,
    /// Results per class: by label, else by index. The first class counts where a packet carries classes.
    pub classes: BTreeMap<String, u64>,
    /// Milliseconds from the source to this sink.
    pub latency_ms: Latency,
}

/// Percentiles of times in milliseconds.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Latency {
    /// Half are below.
    pub p50: f64,
    /// 95 of 100 are below.
    pub p95: f64,
    /// 99 of 100 are below.
    pub p99: f64,
    /// The largest.
    pub max: f64,
}

/// Counts packets.
pub struct Counter {
    packets: u64,
    empty: u64,
    streams: BTreeMap<StreamId, u64>,
    classes: BTreeMap<String, u64>,
    latency: Histogram<u64>,
    span: Option<(Instant, Instant)>,
}

/// Longest latency that is told apart, in microseconds: an hour.
const MAX_LATENCY: u64 = 3_600_000_000;

impl Counter {
    /// An empty count.
    pub fn new() -> Result<Self, StageError> {
        let latency = Histogram::new_with_bounds(1, MAX_LATENCY, 3)
            .map_err(|e| StageError::fatal(Code("E0705"), e.to_string()).caused_by(e))?;
        Ok(Self {
            packets: 0,
            empty: 0,
            streams: BTreeMap::new(),
            classes: BTreeMap::new(),
            latency,
            span: None,
        })
    }

    /// Counts a packet that arrived at `now`.
    pub fn count(&mut self, packet: &Packet, now: Instant) {
        self.packets += 1;
        *self.streams.entry(packet.header.id.stream.clone()).or_default() += 1;
        let micros = now.saturating_duration_since(packet.header.captured).as_micros();
        self.latency
            .saturating_record(u64::try_from(micros).unwrap_or(MAX_LATENCY).max(1));
        self.span = Some((self.span.map_or(now, |(first, _)| first), now));
        let mut found = 0;
        let mut class = |label: &str, index: u32| {
            found += 1;
            let count = match label {
                "" => self.classes.entry(index.to_string()),
                label => self.classes.entry(label.to_owned()),
            };
            *count.or_default() += 1;
        };
        if let Some(Detections { items }) = packet.payload() {
            items.iter().for_each(|d| class(&d.label, d.class));
        } else if let Some(Classes { items }) = packet.payload() {
            items.iter().take(1).for_each(|c| class(&c.label, c.class));
        } else if let Some(KeyPoints { poses, .. }) = packet.payload() {
            poses.iter().for_each(|_| class("pose", 0));
        } else {
            return;
        }
        self.empty += u64::from(found == 0);
    }

    /// What was counted so far.
    pub fn report(&self) -> Report {
        let ms = |micros: u64| round(micros as f64 / 1e3, 1e3);
        let at = |quantile: f64| ms(self.latency.value_at_quantile(quantile));
        let seconds = self
            .span
            .map_or(0.0, |(first, last)| (last - first).as_secs_f64());
        let fps = if seconds > 0.0 {
            (self.packets - 1) as f64 / seconds
        } else {
            0.0
        };
        Report {
            packets: self.packets,
            empty: self.empty,
            fps: round(fps, 1e2),
            streams: self.streams.iter().map(|(s, n)| (s.to_string(), *n)).collect(),
            classes: self.classes.clone(),
            latency_ms: Latency {
                p50: at(0.5),
                p95: at(0.95),
                p99: at(0.99),
                max: ms(self.latency.max()),
            },
        }
    }
}

pub(crate) fn register(registry: &mut Registry) {
    registry.sink::<StatsConfig>(
        KindInfo {
            name: "stats",
            summary: "Counts packets and classes, and measures latency",
            ports: Ports {
                takes: &[ENCODED, FRAME, TENSOR, TENSORS, DETECTIONS, CLASSES, KEY_POINTS],
                gives: &[],
            },
            replication: Replication::Single,
        },
        prepare,
    );
}

fn prepare(config: &StatsConfig, cx: &PrepareContext<'_>) -> Result<Prepared<dyn Sink>, PrepareError> {
    let (path, name) = (config.path.clone(), cx.name.to_owned());
    if let Some(path) = &path {
        check_writable(path, true)?;
    }
    let files = config.path.iter().cloned().collect();
    let mut prepared = Prepared::<dyn Sink>::new(move |_| {
        Ok(Box::new(Stats {
            path: path.clone(),
            name: name.clone(),
            counter: Counter::new()?,
        }) as Box<dyn Sink>)
    });
    prepared.writes = files;
    Ok(prepared)
}

struct Stats {
    path: Option<PathBuf>,
    name: String,
    counter: Counter,
}

impl Sink for Stats {
    fn consume(&mut self, packet: Packet) -> Result<(), StageError> {
        self.counter.count(&packet, Instant::now());
        Ok(())
    }

    fn close(&mut self) -> Result<(), StageError> {
        let report = self.counter.report();
        tracing::info!(
            sink = %self.name,
            packets = report.packets,
            fps = report.fps,
            latency_p50_ms = report.latency_ms.p50,
            latency_p99_ms = report.latency_ms.p99,
            classes = ?report.classes,
            "Statistics."
        );
        write_json(self.path.as_deref(), &report)
    }
}

/// Writes a report as a JSON file, if a file is named.
pub(crate) fn write_json(path: Option<&std::path::Path>, report: &impl Serialize) -> Result<(), StageError> {
    let Some(path) = path else {
        return Ok(());
    };
    let mut text = serde_json::to_vec_pretty(report)
        .map_err(|e| StageError::fatal(Code("E0704"), e.to_string()).caused_by(e))?;
    text.push(b'\n');
    let mut file = PartFile::create(path)?;
    file.write(&text)?;
    Ok(file.finish()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use flow::packet::{Header, PacketId};
    use flow_frame::{BBox, Detection};
    use std::sync::Arc;
    use std::time::Duration;

    #[test]
    fn packets_classes_and_times_are_counted() {
        let bbox = BBox {
            x1: 0.0,
            y1: 0.0,
            x2: 1.0,
            y2: 1.0,
        };
        let detection = |label: &str, class| Detection {
            bbox,
            class,
            label: label.into(),
            score: 1.0,
            track: None,
        };
        let start = Instant::now();
        let mut counter = Counter::new().unwrap();
        for seq in 0..101u64 {
            let items = match seq % 3 {
                0 => vec![detection("person", 0), detection("", 7)],
                1 => vec![detection("person", 0)],
                _ => vec![],
            };
            let captured = start + Duration::from_millis(10 * seq);
            let header = Header {
                id: PacketId {
                    stream: "cam".into(),
                    epoch: 0,
                    seq,
                },
                captured,
                pts: None,
            };
            let packet = Packet::new(header, Arc::new(Detections { items }));
            counter.count(&packet, captured + Duration::from_millis(5));
        }
        let report = counter.report();
        assert_eq!((report.packets, report.empty, report.fps), (101, 33, 100.0));
        assert_eq!(report.classes["person"], 68);
        assert_eq!(report.classes["7"], 34);
        assert!((report.latency_ms.p99 - 5.0).abs() < 0.01, "{report:?}");
    }

    #[test]
    fn the_report_of_nothing_is_all_zero() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("stats.json");
        let mut stats = Stats {
            path: Some(path.clone()),
            name: "stats".into(),
            counter: Counter::new().unwrap(),
        };
        stats.close().unwrap();
        let value: serde_json::Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        assert_eq!(
            (value["packets"].as_u64(), value["fps"].as_f64()),
            (Some(0), Some(0.0))
        );
    }
}
