//! Multiplication and addition with one rounding, with and without an instruction for it.

/// `a * b + c`, rounded once; `HARDWARE`: the caller is compiled for processors that have an instruction for it.
#[inline(always)]
pub(crate) fn fused<const HARDWARE: bool>(a: f32, b: f32, c: f32) -> f32 {
    if HARDWARE {
        return a.mul_add(b, c);
    }
    // A product of 24-bit factors is exact in f64. So is the result, unless rounding the sum to f64 moved it onto the
    // middle between two f32, from where the second rounding cannot know the side.
    let product = f64::from(a) * f64::from(b);
    let sum = product + f64::from(c);
    if may_round_twice(sum) {
        round_to_odd(product, f64::from(c), sum) as f32
    } else {
        sum as f32
    }
}

/// Middles between two neighbouring normal f32: the 29 bits that f64 has more are 1 and zeros.
pub(crate) const EXTRA_BITS: u64 = (1 << 29) - 1;
/// Their value in a middle.
pub(crate) const MIDDLE: u64 = 1 << 28;
/// Below it f32 have fewer bits, and middles lie elsewhere.
pub(crate) const TINY: f64 = 1.0 / (1_u128 << 125) as f64;

/// Whether `sum` is, or might be, in the middle between two f32.
#[inline(always)]
fn may_round_twice(sum: f64) -> bool {
    sum.to_bits() & EXTRA_BITS == MIDDLE || (sum.abs() < TINY && sum != 0.0)
}

/// The exact sum of `a` and `b`, of which `sum` is the nearest f64, rounded to that neighbour in f64 whose last bit
/// is set. Such a number is never the middle between two f32, and lies on the side of each where the exact sum lies
/// (Boldo and Melquiond, "Emulation of a FMA and correctly rounded sums", 2008).
#[cold]
fn round_to_odd(a: f64, b: f64, sum: f64) -> f64 {
    // The error of an addition, exactly (Knuth).
    let of_b = sum - a;
    let error = (a - (sum - of_b)) + (b - of_b);
    match sum.to_bits() & 1 {
        0 if error > 0.0 => sum.next_up(),
        0 if error < 0.0 => sum.next_down(),
        _ => sum,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn same(a: f32, b: f32, c: f32) -> bool {
        let (found, expected) = (fused::<false>(a, b, c), a.mul_add(b, c));
        found.to_bits() == expected.to_bits() || (found.is_nan() && expected.is_nan())
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 20_000, ..ProptestConfig::default() })]

        #[test]
        fn any_numbers(a: f32, b: f32, c: f32) {
            prop_assert!(same(a, b, c), "{a:e} {b:e} {c:e}");
        }

        /// Products that put the sum a hair from the middle between two f32, subnormal ones included.
        #[test]
        fn numbers_next_to_a_middle(m in 1_u32 << 23..1 << 24, e in -149..100_i32, p in 0..40_i32, up: bool, back: bool) {
            let c = m as f32 * 2_f32.powi(e.max(-126)) * 2_f32.powi(e - e.max(-126));
            let ulp = 2_f64.powi(e);
            // Half a unit in the last place of `c`, and a part of it far below the last bit of f64.
            let hair = 1.0 + if p < 24 { 2_f64.powi(-p - 1) } else { 0.0 };
            let (x, y) = (hair as f32, (ulp / 2.0 * if back { -1.0 } else { 1.0 }) as f32);
            prop_assert!(same(x, y, c), "{x:e} {y:e} {c:e}");
            let (x, y) = ((1.0 + 2_f64.powi(-23)) as f32, y * (1.0 - 2_f32.powi(-24) * f32::from(u8::from(up))));
            prop_assert!(same(x, y, c), "{x:e} {y:e} {c:e}");
        }
    }

    #[test]
    fn two_roundings_would_end_elsewhere() {
        // c plus half a unit less 2^-54: f64 drops the last, and ties to even makes a whole unit of the half.
        let (a, b) = (1.0 + 2_f32.powi(-15), 2_f32.powi(-24) * (1.0 - 2_f32.powi(-15)));
        let c = 1.0 + 2_f32.powi(-23);
        let twice = (f64::from(a) * f64::from(b) + f64::from(c)) as f32;
        assert_eq!(fused::<false>(a, b, c), a.mul_add(b, c));
        assert_ne!(twice, a.mul_add(b, c));
    }
}
