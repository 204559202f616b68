//! Two networks side by side: where a quantized one departs from the one it was made from.

use std::collections::HashMap;
use std::time::Duration;

use flow_model::op::Op;
use flow_model::{ElementType, Graph, Value};

use crate::data::Dataset;
use crate::error::QuantizeError;
use crate::metric::{nmse, place_of_greatest};
use crate::run::{Outputs, Progress, Runner, Silent, Unheard, watching};

/// A layer of both networks.
#[derive(Debug, Clone)]
pub struct LayerComparison {
    /// Its name.
    pub name: String,
    /// Type of operation.
    pub kind: String,
    /// Signal to quantization noise, in decibels: `10 log10(sum a^2 / sum (a - b)^2)` over all samples; infinite where
    /// both are equal, not a number where one is not finite and the other differs.
    pub sqnr: f64,
    /// Share of values that the FakeQuantize behind it in the second network clips; none where there is none.
    pub saturated: Option<f64>,
}

/// What the comparison says of outputs.
#[derive(Debug, Clone)]
pub struct OutputComparison {
    /// Name of the output.
    pub name: String,
    /// Mean over samples of `|b - a| / |a|`.
    pub relative_error: f64,
    /// Share of samples whose greatest value stands at the same place.
    pub same_best: f64,
}

/// Two networks side by side.
#[derive(Debug, Clone)]
pub struct Comparison {
    /// Layers that both have, in order.
    pub layers: Vec<LayerComparison>,
    /// Outputs.
    pub outputs: Vec<OutputComparison>,
    /// Samples.
    pub samples: usize,
    /// Time of one inference on one thread: median, of the first and the second network.
    pub times: [Duration; 2],
}

/// Runs two networks over the samples and compares layers of the same name, outputs and speed. Layers are compared in f32,
/// FakeQuantize as it is written.
///
/// # Errors
/// If the networks do not take the same inputs or give as many outputs, or one does not run.
pub fn compare(
    a: &Graph,
    b: &Graph,
    data: &dyn Dataset,
    threads: usize,
    progress: &dyn Progress,
) -> Result<Comparison, QuantizeError> {
    check_alike(a, b)?;
    let pairs = pairs(a, b);
    let outputs = |g: &Graph| {
        g.results
            .iter()
            .map(|&id| g.node(id).inputs[0])
            .collect::<Vec<Value>>()
    };
    let mut first: Vec<Value> = outputs(a);
    let mut second: Vec<Value> = outputs(b);
    let count = first.len();
    first.extend(pairs.iter().map(|p| p.0));
    second.extend(pairs.iter().map(|p| p.1));
    let limits: Vec<Option<(f32, f32)>> = pairs.iter().map(|p| clipped_at(b, p.1)).collect();
    let unheard = Unheard(progress);
    let runner_a = Runner::new(watching(a, &first), threads, &unheard)?;
    let runner_b = Runner::new(watching(b, &second), threads, &unheard)?;
    let mut noise = vec![[0f64; 3]; pairs.len()];
    let mut relative = vec![0f64; count];
    let mut same = vec![0usize; count];
    // A chunk at a time, so that memory is bounded by a few samples.
    let at_once = threads.max(1) * 2;
    progress.phase("comparing", data.len());
    for start in (0..data.len()).step_by(at_once) {
        let chunk = crate::data::Part::new(data, (start..data.len().min(start + at_once)).collect());
        let mut kept: Vec<Vec<Vec<f32>>> = Vec::new();
        let all = |(): &mut (), _: usize, outputs: &Outputs<'_>| Ok(outputs.all());
        runner_a.for_each(&chunk, "comparing", all, |_, values| {
            kept.push(values);
            Ok(())
        })?;
        runner_b.for_each(&chunk, "comparing", all, |at, values| {
            let reference = &kept[at];
            for i in 0..count {
                relative[i] += nmse(&reference[i], &values[i]).sqrt();
                same[i] += usize::from(place_of_greatest(&reference[i]) == place_of_greatest(&values[i]));
            }
            for (i, sums) in noise.iter_mut().enumerate() {
                let (x, y) = (&reference[count + i], &values[count + i]);
                for (x, y) in x.iter().zip(y) {
                    if x == y && x.is_infinite() {
                        continue;
                    }
                    let (x, off) = (f64::from(*x), f64::from(x - y));
                    sums[0] += x * x;
                    sums[1] += off * off;
                }
                if let Some((low, high)) = limits[i] {
                    sums[2] +=
                        y.iter().filter(|y| **y < low || **y > high).count() as f64 / y.len().max(1) as f64;
                }
            }
            progress.step();
            Ok(())
        })?;
    }
    let samples = data.len();
    let mean = |sum: f64| sum / samples.max(1) as f64;
    let layers = pairs
        .iter()
        .zip(&noise)
        .zip(&limits)
        .map(|((pair, sums), limits)| LayerComparison {
            name: a.node(pair.0.node).name.to_string(),
            kind: a.node(pair.0.node).op.type_name().to_owned(),
            sqnr: if sums[1] == 0.0 {
                f64::INFINITY
            } else {
                10.0 * (sums[0] / sums[1]).log10()
            },
            saturated: limits.map(|_| mean(sums[2])),
        })
        .collect();
    let outputs = (0..count)
        .map(|i| OutputComparison {
            name: a.node(a.results[i]).name.to_string(),
            relative_error: mean(relative[i]),
            same_best: mean(same[i] as f64),
        })
        .collect();
    Ok(Comparison {
        layers,
        outputs,
        samples,
        times: [time(a, data)?, time(b, data)?],
    })
}

