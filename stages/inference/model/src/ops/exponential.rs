//! Exponentials in f32 as OpenVINO's CPU plugin computes them (oneDNN's polynomial), so that the last bit is
//! reproducible. Written without branches and inlined, for kernels compile them for their instruction set.

const LN_2: f32 = f32::from_bits(0x3f31_7218);
const LOG2_E: f32 = f32::from_bits(0x3fb8_aa3b);
/// Limits within which the result is a normal number.
const LOWEST: f32 = f32::from_bits(0xc2ae_ac50);
const HIGHEST: f32 = f32::from_bits(0x42b1_7218);

/// Coefficients of `e^r` for `|r| <= ln 2 / 2`, from the highest power down.
const COEFFICIENTS: [f32; 6] = [
    f32::from_bits(0x3c07_cfce),
    f32::from_bits(0x3d2b_9d0d),
    f32::from_bits(0x3e2a_ad40),
    f32::from_bits(0x3eff_fee3),
    f32::from_bits(0x3f7f_fffb),
    1.0,
];

/// `e^x`: `x = n * ln 2 + r`, a polynomial of the fifth degree in `r`, and `2^n`. Inputs beyond the exponents of
/// f32 count as the limits; zero where the result would be below the normal numbers; NaN stays.
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    let kept = if x < LOWEST { LOWEST } else { x };
    let kept = if kept > HIGHEST { HIGHEST } else { kept };
    let n = kept.mul_add(LOG2_E, 0.5).floor();
    let r = (-n).mul_add(LN_2, kept);
    let mut y = COEFFICIENTS[0];
    for c in &COEFFICIENTS[1..] {
        y = y.mul_add(r, *c);
    }
    // 2^n in two factors, as n reaches 128; n + 2^23 + 2^22 has n in its last bits.
    let bits = (n + 12_582_912.0).to_bits().wrapping_add(126) << 23;
    let y = y * f32::from_bits(bits) * 2.0;
    if x < LOWEST { 0.0 } else { y }
}

/// `1 / (1 + e^-x)` from the exponential of `-|x|`.
#[inline(always)]
pub fn sigmoid(x: f32) -> f32 {
    let e = exp(-x.abs());
    let below_half = e / (e + 1.0);
    if x > 0.0 { 1.0 - below_half } else { below_half }
}

/// Coefficients of [`erf`], from the highest power down, and the factor in `t` (Abramowitz and Stegun, 7.1.26).
const ERF: [f32; 5] = [1.061_405_4, -1.453_152_1, 1.421_413_8, -0.284_496_72, 0.254_829_6];
const ERF_P: f32 = 0.327_591_1;

/// The error function as OpenVINO's CPU plugin computes it: `1 - t e^(-x^2) polynomial(t)` with `t = 1 / (1 + p |x|)`;
/// its error is up to 5e-7.
#[inline(always)]
pub fn erf(x: f32) -> f32 {
    let t = 1.0 / x.abs().mul_add(ERF_P, 1.0);
    let e = exp(-(x * x)) * t;
    let mut y = ERF[0];
    for c in &ERF[1..] {
        y = y.mul_add(t, *c);
    }
    (-e).mul_add(y, 1.0).copysign(x)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn erf_is_that_of_openvino() {
        let x = [0.25, 0.015, -0.25, 5.0, 0.0];
        assert_eq!(x.map(erf), [0.276_326_1, 0.016_924_353, -0.276_326_1, 1.0, 0.0]);
        assert!(erf(f32::NAN).is_nan());
    }

    #[test]
    fn exponentials_are_close_to_the_exact_value() {
        for i in -8600..8800 {
            let x = i as f32 / 100.0;
            let exact = f64::from(x).exp();
            assert!((f64::from(exp(x)) / exact - 1.0).abs() < 4e-7, "{x}");
        }
        assert_eq!([exp(0.0), exp(-200.0), exp(f32::NEG_INFINITY)], [1.0, 0.0, 0.0]);
        assert!(exp(f32::NAN).is_nan() && exp(100.0) > 3e38);
        assert_eq!([sigmoid(0.0), sigmoid(100.0)], [0.5, 1.0]);
    }
}
