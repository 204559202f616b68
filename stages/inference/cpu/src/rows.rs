//! Element-wise loops over nests.

use flow_model::op::{BinaryKind, UnaryKind};

use crate::kernels::functions::{self, Binary, Unary};
use crate::kernels::literal::Level;
use crate::kernels::ties::ROUNDING;
use crate::kernels::versions::Simd;
use crate::nest::{Loop, Nest};

/// `to[d] = f(from[s])` over a nest.
pub(crate) fn map<A: Copy, B>(nest: &Nest<2>, to: &mut [B], from: &[A], f: impl Fn(A) -> B) {
    let Loop {
        count,
        strides: [d_step, s_step],
    } = nest.inner();
    for [d, s] in nest.each_row() {
        if (d_step, s_step) == (1, 1) {
            for (to, from) in to[d..d + count].iter_mut().zip(&from[s..s + count]) {
                *to = f(*from);
            }
        } else {
            for i in 0..count {
                to[d + i * d_step] = f(from[s + i * s_step]);
            }
        }
    }
}

/// `to[d] = f(a[s], b[t])` over a nest.
#[inline(always)]
pub(crate) fn zip<A: Copy, B: Copy, C>(
    nest: &Nest<3>,
    to: &mut [C],
    a: &[A],
    b: &[B],
    f: impl Fn(A, B) -> C,
) {
    let Loop {
        count,
        strides: [d_step, s_step, t_step],
    } = nest.inner();
    for [d, s, t] in nest.each_row() {
        match (d_step, s_step, t_step) {
            (1, 1, 1) => {
                let operands = a[s..s + count].iter().zip(&b[t..t + count]);
                for (to, (a, b)) in to[d..d + count].iter_mut().zip(operands) {
                    *to = f(*a, *b);
                }
            }
            (1, 1, 0) => {
                let b = b[t];
                for (to, a) in to[d..d + count].iter_mut().zip(&a[s..s + count]) {
                    *to = f(*a, b);
                }
            }
            _ => {
                for i in 0..count {
                    to[d + i * d_step] = f(a[s + i * s_step], b[t + i * t_step]);
                }
            }
        }
    }
}

/// `x` rounded to the nearest whole number, ties to even, for |x| < 2^22: at 1.5 * 2^23 the spacing of f32 is
/// one. Unlike `round_ties_even` it needs no instruction beyond the baseline, so loops over it vectorise.
#[inline(always)]
pub(crate) fn round(x: f32) -> f32 {
    (x + ROUNDING) - ROUNDING
}

/// Limits of one FakeQuantize channel and its codes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub low: f32,
    pub high: f32,
}

/// The stored code of `x`: FakeQuantize's own order of operations, `base` being the code of `low`.
#[inline(always)]
pub(crate) fn code(x: f32, limits: Limits, steps: f32, base: f32) -> u8 {
    let Limits { low, high } = limits;
    let (least, most) = if low < high { (low, high) } else { (high, low) };
    // An interval without width is a step: nothing lies inside it.
    let width = if high == low { 1.0 } else { high - low };
    let inside = if x < most { x } else { most };
    let level = round((inside - low) / width * steps);
    // Below, where NaN belongs too, lies level 0 and above the last one, whichever way the interval runs.
    let level = if x > most { steps } else { level };
    let level = if x > least { level } else { 0.0 };
    byte(level + base)
}

/// The last byte of a whole number below 2^22: unlike a conversion, which saturates, an addition.
#[inline(always)]
fn byte(x: f32) -> u8 {
    (x + ROUNDING).to_bits() as u8
}

/// Puts values on levels over a nest of (codes, values, levels); `FMA` as for [`Level::of`].
#[inline(always)]
pub(crate) fn quantize_literal<const FMA: bool>(
    nest: &Nest<3>,
    to: &mut [u8],
    from: &[f32],
    levels: &[Level],
    base: f32,
) {
    quantize_by(nest, to, from, levels, |x, level| byte(level.of::<FMA>(x) + base));
}

/// Quantizes over a nest of (codes, values, limits).
pub(crate) fn quantize(
    nest: &Nest<3>,
    to: &mut [u8],
    from: &[f32],
    limits: &[Limits],
    steps: f32,
    base: f32,
) {
    quantize_by(nest, to, from, limits, |x, l| code(x, l, steps, base));
}

