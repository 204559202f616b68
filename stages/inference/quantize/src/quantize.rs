//! From a network in floating point to a quantized one.

use std::collections::BTreeMap;

use flow_model::op::Op;
use flow_model::{Graph, NodeId};

use crate::bias::{self, BiasCorrection};
use crate::checkpoint::{self, Checkpoint, Forgetful};
use crate::data::Dataset;
use crate::error::QuantizeError;
use crate::ignore::ignored;
use crate::insert::{Scheme, WeightStorage, insert};
use crate::placement::{ActivationPoint, Left, Placement, PlacementOptions, place};
use crate::ranges::Limits;
use crate::rounding;
use crate::run::{Progress, in_parallel};
use crate::statistics::{Estimator, Observed, Watch, limits, observe};
use crate::weights::{self, WeightRange};

/// Levels of activations.
const LEVELS: u32 = 256;

/// Which intervals activations get.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Preset {
    /// Around zero, or from zero where nothing is negative.
    #[default]
    Performance,
    /// Of any place, with a zero point, wherever something is negative.
    Mixed,
}

/// Which weights use half of their range, for machines whose 8-bit sums saturate. Kernels here are exact and need none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OverflowFix {
    /// None.
    #[default]
    None,
    /// Those of the first operations behind the inputs.
    First,
    /// All.
    All,
}

/// How to quantize.
#[derive(Debug, Clone)]
pub struct Options {
    /// Intervals of activations.
    pub preset: Preset,
    /// Ranges of activations.
    pub estimator: Estimator,
    /// Ranges of weights.
    pub weight_range: WeightRange,
    /// Choose for each weight the code below or above it by what that does to the output of its layer, in place of the nearest.
    pub adaround: bool,
    /// Correction of biases.
    pub bias: BiasCorrection,
    /// Weights that use half of their range.
    pub overflow_fix: OverflowFix,
    /// Layers left in floating point: names, types, regular expressions.
    pub ignore: Vec<String>,
    /// Quantize operations behind the last weights as well.
    pub quantize_tail: bool,
    /// For each input limits that are known beforehand, such that 256 levels are exactly the values it takes.
    pub inputs: Vec<Option<(f32, f32)>>,
    /// How weights are stored.
    pub storage: WeightStorage,
    /// Threads to run on.
    pub threads: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            preset: Preset::default(),
            estimator: Estimator::default(),
            weight_range: WeightRange::default(),
            adaround: false,
            bias: BiasCorrection::default(),
            overflow_fix: OverflowFix::default(),
            ignore: Vec::new(),
            quantize_tail: false,
            inputs: Vec::new(),
            storage: WeightStorage::default(),
            threads: std::thread::available_parallelism().map_or(1, usize::from),
        }
    }
}

/// A quantized network, and how it came about.
#[derive(Debug, Clone)]
pub struct Quantized {
    /// The network, with FakeQuantize.
    pub graph: Graph,
    /// The network it was made from: in f32, constants folded.
    pub original: Graph,
    /// What was decided.
    pub scheme: Scheme,
    /// Operations that could be quantized and are not.
    pub left: Vec<(NodeId, Left)>,
}

/// A network ready for quantization: in f32, bodies that run a known number of times spelled out, constants folded.
///
/// # Errors
/// If it is quantized already or the length of an input's axis is open.
pub fn prepare(graph: &Graph) -> Result<Graph, QuantizeError> {
    let graph = flow_model::half::in_f32(graph).unwrap_or_else(|| graph.clone());
    let graph = flow_model::unroll::inline_bodies(&graph)?;
    if let Some(node) = graph
        .nodes
        .iter()
        .find(|n| matches!(n.op, Op::FakeQuantize { .. }))
    {
        return Err(QuantizeError::AlreadyQuantized {
            layer: node.name.to_string(),
        });
    }
    for (index, &id) in graph.parameters.iter().enumerate() {
        let node = graph.node(id);
        let output = &node.outputs[0];
        if output.static_shape().is_none() {
            let example: Vec<String> = output.shape.iter().map(|d| d.unwrap_or(1).to_string()).collect();
            return Err(QuantizeError::OpenShape {
                input: node.name.to_string(),
                shape: graph.input_shape_text(index),
                example: format!("[{}]", example.join(",")),
            });
        }
    }
    Ok(flow_model::passes::fold_constants(&graph)?)
}

/// Quantizes a network that [`prepare`] made ready, with ranges and corrections from the samples.
///
/// # Errors
/// If there is nothing to quantize, a sample does not fit or gives values that are not finite, or the caller stops it.
pub fn quantize(
    graph: &Graph,
    data: &dyn Dataset,
    options: &Options,
    progress: &dyn Progress,
) -> Result<Quantized, QuantizeError> {
    quantize_on(graph, data, options, progress, &Forgetful)
}

/// The same, going on where an earlier run with the same network, samples and options left off; the caller sees to it that
/// they are the same.
///
/// # Errors
/// As [`quantize()`], and if what is known cannot be kept.
pub fn quantize_on(
    graph: &Graph,
    data: &dyn Dataset,
    options: &Options,
    progress: &dyn Progress,
    checkpoint: &dyn Checkpoint,
) -> Result<Quantized, QuantizeError> {
    let calibration = Calibration::new(graph, data, options, progress, checkpoint)?;
    let observed = calibration.observe(options.estimator)?;
    calibration.finish(&observed, options)
}

/// Where a network is quantized, and what it is calibrated on.
pub(crate) struct Calibration<'a> {
    graph: &'a Graph,
    data: &'a dyn Dataset,
    threads: usize,
    progress: &'a dyn Progress,
    checkpoint: &'a dyn Checkpoint,
    placement: Placement,
}

