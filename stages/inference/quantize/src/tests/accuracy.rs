//! Thresholds hold on a network built to be hard.

use flow_model::op::Op;
use flow_model::{Graph, evaluate};

use crate::testing::{Net, samples};
use crate::{
    AgainstReference, BiasCorrection, Estimator, Likeness, Options, Part, Silent, WeightStorage, compare,
    prepare, quantize, within,
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
