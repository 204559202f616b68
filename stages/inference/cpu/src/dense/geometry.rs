//! Where the elements of a matrix product of any rank lie.

use crate::nest::row_major;

/// A matrix product with dense operands.
#[derive(Debug, Clone)]
pub(crate) struct Geometry {
    /// Rows, inner length, columns.
    pub size: [usize; 3],
    /// Where the matrices of both factors begin, per matrix of the product.
    pub matrices: Vec<[usize; 2]>,
    /// Distances of rows and columns in the first factor.
    pub left: [usize; 2],
    /// In the second.
    pub right: [usize; 2],
}

impl Geometry {
    /// The product of factors of these shapes, `[.., rows, inner]` and `[.., inner, columns]` or the last two axes
    /// exchanged where `transpose` says so; a vector is a row on the left and a column on the right. `None` where shapes
    /// do not fit.
    pub fn new(a: &[usize], b: &[usize], transpose: [bool; 2]) -> Option<Self> {
        let (batch_a, rows, inner_a, left) = matrix(a, transpose[0], true)?;
        let (batch_b, inner, columns, right) = matrix(b, transpose[1], false)?;
        if inner != inner_a {
            return None;
        }
        let batch = broadcast(batch_a, batch_b)?;
        let offsets = |own: &[usize], size: usize| {
            let strides = row_major(own);
            let missing = batch.len() - own.len();
            let mut at = vec![0];
            for (axis, &count) in batch.iter().enumerate() {
                let step = match axis.checked_sub(missing) {
                    Some(i) if own[i] > 1 => strides[i] * size,
                    _ => 0,
                };
                at = at
                    .iter()
                    .flat_map(|&start| (0..count).map(move |i| start + i * step))
                    .collect();
            }
            at
        };
        let (a, b) = (offsets(batch_a, rows * inner), offsets(batch_b, inner * columns));
        let mut matrices: Vec<[usize; 2]> = a.into_iter().zip(b).map(|(a, b)| [a, b]).collect();
        let mut rows = rows;
        // One second factor for a whole batch of row-major ones: one tall matrix.
        let tall = matrices
            .iter()
            .enumerate()
            .all(|(i, m)| *m == [i * rows * inner, 0]);
        if tall && left == [inner, 1] && matrices.len() > 1 {
            rows *= matrices.len();
            matrices.truncate(1);
        }
        Some(Self {
            size: [rows, inner, columns],
            matrices,
            left,
            right,
        })
    }

    /// Multiply-accumulates.
    pub fn macs(&self) -> u64 {
        let each: u64 = self.size.iter().map(|&n| n as u64).product();
        self.matrices.len() as u64 * each
    }
}

/// Batch axes, rows, columns and distances of rows and columns of a factor.
fn matrix(shape: &[usize], transpose: bool, left: bool) -> Option<(&[usize], usize, usize, [usize; 2])> {
    Some(match shape {
        [] => return None,
        &[n] if left => (&[], 1, n, [n, 1]),
        &[n] => (&[], n, 1, [1, n]),
        [batch @ .., columns, rows] if transpose => (batch, *rows, *columns, [1, *rows]),
        [batch @ .., rows, columns] => (batch, *rows, *columns, [*columns, 1]),
    })
}

fn broadcast(a: &[usize], b: &[usize]) -> Option<Vec<usize>> {
    let rank = a.len().max(b.len());
    let at = |s: &[usize], axis: usize| (axis + s.len()).checked_sub(rank).map_or(1, |i| s[i]);
    (0..rank)
        .map(|axis| match (at(a, axis), at(b, axis)) {
            (1, n) | (n, 1) => Some(n),
            (m, n) => (m == n).then_some(n),
        })
        .collect()
}
