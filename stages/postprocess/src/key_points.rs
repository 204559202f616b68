//! Stage `key_points`: the joints of bodies.

use std::sync::Arc;

use flow::error::{Code, PrepareError, StageError};
use flow::packet::Packet;
use flow::ports::Ports;
use flow::registry::{Config, ConfigIssue, KindInfo, PrepareContext, Prepared, Registry, Replication};
use flow::stage::{Emitter, Stage};
use flow_frame::{KEY_POINTS, KeyPoint, KeyPoints, Pose, TENSORS, Tensors};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::coco::{COCO17, COCO17_EDGES};
use crate::outputs::{OutputKey, outputs_of, select, tail, view};
use crate::place::Place;

/// Reads the key points that a pose network finds.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KeyPointsConfig {
    /// What the network gives.
    pub format: KeyPointsFormat,
    /// A pose is given if the mean score of its points is at least this.
    #[serde(default = "default_threshold")]
    pub threshold: f32,
    /// The output, by name or index; needed only where the network has several.
    pub output: Option<OutputKey>,
}

/// What a pose network gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, serde::Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum KeyPointsFormat {
    /// MoveNet: `[1,1,17,3]` (or `[1,P,17,3]` for P poses), per point y, x as fractions of the input, score; the
    /// 17 points of COCO.
    Movenet,
}

fn default_threshold() -> f32 {
    0.2
}

impl Config for KeyPointsConfig {
    fn check(&self) -> Vec<ConfigIssue> {
        if (0.0..=1.0).contains(&self.threshold) {
            return Vec::new();
        }
        vec![ConfigIssue {
            code: Code("E0150"),
            key: "threshold".into(),
            message: format!("a threshold of {}", self.threshold),
            help: Some("scores go from 0 to 1".into()),
        }]
    }
}

/// Poses from `[P,17,3]` values (y, x as fractions of the input, score), best first; points that are not finite
/// get score 0.
pub fn movenet(values: &[f32], place: &Place) -> Vec<Pose> {
    let (width, height) = place.input();
    let mut poses: Vec<Pose> = values
        .chunks_exact(COCO17.len() * 3)
        .map(|pose| {
            let points: Vec<KeyPoint> = pose
                .chunks_exact(3)
                .map(|p| {
                    if !p.iter().all(|v| v.is_finite()) {
                        return KeyPoint {
                            x: 0.0,
                            y: 0.0,
                            score: 0.0,
                        };
                    }
                    let (x, y) = place.point(p[1] * width, p[0] * height);
                    let score = p[2].clamp(0.0, 1.0);
                    KeyPoint { x, y, score }
                })
                .collect();
            let score = points.iter().map(|p| p.score).sum::<f32>() / points.len() as f32;
            Pose { points, score }
        })
        .collect();
    poses.sort_by(|a, b| b.score.total_cmp(&a.score));
    poses
}

pub(crate) fn register(registry: &mut Registry) {
    registry.stage::<KeyPointsConfig>(
        KindInfo {
            name: "key_points",
            summary: "Joints of bodies from the output of a pose network",
            ports: Ports {
                takes: &[TENSORS],
                gives: &[KEY_POINTS],
            },
            replication: Replication::Free,
        },
        prepare,
    );
}

fn prepare(config: &KeyPointsConfig, _: &PrepareContext<'_>) -> Result<Prepared<dyn Stage>, PrepareError> {
    let config = config.clone();
    Ok(Prepared::new(move |_| {
        Ok(Box::new(KeyPointsStage {
            config: config.clone(),
            names: COCO17.into(),
            edges: COCO17_EDGES.into(),
        }) as Box<dyn Stage>)
    }))
}

struct KeyPointsStage {
    config: KeyPointsConfig,
    names: Arc<[&'static str]>,
    edges: Arc<[(usize, usize)]>,
}

impl KeyPointsStage {
    fn find(&self, tensors: &Tensors, place: &Place) -> Result<KeyPoints, StageError> {
        let KeyPointsFormat::Movenet = self.config.format;
        let fits = |shape: &[usize]| matches!(tail(shape), Some([_, 17, 3]));
        let key = self.config.output.as_ref();
        let (name, tensor) = select(tensors, key, fits, "key points", "[1,1,17,3]", "output")?;
        let output = view(name, tensor)?;
        if !fits(output.shape) {
            return Err(output.wrong_shape("[1,1,17,3]", "output"));
        }
        let mut poses = movenet(&output.values, place);
        poses.retain(|p| p.score >= self.config.threshold);
        Ok(KeyPoints {
            poses,
            names: self.names.clone(),
            edges: self.edges.clone(),
        })
    }
}

impl Stage for KeyPointsStage {
    fn process(&mut self, packet: Packet, out: &mut dyn Emitter) -> Result<(), StageError> {
        let found = self.find(outputs_of(&packet)?, &Place::of(&packet)?)?;
        out.emit(packet.with_payload(Arc::new(found)));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outputs::tests::{tensor, tensors};
    use flow_frame::Geometry;

    fn stage(config: &str) -> KeyPointsStage {
        KeyPointsStage {
            config: serde_json::from_str(config).unwrap(),
            names: COCO17.into(),
            edges: COCO17_EDGES.into(),
        }
    }

    /// 192x192 input of a 384x192 frame, stretched.
    fn place() -> Place {
        Place::new(Geometry {
            scale_x: 2.0,
            input: (192, 192),
            ..Geometry::identity(384, 192)
        })
    }

    #[test]
    fn points_come_out_in_frame_pixels() {
        let mut values = [0.5f32; 51];
        values[..6].copy_from_slice(&[0.25, 0.75, 0.9, 1.5, f32::NAN, 0.9]);
        let all = tensors(&[("y", tensor(&[1, 1, 17, 3], &values))]);
        let found = stage(r#"{"format": "movenet"}"#).find(&all, &place()).unwrap();
        let points = &found.poses[0].points;
        assert_eq!((points[0].x, points[0].y, points[0].score), (288.0, 48.0, 0.9));
        assert_eq!(points[1].score, 0.0, "a point that is not finite does not count");
        assert_eq!((points[2].x, points[2].y), (192.0, 96.0));
        assert_eq!((found.names.len(), points.len()), (17, 17));
    }

    #[test]
    fn an_empty_scene_has_no_pose_and_a_wrong_shape_is_named() {
        let s = stage(r#"{"format": "movenet", "threshold": 0.3}"#);
        let dark = tensors(&[("y", tensor(&[1, 1, 17, 3], &[0.1; 51]))]);
        assert!(s.find(&dark, &place()).unwrap().poses.is_empty());
        let wrong = tensors(&[("heat", tensor(&[1, 17, 2], &[0.0; 34]))]);
        let e = s.find(&wrong, &place()).unwrap_err();
        assert!(
            e.message.contains("`heat`") && e.message.contains("[1,1,17,3]"),
            "{e}"
        );
    }
}
