//! OpenVINO's common intervals of branches that a convolution reads together.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use flow_model::graph::{Graph, NodeId, Value};
use flow_model::op::{Dequantize, Op, Quantize, ReduceKind, UnaryKind};
use flow_model::tensor::ElementType;

use crate::constants;
use crate::fake_quantize::push_pair;
use crate::options::{Numerics, Options};
use crate::propagate::moves_values;
use crate::report::Notes;
use crate::rewrite::Rewriter;

/// In OpenVINO's numerics, FakeQuantizes that meet in a Concat in front of an integer convolution get one scale: that
/// of the union of their output intervals. Each keeps its input interval and loses levels
/// (`AlignQuantizationIntervals` with `FakeQuantizeDecomposition`: 0..1 beside 0..3 keeps 86 of 256 levels). In
/// literal numerics each keeps its own scale.
///
/// A convolution by groups needs no common scale, and none is formed where a branch is not quantized per tensor,
/// has another number of levels, or would be left with two levels. Verified against OpenVINO 2026.4.
pub(crate) fn align(graph: &Graph, options: &Options, _notes: &mut Notes) -> Graph {
    let aligned = match options.numerics {
        Numerics::Literal => HashMap::new(),
        Numerics::OpenVino => alignments(graph, options),
    };
    let mut rewriter = Rewriter::new(graph);
    for (id, node) in graph.iter() {
        match aligned.get(&id) {
            Some((quantize, dequantize)) => {
                push_pair(&mut rewriter, id, node, quantize.clone(), dequantize.clone());
            }
            None => {
                rewriter.keep(id);
            }
        }
    }
    rewriter.finish()
}

/// The limits of a FakeQuantize per tensor.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Limits {
    input: [f32; 2],
    output: [f32; 2],
    levels: u32,
}

impl Limits {
    fn of(graph: &Graph, id: NodeId) -> Option<Self> {
        let node = graph.node(id);
        let Op::FakeQuantize { levels } = node.op else {
            return None;
        };
        let limit = |port: usize| match constants::tensor(graph, *node.inputs.get(port)?)?.to_f32()[..] {
            [one] if one.is_finite() => Some(one),
            _ => None,
        };
        let limits = Self {
            input: [limit(1)?, limit(2)?],
            output: [limit(3)?, limit(4)?],
            levels,
        };
        let usable = |[low, high]: [f32; 2]| low < high && (high - low).is_normal();
        (usable(limits.input) && usable(limits.output) && (3..=256).contains(&levels)).then_some(limits)
    }
}

fn alignments(graph: &Graph, options: &Options) -> HashMap<NodeId, (Quantize, Dequantize)> {
    // FakeQuantizes that convolutions read together, joined where they share one.
    let mut groups: Vec<BTreeSet<NodeId>> = Vec::new();
    for (_, node) in graph.iter() {
        let takes_one_scale = matches!(node.op, Op::Convolution(_) | Op::ConvolutionBackpropData(_));
        if !takes_one_scale || options.float_layers.contains(&*node.name) || !has_codes(graph, node.inputs[1])
        {
            continue;
        }
        let mut sources = Sources::default();
        if !sources.collect(graph, node.inputs[0]) || !sources.concat {
            continue;
        }
        let (joined, apart): (Vec<_>, Vec<_>) = groups
            .into_iter()
            .partition(|g| !g.is_disjoint(&sources.quantizes));
        groups = apart;
        groups.push(joined.into_iter().fold(sources.quantizes, |mut all, g| {
            all.extend(g);
            all
        }));
    }
    groups
        .iter()
        .filter_map(|group| common(graph, group))
        .flatten()
        .collect()
}

/// Whether an input of weights holds codes.
pub(crate) fn has_codes(graph: &Graph, input: Value) -> bool {
    let mut node = graph.node(input.node);
    while let Op::Reshape { .. } | Op::Transpose = node.op {
        let Some(&data) = node.inputs.first() else {
            return false;
        };
        node = graph.node(data.node);
    }
    matches!(node.op, Op::Dequantize(_))
}

/// The FakeQuantizes that a value comes from.
#[derive(Default)]
struct Sources {
    quantizes: BTreeSet<NodeId>,
    seen: BTreeSet<NodeId>,
    /// Whether there is a Concat on the way.
    concat: bool,
}

impl Sources {
    /// Walks back through operations that keep codes; false if something else is met.
    fn collect(&mut self, graph: &Graph, value: Value) -> bool {
        let mut waiting = vec![value.node];
        while let Some(id) = waiting.pop() {
            if !self.seen.insert(id) {
                continue;
            }
            let node = graph.node(id);
            match &node.op {
                Op::FakeQuantize { .. } => {
                    self.quantizes.insert(id);
                }
                Op::Concat { .. } => {
                    self.concat = true;
                    waiting.extend(node.inputs.iter().map(|v| v.node));
                }
                op if keeps_codes(op) => waiting.extend(node.inputs.first().map(|v| v.node)),
                _ => return false,
            }
        }
        true
    }
}

