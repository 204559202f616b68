//! OpenVINO's rounding of residual chains.

use flow_model::graph::{Graph, Node, NodeId, Value};
use flow_model::op::{BinaryKind, Op};

use crate::constants;
use crate::options::{Numerics, Options};
use crate::report::{Fate, Notes};
use crate::rewrite::Rewriter;

/// In OpenVINO's numerics, a FakeQuantize between a convolution (with its bias) and the addition of a residual
/// only clips: the plugin runs both as one chain of post-operations, of which only the last rounds
/// (`src/plugins/intel_cpu/docs/fake_quantize.md`). In literal numerics nothing changes.
pub(crate) fn drop_inner_rounding(graph: &Graph, options: &Options, notes: &mut Notes) -> Graph {
    let users = graph.users();
    let mut rewriter = Rewriter::new(graph);
    for (id, node) in graph.iter() {
        let clip = (options.numerics == Numerics::OpenVino)
            .then(|| inner(graph, &users, id, node))
            .flatten();
        let Some((min, max)) = clip else {
            rewriter.keep(id);
            continue;
        };
        notes.moved(&node.name, Fate::Kept);
        let mut clamp = node.clone();
        clamp.op = Op::Clamp { min, max };
        clamp.inputs = vec![rewriter.value(node.inputs[0])];
        rewriter.keep_as(id, clamp);
    }
    rewriter.finish()
}

/// The interval of a FakeQuantize inside a residual chain: equal limits per tensor, fed by a convolution, read
/// by one Add of two computed values.
fn inner(graph: &Graph, users: &[Vec<NodeId>], id: NodeId, node: &Node) -> Option<(f32, f32)> {
    let Op::FakeQuantize { .. } = node.op else {
        return None;
    };
    let [user] = users[id.index()][..] else {
        return None;
    };
    let is_constant = |v: Value| matches!(graph.node(v.node).op, Op::Constant(_));
    let adds = matches!(graph.node(user).op, Op::Binary(BinaryKind::Add))
        && !graph.node(user).inputs.iter().any(|&v| is_constant(v));
    let before = graph.node(node.inputs[0].node);
    let source = match before.op {
        Op::Binary(BinaryKind::Add) => before
            .inputs
            .iter()
            .find(|&&v| !is_constant(v))
            .filter(|_| before.inputs.iter().any(|&v| is_constant(v)))
            .map(|v| graph.node(v.node))?,
        _ => before,
    };
    let from_convolution = matches!(
        source.op,
        Op::Convolution(_) | Op::GroupConvolution(_) | Op::MatMul { .. }
    );
    let limit = |port: usize| match constants::tensor(graph, *node.inputs.get(port)?)?.to_f32()[..] {
        [one] => Some(one),
        _ => None,
    };
    let (low, high) = (limit(1)?, limit(2)?);
    let same = limit(3)? == low && limit(4)? == high && low < high;
    (adds && from_convolution && same).then_some((low, high))
}

#[cfg(test)]
mod tests {
    use flow_model::tensor::ElementType;

    use super::*;
    use crate::testing::{Builder, conv, kinds};

    #[test]
    fn only_the_inner_rounding_of_a_residual_goes() {
        let mut b = Builder::default();
        let x = b.parameter(ElementType::F32, &[1, 1, 2, 2]);
        let x = b.fake_quantize("data", x, 0.0, 1.0);
        let w = b.weights(&[1, 1, 1, 1], &[3], &[0.5]);
        let y = b.node("conv", Op::Convolution(conv(0)), &[x, w]);
        let y = b.fake_quantize("inner", y, -1.0, 1.0);
        let sum = b.node("add", Op::Binary(BinaryKind::Add), &[x, y]);
        let sum = b.fake_quantize("outer", sum, -1.0, 1.0);
        b.result(sum);
        let run = |numerics| {
            let options = Options {
                numerics,
                ..Options::default()
            };
            drop_inner_rounding(&b.graph, &options, &mut Notes::default())
        };
        assert_eq!(kinds(&run(Numerics::Literal)), kinds(&b.graph));
        let after = run(Numerics::OpenVino);
        let clamps: Vec<_> = after
            .nodes
            .iter()
            .filter(|n| matches!(n.op, Op::Clamp { min: -1.0, max: 1.0 }))
            .map(|n| n.name.to_string())
            .collect();
        assert_eq!(clamps, ["inner"]);
    }
}
