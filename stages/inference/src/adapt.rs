//! Other element types and normalisation at the inputs and outputs of a network.

use flow_model::op::BinaryKind;
use flow_model::{ElementType, Graph, ModelError, Node, NodeId, Op, OutputInfo, Tensor, Value};

/// What is to change at one input.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct InputChange {
    /// Element type that the input is given in; it is converted to the model's.
    pub element_type: Option<ElementType>,
    /// Subtracted from each channel; one value, or one per channel. Empty: nothing.
    pub mean: Vec<f32>,
    /// Divides each channel; as `mean`.
    pub scale: Vec<f32>,
    /// Axis of the channels.
    pub channel_axis: usize,
}

/// The graph with conversions behind its inputs and before its outputs. `inputs` and `outputs` are in the order of
/// Parameters and Results; where they are shorter, nothing changes.
///
/// # Errors
/// Where an operation does not take what it gets then.
pub fn adapt(
    graph: &Graph,
    inputs: &[InputChange],
    outputs: &[Option<ElementType>],
) -> Result<Graph, ModelError> {
    let mut out = Graph {
        name: graph.name.clone(),
        ..Graph::default()
    };
    let mut map: Vec<NodeId> = Vec::with_capacity(graph.nodes.len());
    let mut parameters = vec![NodeId(0); graph.parameters.len()];
    for (id, node) in graph.iter() {
        let mut copy = node.clone();
        for value in &mut copy.inputs {
            value.node = map[value.node.index()];
        }
        let parameter = graph.parameters.iter().position(|&p| p == id);
        let change = parameter.and_then(|i| inputs.get(i));
        let result = graph.results.iter().position(|&r| r == id);
        let wanted = result.and_then(|i| outputs.get(i).copied().flatten());
        if let (Some(wanted), Some(&from)) = (wanted, copy.inputs.first())
            && out.info(from).element_type != wanted
        {
            let name = format!("{}/convert", node.name);
            // Tensor names stay with what the network gives.
            let names = std::mem::take(&mut out.nodes[from.node.index()].outputs[from.port as usize].names);
            let convert = push(&mut out, &name, Op::Convert(wanted), vec![from]);
            out.nodes[convert.index()].outputs = vec![OutputInfo {
                names,
                ..OutputInfo::fixed(wanted, &[])
            }];
            copy.inputs = vec![Value::of(convert)];
        }
        if let Some(at) = parameter {
            parameters[at] = NodeId(out.nodes.len() as u32);
        }
        let Some(change) = change else {
            map.push(out.push(copy));
            continue;
        };
        let (own, rank) = (copy.outputs[0].element_type, copy.outputs[0].shape.len());
        let given = change.element_type.unwrap_or(own);
        copy.outputs[0].element_type = given;
        let mut last = out.push(copy);
        let normalised = !(change.mean.is_empty() && change.scale.is_empty());
        let working = if normalised { ElementType::F32 } else { own };
        if given != working {
            last = push(
                &mut out,
                &format!("{}/convert", node.name),
                Op::Convert(working),
                vec![Value::of(last)],
            );
        }
        for (word, values, kind) in [
            ("mean", &change.mean, BinaryKind::Subtract),
            ("scale", &change.scale, BinaryKind::Divide),
        ] {
            if values.is_empty() {
                continue;
            }
            let mut shape = vec![1; rank];
            if let (true, Some(length)) = (values.len() > 1, shape.get_mut(change.channel_axis)) {
                *length = values.len();
            }
            let constant = Tensor::from_slice(&shape, values).map_err(|e| ModelError::Layer {
                layer: node.name.to_string(),
                kind: node.op.type_name().to_owned(),
                line: node.line,
                source: flow_model::OpError(e.to_string()),
            })?;
            let name = format!("{}/{word}", node.name);
            let constant = push(
                &mut out,
                &format!("{name}_values"),
                Op::Constant(constant),
                Vec::new(),
            );
            let inputs = vec![Value::of(last), Value::of(constant)];
            last = push(&mut out, &name, Op::Binary(kind), inputs);
        }
        if working != own {
            last = push(
                &mut out,
                &format!("{}/model_type", node.name),
                Op::Convert(own),
                vec![Value::of(last)],
            );
        }
        map.push(last);
    }
    out.parameters = parameters;
    out.results = graph.results.iter().map(|r| map[r.index()]).collect();
    out.infer_shapes()?;
    Ok(out)
}

fn push(graph: &mut Graph, name: &str, op: Op, inputs: Vec<Value>) -> NodeId {
    graph.push(Node {
        name: name.into(),
        line: 0,
        op,
        inputs,
        outputs: Vec::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(shape: &[usize]) -> Graph {
        let mut graph = Graph::default();
        let mut info = OutputInfo::fixed(ElementType::F32, shape);
        info.names.push("y".into());
        let x = push(&mut graph, "x", Op::Parameter, vec![]);
        graph.nodes[x.index()].outputs = vec![OutputInfo::fixed(ElementType::F32, shape)];
        let abs = Op::Unary(flow_model::op::UnaryKind::Abs);
        let y = push(&mut graph, "abs", abs, vec![Value::of(x)]);
        graph.nodes[y.index()].outputs = vec![info];
        let result = push(&mut graph, "result", Op::Result, vec![Value::of(y)]);
        graph.parameters.push(x);
        graph.results.push(result);
        graph
    }

    #[test]
    fn a_u8_input_is_normalised_per_channel_and_the_output_converted() {
        let change = InputChange {
            element_type: Some(ElementType::U8),
            mean: vec![10.0, 20.0],
            scale: vec![2.0],
            channel_axis: 1,
        };
        let adapted = adapt(&identity(&[1, 2, 2]), &[change], &[Some(ElementType::I32)]).unwrap();
        let input = Tensor::from_slice(&[1, 2, 2], &[10u8, 14, 20, 10]).unwrap();
        let output = flow_model::evaluate(&adapted, &[input]).unwrap();
        assert_eq!(output[0].element_type(), ElementType::I32);
        assert_eq!(output[0].to_f64(), [0.0, 2.0, 0.0, 5.0]);
        let last = adapted.info(adapted.node(adapted.results[0]).inputs[0]);
        assert_eq!(last.names.len(), 1, "the name of the output goes with it");
    }

    #[test]
    fn nothing_asked_for_is_nothing_changed() {
        let graph = identity(&[2]);
        let same = adapt(&graph, &[], &[]).unwrap();
        assert_eq!(same.nodes.len(), graph.nodes.len());
        assert_eq!(same.parameters, graph.parameters);
        assert_eq!(same.results, graph.results);
    }
}
