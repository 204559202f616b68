//! Means of values per channel, computed within the network so that only they leave it.

use flow_model::op::{Op, ReduceKind};
use flow_model::{Graph, Node, Tensor, Value};

use crate::data::Dataset;
use crate::error::QuantizeError;
use crate::run::{Progress, Runner};

/// One mean per channel.
pub(super) type Means = Vec<f64>;

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
    let result = push(graph, Op::Result, vec![mean]);
    graph.results.push(result.node);
}

/// Runs a network whose results are means, and gives the mean of each over all samples.
pub(super) fn over_samples(
    mut probe: Graph,
    data: &dyn Dataset,
    threads: usize,
    progress: &dyn Progress,
    phase: &str,
) -> Result<Vec<Means>, QuantizeError> {
    probe.infer_shapes()?;
    let count = probe.results.len();
    let runner = Runner::new(flow_model::passes::eliminate_dead(&probe), threads, progress)?;
    let mut sums: Vec<Means> = vec![Vec::new(); count];
    runner.for_each(
        data,
        phase,
        |(): &mut (), _, outputs| Ok((0..count).map(|i| outputs.values(i)).collect::<Vec<_>>()),
        |_, means| {
            for (sum, mean) in sums.iter_mut().zip(means) {
                sum.resize(mean.len(), 0.0);
                sum.iter_mut().zip(mean).for_each(|(s, m)| *s += f64::from(m));
            }
            Ok(())
        },
    )?;
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
    let mut probe = graph.clone();
    probe.results.clear();
    for &(value, axis) in values {
        push_mean(&mut probe, value, graph.info(value).shape.len(), axis);
    }
    over_samples(probe, data, threads, progress, phase)
}
