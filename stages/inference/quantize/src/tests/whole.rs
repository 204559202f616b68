//! From samples to a network that still computes the same.

use flow_model::op::Op;
use flow_model::{Graph, Tensor, Value, evaluate, ir};

use crate::data::{Dataset, InMemory};
use crate::testing::{Net, samples};
use crate::{
    BiasCorrection, Estimator, Options, OverflowFix, Preset, QuantizeError, Silent, WeightRange,
    WeightStorage, prepare, quantize,
};

const SHAPE: [usize; 4] = [1, 3, 8, 8];

fn network() -> Graph {
    let mut net = Net::default();
    let x = net.input(&SHAPE);
    let a = net.conv("a", x, 8);
    let a = net.relu("a/relu", a);
    let d = net.depthwise("d", a);
    let d = net.relu("d/relu", d);
    let p = net.max_pool("pool", d);
    let b = net.conv("b", p, 8);
    let both = net.add("both", b, p);
    let c = net.conv("c", both, 4);
    net.result(&[c])
}

/// `|q - f| / |f|` over all samples.
fn error(original: &Graph, quantized: &Graph, data: &InMemory) -> f64 {
    let (mut off, mut whole) = (0.0, 0.0);
    for sample in &data.0 {
        let f = evaluate(original, sample).unwrap()[0].to_f64();
        let q = evaluate(quantized, sample).unwrap()[0].to_f64();
        off += f.iter().zip(&q).map(|(f, q)| (f - q) * (f - q)).sum::<f64>();
        whole += f.iter().map(|f| f * f).sum::<f64>();
    }
    (off / whole).sqrt()
}

fn run(options: &Options) -> f64 {
    let graph = prepare(&network()).unwrap();
    let quantized = quantize(&graph, &samples(&SHAPE, 12), options, &Silent).unwrap();
    error(&graph, &quantized.graph, &samples(&SHAPE, 20))
}

#[test]
fn every_way_of_quantizing_stays_near_f32() {
    let default = Options::default;
    for options in [
        default(),
        Options {
            preset: Preset::Mixed,
            ..default()
        },
        Options {
            estimator: Estimator::Extreme,
            ..default()
        },
        Options {
            estimator: Estimator::Median,
            ..default()
        },
        Options {
            estimator: Estimator::default(),
            ..default()
        },
        Options {
            estimator: Estimator::Quantile(1e-3),
            ..default()
        },
        Options {
            estimator: Estimator::MeanNoOutliers(0.1),
            ..default()
        },
        Options {
            weight_range: WeightRange::Mse,
            ..default()
        },
        Options {
            bias: BiasCorrection::None,
            ..default()
        },
        Options {
            bias: BiasCorrection::Full,
            ..default()
        },
        Options {
            overflow_fix: OverflowFix::First,
            ..default()
        },
        Options {
            storage: WeightStorage::F32,
            ..default()
        },
        Options {
            threads: 1,
            ..default()
        },
    ] {
        let error = run(&options);
        // Of the few values here the other estimators clip a part.
        let most = if matches!(options.estimator, Estimator::Extreme | Estimator::LeastError(_)) {
            0.03
        } else {
            0.15
        };
        assert!(error > 1e-4 && error < most, "{error} with {options:?}");
    }
    let default = || Options {
        estimator: Estimator::Extreme,
        ..default()
    };
    let all = run(&Options {
        overflow_fix: OverflowFix::All,
        ..default()
    });
    assert!(
        all > run(&default()),
        "weights with half of their range cannot be as good: {all}"
    );
}

#[test]
fn threads_do_not_change_the_result() {
    let graph = prepare(&network()).unwrap();
    let bytes = |threads| {
        let options = Options {
            threads,
            estimator: Estimator::default(),
            ..Options::default()
        };
        let quantized = quantize(&graph, &samples(&SHAPE, 50), &options, &Silent).unwrap();
        ir::to_bytes(&quantized.graph).unwrap()
    };
    assert_eq!(bytes(1), bytes(3));
}

