//! How well a quantized network does what the f32 network does.

use std::sync::Arc;

use flow_model::Graph;

use crate::data::{Dataset, Part, spread};
use crate::error::QuantizeError;
use crate::run::{Outputs, Progress, Runner, Unheard, output_type};

/// Scores a network: higher is better. A score that is no number counts as the worst there is.
pub trait Metric {
    /// What it is called.
    fn name(&self) -> String;

    /// The score of a quantized network.
    ///
    /// # Errors
    /// If the network does not run, or the score cannot be had.
    fn score(&mut self, graph: &Graph) -> Result<f64, QuantizeError>;

    /// The score of the f32 network.
    ///
    /// # Errors
    /// As [`Metric::score`].
    fn reference(&mut self, graph: &Graph) -> Result<f64, QuantizeError>;

    /// Number of the samples it measures on; `None` where it has data of its own.
    fn samples(&self) -> Option<usize> {
        None
    }

    /// Outputs of the f32 network on all samples it measures on, where it keeps them: the ranking of layers need not
    /// compute them again.
    fn kept_outputs(&self) -> Option<Arc<KeptOutputs>> {
        None
    }
}

/// The score of a network, the worst where it is no number.
pub(crate) fn scored(metric: &mut dyn Metric, graph: &Graph) -> Result<f64, QuantizeError> {
    let score = metric.score(graph)?;
    Ok(if score.is_nan() { f64::NEG_INFINITY } else { score })
}

/// What the outputs of two networks on the same sample are compared by. The f32 network scores 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Likeness {
    /// Share of samples whose greatest value of the first output in floating point stands at the same place; where no
    /// output is in floating point, share of samples whose first output is the same.
    Top1,
    /// Share of output values within a twentieth of the spread of the f32 output; of integers, share of equal ones.
    Agreement,
    /// 1 less the mean over samples and outputs in floating point of `|q - f|^2 / |f|^2`.
    Nmse,
}

impl Likeness {
    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Top1 => "top1",
            Self::Agreement => "agreement",
            Self::Nmse => "nmse",
        }
    }

    /// From 0 to 1 (`Nmse`: to 1), over the outputs of one sample; `float` tells for each output whether it is in
    /// floating point.
    fn of(self, float: &[bool], reference: &[Vec<f32>], found: &[Vec<f32>]) -> f64 {
        let outputs = || float.iter().zip(reference.iter().zip(found));
        let any = float.contains(&true);
        match self {
            Self::Top1 => match outputs().find(|(f, _)| **f || !any) {
                Some((true, (a, b))) => f64::from(u8::from(place_of_greatest(a) == place_of_greatest(b))),
                Some((false, (a, b))) => f64::from(u8::from(a == b)),
                None => 0.0,
            },
            Self::Agreement => mean(outputs().map(|(float, (a, b))| agreement(*float, a, b))),
            Self::Nmse => {
                let compared = outputs().filter(|(float, _)| **float || !any);
                1.0 - mean(compared.map(|(_, (a, b))| nmse(a, b)))
            }
        }
    }
}

/// Share of values that are near each other; none are where the lengths differ.
fn agreement(float: bool, a: &[f32], b: &[f32]) -> f64 {
    if a.len() != b.len() {
        return 0.0;
    }
    let high = a.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let low = a.iter().copied().fold(f32::INFINITY, f32::min);
    let near = if float { (high - low) / 20.0 } else { 0.0 };
    let alike = a.iter().zip(b).filter(|(a, b)| (*a - *b).abs() <= near).count();
    alike as f64 / a.len().max(1) as f64
}

/// `|b - a|^2 / |a|^2`; 1 where the lengths differ.
pub(crate) fn nmse(a: &[f32], b: &[f32]) -> f64 {
    if a.len() != b.len() {
        return 1.0;
    }
    let square = |v: f32| f64::from(v) * f64::from(v);
    let off: f64 = a.iter().zip(b).map(|(a, b)| square(a - b)).sum();
    let whole: f64 = a.iter().map(|a| square(*a)).sum();
    off / whole.max(1e-12)
}

fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (sum, count) = values.fold((0.0, 0usize), |(s, n), v| (s + v, n + 1));
    sum / count.max(1) as f64
}

pub(crate) fn place_of_greatest(values: &[f32]) -> usize {
    let best =
        values.iter().enumerate().fold(
            (0, f32::NEG_INFINITY),
            |best, (at, &v)| if v > best.1 { (at, v) } else { best },
        );
    best.0
}

