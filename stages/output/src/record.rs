//! What one packet looks like as JSON; `docs/jsonl.md` is the reference.

use flow::packet::Packet;
use flow_frame::{BBox, Classes, Detections, Frame, KeyPoints, Tensor, Tensors};
use serde::Serialize;

/// One line of JSON: who the packet is, then what was found. Keys come in this order, absent ones are left out.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Record<'a> {
    /// Stream the packet belongs to.
    pub stream: &'a str,
    /// Epoch of the stream.
    pub epoch: u32,
    /// Place in the stream, from 0.
    pub seq: u64,
    /// Presentation time in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pts: Option<f64>,
    /// Milliseconds since the source took the packet in, where asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latency_ms: Option<f64>,
    /// File the picture is from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub origin: Option<String>,
    /// Width and height of the source frame, which coordinates refer to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<[u32; 2]>,
    /// What was found, under a key that says what it is.
    #[serde(flatten)]
    pub found: Found<'a>,
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Found<'a> {
    /// Boxes, best first.
    Detections(Vec<DetectionRecord<'a>>),
    /// Classes, best first.
    Classes(Vec<ClassRecord<'a>>),
    /// Poses, best first.
    KeyPoints(Vec<PoseRecord<'a>>),
    /// Names, types and shapes of tensors; their values are not written.
    Tensors(Vec<TensorRecord<'a>>),
}

/// A labelled box.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DetectionRecord<'a> {
    /// Index of the class.
    pub class: u32,
    /// Name of the class, where there are labels.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub label: &'a str,
    /// Confidence, rounded to 1/10000.
    pub score: f64,
    /// x1, y1, x2, y2 in pixels of the source frame, rounded to 1/100.
    #[serde(rename = "box")]
    pub bbox: [f64; 4],
    /// Identity over time, where there is a tracker.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub track: Option<u64>,
}

/// A class.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ClassRecord<'a> {
    /// Index of the class.
    pub class: u32,
    /// Name of the class, where there are labels.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub label: &'a str,
    /// Probability, rounded to 1/10000.
    pub score: f64,
}

/// A pose.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PoseRecord<'a> {
    /// Mean confidence of the points, rounded to 1/10000.
    pub score: f64,
    /// The points.
    pub points: Vec<PointRecord<'a>>,
}

/// A key point.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PointRecord<'a> {
    /// What it is.
    pub name: &'a str,
    /// Horizontal place in pixels of the source frame, rounded to 1/100.
    pub x: f64,
    /// Vertical place in pixels of the source frame, rounded to 1/100.
    pub y: f64,
    /// Confidence, rounded to 1/10000.
    pub score: f64,
}

/// A tensor.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TensorRecord<'a> {
    /// Name of the output; empty for the input of a network.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub name: &'a str,
    /// Element type.
    pub dtype: &'static str,
    /// Axis lengths.
    pub shape: &'a [usize],
}

impl<'a> Record<'a> {
    /// The record of a packet, without its latency; `None` if its payload is none of those that can be written.
    pub fn of(packet: &'a Packet) -> Option<Self> {
        let frame = packet.attachment::<Frame>();
        let id = &packet.header.id;
        Some(Self {
            stream: &id.stream,
            epoch: id.epoch,
            seq: id.seq,
            pts: packet.header.pts.map(|t| round(t.as_secs_f64(), 1e6)),
            latency_ms: None,
            origin: frame
                .as_ref()
                .map(|f| f.origin().to_string())
                .filter(|name| !name.is_empty()),
            size: frame.map(|f| [f.width(), f.height()]),
            found: Found::of(packet)?,
        })
    }
}

impl<'a> Found<'a> {
    fn of(packet: &'a Packet) -> Option<Self> {
        let score = |s: f32| round(f64::from(s), 1e4);
        let pixel = |v: f32| round(f64::from(v), 1e2);
        if let Some(Detections { items }) = packet.payload() {
            let record = items.iter().map(|d| {
                let BBox { x1, y1, x2, y2 } = d.bbox;
                DetectionRecord {
                    class: d.class,
                    label: &d.label,
                    score: score(d.score),
                    bbox: [x1, y1, x2, y2].map(pixel),
                    track: d.track,
                }
            });
            return Some(Self::Detections(record.collect()));
        }
        if let Some(Classes { items }) = packet.payload() {
            let record = items.iter().map(|c| ClassRecord {
                class: c.class,
                label: &c.label,
                score: score(c.score),
            });
            return Some(Self::Classes(record.collect()));
        }
        if let Some(KeyPoints { poses, names, .. }) = packet.payload() {
            let record = poses.iter().map(|pose| PoseRecord {
                score: score(pose.score),
                points: names
                    .iter()
                    .zip(&pose.points)
                    .map(|(name, p)| PointRecord {
                        name,
                        x: pixel(p.x),
                        y: pixel(p.y),
                        score: score(p.score),
                    })
                    .collect(),
            });
            return Some(Self::KeyPoints(record.collect()));
        }
        if let Some(Tensors { items }) = packet.payload() {
            return Some(Self::Tensors(items.iter().map(|(n, t)| tensor(n, t)).collect()));
        }
        let one = packet.payload::<Tensor>()?;
        Some(Self::Tensors(vec![tensor("", one)]))
    }
}

fn tensor<'a>(name: &'a str, t: &'a Tensor) -> TensorRecord<'a> {
    TensorRecord {
        name,
        dtype: t.dtype.name(),
        shape: &t.shape,
    }
}

/// Rounded to a whole number of parts; what is not finite becomes 0, since JSON has no such numbers.
pub(crate) fn round(value: f64, parts: f64) -> f64 {
    // Adding 0 turns -0 into 0.
    let rounded = (value * parts).round() / parts + 0.0;
    if rounded.is_finite() { rounded } else { 0.0 }
}
