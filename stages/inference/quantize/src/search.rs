//! Trying combinations of options, and keeping the one that scores best.

use flow_model::Graph;

use crate::bias::BiasCorrection;
use crate::checkpoint::Checkpoint;
use crate::data::Dataset;
use crate::error::QuantizeError;
use crate::metric::{Metric, scored};
use crate::quantize::{Calibration, Options, Preset, Quantized};
use crate::run::Progress;
use crate::statistics::{Estimator, Observed};

/// Values that are tried, each with each.
#[derive(Debug, Clone)]
pub struct Space {
    /// Intervals of activations.
    pub presets: Vec<Preset>,
    /// Ranges of activations.
    pub estimators: Vec<Estimator>,
    /// Corrections of biases.
    pub biases: Vec<BiasCorrection>,
}

impl Default for Space {
    /// Both presets; the estimators that differ most; biases as they are, and corrected each by itself.
    fn default() -> Self {
        Self {
            presets: vec![Preset::Performance, Preset::Mixed],
            estimators: vec![
                Estimator::default(),
                Estimator::LeastError(2.0),
                Estimator::Mean,
                Estimator::Extreme,
                Estimator::Quantile(1e-4),
            ],
            biases: vec![BiasCorrection::Fast, BiasCorrection::None],
        }
    }
}

/// A combination, and how it scored.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Trial {
    /// Intervals of activations.
    pub preset: Preset,
    /// Ranges of activations.
    pub estimator: Estimator,
    /// Correction of biases.
    pub bias: BiasCorrection,
    /// The score; negative infinity where it was no number.
    pub score: f64,
}

impl std::fmt::Display for Trial {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let text = format!("{:?}, {}, bias {:?}", self.preset, self.estimator, self.bias);
        f.write_str(&text.to_lowercase())
    }
}

/// What a search found.
#[derive(Debug, Clone)]
pub struct Searched {
    /// The network that scored best; of equals the one tried first, the combination of the options before all.
    pub best: Quantized,
    /// The score of the f32 network.
    pub reference: f64,
    /// All combinations, in the order they were tried.
    pub trials: Vec<Trial>,
    /// The place of the best among them.
    pub chosen: usize,
}

/// Quantizes with each combination, and keeps the best by a metric. The samples are looked at once per estimator.
///
/// # Errors
/// As [`quantize()`](crate::quantize()), and if a network cannot be scored.
pub fn search(
    graph: &Graph,
    data: &dyn Dataset,
    options: &Options,
    space: &Space,
    metric: &mut dyn Metric,
    progress: &dyn Progress,
    checkpoint: &dyn Checkpoint,
) -> Result<Searched, QuantizeError> {
    let reference = metric.reference(graph)?;
    let calibration = Calibration::new(graph, data, options, progress, checkpoint)?;
    let (mut trials, mut best): (Vec<Trial>, Option<(usize, Quantized)>) = (Vec::new(), None);
    let mut looked: Option<(Estimator, Vec<Observed>)> = None;
    for estimator in first_then(options.estimator, &space.estimators) {
        let observed = match looked.take() {
            Some((before, observed)) if alike(before, estimator) => observed,
            _ => calibration.observe(estimator)?,
        };
        for preset in first_then(options.preset, &space.presets) {
            for bias in first_then(options.bias, &space.biases) {
                let tried = Options {
                    preset,
                    estimator,
                    bias,
                    ..options.clone()
                };
                let quantized = calibration.finish(&observed, &tried)?;
                let score = scored(metric, &quantized.graph)?;
                let better = best.as_ref().is_none_or(|(at, _)| score > trials[*at].score);
                trials.push(Trial {
                    preset,
                    estimator,
                    bias,
                    score,
                });
                if better {
                    best = Some((trials.len() - 1, quantized));
                }
            }
        }
        looked = Some((estimator, observed));
    }
    let (chosen, best) = best.ok_or_else(|| QuantizeError::Nothing("no combination to try".to_owned()))?;
    Ok(Searched {
        best,
        reference,
        trials,
        chosen,
    })
}

/// Whether two estimators take the same statistics.
fn alike(a: Estimator, b: Estimator) -> bool {
    a == b || matches!((a, b), (Estimator::LeastError(_), Estimator::LeastError(_)))
}

/// The values to try: that of the options first, then the others.
fn first_then<T: Copy + PartialEq>(first: T, others: &[T]) -> Vec<T> {
    let others = others.iter().copied().filter(|other| *other != first);
    std::iter::once(first).chain(others).collect()
}
