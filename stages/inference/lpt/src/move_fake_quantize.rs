//! FakeQuantize behind a Concat, moved in front of it.

use flow_model::graph::{Graph, Node, NodeId, OutputInfo, Value};
use flow_model::op::{Op, UnaryKind};
use flow_model::tensor::{ElementType, Tensor};

use crate::constants;
use crate::options::Options;
use crate::report::{Fate, Notes};
use crate::rewrite::{Rewriter, remove_dead};

/// `Concat -> [Relu] -> FakeQuantize` becomes one Relu and one FakeQuantize per input of the Concat, with the limits
/// of the channels that the input holds: each branch then ends in codes, and the Concat joins codes
/// (OpenVINO's `MoveFakeQuantize`).
///
/// Nothing moves where others read the Concat as it is, where all inputs are parts of one Split (a Concat that
/// only reorders), or where lengths along the axis are open and limits vary along it.
pub(crate) fn move_up(graph: &Graph, options: &Options, notes: &mut Notes) -> Graph {
    let users = graph.users();
    let mut rewriter = Rewriter::new(graph);
    for (id, node) in graph.iter() {
        let found = (!options.float_layers.contains(&*node.name))
            .then(|| Found::of(graph, &users, id, node, options))
            .flatten();
        let Some(found) = found else {
            rewriter.keep(id);
            continue;
        };
        found.push(&mut rewriter, graph, id, notes);
    }
    remove_dead(&rewriter.finish())
}

/// A FakeQuantize that can move.
struct Found {
    concat: NodeId,
    relu: Option<NodeId>,
    /// Axis of the Concat, counted from the front.
    axis: usize,
    /// The four limits as tensors, per input of the Concat.
    limits: Vec<[Tensor; 4]>,
}

impl Found {
    fn of(graph: &Graph, users: &[Vec<NodeId>], id: NodeId, node: &Node, options: &Options) -> Option<Self> {
        let Op::FakeQuantize { .. } = node.op else {
            return None;
        };
        let mut at = node.inputs[0].node;
        let mut relu = None;
        if matches!(graph.node(at).op, Op::Unary(UnaryKind::Relu)) {
            relu = Some(at);
            at = graph.node(at).inputs[0].node;
        }
        let concat = graph.node(at);
        let Op::Concat { axis } = concat.op else {
            return None;
        };
        let alone = |id: NodeId| users[id.index()].len() == 1 && !graph.results.contains(&id);
        let kept = |id: NodeId| options.float_layers.contains(&*graph.node(id).name);
        if !alone(at) || kept(at) || relu.is_some_and(|r| !alone(r) || kept(r)) {
            return None;
        }
        let first = concat.inputs.first()?.node;
        let splits = matches!(graph.node(first).op, Op::Split { .. } | Op::VariadicSplit);
        if splits && concat.inputs.iter().all(|v| v.node == first) {
            return None;
        }
        let output = graph.info(Value::of(id));
        let rank = graph.info(Value::of(at)).shape.len();
        let axis = usize::try_from(if axis < 0 { axis + rank as i64 } else { axis }).ok()?;
        if axis >= rank || output.shape.len() != rank {
            return None;
        }
        let whole: Vec<Tensor> = node.inputs[1..]
            .iter()
            .map(|&v| constants::tensor(graph, v).filter(|t| t.element_type() == ElementType::F32))
            .collect::<Option<_>>()?;
        let mut limits = Vec::with_capacity(concat.inputs.len());
        let mut start = 0;
        for &input in &concat.inputs {
            let length = graph.info(input).shape[axis];
            let parts: Vec<Tensor> = whole
                .iter()
                .map(|t| part(t, axis, rank, start, length))
                .collect::<Option<_>>()?;
            start += length.unwrap_or(0);
            limits.push(parts.try_into().ok()?);
        }
        Some(Self {
            concat: at,
            relu,
            axis,
            limits,
        })
    }

    fn push(self, rewriter: &mut Rewriter<'_>, graph: &Graph, id: NodeId, notes: &mut Notes) {
        let (node, concat) = (graph.node(id), graph.node(self.concat));
        let mut parts = Vec::with_capacity(concat.inputs.len());
        for (i, (&input, limits)) in concat.inputs.iter().zip(&self.limits).enumerate() {
            let info = OutputInfo {
                names: Vec::new(),
                ..graph.info(input).clone()
            };
            let mut value = rewriter.value(input);
            if let Some(relu) = self.relu {
                value = Value::of(rewriter.push(Node {
                    name: format!("{}/{i}", graph.node(relu).name).into(),
                    line: graph.node(relu).line,
                    op: graph.node(relu).op.clone(),
                    inputs: vec![value],
                    outputs: vec![info.clone()],
                }));
            }
            let name = format!("{}/{i}", node.name);
            let mut inputs = vec![value];
            for (what, limit) in ["input_low", "input_high", "output_low", "output_high"]
                .iter()
                .zip(limits)
            {
                inputs.push(Value::of(rewriter.push(Node {
                    name: format!("{name}/{what}").into(),
                    line: 0,
                    op: Op::Constant(limit.clone()),
                    inputs: Vec::new(),
                    outputs: vec![OutputInfo::fixed(ElementType::F32, limit.shape())],
                })));
            }
            parts.push(Value::of(rewriter.push(Node {
                name: name.into(),
                line: node.line,
                op: node.op.clone(),
                inputs,
                outputs: vec![info],
            })));
        }
        let first = Fate::FusedInto(format!("{}/0", node.name).into());
        notes.moved(&node.name, first.clone());
        if let Some(relu) = self.relu {
            notes.moved(&graph.node(relu).name, first);
        }
        rewriter.keep_as(
            id,
            Node {
                name: concat.name.clone(),
                line: concat.line,
                op: Op::Concat {
                    axis: self.axis as i64,
                },
                inputs: parts,
                outputs: node.outputs.clone(),
            },
        );
    }
}