/// Whether an operation gives codes for codes of one scale.
pub(crate) fn keeps_codes(op: &Op) -> bool {
    moves_values(op)
        || matches!(
            op,
            Op::MaxPool(_)
                | Op::Unary(UnaryKind::Relu)
                | Op::Reduce {
                    kind: ReduceKind::Max | ReduceKind::Min,
                    ..
                }
        )
}

/// The quantizations of FakeQuantizes that share the scale of the union of their intervals; `None` where they
/// share one already or cannot.
fn common(graph: &Graph, group: &BTreeSet<NodeId>) -> Option<BTreeMap<NodeId, (Quantize, Dequantize)>> {
    let mut limits = Vec::with_capacity(group.len());
    for &id in group {
        limits.push((id, Limits::of(graph, id)?));
    }
    let first = limits.first()?.1;
    if limits.iter().any(|(_, l)| l.levels != first.levels)
        || limits.iter().all(|(_, l)| l.output == first.output)
    {
        return None;
    }
    let low = limits
        .iter()
        .map(|(_, l)| l.output[0])
        .fold(f32::INFINITY, f32::min);
    let high = limits
        .iter()
        .map(|(_, l)| l.output[1])
        .fold(f32::NEG_INFINITY, f32::max);
    // In f32 and rounding halves away from zero, as OpenVINO does.
    let last = (first.levels - 1) as f32;
    let (per_code, per_value) = ((high - low) / last, last / (high - low));
    if !per_code.is_normal() || !per_value.is_normal() {
        return None;
    }
    let code = |v: f32| ((v - low) * per_value).round();
    let dequantize = Dequantize {
        scale: vec![per_code],
        zero_point: vec![(-low * per_value).round() + 0.0],
        axis: None,
    };
    limits
        .into_iter()
        .map(|(id, l)| {
            let [from, to] = l.output.map(|v| code(v) as i32);
            let levels = u32::try_from(to - from).ok()? + 1;
            (levels > 2).then(|| {
                let quantize = Quantize {
                    input_low: vec![l.input[0]],
                    input_high: vec![l.input[1]],
                    axis: None,
                    levels,
                    low: from,
                    high: to,
                    element_type: ElementType::U8,
                };
                (id, (quantize, dequantize.clone()))
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Builder, conv};

    /// Branches of the given intervals in front of a convolution.
    fn branches(limits: &[(f32, f32)], grouped: bool) -> Graph {
        let mut b = Builder::default();
        let x = b.parameter(ElementType::F32, &[1, 1, 4, 4]);
        let parts: Vec<Value> = limits
            .iter()
            .enumerate()
            .map(|(i, &(low, high))| b.fake_quantize(&format!("branch{i}"), x, low, high))
            .collect();
        let x = b.node("concat", Op::Concat { axis: 1 }, &parts);
        let count = limits.len();
        let codes: Vec<i8> = (1..=count as i8).collect();
        let x = match grouped {
            true => {
                let w = b.weights(&[count, 1, 1, 1, 1], &codes, &[0.5]);
                b.node("conv", Op::GroupConvolution(conv(0)), &[x, w])
            }
            false => {
                let w = b.weights(&[1, count, 1, 1], &codes, &[0.5]);
                b.node("conv", Op::Convolution(conv(0)), &[x, w])
            }
        };
        b.result(x);
        b.graph
    }

    /// Codes, scale and zero point of each branch.
    fn aligned(graph: &Graph, numerics: Numerics) -> Vec<(i32, i32, f32, f32)> {
        let options = Options {
            numerics,
            ..Options::default()
        };
        let folded = crate::weights::fold::fold(graph, &options, &mut Notes::default());
        let after = align(&folded, &options, &mut Notes::default());
        let mut found = Vec::new();
        for node in &after.nodes {
            if let Op::Dequantize(d) = &node.op
                && let Op::Quantize(q) = &after.node(node.inputs[0].node).op
            {
                assert_eq!(q.levels as i32, q.high - q.low + 1);
                found.push((q.low, q.high, d.scale[0], d.zero_point[0]));
            }
        }
        found
    }

    #[test]
    fn branches_get_the_scale_of_their_union() {
        let graph = branches(&[(0.0, 1.0), (0.0, 3.0)], false);
        let scale = 3.0 / 255.0;
        assert_eq!(
            aligned(&graph, Numerics::OpenVino),
            [(0, 85, scale, 0.0), (0, 255, scale, 0.0)]
        );
        assert_eq!(aligned(&graph, Numerics::Literal), []);
        let graph = branches(&[(0.0, 1.0), (-1.0, 1.0)], false);
        let scale = 2.0 / 255.0;
        assert_eq!(
            aligned(&graph, Numerics::OpenVino),
            [(128, 255, scale, 128.0), (0, 255, scale, 128.0)]
        );
    }

    #[test]
    fn what_needs_no_common_scale_keeps_its_own() {
        for (limits, grouped) in [
            (&[(0.0, 1.0), (0.0, 3.0)][..], true),
            (&[(0.0, 1.0), (0.0, 1.0)], false),
            (&[(0.0, 0.005), (0.0, 3.0)], false),
        ] {
            assert_eq!(aligned(&branches(limits, grouped), Numerics::OpenVino), []);
        }
    }
}
