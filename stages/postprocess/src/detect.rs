//! Stage `detect`: labelled boxes.

mod anchor_free_grid;
mod decoded_boxes;
mod detection_output;
mod ssd;
mod yolo;

use std::sync::Arc;

use flow::error::{Code, PrepareError, StageError};
use flow::packet::Packet;
use flow::ports::Ports;
use flow::recycle::Recycler;
use flow::registry::{Config, ConfigIssue, KindInfo, PrepareContext, Prepared, Registry, Replication};
use flow::stage::{Emitter, Stage};
use flow_frame::{DETECTIONS, Detection, Detections, TENSORS, Tensors};
use schemars::JsonSchema;
use serde::Deserialize;

pub use anchor_free_grid::anchor_free_grid;
pub use ssd::{Activation, PriorGrid, Priors};

use crate::labels::{Labels, LabelsKey};
use crate::nms::{Candidate, NmsMode, nms};
use crate::outputs::{OutputKey, outputs_of};
use crate::place::Place;

/// Reads the boxes that a detection network finds: decodes them, drops weak and overlapping ones and leads the
/// rest back to the source frame.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DetectConfig {
    /// What the network gives.
    pub format: DetectFormat,
    /// Boxes with a lower score are dropped; from 0 to 1.
    #[serde(default = "default_threshold")]
    pub threshold: f32,
    /// A box is dropped if it overlaps a better one by more than this intersection over union; from 0 to 1.
    #[serde(default = "default_iou")]
    pub iou: f32,
    /// Which boxes suppress each other.
    #[serde(default)]
    pub nms: NmsMode,
    /// Largest number of boxes given, the best ones.
    #[serde(default = "default_max_detections")]
    #[schemars(range(min = 1, max = 10000))]
    pub max_detections: u32,
    /// Names of the classes, with or without the background class.
    pub labels: Option<LabelsKey>,
    /// Only these classes are given, by name.
    #[serde(default)]
    pub classes: Vec<String>,
    /// Boxes narrower or lower than this many pixels of the source frame are dropped.
    #[serde(default)]
    pub min_size: f32,
    /// The class that means nothing is there.
    #[serde(default)]
    pub background: Background,
    /// Unit of the box coordinates.
    #[serde(default)]
    pub coordinates: Coordinates,
    /// Which outputs hold what; needed only where their shapes do not tell.
    #[serde(default)]
    pub outputs: OutputKeys,
    /// `ssd`: how scores become probabilities.
    pub activation: Option<Activation>,
    /// `ssd`: variances of centre x, centre y, width and height.
    pub variances: Option<[f32; 4]>,
    /// `ssd`: the priors, where the network does not give them as an output.
    pub priors: Option<PriorGrid>,
}

/// What a detection network gives. N is the number of boxes, C of classes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, serde::Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DetectFormat {
    /// Scores `[1,N,C]` and boxes `[1,N,4]` (x1, y1, x2, y2).
    DecodedBoxes,
    /// FastestDet's head `[1,5+C,H,W]`: per cell objectness, box offsets and size, class probabilities.
    AnchorFreeGrid,
    /// The same as `anchor_free_grid`.
    Fastestdet,
    /// Box offsets `[1,N,4]` against priors, and scores `[1,N,C]`.
    Ssd,
    /// OpenVINO's DetectionOutput `[1,1,N,7]`: image, class, score, x1, y1, x2, y2; image -1 ends the list.
    DetectionOutput,
    /// YOLOv5 decoded, `[1,N,5+C]`: centre x, centre y, width, height, objectness, class probabilities.
    Yolov5,
    /// YOLOv8 and later, `[1,4+C,N]`: centre x, centre y, width, height, class probabilities.
    Yolov8,
}

/// The class that means nothing is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, serde::Serialize, JsonSchema)]
#[serde(untagged, expecting = "expected the index of a class, `auto` or `none`")]
pub enum Background {
    /// This one.
    Class(u32),
    /// As the format has it.
    Word(BackgroundWord),
}

/// Words for [`Background`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, serde::Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BackgroundWord {
    /// Class 0 of `decoded_boxes` and `ssd` with several classes; none otherwise.
    Auto,
    /// No class.
    None,
}

impl Default for Background {
    fn default() -> Self {
        Self::Word(BackgroundWord::Auto)
    }
}

/// Unit of box coordinates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, serde::Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Coordinates {
    /// What the format has by itself: pixels for YOLO, else fractions.
    #[default]
    Auto,
    /// Fractions of the network input, 0 to 1.
    Normalized,
    /// Pixels of the network input.
    Pixels,
}

/// Which output holds what, by name or index.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OutputKeys {
    /// The boxes, or the only output.
    pub boxes: Option<OutputKey>,
    /// The scores.
    pub scores: Option<OutputKey>,
    /// The priors of `ssd`.
    pub priors: Option<OutputKey>,
}

