//! Sums of f32 values as a processor with 16 f32 lanes adds them, so that the last bit is reproducible
//! (`docs/numerics.md`).

/// Lanes of a vector.
pub(crate) const LANES: usize = 16;

/// Which lane holds which value, and how the lanes are summed at the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    /// One sum from the first value to the last.
    Sequential,
    /// Lane `i` sums every 16th value from `i` on; the rest of fewer than 16 values goes on in pieces of 8, 4, 2
    /// and 1 from lane 0. Lanes: `(a + b) + (c + d)` of the four quarters, then of four neighbours.
    Quarters,
}

/// Combines values by `add(sum so far, value)` in the given order, from zero.
pub(crate) fn sum(values: &[f32], order: Order, add: impl Fn(f32, f32) -> f32) -> f32 {
    if order == Order::Sequential {
        return values.iter().fold(0.0, |sum, &v| add(sum, v));
    }
    let mut lanes = [0f32; LANES];
    let (whole, mut rest) = values.as_chunks::<LANES>();
    let mut accumulate = |values: &[f32]| {
        for (lane, &value) in lanes.iter_mut().zip(values) {
            *lane = add(*lane, value);
        }
    };
    whole.iter().for_each(|values| accumulate(values));
    for piece in [8, 4, 2, 1] {
        if let Some((values, behind)) = rest.split_at_checked(piece) {
            accumulate(values);
            rest = behind;
        }
    }
    let quarter = |i: usize| (lanes[i] + lanes[i + 4]) + (lanes[i + 8] + lanes[i + 12]);
    (quarter(0) + quarter(1)) + (quarter(2) + quarter(3))
}

/// Sum of all values: whole vectors in turn on four of them, the rest on the first; these as `(a + b) + (c + d)`,
/// then the upper half of the lanes on the lower until one is left.
pub(crate) fn sum_on_four(values: &[f32]) -> f32 {
    let mut sums = [[0f32; LANES]; 4];
    let (whole, rest) = values.as_chunks::<LANES>();
    let groups = whole.len() / 4 * 4;
    let place = |i: usize| if i < groups { i % 4 } else { i - groups };
    let vectors = whole.iter().enumerate().map(|(i, v)| (place(i), &v[..]));
    for (at, values) in vectors.chain([(0, rest)]) {
        for (lane, value) in sums[at].iter_mut().zip(values) {
            *lane += value;
        }
    }
    let [a, b, c, d] = sums;
    let mut lanes: [f32; LANES] = std::array::from_fn(|i| (a[i] + b[i]) + (c[i] + d[i]));
    for half in [8, 4, 2, 1] {
        for i in 0..half {
            lanes[i] += lanes[i + half];
        }
    }
    lanes[0]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_counts_once() {
        for count in [0, 1, 7, 15, 16, 31, 47, 64, 79, 100, 160] {
            let values: Vec<f32> = (1..=count).map(|v| v as f32).collect();
            let expected = (count * (count + 1) / 2) as f32;
            assert_eq!(sum(&values, Order::Sequential, |s, v| s + v), expected);
            assert_eq!(sum(&values, Order::Quarters, |s, v| s + v), expected, "{count}");
            assert_eq!(sum_on_four(&values), expected, "{count}");
        }
    }
}
