//! Sink `jsonl`: one line of JSON per packet.
//!
//! ```json
//! {"stream":"cam","epoch":0,"seq":7,"pts":0.28,"size":[768,432],"detections":[{"class":0,"label":"person","score":0.9132,"box":[12.5,30.0,98.25,240.0]}]}
//! ```
//! Keys come in a fixed order, see [`Record`]; a packet in which nothing was found has an empty list.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use flow::error::{Code, PrepareError, StageError};
use flow::packet::{Packet, StreamId};
use flow::ports::Ports;
use flow::registry::{Config, ConfigIssue, KindInfo, PrepareContext, Prepared, Registry, Replication};
use flow::stage::Sink;
use flow_frame::{CLASSES, DETECTIONS, KEY_POINTS, TENSOR, TENSORS};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::file::{OutputError, make_folder_of};
use crate::pattern::{Pattern, check_path};
use crate::record::{Record, round};

/// Writes one line of JSON per packet. The file is there from the start and grows by whole lines.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct JsonlConfig {
    /// The file, `-` for standard output. `{stream}` stands for the name of the stream: one file for each.
    pub path: String,
    /// When lines reach the file.
    #[serde(default)]
    pub flush: Flush,
    /// Adds `latency_ms`, the time since the source took the packet in.
    #[serde(default)]
    pub latency: bool,
}

/// When lines reach the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, serde::Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Flush {
    /// Each line at once.
    #[default]
    Line,
    /// Many lines together, whole ones; less work for the system.
    Block,
}

/// Bytes that `flush: block` gathers.
const BLOCK: usize = 64 << 10;

impl Config for JsonlConfig {
    fn check(&self) -> Vec<ConfigIssue> {
        check_path(&self.path, false)
    }
}

pub(crate) fn register(registry: &mut Registry) {
    registry.sink::<JsonlConfig>(
        KindInfo {
            name: "jsonl",
            summary: "Writes what was found as JSON lines",
            ports: Ports {
                takes: &[DETECTIONS, CLASSES, KEY_POINTS, TENSORS, TENSOR],
                gives: &[],
            },
            replication: Replication::Single,
        },
        prepare,
    );
}

/// The pattern of a path that passed the check.
pub(crate) fn pattern(path: &str) -> Result<Pattern, PrepareError> {
    Pattern::parse(path).map_err(|why| PrepareError::new(Code("E0160"), "path", why))
}

fn prepare(config: &JsonlConfig, _: &PrepareContext<'_>) -> Result<Prepared<dyn Sink>, PrepareError> {
    let config = config.clone();
    let pattern = pattern(&config.path)?;
    if config.path != "-" {
        pattern.check_writable()?;
    }
    let path = config.path.clone();
    Ok(Prepared::<dyn Sink>::new(move |_| {
        Ok(Box::new(Jsonl {
            config: config.clone(),
            pattern: pattern.clone(),
            files: HashMap::new(),
            opened: Vec::new(),
        }) as Box<dyn Sink>)
    })
    .writes(path))
}

struct Jsonl {
    config: JsonlConfig,
    pattern: Pattern,
    /// The file of each stream; streams of one name pattern share one.
    files: HashMap<StreamId, usize>,
    opened: Vec<Lines>,
}

/// A file and the whole lines that wait for it.
struct Lines {
    path: PathBuf,
    target: Box<dyn Write + Send>,
    waiting: Vec<u8>,
}

impl Lines {
    fn open(path: PathBuf) -> Result<Self, OutputError> {
        let target: Box<dyn Write + Send> = if path == Path::new("-") {
            Box::new(io::stdout())
        } else {
            make_folder_of(&path)?;
            Box::new(File::create(&path).map_err(OutputError::io(&path))?)
        };
        Ok(Self {
            path,
            target,
            waiting: Vec::new(),
        })
    }

