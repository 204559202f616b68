//! Networks that are written in 16-bit floats, computed in f32.

use crate::graph::{Graph, Node, NodeId, OutputInfo, Value};
use crate::op::Op;
use crate::ops::control::has_bodies;
use crate::tensor::{ElementType, Tensor};

fn is_half(element_type: ElementType) -> bool {
    matches!(element_type, ElementType::F16 | ElementType::Bf16)
}

/// The network with f16 and bf16 computations in f32, as OpenVINO's CPU plugin runs it with
/// `INFERENCE_PRECISION_HINT=f32`: constants become f32, conversions to 16 bits go, and inputs and outputs keep
/// their element types behind a Convert. `None` where nothing is computed in 16 bits: constants that are only
/// decompressed stay as they are. Also `None` where operations run bodies, or state a 16-bit type themselves.
pub fn in_f32(graph: &Graph) -> Option<Graph> {
    let computes = |node: &Node| {
        let source = matches!(node.op, Op::Constant(_) | Op::Parameter | Op::Result);
        !source && node.outputs.iter().any(|o| is_half(o.element_type))
    };
    if !graph.nodes.iter().any(computes) || graph.nodes.iter().any(|n| has_bodies(&n.op)) {
        return None;
    }
    let mut wide = Graph {
        name: graph.name.clone(),
        ..Graph::default()
    };
    let mut ids: Vec<NodeId> = Vec::with_capacity(graph.nodes.len());
    let mut results = Vec::with_capacity(graph.results.len());
    let mut parameters = Vec::with_capacity(graph.parameters.len());
    for (id, node) in graph.iter() {
        let mut copy = node.clone();
        copy.inputs = node
            .inputs
            .iter()
            .map(|v| Value {
                node: ids[v.node.index()],
                port: v.port,
            })
            .collect();
        let half = node
            .outputs
            .first()
            .map(|o| o.element_type)
            .filter(|&t| is_half(t));
        let new = match (&node.op, half) {
            (Op::Parameter, Some(_)) => {
                let parameter = wide.push(copy);
                parameters.push((id, parameter));
                convert(&mut wide, node, "f32", Value::of(parameter), ElementType::F32)
            }
            (Op::Result, Some(element_type)) => {
                let narrow = convert(&mut wide, node, "convert", copy.inputs[0], element_type);
                copy.inputs = vec![Value::of(narrow)];
                wide.push(copy)
            }
            (Op::Constant(tensor), Some(_)) => {
                let values = Tensor::from_slice(tensor.shape(), &tensor.to_f32()).ok()?;
                copy.op = Op::Constant(values);
                widen(&mut copy.outputs);
                wide.push(copy)
            }
            (Op::Convert(_), Some(_)) => {
                copy.op = Op::Convert(ElementType::F32);
                widen(&mut copy.outputs);
                wide.push(copy)
            }
            _ => {
                widen(&mut copy.outputs);
                wide.push(copy)
            }
        };
        if matches!(node.op, Op::Parameter) && half.is_none() {
            parameters.push((id, new));
        }
        if matches!(node.op, Op::Result) {
            results.push((id, new));
        }
        ids.push(new);
    }
    let ordered = |wanted: &[NodeId], found: &[(NodeId, NodeId)]| -> Option<Vec<NodeId>> {
        wanted
            .iter()
            .map(|id| found.iter().find(|f| f.0 == *id).map(|f| f.1))
            .collect()
    };
    wide.parameters = ordered(&graph.parameters, &parameters)?;
    wide.results = ordered(&graph.results, &results)?;
    // Every operation must agree with the types it now has.
    let stated: Vec<Vec<OutputInfo>> = wide.nodes.iter().map(|n| n.outputs.clone()).collect();
    wide.infer_shapes().ok()?;
    let same = wide.nodes.iter().zip(&stated).all(|(node, outputs)| {
        let types = node.outputs.iter().map(|o| o.element_type);
        types.eq(outputs.iter().map(|o| o.element_type))
    });
    same.then_some(wide)
}

fn widen(outputs: &mut [OutputInfo]) {
    for output in outputs.iter_mut().filter(|o| is_half(o.element_type)) {
        output.element_type = ElementType::F32;
    }
}

fn convert(wide: &mut Graph, node: &Node, what: &str, input: Value, to: ElementType) -> NodeId {
    let shape = wide.info(input).shape.clone();
    wide.push(Node {
        name: format!("{}/{what}", node.name).into(),
        line: node.line,
        op: Op::Convert(to),
        inputs: vec![input],
        outputs: vec![OutputInfo {
            element_type: to,
            shape,
            names: Vec::new(),
        }],
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::BinaryKind;

    /// `x + 1/3`, in f16 or with the constant alone compressed.
    fn graph(compressed_only: bool) -> Graph {
        let mut graph = Graph::default();
        let half = if compressed_only {
            ElementType::F32
        } else {
            ElementType::F16
        };
        let mut push =
            |name: &str, op: Op, inputs: Vec<Value>, element_type: ElementType, shape: &[usize]| {
                Value::of(graph.push(Node {
                    name: name.into(),
                    line: 0,
                    op,
                    inputs,
                    outputs: vec![OutputInfo::fixed(element_type, shape)],
                }))
            };
        let x = push("x", Op::Parameter, vec![], half, &[2]);
        let third = Tensor::from_f64(ElementType::F16, &[], &[1.0 / 3.0]).unwrap();
        let mut c = push("c", Op::Constant(third), vec![], ElementType::F16, &[]);
        if compressed_only {
            c = push(
                "c32",
                Op::Convert(ElementType::F32),
                vec![c],
                ElementType::F32,
                &[],
            );
        }
        let add = Op::Binary(BinaryKind::Add);
        let y = push("sum", add, vec![x, c], half, &[2]);
        let r = push("result", Op::Result, vec![y], half, &[2]);
        graph.parameters = vec![x.node];
        graph.results = vec![r.node];
        graph
    }

    #[test]
    fn sixteen_bit_networks_compute_in_f32_and_keep_their_signature() {
        let wide = in_f32(&graph(false)).unwrap();
        let kinds: Vec<_> = wide.nodes.iter().map(|n| n.op.type_name()).collect();
        assert_eq!(
            kinds,
            ["Parameter", "Convert", "Const", "Add", "Convert", "Result"]
        );
        let x = Tensor::from_f64(ElementType::F16, &[2], &[2048.0, 0.5]).unwrap();
        let y = crate::evaluate(&wide, &[x]).unwrap().remove(0);
        assert_eq!(y.element_type(), ElementType::F16);
        assert_eq!(y.to_f32(), [2048.0, 0.833_007_8]);
        let sum = wide.nodes.iter().find(|n| &*n.name == "sum").unwrap();
        assert_eq!(sum.outputs[0].element_type, ElementType::F32);
    }

    #[test]
    fn compressed_constants_alone_change_nothing() {
        assert!(in_f32(&graph(true)).is_none());
    }
}
