//! Elementary functions in f64 without branches, for loops over f32 that the compiler vectorises.
//!
//! Relative errors stay below 1e-12, so that a result rounded to f32 is the correctly rounded one but for about one
//! value in ten thousand million, and the same on every instruction set.

/// Where rounding to a whole number happens in the last bits: 1.5 * 2^52.
const MAGIC: f64 = 6_755_399_441_055_744.0;

/// `if condition { a } else { b }`, both computed.
#[inline(always)]
fn choose(condition: bool, a: f64, b: f64) -> f64 {
    if condition { a } else { b }
}

/// A polynomial, lowest coefficient first.
#[inline(always)]
fn polynomial<const N: usize>(x: f64, coefficients: [f64; N]) -> f64 {
    let mut sum = coefficients[N - 1];
    for k in (0..N - 1).rev() {
        sum = sum * x + coefficients[k];
    }
    sum
}

/// `e^x`; beyond +-200, where f32 has long ended, `e^200` and `e^-200`.
#[inline(always)]
pub(crate) fn exp(x: f64) -> f64 {
    // Comparisons are written so that NaN stays.
    let x = choose(x < -200.0, -200.0, x);
    let x = choose(x > 200.0, 200.0, x);
    let shifted = x * std::f64::consts::LOG2_E + MAGIC;
    let n = shifted - MAGIC;
    // ln 2 in two parts: n times the first is exact.
    let r = x - n * 0.693_147_180_369_123_8 - n * 1.908_214_929_270_587_7e-10;
    let sum = polynomial(
        r,
        [
            1.0,
            1.0,
            1.0 / 2.0,
            1.0 / 6.0,
            1.0 / 24.0,
            1.0 / 120.0,
            1.0 / 720.0,
            1.0 / 5_040.0,
            1.0 / 40_320.0,
            1.0 / 362_880.0,
            1.0 / 3_628_800.0,
        ],
    );
    // The last bits of `shifted` are n in two's complement.
    sum * f64::from_bits((shifted.to_bits() << 52).wrapping_add(1023 << 52))
}

/// `1 / (1 + e^-x)`.
#[inline(always)]
pub(crate) fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + exp(-x))
}

/// `tanh x`.
#[inline(always)]
pub(crate) fn tanh(x: f64) -> f64 {
    let e = exp(-2.0 * x.abs());
    let far = ((1.0 - e) / (1.0 + e)).copysign(x);
    let near = x * polynomial(x * x, [1.0, -1.0 / 3.0, 2.0 / 15.0, -17.0 / 315.0, 62.0 / 2835.0]);
    choose(x.abs() < 0.03, near, far)
}

/// `2 atanh s` for |s| <= 1/3, by its series.
#[inline(always)]
fn two_atanh(s: f64) -> f64 {
    let t = s * s;
    2.0 * s
        * polynomial(
            t,
            [
                1.0,
                1.0 / 3.0,
                1.0 / 5.0,
                1.0 / 7.0,
                1.0 / 9.0,
                1.0 / 11.0,
                1.0 / 13.0,
                1.0 / 15.0,
                1.0 / 17.0,
                1.0 / 19.0,
                1.0 / 21.0,
                1.0 / 23.0,
            ],
        )
}

/// `ln x` of a value that was an f32.
#[inline(always)]
pub(crate) fn ln(x: f64) -> f64 {
    // x = m * 2^k with m from sqrt(1/2) to sqrt(2): ln x = k ln 2 + 2 atanh((m - 1) / (m + 1)).
    let bits = x.to_bits();
    let shifted = bits.wrapping_sub(0x3fe6_a09e_667f_3bcd);
    // The exponent, made positive by an offset, in the last bits of a float of exponent 52.
    let raised = (shifted >> 52).wrapping_add(0x400) & 0xfff;
    let k = f64::from_bits(0x4330_0000_0000_0000 | raised) - 4_503_599_627_370_496.0 - 1024.0;
    let m = f64::from_bits(bits.wrapping_sub(shifted & 0xfff0_0000_0000_0000));
    let value = k * std::f64::consts::LN_2 + two_atanh((m - 1.0) / (m + 1.0));
    let value = choose(x == 0.0, f64::NEG_INFINITY, value);
    let value = choose(x == f64::INFINITY, x, value);
    choose(x >= 0.0, value, f64::NAN)
}

/// `ln(1 + e^x)`.
#[inline(always)]
pub(crate) fn soft_plus(x: f64) -> f64 {
    let e = exp(-x.abs());
    choose(x > 0.0, x, 0.0) + two_atanh(e / (2.0 + e))
}

/// `x tanh(ln(1 + e^x))`.
#[inline(always)]
pub(crate) fn mish(x: f64) -> f64 {
    let e = exp(x);
    let n = e * (e + 2.0);
    x * (n / (n + 2.0))
}

