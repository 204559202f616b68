//! What `--metric` names.

mod by_outputs;
mod classes;
mod command;
mod detections;

use flow_model::Graph;
use flow_quantize::{AgainstReference, Likeness, Metric, Part, Progress};

use super::samples::Samples;
use crate::cli::Quantize;
use crate::failure::Failure;
use by_outputs::ByOutputs;
use classes::TrueClasses;
use detections::Precision;

/// Where a metric measures.
pub struct Measuring<'a> {
    pub args: &'a Quantize,
    /// The f32 network.
    pub original: &'a Graph,
    pub samples: &'a Samples,
    /// The samples that it measures on.
    pub places: &'a [usize],
    /// These samples.
    pub part: &'a Part<'a>,
    pub threads: usize,
    pub progress: &'a dyn Progress,
}

impl<'a> Measuring<'a> {
    /// The metric that `--metric` names.
    pub fn metric(&self) -> Result<Box<dyn Metric + 'a>, Failure> {
        let args = self.args;
        match (args.metric.as_str(), &args.truth) {
            ("top1", None) => self.likeness(Likeness::Top1),
            ("agreement", None) => self.likeness(Likeness::Agreement),
            ("nmse", None) => self.likeness(Likeness::Nmse),
            ("top1", Some(file)) => {
                let judge = TrueClasses::read(file, self.original, self.samples, self.places)?;
                Ok(self.by_outputs(Box::new(judge)))
            }
            (name @ ("map" | "map50"), _) => {
                let judge = Precision::new(name, self)?;
                Ok(self.by_outputs(Box::new(judge)))
            }
            (name, Some(_)) => Err(Failure::usage(format!(
                "--truth belongs to --metric top1, map or map50, not to `{name}`"
            ))),
            (_, None) => Ok(Box::new(command::Command::new(&args.metric, &args.output)?)),
        }
    }

    fn likeness(&self, likeness: Likeness) -> Result<Box<dyn Metric + 'a>, Failure> {
        let metric = AgainstReference::new(self.original, likeness, self.part, self.threads, self.progress);
        Ok(Box::new(metric.map_err(Failure::failed)?))
    }

    fn by_outputs(&self, judge: Box<dyn by_outputs::Judge + 'a>) -> Box<dyn Metric + 'a> {
        Box::new(ByOutputs {
            judge,
            part: self.part,
            places: self.places,
            threads: self.threads,
            progress: self.progress,
        })
    }
}
