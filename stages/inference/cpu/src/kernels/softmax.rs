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
