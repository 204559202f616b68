//! Element-wise functions of runs of f32. Those that hold an exponential alone are computed as OpenVINO computes them,
//! the others in f64 where one f32 operation does not do, and rounded once.

use flow_model::ops::exponential;

use super::math;
use super::versions::{Simd, versions};

/// A function of one run: `to[i] = f(from[i])`, with one parameter where the function has one.
pub(crate) type Unary = fn(Simd, &mut [f32], &[f32], f64);

/// A function of two runs of the same length.
pub(crate) type Binary = fn(Simd, &mut [f32], &[f32], &[f32]);

/// Declares functions of one f32 `x` and the parameter `p`; those marked f64 see both in f64.
macro_rules! unary {
    ($($name:ident, $body:ident: f64 |$x:ident, $p:ident| $value:expr;)*) => {$(
        #[inline(always)]
        fn $body(to: &mut [f32], from: &[f32], $p: f64) {
            let _ = $p;
            for (to, &x) in to.iter_mut().zip(from) {
                let $x = f64::from(x);
                *to = $value as f32;
            }
        }
        versions!(pub(crate) fn $name(to: &mut [f32], from: &[f32], parameter: f64) = $body);
    )*};
    ($($name:ident, $body:ident: f32 |$x:ident, $p:ident| $value:expr;)*) => {$(
        #[inline(always)]
        fn $body(to: &mut [f32], from: &[f32], parameter: f64) {
            let $p = parameter as f32;
            let _ = $p;
            for (to, &$x) in to.iter_mut().zip(from) {
                *to = $value;
            }
        }
        versions!(pub(crate) fn $name(to: &mut [f32], from: &[f32], parameter: f64) = $body);
    )*};
}

unary! {
    ln, ln_body: f64 |x, p| math::ln(x);
    tanh, tanh_body: f64 |x, p| math::tanh(x);
    gelu, gelu_body: f64 |x, p| math::gelu(x);
    gelu_tanh, gelu_tanh_body: f64 |x, p| math::gelu_tanh(x);
    mish, mish_body: f64 |x, p| math::mish(x);
    soft_plus, soft_plus_body: f64 |x, p| math::soft_plus(x);
    sin, sin_body: f64 |x, p| x.sin();
    cos, cos_body: f64 |x, p| x.cos();
    tan, tan_body: f64 |x, p| x.tan();
    asin, asin_body: f64 |x, p| x.asin();
    acos, acos_body: f64 |x, p| x.acos();
    atan, atan_body: f64 |x, p| x.atan();
    sinh, sinh_body: f64 |x, p| x.sinh();
    cosh, cosh_body: f64 |x, p| x.cosh();
    asinh, asinh_body: f64 |x, p| x.asinh();
    acosh, acosh_body: f64 |x, p| x.acosh();
    atanh, atanh_body: f64 |x, p| x.atanh();
    soft_sign, soft_sign_body: f64 |x, p| x / (1.0 + x.abs());
    round_even, round_even_body: f64 |x, p| x.round_ties_even();
    round_away, round_away_body: f64 |x, p| x.round();
    hard_swish, hard_swish_body: f64 |x, p| x * clamp(x + 3.0, 0.0, 6.0) / 6.0;
    hard_sigmoid, hard_sigmoid_body: f64 |x, p| clamp(x + 3.0, 0.0, 6.0) / 6.0;
}

unary! {
    exp, exp_body: f32 |x, p| exponential::exp(x);
    erf, erf_body: f32 |x, p| exponential::erf(x);
    sigmoid, sigmoid_body: f32 |x, p| exponential::sigmoid(x);
    swish, swish_body: f32 |x, p| x * exponential::sigmoid(x * p);
    elu, elu_body: f32 |x, p| if x < 0.0 { p * (exponential::exp(x) - 1.0) } else { x };
    relu, relu_body: f32 |x, p| if x < 0.0 { 0.0 } else { x };
    sqrt, sqrt_body: f32 |x, p| x.sqrt();
    abs, abs_body: f32 |x, p| x.abs();
    negative, negative_body: f32 |x, p| -x;
    floor, floor_body: f32 |x, p| x.floor();
    ceiling, ceiling_body: f32 |x, p| x.ceil();
}

#[inline(always)]
fn clamp(x: f64, low: f64, high: f64) -> f64 {
    let x = if x < low { low } else { x };
    if x > high { high } else { x }
}

/// Declares functions of two f32.
macro_rules! binary {
    ($($name:ident, $body:ident: |$a:ident, $b:ident| $value:expr;)*) => {$(
        #[inline(always)]
        fn $body(to: &mut [f32], a: &[f32], b: &[f32]) {
            for ((to, &$a), &$b) in to.iter_mut().zip(a).zip(b) {
                *to = $value;
            }
        }
        versions!(pub(crate) fn $name(to: &mut [f32], a: &[f32], b: &[f32]) = $body);
    )*};
}

binary! {
    add, add_body: |a, b| a + b;
    subtract, subtract_body: |a, b| a - b;
    multiply, multiply_body: |a, b| a * b;
    divide, divide_body: |a, b| a / b;
    maximum, maximum_body: |a, b| if a > b || b.is_nan() { a } else { b };
    minimum, minimum_body: |a, b| if a < b || b.is_nan() { a } else { b };
    squared_difference, squared_difference_body: |a, b| {
        let d = f64::from(a) - f64::from(b);
        (d * d) as f32
    };
    power, power_body: |a, b| f64::from(a).powf(f64::from(b)) as f32;
    remainder, remainder_body: |a, b| (f64::from(a) % f64::from(b)) as f32;
    floor_remainder, floor_remainder_body: |a, b| {
        let (a, b) = (f64::from(a), f64::from(b));
        (a - b * (a / b).floor()) as f32
    };
    leaky, leaky_body: |x, slope| if x < 0.0 { x * slope } else { x };
}

/// `x^2`, `sqrt x` and the like in place of a power; `None` for exponents without a form of their own.
pub(crate) fn fixed_power(exponent: f32) -> Option<Unary> {
    match exponent {
        2.0 => Some(square),
        1.0 => Some(identity),
        -1.0 => Some(reciprocal),
        3.0 => Some(cube),
        _ => None,
    }
}

unary! {
    square, square_body: f64 |x, p| x * x;
    cube, cube_body: f64 |x, p| x * x * x;
    reciprocal, reciprocal_body: f64 |x, p| 1.0 / x;
    identity, identity_body: f64 |x, p| x;
}
