//! ConvolutionBackpropData and GroupConvolutionBackpropData: transposed convolutions (deconvolutions).
//!
//! Each input pixel scatters over its taps: `y[in * stride - pad_begin + tap * dilation] += x[in] * w[tap]`.

use super::attributes::Attributes;
use super::chain;
use super::convolution::three;
use super::support::{self, Input};
use crate::error::{OpError, bail};
use crate::graph::{Dim, OutputInfo, PartialShape};
use crate::op::{AutoPad, ConvAttrs, DeconvAttrs, Op};
use crate::tensor::Tensor;

/// Far beyond any network; keeps index arithmetic from overflowing.
const LIMIT: usize = 1 << 31;

/// Reads an operation of this family; `None` if it is of another.
pub(crate) fn parse(a: &Attributes) -> Result<Option<Op>, OpError> {
    let make = match a.kind {
        "ConvolutionBackpropData" => Op::ConvolutionBackpropData,
        "GroupConvolutionBackpropData" => Op::GroupConvolutionBackpropData,
        _ => return Ok(None),
    };
    let conv = super::convolution::parse_attributes(a)?;
    let axes = conv.strides.len();
    let output_padding: Vec<usize> = a.list("output_padding", Some(&vec![0; axes]))?;
    if output_padding.len() != axes {
        bail!(
            "attribute `output_padding` has {} entries, `strides` has {axes}: one per spatial axis",
            output_padding.len()
        );
    }
    Ok(Some(make(DeconvAttrs { conv, output_padding })))
}

/// Length of an output axis before anything is cut or appended: `(input - 1) * stride + dilated kernel`.
fn full_length(d: &DeconvAttrs, axis: usize, input: usize, taps: usize) -> Result<i128, OpError> {
    let (stride, dilation) = (d.conv.strides[axis], d.conv.dilations[axis]);
    let sizes = [input, taps, stride, dilation, d.output_padding[axis]];
    let pads = [d.conv.pads_begin[axis], d.conv.pads_end[axis]];
    if sizes.iter().any(|&v| v > LIMIT) || pads.iter().any(|p| p.unsigned_abs() > LIMIT) {
        bail!("expected lengths, strides, dilations and padding of at most {LIMIT}");
    }
    if sizes[..4].contains(&0) {
        bail!("expected positive lengths, strides and dilations along spatial axis {axis}");
    }
    let [input, taps, stride, dilation] = [input, taps, stride, dilation].map(|v| v as i128);
    Ok((input - 1) * stride + (taps - 1) * dilation + 1)
}

/// Writes what is cut from the full output into `pads_begin` and `pads_end`, where axes are fixed, so that the
/// formula of [`DeconvAttrs`] holds whatever `auto_pad` and the input `output_shape` say.
pub(crate) fn resolve(d: &mut DeconvAttrs, data: &[Dim], kernel: &[Dim], wanted: Option<&[i64]>) {
    for axis in 0..d.conv.strides.len() {
        let auto = d.conv.auto_pad;
        let length = wanted.and_then(|w| w.get(axis).copied());
        if auto == AutoPad::Valid || (auto != AutoPad::Explicit && length.is_none()) {
            (d.conv.pads_begin[axis], d.conv.pads_end[axis]) = (0, 0);
        }
        let (Some(length), Some(Some(input)), Some(Some(taps))) =
            (length, data.get(axis + 2), kernel.get(axis))
        else {
            continue;
        };
        // What does not fit is reported when the shape is inferred.
        let Ok(full) = full_length(d, axis, *input, *taps) else {
            continue;
        };
        let total = full + d.output_padding[axis] as i128 - i128::from(length);
        let begin = match auto {
            AutoPad::Explicit | AutoPad::Valid => d.conv.pads_begin[axis] as i128,
            AutoPad::SameUpper => total.max(0) - total.max(0) / 2,
            AutoPad::SameLower => total.max(0) / 2,
        };
        let pads = (isize::try_from(begin), isize::try_from(total - begin));
        if let (Ok(begin), Ok(end)) = pads {
            (d.conv.pads_begin[axis], d.conv.pads_end[axis]) = (begin, end);
        }
    }
}

