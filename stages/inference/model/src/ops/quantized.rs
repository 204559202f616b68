//! The integer operations that low precision transformations make.

mod deconvolution;

use super::convolution::{self, Geometry};
use super::fake_quantize::level;
use super::matmul;
use super::support::{self, Input};
use crate::error::{OpError, bail};
use crate::graph::{Dim, OutputInfo};
use crate::op::{Dequantize, Lookup, Op, Quantize, QuantizedBatchMatMul, QuantizedConv, QuantizedMatMul};
use crate::tensor::{ElementType, Tensor};

impl Quantize {
    /// The code of a value under the limits of one index of the axis; NaN becomes `low`.
    pub fn code(&self, x: f32, index: usize) -> i32 {
        let at = |v: &[f32]| if v.len() == 1 { v[0] } else { v[index] };
        let level = level(x, at(&self.input_low), at(&self.input_high), self.levels);
        self.low.saturating_add(level as i32)
    }
}

/// Fails unless a per-axis list fits: one value without an axis, else one per index of the axis.
fn check_list(name: &str, len: usize, axis: Option<usize>, input: &Input) -> Result<(), OpError> {
    match axis {
        None if len == 1 => Ok(()),
        None => bail!("{name}: expected one value without an axis, found {len}"),
        Some(axis) => match input.shape.get(axis) {
            Some(None) => Ok(()),
            Some(Some(length)) if len == 1 || len == *length => Ok(()),
            Some(Some(length)) => bail!("{name}: expected {length} values along axis {axis}, found {len}"),
            None => bail!("axis {axis} is not an axis of {}", support::show(input.shape)),
        },
    }
}

fn expect_codes(input: &Input) -> Result<(), OpError> {
    match input.element_type {
        ElementType::I8 | ElementType::U8 => Ok(()),
        other => bail!("expected 8-bit codes, found {other}"),
    }
}

/// Checks weights `[OC, C/groups, kernel..]` and zero points (of data, of weights) against the data, and gives
/// the kernel and the output channels.
fn check_weights<'a>(
    groups: usize,
    zero_points: (&[i32], &[i32]),
    data: &[Dim],
    weights: &'a [Dim],
) -> Result<(&'a [Dim], Dim), OpError> {
    let [out, input, kernel @ ..] = weights else {
        bail!("weights {} have too few axes", support::show(weights));
    };
    if groups == 0 || out.is_some_and(|o| o % groups != 0) {
        bail!("{groups} groups do not divide the output channels");
    }
    let all = input.map(|i| i.saturating_mul(groups));
    let channels = data.get(1).copied().flatten();
    support::same_dim(channels, all, "channels of data and of all groups of the weights")?;
    for (name, len, wanted) in [
        ("data_zero_point", zero_points.0.len(), all),
        ("weight_zero_point", zero_points.1.len(), *out),
    ] {
        if len != 1 && wanted.is_some_and(|w| w != len) {
            bail!(
                "{name}: expected one value or {}, found {len}",
                wanted.unwrap_or(0)
            );
        }
    }
    Ok((kernel, *out))
}

