//! Broadcasting of element-wise operations as `auto_broadcast` says it, brought to the one form that the graph has:
//! numpy's, which aligns shapes at their last axes.

use std::sync::Arc;

use crate::error::{OpError, bail};
use crate::graph::{Dim, Graph, Node, OutputInfo, Value};
use crate::op::Op;
use crate::ops::attributes::Attributes;
use crate::ops::support::show;
use crate::tensor::Tensor;

/// What model files call the first axis that `pdpd` aligns; below `auto_broadcast`.
const AXIS: &str = "auto_broadcast.auto_broadcast_axis";

/// The inputs of an element-wise operation, aligned as numpy does. With `pdpd` every input takes the shape of the
/// first (Select: of the second), from the axis that the attributes name: 0 is the first, -1 means that the last
/// axes lie on each other. Inputs with too few axes behind it get more of length 1; constants at once, others by a
/// Reshape.
///
/// # Errors
/// If the shapes do not broadcast that way, or are not equal where `none` demands it.
pub(super) fn aligned(
    graph: &mut Graph,
    attributes: &Attributes,
    (name, line): (&str, u32),
    mut inputs: Vec<Value>,
) -> Result<Vec<Value>, OpError> {
    let anchor = usize::from(attributes.kind == "Select");
    let Some(shape) = inputs.get(anchor).map(|&v| graph.info(v).shape.clone()) else {
        return Ok(inputs);
    };
    match attributes.get("auto_broadcast") {
        Some("none") => {
            for &input in &inputs {
                let found = &graph.info(input).shape;
                if !fits(found, &shape, false) {
                    bail!(
                        "attribute `auto_broadcast` is none, but the inputs have shapes {} and {}",
                        show(&shape),
                        show(found)
                    );
                }
            }
        }
        Some("pdpd") => {
            let first = attributes.int(AXIS, Some(0))?;
            for (port, input) in inputs.iter_mut().enumerate() {
                if port != anchor {
                    *input = widened(graph, *input, &shape, first, (name, line, port))?;
                }
            }
        }
        _ => {}
    }
    Ok(inputs)
}

/// Whether a shape is, or broadcasts to, that of the anchor.
fn fits(shape: &[Dim], anchor: &[Dim], broadcasts: bool) -> bool {
    shape.len() == anchor.len()
        && shape
            .iter()
            .zip(anchor)
            .all(|(d, a)| d == a || d.is_none() || a.is_none() || (broadcasts && *d == Some(1)))
}

