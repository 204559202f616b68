//! Element-wise operations: constants merge into the dequantization, other functions of one tensor of codes
//! become tables.

use std::sync::Arc;

use flow_model::graph::{Node, NodeId, Value};
use flow_model::op::{BinaryKind, Dequantize, Op};
use flow_model::tensor::{ElementType, Tensor};

use super::Sweep;
use super::coded::{Coded, Meaning, Table};
use crate::constants;
use crate::dequantization::{at, from_pairs, integer_zero_point, is_usable_scale, len};
use crate::report::{Fate, Reason};

/// Most steps by which an added constant may move a zero point. Beyond it `(q - zero_point) * scale` in f32
/// loses more than about `2^-12` of a step.
const MAX_SHIFT: f64 = 2048.0;

impl Sweep<'_> {
    pub(super) fn elementwise(&mut self, id: NodeId, node: &Node) -> Result<bool, Reason> {
        if self.passes_through(id, node) || self.merges_constant(id, node) {
            return Ok(true);
        }
        let Some((coded, table)) = self.function(node) else {
            return Ok(false);
        };
        let (grid, mut absorbed) = match &coded.meaning {
            Meaning::Affine(d) => (d.clone(), Vec::new()),
            Meaning::Function { grid, absorbed, .. } => (grid.clone(), absorbed.clone()),
        };
        absorbed.push(node.name.clone());
        // The operation itself stays for whoever needs the value; nobody may.
        self.keep(id);
        let meaning = Meaning::Function {
            table: Arc::new(table),
            grid,
            absorbed,
        };
        self.coded.insert(Value::of(id), Coded { meaning, ..coded });
        Ok(true)
    }

    /// Relu and Clamp that change no value that the codes can mean: also where scales vary along an axis.
    fn passes_through(&mut self, id: NodeId, node: &Node) -> bool {
        let (min, max) = match node.op {
            Op::Unary(flow_model::op::UnaryKind::Relu) => (0.0, f32::INFINITY),
            Op::Clamp { min, max } => (min, max),
            _ => return false,
        };
        let Some(coded) = self.coded(node.inputs[0]).cloned() else {
            return false;
        };
        let Some(d) = coded.affine() else { return false };
        let (low, high) = coded.range;
        let within = (0..len(d)).all(|i| {
            let (scale, zero_point) = (at(&d.scale, i), at(&d.zero_point, i));
            [low, high]
                .map(|q| (q as f32 - zero_point) * scale)
                .iter()
                .all(|v| (min..=max).contains(v))
        });
        if within {
            self.notes.moved(&node.name, Fate::Removed);
            self.coded.insert(Value::of(id), coded);
        }
        within
    }

    /// Addition, subtraction, multiplication and division by a constant, per tensor or along one axis.
    fn merges_constant(&mut self, id: NodeId, node: &Node) -> bool {
        let Op::Binary(kind) = node.op else { return false };
        let is_coded = |v: &Value| self.coded(*v).is_some_and(|c| c.affine().is_some());
        let Some(port) = node.inputs.iter().position(is_coded) else {
            return false;
        };
        let (input, other) = (node.inputs[port], node.inputs[1 - port]);
        let same_shape = self.old.info(input).shape == node.outputs[0].shape;
        let rank = node.outputs[0].shape.len();
        let constant = constants::tensor(self.old, other).filter(|_| same_shape);
        let Some((values, axis)) = constant.and_then(|t| along_axis(&t, rank)) else {
            return false;
        };
        let Some(coded) = self.coded(input).cloned() else {
            return false;
        };
        let Some(merged) = coded.affine().and_then(|d| merge(d, kind, port, &values, axis)) else {
            return false;
        };
        self.notes.moved(
            &node.name,
            Fate::FusedInto(self.new.node(coded.codes.node).name.clone()),
        );
        let meaning = Meaning::Affine(Arc::new(merged));
        self.coded.insert(Value::of(id), Coded { meaning, ..coded });
        true
    }

    /// The values of an operation whose inputs are constants of one element and functions of the same codes.
    fn function(&self, node: &Node) -> Option<(Coded, Table)> {
        let mut coded: Option<Coded> = None;
        let mut inputs = Vec::with_capacity(node.inputs.len());
        for &input in &node.inputs {
            if let Some(found) = self.coded(input) {
                let table = found.table()?;
                if coded.as_ref().is_some_and(|c| c.codes != found.codes) {
                    return None;
                }
                inputs.push(Tensor::from_slice(&[table.len()], &table[..]).ok()?);
                // The deeper function names what both have absorbed.
                let depth = |c: &Coded| match &c.meaning {
                    Meaning::Function { absorbed, .. } => absorbed.len(),
                    Meaning::Affine(_) => 0,
                };
                if coded.as_ref().is_none_or(|c| depth(c) < depth(found)) {
                    coded = Some(found.clone());
                }
            } else {
                let constant = constants::tensor(self.old, input)?;
                if constant.len() != 1 || constant.element_type() != ElementType::F32 {
                    return None;
                }
                inputs.push(match node.op {
                    Op::Standard(_) => constant,
                    _ => constant.reshaped(&[1]).ok()?,
                });
            }
        }
        let coded = coded?;
        // A constant of higher rank would change the rank of the result.
        let codes_shape = &self.new.info(coded.codes).shape;
        if *codes_shape != node.outputs[0].shape || node.outputs[0].element_type != ElementType::F32 {
            return None;
        }
        let outputs = flow_model::ops::evaluate(&node.op, &inputs).ok()?;
        let table: Table = outputs.first()?.to_f32().try_into().ok()?;
        table.iter().all(|v| !v.is_nan()).then_some((coded, table))
    }
}

