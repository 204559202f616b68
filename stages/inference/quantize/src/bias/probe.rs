//! Means over samples.

use flow_model::op::{Op, ReduceKind};
use flow_model::{Graph, Node, Tensor, Value};

use crate::checkpoint::{Forgetful, Known, Place, Reader, Writer, in_blocks};
use crate::data::Dataset;
use crate::error::QuantizeError;
use crate::run::{Outputs, Progress, Runner, Steps};

/// One mean per channel.
pub(super) type Means = Vec<f64>;

/// Sums of means over samples.
struct Sums(Vec<Means>);

impl Known for Sums {
    fn join(&mut self, further: Self) {
        let (own, further) = (self.0.iter_mut().flatten(), further.0.into_iter().flatten());
        own.zip(further).for_each(|(a, b)| *a += b);
    }

    fn encode(&self, to: &mut Writer) {
        to.number(self.0.len() as u64);
        self.0.iter().for_each(|sums| to.doubles(sums));
    }

    fn decode(from: &mut Reader<'_>) -> Option<Self> {
        (0..from.count(8)?)
            .map(|_| from.doubles())
            .collect::<Option<_>>()
            .map(Self)
    }
}

/// Appends a node.
pub(super) fn push(graph: &mut Graph, op: Op, inputs: Vec<Value>) -> Value {
    let name = format!("probe {}", graph.nodes.len());
    let id = graph.push(Node {
        name: name.as_str().into(),
        line: 0,
        op,
        inputs,
        outputs: Vec::new(),
    });
    Value::of(id)
}

/// Appends a Result of a value.
pub(crate) fn watch(graph: &mut Graph, value: Value) {
    let result = push(graph, Op::Result, vec![value]);
    graph.results.push(result.node);
}

/// Appends the mean of a value of `rank` axes along all but one, and a Result of it.
pub(super) fn push_mean(graph: &mut Graph, value: Value, rank: usize, axis: usize) {
    let axes: Vec<i64> = (0..rank).filter(|&a| a != axis).map(|a| a as i64).collect();
    let Ok(axes) = Tensor::from_slice(&[axes.len()], &axes) else {
        return;
    };
    let axes = push(graph, Op::Constant(axes), Vec::new());
    let mean = Op::Reduce {
        kind: ReduceKind::Mean,
        keep_dims: false,
    };
    let mean = push(graph, mean, vec![value, axes]);
    watch(graph, mean);
}

/// Runs a network, and gives the mean over all samples of what `take` makes of each result.
pub(super) fn over_samples(
    mut probe: Graph,
    data: &dyn Dataset,
    threads: usize,
    progress: &dyn Progress,
    phase: &str,
    place: Place<'_>,
    take: impl Fn(usize, &[f32]) -> Means + Sync,
) -> Result<Vec<Means>, QuantizeError> {
    probe.infer_shapes()?;
    let count = probe.results.len();
    let steps = Steps(progress);
    let runner = Runner::new(flow_model::passes::eliminate_dead(&probe), threads, &steps)?;
    let sums = in_blocks(data, place, phase, progress, |part| {
        let mut sums: Vec<Means> = vec![Vec::new(); count];
        let all = |(): &mut (), _: usize, outputs: &Outputs<'_>| {
            let take = |at| outputs.with(at, |values| take(at, values));
            Ok((0..count).map(take).collect::<Vec<Means>>())
        };
        runner.for_each(part, phase, all, |_, means| {
            for (sum, mean) in sums.iter_mut().zip(means) {
                sum.resize(mean.len(), 0.0);
                sum.iter_mut().zip(mean).for_each(|(s, m)| *s += m);
            }
            Ok(())
        })?;
        Ok(Sums(sums))
    })?;
    let mut sums = sums.map_or_else(|| vec![Vec::new(); count], |sums| sums.0);
    let samples = data.len().max(1) as f64;
    sums.iter_mut().flatten().for_each(|s| *s /= samples);
    Ok(sums)
}

/// The mean of each value along all axes but the one given with it.
pub(super) fn channel_means(
    graph: &Graph,
    values: &[(Value, usize)],
    data: &dyn Dataset,
    threads: usize,
    progress: &dyn Progress,
    phase: &str,
) -> Result<Vec<Means>, QuantizeError> {
    let nowhere = Place {
        at: &Forgetful,
        name: "",
    };
    let mut probe = graph.clone();
    probe.results.clear();
    for &(value, axis) in values {
        push_mean(&mut probe, value, graph.info(value).shape.len(), axis);
    }
    let take = |_: usize, values: &[f32]| values.iter().map(|&v| f64::from(v)).collect();
    over_samples(probe, data, threads, progress, phase, nowhere, take)
}
