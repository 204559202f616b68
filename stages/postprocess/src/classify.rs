//! Stage `classify`: the best classes of a picture.

use std::sync::Arc;

use flow::error::{Code, PrepareError, StageError};
use flow::packet::Packet;
use flow::ports::Ports;
use flow::registry::{Config, ConfigIssue, KindInfo, PrepareContext, Prepared, Registry, Replication};
use flow::stage::{Emitter, Stage};
use flow_frame::{CLASSES, Class, Classes, DType, TENSORS, Tensors};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::labels::{Labels, LabelsKey};
use crate::outputs::{Output, OutputKey, outputs_of, select, view_converted};

/// Reads the scores of a classification network and gives the best classes.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClassifyConfig {
    /// Number of classes given.
    #[serde(default = "default_top_k")]
    #[schemars(range(min = 1, max = 10000))]
    pub top_k: u32,
    /// Classes with a lower score are left out.
    #[serde(default)]
    pub threshold: f32,
    /// Names of the classes.
    pub labels: Option<LabelsKey>,
    /// Whether scores are turned into probabilities.
    #[serde(default)]
    pub softmax: Softmax,
    /// Value of one step of integer scores; 1/256 is what a quantized softmax has.
    #[serde(default = "default_step")]
    pub step: f32,
    /// Scores before this index are no classes, such as a background; the class index counts from here.
    #[serde(default)]
    pub offset: u32,
    /// The output with the scores, by name or index; needed only where the network has several.
    pub output: Option<OutputKey>,
}

/// Whether scores are turned into probabilities.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, serde::Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Softmax {
    /// Where they are f32 and no probabilities yet, which are from 0 to 1 with a sum of 1 (within 0.05). Integer
    /// scores are taken for the codes of a quantized softmax.
    #[default]
    Auto,
    /// Always.
    On,
    /// Never.
    Off,
}

fn default_top_k() -> u32 {
    5
}

fn default_step() -> f32 {
    1.0 / 256.0
}

impl Config for ClassifyConfig {
    fn check(&self) -> Vec<ConfigIssue> {
        let mut issues = Vec::new();
        let mut issue = |key: &str, message: &str, help: &str| {
            issues.push(ConfigIssue {
                code: Code("E0150"),
                key: key.into(),
                message: message.into(),
                help: Some(help.into()),
            });
        };
        if self.top_k == 0 {
            issue("top_k", "no class would be given", "use 1 or more");
        }
        if !self.threshold.is_finite() {
            issue(
                "threshold",
                "the threshold is not a finite number",
                "use a number from 0 to 1",
            );
        }
        if !(self.step.is_finite() && self.step > 0.0) {
            issue(
                "step",
                "one step must be worth more than 0",
                "a quantized softmax has 0.00390625 (1/256)",
            );
        }
        issues
    }
}

/// The `top_k` best of `scores` as (index, score), best first, equal scores by index. Scores that are not
/// finite never win.
pub fn rank(scores: &[f32], top_k: usize) -> Vec<(usize, f32)> {
    let mut order: Vec<(usize, f32)> = scores
        .iter()
        .copied()
        .enumerate()
        .filter(|(_, s)| s.is_finite())
        .collect();
    let better = |a: &(usize, f32), b: &(usize, f32)| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0));
    if top_k < order.len() {
        order.select_nth_unstable_by(top_k, better);
        order.truncate(top_k);
    }
    order.sort_unstable_by(better);
    order
}

/// `exp(x - max) / sum(exp(x - max))` over the finite scores; others become 0.
pub fn softmax(scores: &mut [f32]) {
    let finite = |s: &&f32| s.is_finite();
    let max = scores
        .iter()
        .filter(finite)
        .copied()
        .fold(f32::NEG_INFINITY, f32::max);
    for s in scores.iter_mut() {
        *s = if s.is_finite() { (*s - max).exp() } else { 0.0 };
    }
    let sum: f32 = scores.iter().sum();
    if sum > 0.0 {
        scores.iter_mut().for_each(|s| *s /= sum);
    }
}

fn are_probabilities(scores: &[f32]) -> bool {
    let sum: f32 = scores.iter().sum();
    scores.iter().all(|s| (0.0..=1.0).contains(s)) && (sum - 1.0).abs() <= 0.05
}

pub(crate) fn register(registry: &mut Registry) {
    registry.stage::<ClassifyConfig>(
        KindInfo {
            name: "classify",
            summary: "Best classes from the scores of a classification network",
            ports: Ports {
                takes: &[TENSORS],
                gives: &[CLASSES],
            },
            replication: Replication::Free,
        },
        prepare,
    );
}

fn prepare(config: &ClassifyConfig, cx: &PrepareContext<'_>) -> Result<Prepared<dyn Stage>, PrepareError> {
    let labels = Arc::new(Labels::load(config.labels.as_ref(), cx)?);
    let config = Arc::new(config.clone());
    Ok(Prepared::new(move |_| {
        Ok(Box::new(Classify {
            config: config.clone(),
            labels: labels.clone(),
        }) as Box<dyn Stage>)
    }))
}

struct Classify {
    config: Arc<ClassifyConfig>,
    labels: Arc<Labels>,
}