impl<'a> Calibration<'a> {
    pub(crate) fn new(
        graph: &'a Graph,
        data: &'a dyn Dataset,
        options: &Options,
        progress: &'a dyn Progress,
        checkpoint: &'a dyn Checkpoint,
    ) -> Result<Self, QuantizeError> {
        let ignored = ignored(graph, &options.ignore)?;
        let placement = place(
            graph,
            &PlacementOptions {
                ignored: &ignored,
                quantize_tail: options.quantize_tail,
            },
        );
        if placement.weights.is_empty() {
            let why = "the network has no convolution or matrix product with constant weights that may be quantized";
            return Err(QuantizeError::Nothing(why.to_owned()));
        }
        // Before the samples: every one of them would give values that are not finite.
        for point in &placement.weights {
            let node = graph.node(point.edge.node);
            if let Op::Constant(values) = &graph.node(node.inputs[point.edge.port].node).op
                && !values.to_f32().iter().all(|v| v.is_finite())
            {
                return Err(QuantizeError::WeightNotFinite {
                    layer: node.name.to_string(),
                });
            }
        }
        Ok(Self {
            graph,
            data,
            threads: options.threads,
            progress,
            checkpoint,
            placement,
        })
    }

    /// Looks at the values of the network over the samples.
    pub(crate) fn observe(&self, estimator: Estimator) -> Result<Vec<Observed>, QuantizeError> {
        let watches = watches(&self.placement.activations);
        let place = checkpoint::Place {
            at: self.checkpoint,
            name: &match estimator {
                // Whatever the power.
                Estimator::LeastError(_) => "statistics, histograms".to_owned(),
                other => format!("statistics, {other}"),
            },
        };
        let (data, threads, progress) = (self.data, self.threads, self.progress);
        observe(self.graph, &watches, data, estimator, threads, progress, place)
    }

    /// Turns what was seen, with the estimator of the options, into a quantized network.
    pub(crate) fn finish(
        &self,
        observed: &[Observed],
        options: &Options,
    ) -> Result<Quantized, QuantizeError> {
        let mut scheme = scheme(self.graph, &self.placement, observed, options)?;
        let place = checkpoint::Place {
            at: self.checkpoint,
            name: &format!(
                "bias {:?}, {}, {:?}",
                options.bias, options.estimator, options.preset
            ),
        };
        let (data, threads, progress) = (self.data, self.threads, self.progress);
        if options.adaround {
            let centred = options.bias != BiasCorrection::None;
            rounding::round(self.graph, &mut scheme, centred, data, threads, progress)?;
        }
        scheme.shifts = bias::correct(options.bias, self.graph, &scheme, data, threads, progress, place)?;
        Ok(Quantized {
            graph: insert(self.graph, &scheme, options.storage)?,
            original: self.graph.clone(),
            scheme,
            left: self.placement.left.clone(),
        })
    }
}

fn watches(points: &[ActivationPoint]) -> Vec<Watch> {
    let watch = |p: &ActivationPoint| Watch {
        value: p.value,
        per_channel: p.per_channel,
    };
    points.iter().map(watch).collect()
}

/// Limits of all that is placed.
fn scheme(
    graph: &Graph,
    placement: &Placement,
    observed: &[Observed],
    options: &Options,
) -> Result<Scheme, QuantizeError> {
    let mut groups: BTreeMap<usize, Vec<&Observed>> = BTreeMap::new();
    for (point, observed) in placement.activations.iter().zip(observed) {
        if let Some(group) = point.unified {
            groups.entry(group).or_default().push(observed);
        }
    }
    let mut scheme = Scheme::default();
    let found = in_parallel(
        placement.activations.len().min(observed.len()),
        options.threads,
        |at| {
            let (point, observed) = (&placement.activations[at], &observed[at]);
            let symmetric = point.symmetric || options.preset == Preset::Performance;
            let alone = [observed];
            let all = point
                .unified
                .and_then(|g| groups.get(&g))
                .map_or(&alone[..], Vec::as_slice);
            let known = graph.parameters.iter().position(|&id| id == point.value.node);
            let known = known.and_then(|at| options.inputs.get(at).copied().flatten());
            match known {
                Some((low, high)) if point.unified.is_none() => Limits {
                    low: vec![low],
                    high: vec![high],
                    levels: LEVELS,
                },
                _ => limits(all, options.estimator, LEVELS, symmetric),
            }
        },
    );
    scheme.activations = placement.activations.iter().cloned().zip(found).collect();
    let first = first_layers(graph);
    let found = in_parallel(placement.weights.len(), options.threads, |at| {
        let point = &placement.weights[at];
        let node = graph.node(point.edge.node);
        let Op::Constant(values) = &graph.node(node.inputs[point.edge.port].node).op else {
            return Ok(None);
        };
        let half = match options.overflow_fix {
            OverflowFix::None => false,
            OverflowFix::First => first[point.edge.node.index()],
            OverflowFix::All => true,
        };
        weights::quantize(&node.name, values, &point.axes, options.weight_range, half).map(Some)
    });
    for (point, quantized) in placement.weights.iter().zip(found) {
        scheme
            .weights
            .extend(quantized?.map(|quantized| (point.clone(), quantized)));
    }
    Ok(scheme)
}

/// For each node whether it is a linear operation that no other comes before.
fn first_layers(graph: &Graph) -> Vec<bool> {
    use crate::placement::kinds::{computed, is_linear};
    let computed = computed(graph);
    let mut behind = vec![false; graph.nodes.len()];
    let mut first = vec![false; graph.nodes.len()];
    for (id, node) in graph.iter() {
        let before = node.inputs.iter().any(|v| behind[v.node.index()]);
        first[id.index()] = is_linear(&node.op) && computed[id.index()] && !before;
        behind[id.index()] = before || is_linear(&node.op);
    }
    first
}
