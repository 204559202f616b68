//! Where quantizations stand.

use flow_model::Graph;
use flow_model::op::{BinaryKind, Op, UnaryKind};

use crate::placement::{Left, Placement, PlacementOptions, place};
use crate::testing::Net;

fn placed(graph: &Graph, quantize_tail: bool) -> Placement {
    let ignored = vec![false; graph.nodes.len()];
    place(
        graph,
        &PlacementOptions {
            ignored: &ignored,
            quantize_tail,
        },
    )
}

/// Names of the layers behind which a quantization stands, with the layers that take it.
fn points(graph: &Graph, placement: &Placement) -> Vec<(String, Vec<String>)> {
    let name = |node| graph.node(node).name.to_string();
    let point = |p: &crate::placement::ActivationPoint| {
        (name(p.value.node), p.edges.iter().map(|e| name(e.node)).collect())
    };
    placement.activations.iter().map(point).collect()
}

fn expected(points: &[(&str, &[&str])]) -> Vec<(String, Vec<String>)> {
    points
        .iter()
        .map(|(a, b)| ((*a).to_owned(), b.iter().map(|s| (*s).to_owned()).collect()))
        .collect()
}

#[test]
fn bias_and_activation_run_with_the_convolution_and_pooling_lets_a_quantization_through() {
    let mut net = Net::default();
    let x = net.input(&[1, 3, 8, 8]);
    let a = net.conv("a", x, 4);
    let a = net.relu("a/relu", a);
    let p = net.max_pool("pool", a);
    let b = net.conv("b", p, 4);
    let graph = net.result(&[b]);
    let placement = placed(&graph, false);
    assert_eq!(
        points(&graph, &placement),
        expected(&[("x", &["a"]), ("a/relu", &["pool"])])
    );
    assert_eq!(placement.weights.len(), 2);
    assert_eq!(placement.weights[0].axes, [0]);
}

#[test]
fn both_inputs_of_a_residual_are_quantized_and_one_serves_all_users() {
    let mut net = Net::default();
    let x = net.input(&[1, 4, 8, 8]);
    let a = net.conv("a", x, 4);
    let a = net.relu("a/relu", a);
    let b = net.conv("b", a, 4);
    let sum = net.add("sum", b, a);
    let c = net.conv("c", sum, 4);
    let graph = net.result(&[c]);
    let wanted = expected(&[
        ("x", &["a"]),
        ("a/relu", &["b", "sum"]),
        ("b/biased", &["sum"]),
        ("sum", &["c"]),
    ]);
    assert_eq!(points(&graph, &placed(&graph, false)), wanted);
}

#[test]
fn what_meets_in_a_concat_shares_its_limits() {
    let mut net = Net::default();
    let x = net.input(&[1, 4, 8, 8]);
    let a = net.conv("a", x, 4);
    let b = net.conv("b", x, 2);
    let both = net.push("both", Op::Concat { axis: 1 }, &[a, b]);
    let c = net.conv("c", both, 4);
    let graph = net.result(&[c]);
    let placement = placed(&graph, false);
    let wanted = expected(&[
        ("x", &["a", "b"]),
        ("a/biased", &["both"]),
        ("b/biased", &["both"]),
    ]);
    assert_eq!(points(&graph, &placement), wanted);
    let groups: Vec<Option<usize>> = placement.activations.iter().map(|p| p.unified).collect();
    assert_eq!(groups, [None, Some(0), Some(0)]);
}

#[test]
fn only_depthwise_users_allow_limits_per_channel() {
    let mut net = Net::default();
    let x = net.input(&[1, 4, 8, 8]);
    let a = net.conv("a", x, 4);
    let d = net.depthwise("d", a);
    let d = net.relu("d/relu", d);
    let e = net.depthwise("e", d);
    let f = net.conv("f", d, 4);
    let graph = net.result(&[e, f]);
    let placement = placed(&graph, false);
    let per_channel: Vec<bool> = placement.activations.iter().map(|p| p.per_channel).collect();
    assert_eq!(per_channel, [false, true, false]);
    assert_eq!(placement.weights[1].axes, [0, 1]);
}

#[test]
fn outputs_and_arithmetic_behind_the_last_weights_stay_in_f32() {
    let mut net = Net::default();
    let x = net.input(&[1, 4, 8, 8]);
    let a = net.conv("a", x, 4);
    let b = net.conv("b", x, 4);
    let product = net.push("product", Op::Binary(BinaryKind::Multiply), &[a, b]);
    let graph = net.result(&[product]);
    let placement = placed(&graph, false);
    assert_eq!(points(&graph, &placement), expected(&[("x", &["a", "b"])]));
    assert_eq!(placement.left.len(), 1);
    assert_eq!(placement.left[0].1, Left::Tail);
    // As NNCF has it.
    assert_eq!(placed(&graph, true).activations.len(), 3);
}

#[test]
fn a_swish_spelled_out_runs_with_the_convolution() {
    let mut net = Net::default();
    let x = net.input(&[1, 4, 8, 8]);
    let a = net.conv("a", x, 4);
    let gate = net.push("gate", Op::Unary(UnaryKind::Sigmoid), &[a]);
    let swish = net.push("swish", Op::Binary(BinaryKind::Multiply), &[a, gate]);
    let b = net.conv("b", swish, 4);
    let graph = net.result(&[b]);
    assert_eq!(
        points(&graph, &placed(&graph, false)),
        expected(&[("x", &["a"]), ("swish", &["b"])])
    );
}

#[test]
fn a_user_in_floating_point_keeps_a_quantization_from_moving_up() {
    let mut net = Net::default();
    let x = net.input(&[1, 4, 8, 8]);
    let a = net.relu("a", x);
    let pool = net.max_pool("pool", a);
    let b = net.conv("b", pool, 4);
    let s = net.push("s", Op::Softmax { axis: 1 }, &[pool]);
    let graph = net.result(&[b, s]);
    assert_eq!(
        points(&graph, &placed(&graph, false)),
        expected(&[("pool", &["b"])])
    );
}
