//! The work itself: calibration, search, and what goes back to f32.

use flow_model::Graph;
use flow_quantize::{Accuracy, Options, Part, QuantizeError, Quantized, Searched, Space};

use super::division::Division;
use super::metric::Measuring;
use super::progress::Bars;
use super::samples::Samples;
use super::state::State;
use crate::cli::Quantize;
use crate::failure::Failure;

/// What is quantized, on what and how.
pub struct Work<'a> {
    pub args: &'a Quantize,
    /// The f32 network.
    pub graph: &'a Graph,
    pub samples: &'a Samples,
    pub division: &'a Division,
    pub options: &'a Options,
    pub state: &'a State,
    pub bars: &'a Bars,
}

/// What came of it.
pub struct Outcome {
    pub quantized: Quantized,
    /// What was tried, where a search was asked for.
    pub searched: Option<Searched>,
    /// Where a limit of the drop was asked for.
    pub accuracy: Option<Accuracy>,
}

impl Work<'_> {
    /// Quantizes. Where it is stopped, what is known is kept, and the failure says so.
    pub fn run(&self) -> Result<Outcome, Failure> {
        let calibration = Part::new(self.samples, self.division.calibration.clone());
        let searched = match self.args.search {
            true => Some(self.search(&calibration)?),
            false => None,
        };
        let mut quantized = match &searched {
            Some(searched) => searched.best.clone(),
            None => {
                let (graph, options) = (self.graph, self.options);
                let made = flow_quantize::quantize_on(graph, &calibration, options, self.bars, self.state);
                made.map_err(|e| self.failed(e))?
            }
        };
        let accuracy = match self.args.max_drop {
            Some(drop) => Some(self.within(&mut quantized, drop)?),
            None => None,
        };
        Ok(Outcome {
            quantized,
            searched,
            accuracy,
        })
    }

    fn search(&self, calibration: &Part<'_>) -> Result<Searched, Failure> {
        let places = &self.division.choosing;
        let part = Part::new(self.samples, places.clone());
        let mut metric = self.measuring(places, &part).metric()?;
        let (options, space) = (self.options, Space::default());
        flow_quantize::search(
            self.graph,
            calibration,
            options,
            &space,
            &mut *metric,
            self.bars,
            self.state,
        )
        .map_err(|e| self.failed(e))
    }

    fn within(&self, quantized: &mut Quantized, drop: f64) -> Result<Accuracy, Failure> {
        let places = &self.division.measuring;
        let part = Part::new(self.samples, places.clone());
        let mut metric = self.measuring(places, &part).metric()?;
        let (storage, threads) = (self.options.storage, self.options.threads);
        flow_quantize::within(quantized, &mut *metric, drop, &part, storage, threads, self.bars)
            .map_err(|e| self.failed(e))
    }

    fn measuring<'b>(&'b self, places: &'b [usize], part: &'b Part<'b>) -> Measuring<'b> {
        Measuring {
            args: self.args,
            original: self.graph,
            samples: self.samples,
            places,
            part,
            threads: self.options.threads,
            progress: self.bars,
        }
    }

    fn failed(&self, error: QuantizeError) -> Failure {
        // A command that measures ends by the same signal as its caller.
        let stopped = matches!(error, QuantizeError::Stopped) || flow_quantize::Progress::stopped(self.bars);
        if !stopped {
            return Failure::failed(error);
        }
        match self.state.keep() {
            Err(failure) => failure,
            Ok(None) => Failure::failed(QuantizeError::Stopped),
            Ok(Some(path)) => Failure::failed(std::io::Error::other(format!(
                "stopped; {} keeps the calibration so far, and the same command goes on there",
                path.display()
            ))),
        }
    }
}
