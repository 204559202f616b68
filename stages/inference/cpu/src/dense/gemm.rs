//! Matrix products of f32 of any rank.

use super::{Dense, DenseCall};
use crate::kernels::versions::Simd;
use crate::kernels::{AlignedVec, ArgError, gemm};
use crate::nest::row_major;
use crate::run::Fault;

/// A matrix product with dense operands; the second may have been packed at compile.
#[derive(Debug)]
pub(crate) struct MatMul {
    /// Rows, inner length, columns.
    size: [usize; 3],
    /// Where the matrices of both factors begin, per matrix of the product.
    matrices: Vec<[usize; 2]>,
    /// Distances of rows and columns in the first factor.
    left: [usize; 2],
    /// In the second.
    right: [usize; 2],
    /// The second factor where it is constant, one packed matrix after another, and the index of each by where it
    /// begins.
    packed: Option<AlignedVec<f32>>,
}

impl MatMul {
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
            packed: None,
        })
    }

    /// Packs a constant second factor.
    ///
    /// # Errors
    /// If it is not of the shape given before.
    pub fn pack(&mut self, factor: &[f32]) -> Result<(), ArgError> {
        let [_, inner, columns] = self.size;
        let mut starts: Vec<usize> = self.matrices.iter().map(|m| m[1]).collect();
        starts.sort_unstable();
        starts.dedup();
        let each = gemm::packed_len(inner, columns).ok_or(ArgError::Overflow("matrix"))?;
        let all = each
            .checked_mul(starts.len())
            .ok_or(ArgError::Overflow("matrix"))?;
        let mut packed = AlignedVec::zeroed(all);
        for (i, &start) in starts.iter().enumerate() {
            let from = factor.get(start..).ok_or(ArgError::Empty)?;
            gemm::pack(
                from,
                inner,
                columns,
                self.right,
                &mut packed[i * each..(i + 1) * each],
            )?;
        }
        for matrix in &mut self.matrices {
            // Every start is among them.
            matrix[1] = starts.binary_search(&matrix[1]).unwrap_or(0) * each;
        }
        self.packed = Some(packed);
        Ok(())
    }

    fn multiply(&self, simd: Simd, a: &[f32], packed: &[f32], to: &mut [f32]) -> Result<(), Fault> {
        Ok(gemm::multiply(simd, a, self.left, self.size, packed, to)?)
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

impl Dense for MatMul {
    fn kernel(&self) -> String {
        "matmul_f32".into()
    }

    fn macs(&self) -> u64 {
        let each: u64 = self.size.iter().map(|&n| n as u64).product();
        self.matrices.len() as u64 * each
    }

    fn run(&self, call: DenseCall<'_>) -> Result<(), Fault> {
        let simd = call.simd;
        let ([a, b], to, workspace) = call.floats()?;
        let [rows, inner, columns] = self.size;
        let each = rows * columns;
        let length = gemm::packed_len(inner, columns).unwrap_or(0);
        let mut held = None;
        for (&[at_a, at_b], to) in self.matrices.iter().zip(to.chunks_mut(each.max(1))) {
            let to = &mut to[..each];
            let a = a.get(at_a..).unwrap_or_default();
            if let Some(packed) = &self.packed {
                self.multiply(simd, a, &packed[at_b..at_b + length], to)?;
                continue;
            }
            let panel = workspace.floats(length);
            if held != Some(at_b) {
                gemm::pack(
                    b.get(at_b..).unwrap_or_default(),
                    inner,
                    columns,
                    self.right,
                    panel,
                )?;
                held = Some(at_b);
            }
            self.multiply(simd, a, panel, to)?;
        }
        Ok(())
    }
}
