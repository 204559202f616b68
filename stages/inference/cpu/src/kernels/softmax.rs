//! Softmax: `e^(x - max) / sum`, in f64 and rounded once.

use super::math;
use super::versions::versions;

/// Independent sums, so that the compiler may keep them in one vector.
const LANES: usize = 16;

versions!(
    /// Softmax of one run; `exponentials` is scratch of the same length.
    pub(crate) fn softmax_run(to: &mut [f32], from: &[f32], exponentials: &mut [f64]) = run
);

#[inline(always)]
fn run(to: &mut [f32], from: &[f32], exponentials: &mut [f64]) {
    let (blocks, rest) = from.as_chunks::<LANES>();
    let mut most = [f32::NEG_INFINITY; LANES];
    for block in blocks {
        for (most, &x) in most.iter_mut().zip(block) {
            *most = if x > *most { x } else { *most };
        }
    }
    let max = most
        .iter()
        .chain(rest)
        .fold(f32::NEG_INFINITY, |m, &x| if x > m { x } else { m });
    let max = f64::from(max);
    for (e, &x) in exponentials.iter_mut().zip(from) {
        *e = math::exp(f64::from(x) - max);
    }
    let (blocks, rest) = exponentials.as_chunks::<LANES>();
    let mut sums = [0.0_f64; LANES];
    for block in blocks {
        for (sum, &e) in sums.iter_mut().zip(block) {
            *sum += e;
        }
    }
    let sum: f64 = sums.iter().chain(rest).sum();
    let factor = 1.0 / sum;
    for (to, &e) in to.iter_mut().zip(exponentials.iter()) {
        *to = (e * factor) as f32;
    }
}

versions!(
    /// Softmax down the columns of `size[0]` rows of `size[1]` neighbouring elements, rows `strides` (of `to`, of `from`)
    /// apart; `exponentials` is scratch of as many elements; rows have at most 64.
    pub(crate) fn softmax_columns(
        to: &mut [f32], from: &[f32], strides: [usize; 2], size: [usize; 2], exponentials: &mut [f64],
    ) = columns
);

#[inline(always)]
fn columns(
    to: &mut [f32],
    from: &[f32],
    strides: [usize; 2],
    [length, width]: [usize; 2],
    exponentials: &mut [f64],
) {
    let mut most = [f32::NEG_INFINITY; 64];
    for row in 0..length {
        for (most, &x) in most.iter_mut().zip(&from[row * strides[1]..][..width]) {
            *most = if x > *most { x } else { *most };
        }
    }
    let mut sums = [0.0_f64; 64];
    for (row, exponentials) in exponentials.chunks_exact_mut(width).take(length).enumerate() {
        let values = from[row * strides[1]..][..width].iter().zip(&most).zip(&mut sums);
        for (e, ((&x, &most), sum)) in exponentials.iter_mut().zip(values) {
            *e = math::exp(f64::from(x) - f64::from(most));
            *sum += *e;
        }
    }
    sums.iter_mut().for_each(|sum| *sum = 1.0 / *sum);
    for (row, exponentials) in exponentials.chunks_exact(width).take(length).enumerate() {
        let to = to[row * strides[0]..][..width].iter_mut();
        for ((to, &e), &factor) in to.zip(exponentials).zip(&sums) {
            *to = (e * factor) as f32;
        }
    }
}
