//! `e^x` in f32 as OpenVINO's CPU plugin computes it (oneDNN's polynomial), so that the last bit is reproducible.

/// `ln 2`, `1 / ln 2`, and the limits within which the result is a normal number.
const LN_2: f32 = f32::from_bits(0x3f31_7218);
const LOG2_E: f32 = f32::from_bits(0x3fb8_aa3b);
const LOWEST: f32 = f32::from_bits(0xc2ae_ac50);
const HIGHEST: f32 = f32::from_bits(0x42b1_7218);

/// Coefficients of `e^r` for `|r| <= ln 2 / 2`, from the highest power down to the constant.
const COEFFICIENTS: [f32; 6] = [
    f32::from_bits(0x3c07_cfce),
    f32::from_bits(0x3d2b_9d0d),
    f32::from_bits(0x3e2a_ad40),
    f32::from_bits(0x3eff_fee3),
    f32::from_bits(0x3f7f_fffb),
    1.0,
];

/// `e^x`: `x = n * ln 2 + r`, a polynomial of the fifth degree in `r`, and `2^n`. Inputs beyond the exponents of
/// f32 count as the limits; zero where the result would be below the normal numbers.
pub(crate) fn exp(x: f32) -> f32 {
    if x.is_nan() {
        return x;
    }
    let below = x < LOWEST;
    let x = x.clamp(LOWEST, HIGHEST);
    let n = x.mul_add(LOG2_E, 0.5).floor();
    let r = (-n).mul_add(LN_2, x);
    let [first, rest @ ..] = COEFFICIENTS;
    let y = rest.iter().fold(first, |y, &c| y.mul_add(r, c));
    // 2^n in two factors: n reaches 128.
    let half = f32::from_bits(((n as i32 - 1 + 127) as u32) << 23);
    if below { 0.0 } else { y * half * 2.0 }
}

#[cfg(test)]
mod tests {
    use super::exp;

    #[test]
    fn is_close_to_the_exact_value() {
        for i in -8600..8800 {
            let x = i as f32 / 100.0;
            let exact = f64::from(x).exp();
            assert!((f64::from(exp(x)) / exact - 1.0).abs() < 4e-7, "{x}");
        }
        assert_eq!([exp(0.0), exp(-200.0), exp(f32::NEG_INFINITY)], [1.0, 0.0, 0.0]);
        assert!(exp(f32::NAN).is_nan() && exp(100.0) > 3e38);
    }
}
