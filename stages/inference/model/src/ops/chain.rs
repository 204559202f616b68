//! Sums of products in f32 as chains of fused multiply-adds in a fixed order, so that the last bit is
//! reproducible (`docs/numerics.md`).

/// Adds to each `sums[j]` the products `factors[k] * columns[k * sums.len() + j]` one after another in the
/// order of `k`, each by one fused multiply-add: one rounding to f32 per product.
pub(crate) fn multiply_add(factors: &[f32], columns: &[f32], sums: &mut [f32]) {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
        // SAFETY: the processor has the features.
        return unsafe { with_fma(factors, columns, sums) };
    }
    in_order(factors, columns, sums);
}

/// [`in_order`], compiled for the instruction; without it `mul_add` is a slow, equally exact library call.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn with_fma(factors: &[f32], columns: &[f32], sums: &mut [f32]) {
    in_order(factors, columns, sums);
}

#[inline(always)]
fn in_order(factors: &[f32], columns: &[f32], sums: &mut [f32]) {
    let stride = sums.len();
    let (blocks, rest) = sums.as_chunks_mut::<32>();
    let first_of_rest = stride - rest.len();
    for (i, block) in blocks.iter_mut().enumerate() {
        one_block(factors, columns, stride, i * 32, block);
    }
    let (blocks, rest) = rest.as_chunks_mut::<8>();
    for (i, block) in blocks.iter_mut().enumerate() {
        one_block(factors, columns, stride, first_of_rest + i * 8, block);
    }
    let first = stride - rest.len();
    for (j, sum) in rest.iter_mut().enumerate() {
        one_block(factors, columns, stride, first + j, std::array::from_mut(sum));
    }
}

/// The sums of `N` neighbouring columns from column `at` on; they stay in registers.
#[inline(always)]
fn one_block<const N: usize>(
    factors: &[f32],
    columns: &[f32],
    stride: usize,
    at: usize,
    sums: &mut [f32; N],
) {
    let mut kept = *sums;
    for (&factor, row) in factors.iter().zip(columns.chunks_exact(stride)) {
        for (sum, &value) in kept.iter_mut().zip(&row[at..at + N]) {
            *sum = factor.mul_add(value, *sum);
        }
    }
    *sums = kept;
}

/// As [`multiply_add`], but each run of `block` products is summed on its own from zero and then added.
pub(crate) fn multiply_add_in_blocks(factors: &[f32], columns: &[f32], block: usize, sums: &mut [f32]) {
    let stride = sums.len();
    let mut partial = vec![0.0; stride];
    for (factors, columns) in factors.chunks(block).zip(columns.chunks(block * stride)) {
        partial.fill(0.0);
        multiply_add(factors, columns, &mut partial);
        sums.iter_mut().zip(&partial).for_each(|(sum, p)| *sum += p);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Products whose sum depends on order and on rounding once per product.
    fn example(columns: usize) -> (Vec<f32>, Vec<f32>) {
        let value = |i: usize| ((i * 7919 % 1009) as f32 - 500.3) / 77.7;
        let factors: Vec<f32> = (0..40).map(|k| value(k + 5)).collect();
        (factors, (0..40 * columns).map(value).collect())
    }

    #[test]
    fn each_sum_is_one_chain_at_every_width() {
        for width in [1, 7, 8, 31, 32, 45, 77] {
            let (factors, columns) = example(width);
            let mut sums = vec![0.5; width];
            multiply_add(&factors, &columns, &mut sums);
            for (j, sum) in sums.iter().enumerate() {
                let chain = (0..40).fold(0.5f32, |s, k| factors[k].mul_add(columns[k * width + j], s));
                assert_eq!(sum.to_bits(), chain.to_bits(), "column {j} of {width}");
            }
        }
    }

    #[test]
    fn blocks_are_summed_apart() {
        let (factors, columns) = example(3);
        let mut sums = vec![0.0; 3];
        multiply_add_in_blocks(&factors, &columns, 16, &mut sums);
        let mut apart = [[0f32; 3]; 3];
        for (b, part) in apart.iter_mut().enumerate() {
            let (from, to) = (b * 16, (b * 16 + 16).min(40));
            multiply_add(&factors[from..to], &columns[from * 3..to * 3], part);
        }
        let wanted: Vec<f32> = (0..3).map(|j| apart[0][j] + apart[1][j] + apart[2][j]).collect();
        assert_eq!(sums, wanted);
    }
}
