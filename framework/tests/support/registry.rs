//! Kinds for tests of the configuration: shapes of settings that real kinds have, and instances that do
//! nothing.
#![allow(dead_code)] // settings are read by serde and described by their schemas, no more

use std::collections::BTreeMap;
use std::path::PathBuf;

use flow::error::{Code, PrepareError, StageError};
use flow::packet::Packet;
use flow::ports::{PortDetail, PortType, Ports};
use flow::registry::{Config, ConfigIssue, KindInfo, PrepareContext, Prepared, Registry, Replication};
use flow::stage::{Emitter, Progress, Sink, Source, SourceEmitter, Stage};
use flow::units::{Duration, Percent, Rate, Size};
use schemars::JsonSchema;
use serde::Deserialize;

const ENCODED: PortType = PortType("encoded");
const FRAME: PortType = PortType("frame");
const TENSOR: PortType = PortType("tensor");
const DETECTIONS: PortType = PortType("detections");

/// Reads a clip.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FileConfig {
    /// The clip.
    #[schemars(length(min = 1))]
    pub path: PathBuf,
    /// What happens at the end.
    #[serde(default, rename = "loop")]
    pub looping: Loop,
    /// How fast frames come.
    #[serde(default)]
    pub pace: Pace,
    /// Whether the stream is live.
    #[serde(default)]
    pub live: bool,
}
impl Config for FileConfig {}

/// What happens at the end of a clip.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Loop {
    /// The stream ends.
    #[default]
    Once,
    /// The clip starts anew, for ever.
    Forever,
    /// The clip is played so many times.
    Times(#[schemars(range(min = 1))] u32),
    /// The clip is played for so long.
    For(Duration),
}

/// How fast frames come.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Pace {
    /// As fast as they are taken.
    #[default]
    Asap,
    /// As the clip says.
    Realtime,
}

/// Reads a camera.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CameraConfig {
    /// Address of the camera.
    #[schemars(regex(pattern = "^rtsp://"))]
    pub url: String,
    /// Whether the stream is live.
    #[serde(default = "yes")]
    pub live: bool,
    /// How a lost camera is called again.
    #[serde(default)]
    pub redial: Option<Reconnect>,
    /// Most packets taken.
    #[serde(default)]
    pub limit: Option<Rate>,
}
impl Config for CameraConfig {
    fn check(&self) -> Vec<ConfigIssue> {
        match &self.redial {
            Some(r) if r.initial > r.max => vec![ConfigIssue {
                code: Code("E0110"),
                key: "redial.initial".into(),
                message: "is longer than `max`".into(),
                help: Some("swap the two".into()),
            }],
            _ => Vec::new(),
        }
    }
}

fn yes() -> bool {
    true
}

/// How a lost camera is called again.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Reconnect {
    /// First wait.
    pub initial: Duration,
    /// Longest wait.
    pub max: Duration,
}

/// No settings.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Nothing {}
impl Config for Nothing {}

/// Makes tensors of frames.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ResizeConfig {
    /// Width and height in pixels, or `model`.
    #[serde(default)]
    pub size: TensorSize,
    /// Subtracted from each sample.
    #[serde(default)]
    pub mean: Option<PerChannel>,
    /// Colour of the border.
    #[serde(default)]
    pub pad: Option<[u8; 3]>,
    /// How pixels are interpolated.
    #[serde(default)]
    pub filter: Option<Filter>,
}
impl Config for ResizeConfig {}

/// Width and height, or `model`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum TensorSize {
    /// What the consumer wants.
    #[default]
    Unsaid,
    /// What the consumer wants.
    Model(OfModel),
    /// Width and height in pixels.
    Fixed(#[schemars(inner(range(min = 1, max = 8192)))] [u16; 2]),
}

/// The word `model`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OfModel {
    /// What the consumer wants.
    Model,
}

/// One value, or one for each channel.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum PerChannel {
    /// For all channels.
    One(f32),
    /// Red, green and blue.
    Three([f32; 3]),
}

/// How pixels are interpolated.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Filter {
    Nearest,
    Bilinear,
    Area,
}

/// Runs a network.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct InferConfig {
    /// A name of `models`, or a path.
    pub model: String,
    /// Least score.
    #[serde(default = "half")]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub threshold: f32,
    /// Where it runs.
    #[serde(default)]
    pub device: Device,
    /// Thresholds by class.
    #[serde(default)]
    pub by_class: BTreeMap<String, Percent>,
    /// Weights kept in memory at most.
    #[serde(default)]
    pub memory: Option<Size>,
}
impl Config for InferConfig {}

fn half() -> f32 {
    0.5
}

