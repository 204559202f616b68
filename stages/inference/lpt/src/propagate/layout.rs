//! Operations that move values without changing them: they work on codes as well.

use std::sync::Arc;

use flow_model::graph::{Node, NodeId, OutputInfo, Value};
use flow_model::op::{Dequantize, InterpolateMode, Op, PadMode};
use flow_model::tensor::{ElementType, Tensor};

use super::Sweep;
use super::coded::{Coded, Meaning};
use crate::constants;
use crate::dequantization::{self, integer_zero_points, with_axis};
use crate::report::{Reason, ReasonCode};

/// Whether each element of the outputs is an element of the first input (Pad brings in one value more).
pub(super) fn moves_values(op: &Op) -> bool {
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
        | Op::Broadcast => true,
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
        let mut inputs = vec![coded.codes];
        for (port, &input) in node.inputs.iter().enumerate().skip(1) {
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
            if let Some(d) = per_output.get(port as usize) {
                output.meaning = Meaning::Affine(Arc::new(d.clone()));
            }
            self.coded.insert(Value { node: id, port }, output);
        }
        Ok(true)
    }

    /// The dequantization of each output where scales vary along an axis.
    fn moved_axes(&self, node: &Node, d: &Dequantize) -> Result<Vec<Dequantize>, Reason> {
        let refused = || {
            Reason::new(
                ReasonCode::AxisNotKept,
                format!(
                    "\"{}\" does not keep axis {} along which {} scales vary",
                    node.name,
                    d.axis.unwrap_or_default(),
                    dequantization::len(d)
                ),
            )
        };
        self.try_moved_axes(node, d)
            .filter(|parts| {
                parts
                    .iter()
                    .all(|p| !p.scale.is_empty() && !p.zero_point.is_empty())
            })
            .ok_or_else(refused)
    }

    fn try_moved_axes(&self, node: &Node, d: &Dequantize) -> Option<Vec<Dequantize>> {
        let axis = d.axis?;
        let count = dequantization::len(d);
        let input = &self.old.info(node.inputs[0]).shape;
        let output = &node.outputs.first()?.shape;
        let constant = |port: usize| {
            node.inputs
                .get(port)
                .and_then(|&v| constants::tensor(self.old, v))
                .map(|t| t.to_i64())
        };
        let same = |d: &Dequantize| Some(vec![d.clone(); node.outputs.len()]);
        match &node.op {
            Op::Reshape { .. } | Op::Squeeze | Op::Unsqueeze => {
                let (input, output): (Vec<usize>, Vec<usize>) = (
                    input.iter().copied().collect::<Option<_>>()?,
                    output.iter().copied().collect::<Option<_>>()?,
                );
                let before = |shape: &[usize], axis: usize| shape[..axis].iter().product::<usize>();
                let to = (0..output.len())
                    .find(|&a| output[a] == count && before(&output, a) == before(&input, axis))?;
                same(&with_axis(d, to))
            }
            Op::Transpose => {
                let to = constant(1)?.iter().position(|&a| a == axis as i64)?;
                same(&with_axis(d, to))
            }
            Op::Split { .. } | Op::VariadicSplit => {
                let along = normalized(*constant(1)?.first()?, input.len())?;
                if along != axis {
                    return same(d);
                }
                let mut start = 0;
                node.outputs
                    .iter()
                    .map(|o| {
                        let length = o.shape[axis]?;
                        let part = dequantization::select(d, start..start + length);
                        start += length;
                        Some(part)
                    })
                    .collect()
            }
            Op::Slice => {
                let (starts, stops, steps) = (constant(1)?, constant(2)?, constant(3)?);
                let axes = match node.inputs.get(4) {
                    Some(_) => constant(4)?,
                    None => (0..starts.len() as i64).collect(),
                };
                let found = axes
                    .iter()
                    .position(|&a| normalized(a, input.len()) == Some(axis));
                let Some(i) = found else { return same(d) };
                let indices = slice_indices(*starts.get(i)?, *stops.get(i)?, *steps.get(i)?, count);
                (Some(indices.len()) == output[axis])
                    .then(|| vec![dequantization::select(d, indices.into_iter())])
            }
            Op::StridedSlice(attrs) => {
                // Axes keep their numbers and the sliced ones their length, or the axis is not followed.
                let simple = ![
                    &attrs.new_axis_mask,
                    &attrs.shrink_axis_mask,
                    &attrs.ellipsis_mask,
                ]
                .iter()
                .any(|mask| mask.contains(&true));
                (simple && output.get(axis) == Some(&Some(count)) && self.steps_forward(node, axis))
                    .then(|| vec![d.clone()])
            }
            Op::Gather { batch_dims: 0 } => {
                let along = normalized(*constant(2)?.first()?, input.len())?;
                let indices_rank = self.old.info(*node.inputs.get(1)?).shape.len();
                if along < axis {
                    return same(&with_axis(d, axis + indices_rank - 1));
                }
                if along > axis {
                    return same(d);
                }
                let indices: Vec<usize> = constant(1)?
                    .iter()
                    .map(|&i| normalized(i, count))
                    .collect::<Option<_>>()?;
                (indices_rank <= 1).then(|| {
                    let mut part = dequantization::select(d, indices.into_iter());
                    if indices_rank == 0 {
                        part.axis = None;
                    }
                    vec![part]
                })
            }
            Op::Pad(mode) => {
                let (begin, end) = (constant(1)?, constant(2)?);
                let unpadded = begin.get(axis) == Some(&0) && end.get(axis) == Some(&0);
                (unpadded || *mode == PadMode::Edge && count == 1).then(|| vec![d.clone()])
            }
            Op::Interpolate(_) | Op::Broadcast => {
                (input.len() == output.len() && output[axis] == Some(count)).then(|| vec![d.clone()])
            }
            _ => None,
        }
    }

    /// Whether a StridedSlice walks an axis of unchanged length from its beginning.
    fn steps_forward(&self, node: &Node, axis: usize) -> bool {
        match node.inputs.get(3) {
            None => true,
            Some(&strides) => constants::tensor(self.old, strides)
                .is_some_and(|t| t.to_i64().get(axis).copied().unwrap_or(1) == 1),
        }
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
        let byte = match (coded.table(), coded.affine()) {
            (Some(table), _) => (0..=255u8).find(|&b| table[usize::from(b)] == value),
            (None, Some(d)) if value == 0.0 => integer_zero_points(d)
                .filter(|z| z.iter().all(|x| *x == z[0]))
                .and_then(|z| {
                    let (low, high) = Coded::full_range(coded.element_type);
                    (low..=high).contains(&z[0]).then_some(z[0] as u8)
                }),
            _ => None,
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

/// A possibly negative index or axis.
pub(super) fn normalized(index: i64, length: usize) -> Option<usize> {
    let length = i64::try_from(length).ok()?;
    let index = if index < 0 { index + length } else { index };
    (0..length).contains(&index).then_some(index as usize)
}

/// The indices that a slice of an axis takes, as Slice-8 says.
fn slice_indices(start: i64, stop: i64, step: i64, length: usize) -> Vec<usize> {
    let length = length as i64;
    let (lowest, highest) = if step > 0 { (0, length) } else { (-1, length - 1) };
    let clip = |v: i64| (if v < 0 { v.saturating_add(length) } else { v }).clamp(lowest, highest);
    let (mut at, stop) = (clip(start), clip(stop));
    let mut indices = Vec::new();
    while step != 0 && (if step > 0 { at < stop } else { at > stop }) {
        indices.push(at as usize);
        at = at.saturating_add(step);
    }
    indices
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_take_the_indices_of_the_specification() {
        assert_eq!(slice_indices(1, i64::MAX, 2, 6), [1, 3, 5]);
        assert_eq!(slice_indices(-2, i64::MAX, 1, 6), [4, 5]);
        assert_eq!(slice_indices(-1, i64::MIN, -2, 5), [4, 2, 0]);
        assert_eq!(slice_indices(3, 1, 1, 6), [0usize; 0]);
        assert_eq!(slice_indices(0, 5, i64::MAX, 6), [0]);
        assert_eq!(slice_indices(0, 5, 0, 6), [0usize; 0]);
    }
}