/// Outputs of the f32 network on samples, in memory.
#[derive(Debug)]
pub struct KeptOutputs {
    /// For each sample each output as f32.
    values: Vec<Vec<Vec<f32>>>,
    /// For each output whether it is in floating point.
    float: Vec<bool>,
}

impl KeptOutputs {
    /// Runs the f32 network over the samples.
    ///
    /// # Errors
    /// If it does not run, or the outputs take more memory than a request may.
    pub fn new(
        original: &Graph,
        data: &dyn Dataset,
        threads: usize,
        progress: &dyn Progress,
    ) -> Result<Self, QuantizeError> {
        let bytes: usize = original
            .results
            .iter()
            .map(|&id| {
                original
                    .info(original.node(id).inputs[0])
                    .static_shape()
                    .unwrap_or_default()
            })
            .map(|shape| shape.iter().fold(4, |bytes: usize, &d| bytes.saturating_mul(d)))
            .fold(0, usize::saturating_add);
        let limit = flow_model::limits::memory() / 4;
        if bytes.saturating_mul(data.len()) > limit {
            return Err(QuantizeError::Metric {
                metric: "by outputs".to_owned(),
                message: format!(
                    "the outputs of {} samples take more than {} MiB; use fewer samples (--held-out), or raise \
                     FLOW_MEMORY_LIMIT",
                    data.len(),
                    limit >> 20
                ),
            });
        }
        let mut values = Vec::with_capacity(data.len());
        let runner = Runner::new(original.clone(), threads, progress)?;
        each_output(&runner, data, "f32 outputs", |_, outputs| {
            values.push(outputs);
            Ok(())
        })?;
        let float = original
            .results
            .iter()
            .map(|&id| output_type(original, id).is_float());
        Ok(Self {
            values,
            float: float.collect(),
        })
    }

    /// Number of samples.
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// The mean likeness of what a network gives for `data`, whose outputs are those at `places` here.
    fn likeness(
        &self,
        likeness: Likeness,
        (data, places): (&dyn Dataset, &[usize]),
        runner: &Runner<'_>,
    ) -> Result<f64, QuantizeError> {
        let mut sum = 0.0;
        each_output(runner, data, "measuring", |at, found| {
            sum += likeness.of(&self.float, &self.values[places[at]], &found);
            Ok(())
        })?;
        Ok(sum / places.len().max(1) as f64)
    }
}

/// Runs a network over the samples, in integers where it is quantized, and gives the outputs of each as f32, in
/// order.
///
/// # Errors
/// If the network does not run on a sample, or `take` fails.
pub fn run_network(
    graph: &Graph,
    data: &dyn Dataset,
    threads: usize,
    progress: &dyn Progress,
    take: impl FnMut(usize, Vec<Vec<f32>>) -> Result<(), QuantizeError>,
) -> Result<(), QuantizeError> {
    let unheard = Unheard(progress);
    each_output(
        &Runner::lowered(graph, threads, &unheard)?,
        data,
        "measuring",
        take,
    )
}

fn each_output(
    runner: &Runner<'_>,
    data: &dyn Dataset,
    phase: &str,
    take: impl FnMut(usize, Vec<Vec<f32>>) -> Result<(), QuantizeError>,
) -> Result<(), QuantizeError> {
    let all = |(): &mut (), _: usize, outputs: &Outputs<'_>| Ok(outputs.all());
    runner.for_each(data, phase, all, take).map(|_| ())
}

/// Compares outputs with those of the f32 network.
pub struct AgainstReference<'a> {
    likeness: Likeness,
    data: &'a dyn Dataset,
    threads: usize,
    progress: &'a dyn Progress,
    outputs: Arc<KeptOutputs>,
}

impl<'a> AgainstReference<'a> {
    /// Runs the f32 network over the samples; its outputs stay in memory.
    ///
    /// # Errors
    /// As [`KeptOutputs::new`].
    pub fn new(
        original: &Graph,
        likeness: Likeness,
        data: &'a dyn Dataset,
        threads: usize,
        progress: &'a dyn Progress,
    ) -> Result<Self, QuantizeError> {
        Ok(Self {
            likeness,
            data,
            threads,
            progress,
            outputs: Arc::new(KeptOutputs::new(original, data, threads, progress)?),
        })
    }
}