/// An input with axes of length 1 behind its own, as many as `shape` has behind them.
fn widened(
    graph: &mut Graph,
    input: Value,
    shape: &[Dim],
    first: i64,
    (name, line, port): (&str, u32, usize),
) -> Result<Value, OpError> {
    let info = graph.info(input).clone();
    // Axes of length 1 at the end do not count.
    let kept = info
        .shape
        .iter()
        .rposition(|&d| d != Some(1))
        .map_or(0, |i| i + 1);
    let first = match first {
        -1 => shape.len().checked_sub(info.shape.len()),
        first => usize::try_from(first).ok(),
    };
    let behind = first.and_then(|f| shape.len().checked_sub(f.checked_add(kept)?));
    let Some((first, behind)) = first.zip(behind) else {
        bail!(
            "input {port}: {} does not broadcast to {}: it has more axes (`auto_broadcast` is pdpd)",
            show(&info.shape),
            show(shape)
        );
    };
    let own = &info.shape[..kept];
    if !fits(own, &shape[first..first + kept], true) {
        bail!(
            "input {port}: {} does not broadcast to {} from axis {first} on (`auto_broadcast` is pdpd)",
            show(&info.shape),
            show(shape)
        );
    }
    let wide: Vec<Dim> = own.iter().copied().chain(vec![Some(1); behind]).collect();
    if wide == info.shape {
        return Ok(input);
    }
    let output = OutputInfo {
        element_type: info.element_type,
        shape: wide,
        names: Vec::new(),
    };
    let constant = match (&graph.node(input.node).op, output.static_shape()) {
        (Op::Constant(tensor), Some(shape)) => Some(tensor.reshaped(&shape)?),
        _ => None,
    };
    let mut push = |suffix: &str, op: Op, inputs: Vec<Value>, output: OutputInfo| {
        let name = Arc::from(format!("{name}/input{port}{suffix}"));
        let outputs = vec![output];
        Value::of(graph.push(Node {
            name,
            line,
            op,
            inputs,
            outputs,
        }))
    };
    if let Some(tensor) = constant {
        return Ok(push("", Op::Constant(tensor), Vec::new(), output));
    }
    // A length of 0 is that of the input.
    let lengths: Vec<i64> = (0..kept).map(|_| 0).chain((0..behind).map(|_| 1)).collect();
    let lengths = Tensor::from_slice(&[lengths.len()], &lengths)?;
    let target = OutputInfo::fixed(lengths.element_type(), lengths.shape());
    let target = push("/shape", Op::Constant(lengths), Vec::new(), target);
    Ok(push(
        "",
        Op::Reshape { special_zero: true },
        vec![input, target],
        output,
    ))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::graph::NodeId;
    use crate::ir::{Weights, parse};
    use crate::op::BinaryKind;

    fn port(id: usize, shape: &[usize]) -> String {
        let dims: String = shape.iter().map(|d| format!("<dim>{d}</dim>")).collect();
        format!(r#"<port id="{id}" precision="FP32">{dims}</port>"#)
    }

    /// A layer that reads one Parameter for each of the shapes; its output has the first one's.
    fn network(kind: &str, data: &str, shapes: &[&[usize]]) -> Result<Graph, String> {
        let (mut layers, mut edges, mut ports) = (String::new(), String::new(), String::new());
        for (i, shape) in shapes.iter().enumerate() {
            let text: Vec<String> = shape.iter().map(usize::to_string).collect();
            let (text, output) = (text.join(","), port(0, shape));
            layers += &format!(
                r#"<layer id="{i}" name="x{i}" type="Parameter"><data shape="{text}" element_type="f32"/>
                <output>{output}</output></layer>"#
            );
            edges += &format!(r#"<edge from-layer="{i}" from-port="0" to-layer="100" to-port="{i}"/>"#);
            ports += &port(i, shape);
        }
        let output = port(50, shapes[0]);
        let input = port(0, shapes[0]);
        let xml = format!(
            r#"<net name="n" version="11"><layers>{layers}
            <layer id="100" name="y" type="{kind}"><data {data}/><input>{ports}</input><output>{output}</output></layer>
            <layer id="101" name="r" type="Result"><input>{input}</input></layer></layers>
            <edges>{edges}<edge from-layer="100" from-port="50" to-layer="101" to-port="0"/></edges></net>"#
        );
        let weights = Weights::Memory(Arc::new(Vec::<u8>::new()));
        parse(Path::new("n.xml"), xml.as_bytes(), weights).map_err(|e| e.to_string())
    }

    fn numbers(shape: &[usize], first: f32) -> Tensor {
        let count = shape.iter().product::<usize>();
        let values: Vec<f32> = (0..count).map(|i| first + i as f32 / 4.0).collect();
        Tensor::from_slice(shape, &values).unwrap()
    }

    /// `pdpd` from an axis equals numpy with the limits' axes of length 1 written out.
    #[test]
    fn limits_lie_where_the_axis_says() {
        let x = numbers(&[2, 3, 4], -3.0);
        for (limit, axis, written) in [
            (&[2][..], 0, &[2, 1, 1][..]),
            (&[2, 3], 0, &[2, 3, 1]),
            (&[3], 1, &[3, 1]),
            (&[3, 1], 1, &[3, 1]),
            (&[4], 2, &[4]),
            (&[4], -1, &[4]),
            (&[3, 4], -1, &[3, 4]),
            (&[], 0, &[]),
            (&[1, 1, 1, 1], 0, &[]),
        ] {
            let inputs = |shape: &[usize]| {
                let (low, high) = (numbers(shape, -2.0), numbers(shape, 2.0));
                [x.clone(), low.clone(), high.clone(), low, high]
            };
            let pdpd = format!(r#"levels="16" auto_broadcast="pdpd" {AXIS}="{axis}""#);
            let graph = network("FakeQuantize", &pdpd, &[&[2, 3, 4], limit, limit, limit, limit]).unwrap();
            let found = crate::evaluate(&graph, &inputs(limit)).unwrap();
            let numpy = network(
                "FakeQuantize",
                r#"levels="16""#,
                &[&[2, 3, 4], written, written, written, written],
            );
            let expected = crate::evaluate(&numpy.unwrap(), &inputs(written)).unwrap();
            assert_eq!(found, expected, "{limit:?} from axis {axis}");
        }
    }

    #[test]
    fn constants_get_their_axes_at_once() {
        let mut graph = Graph::default();
        let info = |shape: &[usize]| OutputInfo::fixed(crate::ElementType::F32, shape);
        let mut push = |op: Op, shape: &[usize]| {
            let outputs = vec![info(shape)];
            Value::of(graph.push(Node {
                name: "n".into(),
                line: 1,
                op,
                inputs: Vec::new(),
                outputs,
            }))
        };
        let x = push(Op::Parameter, &[2, 3]);
        let c = push(Op::Constant(numbers(&[2], 1.0)), &[2]);
        let attributes = Attributes {
            kind: "Add",
            opset: 1,
            pairs: vec![("auto_broadcast", "pdpd")],
            inputs: 2,
        };
        let inputs = aligned(&mut graph, &attributes, ("sum", 7), vec![x, c]).unwrap();
        assert_eq!((inputs[0], inputs[1].node), (x, NodeId(2)));
        let node = graph.node(inputs[1].node);
        assert_eq!((&*node.name, node.line), ("sum/input1", 7));
        assert!(matches!(&node.op, Op::Constant(t) if t.shape() == [2, 1]));
        graph.push(Node {
            name: "sum".into(),
            line: 7,
            op: Op::Binary(BinaryKind::Add),
            inputs,
            outputs: vec![info(&[2, 3])],
        });
        graph.check_shapes().unwrap();
    }

    #[test]
    fn shapes_that_do_not_fit_are_named() {
        let refused = |data: &str, shapes: &[&[usize]]| network("Add", data, shapes).unwrap_err();
        let message = refused(r#"auto_broadcast="none""#, &[&[2, 3], &[3]]);
        assert!(
            message.contains("\"y\"") && message.contains("[2, 3] and [3]"),
            "{message}"
        );
        let message = refused(r#"auto_broadcast="pdpd""#, &[&[2, 3], &[3]]);
        assert!(
            message.contains("[3] does not broadcast to [2, 3] from axis 0"),
            "{message}"
        );
        let message = refused(r#"auto_broadcast="pdpd""#, &[&[1, 3], &[2]]);
        assert!(message.contains("[2] does not broadcast to [1, 3]"), "{message}");
        let behind = format!(r#"auto_broadcast="pdpd" {AXIS}="2""#);
        assert!(refused(&behind, &[&[2, 3], &[3]]).contains("more axes"));
        assert!(refused(r#"auto_broadcast="pdpd""#, &[&[3], &[3, 2]]).contains("more axes"));
        assert!(refused(r#"auto_broadcast="explicit""#, &[&[3], &[3]]).contains("numpy, pdpd or none"));
        network("Add", r#"auto_broadcast="none""#, &[&[2, 3], &[2, 3]]).unwrap();
    }
}