/// Fails unless both networks take inputs of the same types and shapes, and give outputs of the same shapes.
fn check_alike(a: &Graph, b: &Graph) -> Result<(), QuantizeError> {
    let inputs = |g: &Graph| -> Vec<String> {
        let each = g.parameters.iter().map(|&id| &g.node(id).outputs[0]);
        each.map(flow_model::text::describe).collect()
    };
    let outputs = |g: &Graph| -> Vec<String> {
        let each = g.results.iter().map(|&id| g.info(g.node(id).inputs[0]));
        each.map(|info| {
            format!(
                "{:?}",
                info.shape.iter().map(|d| d.unwrap_or(0)).collect::<Vec<_>>()
            )
        })
        .collect()
    };
    for (what, first, second) in [("takes", inputs(a), inputs(b)), ("gives", outputs(a), outputs(b))] {
        if first != second {
            return Err(QuantizeError::Different(format!(
                "the first {what} {}, the second {}",
                first.join(" and "),
                second.join(" and ")
            )));
        }
    }
    Ok(())
}

/// Values of layers that both networks have and that compute something.
fn pairs(a: &Graph, b: &Graph) -> Vec<(Value, Value)> {
    let names: HashMap<&str, Value> = b
        .iter()
        .filter(|(_, n)| n.outputs.len() == 1)
        .map(|(id, n)| (&*n.name, Value::of(id)))
        .collect();
    let computed = crate::placement::kinds::computed(a);
    let seen = |graph: &Graph, value: Value| {
        let info = graph.info(value);
        (info.element_type == ElementType::F32)
            .then(|| info.static_shape())
            .flatten()
    };
    a.iter()
        .filter(|(id, n)| {
            let passes = matches!(
                n.op,
                Op::Parameter | Op::Result | Op::Reshape { .. } | Op::Squeeze | Op::Unsqueeze
            );
            computed[id.index()] && n.outputs.len() == 1 && !passes
        })
        .filter_map(|(id, n)| Some((Value::of(id), *names.get(&*n.name)?)))
        .filter(|(x, y)| seen(a, *x).is_some() && seen(a, *x) == seen(b, *y))
        .collect()
}

/// The limits of the FakeQuantize per tensor that takes a value.
fn clipped_at(graph: &Graph, value: Value) -> Option<(f32, f32)> {
    let (_, node) = graph
        .iter()
        .find(|(_, n)| matches!(n.op, Op::FakeQuantize { .. }) && n.inputs.first() == Some(&value))?;
    let limit = |port: usize| match &graph.node(node.inputs[port].node).op {
        Op::Constant(tensor) if tensor.len() == 1 => tensor.to_f32().first().copied(),
        _ => None,
    };
    Some((limit(1)?, limit(2)?))
}

/// Median time of an inference on one thread.
fn time(graph: &Graph, data: &dyn Dataset) -> Result<Duration, QuantizeError> {
    let runner = Runner::lowered(graph, 1, &Silent)?;
    let one = crate::data::Part::new(data, vec![0; 40]);
    let mut times = Vec::new();
    runner.for_each(
        &one,
        "timing",
        |(): &mut (), _, outputs| Ok(outputs.spent()),
        |_, spent| {
            times.push(spent);
            Ok(())
        },
    )?;
    times.sort_unstable();
    Ok(times.get(times.len() / 2).copied().unwrap_or_default())
}
