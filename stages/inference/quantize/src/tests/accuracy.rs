//! Thresholds hold on a network built to be hard.

use std::sync::atomic::{AtomicUsize, Ordering};

use flow_model::op::Op;
use flow_model::{Graph, evaluate};

use crate::testing::{Net, samples};
use crate::{
    Accuracy, AgainstReference, BiasCorrection, Estimator, Likeness, Metric, Options, Part, Progress,
    QuantizeError, Silent, WeightStorage, compare, prepare, quantize, within,
};

const SHAPE: [usize; 4] = [1, 4, 8, 8];
/// Drop that is allowed.
const LIMIT: f64 = 0.005;

/// One channel of the first layer is a thousand times as large as the others, and the layer behind it takes it away
/// again: one scale for all channels cannot hold both.
fn outliers() -> Graph {
    let mut net = Net::default();
    let x = net.input(&SHAPE);
    let mut weights = net.random(8 * 4 * 9);
    weights[..36].iter_mut().for_each(|w| *w *= 1000.0);
    let a = net.convolution("loud", x, Op::Convolution, &[8, 4, 3, 3], &weights, 8);
    let a = net.relu("loud/relu", a);
    let mut weights = net.random(8 * 8 * 9);
    weights
        .iter_mut()
        .enumerate()
        .filter(|(i, _)| i / 9 % 8 == 0)
        .for_each(|(_, w)| *w *= 0.001);
    let b = net.convolution("quiet", a, Op::Convolution, &[8, 8, 3, 3], &weights, 8);
    let b = net.relu("quiet/relu", b);
    let c = net.conv("last", b, 4);
    net.result(&[c])
}

#[test]
fn layers_go_back_to_f32_until_the_drop_is_within_the_threshold() {
    let graph = prepare(&outliers()).unwrap();
    let data = samples(&SHAPE, 24);
    let (calibration, held) = (
        Part::new(&data, (0..12).collect()),
        Part::new(&data, (12..24).collect()),
    );
    let options = Options {
        estimator: Estimator::Extreme,
        ..Options::default()
    };
    let mut quantized = quantize(&graph, &calibration, &options, &Silent).unwrap();
    let all = quantized.scheme.weights.len();
    let mut metric = AgainstReference::new(&graph, Likeness::Nmse, &held, 2, &Silent).unwrap();
    let accuracy = within(
        &mut quantized,
        &mut metric,
        LIMIT,
        &held,
        WeightStorage::I8,
        2,
        &Silent,
    )
    .unwrap();
    assert!(
        accuracy.quantized < 1.0 - 0.01,
        "the network is not hard: {accuracy:?}"
    );
    assert!(accuracy.holds() && !accuracy.reverted.is_empty(), "{accuracy:?}");
    assert!(
        accuracy.reverted[0].layers.contains(&"quiet".to_owned()),
        "{accuracy:?}"
    );
    assert!(!quantized.scheme.weights.is_empty() && quantized.scheme.weights.len() < all);
    // By the plain evaluator, on the samples that were held out.
    let (mut off, mut count) = (0.0, 0.0);
    for sample in &data.0[12..] {
        let f = evaluate(&graph, sample).unwrap()[0].to_f64();
        let q = evaluate(&quantized.graph, sample).unwrap()[0].to_f64();
        let square = |v: f64| v * v;
        let whole: f64 = f.iter().map(|f| square(*f)).sum();
        off += f.iter().zip(&q).map(|(f, q)| square(f - q)).sum::<f64>() / whole;
        count += 1.0;
    }
    assert!(off / count <= LIMIT * 1.1, "{}", off / count);
}

#[test]
fn a_threshold_that_holds_reverts_nothing() {
    let graph = prepare(&outliers()).unwrap();
    let data = samples(&SHAPE, 6);
    let mut quantized = quantize(&graph, &data, &Options::default(), &Silent).unwrap();
    let mut metric = AgainstReference::new(&graph, Likeness::Nmse, &data, 1, &Silent).unwrap();
    let accuracy = within(
        &mut quantized,
        &mut metric,
        1.0,
        &data,
        WeightStorage::I8,
        1,
        &Silent,
    )
    .unwrap();
    assert!(accuracy.holds() && accuracy.reverted.is_empty());
}

/// Counts what it is asked, and gives scores from a list.
struct Scripted {
    scores: Vec<f64>,
    asked: usize,
}

impl Metric for Scripted {
    fn name(&self) -> String {
        "scripted".to_owned()
    }

    fn score(&mut self, _: &Graph) -> Result<f64, QuantizeError> {
        self.asked += 1;
        Ok(self.scores[(self.asked - 1).min(self.scores.len() - 1)])
    }

    fn reference(&mut self, _: &Graph) -> Result<f64, QuantizeError> {
        Ok(1.0)
    }
}

/// Holds `outliers` to a drop of 0.01 by a metric with these scores; also tells how often phases began.
fn scripted(scores: &[f64]) -> (Accuracy, usize, usize) {
    struct Rankings(AtomicUsize);
    impl Progress for Rankings {
        fn phase(&self, name: &str, _: usize) {
            self.0
                .fetch_add(usize::from(name == "ranking layers"), Ordering::Relaxed);
        }
        fn step(&self) {}
    }
    let graph = prepare(&outliers()).unwrap();
    let data = samples(&SHAPE, 6);
    let mut quantized = quantize(&graph, &data, &Options::default(), &Silent).unwrap();
    let mut metric = Scripted {
        scores: scores.to_vec(),
        asked: 0,
    };
    let rankings = Rankings(AtomicUsize::new(0));
    let accuracy = within(
        &mut quantized,
        &mut metric,
        0.01,
        &data,
        WeightStorage::I8,
        1,
        &rankings,
    )
    .unwrap();
    (accuracy, metric.asked, rankings.0.into_inner())
}

