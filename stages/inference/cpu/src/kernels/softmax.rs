//! Softmax in f32: `e^(x - max) * (1 / sum)`, summed in the order of the reference evaluator.

use flow_model::ops::exponential::exp;

use super::sums::sum_on_four;
use super::versions::versions;

versions!(
    /// Softmax of one run, summed on lanes or in order.
    pub(crate) fn softmax_run(to: &mut [f32], from: &[f32], in_order: bool) = run
);

#[inline(always)]
fn run(to: &mut [f32], from: &[f32], in_order: bool) {
    let (blocks, rest) = from.as_chunks::<16>();
    let mut most = [f32::NEG_INFINITY; 16];
    for block in blocks {
        for (most, &x) in most.iter_mut().zip(block) {
            *most = if x > *most { x } else { *most };
        }
    }
    let max = most
        .iter()
        .chain(rest)
        .fold(f32::NEG_INFINITY, |m, &x| if x > m { x } else { m });
    for (e, &x) in to.iter_mut().zip(from) {
        *e = exp(x - max);
    }
    let sum = if in_order {
        to.iter().fold(0.0, |sum, e| sum + e)
    } else {
        sum_on_four(to)
    };
    let factor = 1.0 / sum;
    to.iter_mut().for_each(|e| *e *= factor);
}

/// Longest run of which several are treated side by side.
pub(crate) const SHORT: usize = 16;

versions!(
    /// Softmax of many runs of `length` elements, at most [`SHORT`], one behind the other; summed on lanes.
    pub(crate) fn softmax_short_runs(to: &mut [f32], from: &[f32], length: usize) = short_runs
);

#[inline(always)]
fn short_runs(to: &mut [f32], from: &[f32], length: usize) {
    match length {
        // Loops of a length that is known become instructions on vectors.
        2 => short_runs_of(to, from, 2),
        4 => short_runs_of(to, from, 4),
        _ => short_runs_of(to, from, length),
    }
}

#[inline(always)]
fn short_runs_of(to: &mut [f32], from: &[f32], length: usize) {
    // Element by element of up to 64 runs, zeros behind the last element.
    let mut rows = [[0.0_f32; 64]; SHORT];
    let runs = to.chunks_mut(64 * length).zip(from.chunks(64 * length));
    for (to, from) in runs {
        for (i, run) in from.chunks_exact(length).enumerate() {
            for (row, &x) in rows.iter_mut().zip(run) {
                row[i] = x;
            }
        }
        let mut most = [f32::NEG_INFINITY; 64];
        for row in &rows[..length] {
            for (most, &x) in most.iter_mut().zip(row) {
                *most = if x > *most { x } else { *most };
            }
        }
        for row in &mut rows[..length] {
            for (x, most) in row.iter_mut().zip(&most) {
                *x = exp(*x - most);
            }
        }
        // As the lanes of one vector are added: the upper half on the lower.
        let mut sums = rows;
        sums[length..].fill([0.0; 64]);
        for half in [8, 4, 2, 1] {
            let (low, high) = sums.split_at_mut(half);
            for (low, high) in low.iter_mut().zip(high) {
                low.iter_mut().zip(high).for_each(|(low, high)| *low += *high);
            }
        }
        let factors = sums[0].map(|sum| 1.0 / sum);
        for (i, run) in to.chunks_exact_mut(length).enumerate() {
            for (to, row) in run.iter_mut().zip(&rows) {
                *to = row[i] * factors[i];
            }
        }
    }
}

versions!(
    /// Softmax down the columns of `size[0]` rows of `size[1]` neighbouring elements, at most 64, rows `strides` (of
    /// `to`, of `from`) apart.
    pub(crate) fn softmax_columns(to: &mut [f32], from: &[f32], strides: [usize; 2], size: [usize; 2]) = columns
);

#[inline(always)]
fn columns(to: &mut [f32], from: &[f32], strides: [usize; 2], [length, width]: [usize; 2]) {
    let mut most = [f32::NEG_INFINITY; 64];
    for row in 0..length {
        for (most, &x) in most.iter_mut().zip(&from[row * strides[1]..][..width]) {
            *most = if x > *most { x } else { *most };
        }
    }
    let mut sums = [0.0_f32; 64];
    for row in 0..length {
        let from = from[row * strides[1]..][..width].iter();
        let to = to[row * strides[0]..][..width].iter_mut();
        for ((to, &x), (&most, sum)) in to.zip(from).zip(most.iter().zip(&mut sums)) {
            *to = exp(x - most);
            *sum += *to;
        }
    }
    sums.iter_mut().for_each(|sum| *sum = 1.0 / *sum);
    for row in 0..length {
        for (to, &factor) in to[row * strides[0]..][..width].iter_mut().zip(&sums) {
            *to *= factor;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::Isa;
    use crate::kernels::versions::Simd;

    #[test]
    fn short_runs_are_those_one_by_one() {
        for cap in [Isa::Scalar, Isa::Avx2, Isa::Avx512Bw] {
            let simd = Simd::new(cap);
            for length in 1..=SHORT {
                let from: Vec<f32> = (0..length * 150)
                    .map(|i| ((i * 7919 + length) % 1009) as f32 / 60.0 - 8.0)
                    .collect();
                let (mut short, mut one) = (vec![0.0; from.len()], vec![0.0; from.len()]);
                softmax_short_runs(simd, &mut short, &from, length);
                for (to, from) in one.chunks_mut(length).zip(from.chunks(length)) {
                    softmax_run(simd, to, from, false);
                }
                let bits = |values: &[f32]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
                assert_eq!(bits(&short), bits(&one), "{length}");
            }
        }
    }
}
