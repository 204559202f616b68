//! What values of a network look like over the samples.

mod sample;

use flow_model::{Graph, Value};

use crate::checkpoint::{Known, Place, Reader, Writer, in_blocks};
use crate::data::Dataset;
use crate::error::QuantizeError;
use crate::histogram::{Counter, Histogram, Loss};
use crate::ranges::{self, Limits};

use crate::run::{Progress, Runner, Steps, made_in_pixels, watching_pixels};
use sample::{Order, Seen, quantile, seen_of};

/// How the range of a value is found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Estimator {
    /// The mean over the samples of each sample's least and greatest value; per channel the least and greatest of all.
    Mean,
    /// The least and the greatest value of all samples.
    Extreme,
    /// The median over the samples of each sample's least and greatest value.
    Median,
    /// As `Mean`, without the share of samples on either side whose values are farthest out.
    MeanNoOutliers(f32),
    /// The mean over the samples of each sample's quantiles: this share of values lies outside on either side.
    Quantile(f32),
    /// The range that makes the mean of `|error|^power` of rounding and clipping least, by a histogram over all samples.
    /// Power 2 is the mean square error; greater powers clip less.
    LeastError(f32),
}

impl Default for Estimator {
    /// The power 2.4 that BRECQ (Li et al., 2021) takes for activations: values that occur seldom, such as those of the
    /// few objects in a picture, are clipped less than the mean square error would have it.
    fn default() -> Self {
        Self::LeastError(2.4)
    }
}

impl Estimator {
    /// The estimator of that name: `mean`, `extreme`, `median`, `mean-no-outliers`, `quantile` (with a share as in
    /// `quantile:1e-4`), `least-error` (with a power as in `least-error:3`) or `mse`, the least error with power 2.
    ///
    /// # Errors
    /// What is wrong with the name.
    pub fn from_name(text: &str) -> Result<Self, String> {
        let (name, argument) = match text.split_once(':') {
            Some((name, argument)) => (name, Some(argument)),
            None => (text, None),
        };
        let share = |default: f32| match argument.map(str::parse::<f32>) {
            None => Ok(default),
            Some(Ok(share)) if (0.0..0.5).contains(&share) => Ok(share),
            Some(_) => Err(format!(
                "`{text}`: expected a share from 0 to 0.5 after the colon"
            )),
        };
        match name {
            "mean-no-outliers" => return Ok(Self::MeanNoOutliers(share(1e-2)?)),
            "quantile" => return Ok(Self::Quantile(share(1e-4)?)),
            "least-error" => {
                return match argument.map(str::parse::<f32>) {
                    None => Ok(Self::default()),
                    Some(Ok(power)) if (1.0..=8.0).contains(&power) => Ok(Self::LeastError(power)),
                    Some(_) => Err(format!("`{text}`: expected a power from 1 to 8 after the colon")),
                };
            }
            _ => {}
        }
        let plain = match name {
            "mean" => Self::Mean,
            "extreme" => Self::Extreme,
            "median" => Self::Median,
            "mse" => Self::LeastError(2.0),
            _ => {
                return Err(format!(
                    "`{text}` is no estimator; expected least-error, mse, mean, extreme, median, mean-no-outliers or quantile"
                ));
            }
        };
        match argument {
            None => Ok(plain),
            Some(_) => Err(format!("`{text}`: {name} takes no number")),
        }
    }
}

impl std::fmt::Display for Estimator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Mean => f.write_str("mean"),
            Self::Extreme => f.write_str("extreme"),
            Self::Median => f.write_str("median"),
            Self::MeanNoOutliers(share) => write!(f, "mean-no-outliers:{share}"),
            Self::Quantile(share) => write!(f, "quantile:{share}"),
            Self::LeastError(2.0) => f.write_str("mse"),
            Self::LeastError(power) => write!(f, "least-error:{power}"),
        }
    }
}

/// A value to look at.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Watch {
    pub value: Value,
    /// Look at each place along axis 1 by itself.
    pub per_channel: bool,
}

/// What one watched value was over all samples, per channel.
#[derive(Debug, Clone, Default)]
pub(crate) struct Observed {
    /// Least value of all.
    pub min: Vec<f32>,
    /// Greatest value of all.
    pub max: Vec<f32>,
    /// Per sample the least value, the greatest value and the greatest magnitude (or quantiles of them).
    each: Vec<[Vec<f32>; 3]>,
    histograms: Vec<Histogram>,
}