fn default_threshold() -> f32 {
    0.5
}

fn default_iou() -> f32 {
    0.45
}

fn default_max_detections() -> u32 {
    100
}

impl Config for DetectConfig {
    fn check(&self) -> Vec<ConfigIssue> {
        let mut issues = Vec::new();
        let mut issue = |code: &'static str, key: &str, message: String, help: &str| {
            issues.push(ConfigIssue {
                code: Code(code),
                key: key.into(),
                message,
                help: Some(help.into()),
            });
        };
        for (key, value) in [("threshold", self.threshold), ("iou", self.iou)] {
            if !(0.0..=1.0).contains(&value) {
                issue(
                    "E0150",
                    key,
                    format!("{key} is {value}"),
                    "use a number from 0 to 1",
                );
            }
        }
        if !(self.min_size.is_finite() && self.min_size >= 0.0) {
            let message = format!("min_size is {}", self.min_size);
            issue("E0150", "min_size", message, "give a length in pixels, 0 or more");
        }
        if self.max_detections == 0 {
            issue(
                "E0150",
                "max_detections",
                "no box would be given".into(),
                "use 1 or more",
            );
        }
        if !self.classes.is_empty() && self.labels.is_none() {
            let help = "name the classes: `labels: FILE` or `labels: coco80`";
            issue(
                "E0151",
                "classes",
                "classes are chosen by name, but have no names".into(),
                help,
            );
        }
        if self.format != DetectFormat::Ssd {
            for (key, set) in [
                ("activation", self.activation.is_some()),
                ("variances", self.variances.is_some()),
                ("priors", self.priors.is_some()),
            ] {
                if set {
                    let message = format!("`{key}` belongs to `format: ssd`");
                    issue("E0152", key, message, "leave it out, or change `format`");
                }
            }
        }
        if let Some(v) = self.variances
            && !v.iter().all(|v| v.is_finite() && *v > 0.0)
        {
            let message = format!("variances are {v:?}");
            issue(
                "E0150",
                "variances",
                message,
                "give four numbers above 0, such as [0.1, 0.1, 0.2, 0.2]",
            );
        }
        if let Some(why) = self.priors.as_ref().and_then(PriorGrid::fault) {
            issue(
                "E0150",
                "priors",
                why,
                "give one step and one list of sizes per feature map, all above 0",
            );
        }
        issues
    }
}

pub(crate) fn register(registry: &mut Registry) {
    registry.stage::<DetectConfig>(
        KindInfo {
            name: "detect",
            summary: "Labelled boxes from the outputs of a detection network",
            ports: Ports {
                takes: &[TENSORS],
                gives: &[DETECTIONS],
            },
            replication: Replication::Free,
        },
        prepare,
    );
}

fn prepare(config: &DetectConfig, cx: &PrepareContext<'_>) -> Result<Prepared<dyn Stage>, PrepareError> {
    let detector = Arc::new(Detector::new(
        config.clone(),
        Labels::load(config.labels.as_ref(), cx)?,
    )?);
    Ok(Prepared::new(move |_| {
        Ok(Box::new(DetectStage {
            detector: detector.clone(),
            candidates: Vec::new(),
            given: Recycler::new(KEPT),
        }) as Box<dyn Stage>)
    }))
}

/// Detections for which a list has room from the start.
const ROOM: usize = 32;

/// Lists of detections that are kept to be used again.
const KEPT: usize = 64;

struct DetectStage {
    detector: Arc<Detector>,
    candidates: Vec<Candidate>,
    given: Recycler<Detections>,
}

impl Stage for DetectStage {
    fn process(&mut self, packet: Packet, out: &mut dyn Emitter) -> Result<(), StageError> {
        let tensors = outputs_of(&packet)?;
        let place = Place::of(&packet)?;
        let (detector, candidates) = (&self.detector, &mut self.candidates);
        let room = (detector.config.max_detections as usize).min(ROOM);
        let empty = || Detections {
            items: Vec::with_capacity(room),
        };
        let found = self.given.try_share(empty, |found| {
            detector.run_into(tensors, &place, candidates, found)
        })?;
        out.emit(packet.with_payload(found));
        Ok(())
    }
}

/// Turns network outputs into detections; shared by the replicas of a stage.
pub struct Detector {
    config: DetectConfig,
    labels: Labels,
    /// Names for networks that count the background, where the labels leave it out.
    shifted: Labels,
    wanted: Vec<u32>,
    wanted_shifted: Vec<u32>,
}

/// What a decoder needs to know besides the tensors.
pub(crate) struct Request<'a> {
    pub(crate) config: &'a DetectConfig,
    /// Width and height of the network input in pixels.
    pub(crate) input: (f32, f32),
    /// Factors from box coordinates to input pixels.
    pub(crate) unit: (f32, f32),
}