#[test]
fn both_ways_of_storing_weights_compute_the_same() {
    let graph = prepare(&network()).unwrap();
    let with = |storage| {
        let options = Options {
            storage,
            ..Options::default()
        };
        quantize(&graph, &samples(&SHAPE, 4), &options, &Silent)
            .unwrap()
            .graph
    };
    let (codes, values) = (with(WeightStorage::I8), with(WeightStorage::F32));
    for sample in samples(&SHAPE, 3).0 {
        let a = evaluate(&codes, &sample).unwrap()[0].to_f32();
        let b = evaluate(&values, &sample).unwrap()[0].to_f32();
        // The second rounds weights once more, to within an ulp; behind that a value may fall on the next level.
        let off = a.iter().zip(&b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        let top = a.iter().copied().fold(0.0, |m: f32, v| m.max(v.abs()));
        assert!(off <= 0.02 * top, "{off} of {top}");
    }
    let codes = codes
        .nodes
        .iter()
        .filter(|n| matches!(&n.op, Op::Constant(t) if t.element_type().name() == "i8"));
    assert_eq!(codes.count(), 4);
}

#[test]
fn a_bias_makes_up_for_what_rounding_weights_shifts() {
    // Inputs far from zero: rounding a weight shifts the mean of the output.
    let mut net = Net::default();
    let x = net.input(&SHAPE);
    let y = net.conv("a", x, 16);
    let graph = prepare(&net.result(&[y])).unwrap();
    let data = InMemory(
        samples(&SHAPE, 8)
            .0
            .into_iter()
            .map(|s| {
                let values: Vec<f32> = s[0].to_f32().iter().map(|v| 10.0 + v).collect();
                vec![Tensor::from_slice(&SHAPE, &values).unwrap()]
            })
            .collect(),
    );
    let run = |bias| {
        let options = Options {
            bias,
            ..Options::default()
        };
        error(
            &graph,
            &quantize(&graph, &data, &options, &Silent).unwrap().graph,
            &data,
        )
    };
    let (with, without) = (run(BiasCorrection::Fast), run(BiasCorrection::None));
    assert!(with < 0.8 * without, "{with} with, {without} without");
    let full = run(BiasCorrection::Full);
    assert!(
        full < 0.8 * without,
        "{full} with the full correction, {without} without"
    );
}

/// A convolution with a bias of that value, or without one; the output bears the tensor name `scores`.
fn with_bias(bias: Option<f32>) -> Graph {
    let mut net = Net::default();
    let x = net.input(&SHAPE);
    let weights = net.random(4 * 3 * 9);
    let biased = net.convolution("a", x, Op::Convolution, &[4, 3, 3, 3], &weights, 4);
    let plain = net.graph.node(biased.node).inputs[0];
    let mut last = plain;
    if let Some(bias) = bias {
        let bias = net.constant("zero", &[1, 4, 1, 1], &[bias; 4]);
        last = net.add("sum", plain, bias);
    }
    net.graph.nodes[last.node.index()].outputs[0].names = vec!["scores".into()];
    prepare(&net.result(&[last])).unwrap()
}

fn constant<'a>(graph: &'a Graph, name: &str) -> &'a Tensor {
    let node = graph.nodes.iter().find(|n| *n.name == *name).unwrap();
    match &node.op {
        Op::Constant(tensor) => tensor,
        op => panic!("{name} is a {}", op.type_name()),
    }
}

#[test]
fn a_zero_bias_is_corrected_and_a_missing_one_is_added() {
    let run = |graph: &Graph| {
        quantize(graph, &samples(&SHAPE, 4), &Options::default(), &Silent)
            .unwrap()
            .graph
    };
    let zero = constant(&run(&with_bias(Some(0.0))), "zero").to_f32();
    let added = run(&with_bias(None));
    let added = constant(&added, "a/bias").to_f32();
    assert!(zero.iter().all(|&b| b != 0.0 && b.abs() < 0.1), "{zero:?}");
    assert_eq!(zero, added, "both make up for the same rounding");
}

