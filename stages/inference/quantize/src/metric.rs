//! How well a quantized network does what the f32 network does.

use flow_model::Graph;

use crate::data::Dataset;
use crate::error::QuantizeError;
use crate::run::{Progress, Runner, Silent};

/// Scores a network: higher is better.
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
}

/// What the outputs of two networks on the same sample are compared by. The f32 network scores 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Likeness {
    /// Share of samples whose greatest value of the first output stands at the same place.
    Top1,
    /// Share of output values within a twentieth of the spread of the f32 output.
    Agreement,
    /// 1 less the mean over samples and outputs of `|q - f|^2 / |f|^2`.
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

    fn of(self, reference: &[Vec<f32>], found: &[Vec<f32>]) -> f64 {
        match self {
            Self::Top1 => match (reference.first(), found.first()) {
                (Some(a), Some(b)) => f64::from(u8::from(place_of_greatest(a) == place_of_greatest(b))),
                _ => 0.0,
            },
            Self::Agreement => mean_of(reference, found, |a, b| {
                let high = a.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                let low = a.iter().copied().fold(f32::INFINITY, f32::min);
                let near = (high - low) / 20.0;
                let alike = a.iter().zip(b).filter(|(a, b)| (*a - *b).abs() <= near).count();
                alike as f64 / a.len().max(1) as f64
            }),
            Self::Nmse => 1.0 - mean_of(reference, found, nmse),
        }
    }
}

/// `|b - a|^2 / |a|^2`.
pub(crate) fn nmse(a: &[f32], b: &[f32]) -> f64 {
    let square = |v: f32| f64::from(v) * f64::from(v);
    let off: f64 = a.iter().zip(b).map(|(a, b)| square(a - b)).sum();
    let whole: f64 = a.iter().map(|a| square(*a)).sum();
    off / whole.max(1e-12)
}

fn mean_of(a: &[Vec<f32>], b: &[Vec<f32>], of: impl Fn(&[f32], &[f32]) -> f64) -> f64 {
    let sum: f64 = a.iter().zip(b).map(|(a, b)| of(a, b)).sum();
    sum / a.len().max(1) as f64
}

pub(crate) fn place_of_greatest(values: &[f32]) -> usize {
    let best =
        values.iter().enumerate().fold(
            (0, f32::NEG_INFINITY),
            |best, (at, &v)| if v > best.1 { (at, v) } else { best },
        );
    best.0
}

/// Compares outputs with those of the f32 network.
pub struct AgainstReference<'a> {
    likeness: Likeness,
    data: &'a dyn Dataset,
    threads: usize,
    progress: &'a dyn Progress,
    outputs: Vec<Vec<Vec<f32>>>,
}

impl<'a> AgainstReference<'a> {
    /// Runs the f32 network over the samples; its outputs stay in memory.
    ///
    /// # Errors
    /// If it does not run, or the outputs take more memory than a request may.
    pub fn new(
        original: &Graph,
        likeness: Likeness,
        data: &'a dyn Dataset,
        threads: usize,
        progress: &'a dyn Progress,
    ) -> Result<Self, QuantizeError> {
        let fault = |message: String| QuantizeError::Metric {
            metric: likeness.name().to_owned(),
            message,
        };
        let bytes: usize = original
            .results
            .iter()
            .map(|&id| original.info(original.node(id).inputs[0]))
            .map(|info| {
                info.static_shape()
                    .unwrap_or_default()
                    .iter()
                    .product::<usize>()
                    .saturating_mul(4)
            })
            .fold(0, usize::saturating_add);
        let limit = flow_model::limits::memory() / 4;
        if bytes.saturating_mul(data.len()) > limit {
            return Err(fault(format!(
                "the outputs of {} samples take more than {} MiB; use fewer samples, or raise FLOW_MEMORY_LIMIT",
                data.len(),
                limit >> 20
            )));
        }
        if let Some(&id) = original.results.iter().find(|&&id| {
            original.info(original.node(id).inputs[0]).element_type != flow_model::ElementType::F32
        }) {
            return Err(fault(format!(
                "output \"{}\" is not f32; give a command that scores the model instead",
                original.node(id).name
            )));
        }
        let runner = Runner::new(original.clone(), threads, progress)?;
        let outputs = outputs(&runner, original.results.len(), data, "f32 outputs")?;
        Ok(Self {
            likeness,
            data,
            threads,
            progress,
            outputs,
        })
    }

    fn score_of(&self, graph: &Graph, likeness: Likeness, every: usize) -> Result<f64, QuantizeError> {
        let runner = Runner::lowered(graph, self.threads, &Silent)?;
        let indices: Vec<usize> = (0..self.data.len()).step_by(every.max(1)).collect();
        let part = crate::data::Part::new(self.data, indices.clone());
        if self.progress.stopped() {
            return Err(QuantizeError::Stopped);
        }
        let mut sum = 0.0;
        let count = graph.results.len();
        runner.for_each(
            &part,
            "measuring",
            |(): &mut (), at, outputs| {
                let found: Vec<Vec<f32>> = (0..count).map(|i| outputs.values(i)).collect();
                Ok(likeness.of(&self.outputs[indices[at]], &found))
            },
            |_, score| {
                sum += score;
                Ok(())
            },
        )?;
        Ok(sum / indices.len().max(1) as f64)
    }

    /// Mean square error of outputs on at most `samples` of the samples, for ranking.
    pub(crate) fn error(&self, graph: &Graph, samples: usize) -> Result<f64, QuantizeError> {
        let every = self.data.len().div_ceil(samples.max(1));
        Ok(1.0 - self.score_of(graph, Likeness::Nmse, every)?)
    }
}

impl Metric for AgainstReference<'_> {
    fn name(&self) -> String {
        self.likeness.name().to_owned()
    }

    fn score(&mut self, graph: &Graph) -> Result<f64, QuantizeError> {
        self.score_of(graph, self.likeness, 1)
    }

    fn reference(&mut self, _: &Graph) -> Result<f64, QuantizeError> {
        Ok(1.0)
    }
}

/// All outputs for all samples.
fn outputs(
    runner: &Runner<'_>,
    count: usize,
    data: &dyn Dataset,
    phase: &str,
) -> Result<Vec<Vec<Vec<f32>>>, QuantizeError> {
    let mut all = Vec::with_capacity(data.len());
    runner.for_each(
        data,
        phase,
        |(): &mut (), _, outputs| Ok((0..count).map(|i| outputs.values(i)).collect::<Vec<_>>()),
        |_, values| {
            all.push(values);
            Ok(())
        },
    )?;
    Ok(all)
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
            assert_eq!(likeness.of(&a, &a), 1.0, "{likeness:?}");
            assert!(likeness.of(&a, &near) > likeness.of(&a, &far), "{likeness:?}");
        }
        assert_eq!(Likeness::Top1.of(&a, &far), 0.0);
        assert_eq!(Likeness::Agreement.of(&a, &far), 2.0 / 3.0);
    }
}