/// Type and shape of the output.
pub(crate) fn infer(op: &Op, inputs: &[Input]) -> Result<Vec<OutputInfo>, OpError> {
    let x = &inputs[0];
    let (element_type, shape) = match op {
        Op::Quantize(q) => {
            let range = q.element_type.range().filter(|_| q.element_type.bits() <= 8);
            let Some((low, high)) = range else {
                bail!("expected codes of an 8-bit type, found {}", q.element_type)
            };
            let codes = i64::from(q.high) - i64::from(q.low) + 1;
            if i128::from(q.low) < low || i128::from(q.high) > high || codes != i64::from(q.levels) {
                bail!(
                    "codes {} to {} of {}: expected {} codes within {low} to {high}",
                    q.low,
                    q.high,
                    q.element_type,
                    q.levels
                );
            }
            if !x.element_type.is_float() {
                bail!("expected a floating point input, found {}", x.element_type);
            }
            check_list("input_low", q.input_low.len(), q.axis, x)?;
            check_list("input_high", q.input_high.len(), q.axis, x)?;
            (q.element_type, x.shape.to_vec())
        }
        Op::Dequantize(d) => {
            check_list("scale", d.scale.len(), d.axis, x)?;
            check_list("zero_point", d.zero_point.len(), d.axis, x)?;
            if x.element_type.is_float() {
                bail!("expected integer codes, found {}", x.element_type);
            }
            (ElementType::F32, x.shape.to_vec())
        }
        Op::QuantizedConvolution(c) => {
            expect_codes(x)?;
            expect_codes(&inputs[1])?;
            let (kernel, out) = check_weights(
                c.groups,
                (&c.data_zero_point, &c.weight_zero_point),
                x.shape,
                inputs[1].shape,
            )?;
            (
                ElementType::I32,
                convolution::output_shape(&c.conv, x.shape, kernel, out)?,
            )
        }
        Op::QuantizedDeconvolution(d) => {
            expect_codes(x)?;
            expect_codes(&inputs[1])?;
            let (kernel, out) = check_weights(
                d.groups,
                (&d.data_zero_point, &d.weight_zero_point),
                x.shape,
                inputs[1].shape,
            )?;
            (
                ElementType::I32,
                deconvolution::output_shape(d, x.shape, kernel, out)?,
            )
        }
        Op::QuantizedMatMul(m) => {
            expect_codes(x)?;
            expect_codes(&inputs[1])?;
            let [rows, columns] = inputs[1].shape else {
                bail!(
                    "expected weights of two axes, found {}",
                    support::show(inputs[1].shape)
                );
            };
            let columns = if m.transpose_b { rows } else { columns };
            if m.weight_zero_point.len() != 1 && columns.is_some_and(|c| c != m.weight_zero_point.len()) {
                bail!("weight_zero_point: expected one value or one per column");
            }
            let (shape, _) = matmul::product_shape(x.shape, inputs[1].shape, false, m.transpose_b)?;
            (ElementType::I32, shape)
        }
        Op::QuantizedBatchMatMul(m) => {
            expect_codes(x)?;
            expect_codes(&inputs[1])?;
            let (shape, _) = matmul::product_shape(x.shape, inputs[1].shape, m.transpose_a, m.transpose_b)?;
            (ElementType::I32, shape)
        }
        Op::Lookup(l) => {
            expect_codes(x)?;
            (l.element_type, x.shape.to_vec())
        }
        _ => bail!("not an operation of this family"),
    };
    Ok(vec![support::output(element_type, shape)])
}

/// For each element of a shape the index along an axis; 0 without one.
fn axis_indices(shape: &[usize], axis: Option<usize>) -> impl Iterator<Item = usize> {
    let (length, inner) = match axis {
        Some(a) => (shape[a], shape[a + 1..].iter().product()),
        None => (1, 1),
    };
    let count: usize = shape.iter().product();
    (0..count).map(move |i| i / inner % length)
}

/// Evaluates an operation of this family.
pub(crate) fn evaluate(op: &Op, inputs: &[Tensor], outputs: &[OutputInfo]) -> Result<Vec<Tensor>, OpError> {
    let shape = support::fixed(&outputs[0])?;
    let x = &inputs[0];
    let output = match op {
        Op::Quantize(q) => {
            let indices = axis_indices(x.shape(), q.axis);
            let codes: Vec<i128> = x
                .to_f32()
                .into_iter()
                .zip(indices)
                .map(|(v, i)| i128::from(q.code(v, i)))
                .collect();
            Tensor::from_i128(q.element_type, &shape, &codes)?
        }
        Op::Dequantize(d) => Tensor::from_slice(&shape, &dequantize(d, x))?,
        Op::QuantizedConvolution(c) => sums(&shape, &convolve(c, x, &inputs[1], &shape))?,
        Op::QuantizedMatMul(m) => sums(&shape, &multiply(m, x, &inputs[1])?)?,
        Op::QuantizedDeconvolution(d) => {
            let data = centred(x, &d.data_zero_point, 1);
            let weights = centred(&inputs[1], &d.weight_zero_point, 0);
            let dims = (x.shape(), inputs[1].shape(), &shape[..]);
            sums(&shape, &deconvolution::scatter(d, dims, &data, &weights))?
        }
        Op::QuantizedBatchMatMul(m) => sums(&shape, &multiply_both(m, x, &inputs[1])?)?,
        Op::Lookup(l) => lookup(l, x, &shape)?,
        _ => bail!("not an operation of this family"),
    };
    Ok(vec![output])
}

