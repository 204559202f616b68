//! Metrics that look at the outputs of each sample.

use flow_model::Graph;
use flow_quantize::{Dataset, Metric, Part, Progress, QuantizeError, run_network};

/// Judges the outputs of a network, sample by sample.
pub trait Judge {
    /// What it is called.
    fn name(&self) -> String;

    /// Begins with a network: the f32 one, or one that is quantized.
    fn begin(&mut self, is_reference: bool);

    /// Takes the outputs of one sample; `place` is its place among all samples.
    ///
    /// # Errors
    /// Why they cannot be judged.
    fn add(&mut self, place: usize, outputs: Vec<Vec<f32>>) -> Result<(), String>;

    /// The score of what was added.
    fn score(&mut self) -> f64;
}

/// A metric that a [`Judge`] is.
pub struct ByOutputs<'a> {
    pub judge: Box<dyn Judge + 'a>,
    pub part: &'a Part<'a>,
    /// For each sample of the part its place among all.
    pub places: &'a [usize],
    pub threads: usize,
    pub progress: &'a dyn Progress,
}

impl ByOutputs<'_> {
    fn run(&mut self, graph: &Graph, is_reference: bool) -> Result<f64, QuantizeError> {
        self.judge.begin(is_reference);
        let (judge, places) = (&mut self.judge, self.places);
        let mut refused = None;
        run_network(graph, self.part, self.threads, self.progress, |at, outputs| {
            if refused.is_none() {
                refused = judge.add(places[at], outputs).err();
            }
            Ok(())
        })?;
        match refused {
            Some(message) => Err(QuantizeError::Metric {
                metric: self.judge.name(),
                message,
            }),
            None => Ok(self.judge.score()),
        }
    }
}

impl Metric for ByOutputs<'_> {
    fn name(&self) -> String {
        self.judge.name()
    }

    fn score(&mut self, graph: &Graph) -> Result<f64, QuantizeError> {
        self.run(graph, false)
    }

    fn reference(&mut self, graph: &Graph) -> Result<f64, QuantizeError> {
        self.run(graph, true)
    }

    fn samples(&self) -> Option<usize> {
        Some(self.part.len())
    }
}