/// Shape of the output for explicit padding, as [`resolve`] leaves it.
pub(super) fn output_shape(
    d: &DeconvAttrs,
    data: &[Dim],
    kernel: &[Dim],
    out_channels: Dim,
) -> Result<PartialShape, OpError> {
    let conv = &d.conv;
    let axes = conv.strides.len();
    if !(1..=3).contains(&axes) || data.len() != axes + 2 || kernel.len() != axes {
        bail!(
            "expected data of rank {} for {axes} spatial axes (1 to 3 are supported), found {} with a kernel {}",
            axes + 2,
            support::show(data),
            support::show(kernel)
        );
    }
    let lengths = [
        conv.dilations.len(),
        conv.pads_begin.len(),
        conv.pads_end.len(),
        d.output_padding.len(),
    ];
    if lengths != [axes; 4] {
        bail!("expected padding, dilations and output padding with one entry per spatial axis");
    }
    let mut shape = vec![data[0], out_channels];
    for axis in 0..axes {
        let (Some(input), Some(taps)) = (data[axis + 2], kernel[axis]) else {
            shape.push(None);
            continue;
        };
        let length =
            full_length(d, axis, input, taps)? - conv.pads_begin[axis] as i128 - conv.pads_end[axis] as i128
                + d.output_padding[axis] as i128;
        match usize::try_from(length) {
            Ok(length) if (1..=LIMIT).contains(&length) => shape.push(Some(length)),
            _ => bail!("spatial axis {axis} of the output would have the length {length}"),
        }
    }
    Ok(shape)
}

/// Type and shape of the output.
pub(crate) fn infer(op: &Op, inputs: &[Input]) -> Result<Vec<OutputInfo>, OpError> {
    let (data, weights) = (&inputs[0], &inputs[1]);
    let element_type = support::same_type(data, weights)?;
    if !element_type.is_float() {
        bail!("expected floating point inputs, found {element_type}");
    }
    let (attrs, groups, channels, out, kernel) = match (op, weights.shape) {
        (Op::ConvolutionBackpropData(attrs), [channels, out, kernel @ ..]) => {
            (attrs, Some(1), *channels, *out, kernel)
        }
        (Op::GroupConvolutionBackpropData(attrs), [groups, channels, out, kernel @ ..]) => {
            (attrs, *groups, *channels, *out, kernel)
        }
        _ => bail!("weights {} have too few axes", support::show(weights.shape)),
    };
    if groups == Some(0) {
        bail!("the weights have no group");
    }
    let of_all = |dim: Dim| groups.zip(dim).map(|(g, c)| g.saturating_mul(c));
    support::same_dim(
        data.shape.get(1).copied().flatten(),
        of_all(channels),
        "channels of data and of all groups of the weights",
    )?;
    let axes = attrs.conv.strides.len();
    let wanted = inputs.get(2).and_then(Input::integers);
    if let Some(wanted) = &wanted
        && (wanted.len() != axes || wanted.iter().any(|&l| l < 1 || l > LIMIT as i64))
    {
        bail!("the input output_shape: expected {axes} positive lengths, found {wanted:?}");
    }
    let mut attrs = attrs.clone();
    check_lists(&attrs)?;
    resolve(&mut attrs, data.shape, kernel, wanted.as_deref());
    let mut shape = output_shape(&attrs, data.shape, kernel, of_all(out))?;
    if inputs.len() > 2 {
        for axis in 0..axes {
            shape[axis + 2] = wanted.as_ref().map(|w| w[axis] as usize);
        }
    }
    Ok(vec![support::output(element_type, shape)])
}

/// Fails unless each list has one entry per spatial axis.
fn check_lists(d: &DeconvAttrs) -> Result<(), OpError> {
    let axes = d.conv.strides.len();
    let ConvAttrs {
        dilations,
        pads_begin,
        pads_end,
        ..
    } = &d.conv;
    if [
        dilations.len(),
        pads_begin.len(),
        pads_end.len(),
        d.output_padding.len(),
    ] != [axes; 4]
    {
        bail!("expected padding, dilations and output padding with one entry per spatial axis");
    }
    Ok(())
}