/// Runs the network over the samples and looks at the watched values.
pub(crate) fn observe(
    graph: &Graph,
    watches: &[Watch],
    data: &dyn Dataset,
    estimator: Estimator,
    threads: usize,
    progress: &dyn Progress,
    place: Place<'_>,
) -> Result<Vec<Observed>, QuantizeError> {
    let made = made_in_pixels(graph);
    let pixels = |w: &Watch| made[w.value.node.index()];
    let values: Vec<(Value, bool)> = watches.iter().map(|w| (w.value, pixels(w))).collect();
    let orders: Vec<Order> = watches.iter().map(|w| Order::of(graph, *w, pixels(w))).collect();
    let steps = Steps(progress);
    let runner = Runner::new(watching_pixels(graph, &values), threads, &steps)?;
    let known = in_blocks(data, place, "statistics", progress, |part| {
        observe_part(graph, &runner, watches, &orders, part, estimator)
    })?;
    Ok(known.unwrap_or_else(|| watches.iter().map(|_| Observed::default()).collect()))
}

/// Runs the network over some samples.
fn observe_part(
    graph: &Graph,
    runner: &Runner<'_>,
    watches: &[Watch],
    orders: &[Order],
    data: &dyn Dataset,
    estimator: Estimator,
) -> Result<Vec<Observed>, QuantizeError> {
    let mut observed: Vec<Observed> = watches.iter().map(|_| Observed::default()).collect();
    let counters = runner.for_each(
        data,
        "statistics",
        |kept: &mut Vec<Vec<Counter>>, index, outputs| {
            if matches!(estimator, Estimator::LeastError(_)) && kept.is_empty() {
                let counter = |order: &Order| match order.channels {
                    1 => vec![Counter::new(6, true)],
                    channels => vec![Counter::new(4, false); channels],
                };
                *kept = orders.iter().map(counter).collect();
            }
            let mut seen = Vec::with_capacity(watches.len());
            for (at, (watch, &order)) in watches.iter().zip(orders).enumerate() {
                seen.push(outputs.with(at, |values| {
                    let counters = kept.get_mut(at).map_or(&mut [][..], Vec::as_mut_slice);
                    seen_of(values, order, estimator, counters).ok_or_else(|| QuantizeError::NotFinite {
                        index,
                        name: data.name(index),
                        layer: graph.node(watch.value.node).name.to_string(),
                        found: values.iter().filter(|v| !v.is_finite()).count(),
                    })
                })?);
            }
            Ok(seen)
        },
        |_, seen| {
            for (observed, seen) in observed.iter_mut().zip(seen) {
                observed.take(seen, estimator);
            }
            Ok(())
        },
    )?;
    for kept in counters {
        for (observed, counters) in observed.iter_mut().zip(kept) {
            observed.merge(counters.into_iter().map(Counter::finish).collect());
        }
    }
    Ok(observed)
}

impl Known for Observed {
    fn join(&mut self, further: Self) {
        self.min
            .iter_mut()
            .zip(&further.min)
            .for_each(|(a, b)| *a = a.min(*b));
        self.max
            .iter_mut()
            .zip(&further.max)
            .for_each(|(a, b)| *a = a.max(*b));
        self.each.extend(further.each);
        self.merge(further.histograms);
    }

    fn encode(&self, to: &mut Writer) {
        to.floats(&self.min);
        to.floats(&self.max);
        to.number(self.each.len() as u64);
        self.each.iter().flatten().for_each(|values| to.floats(values));
        self.histograms.encode(to);
    }

    fn decode(from: &mut Reader<'_>) -> Option<Self> {
        let (min, max) = (from.floats()?, from.floats()?);
        let rows = from.count(3 * 8)?;
        let each = (0..rows).map(|_| Some([from.floats()?, from.floats()?, from.floats()?]));
        Some(Self {
            min,
            max,
            each: each.collect::<Option<_>>()?,
            histograms: Known::decode(from)?,
        })
    }
}

impl Observed {
    /// Adds the histograms of other samples.
    fn merge(&mut self, histograms: Vec<Histogram>) {
        if self.histograms.is_empty() {
            self.histograms = histograms;
        } else {
            self.histograms.join(histograms);
        }
    }

    fn take(&mut self, seen: Seen, estimator: Estimator) {
        if self.min.is_empty() {
            self.min.clone_from(&seen.min);
            self.max.clone_from(&seen.max);
        }
        self.min
            .iter_mut()
            .zip(&seen.min)
            .for_each(|(a, b)| *a = a.min(*b));
        self.max
            .iter_mut()
            .zip(&seen.max)
            .for_each(|(a, b)| *a = a.max(*b));
        if !matches!(estimator, Estimator::LeastError(_) | Estimator::Extreme) {
            self.each.push(seen.each);
        }
    }

