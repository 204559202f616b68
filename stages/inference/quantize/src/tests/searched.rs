//! The search for options.

use crate::testing::{Net, samples};
use crate::{
    AgainstReference, BiasCorrection, Estimator, Forgetful, Likeness, Metric, Options, Preset, Silent, Space,
    prepare, search,
};

const SHAPE: [usize; 4] = [1, 3, 8, 8];

#[test]
fn a_search_tries_each_with_each_and_keeps_the_best() {
    let mut net = Net::default();
    let x = net.input(&SHAPE);
    let a = net.conv("a", x, 8);
    let b = net.conv("b", a, 4);
    let graph = prepare(&net.result(&[b])).unwrap();
    let (data, held) = (samples(&SHAPE, 12), samples(&SHAPE, 20));
    // Far from the best: a tenth of all values is clipped.
    let poor = Estimator::Quantile(0.1);
    let options = Options {
        estimator: poor,
        ..Options::default()
    };
    let space = Space {
        estimators: vec![poor, Estimator::LeastError(2.0)],
        ..Space::default()
    };
    let mut metric = AgainstReference::new(&graph, Likeness::Nmse, &held, 1, &Silent).unwrap();
    let found = search(&graph, &data, &options, &space, &mut metric, &Silent, &Forgetful).unwrap();
    assert_eq!((found.trials.len(), found.reference), (8, 1.0));
    let first = &found.trials[0];
    assert_eq!(
        (first.estimator, first.preset, first.bias),
        (poor, Preset::Performance, BiasCorrection::Fast),
        "what was asked for comes first"
    );
    let chosen = &found.trials[found.chosen];
    assert!(
        found.trials.iter().all(|t| t.score <= chosen.score),
        "{:?}",
        found.trials
    );
    assert_eq!(chosen.estimator, Estimator::LeastError(2.0));
    assert_eq!(metric.score(&found.best.graph).unwrap(), chosen.score);
    assert_eq!(first.to_string(), "performance, quantile:0.1, bias fast");
}