/// Evaluates an operation of this family, in f32 whatever the element type.
pub(crate) fn evaluate(op: &Op, inputs: &[Tensor], outputs: &[OutputInfo]) -> Result<Vec<Tensor>, OpError> {
    let shape = support::fixed(&outputs[0])?;
    let (data, weights) = (&inputs[0], &inputs[1]);
    let (attrs, groups, kernel) = match op {
        Op::ConvolutionBackpropData(attrs) => (attrs, 1, &weights.shape()[2..]),
        Op::GroupConvolutionBackpropData(attrs) => (attrs, weights.shape()[0], &weights.shape()[3..]),
        _ => bail!("not an operation of this family"),
    };
    let mut attrs = attrs.clone();
    let dims = |s: &[usize]| s.iter().map(|&d| Some(d)).collect::<PartialShape>();
    let wanted = inputs.get(2).map(Tensor::to_i64);
    resolve(&mut attrs, &dims(data.shape()), &dims(kernel), wanted.as_deref());
    let geometry = Geometry {
        batch: shape[0],
        groups,
        per_in: data.shape()[1] / groups,
        per_out: shape[1] / groups,
        input: three(&data.shape()[2..], 1),
        kernel: three(kernel, 1),
        output: three(&shape[2..], 1),
        strides: three(&attrs.conv.strides, 1),
        dilations: three(&attrs.conv.dilations, 1),
        pads: three(&attrs.conv.pads_begin, 0),
    };
    let sums = geometry.sum(&data.to_f32(), &weights.to_f32());
    Ok(vec![support::from_f32(outputs[0].element_type, &shape, &sums)?])
}

/// Shapes of a deconvolution in one form: three spatial axes, leading ones of length 1.
struct Geometry {
    batch: usize,
    groups: usize,
    per_in: usize,
    per_out: usize,
    input: [usize; 3],
    kernel: [usize; 3],
    output: [usize; 3],
    strides: [usize; 3],
    dilations: [usize; 3],
    pads: [isize; 3],
}

/// Output pixels a stride apart along an axis: they see the same taps.
#[derive(Clone, Copy)]
struct Phase {
    first: usize,
    count: usize,
}

impl Geometry {
    /// Sums chains of fused multiply-adds from zero: taps outermost, input channels innermost. An output is one
    /// chain with taps in row-major order; with a kernel of even width, one per column of the kernel, which are
    /// added in turn. Taps run backwards where every stride is 1. Weights are `[G, C/G, OC/G, kernel..]`.
    fn sum(&self, data: &[f32], weights: &[f32]) -> Vec<f32> {
        let plane_in: usize = self.input.iter().product();
        let plane_out: usize = self.output.iter().product();
        let taps: usize = self.kernel.iter().product();
        let mut sums = vec![0.0; self.batch * self.groups * self.per_out * plane_out];
        let block = self.per_out * plane_out;
        if block == 0 {
            return sums;
        }
        let columns = self.kernel[2];
        let mut order: Vec<Vec<usize>> = if columns.is_multiple_of(2) && [1, 2, 4].contains(&self.strides[2])
        {
            (0..columns)
                .map(|column| (column..taps).step_by(columns).collect())
                .collect()
        } else {
            vec![(0..taps).collect()]
        };
        if self.strides == [1; 3] {
            order.iter_mut().for_each(|chain| chain.reverse());
            order.reverse();
        }
        for (index, sums) in sums.chunks_exact_mut(block).enumerate() {
            let group = index % self.groups;
            let planes = &data[index * self.per_in * plane_in..][..self.per_in * plane_in];
            let kernels = &weights[group * self.per_in * self.per_out * taps..];
            for phases in self.phases() {
                self.sum_phase(phases, planes, kernels, &order, sums);
            }
        }
        sums
    }

    /// All combinations of phases of the three axes.
    fn phases(&self) -> Vec<[Phase; 3]> {
        let along = |axis: usize| {
            let (length, stride) = (self.output[axis], self.strides[axis]);
            (0..stride.min(length)).map(move |first| Phase {
                first,
                count: (length - first).div_ceil(stride),
            })
        };
        along(0)
            .flat_map(|z| along(1).flat_map(move |y| along(2).map(move |x| [z, y, x])))
            .collect()
    }

