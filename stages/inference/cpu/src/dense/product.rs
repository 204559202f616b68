//! Products of codes with codes.

use super::geometry::Geometry;
use super::{Dense, DenseCall, Guard};
use crate::kernels::gemm_u8::{self, ROWS};
use crate::kernels::literal::{Data, LANES, LiteralArgs};
use crate::kernels::{Epilogue, Layout, OutputKind, View, ViewMut};
use crate::run::{Fault, cast_mut};

/// A product of two activations with its epilogue; a residual is the third input.
#[derive(Debug)]
pub(crate) struct ProductU8 {
    geometry: Geometry,
    /// Zero points of both factors, as stored.
    zero_points: [i16; 2],
    epilogue: Epilogue,
}

impl ProductU8 {
    /// `None` where a sum could leave 32 bits or a zero point is no code.
    pub fn new(geometry: Geometry, zero_points: [i32; 2], epilogue: Epilogue) -> Option<Self> {
        let zero_point = |z: i32| u8::try_from(z).ok().map(i16::from);
        gemm_u8::packed_len(geometry.size)?;
        Some(Self {
            zero_points: [zero_point(zero_points[0])?, zero_point(zero_points[1])?],
            epilogue,
            geometry: Some(geometry).filter(|g| g.size[1] <= gemm_u8::MAX_TERMS)?,
        })
    }
}

impl Dense for ProductU8 {
    fn kernel(&self) -> String {
        "matmul_u8u8".into()
    }

    fn macs(&self) -> u64 {
        self.geometry.macs()
    }

    fn run(&self, call: DenseCall<'_>) -> Result<(), Fault> {
        let DenseCall {
            simd,
            inputs: [a, b, residual, _],
            output,
            workspace,
            mut guard,
        } = call;
        let Geometry {
            size: size @ [rows, inner, columns],
            matrices,
            left,
            right,
        } = &self.geometry;
        let (size, rows, inner, columns) = (*size, *rows, *inner, *columns);
        let (even, wide) = (inner.next_multiple_of(2), columns.next_multiple_of(16));
        let [left_len, right_len] = gemm_u8::packed_len(size).unwrap_or_default();
        let (left_words, right_words, sums) = workspace.product(left_len, right_len, ROWS * wide);
        let mut held = [None; 2];
        for (at, &[at_a, at_b]) in matrices.iter().enumerate() {
            if held[0] != Some(at_a) {
                let codes = a.get(at_a..).unwrap_or_default();
                gemm_u8::pack_left(codes, [rows, inner], *left, self.zero_points[0], left_words)?;
            }
            if held[1] != Some(at_b) {
                let codes = b.get(at_b..).unwrap_or_default();
                gemm_u8::pack_right(codes, [inner, columns], *right, self.zero_points[1], right_words)?;
            }
            held = [Some(at_a), Some(at_b)];
            if let Some(guard) = &mut guard {
                guard.scratch.doubts.clear();
            }
            for first in (0..rows).step_by(ROWS) {
                let count = ROWS.min(rows - first);
                let words = &left_words[first * even..(first + count) * even];
                let sums = &mut sums[..count * wide];
                gemm_u8::multiply_rows(simd, words, right_words, [count, inner, columns], sums)?;
                for (row, sums) in sums.chunks_exact(wide).enumerate() {
                    let place = ((at * rows) + first + row) * columns;
                    let sums = &sums[..columns];
                    let residual = match self.epilogue.has_residual() {
                        true => &residual[place..place + columns],
                        false => &[],
                    };
                    if let Some(guard) = &mut guard {
                        let to = &mut output[place..place + columns];
                        let doubts = &mut guard.scratch.doubts;
                        gemm_u8::finish_noting(simd, &self.epilogue, sums, residual, to, first + row, doubts);
                    } else if self.epilogue.output() == OutputKind::U8 {
                        let to = &mut output[place..place + columns];
                        gemm_u8::finish_codes(simd, &self.epilogue, sums, residual, to);
                    } else {
                        let to = &mut cast_mut(output)?[place..place + columns];
                        gemm_u8::finish_floats(simd, &self.epilogue, sums, residual, to);
                    }
                }
            }
            if let Some(guard) = &mut guard {
                self.settle(guard, [a, b, residual], output, at)?;
            }
        }
        Ok(())
    }
}

impl ProductU8 {
    /// Evaluates again what is in doubt of matrix `at`, as the model does.
    fn settle(
        &self,
        guard: &mut Guard<'_>,
        [a, b, residual]: [&[u8]; 3],
        output: &mut [u8],
        at: usize,
    ) -> Result<(), Fault> {
        let [rows, _, columns] = self.geometry.size;
        let Guard {
            table,
            literal,
            scratch,
        } = guard;
        scratch.counts[0] += (rows * columns.div_ceil(LANES)) as u64;
        if scratch.doubts.is_empty() {
            return Ok(());
        }
        // A matrix is an image of one column, whose channels are the columns of the matrix.
        let layout = Layout::dense(rows, 1, columns);
        let of_matrix = at * rows * columns..(at + 1) * rows * columns;
        let lost = || Fault::Internal("a matrix lies outside its tensor".to_owned());
        let operand = match self.epilogue.has_residual() {
            true => Some(View::new(
                residual.get(of_matrix.clone()).ok_or_else(lost)?,
                layout,
            )?),
            false => None,
        };
        let mut output = ViewMut::new(output.get_mut(of_matrix).ok_or_else(lost)?, layout)?;
        let [at_a, at_b] = self.geometry.matrices[at];
        let factors = [a.get(at_a..).ok_or_else(lost)?, b.get(at_b..).ok_or_else(lost)?];
        table.literal(&mut LiteralArgs {
            literal,
            input: Data::Matrices(factors),
            operand: operand.as_ref(),
            output: &mut output,
            scratch,
        });
        Ok(())
    }
}
