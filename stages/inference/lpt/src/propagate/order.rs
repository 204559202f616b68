//! Maxima and minima: codes have the order of their values where scales are positive.

use flow_model::graph::{Node, NodeId, OutputInfo, Value};
use flow_model::op::{Dequantize, Lookup, Op};

use super::layout::normalized;
use super::{Sweep, coded::Coded};
use crate::constants;
use crate::dequantization;
use crate::report::{Reason, ReasonCode};

impl Sweep<'_> {
    /// MaxPool, ReduceMax and ReduceMin.
    pub(super) fn order(&mut self, id: NodeId, node: &Node) -> Result<bool, Reason> {
        let Some(mut coded) = self.coded(node.inputs[0]).cloned() else {
            return Ok(false);
        };
        if let Op::MaxPool(pool) = &node.op
            && let (Some(input), Some(output)) = (
                self.old.info(node.inputs[0]).static_shape(),
                node.outputs[0].static_shape(),
            )
            && pool.has_empty_window(&input[2..], &output[2..])
        {
            return Err(Reason::new(
                ReasonCode::ValueNotRepresentable,
                format!(
                    "a window of \"{}\" lies in the padding altogether, which gives the lowest number there is",
                    node.name
                ),
            ));
        }
        if let Some(reversed) = self.reversed(node, &coded) {
            coded = reversed;
        }
        if !coded.is_increasing() {
            return Err(Reason::new(
                ReasonCode::NotMonotonic,
                format!(
                    "\"{}\" reads codes whose order is not that of their values",
                    node.name
                ),
            ));
        }
        let shifted = self.axis_after(node, &coded)?;
        let mut inputs = vec![coded.codes];
        for &input in &node.inputs[1..] {
            inputs.push(self.plain(input));
        }
        let mut outputs = node.outputs.clone();
        outputs[0] = OutputInfo {
            element_type: coded.element_type,
            shape: outputs[0].shape.clone(),
            names: Vec::new(),
        };
        let pooled = self.new.push(Node {
            inputs,
            outputs,
            ..node.clone()
        });
        let is_line = coded.affine().is_some();
        if !is_line {
            self.keep(id);
        } else {
            // The indices of equal codes are those of equal values.
            for port in 1..node.outputs.len() as u32 {
                self.plain
                    .insert(Value { node: id, port }, Value { node: pooled, port });
            }
        }
        let mut output = coded.moved(Value::of(pooled));
        if let Some(meaning) = shifted {
            output.meaning = meaning;
        }
        self.coded.insert(Value::of(id), output);
        Ok(true)
    }

    /// Codes in reverse order, where the given ones count down.
    fn reversed(&mut self, node: &Node, coded: &Coded) -> Option<Coded> {
        let d = coded.affine()?;
        if !self.options.limits.lookup || d.scale.iter().any(|&s| s > 0.0) {
            return None;
        }
        // The complement of the bits is 255 - q for u8 and -1 - q for i8.
        let (low, high) = Coded::full_range(coded.element_type);
        let mirror = low + high;
        let reversed = Dequantize {
            scale: d.scale.iter().map(|s| -s).collect(),
            zero_point: d.zero_point.iter().map(|z| mirror as f32 - z).collect(),
            axis: d.axis,
        };
        let info = self.new.info(coded.codes).clone();
        let codes = self.new.push(Node {
            name: format!("{}/reverse", node.name).into(),
            line: 0,
            op: Op::Lookup(Lookup {
                table: Box::new(std::array::from_fn(|byte| !(byte as u8))),
                element_type: coded.element_type,
            }),
            inputs: vec![coded.codes],
            outputs: vec![OutputInfo {
                names: Vec::new(),
                ..info
            }],
        });
        Some(Coded {
            codes: Value::of(codes),
            element_type: coded.element_type,
            range: (mirror - coded.range.1, mirror - coded.range.0),
            meaning: super::coded::Meaning::Affine(reversed.into()),
        })
    }

    /// What the codes mean after a reduction, where scales vary along an axis that moves.
    fn axis_after(&self, node: &Node, coded: &Coded) -> Result<Option<super::coded::Meaning>, Reason> {
        let Some((d, axis)) = coded.affine().and_then(|d| Some((d, d.axis?))) else {
            return Ok(None);
        };
        let Op::Reduce { keep_dims, .. } = node.op else {
            return if axis < 2 {
                Ok(None)
            } else {
                Err(axis_lost(node, axis))
            };
        };
        let rank = self.old.info(node.inputs[0]).shape.len();
        let axes: Option<Vec<usize>> = node
            .inputs
            .get(1)
            .and_then(|&v| constants::tensor(self.old, v))
            .and_then(|t| t.to_i64().into_iter().map(|a| normalized(a, rank)).collect());
        match axes {
            Some(axes) if !axes.contains(&axis) => {
                let gone = axes.iter().filter(|&&a| a < axis).count();
                let to = if keep_dims { axis } else { axis - gone };
                let moved = dequantization::with_axis(d, to);
                Ok(Some(super::coded::Meaning::Affine(moved.into())))
            }
            _ => Err(axis_lost(node, axis)),
        }
    }
}

fn axis_lost(node: &Node, axis: usize) -> Reason {
    Reason::new(
        ReasonCode::AxisNotKept,
        format!("\"{}\" reduces axis {axis} along which scales vary", node.name),
    )
}
