//! Plain f32 loops over dense slices, and changes between planar and interleaved layout. Written so that the
//! compiler vectorises them.

use super::error::expect_len;
use super::{ArgError, View, ViewMut};

/// Element-wise function of one f32.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the names are the usual ones")]
pub enum UnaryF32 {
    Relu,
    Sigmoid,
    Tanh,
    HSwish,
    HSigmoid,
    Exp,
    /// `x * sigmoid(x)`.
    Silu,
}

/// Element-wise function of two f32.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the names are the usual ones")]
pub enum BinaryF32 {
    Add,
    Subtract,
    Multiply,
    Divide,
    Maximum,
    Minimum,
}

/// `output[i] = op(input[i])`.
///
/// # Errors
/// [`ArgError`] where lengths differ.
pub fn unary_f32(op: UnaryF32, input: &[f32], output: &mut [f32]) -> Result<(), ArgError> {
    fn map(input: &[f32], output: &mut [f32], f: impl Fn(f32) -> f32) {
        for (o, &x) in output.iter_mut().zip(input) {
            *o = f(x);
        }
    }
    expect_len("output length", input.len(), output.len())?;
    let sigmoid = |x: f32| 1.0 / (1.0 + (-x).exp());
    match op {
        UnaryF32::Relu => map(input, output, |x| if x < 0.0 { 0.0 } else { x }),
        UnaryF32::Sigmoid => map(input, output, sigmoid),
        UnaryF32::Tanh => map(input, output, f32::tanh),
        UnaryF32::HSwish => map(input, output, |x| x * (x + 3.0).clamp(0.0, 6.0) / 6.0),
        UnaryF32::HSigmoid => map(input, output, |x| (x + 3.0).clamp(0.0, 6.0) / 6.0),
        UnaryF32::Exp => map(input, output, f32::exp),
        UnaryF32::Silu => map(input, output, |x| x * sigmoid(x)),
    }
    Ok(())
}

/// `output[i] = min(max(input[i], low), high)`; NaN stays.
///
/// # Errors
/// [`ArgError`] where lengths differ.
pub fn clamp_f32(input: &[f32], low: f32, high: f32, output: &mut [f32]) -> Result<(), ArgError> {
    expect_len("output length", input.len(), output.len())?;
    for (o, &x) in output.iter_mut().zip(input) {
        let x = if x < low { low } else { x };
        *o = if x > high { high } else { x };
    }
    Ok(())
}

/// `output[i] = op(a[i], b[i])`; an input of length 1 counts for all `i`, and `b` may repeat: its length
/// divides that of `a` (the trailing axes).
///
/// # Errors
/// [`ArgError`] where lengths do not fit.
pub fn binary_f32(op: BinaryF32, a: &[f32], b: &[f32], output: &mut [f32]) -> Result<(), ArgError> {
    fn zip(a: &[f32], b: &[f32], output: &mut [f32], f: impl Fn(f32, f32) -> f32 + Copy) {
        match (a, b) {
            (&[a], b) => output.iter_mut().zip(b).for_each(|(o, &b)| *o = f(a, b)),
            (a, &[b]) => output.iter_mut().zip(a).for_each(|(o, &a)| *o = f(a, b)),
            (a, b) => {
                for (o, a) in output.chunks_mut(b.len()).zip(a.chunks(b.len())) {
                    for ((o, &a), &b) in o.iter_mut().zip(a).zip(b) {
                        *o = f(a, b);
                    }
                }
            }
        }
    }
    if a.is_empty() || b.is_empty() {
        return Err(ArgError::Empty);
    }
    if a.len() == 1 {
        expect_len("output length", b.len(), output.len())?;
    } else {
        expect_len("output length", a.len(), output.len())?;
        expect_len("first length modulo second", 0, a.len() % b.len())?;
    }
    match op {
        BinaryF32::Add => zip(a, b, output, |a, b| a + b),
        BinaryF32::Subtract => zip(a, b, output, |a, b| a - b),
        BinaryF32::Multiply => zip(a, b, output, |a, b| a * b),
        BinaryF32::Divide => zip(a, b, output, |a, b| a / b),
        BinaryF32::Maximum => zip(a, b, output, |a, b| if a > b { a } else { b }),
        BinaryF32::Minimum => zip(a, b, output, |a, b| if a < b { a } else { b }),
    }
    Ok(())
}

/// Softmax over each run of `row` elements.
///
/// # Errors
/// [`ArgError`] where lengths do not fit.
pub fn softmax_rows(input: &[f32], row: usize, output: &mut [f32]) -> Result<(), ArgError> {
    expect_len("output length", input.len(), output.len())?;
    if row == 0 {
        return Err(ArgError::Empty);
    }
    expect_len("length modulo row", 0, input.len() % row)?;
    for (input, output) in input.chunks_exact(row).zip(output.chunks_exact_mut(row)) {
        let max = input.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let mut sum = 0.0;
        for (o, &x) in output.iter_mut().zip(input) {
            *o = (x - max).exp();
            sum += *o;
        }
        for o in output {
            *o /= sum;
        }
    }
    Ok(())
}

/// Planar `[C][H][W]` to an interleaved image.
///
/// # Errors
/// [`ArgError`] where `planes` does not hold C * H * W elements.
pub fn interleave<T: Copy>(planes: &[T], output: &mut ViewMut<'_, T>) -> Result<(), ArgError> {
    let l = *output.layout();
    let area = l
        .height
        .checked_mul(l.width)
        .ok_or(ArgError::Overflow("planes"))?;
    let len = area.checked_mul(l.channels).ok_or(ArgError::Overflow("planes"))?;
    expect_len("planar elements", len, planes.len())?;
    for y in 0..l.height {
        for (c, plane) in planes.chunks_exact(area).enumerate() {
            for (x, &v) in plane[y * l.width..][..l.width].iter().enumerate() {
                // SAFETY: (y, x, c) lies in the output, whose view was checked.
                unsafe { *output.pixel(y, x).add(c) = v };
            }
        }
    }
    Ok(())
}

/// An interleaved image to planar `[C][H][W]`.
///
/// # Errors
/// [`ArgError`] where `planes` does not hold C * H * W elements.
pub fn deinterleave<T: Copy>(input: &View<'_, T>, planes: &mut [T]) -> Result<(), ArgError> {
    let l = *input.layout();
    let area = l
        .height
        .checked_mul(l.width)
        .ok_or(ArgError::Overflow("planes"))?;
    let len = area.checked_mul(l.channels).ok_or(ArgError::Overflow("planes"))?;
    expect_len("planar elements", len, planes.len())?;
    for y in 0..l.height {
        for (c, plane) in planes.chunks_exact_mut(area).enumerate() {
            for (x, v) in plane[y * l.width..][..l.width].iter_mut().enumerate() {
                *v = input.at(y as isize, x as isize, c);
            }
        }
    }
    Ok(())
}
