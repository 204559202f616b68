//! MatMul.

use super::attributes::Attributes;
use super::chain;
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

/// Terms that a float product sums before it adds them to the rest.
const BLOCK: usize = 1024;

/// As [`BLOCK`], for a product of two computed factors whose inner axis has at most [`BLOCK`] elements.
const BLOCK_OF_COMPUTED: usize = 512;

/// Multiplies in f32: per element chains of fused multiply-adds along the inner axis, in blocks.
fn multiply_f32(
    a: (&[f32], &[usize], bool),
    b: (&[f32], &[usize], bool),
    block: impl Fn(usize) -> usize,
) -> Result<(Vec<usize>, Vec<f32>), OpError> {
    let plan = Product::new(a.1, a.2, b.1, b.2)?;
    let (inner, columns) = (plan.inner, plan.columns);
    let mut product = vec![0.0; plan.len()];
    let mut factors = vec![0.0; inner];
    let mut right = vec![0.0; inner * columns];
    let mut rows = product.chunks_exact_mut(columns.max(1));
    for (m, n) in plan.factors() {
        for (k, row) in right.chunks_exact_mut(columns.max(1)).enumerate() {
            for (j, value) in row.iter_mut().enumerate() {
                *value = b.0[n + plan.right(k, j)];
            }
        }
        for (i, row) in rows.by_ref().take(plan.rows).enumerate() {
            for (k, factor) in factors.iter_mut().enumerate() {
                *factor = a.0[m + plan.left(i, k)];
            }
            chain::multiply_add_in_blocks(&factors, &right, block(inner), row);
        }
    }
    Ok((plan.shape, product))
}

/// Multiplies, summing in f64: exact for integers.
pub(crate) fn multiply(
    a: (&[f64], &[usize], bool),
    b: (&[f64], &[usize], bool),
) -> Result<(Vec<usize>, Vec<f64>), OpError> {
    let plan = Product::new(a.1, a.2, b.1, b.2)?;
    let mut product = Vec::with_capacity(plan.len());
    for (m, n) in plan.factors() {
        for i in 0..plan.rows {
            for j in 0..plan.columns {
                let terms = (0..plan.inner).map(|k| a.0[m + plan.left(i, k)] * b.0[n + plan.right(k, j)]);
                product.push(terms.sum());
            }
        }
    }
    Ok((plan.shape, product))
}

/// Where the elements of a product and of its factors lie.
struct Product {
    shape: Vec<usize>,
    rows: usize,
    inner: usize,
    columns: usize,
    /// Index of the matrix of each factor, per matrix of the product.
    batches: Vec<(usize, usize)>,
    left: (usize, usize),
    right: (usize, usize),
}

impl Product {
    fn new(a: &[usize], transpose_a: bool, b: &[usize], transpose_b: bool) -> Result<Self, OpError> {
        let dims = |s: &[usize]| s.iter().map(|&d| Some(d)).collect::<PartialShape>();
        let (a, b) = (dims(a), dims(b));
        let (shape, inner) = product_shape(&a, &b, transpose_a, transpose_b)?;
        let inner = inner.unwrap_or(0);
        let (fa, fb) = (factor(&a, transpose_a, true)?, factor(&b, transpose_b, false)?);
        let (rows, columns) = (fa.rows.unwrap_or(0), fb.columns.unwrap_or(0));
        let lengths = |dims: &[Dim]| dims.iter().flatten().copied().collect::<Vec<usize>>();
        let batch = lengths(&support::broadcast(fa.batch, fb.batch)?);
        let offsets = |f: &Factor| support::broadcast_offsets(&lengths(f.batch), &batch);
        Ok(Self {
            shape: lengths(&shape),
            batches: offsets(&fa).into_iter().zip(offsets(&fb)).collect(),
            left: if transpose_a && !fa.vector {
                (1, rows)
            } else {
                (inner, 1)
            },
            right: if transpose_b && !fb.vector {
                (1, inner)
            } else {
                (columns, 1)
            },
            rows,
            inner,
            columns,
        })
    }

    /// Number of elements.
    fn len(&self) -> usize {
        self.batches.len() * self.rows * self.columns
    }

    /// Where the matrices of the factors begin, per matrix of the product.
    fn factors(&self) -> impl Iterator<Item = (usize, usize)> {
        let (left, right) = (self.rows * self.inner, self.inner * self.columns);
        self.batches.iter().map(move |&(a, b)| (a * left, b * right))
    }

    fn left(&self, row: usize, k: usize) -> usize {
        row * self.left.0 + k * self.left.1
    }

    fn right(&self, k: usize, column: usize) -> usize {
        k * self.right.0 + column * self.right.1
    }
}

/// Evaluates an operation of this family as one with constant weights.
pub(crate) fn evaluate(op: &Op, inputs: &[Tensor]) -> Result<Vec<Tensor>, OpError> {
    evaluate_in_blocks(op, inputs, |_| BLOCK)
}

/// Evaluates MatMul as a product of two computed factors.
///
/// # Errors
/// If types or shapes of the inputs do not fit.
pub(crate) fn evaluate_computed(op: &Op, inputs: &[Tensor]) -> Result<Vec<Tensor>, OpError> {
    let block = |inner| if inner > BLOCK { BLOCK } else { BLOCK_OF_COMPUTED };
    evaluate_in_blocks(op, inputs, block)
}

fn evaluate_in_blocks(
    op: &Op,
    inputs: &[Tensor],
    block: impl Fn(usize) -> usize,
) -> Result<Vec<Tensor>, OpError> {
    let Op::MatMul {
        transpose_a,
        transpose_b,
    } = op
    else {
        bail!("not an operation of this family")
    };
    let (a, b) = (&inputs[0], &inputs[1]);
    if !a.element_type().is_float() {
        let (shape, product) = multiply(
            (&a.to_f64(), a.shape(), *transpose_a),
            (&b.to_f64(), b.shape(), *transpose_b),
        )?;
        return Ok(vec![Tensor::from_f64(a.element_type(), &shape, &product)?]);
    }
    let (shape, product) = multiply_f32(
        (&a.to_f32(), a.shape(), *transpose_a),
        (&b.to_f32(), b.shape(), *transpose_b),
        block,
    )?;
    Ok(vec![support::from_f32(a.element_type(), &shape, &product)?])
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