#[inline(always)]
fn quantize_by<L: Copy>(
    nest: &Nest<3>,
    to: &mut [u8],
    from: &[f32],
    limits: &[L],
    code: impl Fn(f32, L) -> u8,
) {
    let Loop {
        count,
        strides: [d_step, s_step, l_step],
    } = nest.inner();
    if l_step != 0 || s_step != 1 {
        return zip(nest, to, from, limits, code);
    }
    let mut block = [0_u8; 64];
    for [d, s, l] in nest.each_row() {
        let limits = limits[l];
        for (i, values) in from[s..s + count].chunks(block.len()).enumerate() {
            let codes = &mut block[..values.len()];
            for (code_out, &x) in codes.iter_mut().zip(values) {
                *code_out = code(x, limits);
            }
            let at = d + i * 64 * d_step;
            if d_step == 1 {
                to[at..at + codes.len()].copy_from_slice(codes);
            } else {
                scatter_codes(codes, d_step, &mut to[at..]);
            }
        }
    }
}

/// [`scatter`] for codes.
#[inline(always)]
fn scatter_codes(values: &[u8], step: usize, to: &mut [u8]) {
    match step {
        // The steps of pictures, known when this is compiled.
        3 => scatter_by::<3>(to, values),
        4 => scatter_by::<4>(to, values),
        _ => {
            for (i, &value) in values.iter().enumerate() {
                to[i * step] = value;
            }
        }
    }
}

#[inline(always)]
fn scatter_by<const STEP: usize>(to: &mut [u8], values: &[u8]) {
    let (whole, _) = to.as_chunks_mut::<STEP>();
    for (to, &value) in whole.iter_mut().zip(values) {
        to[0] = value;
    }
    // The last one may have nothing behind it.
    if let Some(&last) = values.last() {
        to[(values.len() - 1) * STEP] = last;
    }
}

/// Elements that are gathered at a time where they do not lie together.
const BLOCK: usize = 256;

/// The kernel of a function, and its parameter; `None` if it has none.
pub(crate) fn function(kind: UnaryKind) -> Option<(Unary, f64)> {
    let function: Unary = match kind {
        UnaryKind::Relu => functions::relu,
        UnaryKind::Sigmoid => functions::sigmoid,
        UnaryKind::Tanh => functions::tanh,
        UnaryKind::Exp => functions::exp,
        UnaryKind::Log => functions::ln,
        UnaryKind::Sqrt => functions::sqrt,
        UnaryKind::Abs => functions::abs,
        UnaryKind::Negative => functions::negative,
        UnaryKind::Floor => functions::floor,
        UnaryKind::Ceiling => functions::ceiling,
        UnaryKind::HSwish => functions::hard_swish,
        UnaryKind::HSigmoid => functions::hard_sigmoid,
        UnaryKind::Swish { beta } => return Some((functions::swish, f64::from(beta))),
        UnaryKind::Elu { alpha } => return Some((functions::elu, f64::from(alpha))),
        UnaryKind::Gelu { tanh: false } => functions::gelu,
        UnaryKind::Gelu { tanh: true } => functions::gelu_tanh,
        UnaryKind::Mish => functions::mish,
        UnaryKind::SoftPlus => functions::soft_plus,
        UnaryKind::Erf => functions::erf,
        UnaryKind::Sin => functions::sin,
        UnaryKind::Cos => functions::cos,
        UnaryKind::Tan => functions::tan,
        UnaryKind::Asin => functions::asin,
        UnaryKind::Acos => functions::acos,
        UnaryKind::Atan => functions::atan,
        UnaryKind::Sinh => functions::sinh,
        UnaryKind::Cosh => functions::cosh,
        UnaryKind::Asinh => functions::asinh,
        UnaryKind::Acosh => functions::acosh,
        UnaryKind::Atanh => functions::atanh,
        UnaryKind::SoftSign => functions::soft_sign,
        UnaryKind::Round { half_to_even: true } => functions::round_even,
        UnaryKind::Round { half_to_even: false } => functions::round_away,
        _ => return None,
    };
    Some((function, 0.0))
}

