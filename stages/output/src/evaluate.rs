//! Sink `evaluate`: detections held against the truth.

mod average;
mod truth;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use flow::error::{Code, PrepareError, StageError};
use flow::packet::Packet;
use flow::ports::Ports;
use flow::registry::{Config, ConfigIssue, KindInfo, PrepareContext, Prepared, Registry, Replication};
use flow::stage::Sink;
use flow_frame::{DETECTIONS, Detection, Detections, GroundTruth};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use average::MeanAveragePrecision;
pub use truth::TrueBoxes;

use crate::file::check_writable;
use crate::record::round;
use crate::stats::write_json;

/// Matches detections with the true boxes that a synthetic source attaches, and reports recall and precision per
/// class. The run fails if one of them is below what is asked for.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EvaluateConfig {
    /// A detection matches a true box of its class if their intersection over union is at least this.
    #[serde(default = "default_iou")]
    pub iou: f32,
    /// Smallest share of true boxes that must be found, over all classes, from 0 to 1.
    #[serde(default)]
    pub min_recall: f64,
    /// Smallest share of detections that must be right, over all classes, from 0 to 1.
    #[serde(default)]
    pub min_precision: f64,
    /// Share of an object that must be visible for it to count, from 0 to 1: its true box's score. Objects that are
    /// hidden more neither have to be found nor count against the detector when they are.
    #[serde(default)]
    pub min_visible: f32,
    /// File with the true boxes, one line per frame, as sink `jsonl` writes it behind stage `truth`. Without it, the
    /// truth is what a `synthetic` source attaches to its frames.
    pub truth: Option<PathBuf>,
    /// JSON file that is written at the end.
    pub path: Option<PathBuf>,
}

fn default_iou() -> f32 {
    0.5
}

impl Config for EvaluateConfig {
    fn check(&self) -> Vec<ConfigIssue> {
        [
            ("iou", f64::from(self.iou)),
            ("min_visible", f64::from(self.min_visible)),
            ("min_recall", self.min_recall),
            ("min_precision", self.min_precision),
        ]
        .into_iter()
        .filter(|(_, value)| !(0.0..=1.0).contains(value))
        .map(|(key, value)| ConfigIssue {
            code: Code("E0161"),
            key: key.into(),
            message: format!("{key} is {value}"),
            help: Some("use a number from 0 to 1".into()),
        })
        .collect()
    }
}

/// Counts of one class, or of all.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Tally {
    /// Detections that match a true box.
    pub matched: u64,
    /// True boxes.
    pub truth: u64,
    /// Detections.
    pub found: u64,
    /// Sum of the intersections over union of the matches.
    iou: f64,
}

impl Tally {
    /// Share of true boxes that were found; 1 where there are none.
    pub fn recall(&self) -> f64 {
        share(self.matched, self.truth)
    }

    /// Share of detections that are right; 1 where there are none.
    pub fn precision(&self) -> f64 {
        share(self.matched, self.found)
    }

    fn add(&mut self, other: &Self) {
        self.matched += other.matched;
        self.truth += other.truth;
        self.found += other.found;
        self.iou += other.iou;
    }
}

fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 {
        1.0
    } else {
        part as f64 / whole as f64
    }
}

/// Recall and precision as they are written.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Figures {
    /// Share of true boxes that were found.
    pub recall: f64,
    /// Share of detections that are right.
    pub precision: f64,
    /// Mean intersection over union of the matches.
    pub mean_iou: f64,
    /// True boxes.
    pub truth: u64,
    /// Detections.
    pub found: u64,
    /// Matches.
    pub matched: u64,
}

impl From<&Tally> for Figures {
    fn from(t: &Tally) -> Self {
        let mean = if t.matched == 0 {
            0.0
        } else {
            t.iou / t.matched as f64
        };
        Self {
            recall: round(t.recall(), 1e4),
            precision: round(t.precision(), 1e4),
            mean_iou: round(mean, 1e4),
            truth: t.truth,
            found: t.found,
            matched: t.matched,
        }
    }
}

/// What is written at the end.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// Frames that were looked at.
    pub frames: u64,
    /// Intersection over union that a match needs.
    pub iou: f64,
    /// All classes together.
    pub all: Figures,
    /// Each class, by label, else by index.
    pub classes: BTreeMap<String, Figures>,
}

