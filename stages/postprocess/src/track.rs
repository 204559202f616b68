//! Stage `track`: the identity of boxes over time.
//!
//! ByteTrack (Zhang et al., "ByteTrack: Multi-Object Tracking by Associating Every Detection Box", ECCV 2022,
//! arXiv:2110.06864): where each track will be next is foreseen by a Kalman filter; strong boxes are paired with tracks first,
//! by overlap weighted with their score; weak ones, as of people half hidden, are then paired with the tracks that are left,
//! by overlap alone, rather than thrown away. The limits are those of the paper and of its published code.
//!
//! With `method: iou` a box belongs to the track whose last box it overlaps most (after Bochinski et al., "High-Speed
//! Tracking-by-Detection Without Using Image Information", AVSS 2017), without motion and without weak boxes.

mod assign;
mod kalman;
mod tracker;

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;

use flow::error::{Code, PrepareError, StageError};
use flow::packet::{Packet, StreamId};
use flow::ports::Ports;
use flow::registry::{Config, ConfigIssue, KindInfo, PrepareContext, Prepared, Registry, Replication};
use flow::stage::{Emitter, Stage};
use flow_frame::{DETECTIONS, Detections, Frame};
use schemars::JsonSchema;
use serde::Deserialize;

use tracker::Tracker;

/// Gives boxes that show the same thing from frame to frame the same number: `track` in JSON lines, `#7` in `overlay`.
/// Numbers count from 1 in each stream and are not given twice. A box gets one when its thing is seen for the second
/// time, or in the first frame.
///
/// Let the weak boxes through as well: `threshold: 0.1` in `detect`. Those that continue no track are dropped here.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TrackConfig {
    /// How boxes are followed.
    #[serde(default)]
    pub method: Method,
    /// Boxes of this score and above are strong: they are paired first, and handed on even if they have no track.
    #[serde(default = "default_high")]
    pub high: f32,
    /// Weaker boxes than this are dropped; those between `low` and `high` only continue tracks.
    #[serde(default = "default_low")]
    pub low: f32,
    /// Boxes of this score and above begin a track.
    #[serde(default = "default_start")]
    pub start: f32,
    /// Least overlap (intersection over union) of a strong box with where its track is expected, times its score.
    #[serde(default = "default_iou")]
    pub iou: f32,
    /// Least overlap of a weak box with where its track is expected.
    #[serde(default = "default_iou_weak")]
    pub iou_weak: f32,
    /// Frames for which a track that is not seen can be taken up again.
    #[serde(default = "default_keep")]
    #[schemars(range(max = 10000))]
    pub keep: u32,
    /// Whether a box may continue a track of another class.
    #[serde(default)]
    pub across_classes: bool,
}

/// How boxes are followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, serde::Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// ByteTrack: motion is foreseen, and weak boxes continue tracks.
    #[default]
    ByteTrack,
    /// Overlap with the last box alone.
    Iou,
}

fn default_high() -> f32 {
    0.5
}
fn default_low() -> f32 {
    0.1
}
fn default_start() -> f32 {
    0.6
}
fn default_iou() -> f32 {
    0.2
}
fn default_iou_weak() -> f32 {
    0.5
}
fn default_keep() -> u32 {
    30
}

impl Config for TrackConfig {
    fn check(&self) -> Vec<ConfigIssue> {
        let mut issues = Vec::new();
        let mut issue = |key: &str, message: String, help: &str| {
            issues.push(ConfigIssue {
                code: Code("E0150"),
                key: key.into(),
                message,
                help: Some(help.into()),
            });
        };
        for (key, value) in [
            ("high", self.high),
            ("low", self.low),
            ("start", self.start),
            ("iou", self.iou),
            ("iou_weak", self.iou_weak),
        ] {
            if !(0.0..=1.0).contains(&value) {
                issue(key, format!("{key} is {value}"), "use a number from 0 to 1");
            }
        }
        if self.low > self.high {
            let message = format!("low is {} and high is {}", self.low, self.high);
            issue(
                "low",
                message,
                "weak boxes score between `low` and `high`: low <= high",
            );
        }
        if self.start < self.high {
            let message = format!("start is {} and high is {}", self.start, self.high);
            issue("start", message, "only strong boxes begin tracks: start >= high");
        }
        if self.keep > 10_000 {
            issue(
                "keep",
                format!("keep is {}", self.keep),
                "use at most 10000 frames",
            );
        }
        issues
    }
}