    /// Sums the outputs of one phase, which are those of a convolution of stride 1.
    fn sum_phase(
        &self,
        phases: [Phase; 3],
        planes: &[f32],
        kernels: &[f32],
        order: &[Vec<usize>],
        sums: &mut [f32],
    ) {
        let plane_in: usize = self.input.iter().product();
        let plane_out: usize = self.output.iter().product();
        let taps: usize = self.kernel.iter().product();
        let count: usize = phases.iter().map(|p| p.count).product();
        let mut columns = vec![0.0; self.per_in * count];
        let mut factors = vec![0.0; self.per_in];
        let mut whole = vec![0.0; self.per_out * count];
        let mut partial = vec![0.0; self.per_out * count];
        for chain in order {
            partial.fill(0.0);
            for &tap in chain {
                let Some(starts) = self.starts(phases, unravel(tap, self.kernel)) else {
                    continue;
                };
                for ic in 0..self.per_in {
                    let plane = &planes[ic * plane_in..][..plane_in];
                    let column = &mut columns[ic * count..][..count];
                    self.gather(plane, starts, phases, column);
                }
                for (oc, partial) in partial.chunks_exact_mut(count).enumerate() {
                    for (ic, factor) in factors.iter_mut().enumerate() {
                        *factor = kernels[(ic * self.per_out + oc) * taps + tap];
                    }
                    chain::multiply_add(&factors, &columns, partial);
                }
            }
            whole.iter_mut().zip(&partial).for_each(|(sum, p)| *sum += p);
        }
        let [z, y, x] = phases;
        for (plane, partial) in sums.chunks_exact_mut(plane_out).zip(whole.chunks_exact(count)) {
            for (at, &value) in partial.iter().enumerate() {
                let [iz, iy, ix] = unravel(at, [z.count, y.count, x.count]);
                let row = (z.first + iz * self.strides[0]) * self.output[1] + y.first + iy * self.strides[1];
                plane[row * self.output[2] + x.first + ix * self.strides[2]] = value;
            }
        }
    }

    /// The input pixel, perhaps outside, that the first output of a phase sees through a tap; `None` if the
    /// tap falls between input pixels.
    fn starts(&self, phases: [Phase; 3], tap: [usize; 3]) -> Option<[isize; 3]> {
        let mut starts = [0; 3];
        for (axis, start) in starts.iter_mut().enumerate() {
            let at =
                phases[axis].first as isize + self.pads[axis] - (tap[axis] * self.dilations[axis]) as isize;
            let stride = self.strides[axis] as isize;
            if at % stride != 0 {
                return None;
            }
            *start = at / stride;
        }
        Some(starts)
    }

    /// Copies the input pixels from `starts` on to the places of a phase's outputs, zeros for those outside.
    fn gather(&self, plane: &[f32], starts: [isize; 3], phases: [Phase; 3], column: &mut [f32]) {
        let [_, height, width] = self.input;
        let inside = |axis: usize, i: usize| {
            usize::try_from(starts[axis] + i as isize)
                .ok()
                .filter(|&at| at < self.input[axis])
        };
        let [depths, rows, columns] = phases.map(|p| p.count);
        column.fill(0.0);
        for (row, out) in column.chunks_exact_mut(columns).enumerate() {
            let (Some(z), Some(y)) = (inside(0, row / rows % depths), inside(1, row % rows)) else {
                continue;
            };
            let from = &plane[(z * height + y) * width..][..width];
            for (i, value) in out.iter_mut().enumerate() {
                if let Some(x) = inside(2, i) {
                    *value = from[x];
                }
            }
        }
    }
}