impl Metric for AgainstReference<'_> {
    fn name(&self) -> String {
        self.likeness.name().to_owned()
    }

    fn score(&mut self, graph: &Graph) -> Result<f64, QuantizeError> {
        let places: Vec<usize> = (0..self.data.len()).collect();
        let on = (self.data, &places[..]);
        let unheard = Unheard(self.progress);
        let runner = Runner::lowered(graph, self.threads, &unheard)?;
        self.outputs.likeness(self.likeness, on, &runner)
    }

    fn reference(&mut self, _: &Graph) -> Result<f64, QuantizeError> {
        Ok(1.0)
    }

    fn samples(&self) -> Option<usize> {
        Some(self.data.len())
    }

    fn kept_outputs(&self) -> Option<Arc<KeptOutputs>> {
        Some(self.outputs.clone())
    }
}

/// The error of outputs on some of the samples, by which layers are ranked.
pub(crate) struct Ranking<'a> {
    outputs: Arc<KeptOutputs>,
    data: Part<'a>,
    /// For each of `data` its place among the outputs.
    places: Vec<usize>,
    threads: usize,
    progress: &'a dyn Progress,
}

impl<'a> Ranking<'a> {
    /// Ranks on at most `most` of the samples; `kept` are outputs on all of them, if there are.
    pub(crate) fn new(
        original: &Graph,
        kept: Option<Arc<KeptOutputs>>,
        data: &'a dyn Dataset,
        most: usize,
        threads: usize,
        progress: &'a dyn Progress,
    ) -> Result<Self, QuantizeError> {
        let places = spread(data.len(), most);
        let part = Part::new(data, places.clone());
        let (outputs, places) = match kept.filter(|kept| kept.len() == data.len()) {
            Some(kept) => (kept, places),
            None => {
                let kept = KeptOutputs::new(original, &part, threads, progress)?;
                (Arc::new(kept), (0..places.len()).collect())
            }
        };
        Ok(Self {
            outputs,
            data: part,
            places,
            threads,
            progress,
        })
    }

    /// Mean square error of the outputs of a quantized network.
    pub(crate) fn error(&self, graph: &Graph) -> Result<f64, QuantizeError> {
        let on: (&dyn Dataset, _) = (&self.data, &self.places[..]);
        let unheard = Unheard(self.progress);
        let runner = Runner::about(graph, self.threads, &unheard)?;
        let like = self.outputs.likeness(Likeness::Nmse, on, &runner)?;
        Ok(1.0 - like)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn likeness_of_equal_outputs_is_one_and_of_others_less() {
        let a = vec![vec![1.0f32, 5.0, 2.0]];
        let near = vec![vec![1.1f32, 4.9, 2.0]];
        let far = vec![vec![6.0f32, 5.0, 2.0]];
        for likeness in [Likeness::Top1, Likeness::Agreement, Likeness::Nmse] {
            let of = |found: &[Vec<f32>]| likeness.of(&[true], &a, found);
            assert_eq!(of(&a), 1.0, "{likeness:?}");
            assert!(of(&near) > of(&far), "{likeness:?}");
            let shorter = of(&[vec![1.0, 5.0]]);
            assert!(
                shorter <= of(&far).max(0.0) || likeness == Likeness::Top1,
                "{likeness:?}"
            );
        }
        assert_eq!(Likeness::Top1.of(&[true], &a, &far), 0.0);
        assert_eq!(Likeness::Agreement.of(&[true], &a, &far), 2.0 / 3.0);
    }

    #[test]
    fn integer_outputs_are_equal_or_not_and_no_part_of_an_error() {
        let (a, b) = (
            vec![vec![7.0f32, 3.0], vec![1.0, 2.0]],
            vec![vec![8.0f32, 3.0], vec![1.0, 2.0]],
        );
        let of = |likeness: Likeness, float: [bool; 2]| likeness.of(&float, &a, &b);
        assert_eq!(of(Likeness::Nmse, [false, true]), 1.0);
        assert_eq!(of(Likeness::Agreement, [false, true]), 0.75);
        assert_eq!(
            of(Likeness::Top1, [false, true]),
            1.0,
            "by the output in floating point"
        );
        assert_eq!(of(Likeness::Top1, [false, false]), 0.0);
        assert!(of(Likeness::Nmse, [false, false]) < 1.0);
    }
}