impl Classify {
    fn classes(&self, tensors: &Tensors) -> Result<Classes, StageError> {
        let config = &self.config;
        let (output, float) = self.scores(tensors)?;
        let mut scores = output.values.into_owned();
        let apply = match config.softmax {
            Softmax::On => true,
            Softmax::Off => false,
            Softmax::Auto => float && !are_probabilities(&scores),
        };
        if apply {
            softmax(&mut scores);
        }
        let offset = config.offset as usize;
        let classes = scores.get(offset..).unwrap_or_default();
        let items = rank(classes, config.top_k as usize)
            .into_iter()
            .filter(|(_, score)| *score >= config.threshold)
            .map(|(i, score)| Class {
                class: i as u32,
                label: self.labels.name(i as u32),
                score,
            })
            .collect();
        Ok(Classes { items })
    }

    /// The scores, and whether they were `f32` rather than codes.
    fn scores<'a>(&self, tensors: &'a Tensors) -> Result<(Output<'a>, bool), StageError> {
        let vector = |shape: &[usize]| shape.iter().filter(|&&n| n != 1).count() <= 1;
        let key = self.config.output.as_ref();
        let (name, tensor) = select(tensors, key, vector, "scores", "[1,C]", "output")?;
        let mut output = view_converted(name, tensor)?;
        if output.values.is_empty() || !vector(&tensor.shape) {
            return Err(output.wrong_shape("[1,C]", "output"));
        }
        let zero = match tensor.dtype {
            DType::F32 => return Ok((output, true)),
            // A quantized softmax covers 0..1, so its signed codes begin at -128.
            DType::I8 => -128.0,
            DType::U8 | DType::I32 | DType::I64 => 0.0,
        };
        for v in output.values.to_mut() {
            *v = (*v - zero) * self.config.step;
        }
        Ok((output, false))
    }
}

impl Stage for Classify {
    fn process(&mut self, packet: Packet, out: &mut dyn Emitter) -> Result<(), StageError> {
        let classes = self.classes(outputs_of(&packet)?)?;
        out.emit(packet.with_payload(Arc::new(classes)));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outputs::tests::{tensor, tensors};
    use flow_frame::{Buffer, Layout, Tensor};

    fn stage(config: &str) -> Classify {
        Classify {
            config: Arc::new(serde_json::from_str(config).unwrap()),
            labels: Arc::new(["a", "b", "c", "d"].into_iter().collect()),
        }
    }

    fn found(config: &str, tensors: &Tensors) -> Vec<(u32, String, f32)> {
        let classes = stage(config).classes(tensors).unwrap();
        let items = classes.items.into_iter();
        items.map(|c| (c.class, c.label.to_string(), c.score)).collect()
    }

    #[test]
    fn logits_become_probabilities_and_probabilities_stay() {
        let logits = tensors(&[("y", tensor(&[1, 3], &[1.0, 3.0, 2.0]))]);
        let got = found(r#"{"top_k": 2}"#, &logits);
        assert_eq!((got[0].0, got[0].1.as_str(), got[1].0), (1, "b", 2));
        let want = 1.0 / (1.0 + (-1f32).exp() + (-2f32).exp());
        assert!((got[0].2 - want).abs() < 1e-6);
        let probabilities = tensors(&[("y", tensor(&[1, 3, 1, 1], &[0.25, 0.5, 0.25]))]);
        let got = found("{}", &probabilities);
        assert_eq!(got.iter().map(|c| c.2).collect::<Vec<_>>(), [0.5, 0.25, 0.25]);
        assert_eq!(got[1].0, 0, "equal scores go by index");
    }

    #[test]
    fn codes_of_a_quantized_softmax_are_256ths() {
        let codes = Tensor {
            dtype: DType::U8,
            shape: vec![1, 4],
            layout: Layout::Other,
            // Small codes were rounded away: the sum is 0.875.
            data: Buffer::copy_of(&[0, 192, 32, 0]),
        };
        let got = found(r#"{"top_k": 1}"#, &tensors(&[("y", codes.clone())]));
        assert_eq!((got[0].0, got[0].2), (1, 0.75));
        let got = found(r#"{"top_k": 1, "offset": 1}"#, &tensors(&[("y", codes)]));
        assert_eq!((got[0].0, got[0].1.as_str(), got[0].2), (0, "a", 0.75));
    }

    #[test]
    fn scores_that_are_not_finite_never_win() {
        let odd = tensors(&[("y", tensor(&[1, 4], &[f32::NAN, 2.0, f32::INFINITY, 1.0]))]);
        let got = found(r#"{"top_k": 4}"#, &odd);
        assert_eq!(got[0].0, 1);
        assert!(got.iter().all(|c| c.2.is_finite()));
    }

    #[test]
    fn maps_are_refused_by_name_and_shape() {
        let map = tensors(&[("heat", tensor(&[1, 2, 2], &[0.0; 4]))]);
        let e = stage("{}").classes(&map).unwrap_err();
        assert!(
            e.message.contains("`heat`") && e.message.contains("[1, 2, 2]"),
            "{e}"
        );
    }
}