fn dequantize(d: &Dequantize, codes: &Tensor) -> Vec<f32> {
    let at = |v: &[f32], i: usize| if v.len() == 1 { v[0] } else { v[i] };
    let indices = axis_indices(codes.shape(), d.axis);
    codes
        .to_f32()
        .into_iter()
        .zip(indices)
        .map(|(q, i)| (q - at(&d.zero_point, i)) * at(&d.scale, i))
        .collect()
}

/// Codes less their zero points, which lie along `axis`.
fn centred(codes: &Tensor, zero_points: &[i32], axis: usize) -> Vec<f64> {
    let indices = axis_indices(codes.shape(), (zero_points.len() > 1).then_some(axis));
    let at = |i: usize| {
        f64::from(if zero_points.len() == 1 {
            zero_points[0]
        } else {
            zero_points[i]
        })
    };
    codes
        .to_f64()
        .into_iter()
        .zip(indices)
        .map(|(q, i)| q - at(i))
        .collect()
}

/// Sums of products below 2^17 are exact in f64 up to 2^36 terms.
fn convolve(c: &QuantizedConv, data: &Tensor, weights: &Tensor, shape: &[usize]) -> Vec<f64> {
    let dims = |s: &[usize]| s.iter().map(|&d| Some(d)).collect::<Vec<_>>();
    let mut attrs = c.conv.clone();
    convolution::resolve(&mut attrs, &dims(data.shape()), &dims(&weights.shape()[2..]));
    let geometry = Geometry::new(&attrs, c.groups, data.shape(), &weights.shape()[2..], shape);
    geometry.convolve(
        &centred(data, &c.data_zero_point, 1),
        &centred(weights, &c.weight_zero_point, 0),
    )
}

fn multiply(m: &QuantizedMatMul, data: &Tensor, weights: &Tensor) -> Result<Vec<f64>, OpError> {
    let columns = if m.transpose_b { 0 } else { 1 };
    let a: Vec<f64> = data
        .to_f64()
        .into_iter()
        .map(|q| q - f64::from(m.data_zero_point))
        .collect();
    let b = centred(weights, &m.weight_zero_point, columns);
    let (_, product) = matmul::multiply((&a, data.shape(), false), (&b, weights.shape(), m.transpose_b))?;
    Ok(product)
}

fn multiply_both(m: &QuantizedBatchMatMul, a: &Tensor, b: &Tensor) -> Result<Vec<f64>, OpError> {
    let (x, y) = (centred(a, &[m.zero_point_a], 0), centred(b, &[m.zero_point_b], 0));
    let (_, product) = matmul::multiply((&x, a.shape(), m.transpose_a), (&y, b.shape(), m.transpose_b))?;
    Ok(product)
}

/// Exact i32 sums.
fn sums(shape: &[usize], values: &[f64]) -> Result<Tensor, OpError> {
    if let Some(v) = values.iter().find(|v| v.abs() > f64::from(i32::MAX)) {
        bail!("the sum {v} does not fit 32 bits");
    }
    Ok(Tensor::from_f64(ElementType::I32, shape, values)?)
}