/// Index of an element along each of three axes.
pub(super) fn unravel(index: usize, lengths: [usize; 3]) -> [usize; 3] {
    let [_, height, width] = lengths;
    [index / (height * width), index / width % height, index % width]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn attrs(stride: usize, dilation: usize, pads: [isize; 2], auto_pad: AutoPad) -> DeconvAttrs {
        DeconvAttrs {
            conv: ConvAttrs {
                strides: vec![stride; 2],
                dilations: vec![dilation; 2],
                pads_begin: vec![pads[0]; 2],
                pads_end: vec![pads[1]; 2],
                auto_pad,
            },
            output_padding: vec![0; 2],
        }
    }

    fn small(shape: &[usize], seed: usize) -> Tensor {
        let count = shape.iter().product::<usize>();
        let values: Vec<f32> = (0..count).map(|i| ((i * 7 + seed) % 11) as f32 - 5.0).collect();
        Tensor::from_slice(shape, &values).unwrap()
    }

    fn lengths(op: &Op, wanted: [i64; 2]) -> Vec<usize> {
        let inputs = [
            small(&[1, 1, 4, 4], 0),
            small(&[1, 1, 3, 3], 1),
            Tensor::from_slice(&[2], &wanted).unwrap(),
        ];
        crate::ops::evaluate(op, &inputs).unwrap()[0].shape().to_vec()
    }

    proptest! {
        /// Small integers sum exactly, so the definition in any order gives the same.
        #[test]
        fn equals_scattering(
            groups in 1usize..3, per_in in 1usize..3, per_out in 1usize..3, h in 1usize..4, w in 1usize..5,
            kernel in 1usize..4, stride in 1usize..4, dilation in 1usize..3,
            begin in 0isize..2, end in 0isize..2, extra in 0usize..2,
        ) {
            let mut d = attrs(stride, dilation, [begin, end], AutoPad::Explicit);
            d.output_padding = vec![extra; 2];
            let full = |n: usize| (n - 1) * stride + (kernel - 1) * dilation + 1 + extra;
            let cut = (begin + end) as usize;
            prop_assume!(full(h) > cut && full(w) > cut);
            let (oh, ow) = (full(h) - cut, full(w) - cut);
            let x = small(&[2, groups * per_in, h, w], 3);
            let weights = small(&[groups, per_in, per_out, kernel, kernel], 5);
            let op = Op::GroupConvolutionBackpropData(d);
            let y = crate::ops::evaluate(&op, &[x.clone(), weights.clone()]).unwrap().remove(0);
            prop_assert_eq!(y.shape(), [2, groups * per_out, oh, ow]);
            let (x, weights) = (x.to_f32(), weights.to_f32());
            let mut expected = vec![0f32; 2 * groups * per_out * oh * ow];
            for (i, &v) in x.iter().enumerate() {
                let (ix, iy, ic, n) = (i % w, i / w % h, i / (w * h) % (groups * per_in), i / (w * h * groups * per_in));
                for oc in 0..per_out {
                    for (ky, kx) in (0..kernel * kernel).map(|k| (k / kernel, k % kernel)) {
                        let oy = (iy * stride + ky * dilation) as isize - begin;
                        let ox = (ix * stride + kx * dilation) as isize - begin;
                        if (0..oh as isize).contains(&oy) && (0..ow as isize).contains(&ox) {
                            let channel = n * groups * per_out + ic / per_in * per_out + oc;
                            expected[(channel * oh + oy as usize) * ow + ox as usize] +=
                                v * weights[((ic * per_out + oc) * kernel + ky) * kernel + kx];
                        }
                    }
                }
            }
            prop_assert_eq!(y.to_f32(), expected);
        }
    }

    #[test]
    fn a_wanted_shape_decides_what_is_cut() {
        // The full output has 9 x 9 pixels.
        let cases = [
            (AutoPad::Explicit, [6, 12], [1, 1], [2, -4]),
            (AutoPad::Valid, [6, 12], [0, 0], [3, -3]),
            (AutoPad::SameUpper, [6, 8], [2, 1], [1, 0]),
            (AutoPad::SameLower, [6, 8], [1, 0], [2, 1]),
        ];
        for (auto, wanted, begin, end) in cases {
            let mut d = attrs(2, 1, [1, 1], auto);
            let op = Op::ConvolutionBackpropData(d.clone());
            assert_eq!(lengths(&op, wanted)[2..], wanted.map(|l| l as usize), "{auto:?}");
            resolve(
                &mut d,
                &[Some(1), Some(1), Some(4), Some(4)],
                &[Some(3); 2],
                Some(&wanted),
            );
            assert_eq!(d.conv.pads_begin, begin, "{auto:?}");
            assert_eq!(d.conv.pads_end, end, "{auto:?}");
        }
    }

    #[test]
    fn same_padding_without_a_wanted_shape_cuts_nothing() {
        let op = Op::ConvolutionBackpropData(attrs(2, 1, [1, 1], AutoPad::SameUpper));
        let inputs = [small(&[1, 1, 4, 4], 0), small(&[1, 1, 3, 3], 1)];
        assert_eq!(
            crate::ops::evaluate(&op, &inputs).unwrap()[0].shape(),
            [1, 1, 9, 9]
        );
    }

    #[test]
    fn what_does_not_fit_is_an_error() {
        let op = Op::ConvolutionBackpropData(attrs(1, 1, [9, 9], AutoPad::Explicit));
        let x = small(&[1, 1, 2, 2], 0);
        assert!(crate::ops::evaluate(&op, &[x.clone(), small(&[1, 1, 3, 3], 0)]).is_err());
        let op = Op::ConvolutionBackpropData(attrs(1, 1, [0, 0], AutoPad::Explicit));
        assert!(crate::ops::evaluate(&op, &[x.clone(), small(&[2, 1, 3, 3], 0)]).is_err());
        let negative = Tensor::from_slice(&[2], &[-1i64, 3]).unwrap();
        assert!(crate::ops::evaluate(&op, &[x, small(&[1, 1, 3, 3], 0), negative]).is_err());
    }
}