pub(crate) fn register(registry: &mut Registry) {
    registry.stage::<TrackConfig>(
        KindInfo {
            name: "track",
            summary: "Gives boxes of the same thing the same number from frame to frame",
            ports: Ports {
                takes: &[DETECTIONS],
                gives: &[DETECTIONS],
            },
            replication: Replication::PerStream,
        },
        prepare,
    );
}

fn prepare(config: &TrackConfig, _: &PrepareContext<'_>) -> Result<Prepared<dyn Stage>, PrepareError> {
    let config = config.clone();
    Ok(Prepared::new(move |_| {
        Ok(Box::new(Track {
            config: config.clone(),
            streams: HashMap::new(),
        }) as Box<dyn Stage>)
    }))
}

struct Track {
    config: TrackConfig,
    streams: HashMap<StreamId, Followed>,
}

/// One stream as far as it has come.
struct Followed {
    tracker: Tracker,
    epoch: u32,
    /// `seq` of the last packet of this epoch.
    last: Option<u64>,
    /// Width and height of its frames, which boxes refer to.
    size: Option<(u32, u32)>,
}

impl Followed {
    /// Frames since the last one.
    fn step(&mut self, packet: &Packet) -> Result<u64, StageError> {
        let id = &packet.header.id;
        if id.epoch != self.epoch {
            self.tracker.reset();
            (self.epoch, self.last) = (id.epoch, None);
        }
        let steps = match self.last {
            None => 1,
            Some(last) if id.seq > last => id.seq - last,
            Some(last) => {
                return Err(StageError::packet(
                    Code("E0454"),
                    format!(
                        "packet {} of stream `{}` comes after packet {last}: tracks need frames in their order; remove \
                         `order: none` from the stages before",
                        id.seq, id.stream
                    ),
                ));
            }
        };
        self.last = Some(id.seq);
        let size = packet.attachment::<Frame>().map(|f| (f.width(), f.height()));
        if size.is_some() && self.size.is_some() && size != self.size {
            // Boxes before and after are in different pixels.
            self.tracker.reset();
        }
        self.size = size.or(self.size);
        Ok(steps)
    }
}

impl Stage for Track {
    fn process(&mut self, packet: Packet, out: &mut dyn Emitter) -> Result<(), StageError> {
        let Some(found) = packet.payload::<Detections>() else {
            let found = packet.raw_payload().port_type();
            return Err(StageError::packet(
                Code("E0454"),
                format!("`track` follows detections, the packet carries {found}"),
            ));
        };
        let mut items = found.items.clone();
        let stream = &packet.header.id.stream;
        if !self.streams.contains_key(stream) {
            let followed = Followed {
                tracker: Tracker::new(self.config.clone()),
                epoch: packet.header.id.epoch,
                last: None,
                size: None,
            };
            self.streams.insert(stream.clone(), followed);
        }
        if let Some(followed) = self.streams.get_mut(stream) {
            let steps = followed.step(&packet)?;
            followed.tracker.update(&mut items, steps);
        }
        out.emit(packet.with_payload(Arc::new(Detections { items })));
        Ok(())
    }

    fn discontinuity(&mut self, stream: &StreamId, _: &mut dyn Emitter) -> Result<(), StageError> {
        if let Some(followed) = self.streams.get_mut(stream) {
            followed.tracker.reset();
        }
        Ok(())
    }
}
