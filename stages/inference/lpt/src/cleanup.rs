//! What is left to tidy once dequantizations are where they belong.

use flow_model::graph::{Graph, Node, NodeId, OutputInfo, Value};
use flow_model::op::{Dequantize, Op, Quantize};
use flow_model::tensor::{ElementType, Tensor};

use crate::dequantization::at;
use crate::options::Options;
use crate::regions::Regions;
use crate::report::{Notes, Reason, ReasonCode};
use crate::rewrite::{Rewriter, remove_dead};

/// Turns a Quantize whose codes are only dequantized again, and on the way to no other codes, back into an f32
/// FakeQuantize; then removes what no result depends on.
pub(crate) fn clean_up(graph: &Graph, _options: &Options, notes: &mut Notes) -> Graph {
    let live = remove_dead(graph);
    let regions = Regions::new(&live);
    let mut rewriter = Rewriter::new(&live);
    for (id, node) in live.iter() {
        match lone_pair(&live, &regions, id) {
            Some((quantize, dequantize)) => {
                let name = live.node(node.inputs[0].node).name.clone();
                notes.stays_float(
                    &name,
                    Reason::new(
                        ReasonCode::NoIntegerConsumer,
                        format!("no operation that reads \"{name}\" works on codes"),
                    ),
                );
                restore(&mut rewriter, &live, id, quantize, dequantize);
            }
            None => {
                rewriter.keep(id);
            }
        }
    }
    remove_dead(&rewriter.finish())
}

/// The Quantize before a Dequantize, if it serves nothing else and codes lead nowhere.
fn lone_pair<'a>(
    graph: &'a Graph,
    regions: &Regions<'_>,
    id: NodeId,
) -> Option<(&'a Quantize, &'a Dequantize)> {
    let Op::Dequantize(dequantize) = &graph.node(id).op else {
        return None;
    };
    let source = graph.node(id).inputs.first()?.node;
    let Op::Quantize(quantize) = &graph.node(source).op else {
        return None;
    };
    let same_axis = dequantize.axis.is_none() || dequantize.axis == quantize.axis;
    let leads_on = |u: &NodeId| regions.leads_to_codes(*u) || matches!(graph.node(*u).op, Op::Quantize(_));
    let lone = regions.users(source).len() == 1 && !regions.users(id).iter().any(leads_on);
    (same_axis && lone).then_some((quantize, dequantize))
}

fn restore(
    rewriter: &mut Rewriter<'_>,
    graph: &Graph,
    id: NodeId,
    quantize: &Quantize,
    dequantize: &Dequantize,
) {
    let source = graph.node(graph.node(id).inputs[0].node);
    let rank = source.outputs[0].shape.len();
    let count = quantize.input_low.len().max(dequantize.scale.len());
    let output = |code: i32| -> Vec<f32> {
        (0..count.max(dequantize.zero_point.len()))
            .map(|i| (code as f32 - at(&dequantize.zero_point, i)) * at(&dequantize.scale, i))
            .collect()
    };
    let limits = [
        ("input_low", quantize.input_low.clone()),
        ("input_high", quantize.input_high.clone()),
        ("output_low", output(quantize.low)),
        ("output_high", output(quantize.high)),
    ];
    let mut inputs = vec![rewriter.value(source.inputs[0])];
    for (what, values) in limits {
        let mut shape = vec![1; if values.len() == 1 { 0 } else { rank }];
        if let Some(d) = quantize.axis.and_then(|axis| shape.get_mut(axis)) {
            *d = values.len();
        }
        let Ok(tensor) = Tensor::from_slice(&shape, &values) else {
            rewriter.keep(id);
            return;
        };
        let constant = rewriter.push(Node {
            name: format!("{}/{what}", source.name).into(),
            line: 0,
            op: Op::Constant(tensor),
            inputs: Vec::new(),
            outputs: vec![OutputInfo::fixed(ElementType::F32, &shape)],
        });
        inputs.push(Value::of(constant));
    }
    rewriter.keep_as(
        id,
        Node {
            name: source.name.clone(),
            line: source.line,
            op: Op::FakeQuantize {
                levels: quantize.levels,
            },
            inputs,
            outputs: graph.node(id).outputs.clone(),
        },
    );
}