/// The values of a constant that has one element, or varies along one axis of a tensor of that rank.
fn along_axis(tensor: &Tensor, rank: usize) -> Option<(Vec<f32>, Option<usize>)> {
    let offset = rank.checked_sub(tensor.shape().len())?;
    if !matches!(tensor.element_type(), ElementType::F32) || tensor.is_empty() {
        return None;
    }
    let mut long = tensor.shape().iter().enumerate().filter(|&(_, &d)| d != 1);
    let axis = long.next().map(|(i, _)| i + offset);
    long.next().is_none().then(|| (tensor.to_f32(), axis))
}

/// The dequantization after an operation with a constant; `port` is the port of the codes.
fn merge(
    dequantize: &Dequantize,
    kind: BinaryKind,
    port: usize,
    values: &[f32],
    axis: Option<usize>,
) -> Option<Dequantize> {
    if dequantize.axis.is_some() && axis.is_some() && dequantize.axis != axis {
        return None;
    }
    let count = len(dequantize).max(values.len());
    let mut pairs = Vec::with_capacity(count);
    for i in 0..count {
        let scale = f64::from(at(&dequantize.scale, i));
        let zero_point = f64::from(at(&dequantize.zero_point, i));
        let c = f64::from(at(values, i));
        let shifted = |c: f64| {
            let shift = c / scale;
            (shift.abs() <= MAX_SHIFT).then_some(zero_point - shift)
        };
        let (scale, zero_point) = match (kind, port) {
            (BinaryKind::Multiply, _) => (scale * c, zero_point),
            (BinaryKind::Divide, 0) => (scale / c, zero_point),
            (BinaryKind::Add, _) => (scale, shifted(c)?),
            (BinaryKind::Subtract, 0) => (scale, shifted(-c)?),
            // c - (q - z) s = (q - (z + c/s)) (-s)
            (BinaryKind::Subtract, _) => (-scale, shifted(-c)?),
            _ => return None,
        };
        if !is_usable_scale(scale) || !zero_point.is_finite() {
            return None;
        }
        let zero_point = integer_zero_point(zero_point).map_or(zero_point, f64::from);
        pairs.push((scale, zero_point));
    }
    Some(from_pairs(&pairs, dequantize.axis.or(axis)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constants_merge_into_the_dequantization() {
        let d = Dequantize {
            scale: vec![0.5],
            zero_point: vec![10.0],
            axis: None,
        };
        let value = |d: &Dequantize, q: f32| (q - d.zero_point[0]) * d.scale[0];
        type Case = (BinaryKind, usize, fn(f32) -> f32);
        let cases: [Case; 5] = [
            (BinaryKind::Multiply, 0, |x| x * 4.0),
            (BinaryKind::Divide, 0, |x| x / 4.0),
            (BinaryKind::Add, 1, |x| x + 4.0),
            (BinaryKind::Subtract, 0, |x| x - 4.0),
            (BinaryKind::Subtract, 1, |x| 4.0 - x),
        ];
        for (kind, port, expected) in cases {
            let merged = merge(&d, kind, port, &[4.0], None).unwrap();
            for q in [0.0, 10.0, 255.0] {
                assert_eq!(value(&merged, q), expected(value(&d, q)), "{kind:?} {port}");
            }
        }
        assert!(merge(&d, BinaryKind::Multiply, 0, &[0.0], None).is_none());
        assert!(merge(&d, BinaryKind::Divide, 1, &[4.0], None).is_none());
        assert!(merge(&d, BinaryKind::Add, 0, &[1e9], None).is_none());
    }

    #[test]
    fn constants_along_another_axis_do_not_merge() {
        let d = Dequantize {
            scale: vec![0.5, 0.25],
            zero_point: vec![0.0],
            axis: Some(1),
        };
        let merged = merge(&d, BinaryKind::Multiply, 0, &[2.0, 4.0], Some(1)).unwrap();
        assert_eq!((merged.scale, merged.axis), (vec![1.0], None));
        assert!(merge(&d, BinaryKind::Multiply, 0, &[2.0, 4.0], Some(2)).is_none());
    }
}
