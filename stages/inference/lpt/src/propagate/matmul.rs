//! Matrix products of codes: with constant codes, and of two computed factors.

use flow_model::graph::{Dim, Node, NodeId, OutputInfo, Value};
use flow_model::op::{Dequantize, Op, QuantizedBatchMatMul, QuantizedMatMul};
use flow_model::tensor::ElementType;

use super::Sweep;
use super::coded::Coded;
use super::sums::{self, Codes};
use crate::dequantization::{at, len};
use crate::report::{Reason, ReasonCode};

/// Which of its last two axes a product sums over.
#[derive(Debug, Clone, Copy)]
struct Transposed {
    a: bool,
    b: bool,
}

/// Scales that vary along one axis of the product, or one scale.
struct Scales {
    axis: Option<usize>,
    values: Vec<f32>,
}

impl Sweep<'_> {
    /// `y = ((q - z) . (w - z_w)) * (s * s_w)`.
    pub(super) fn matmul(
        &mut self,
        id: NodeId,
        node: &Node,
        transpose_a: bool,
        transpose_b: bool,
    ) -> Result<bool, Reason> {
        let transposed = Transposed {
            a: transpose_a,
            b: transpose_b,
        };
        match Codes::of(self.old, node.inputs[1]) {
            Some(codes) => self.product_with_constant(id, node, transposed, codes),
            None => self.product_of_activations(id, node, transposed),
        }
    }

    fn product_with_constant(
        &mut self,
        id: NodeId,
        node: &Node,
        transposed: Transposed,
        codes: Codes,
    ) -> Result<bool, Reason> {
        let data = node.inputs[0];
        let coded = self.as_affine(data).ok_or_else(|| self.not_codes(node, data))?;
        let Some(d) = coded.affine().cloned() else {
            return Ok(false);
        };
        if codes.tensor.is_empty() {
            return Ok(false);
        }
        let shape = codes.tensor.shape().to_vec();
        let [.., rows, columns] = shape[..] else {
            return Ok(false);
        };
        let (columns, inner) = match transposed.b {
            true => (rows, columns),
            false => (columns, rows),
        };
        let data_rank = self.old.info(data).shape.len();
        let data_scales = self.scales_of(node, 0, &d, transposed.a)?;
        let data_zero_point = one_zero_point(node, &d)?;
        let (zero_point, rest) = sums::split_zero_point(data_zero_point, &coded);
        // Every matrix of a batch counts as further columns.
        let matrices = codes.tensor.len() / (columns * inner).max(1);
        let together = if transposed.b { inner } else { 1 };
        let channels = sums::channels(&codes, matrices, columns, together);
        sums::check_range(&node.name, &channels, &coded, |_| zero_point)?;

        let per_column = codes.scale.len() > 1 || rest != 0.0;
        if data_scales.axis.is_some() && per_column || matrices > 1 && rest != 0.0 {
            return Err(Reason::new(
                ReasonCode::DataGranularity,
                format!(
                    "\"{}\" has scales or zero points along an axis of the data and along the columns of the \
                     weights",
                    node.name
                ),
            ));
        }
        let last = node.outputs[0].shape.len() - 1;
        let (axis, count) = match data_scales.axis {
            Some(axis) => (axis, data_scales.values.len()),
            None => (last, if per_column { columns } else { 1 }),
        };
        let mut scale = Vec::with_capacity(count);
        let mut shift = Vec::with_capacity(count);
        for i in 0..count {
            let (data_scale, weight_scale) = match data_scales.axis {
                Some(_) => (data_scales.values[i], codes.scale[0]),
                None => (data_scales.values[0], at(&codes.scale, i)),
            };
            scale.push(sums::product(&node.name, data_scale, weight_scale)?);
            // With scales along an axis of the data there is no rest.
            shift.push(channels.get(i).map_or(0.0, |c| (rest * c.sum as f64) as f32));
        }
        let op = if transposed.a || data_rank < 2 || shape.len() > 2 {
            let [zero_point_b] = codes.zero_point[..] else {
                return Err(Reason::new(
                    ReasonCode::NoIntegerForm,
                    format!(
                        "\"{}\" reads its data transposed or as a vector, or a batch of weights, whose zero \
                         points vary",
                        node.name
                    ),
                ));
            };
            Op::QuantizedBatchMatMul(QuantizedBatchMatMul {
                transpose_a: transposed.a,
                transpose_b: transposed.b,
                zero_point_a: zero_point,
                zero_point_b,
            })
        } else {
            Op::QuantizedMatMul(QuantizedMatMul {
                transpose_b: transposed.b,
                data_zero_point: zero_point,
                weight_zero_point: codes.zero_point,
            })
        };
        let sums = self.push_sums(node, coded.codes, codes.tensor, op);
        self.dequantize_sums(id, node, sums, scale, shift, axis);
        Ok(true)
    }

    fn product_of_activations(
        &mut self,
        id: NodeId,
        node: &Node,
        transposed: Transposed,
    ) -> Result<bool, Reason> {
        let [a, b] = node.inputs[..] else { return Ok(false) };
        if self.coded(a).is_none() && self.coded(b).is_none() {
            return Ok(false);
        }
        if !self.options.limits.matmul {
            return Err(Reason::new(
                ReasonCode::ByOption,
                format!(
                    "the options say that the target runs no integer MatMul of \"{}\"",
                    node.name
                ),
            ));
        }
        let x = self.as_affine(a).ok_or_else(|| self.not_codes(node, a))?;
        let y = self.as_affine(b).ok_or_else(|| self.not_codes(node, b))?;
        let (Some(dx), Some(dy)) = (x.affine().cloned(), y.affine().cloned()) else {
            return Ok(false);
        };
        let scales = [
            self.scales_of(node, 0, &dx, transposed.a)?,
            self.scales_of(node, 1, &dy, transposed.b)?,
        ];
        let zero_point_a = exact_zero_point(node, 0, &dx, &x)?;
        let zero_point_b = exact_zero_point(node, 1, &dy, &y)?;
        let inner = self.inner_length(a, transposed.a).ok_or_else(|| {
            Reason::new(
                ReasonCode::DynamicShape,
                format!("\"{}\" sums over an axis whose length is not fixed", node.name),
            )
        })?;
        let (far_a, far_b) = (x.distance(zero_point_a), y.distance(zero_point_b));
        let most = i64::try_from(inner)
            .ok()
            .and_then(|k| k.checked_mul(far_a)?.checked_mul(far_b));
        if most.is_none_or(|m| m > i64::from(i32::MAX)) {
            return Err(Reason::new(
                ReasonCode::Accumulator,
                format!(
                    "\"{}\" sums {inner} products of codes up to {far_a} and {far_b}",
                    node.name
                ),
            ));
        }
        let [left, right] = scales;
        if let (Some(i), Some(j)) = (left.axis, right.axis)
            && i != j
        {
            return Err(Reason::new(
                ReasonCode::DataGranularity,
                format!("the factors of \"{}\" have scales along two axes", node.name),
            ));
        }
        let axis = left.axis.or(right.axis);
        let count = left.values.len().max(right.values.len());
        let scale = (0..count)
            .map(|i| sums::product(&node.name, at(&left.values, i), at(&right.values, i)))
            .collect::<Result<Vec<_>, _>>()?;
        let sums = Value::of(self.new.push(Node {
            name: node.name.clone(),
            line: node.line,
            op: Op::QuantizedBatchMatMul(QuantizedBatchMatMul {
                transpose_a: transposed.a,
                transpose_b: transposed.b,
                zero_point_a,
                zero_point_b,
            }),
            inputs: vec![x.codes, y.codes],
            outputs: vec![OutputInfo {
                element_type: ElementType::I32,
                shape: node.outputs[0].shape.clone(),
                names: Vec::new(),
            }],
        }));
        self.dequantize_sums(id, node, sums, scale, vec![0.0], axis.unwrap_or(0));
        Ok(true)
    }

    /// The scales of a factor along the axis of the product on which they lie.
    fn scales_of(&self, node: &Node, port: usize, d: &Dequantize, transpose: bool) -> Result<Scales, Reason> {
        let values: Vec<f32> = (0..len(d)).map(|i| at(&d.scale, i)).collect();
        let Some(axis) = d.axis else {
            return Ok(Scales { axis: None, values });
        };
        let rank = self.old.info(node.inputs[port]).shape.len();
        let other = self.old.info(node.inputs[1 - port]).shape.len();
        // The inner axis is the last of the first factor and the last but one of the second.
        let inner_is_last = (port == 0) != (transpose && rank > 1);
        let inner = if inner_is_last || rank < 2 {
            rank - 1
        } else {
            rank - 2
        };
        if axis == inner {
            return Err(Reason::new(
                ReasonCode::DataGranularity,
                format!(
                    "input {port} of \"{}\" has {} scales along axis {axis}, and each of its sums mixes them",
                    node.name,
                    values.len()
                ),
            ));
        }
        let out_rank = node.outputs[0].shape.len();
        let to = if axis + 2 < rank {
            // A batch axis: these are aligned at their end, before rows and columns.
            let after = rank - 2 - axis;
            let matrix_axes = 2 - usize::from(other < 2);
            out_rank.checked_sub(matrix_axes + after)
        } else if port == 0 && other >= 2 {
            out_rank.checked_sub(2)
        } else {
            out_rank.checked_sub(1)
        };
        let to = to.filter(|&to| node.outputs[0].shape[to].is_none_or(|length| length == values.len()));
        to.map(|to| Scales {
            axis: Some(to),
            values,
        })
        .ok_or_else(|| {
            Reason::new(
                ReasonCode::DataGranularity,
                format!("\"{}\" does not keep axis {axis} of input {port}", node.name),
            )
        })
    }

    /// Number of terms of a sum, from the first factor.
    fn inner_length(&self, a: Value, transpose: bool) -> Dim {
        match self.old.info(a).shape[..] {
            [length] => length,
            [.., rows, columns] => {
                if transpose {
                    rows
                } else {
                    columns
                }
            }
            [] => None,
        }
    }
}

/// The zero point of data, where it is the same for all.
fn one_zero_point(node: &Node, d: &Dequantize) -> Result<f32, Reason> {
    let first = d.zero_point[0];
    if d.zero_point.iter().all(|&z| z == first) {
        return Ok(first);
    }
    Err(Reason::new(
        ReasonCode::DataGranularity,
        format!("the data of \"{}\" have zero points along an axis", node.name),
    ))
}

/// The zero point of an activation as the integer it is.
fn exact_zero_point(node: &Node, port: usize, d: &Dequantize, coded: &Coded) -> Result<i32, Reason> {
    match sums::split_zero_point(one_zero_point(node, d)?, coded) {
        (integer, 0.0) => Ok(integer),
        _ => Err(Reason::new(
            ReasonCode::DataZeroPoint,
            format!(
                "input {port} of \"{}\" has the zero point {}, which is no code",
                node.name, d.zero_point[0]
            ),
        )),
    }
}
