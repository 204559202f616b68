//! Operations that move values without changing them: they work on codes as well.

mod axes;
mod pixels;

use std::sync::Arc;

use flow_model::graph::{Node, NodeId, OutputInfo, Value};
use flow_model::op::{Dequantize, InterpolateMode, Op, PadMode};
use flow_model::tensor::{ElementType, Tensor};

use super::Sweep;
use super::coded::{Coded, Meaning};
use crate::constants;
use crate::dequantization::{at, integer_zero_point, len};
use crate::report::{Reason, ReasonCode};

/// Whether each element of the outputs is an element of the first input (Pad brings in one value more).
pub(crate) fn moves_values(op: &Op) -> bool {
    match op {
        Op::Reshape { .. }
        | Op::Transpose
        | Op::Squeeze
        | Op::Unsqueeze
        | Op::Split { .. }
        | Op::VariadicSplit
        | Op::Slice
        | Op::StridedSlice(_)
        | Op::Gather { .. }
        | Op::GatherNd { .. }
        | Op::Pad(_)
        | Op::Broadcast
        | Op::BroadcastBidirectional => true,
        Op::Interpolate(attrs) => {
            let pads = attrs.pads_begin.iter().chain(&attrs.pads_end);
            attrs.mode == InterpolateMode::Nearest && pads.into_iter().all(|&p| p == 0)
        }
        Op::Standard(operation) => operation.moves_values(),
        _ => false,
    }
}

impl Sweep<'_> {
    pub(super) fn layout(&mut self, id: NodeId, node: &Node) -> Result<bool, Reason> {
        let data = node.inputs[0];
        let Some(coded) = self.coded(data).cloned() else {
            return Ok(false);
        };
        let per_output = match coded.affine() {
            Some(d) if d.axis.is_some() => self.moved_axes(node, d)?,
            _ => Vec::new(),
        };
        let pad = match node.op {
            Op::Pad(PadMode::Constant) => Some(self.pad_code(node, &coded)?),
            _ => None,
        };
        let mut range = coded.range;
        if let Some(code) = &pad {
            let code = Coded::number(coded.element_type, code.bytes()[0]);
            range = (range.0.min(code), range.1.max(code));
        }
        // A value to pad with that the mode does not use may be of another type than the codes.
        let used = match node.op {
            Op::Pad(PadMode::Edge | PadMode::Reflect | PadMode::Symmetric) => 3,
            _ => node.inputs.len(),
        };
        let mut inputs = vec![coded.codes];
        for (port, &input) in node.inputs.iter().enumerate().take(used).skip(1) {
            let input = match (&pad, port) {
                (Some(code), 3) => self.push_code(node, code.clone()),
                _ => self.plain(input),
            };
            inputs.push(input);
        }
        if let Some(code) = pad
            && inputs.len() == 3
        {
            let code = self.push_code(node, code);
            inputs.push(code);
        }
        let outputs: Vec<OutputInfo> = node
            .outputs
            .iter()
            .map(|info| OutputInfo {
                element_type: coded.element_type,
                shape: info.shape.clone(),
                names: Vec::new(),
            })
            .collect();
        let moved = self.new.push(Node {
            inputs,
            outputs,
            ..node.clone()
        });
        if coded.affine().is_none() {
            self.keep(id);
        }
        for port in 0..node.outputs.len() as u32 {
            let mut output = coded.moved(Value { node: moved, port });
            output.range = range;
            if let Some(d) = per_output.get(port as usize) {
                output.meaning = Meaning::Affine(Arc::new(d.clone()));
            }
            self.coded.insert(Value { node: id, port }, output);
        }
        Ok(true)
    }

    /// The code that means the value that Pad brings in.
    fn pad_code(&self, node: &Node, coded: &Coded) -> Result<Tensor, Reason> {
        let value = match node.inputs.get(3) {
            None => Some(0.0),
            Some(&input) => constants::tensor(self.old, input).and_then(|t| t.to_f32().first().copied()),
        };
        let refused = |what: String| Reason::new(ReasonCode::ValueNotRepresentable, what);
        let value = value.ok_or_else(|| {
            refused(format!(
                "the value that \"{}\" pads with is not constant",
                node.name
            ))
        })?;
        let byte = match &coded.meaning {
            Meaning::Function { table, .. } => coded.occurring().find(|&b| table[usize::from(b)] == value),
            Meaning::Affine(d) => code_of(value, d, coded.element_type),
        };
        let byte = byte.ok_or_else(|| {
            refused(format!(
                "\"{}\" pads with {value}, which no code means",
                node.name
            ))
        })?;
        let code = match coded.element_type {
            ElementType::I8 => Tensor::scalar(byte as i8),
            _ => Tensor::scalar(byte),
        };
        Ok(code)
    }

    fn push_code(&mut self, node: &Node, code: Tensor) -> Value {
        let info = OutputInfo::fixed(code.element_type(), &[]);
        Value::of(self.new.push(Node {
            name: format!("{}/code", node.name).into(),
            line: 0,
            op: Op::Constant(code),
            inputs: Vec::new(),
            outputs: vec![info],
        }))
    }
}

/// The code, as a byte, that means a value under every pair of a dequantization.
fn code_of(value: f32, d: &Dequantize, element_type: ElementType) -> Option<u8> {
    let (low, high) = Coded::full_range(element_type);
    let mut codes = (0..len(d)).map(|i| {
        let (scale, zero_point) = (f64::from(at(&d.scale, i)), f64::from(at(&d.zero_point, i)));
        integer_zero_point(f64::from(value) / scale + zero_point)
    });
    let first = codes.next()??;
    let same = codes.all(|code| code == Some(first));
    (same && (low..=high).contains(&first)).then_some(first as u8)
}

/// A possibly negative index or axis.
pub(super) fn normalized(index: i64, length: usize) -> Option<usize> {
    let length = i64::try_from(length).ok()?;
    let index = if index < 0 { index + length } else { index };
    (0..length).contains(&index).then_some(index as usize)
}