    fn flush(&mut self) -> Result<(), OutputError> {
        let written = self
            .target
            .write_all(&self.waiting)
            .and_then(|()| self.target.flush());
        self.waiting.clear();
        match self.path == Path::new("-") {
            true => written.map_err(OutputError::stdout),
            false => written.map_err(OutputError::io(&self.path)),
        }
    }
}

impl Jsonl {
    fn lines(&mut self, packet: &Packet) -> Result<&mut Lines, OutputError> {
        let stream = &packet.header.id.stream;
        let index = match self.files.get(stream) {
            Some(&index) => index,
            None => {
                let path = self.pattern.path(&packet.header.id, "");
                let index = match self.opened.iter().position(|l| l.path == path) {
                    Some(index) => index,
                    None => {
                        self.opened.push(Lines::open(path)?);
                        self.opened.len() - 1
                    }
                };
                self.files.insert(stream.clone(), index);
                index
            }
        };
        Ok(&mut self.opened[index])
    }

    fn flush(&mut self) -> Result<(), StageError> {
        self.opened.iter_mut().try_for_each(Lines::flush)?;
        Ok(())
    }
}

impl Sink for Jsonl {
    fn consume(&mut self, packet: Packet) -> Result<(), StageError> {
        let mut record = Record::of(&packet).ok_or_else(|| {
            let found = packet.raw_payload().port_type();
            StageError::packet(
                Code("E0704"),
                format!("`jsonl` cannot write a payload of type {found}"),
            )
        })?;
        if self.config.latency {
            record.latency_ms = Some(round(packet.header.captured.elapsed().as_secs_f64() * 1e3, 1e3));
        }
        let at_once = self.config.flush == Flush::Line;
        let lines = self.lines(&packet)?;
        let start = lines.waiting.len();
        if let Err(e) = serde_json::to_writer(&mut lines.waiting, &record) {
            lines.waiting.truncate(start);
            return Err(StageError::packet(Code("E0704"), e.to_string()).caused_by(e));
        }
        lines.waiting.push(b'\n');
        if at_once || lines.waiting.len() >= BLOCK {
            lines.flush()?;
        }
        Ok(())
    }

    fn end_of_stream(&mut self, _: &StreamId) -> Result<(), StageError> {
        self.flush()
    }