/// Holds detections against the truth, frame by frame.
#[derive(Debug, Default)]
pub struct Evaluator {
    frames: u64,
    classes: BTreeMap<String, Tally>,
}

impl Evaluator {
    /// Adds a frame. Detections are taken best score first; each takes the true box of its class that it overlaps
    /// most and that is still free, if that overlap is at least `iou`. True boxes whose score is below `min_visible`
    /// do not count, nor do detections that match none but such.
    pub fn add(&mut self, found: &[Detection], truth: &[Detection], iou: f32, min_visible: f32) {
        self.frames += 1;
        let (mut free, hidden): (Vec<_>, Vec<_>) = truth.iter().partition(|t| t.score >= min_visible);
        for t in &free {
            self.tally(t).truth += 1;
        }
        let mut found: Vec<&Detection> = found.iter().collect();
        found.sort_by(|a, b| b.score.total_cmp(&a.score));
        for d in found {
            let best = free
                .iter()
                .enumerate()
                .filter(|(_, t)| same_class(t, d))
                .map(|(i, t)| (i, t.bbox.iou(&d.bbox)))
                .filter(|(_, overlap)| *overlap >= iou)
                .max_by(|a, b| a.1.total_cmp(&b.1));
            if best.is_none()
                && hidden
                    .iter()
                    .any(|t| same_class(t, d) && t.bbox.iou(&d.bbox) >= iou)
            {
                continue;
            }
            let tally = self.tally(d);
            tally.found += 1;
            if let Some((i, overlap)) = best {
                tally.matched += 1;
                tally.iou += f64::from(overlap);
                free.swap_remove(i);
            }
        }
    }

    fn tally(&mut self, d: &Detection) -> &mut Tally {
        let name = match &*d.label {
            "" => d.class.to_string(),
            label => label.to_owned(),
        };
        self.classes.entry(name).or_default()
    }

    /// All classes together.
    pub fn all(&self) -> Tally {
        let mut all = Tally::default();
        self.classes.values().for_each(|t| all.add(t));
        all
    }

    /// What was found so far.
    pub fn report(&self, iou: f32) -> Report {
        let classes = self.classes.iter();
        Report {
            frames: self.frames,
            iou: round(f64::from(iou), 1e4),
            all: Figures::from(&self.all()),
            classes: classes.map(|(name, t)| (name.clone(), t.into())).collect(),
        }
    }
}

/// By name where both have one: a network and a scene may number their classes differently.
fn same_class(a: &Detection, b: &Detection) -> bool {
    if a.label.is_empty() || b.label.is_empty() {
        a.class == b.class
    } else {
        a.label == b.label
    }
}

pub(crate) fn register(registry: &mut Registry) {
    registry.sink::<EvaluateConfig>(
        KindInfo {
            name: "evaluate",
            summary: "Holds detections against the truth: recall and precision",
            ports: Ports {
                takes: &[DETECTIONS],
                gives: &[],
            },
            replication: Replication::Single,
        },
        prepare,
    );
}

fn prepare(config: &EvaluateConfig, cx: &PrepareContext<'_>) -> Result<Prepared<dyn Sink>, PrepareError> {
    let (config, name) = (Arc::new(config.clone()), cx.name.to_owned());
    if let Some(path) = &config.path {
        check_writable(path, true)?;
    }
    let truth = match &config.truth {
        Some(path) => Some(Arc::new(TrueBoxes::read(&cx.resolve(path))?)),
        None => None,
    };
    let files = config.path.iter().cloned().collect();
    let mut prepared = Prepared::<dyn Sink>::new(move |_| {
        Ok(Box::new(Evaluate {
            config: config.clone(),
            name: name.clone(),
            truth: truth.clone(),
            evaluator: Evaluator::default(),
        }) as Box<dyn Sink>)
    });
    prepared.writes = files;
    Ok(prepared)
}

struct Evaluate {
    config: Arc<EvaluateConfig>,
    name: String,
    truth: Option<Arc<TrueBoxes>>,
    evaluator: Evaluator,
}