/// The kernel of an operation on two f32; `None` if it has none.
pub(crate) fn operation(kind: BinaryKind) -> Option<Binary> {
    Some(match kind {
        BinaryKind::Add => functions::add,
        BinaryKind::Subtract => functions::subtract,
        BinaryKind::Multiply => functions::multiply,
        BinaryKind::Divide | BinaryKind::DivideTruncating => functions::divide,
        BinaryKind::Maximum => functions::maximum,
        BinaryKind::Minimum => functions::minimum,
        BinaryKind::SquaredDifference => functions::squared_difference,
        BinaryKind::Power => functions::power,
        BinaryKind::Mod => functions::remainder,
        BinaryKind::FloorMod => functions::floor_remainder,
        _ => return None,
    })
}

/// Applies a function over a nest.
pub(crate) fn apply(
    simd: Simd,
    nest: &Nest<2>,
    to: &mut [f32],
    from: &[f32],
    (function, parameter): (Unary, f64),
) {
    let Loop {
        count,
        strides: [d_step, s_step],
    } = nest.inner();
    let (mut values, mut results) = ([0.0; BLOCK], [0.0; BLOCK]);
    nest.rows(|[d, s]| {
        if (d_step, s_step) == (1, 1) {
            return function(simd, &mut to[d..d + count], &from[s..s + count], parameter);
        }
        for first in (0..count).step_by(BLOCK) {
            let n = BLOCK.min(count - first);
            gather(&from[s + first * s_step..], s_step, &mut values[..n]);
            function(simd, &mut results[..n], &values[..n], parameter);
            scatter(&results[..n], d_step, &mut to[d + first * d_step..]);
        }
    });
}

/// Combines two operands over a nest.
pub(crate) fn combine(simd: Simd, nest: &Nest<3>, to: &mut [f32], a: &[f32], b: &[f32], operation: Binary) {
    let Loop {
        count,
        strides: [d_step, a_step, b_step],
    } = nest.inner();
    let (mut left, mut right, mut results) = ([0.0; BLOCK], [0.0; BLOCK], [0.0; BLOCK]);
    nest.rows(|[d, s, t]| {
        if [d_step, a_step, b_step] == [1, 1, 1] {
            return operation(simd, &mut to[d..d + count], &a[s..s + count], &b[t..t + count]);
        }
        for first in (0..count).step_by(BLOCK) {
            let n = BLOCK.min(count - first);
            let a = run(&a[s + first * a_step..], a_step, &mut left[..n], first == 0);
            let b = run(&b[t + first * b_step..], b_step, &mut right[..n], first == 0);
            if d_step == 1 {
                operation(simd, &mut to[d + first..][..n], a, b);
            } else {
                operation(simd, &mut results[..n], a, b);
                scatter(&results[..n], d_step, &mut to[d + first * d_step..]);
            }
        }
    });
}

/// `n` elements `step` apart as a run: where they lie, or in `block`, which keeps a repeated value once it holds it.
fn run<'a>(from: &'a [f32], step: usize, block: &'a mut [f32], first: bool) -> &'a [f32] {
    match step {
        1 => return &from[..block.len()],
        0 if first => block.fill(from[0]),
        0 => {}
        _ => gather(from, step, block),
    }
    block
}

fn gather(from: &[f32], step: usize, to: &mut [f32]) {
    for (i, to) in to.iter_mut().enumerate() {
        *to = from[i * step];
    }
}

fn scatter(from: &[f32], step: usize, to: &mut [f32]) {
    for (i, &value) in from.iter().enumerate() {
        to[i * step] = value;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn rounding_is_to_even(x in -4_000_000f32..4_000_000.0) {
            prop_assert_eq!(round(x), x.round_ties_even());
            let half = x.trunc() / 8.0 + 0.5;
            prop_assert_eq!(round(half), half.round_ties_even());
        }

        #[test]
        fn codes_stay_in_range(x in any::<f32>(), low in -10f32..0.0, width in 0.1f32..20.0) {
            let limits = Limits { low, high: low + width };
            prop_assert!(code(x, limits, 99.0, 5.0) >= 5);
            prop_assert!(code(x, limits, 99.0, 5.0) <= 104);
        }
    }
}