fn lookup(l: &Lookup, codes: &Tensor, shape: &[usize]) -> Result<Tensor, OpError> {
    let bytes: Vec<u8> = codes
        .bytes()
        .iter()
        .map(|&code| l.table[usize::from(code)])
        .collect();
    Ok(Tensor::new(l.element_type, shape.to_vec(), bytes)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::{AutoPad, ConvAttrs};
    use crate::ops::fake_quantize::{Formula, fake_quantize};
    use proptest::prelude::*;

    fn quantize(low: f32, high: f32) -> Quantize {
        Quantize {
            input_low: vec![low],
            input_high: vec![high],
            axis: None,
            levels: 256,
            low: -128,
            high: 127,
            element_type: ElementType::I8,
        }
    }

    proptest! {
        /// A code means the value that FakeQuantize with the codes as output limits gives.
        #[test]
        fn quantize_is_fake_quantize_to_codes(x in -10f32..10.0, a in -5f32..5.0, b in -5f32..5.0) {
            let q = quantize(a, b);
            let expected = fake_quantize(Formula::Specified, x, [a, b], [-128.0, 127.0], 256);
            // FakeQuantize's rescaling to the output range may be off by rounding.
            prop_assert_eq!(f64::from(q.code(x, 0)), f64::from(expected).round());
        }
    }

    #[test]
    fn not_a_number_is_the_lowest_code() {
        assert_eq!(quantize(-1.0, 1.0).code(f32::NAN, 0), -128);
    }

    #[test]
    fn extreme_codes_do_not_saturate() {
        let conv = QuantizedConv {
            conv: ConvAttrs {
                strides: vec![1],
                dilations: vec![1],
                pads_begin: vec![1],
                pads_end: vec![0],
                auto_pad: AutoPad::Explicit,
            },
            groups: 1,
            data_zero_point: vec![0],
            weight_zero_point: vec![0],
        };
        let x = Tensor::from_slice(&[1, 16, 1], &[255u8; 16]).unwrap();
        let w = Tensor::from_slice(&[1, 16, 1], &[127i8; 16]).unwrap();
        let y =
            crate::ops::evaluate(&Op::QuantizedConvolution(conv.clone()), &[x.clone(), w.clone()]).unwrap();
        assert_eq!(y[0].to_i64(), [0, 518_160]);
        // Padding counts as the zero point.
        let shifted = QuantizedConv {
            data_zero_point: vec![255],
            ..conv
        };
        let y = crate::ops::evaluate(&Op::QuantizedConvolution(shifted), &[x, w]).unwrap();
        assert_eq!(y[0].to_i64(), [0, 0]);
    }

    #[test]
    fn matrix_products_in_both_layouts() {
        let x = Tensor::from_slice(&[1, 2], &[10u8, 20]).unwrap();
        let w = Tensor::from_slice(&[2, 2], &[1i8, 2, 3, 4]).unwrap();
        let run = |transpose_b| {
            let op = QuantizedMatMul {
                transpose_b,
                data_zero_point: 5,
                weight_zero_point: vec![0, 1],
            };
            crate::ops::evaluate(&Op::QuantizedMatMul(op), &[x.clone(), w.clone()]).unwrap()[0].to_i64()
        };
        // (5, 15) . ((1, 1), (3, 3)) and, transposed, ((1, 2), (2, 3)).
        assert_eq!(run(false), [50, 50]);
        assert_eq!(run(true), [35, 55]);
    }

    #[test]
    fn products_of_two_activations_broadcast_and_subtract_both_zero_points() {
        // (a - 2) . (b - 3)^T, one b for two a.
        let a = Tensor::from_slice(&[2, 1, 2], &[3u8, 4, 2, 0]).unwrap();
        let b = Tensor::from_slice(&[1, 3, 2], &[4i8, 3, 0, 3, 5, -128]).unwrap();
        let op = QuantizedBatchMatMul {
            transpose_a: false,
            transpose_b: true,
            zero_point_a: 2,
            zero_point_b: 3,
        };
        let y = crate::ops::evaluate(&Op::QuantizedBatchMatMul(op), &[a, b]).unwrap();
        assert_eq!(y[0].shape(), [2, 1, 3]);
        // Rows (1, 2) and (0, -2) with columns (1, 0), (-3, 0), (2, -131).
        assert_eq!(y[0].to_i64(), [1, -3, -260, 0, 0, 262]);
    }

    #[test]
    fn dequantize_by_channel() {
        let op = Dequantize {
            scale: vec![0.5, 2.0],
            zero_point: vec![1.0],
            axis: Some(1),
        };
        let x = Tensor::from_slice(&[1, 2, 1], &[3i8, 3]).unwrap();
        assert_eq!(
            crate::ops::evaluate(&Op::Dequantize(op), &[x]).unwrap()[0].to_f32(),
            [1.0, 4.0]
        );
    }

    #[test]
    fn lookup_by_unsigned_byte() {
        let mut table = Box::new([0u8; 256]);
        table[255] = 7;
        let op = Lookup {
            table,
            element_type: ElementType::U8,
        };
        let x = Tensor::from_slice(&[2], &[-1i8, 0]).unwrap();
        assert_eq!(
            crate::ops::evaluate(&Op::Lookup(op), &[x]).unwrap()[0].to_i64(),
            [7, 0]
        );
    }
}