/// The part of a limit that belongs to `length` indices from `start` on along an axis of a tensor of that rank.
fn part(limit: &Tensor, axis: usize, rank: usize, start: usize, length: Option<usize>) -> Option<Tensor> {
    let missing = rank.checked_sub(limit.shape().len())?;
    let along = axis.checked_sub(missing).filter(|&a| limit.shape()[a] != 1);
    let Some(along) = along else {
        return Some(limit.clone());
    };
    let length = length?;
    let mut shape = limit.shape().to_vec();
    let inner: usize = shape[along + 1..].iter().product();
    let whole = shape[along];
    if start.checked_add(length)? > whole {
        return None;
    }
    let values = limit.to_f32();
    let taken: Vec<f32> = values
        .chunks((whole * inner).max(1))
        .flat_map(|chunk| chunk[start * inner..(start + length) * inner].iter().copied())
        .collect();
    shape[along] = length;
    Tensor::from_slice(&shape, &taken).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Builder, check, conv, kinds, noise};

    const DATA: [usize; 4] = [1, 2, 4, 4];

    /// Two convolutions, their Concat, a Relu, a FakeQuantize with limits per channel and a convolution.
    fn branches(read_twice: bool) -> Graph {
        let mut b = Builder::default();
        let x = b.parameter(ElementType::F32, &DATA);
        let x = b.fake_quantize("data", x, 0.0, 1.0);
        let branch = |b: &mut Builder, name: &str, channels: usize| {
            let w = b.weights(
                &[channels, 2, 1, 1],
                &[3, -4, 5, 6, 7, -8][..channels * 2],
                &[0.1],
            );
            b.node(name, Op::Convolution(conv(0)), &[x, w])
        };
        let parts = [branch(&mut b, "left", 1), branch(&mut b, "right", 3)];
        let joined = b.node("concat", Op::Concat { axis: -3 }, &parts);
        let y = b.node("relu", Op::Unary(UnaryKind::Relu), &[joined]);
        let low = b.f32s(&[], &[0.0]);
        let high = b.f32s(&[1, 4, 1, 1], &[0.5, 0.25, 0.25, 1.0]);
        let y = b.node("fq", Op::FakeQuantize { levels: 256 }, &[y, low, high, low, high]);
        let w = b.weights(&[4, 1, 1, 1, 1], &[3, -4, 5, 6], &[0.1]);
        let y = b.node("depthwise", Op::GroupConvolution(conv(0)), &[y, w]);
        b.result(y);
        if read_twice {
            b.result(joined);
        }
        b.graph
    }

    #[test]
    fn branches_end_in_codes() {
        let graph = branches(false);
        let after = move_up(&graph, &Options::default(), &mut Notes::default());
        let after: Vec<_> = kinds(&after)
            .into_iter()
            .skip_while(|k| *k != "Convolution")
            .collect();
        assert_eq!(
            after,
            [
                "Convolution",
                "Convert",
                "Multiply",
                "Convolution",
                "ReLU",
                "FakeQuantize",
                "ReLU",
                "FakeQuantize",
                "Concat",
                "Convert",
                "Multiply",
                "GroupConvolution",
                "Result",
            ]
        );
        let lowered = check(&graph, &noise(&DATA, 1), 1e-5);
        for name in ["left", "right", "concat", "relu", "fq", "depthwise"] {
            let layer = lowered.report.layer(name).unwrap();
            assert!(layer.is_integer(), "{layer:?}");
        }
        assert_eq!(
            lowered.report.layer("fq").unwrap().fate,
            Fate::FusedInto("fq/0".into())
        );
    }

    #[test]
    fn what_others_read_stays() {
        let graph = branches(true);
        let after = move_up(&graph, &Options::default(), &mut Notes::default());
        assert_eq!(kinds(&after), kinds(&graph));
    }

    #[test]
    fn a_concat_of_one_split_stays() {
        let mut b = Builder::default();
        let x = b.parameter(ElementType::F32, &DATA);
        let axis = b.i64s(&[1]);
        let x = b.node("split", Op::Split { num_splits: 2 }, &[x, axis]);
        let x = b.node("swap", Op::Concat { axis: 1 }, &[Value { port: 1, ..x }, x]);
        let x = b.fake_quantize("fq", x, 0.0, 1.0);
        b.result(x);
        let after = move_up(&b.graph, &Options::default(), &mut Notes::default());
        assert_eq!(kinds(&after), kinds(&b.graph));
    }
}