    fn close(&mut self) -> Result<(), StageError> {
        self.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flow::packet::{Header, PacketId, Payload};
    use flow_frame::{
        BBox, Buffer, Class, Classes, ColorSpace, DType, Detection, Detections, Frame, KeyPoint, KeyPoints,
        Layout, PixelFormat, Pose, Tensor, Tensors,
    };
    use std::sync::Arc;
    use std::time::{Duration, Instant};

    fn packet(stream: &str, seq: u64, payload: Arc<dyn Payload>) -> Packet {
        let header = Header {
            id: PacketId {
                stream: stream.into(),
                epoch: 0,
                seq,
            },
            captured: Instant::now(),
            pts: Some(Duration::from_millis(40 * seq)),
        };
        Packet::new(header, payload)
    }

    fn detections() -> Arc<Detections> {
        let bbox = BBox {
            x1: 1.0,
            y1: 2.004,
            x2: 30.126,
            y2: 40.0,
        };
        Arc::new(Detections {
            items: vec![Detection {
                bbox,
                class: 3,
                label: "a \"car\"".into(),
                score: 0.987_654,
                track: None,
            }],
        })
    }

    fn sink(path: &Path, extra: &str) -> Box<dyn Sink> {
        let text = format!(r#"{{"path": {:?}{extra}}}"#, path.to_str().unwrap());
        let config: JsonlConfig = serde_json::from_str(&text).unwrap();
        assert!(config.check().is_empty());
        Box::new(Jsonl {
            pattern: pattern(&config.path).unwrap(),
            config,
            files: HashMap::new(),
            opened: Vec::new(),
        })
    }

    #[test]
    fn lines_are_exactly_as_documented() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sub/out.jsonl");
        let mut sink = sink(&path, "");
        let frame = Frame::packed(8, 4, PixelFormat::Gray, ColorSpace::JPEG, Buffer::zeroed(32)).unwrap();
        let mut first = packet("cam", 7, detections());
        first.attach(Arc::new(frame.from_origin("cat.jpg".into())));
        sink.consume(first).unwrap();
        sink.consume(packet("cam", 8, Arc::new(Detections::default())))
            .unwrap();
        let classes = Classes {
            items: vec![Class {
                class: 2,
                label: "".into(),
                score: 0.5,
            }],
        };
        sink.consume(packet("cam", 9, Arc::new(classes))).unwrap();
        let point = KeyPoint {
            x: 1.5,
            y: f32::NAN,
            score: 0.25,
        };
        let pose = KeyPoints {
            poses: vec![Pose {
                points: vec![point],
                score: 0.25,
            }],
            names: Arc::new(["nose"]),
            edges: Arc::new([]),
        };
        sink.consume(packet("cam", 10, Arc::new(pose))).unwrap();
        let tensor = Tensor {
            dtype: DType::F32,
            shape: vec![1, 2],
            layout: Layout::Other,
            data: Buffer::zeroed(8),
        };
        let tensors = Tensors {
            items: vec![("prob".into(), tensor)],
        };
        sink.consume(packet("cam", 11, Arc::new(tensors))).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        let want = concat!(
            r#"{"stream":"cam","epoch":0,"seq":7,"pts":0.28,"origin":"cat.jpg","size":[8,4],"#,
            r#""detections":[{"class":3,"label":"a \"car\"","score":0.9877,"box":[1.0,2.0,30.13,40.0]}]}"#,
            "\n",
            r#"{"stream":"cam","epoch":0,"seq":8,"pts":0.32,"detections":[]}"#,
            "\n",
            r#"{"stream":"cam","epoch":0,"seq":9,"pts":0.36,"classes":[{"class":2,"score":0.5}]}"#,
            "\n",
            r#"{"stream":"cam","epoch":0,"seq":10,"pts":0.4,"key_points":[{"score":0.25,"#,
            r#""points":[{"name":"nose","x":1.5,"y":0.0,"score":0.25}]}]}"#,
            "\n",
            r#"{"stream":"cam","epoch":0,"seq":11,"pts":0.44,"#,
            r#""tensors":[{"name":"prob","dtype":"f32","shape":[1,2]}]}"#,
            "\n",
        );
        assert_eq!(text, want);
        sink.close().unwrap();
    }

    #[test]
    fn streams_get_files_of_their_own_and_blocks_hold_whole_lines() {
        let folder = tempfile::tempdir().unwrap();
        let mut sink = sink(
            &folder.path().join("{stream}.jsonl"),
            r#", "flush": "block", "latency": true"#,
        );
        for seq in 0..2000 {
            sink.consume(packet(if seq % 2 == 0 { "a" } else { "b" }, seq, detections()))
                .unwrap();
        }
        let growing = std::fs::read_to_string(folder.path().join("a.jsonl")).unwrap();
        assert!(growing.ends_with('\n') && growing.len() >= BLOCK);
        sink.close().unwrap();
        for name in ["a", "b"] {
            let text = std::fs::read_to_string(folder.path().join(format!("{name}.jsonl"))).unwrap();
            assert_eq!(text.lines().count(), 1000);
            for line in text.lines() {
                let value: serde_json::Value = serde_json::from_str(line).unwrap();
                assert_eq!(value["stream"], name);
                assert!(value["latency_ms"].as_f64().unwrap() >= 0.0);
            }
        }
    }

    #[test]
    fn a_place_that_cannot_be_written_ends_the_sink_with_its_name() {
        let folder = tempfile::tempdir().unwrap();
        let e = sink(folder.path(), "")
            .consume(packet("a", 0, detections()))
            .unwrap_err();
        assert!(
            !e.recoverable && e.message.contains(folder.path().to_str().unwrap()),
            "{e}"
        );
    }
}