    /// Least value, greatest value and greatest magnitude per channel, as the estimator says.
    pub(crate) fn range(&self, estimator: Estimator) -> [Vec<f32>; 3] {
        let per_channel = self.min.len() > 1;
        let extreme = || {
            let magnitude = self
                .min
                .iter()
                .zip(&self.max)
                .map(|(a, b)| a.abs().max(b.abs()))
                .collect();
            [self.min.clone(), self.max.clone(), magnitude]
        };
        match estimator {
            Estimator::Extreme | Estimator::LeastError(_) => extreme(),
            Estimator::Mean if per_channel => extreme(),
            Estimator::Mean | Estimator::Quantile(_) => self.aggregate(mean),
            Estimator::Median => self.aggregate(|v| quantile(v, 0.5)),
            Estimator::MeanNoOutliers(share) => self.aggregate(|v| mean_within(v, share)),
        }
    }

    fn aggregate(&self, over: impl Fn(&mut [f32]) -> f32) -> [Vec<f32>; 3] {
        [0, 1, 2].map(|kind| {
            (0..self.min.len())
                .map(|c| over(&mut self.each.iter().map(|s| s[kind][c]).collect::<Vec<f32>>()))
                .collect()
        })
    }
}

/// The limits of a FakeQuantize with `levels` levels on values that share them.
pub(crate) fn limits(all: &[&Observed], estimator: Estimator, levels: u32, symmetric: bool) -> Limits {
    let mut joined: Option<[Vec<f32>; 3]> = None;
    for observed in all {
        let range = observed.range(estimator);
        joined = Some(match joined {
            None => range,
            Some([mut min, mut max, mut magnitude]) => {
                min.iter_mut().zip(&range[0]).for_each(|(a, b)| *a = a.min(*b));
                max.iter_mut().zip(&range[1]).for_each(|(a, b)| *a = a.max(*b));
                magnitude
                    .iter_mut()
                    .zip(&range[2])
                    .for_each(|(a, b)| *a = a.max(*b));
                [min, max, magnitude]
            }
        });
    }
    let [min, max, magnitude] = joined.unwrap_or_default();
    let limits = if symmetric {
        ranges::symmetric(&min, &magnitude, levels, false, false)
    } else {
        ranges::asymmetric(&min, &max, levels)
    };
    let Estimator::LeastError(power) = estimator else {
        return limits;
    };
    let mut histograms: Vec<Histogram> = all.first().map(|o| o.histograms.clone()).unwrap_or_default();
    for observed in all.iter().skip(1) {
        histograms
            .iter_mut()
            .zip(&observed.histograms)
            .for_each(|(a, b)| a.merge(b));
    }
    least_error(&histograms, &limits, symmetric, f64::from(power))
}

/// The limits within `widest` that make the mean of `|error|^power` least.
fn least_error(histograms: &[Histogram], widest: &Limits, symmetric: bool, power: f64) -> Limits {
    let mut limits = widest.clone();
    for (c, histogram) in histograms.iter().enumerate() {
        let values = histogram.values();
        let (low, high) = (f64::from(widest.low[c]), f64::from(widest.high[c]));
        let loss = Loss::new(&values, power);
        let cost = |a: f64, b: f64| {
            let (a, b) = (low * a, high * b);
            loss.within(a, b, (b - a) / f64::from(widest.levels - 1))
        };
        let share = |i: u32| 1.0 - f64::from(i) * 0.01;
        let best = |cost: &dyn Fn(f64) -> f64| {
            let shares = (0..90).map(|i| (cost(share(i)), share(i)));
            shares
                .fold((f64::INFINITY, 1.0), |a, b| if b.0 < a.0 { b } else { a })
                .1
        };
        let (a, b) = if symmetric {
            let both = best(&|s| cost(s, s));
            (both, both)
        } else {
            let (mut a, mut b) = (1.0, 1.0);
            for _ in 0..3 {
                b = best(&|s| cost(a, s));
                a = best(&|s| cost(s, b));
            }
            (a, b)
        };
        let (low, high) = ((low * a) as f32, (high * b) as f32);
        (limits.low[c], limits.high[c]) = if symmetric || low >= 0.0 || high <= 0.0 {
            (low, high)
        } else {
            ranges::zero_is_a_level(low, high, widest.levels)
        };
    }
    limits
}

fn mean(values: &mut [f32]) -> f32 {
    let sum: f64 = values.iter().map(|&v| f64::from(v)).sum();
    (sum / values.len().max(1) as f64) as f32
}

/// The mean of what lies between two quantiles.
fn mean_within(values: &mut [f32], share: f32) -> f32 {
    let (low, high) = (quantile(values, share), quantile(values, 1.0 - share));
    let mut within: Vec<f32> = values
        .iter()
        .copied()
        .filter(|v| (low..=high).contains(v))
        .collect();
    mean(&mut within)
}
