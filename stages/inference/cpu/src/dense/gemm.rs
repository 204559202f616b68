//! Matrix products of f32 of any rank.

use super::geometry::Geometry;
use super::{Dense, DenseCall};
use crate::kernels::versions::Simd;
use crate::kernels::{AlignedVec, ArgError, gemm};
use crate::run::Fault;

/// A matrix product with dense operands; the second may have been packed at compile.
#[derive(Debug)]
pub(crate) struct MatMul {
    geometry: Geometry,
    /// The second factor where it is constant, one packed matrix after another; `geometry` then counts in it.
    packed: Option<AlignedVec<f32>>,
    /// Terms that are summed before they are added to the rest.
    block: usize,
}

impl MatMul {
    /// A product of two inputs; `computed` says whether both depend on inputs of the network.
    pub fn new(geometry: Geometry, computed: bool) -> Self {
        let short = computed && geometry.size[1] <= gemm::BLOCK;
        Self {
            block: if short {
                gemm::BLOCK_OF_COMPUTED
            } else {
                gemm::BLOCK
            },
            geometry,
            packed: None,
        }
    }

    /// Packs a constant second factor.
    ///
    /// # Errors
    /// If it is not of the shape given before.
    pub fn pack(&mut self, factor: &[f32]) -> Result<(), ArgError> {
        let [_, inner, columns] = self.geometry.size;
        let mut starts: Vec<usize> = self.geometry.matrices.iter().map(|m| m[1]).collect();
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
                self.geometry.right,
                &mut packed[i * each..(i + 1) * each],
            )?;
        }
        for matrix in &mut self.geometry.matrices {
            // Every start is among them.
            matrix[1] = starts.binary_search(&matrix[1]).unwrap_or(0) * each;
        }
        self.packed = Some(packed);
        Ok(())
    }

    fn multiply(&self, simd: Simd, a: &[f32], packed: &[f32], to: &mut [f32]) -> Result<(), Fault> {
        Ok(gemm::multiply(
            simd,
            a,
            self.geometry.left,
            self.geometry.size,
            packed,
            self.block,
            to,
        )?)
    }
}

impl Dense for MatMul {
    fn kernel(&self) -> String {
        "matmul_f32".into()
    }

    fn macs(&self) -> u64 {
        self.geometry.macs()
    }

    fn run(&self, call: DenseCall<'_>) -> Result<(), Fault> {
        let simd = call.simd;
        let ([a, b], to, workspace) = call.floats()?;
        let [rows, inner, columns] = self.geometry.size;
        let each = rows * columns;
        let length = gemm::packed_len(inner, columns).unwrap_or(0);
        let mut held = None;
        for (&[at_a, at_b], to) in self.geometry.matrices.iter().zip(to.chunks_mut(each.max(1))) {
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
                    self.geometry.right,
                    panel,
                )?;
                held = Some(at_b);
            }
            self.multiply(simd, a, panel, to)?;
        }
        Ok(())
    }
}
