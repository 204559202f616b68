//! MatMul.

use super::attributes::Attributes;
use super::support::{self, Input};
use crate::error::{OpError, bail};
use crate::graph::{Dim, OutputInfo, PartialShape};
use crate::op::Op;
use crate::tensor::Tensor;

/// Reads an operation of this family; `None` if it is of another.
pub(crate) fn parse(a: &Attributes) -> Result<Option<Op>, OpError> {
    if a.kind != "MatMul" {
        return Ok(None);
    }
    Ok(Some(Op::MatMul {
        transpose_a: a.flag("transpose_a", Some(false))?,
        transpose_b: a.flag("transpose_b", Some(false))?,
    }))
}

/// A factor as batch axes, rows and columns. A vector is a row on the left and a column on the right, which
/// transposing does not change.
struct Factor<'a> {
    batch: &'a [Dim],
    rows: Dim,
    columns: Dim,
    vector: bool,
}

fn factor(shape: &[Dim], transpose: bool, left: bool) -> Result<Factor<'_>, OpError> {
    Ok(match shape {
        [] => bail!("expected a vector or a matrix, found a scalar"),
        [length] => Factor {
            batch: &[],
            rows: if left { Some(1) } else { *length },
            columns: if left { *length } else { Some(1) },
            vector: true,
        },
        [batch @ .., rows, columns] => {
            let (rows, columns) = if transpose {
                (columns, rows)
            } else {
                (rows, columns)
            };
            Factor {
                batch,
                rows: *rows,
                columns: *columns,
                vector: false,
            }
        }
    })
}

/// Shape of the product; with it the inner length.
pub(crate) fn product_shape(
    a: &[Dim],
    b: &[Dim],
    transpose_a: bool,
    transpose_b: bool,
) -> Result<(PartialShape, Dim), OpError> {
    let (a, b) = (factor(a, transpose_a, true)?, factor(b, transpose_b, false)?);
    let inner = support::same_dim(
        a.columns,
        b.rows,
        "columns of the first factor and rows of the second",
    )?;
    let mut shape = support::broadcast(a.batch, b.batch)?;
    if !a.vector {
        shape.push(a.rows);
    }
    if !b.vector {
        shape.push(b.columns);
    }
    Ok((shape, inner))
}

/// Type and shape of the output.
pub(crate) fn infer(op: &Op, inputs: &[Input]) -> Result<Vec<OutputInfo>, OpError> {
    let Op::MatMul {
        transpose_a,
        transpose_b,
    } = op
    else {
        bail!("not an operation of this family")
    };
    let element_type = support::same_type(&inputs[0], &inputs[1])?;
    let (shape, _) = product_shape(inputs[0].shape, inputs[1].shape, *transpose_a, *transpose_b)?;
    Ok(vec![support::output(element_type, shape)])
}

/// Multiplies, summing in f64.
pub(crate) fn multiply(
    a: (&[f64], &[usize], bool),
    b: (&[f64], &[usize], bool),
) -> Result<(Vec<usize>, Vec<f64>), OpError> {
    let dims = |s: &[usize]| s.iter().map(|&d| Some(d)).collect::<PartialShape>();
    let (a_dims, b_dims) = (dims(a.1), dims(b.1));
    let (shape, inner) = product_shape(&a_dims, &b_dims, a.2, b.2)?;
    let shape: Vec<usize> = shape.into_iter().flatten().collect();
    let inner = inner.unwrap_or(0);
    let (fa, fb) = (factor(&a_dims, a.2, true)?, factor(&b_dims, b.2, false)?);
    let (rows, columns) = (fa.rows.unwrap_or(0), fb.columns.unwrap_or(0));
    let batch: Vec<usize> = support::broadcast(fa.batch, fb.batch)?
        .into_iter()
        .flatten()
        .collect();
    let lengths = |f: &Factor| f.batch.iter().flatten().copied().collect::<Vec<_>>();
    let (a_at, b_at) = (
        support::broadcast_offsets(&lengths(&fa), &batch),
        support::broadcast_offsets(&lengths(&fb), &batch),
    );
    let (a_row, a_step) = if a.2 && !fa.vector { (1, rows) } else { (inner, 1) };
    let (b_step, b_column) = if b.2 && !fb.vector {
        (1, inner)
    } else {
        (columns, 1)
    };
    let mut product = Vec::with_capacity(batch.iter().product::<usize>() * rows * columns);
    for (&p, &q) in a_at.iter().zip(&b_at) {
        let (m, n) = (&a.0[p * rows * inner..], &b.0[q * inner * columns..]);
        for i in 0..rows {
            for j in 0..columns {
                product.push(
                    (0..inner)
                        .map(|k| m[i * a_row + k * a_step] * n[k * b_step + j * b_column])
                        .sum(),
                );
            }
        }
    }
    Ok((shape, product))
}

/// Evaluates an operation of this family.
pub(crate) fn evaluate(op: &Op, inputs: &[Tensor]) -> Result<Vec<Tensor>, OpError> {
    let Op::MatMul {
        transpose_a,
        transpose_b,
    } = op
    else {
        bail!("not an operation of this family")
    };
    let (a, b) = (&inputs[0], &inputs[1]);
    let (shape, product) = multiply(
        (&a.to_f64(), a.shape(), *transpose_a),
        (&b.to_f64(), b.shape(), *transpose_b),
    )?;
    Ok(vec![Tensor::from_f64(a.element_type(), &shape, &product)?])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(a: &[usize], b: &[usize], transpose_a: bool, transpose_b: bool) -> Tensor {
        let count = |s: &[usize]| {
            (1..=s.iter().product::<usize>())
                .map(|v| v as f32)
                .collect::<Vec<_>>()
        };
        let (x, y) = (
            Tensor::from_slice(a, &count(a)).unwrap(),
            Tensor::from_slice(b, &count(b)).unwrap(),
        );
        crate::ops::evaluate(
            &Op::MatMul {
                transpose_a,
                transpose_b,
            },
            &[x, y],
        )
        .unwrap()
        .remove(0)
    }

    #[test]
    fn every_transposition() {
        let plain = run(&[2, 3], &[3, 2], false, false);
        assert_eq!(plain.to_f32(), [22.0, 28.0, 49.0, 64.0]);
        assert_eq!(
            run(&[2, 3], &[2, 3], false, true).to_f32(),
            [14.0, 32.0, 32.0, 77.0]
        );
        assert_eq!(
            run(&[3, 2], &[3, 2], true, false).to_f32(),
            [35.0, 44.0, 44.0, 56.0]
        );
        assert_eq!(
            run(&[3, 2], &[2, 3], true, true).to_f32(),
            [22.0, 49.0, 28.0, 64.0]
        );
    }

    #[test]
    fn vectors_and_batches() {
        assert_eq!(run(&[3], &[3], false, false).shape(), [0usize; 0]);
        assert_eq!(run(&[3], &[3, 2], true, false).shape(), [2]);
        assert_eq!(run(&[4, 1, 2, 3], &[5, 3, 2], false, false).shape(), [4, 5, 2, 2]);
    }
}