/// `1 - erf x` for x >= 0: `e^(-x^2) / (1 + 2 x)` times a polynomial in (x - 3) / (x + 3), fitted by least squares
/// at Chebyshev nodes; error 5e-14.
#[inline(always)]
fn erfc(x: f64) -> f64 {
    let x = choose(x > 14.0, 14.0, x);
    let t = (x - 3.0) / (x + 3.0) * (17.0 / 14.0) + 3.0 / 14.0;
    let scaled = polynomial(
        t,
        [
            1.274619441394868,
            -0.085436413001226,
            -0.09670564865389067,
            0.1328096381168439,
            -0.08784781018175118,
            0.03578051451916036,
            -0.007773348522397911,
            -0.00023212065970160158,
            0.0006078178715201659,
            -6.954220485375454e-05,
            -4.425532800785825e-05,
            8.43048768151858e-06,
            4.001449242178755e-06,
            -7.336820350053229e-07,
            -4.1538631609304963e-07,
            4.1852318062617545e-08,
            3.278493128087309e-08,
        ],
    );
    exp(-x * x) * scaled / (1.0 + 2.0 * x)
}

/// `x / 2 (1 + erf(x / sqrt 2))`.
#[inline(always)]
pub(crate) fn gelu(x: f64) -> f64 {
    let half = 0.5 * erfc(x.abs() * std::f64::consts::FRAC_1_SQRT_2);
    x * choose(x > 0.0, 1.0 - half, half)
}

/// `x / 2 (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)))`.
#[inline(always)]
pub(crate) fn gelu_tanh(x: f64) -> f64 {
    let inner = 0.797_884_560_802_865_4 * (x + 0.044_715 * x * x * x);
    // (1 + tanh y) / 2 = sigmoid(2 y)
    x * sigmoid(2.0 * inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use flow_model::op::UnaryKind;

    /// Every 1009th f32, all signs and magnitudes.
    fn samples() -> impl Iterator<Item = f32> {
        (0..=u32::MAX / 1009)
            .map(|i| f32::from_bits(i * 1009))
            .filter(|x| x.is_finite())
    }

    /// Checks that `f` rounds to the f32 next to the true value, `truth` being accurate in f64.
    fn check(name: &str, f: fn(f64) -> f64, truth: impl Fn(f64) -> f64) {
        let mut off = 0;
        for x in samples() {
            let (found, expected) = (f(f64::from(x)) as f32, truth(f64::from(x)) as f32);
            if found.is_nan() && expected.is_nan() {
                continue;
            }
            if found != expected {
                off += 1;
                let apart = (i64::from(found.to_bits()) - i64::from(expected.to_bits())).abs();
                assert!(apart <= 1, "{name}({x}) = {expected}, found {found}");
            }
        }
        assert!(off <= 3, "{name}: {off} values are rounded to the neighbour");
    }

    #[test]
    fn functions_are_correctly_rounded_to_f32() {
        check("exp", exp, f64::exp);
        check("tanh", tanh, f64::tanh);
        check("ln", ln, f64::ln);
        check("sigmoid", sigmoid, |x| 1.0 / (1.0 + (-x).exp()));
        check("softplus", soft_plus, |x| x.max(0.0) + (-x.abs()).exp().ln_1p());
        check("mish", mish, |x| {
            let n = x.exp();
            if x > 50.0 {
                x
            } else {
                x * (n * (n + 2.0) / (n * (n + 2.0) + 2.0))
            }
        });
    }

    /// Gelu of the reference evaluator loses digits far below zero: compared absolutely there.
    #[test]
    fn gelu_is_that_of_the_reference() {
        let run = |kind, x: &[f32]| {
            let tensor = flow_model::Tensor::from_slice(&[x.len()], x).unwrap();
            flow_model::ops::evaluate(&flow_model::Op::Unary(kind), &[tensor]).unwrap()[0].to_f32()
        };
        let x: Vec<f32> = samples().filter(|x| x.abs() < 9.0).step_by(50).collect();
        type Function = fn(f64) -> f64;
        for (kind, f) in [
            (UnaryKind::Gelu { tanh: false }, gelu as Function),
            (UnaryKind::Gelu { tanh: true }, gelu_tanh),
        ] {
            for (&x, expected) in x.iter().zip(run(kind, &x)) {
                let found = f(f64::from(x)) as f32;
                let near = f32::EPSILON * expected.abs() + if x < -2.0 { 1e-15 } else { f32::from_bits(1) };
                assert!(
                    (found - expected).abs() <= near,
                    "{kind:?}({x}) = {expected}, found {found}"
                );
            }
        }
    }
}