/// Where a network runs.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Device {
    /// On the processor.
    #[default]
    Cpu,
    /// On a graphics card.
    Gpu {
        /// Which card.
        #[schemars(range(max = 15))]
        index: u8,
    },
}

/// Follows objects.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TrackConfig {
    /// Frames an object may be gone.
    #[serde(default)]
    pub patience: i8,
    /// Classes that are followed.
    #[serde(default)]
    #[schemars(length(max = 4))]
    pub classes: Vec<String>,
}
impl Config for TrackConfig {}

/// Writes lines.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LinesConfig {
    /// The file.
    pub path: PathBuf,
}
impl Config for LinesConfig {}

/// Squares of some size.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SidesConfig {
    /// Length of a side.
    pub sides: u32,
}
impl Config for SidesConfig {}

#[derive(Debug)]
struct Sides(u32);
impl std::fmt::Display for Sides {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "squares of {}", self.0)
    }
}
impl PortDetail for Sides {
    fn feeds(&self, wanted: &dyn PortDetail) -> Result<(), String> {
        let wanted: &dyn std::any::Any = wanted;
        match wanted.downcast_ref::<Sides>() {
            Some(wanted) if wanted.0 != self.0 => Err(format!("set `sides: {}` on the producer", wanted.0)),
            _ => Ok(()),
        }
    }
}

struct Idle;
impl Source for Idle {
    fn next(&mut self, _out: &mut dyn SourceEmitter) -> Result<Progress, StageError> {
        Ok(Progress::End)
    }
}
impl Stage for Idle {
    fn process(&mut self, packet: Packet, out: &mut dyn Emitter) -> Result<(), StageError> {
        out.emit(packet);
        Ok(())
    }
}
impl Sink for Idle {
    fn consume(&mut self, _packet: Packet) -> Result<(), StageError> {
        Ok(())
    }
}

fn info(
    name: &'static str,
    takes: &'static [PortType],
    gives: &'static [PortType],
    replication: Replication,
) -> KindInfo {
    KindInfo {
        name,
        summary: "A kind for tests",
        ports: Ports { takes, gives },
        replication,
    }
}

fn source<C>(_: &C, _: &PrepareContext<'_>) -> Result<Prepared<dyn Source>, PrepareError> {
    Ok(Prepared::<dyn Source>::new(|_| Ok(Box::new(Idle))))
}
fn stage<C>(_: &C, _: &PrepareContext<'_>) -> Result<Prepared<dyn Stage>, PrepareError> {
    Ok(Prepared::<dyn Stage>::new(|_| Ok(Box::new(Idle))))
}
fn sink<C>(_: &C, _: &PrepareContext<'_>) -> Result<Prepared<dyn Sink>, PrepareError> {
    Ok(Prepared::<dyn Sink>::new(|_| Ok(Box::new(Idle))))
}

/// All kinds for tests.
pub fn registry() -> Registry {
    use Replication::{Free, PerStream, Single};
    let mut registry = Registry::new();
    registry.source::<FileConfig>(info("file", &[], &[ENCODED, FRAME], Single), source);
    registry.source::<CameraConfig>(info("camera", &[], &[ENCODED], Single), source);
    registry.stage::<Nothing>(info("decode", &[ENCODED, FRAME], &[FRAME], PerStream), stage);
    registry.stage::<ResizeConfig>(info("resize", &[FRAME], &[TENSOR], Free), stage);
    registry.stage::<InferConfig>(info("infer", &[TENSOR], &[DETECTIONS], Free), stage);
    registry.stage::<TrackConfig>(info("track", &[DETECTIONS], &[DETECTIONS], PerStream), stage);
    registry.stage::<Nothing>(info("pass", &[PortType::ANY], &[PortType::ANY], Single), stage);
    registry.stage::<SidesConfig>(info("cut", &[FRAME], &[TENSOR], Free), |c, _| {
        Ok(Prepared::<dyn Stage>::new(|_| Ok(Box::new(Idle))).gives(std::sync::Arc::new(Sides(c.sides))))
    });
    registry.sink::<SidesConfig>(info("grid", &[TENSOR], &[], Single), |c, cx| {
        if cx.streams.len() > 1 {
            let error = PrepareError::new(Code("E0360"), "sides", "takes one stream");
            return Err(error.help("use one sink for each stream"));
        }
        Ok(Prepared::<dyn Sink>::new(|_| Ok(Box::new(Idle))).wants(std::sync::Arc::new(Sides(c.sides))))
    });
    registry.sink::<LinesConfig>(info("jsonl", &[DETECTIONS], &[], Single), sink);
    registry.sink::<Nothing>(info("null", &[PortType::ANY], &[], Single), sink);
    registry
}
