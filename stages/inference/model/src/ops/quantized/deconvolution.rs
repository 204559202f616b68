//! Integer transposed convolution.

use super::super::convolution::three;
use super::super::deconvolution::{self, unravel};
use crate::error::{OpError, bail};
use crate::graph::{Dim, PartialShape};
use crate::op::{AutoPad, DeconvAttrs, QuantizedDeconv};

/// Shape of the output.
pub(super) fn output_shape(
    d: &QuantizedDeconv,
    data: &[Dim],
    kernel: &[Dim],
    out_channels: Dim,
) -> Result<PartialShape, OpError> {
    if d.conv.auto_pad != AutoPad::Explicit {
        bail!("expected explicit padding, found {:?}", d.conv.auto_pad);
    }
    let attrs = DeconvAttrs {
        conv: d.conv.clone(),
        output_padding: d.output_padding.clone(),
    };
    deconvolution::output_shape(&attrs, data, kernel, out_channels)
}

/// Scatters values less their zero points over the output; `dims` are data, weights, output.
///
/// Products below 2^17 sum exactly in f64 up to 2^36 terms.
pub(super) fn scatter(
    d: &QuantizedDeconv,
    dims: (&[usize], &[usize], &[usize]),
    data: &[f64],
    weights: &[f64],
) -> Vec<f64> {
    let (input, kernel, output) = (
        three(&dims.0[2..], 1),
        three(&dims.1[2..], 1),
        three(&dims.2[2..], 1),
    );
    let (channels, out_channels) = (dims.0[1], dims.2[1]);
    let (per_in, per_out) = (channels / d.groups, out_channels / d.groups);
    let strides = three(&d.conv.strides, 1);
    let dilations = three(&d.conv.dilations, 1);
    let pads = three(&d.conv.pads_begin, 0);
    let (plane_in, taps, plane_out) = (
        input.iter().product::<usize>(),
        kernel.iter().product::<usize>(),
        output.iter().product::<usize>(),
    );
    let mut sums = vec![0.0; dims.2.iter().product()];
    let place = |axis: usize, at: usize, tap: usize| -> Option<usize> {
        let to = (at * strides[axis] + tap * dilations[axis]) as isize - pads[axis];
        usize::try_from(to).ok().filter(|&to| to < output[axis])
    };
    for n in 0..dims.0[0] {
        for oc in 0..out_channels {
            let plane = &mut sums[(n * out_channels + oc) * plane_out..][..plane_out];
            for ic in 0..per_in {
                let source = &data[(n * channels + oc / per_out * per_in + ic) * plane_in..][..plane_in];
                let factors = &weights[(oc * per_in + ic) * taps..][..taps];
                for (at, &value) in source.iter().enumerate() {
                    let position = unravel(at, input);
                    for (tap, &factor) in factors.iter().enumerate() {
                        let offsets = unravel(tap, kernel);
                        let to = [0, 1, 2].map(|axis| place(axis, position[axis], offsets[axis]));
                        if let [Some(z), Some(y), Some(x)] = to {
                            plane[(z * output[1] + y) * output[2] + x] += value * factor;
                        }
                    }
                }
            }
        }
    }
    sums
}

#[cfg(test)]
mod tests {
    use crate::op::{AutoPad, ConvAttrs, Op, QuantizedDeconv};
    use crate::tensor::Tensor;

    fn deconv(stride: usize, pads: [isize; 2], output_padding: usize) -> QuantizedDeconv {
        QuantizedDeconv {
            conv: ConvAttrs {
                strides: vec![stride],
                dilations: vec![1],
                pads_begin: vec![pads[0]],
                pads_end: vec![pads[1]],
                auto_pad: AutoPad::Explicit,
            },
            output_padding: vec![output_padding],
            groups: 1,
            data_zero_point: vec![10],
            weight_zero_point: vec![0],
        }
    }

    fn run(d: QuantizedDeconv) -> Vec<i64> {
        let x = Tensor::from_slice(&[1, 1, 2], &[11u8, 12]).unwrap();
        let w = Tensor::from_slice(&[1, 1, 3], &[1i8, 10, 100]).unwrap();
        crate::ops::evaluate(&Op::QuantizedDeconvolution(d), &[x, w]).unwrap()[0].to_i64()
    }

    #[test]
    fn every_code_scatters_over_its_taps() {
        // Codes less zero point: 1, 2.
        assert_eq!(run(deconv(1, [0, 0], 0)), [1, 12, 120, 200]);
        assert_eq!(run(deconv(2, [0, 0], 0)), [1, 10, 102, 20, 200]);
        assert_eq!(run(deconv(2, [1, 1], 0)), [10, 102, 20]);
        assert_eq!(run(deconv(2, [1, 1], 1)), [10, 102, 20, 200]);
        assert_eq!(run(deconv(2, [0, 0], 1)), [1, 10, 102, 20, 200, 0]);
    }

    #[test]
    fn channels_stay_in_their_group() {
        let d = QuantizedDeconv {
            groups: 2,
            data_zero_point: vec![0, 1],
            weight_zero_point: vec![0, 5],
            ..deconv(1, [0, 0], 0)
        };
        let x = Tensor::from_slice(&[1, 2, 1], &[2u8, 4]).unwrap();
        let w = Tensor::from_slice(&[2, 1, 2], &[3i8, 7, 6, 8]).unwrap();
        let y = crate::ops::evaluate(&Op::QuantizedDeconvolution(d), &[x, w]).unwrap();
        assert_eq!(y[0].to_i64(), [6, 14, 3, 9]);
    }

    #[test]
    fn an_output_without_pixels_is_an_error() {
        let x = Tensor::from_slice(&[1, 1, 1], &[1u8]).unwrap();
        let w = Tensor::from_slice(&[1, 1, 1], &[1i8]).unwrap();
        let op = Op::QuantizedDeconvolution(deconv(1, [1, 1], 0));
        assert!(crate::ops::evaluate(&op, &[x, w]).is_err());
    }
}
