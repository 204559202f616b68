//! Element-wise loops over nests.

use flow_model::op::{BinaryKind, UnaryKind};

use crate::kernels::literal::Level;
use crate::lower::Function;
use crate::nest::{Loop, Nest};

/// `to[d] = f(from[s])` over a nest.
pub(crate) fn map<A: Copy, B>(nest: &Nest<2>, to: &mut [B], from: &[A], f: impl Fn(A) -> B) {
    let Loop {
        count,
        strides: [d_step, s_step],
    } = nest.inner();
    nest.rows(|[d, s]| {
        if (d_step, s_step) == (1, 1) {
            for (to, from) in to[d..d + count].iter_mut().zip(&from[s..s + count]) {
                *to = f(*from);
            }
        } else {
            for i in 0..count {
                to[d + i * d_step] = f(from[s + i * s_step]);
            }
        }
    });
}

/// `to[d] = f(a[s], b[t])` over a nest.
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
    nest.rows(|[d, s, t]| match (d_step, s_step, t_step) {
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
    });
}

/// `x` rounded to the nearest whole number, ties to even, for |x| < 2^22: at 1.5 * 2^23 the spacing of f32 is
/// one. Unlike `round_ties_even` it needs no instruction beyond the baseline, so loops over it vectorise.
#[inline(always)]
pub(crate) fn round(x: f32) -> f32 {
    const MAGIC: f32 = 12_582_912.0;
    (x + MAGIC) - MAGIC
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
    // NaN goes to the lowest limit.
    let x = if x > least { x } else { least };
    let x = if x < most { x } else { most };
    // An interval without width has one code; its x - low is 0.
    let width = if high == low { 1.0 } else { high - low };
    // At most 255: the conversion through i32 is exact and, unlike one to u8, a single instruction.
    (round((x - low) / width * steps) + base) as i32 as u8
}

/// Puts values on levels over a nest of (codes, values, levels).
pub(crate) fn quantize_literal(nest: &Nest<3>, to: &mut [u8], from: &[f32], levels: &[Level], base: f32) {
    #[cfg(target_arch = "x86_64")]
    if crate::kernels::Isa::Avx2.is_supported() {
        // SAFETY: the processor has the features.
        return unsafe { quantize_literal_fma(nest, to, from, levels, base) };
    }
    quantize_by(nest, to, from, levels, |x, level| {
        (level.of(x) + base) as i32 as u8
    });
}

/// [`quantize_literal`] with instructions for rounding, and for multiplication and addition in one.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn quantize_literal_fma(nest: &Nest<3>, to: &mut [u8], from: &[f32], levels: &[Level], base: f32) {
    quantize_by(nest, to, from, levels, |x, level| {
        (level.of(x) + base) as i32 as u8
    });
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
    nest.rows(|[d, s, l]| {
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
                for (to, code) in to[at..].iter_mut().step_by(d_step).zip(codes) {
                    *to = *code;
                }
            }
        }
    });
}

/// Whether [`apply`] knows the function.
pub(crate) fn has_function(kind: UnaryKind) -> bool {
    !matches!(
        kind,
        UnaryKind::Gelu { .. }
            | UnaryKind::Erf
            | UnaryKind::LogicalNot
            | UnaryKind::Mish
            | UnaryKind::SoftPlus
    )
}

/// Applies a function over a nest.
pub(crate) fn apply(nest: &Nest<2>, to: &mut [f32], from: &[f32], function: Function) {
    let sigmoid = |x: f32| 1.0 / (1.0 + (-x).exp());
    let kind = match function {
        Function::Clamp { min, max } => {
            return map(nest, to, from, |x| {
                let x = if x < min { min } else { x };
                if x > max { max } else { x }
            });
        }
        Function::Unary(kind) => kind,
    };
    match kind {
        UnaryKind::Relu => map(nest, to, from, |x: f32| if x < 0.0 { 0.0 } else { x }),
        UnaryKind::Sigmoid => map(nest, to, from, sigmoid),
        UnaryKind::Tanh => map(nest, to, from, f32::tanh),
        UnaryKind::Exp => map(nest, to, from, f32::exp),
        UnaryKind::Log => map(nest, to, from, f32::ln),
        UnaryKind::Sqrt => map(nest, to, from, f32::sqrt),
        UnaryKind::Abs => map(nest, to, from, f32::abs),
        UnaryKind::Negative => map(nest, to, from, |x: f32| -x),
        UnaryKind::Floor => map(nest, to, from, f32::floor),
        UnaryKind::Ceiling => map(nest, to, from, f32::ceil),
        UnaryKind::HSwish => map(nest, to, from, |x: f32| x * (x + 3.0).clamp(0.0, 6.0) / 6.0),
        UnaryKind::HSigmoid => map(nest, to, from, |x: f32| (x + 3.0).clamp(0.0, 6.0) / 6.0),
        UnaryKind::Swish { beta } => map(nest, to, from, |x: f32| x * sigmoid(beta * x)),
        UnaryKind::Elu { alpha } => {
            map(
                nest,
                to,
                from,
                |x: f32| if x < 0.0 { alpha * (x.exp() - 1.0) } else { x },
            );
        }
        // `has_function` keeps the others away.
        _ => map(nest, to, from, |_| f32::NAN),
    }
}

/// Combines two operands over a nest.
pub(crate) fn combine(nest: &Nest<3>, to: &mut [f32], a: &[f32], b: &[f32], kind: BinaryKind) {
    match kind {
        BinaryKind::Add => zip(nest, to, a, b, |a: f32, b: f32| a + b),
        BinaryKind::Subtract => zip(nest, to, a, b, |a: f32, b: f32| a - b),
        BinaryKind::Multiply => zip(nest, to, a, b, |a: f32, b: f32| a * b),
        BinaryKind::Divide => zip(nest, to, a, b, |a: f32, b: f32| a / b),
        BinaryKind::Maximum => zip(nest, to, a, b, |a: f32, b: f32| if a > b { a } else { b }),
        BinaryKind::Minimum => zip(nest, to, a, b, |a: f32, b: f32| if a < b { a } else { b }),
        BinaryKind::SquaredDifference => zip(nest, to, a, b, |a: f32, b: f32| (a - b) * (a - b)),
        // The lowering keeps the others away.
        _ => zip(nest, to, a, b, |_: f32, _: f32| f32::NAN),
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