impl Sink for Evaluate {
    fn consume(&mut self, packet: Packet) -> Result<(), StageError> {
        let Some(found) = packet.payload::<Detections>() else {
            let found = packet.raw_payload().port_type();
            return Err(StageError::packet(
                Code("E0704"),
                format!("`evaluate` takes detections, the packet carries {found}"),
            ));
        };
        let attached;
        let seq = packet.header.id.seq;
        let truth = match &self.truth {
            Some(file) => file.of_place(seq),
            None => {
                attached = packet.attachment::<GroundTruth>();
                attached.as_ref().map(|t| &t.items[..])
            }
        };
        let truth = truth.ok_or_else(|| {
            StageError::packet(
                Code("E0706"),
                match self.truth {
                    Some(_) => format!("the file of true boxes has no line with seq {seq}"),
                    None => "the packet carries no truth to be held against; use a `synthetic` source, or name a file \
                             with `truth:`"
                        .to_owned(),
                },
            )
        })?;
        self.evaluator
            .add(&found.items, truth, self.config.iou, self.config.min_visible);
        Ok(())
    }

    fn close(&mut self) -> Result<(), StageError> {
        let report = self.evaluator.report(self.config.iou);
        tracing::info!(
            sink = %self.name,
            frames = report.frames,
            recall = report.all.recall,
            precision = report.all.precision,
            mean_iou = report.all.mean_iou,
            "Held against the truth."
        );
        write_json(self.config.path.as_deref(), &report)?;
        let all = self.evaluator.all();
        let (recall, precision) = (all.recall(), all.precision());
        if recall < self.config.min_recall || precision < self.config.min_precision {
            return Err(StageError::fatal(
                Code("E0707"),
                format!(
                    "recall {recall:.4} and precision {precision:.4} over {} frames; wanted are at least {} and {}",
                    report.frames, self.config.min_recall, self.config.min_precision
                ),
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flow::packet::{Header, PacketId};
    use flow_frame::BBox;

    fn at(x: f32, label: &str, score: f32) -> Detection {
        Detection {
            bbox: BBox {
                x1: x,
                y1: 0.0,
                x2: x + 10.0,
                y2: 10.0,
            },
            class: 0,
            label: label.into(),
            score,
            track: None,
        }
    }

    #[test]
    fn every_true_box_is_matched_once() {
        let mut e = Evaluator::default();
        let truth = [at(0.0, "car", 1.0), at(50.0, "car", 1.0), at(90.0, "dog", 1.0)];
        // two on the first car, one off by half, and a cat where the dog is
        let found = [
            at(1.0, "car", 0.8),
            at(0.0, "car", 0.9),
            at(55.0, "car", 0.7),
            at(90.0, "cat", 0.9),
        ];
        e.add(&found, &truth, 0.5, 0.0);
        let all = e.all();
        assert_eq!((all.matched, all.truth, all.found), (1, 3, 4));
        let report = e.report(0.5);
        assert_eq!(report.classes["car"].recall, 0.5);
        assert_eq!(
            report.classes["car"].mean_iou, 1.0,
            "the better score takes the box"
        );
        assert_eq!(report.classes["dog"].recall, 0.0);
        assert_eq!(report.classes["cat"].precision, 0.0);
    }

    #[test]
    fn frames_without_objects_are_right_when_nothing_is_found() {
        let mut e = Evaluator::default();
        e.add(&[], &[], 0.5, 0.0);
        assert_eq!((e.all().recall(), e.all().precision()), (1.0, 1.0));
    }

    #[test]
    fn too_low_a_recall_fails_the_run_but_leaves_the_report() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("evaluation.json");
        let text = format!(r#"{{"min_recall": 0.9, "path": {:?}}}"#, path.to_str().unwrap());
        let mut sink = Evaluate {
            config: Arc::new(serde_json::from_str(&text).unwrap()),
            name: "evaluate".into(),
            truth: None,
            evaluator: Evaluator::default(),
        };
        let header = Header {
            id: PacketId {
                stream: "s".into(),
                epoch: 0,
                seq: 0,
            },
            captured: std::time::Instant::now(),
            pts: None,
        };
        let mut packet = Packet::new(header, Arc::new(Detections::default()));
        assert_eq!(sink.consume(packet.clone()).unwrap_err().code, Code("E0706"));
        packet.attach(Arc::new(GroundTruth {
            items: vec![at(0.0, "car", 1.0)],
        }));
        sink.consume(packet).unwrap();
        assert_eq!(sink.close().unwrap_err().code, Code("E0707"));
        let report: serde_json::Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        assert_eq!(report["all"]["recall"], 0.0);
        assert_eq!(report["frames"], 1);
    }
}