/// Takes what a decoder finds.
pub(crate) struct Found<'a> {
    pub(crate) candidates: &'a mut Vec<Candidate>,
    threshold: f32,
    /// Class that means nothing is there; its candidates are not taken.
    pub(crate) background: Option<u32>,
    /// Number of classes the network knows, with the background, where it says.
    pub(crate) classes: usize,
}

impl Found<'_> {
    /// Whether a score is enough; not for NaN.
    pub(crate) fn passes(&self, score: f32) -> bool {
        score >= self.threshold
    }
    /// Takes a candidate unless it is weak or unsound.
    pub(crate) fn push(&mut self, candidate: Candidate) {
        if self.passes(candidate.score) && candidate.is_sound() {
            self.candidates.push(candidate);
        }
    }
}

impl Detector {
    /// A detector with these labels; an error if `classes` names one that has no label.
    pub fn new(config: DetectConfig, labels: Labels) -> Result<Self, PrepareError> {
        let background = match config.background {
            Background::Class(index) => index,
            Background::Word(_) => 0,
        };
        let shifted = labels.skipping(background);
        Ok(Self {
            wanted: labels.filter(&config.classes)?,
            wanted_shifted: shifted.filter(&config.classes)?,
            labels,
            shifted,
            config,
        })
    }

    /// The detections of one frame, best first. `candidates` is working memory.
    pub fn run(
        &self,
        tensors: &Tensors,
        place: &Place,
        candidates: &mut Vec<Candidate>,
    ) -> Result<Detections, StageError> {
        let mut detections = Detections::default();
        self.run_into(tensors, place, candidates, &mut detections)?;
        Ok(detections)
    }

    /// As [`run`](Self::run), in the place of what `detections` holds.
    fn run_into(
        &self,
        tensors: &Tensors,
        place: &Place,
        candidates: &mut Vec<Candidate>,
        detections: &mut Detections,
    ) -> Result<(), StageError> {
        let config = &self.config;
        let input = place.input();
        let pixels = match config.coordinates {
            Coordinates::Auto => matches!(config.format, DetectFormat::Yolov5 | DetectFormat::Yolov8),
            Coordinates::Pixels => true,
            Coordinates::Normalized => false,
        };
        let request = Request {
            config,
            input,
            unit: if pixels { (1.0, 1.0) } else { input },
        };
        candidates.clear();
        let mut found = Found {
            candidates,
            threshold: config.threshold,
            background: match config.background {
                Background::Class(index) => Some(index),
                Background::Word(_) => None,
            },
            classes: 0,
        };
        match config.format {
            DetectFormat::DecodedBoxes => decoded_boxes::decode(tensors, &request, &mut found)?,
            DetectFormat::AnchorFreeGrid | DetectFormat::Fastestdet => {
                anchor_free_grid::decode(tensors, &request, &mut found)?;
            }
            DetectFormat::Ssd => ssd::decode(tensors, &request, &mut found)?,
            DetectFormat::DetectionOutput => detection_output::decode(tensors, &request, &mut found)?,
            DetectFormat::Yolov5 => yolo::decode_v5(tensors, &request, &mut found)?,
            DetectFormat::Yolov8 => yolo::decode_v8(tensors, &request, &mut found)?,
        }
        // Labels that name one class less than the network has leave the background out.
        let shift = found.background.is_some() && found.classes > 0 && self.labels.len() + 1 == found.classes;
        let (labels, wanted) = if shift {
            (&self.shifted, &self.wanted_shifted)
        } else {
            (&self.labels, &self.wanted)
        };
        let background = found.background;
        if background.is_some() || !config.classes.is_empty() {
            candidates.retain(|c| {
                Some(c.class) != background && (config.classes.is_empty() || wanted.contains(&c.class))
            });
        }
        // Boxes that `min_size` drops must neither suppress others nor use up the limit.
        candidates.retain(|c| {
            let b = place.bbox(&c.bbox);
            let (w, h) = (b.x2 - b.x1, b.y2 - b.y1);
            w > 0.0 && h > 0.0 && w >= config.min_size && h >= config.min_size
        });
        nms(candidates, config.nms, config.iou, config.max_detections as usize);
        detections.items.clear();
        detections.items.extend(candidates.iter().map(|c| Detection {
            bbox: place.bbox(&c.bbox),
            class: c.class,
            label: labels.name(c.class),
            score: c.score.min(1.0),
            track: None,
        }));
        Ok(())
    }
}

impl Request<'_> {
    /// Class that counts as background among `classes`, where a format has one by itself.
    pub(crate) fn background_of(&self, classes: usize) -> Option<u32> {
        match self.config.background {
            Background::Class(index) => Some(index),
            Background::Word(BackgroundWord::None) => None,
            Background::Word(BackgroundWord::Auto) => (classes > 1).then_some(0),
        }
    }
}

#[cfg(test)]
mod tests;