#[test]
fn a_score_that_is_no_number_counts_as_the_worst() {
    let (accuracy, ..) = scripted(&[0.5, f64::NAN]);
    assert!(
        accuracy.reverted.is_empty() && accuracy.reached == 0.5,
        "{accuracy:?}"
    );
    let (accuracy, ..) = scripted(&[f64::NAN, 0.999]);
    assert!(accuracy.holds() && accuracy.reverted.len() == 1, "{accuracy:?}");
}

#[test]
fn layers_are_ranked_again_only_where_something_changed() {
    let (accuracy, _, rankings) = scripted(&[0.5, 0.4]);
    assert!(!accuracy.holds() && accuracy.reverted.is_empty());
    assert_eq!(rankings, 1);
}

/// `outliers`, which also gives the place of the greatest value as an integer, first.
fn with_an_integer_output() -> Graph {
    let mut net = Net::default();
    net.graph = outliers();
    let scores = net.graph.node(net.graph.results[0]).inputs[0];
    net.graph.results.clear();
    let places = net.push("places", Op::Convert(flow_model::ElementType::I32), &[scores]);
    net.result(&[places, scores])
}

#[test]
fn networks_with_integer_outputs_are_ranked_and_compared() {
    let graph = prepare(&with_an_integer_output()).unwrap();
    let data = samples(&SHAPE, 6);
    let mut quantized = quantize(&graph, &data, &Options::default(), &Silent).unwrap();
    let mut metric = Scripted {
        scores: vec![0.5, 0.6, 1.0],
        asked: 0,
    };
    let accuracy = within(
        &mut quantized,
        &mut metric,
        0.01,
        &data,
        WeightStorage::I8,
        1,
        &Silent,
    )
    .unwrap();
    assert!(accuracy.holds() && accuracy.reverted.len() == 2, "{accuracy:?}");
    for likeness in [Likeness::Nmse, Likeness::Agreement, Likeness::Top1] {
        let mut metric = AgainstReference::new(&graph, likeness, &data, 1, &Silent).unwrap();
        let score = metric.score(&quantized.graph).unwrap();
        assert!((0.0..=1.0).contains(&score), "{likeness:?}: {score}");
    }
    let comparison = compare(&graph, &quantized.graph, &data, 1, &Silent).unwrap();
    // Read byte by byte, integers would be next to nothing, and their relative error enormous.
    assert_eq!(comparison.outputs.len(), 2);
    assert!(comparison.outputs[0].relative_error < 2.0, "{comparison:?}");
}

#[test]
fn networks_that_take_or_give_something_else_are_not_compared() {
    let (a, data) = (prepare(&outliers()).unwrap(), samples(&SHAPE, 2));
    let mut net = Net::default();
    let x = net.input(&SHAPE);
    let y = net.conv("c", x, 7);
    let message = |b: &Graph| compare(&a, b, &data, 1, &Silent).unwrap_err().to_string();
    let text = message(&net.result(&[y]));
    assert!(
        text.contains("[1, 4, 8, 8]") && text.contains("[1, 7, 8, 8]"),
        "{text}"
    );
    let mut net = Net::default();
    let x = net.input(&[1, 4, 9, 9]);
    let y = net.conv("c", x, 4);
    let text = message(&net.result(&[y]));
    assert!(text.contains("takes f32 [1, 4, 8, 8]"), "{text}");
}

#[test]
fn values_that_are_not_finite_do_not_look_equal() {
    let graph = prepare(&outliers()).unwrap();
    let data = samples(&SHAPE, 2);
    let mut broken = graph.clone();
    let bias = broken.nodes.iter_mut().find(|n| *n.name == *"last/b").unwrap();
    let Op::Constant(values) = &mut bias.op else {
        panic!("a bias")
    };
    *values = flow_model::Tensor::from_slice(values.shape(), &vec![f32::NAN; values.len()]).unwrap();
    let comparison = compare(&graph, &broken, &data, 1, &Silent).unwrap();
    let last = comparison
        .layers
        .iter()
        .find(|l| l.name == "last/biased")
        .unwrap();
    assert!(last.sqnr.is_nan(), "{last:?}");
}

#[test]
fn a_comparison_finds_the_layer_that_suffers() {
    let graph = prepare(&outliers()).unwrap();
    let data = samples(&SHAPE, 6);
    let options = Options {
        bias: BiasCorrection::None,
        ..Options::default()
    };
    let quantized = quantize(&graph, &data, &options, &Silent).unwrap();
    let comparison = compare(&graph, &quantized.graph, &data, 2, &Silent).unwrap();
    let sqnr = |name: &str| comparison.layers.iter().find(|l| l.name == name).unwrap().sqnr;
    assert!(
        sqnr("loud") > 20.0 && sqnr("quiet") < sqnr("loud") - 6.0,
        "{comparison:?}"
    );
    assert_eq!(comparison.outputs.len(), 1);
    assert!(comparison.outputs[0].relative_error > 0.0);
    let same = compare(&graph, &graph, &data, 1, &Silent).unwrap();
    assert!(same.layers.iter().all(|l| l.sqnr.is_infinite()));
}