#[test]
fn an_output_keeps_its_tensor_name_where_a_bias_is_added_behind_its_layer() {
    for bias in [None, Some(0.0)] {
        let quantized = quantize(
            &with_bias(bias),
            &samples(&SHAPE, 2),
            &Options::default(),
            &Silent,
        )
        .unwrap()
        .graph;
        let read = quantized.node(quantized.results[0]).inputs[0];
        assert_eq!(quantized.info(read).names, ["scores".into()], "{bias:?}");
        let elsewhere = quantized.iter().filter(|(id, n)| {
            *id != read.node && !matches!(n.op, Op::Result) && n.outputs.iter().any(|o| !o.names.is_empty())
        });
        assert_eq!(elsewhere.count(), 0, "{bias:?}: a name stands once");
    }
}

#[test]
fn bad_input_is_named() {
    let graph = prepare(&network()).unwrap();
    let message = |result: Result<crate::Quantized, QuantizeError>| result.unwrap_err().to_string();
    let run = |graph: &Graph, data: &dyn Dataset, options: &Options| quantize(graph, data, options, &Silent);

    let mut broken = samples(&SHAPE, 3);
    broken.0[1] = vec![Tensor::from_slice(&SHAPE, &[f32::NAN; 192]).unwrap()];
    let text = message(run(&graph, &broken, &Options::default()));
    assert!(text.contains("sample 1") && text.contains("not finite"), "{text}");

    let text = message(run(&graph, &samples(&[1, 3, 4, 4], 1), &Options::default()));
    assert!(text.contains("[1, 3, 4, 4]") && text.contains("\"x\""), "{text}");

    let ignore = |pattern: &str| Options {
        ignore: vec![pattern.to_owned()],
        ..Options::default()
    };
    let text = message(run(&graph, &samples(&SHAPE, 1), &ignore("nothing")));
    assert!(text.contains("nothing"), "{text}");
    let text = message(run(&graph, &samples(&SHAPE, 1), &ignore("(")));
    assert!(text.contains("--ignore ("), "{text}");
    let text = message(run(&graph, &samples(&SHAPE, 1), &ignore("[abcd]")));
    assert!(text.contains("nothing to quantize"), "{text}");

    let quantized = run(&graph, &samples(&SHAPE, 2), &Options::default()).unwrap();
    let text = prepare(&quantized.graph).unwrap_err().to_string();
    assert!(text.contains("quantized already"), "{text}");

    let open = network()
        .with_input_shapes(&[vec![None, Some(3), Some(8), Some(8)]])
        .unwrap();
    let text = prepare(&open).unwrap_err().to_string();
    assert!(text.contains("[1,3,8,8]"), "{text}");
}

#[test]
fn ignored_layers_stay_in_f32() {
    let graph = prepare(&network()).unwrap();
    for (pattern, weights) in [("a", 3), ("GroupConvolution", 3), ("[ab]", 2)] {
        let options = Options {
            ignore: vec![pattern.to_owned()],
            ..Options::default()
        };
        let quantized = quantize(&graph, &samples(&SHAPE, 2), &options, &Silent).unwrap();
        assert_eq!(quantized.scheme.weights.len(), weights, "{pattern}");
    }
}

#[test]
fn names_and_order_of_inputs_and_outputs_stay() {
    let mut net = Net::default();
    let x = net.input(&SHAPE);
    let a = net.conv("a", x, 4);
    let b = net.conv("b", a, 2);
    let mut graph = net.result(&[b, a]);
    graph.nodes[a.node.index()].outputs[0].names = vec!["scores".into()];
    let graph = prepare(&graph).unwrap();
    let quantized = quantize(&graph, &samples(&SHAPE, 2), &Options::default(), &Silent)
        .unwrap()
        .graph;
    assert_eq!(quantized.results.len(), 2);
    let shape = |i: usize| {
        quantized
            .info(Value::of(quantized.results[i]))
            .static_shape()
            .unwrap()
    };
    assert_eq!((shape(0)[1], shape(1)[1]), (2, 4));
    assert!(
        quantized
            .nodes
            .iter()
            .any(|n| n.outputs.iter().any(|o| o.names.iter().any(|t| **t == *"scores")))
    );
}
