//! FakeQuantize in f32 as codes and their values: on codes, values next to ties are evaluated as the model does.

use flow_model::op::{Dequantize, Op, Quantize};
use flow_model::{ElementType, Graph, Node, NodeId, OutputInfo, Tensor, Value};

/// Most levels that an 8-bit code tells apart.
const MAX_LEVELS: u32 = 256;

/// The graph with each FakeQuantize of at most 256 levels taken apart into Quantize and Dequantize, which keeps its name
/// and `NAME/dequantize`; `None` if there is none.
pub(crate) fn take_apart(graph: &Graph) -> Option<Graph> {
    let pairs: Vec<Option<(Quantize, Dequantize)>> =
        graph.iter().map(|(_, node)| pair(graph, node)).collect();
    if pairs.iter().all(Option::is_none) {
        return None;
    }
    let mut new = Graph {
        name: graph.name.clone(),
        ..Graph::default()
    };
    let mut place: Vec<NodeId> = Vec::with_capacity(graph.nodes.len());
    for ((_, node), pair) in graph.iter().zip(pairs) {
        let inputs: Vec<Value> = node
            .inputs
            .iter()
            .map(|v| Value {
                node: place[v.node.index()],
                ..*v
            })
            .collect();
        place.push(match pair {
            None => new.push(Node {
                inputs,
                ..node.clone()
            }),
            Some((quantize, dequantize)) => {
                let codes = new.push(Node {
                    name: node.name.clone(),
                    line: node.line,
                    inputs: inputs[..1].to_vec(),
                    outputs: vec![OutputInfo {
                        element_type: quantize.element_type,
                        names: Vec::new(),
                        ..node.outputs[0].clone()
                    }],
                    op: Op::Quantize(quantize),
                });
                new.push(Node {
                    name: format!("{}/dequantize", node.name).into(),
                    line: 0,
                    op: Op::Dequantize(dequantize),
                    inputs: vec![Value::of(codes)],
                    outputs: node.outputs.clone(),
                })
            }
        });
    }
    new.parameters = graph.parameters.iter().map(|id| place[id.index()]).collect();
    new.results = graph.results.iter().map(|id| place[id.index()]).collect();
    Some(new)
}

fn pair(graph: &Graph, node: &Node) -> Option<(Quantize, Dequantize)> {
    let Op::FakeQuantize { levels } = node.op else {
        return None;
    };
    let input = *node.inputs.first()?;
    let shape = graph.info(input).static_shape()?;
    let usable =
        graph.info(input).element_type == ElementType::F32 && node.outputs[0].static_shape()? == shape;
    if !usable || !(2..=MAX_LEVELS).contains(&levels) || matches!(graph.node(input.node).op, Op::Constant(_))
    {
        return None;
    }
    let limit = |port: usize| match &graph.node(node.inputs.get(port)?.node).op {
        Op::Constant(tensor) => Some(tensor),
        _ => None,
    };
    let limits: Vec<&Tensor> = (1..5).map(limit).collect::<Option<_>>()?;
    let mut axis = None;
    for tensor in &limits {
        let missing = shape.len().checked_sub(tensor.shape().len())?;
        for (i, _) in tensor.shape().iter().enumerate().filter(|&(_, &d)| d != 1) {
            if axis.is_some_and(|known| known != i + missing) {
                return None;
            }
            axis = Some(i + missing);
        }
    }
    let count = axis.map_or(1, |a| shape[a]);
    let of = |tensor: &Tensor| -> Option<Vec<f32>> {
        let values = tensor.to_f32();
        match values[..] {
            [one] => Some(vec![one; count]),
            _ => (values.len() == count && values.iter().all(|v| v.is_finite())).then_some(values),
        }
    };
    let [low, high, output_low, output_high] =
        [of(limits[0])?, of(limits[1])?, of(limits[2])?, of(limits[3])?];
    let (mut scale, mut zero_point) = (Vec::new(), Vec::new());
    for c in 0..count {
        let step = (f64::from(output_high[c]) - f64::from(output_low[c])) / f64::from(levels - 1);
        if low[c] == high[c] || !(step as f32).is_normal() {
            return None;
        }
        scale.push(step as f32);
        zero_point.push((-f64::from(output_low[c]) / step) as f32);
    }
    let quantize = Quantize {
        input_low: low,
        input_high: high,
        axis,
        levels,
        low: 0,
        high: levels as i32 - 1,
        element_type: ElementType::U8,
    };
    let dequantize = Dequantize {
        scale,
        zero_point,
        axis,
    };
    Some((quantize, dequantize))
}
