//! Convolution and GroupConvolution.
//!
//! Floats are summed in f32 in the order that `docs/numerics.md` states; integers, for the operations of
//! [`super::quantized`], exactly in f64.

use super::attributes::Attributes;
use super::chain;
use super::support::{self, Input};
use crate::error::{OpError, bail};
use crate::graph::{Dim, OutputInfo, PartialShape};
use crate::op::{AutoPad, ConvAttrs, Op};
use crate::tensor::Tensor;

/// Names of automatic padding.
pub(crate) const AUTO_PAD: [(&str, AutoPad); 5] = [
    ("explicit", AutoPad::Explicit),
    ("notset", AutoPad::Explicit),
    ("same_upper", AutoPad::SameUpper),
    ("same_lower", AutoPad::SameLower),
    ("valid", AutoPad::Valid),
];

/// Reads an operation of this family; `None` if it is of another.
pub(crate) fn parse(a: &Attributes) -> Result<Option<Op>, OpError> {
    let make = match a.kind {
        "Convolution" => Op::Convolution,
        "GroupConvolution" => Op::GroupConvolution,
        _ => return Ok(None),
    };
    parse_attributes(a).map(|attrs| Some(make(attrs)))
}

/// Reads strides, dilations and padding.
pub(crate) fn parse_attributes(a: &Attributes) -> Result<ConvAttrs, OpError> {
    let strides: Vec<usize> = a.list("strides", None)?;
    let axes = strides.len();
    let attrs = ConvAttrs {
        dilations: a.list("dilations", Some(&vec![1; axes]))?,
        pads_begin: a.list("pads_begin", Some(&vec![0; axes]))?,
        pads_end: a.list("pads_end", Some(&vec![0; axes]))?,
        auto_pad: a.word("auto_pad", &AUTO_PAD, Some(AutoPad::Explicit))?,
        strides,
    };
    for (name, len) in [
        ("dilations", attrs.dilations.len()),
        ("pads_begin", attrs.pads_begin.len()),
        ("pads_end", attrs.pads_end.len()),
    ] {
        if len != axes {
            bail!("attribute `{name}` has {len} entries, `strides` has {axes}: one per spatial axis");
        }
    }
    if attrs.strides.contains(&0) || attrs.dilations.contains(&0) {
        bail!("attributes `strides` and `dilations`: expected positive numbers, found 0");
    }
    Ok(attrs)
}

/// Input channels that a convolution of one tap sums before it adds them to the rest.
const POINTWISE_BLOCK: usize = 1280;

/// Shapes of a convolution in one form: three spatial axes, leading ones of length 1.
#[derive(Debug, Clone)]
pub(crate) struct Geometry {
    pub batch: usize,
    pub groups: usize,
    pub in_channels: usize,
    pub out_channels: usize,
    pub input: [usize; 3],
    pub kernel: [usize; 3],
    pub output: [usize; 3],
    pub strides: [usize; 3],
    pub dilations: [usize; 3],
    pub pads: [isize; 3],
}

/// Spatial axes as three, leading ones filled.
pub(crate) fn three<T: Copy>(values: &[T], fill: T) -> [T; 3] {
    let mut full = [fill; 3];
    full[3 - values.len()..].copy_from_slice(values);
    full
}

impl Geometry {
    /// Geometry of data `[N, C, spatial..]`, a kernel, and an output `[N, OC, spatial..]`; `attrs` with
    /// explicit padding.
    pub(crate) fn new(
        attrs: &ConvAttrs,
        groups: usize,
        data: &[usize],
        kernel: &[usize],
        output: &[usize],
    ) -> Self {
        Self {
            batch: data[0],
            groups,
            in_channels: data[1],
            out_channels: output[1],
            input: three(&data[2..], 1),
            kernel: three(kernel, 1),
            output: three(&output[2..], 1),
            strides: three(&attrs.strides, 1),
            dilations: three(&attrs.dilations, 1),
            pads: three(&attrs.pads_begin, 0),
        }
    }

    /// Convolves f32 values with zero padding: per output one chain of fused multiply-adds from zero, taps
    /// outermost in row-major order, input channels innermost. A convolution of one tap is summed in blocks of
    /// [`POINTWISE_BLOCK`] channels. Weights are `[OC, C/groups, kernel..]`.
    pub(crate) fn convolve_f32(&self, data: &[f32], weights: &[f32]) -> Vec<f32> {
        let plane_in: usize = self.input.iter().product();
        let plane_out: usize = self.output.iter().product();
        let taps: usize = self.kernel.iter().product();
        let (per_in, per_out) = (self.in_channels / self.groups, self.out_channels / self.groups);
        let mut sums = vec![0.0; self.batch * self.out_channels * plane_out];
        if plane_out == 0 || per_out == 0 {
            return sums;
        }
        let mut columns = vec![0.0; per_in * plane_out];
        let mut factors = vec![0.0; per_in];
        for (index, sums) in sums.chunks_exact_mut(per_out * plane_out).enumerate() {
            let (n, group) = (index / self.groups, index % self.groups);
            let planes = &data[(n * self.in_channels + group * per_in) * plane_in..][..per_in * plane_in];
            for tap in 0..taps {
                columns.fill(0.0);
                for ic in 0..per_in {
                    let plane = &planes[ic * plane_in..][..plane_in];
                    self.gather(plane, tap, &mut columns[ic * plane_out..][..plane_out]);
                }
                for (oc, sums) in sums.chunks_exact_mut(plane_out).enumerate() {
                    let kernels = &weights[(group * per_out + oc) * per_in * taps..][..per_in * taps];
                    for (factor, kernel) in factors.iter_mut().zip(kernels.chunks_exact(taps)) {
                        *factor = kernel[tap];
                    }
                    if taps == 1 {
                        chain::multiply_add_in_blocks(&factors, &columns, POINTWISE_BLOCK, sums);
                    } else {
                        chain::multiply_add(&factors, &columns, sums);
                    }
                }
            }
        }
        sums
    }

    /// Copies what one tap sees of an input plane to the places of the outputs; padding is left as it is.
    fn gather(&self, plane: &[f32], tap: usize, out: &mut [f32]) {
        self.visit(tap, |to, from, count| {
            let from = plane[from..].iter().step_by(self.strides[2]);
            out[to..to + count]
                .iter_mut()
                .zip(from)
                .for_each(|(o, v)| *o = *v);
        });
    }

    /// Calls `row(to, from, count)` for each output row that one tap sees any input of: `count` outputs from
    /// index `to` on see inputs from index `from` on, a stride apart.
    fn visit(&self, tap: usize, mut row: impl FnMut(usize, usize, usize)) {
        let [_, in_h, in_w] = self.input;
        let [out_d, out_h, out_w] = self.output;
        let [_, k_h, k_w] = self.kernel;
        let place = |axis: usize, out: usize, tap: usize| -> Option<usize> {
            let at = (out * self.strides[axis] + tap * self.dilations[axis]) as isize - self.pads[axis];
            usize::try_from(at).ok().filter(|&at| at < self.input[axis])
        };
        let (kz, ky, kx) = (tap / (k_h * k_w), tap / k_w % k_h, tap % k_w);
        // Output columns whose input column lies inside.
        let Some(begin) = (0..out_w).find(|&x| place(2, x, kx).is_some()) else {
            return;
        };
        let end = (begin..out_w)
            .find(|&x| place(2, x, kx).is_none())
            .unwrap_or(out_w);
        let column = place(2, begin, kx).unwrap_or(0);
        for z in 0..out_d {
            let Some(iz) = place(0, z, kz) else { continue };
            for y in 0..out_h {
                let Some(iy) = place(1, y, ky) else { continue };
                let to = (z * out_h + y) * out_w + begin;
                row(to, (iz * in_h + iy) * in_w + column, end - begin);
            }
        }
    }

    /// Convolves with zero padding, summing in f64: exact for integers. Weights are
    /// `[OC, C/groups, kernel..]`.
    pub(crate) fn convolve(&self, data: &[f64], weights: &[f64]) -> Vec<f64> {
        let plane_in: usize = self.input.iter().product();
        let plane_out: usize = self.output.iter().product();
        let taps: usize = self.kernel.iter().product();
        let (per_in, per_out) = (self.in_channels / self.groups, self.out_channels / self.groups);
        let mut sums = vec![0.0; self.batch * self.out_channels * plane_out];
        if plane_out == 0 {
            return sums;
        }
        for (index, sum) in sums.chunks_exact_mut(plane_out).enumerate() {
            let (n, oc) = (index / self.out_channels, index % self.out_channels);
            let first = n * self.in_channels + oc / per_out * per_in;
            for ic in 0..per_in {
                let plane = &data[(first + ic) * plane_in..][..plane_in];
                let kernel = &weights[(oc * per_in + ic) * taps..][..taps];
                self.accumulate(plane, kernel, sum);
            }
        }
        sums
    }

    /// Adds one input plane times one kernel plane.
    fn accumulate(&self, plane: &[f64], kernel: &[f64], sum: &mut [f64]) {
        for (tap, &weight) in kernel.iter().enumerate() {
            self.visit(tap, |to, from, count| {
                let from = plane[from..].iter().step_by(self.strides[2]);
                for (s, v) in sum[to..to + count].iter_mut().zip(from) {
                    *s += weight * v;
                }
            });
        }
    }
}

/// Padding of an axis in all.
pub(crate) fn both_pads(begin: isize, end: isize) -> Result<isize, OpError> {
    match (i32::try_from(begin), i32::try_from(end)) {
        (Ok(begin), Ok(end)) => Ok(begin as isize + end as isize),
        _ => bail!(
            "expected padding of at most {} pixels, found {begin} and {end}",
            i32::MAX
        ),
    }
}

/// Length of an output axis: `(input + pads - dilated kernel) / stride + 1`.
pub(crate) fn window_count(
    input: usize,
    pads: isize,
    kernel: usize,
    dilation: usize,
    stride: usize,
    ceil: bool,
) -> Result<usize, OpError> {
    // Far beyond any network; keeps index arithmetic from overflowing.
    const LIMIT: usize = 1 << 31;
    if [input, kernel, dilation, stride, pads.unsigned_abs()]
        .iter()
        .any(|&v| v > LIMIT)
    {
        bail!("expected lengths, strides, dilations and padding of at most {LIMIT}");
    }
    let extent = (kernel as i128 - 1) * dilation as i128 + 1;
    let room = input as i128 + pads as i128 - extent;
    if room < 0 {
        bail!("a window of {extent} does not fit an axis of {input} with {pads} of padding in all");
    }
    let stride = stride as i128;
    let steps = if ceil {
        (room + stride - 1) / stride
    } else {
        room / stride
    };
    usize::try_from(steps + 1).map_err(|_| OpError("an output axis is too long".to_owned()))
}

/// Padding before and after one axis that `auto_pad` chooses, for an input axis of fixed length.
pub(crate) fn auto_pads(
    auto: AutoPad,
    input: usize,
    kernel: usize,
    dilation: usize,
    stride: usize,
) -> (usize, usize) {
    let extent = (kernel - 1).saturating_mul(dilation).saturating_add(1);
    let covered = (input.div_ceil(stride).saturating_sub(1))
        .saturating_mul(stride)
        .saturating_add(extent);
    let total = covered.saturating_sub(input);
    match auto {
        AutoPad::SameUpper => (total / 2, total - total / 2),
        AutoPad::SameLower => (total - total / 2, total / 2),
        AutoPad::Explicit | AutoPad::Valid => (0, 0),
    }
}

/// Writes the padding that `auto_pad` chooses into `pads_begin` and `pads_end`, where axes are fixed.
pub(crate) fn resolve(attrs: &mut ConvAttrs, data: &[Dim], kernel: &[Dim]) {
    if attrs.auto_pad == AutoPad::Explicit {
        return;
    }
    for i in 0..attrs.strides.len() {
        let (Some(Some(input)), Some(Some(kernel))) = (data.get(i + 2), kernel.get(i)) else {
            continue;
        };
        if *kernel == 0 {
            continue;
        }
        let (begin, end) = auto_pads(
            attrs.auto_pad,
            *input,
            *kernel,
            attrs.dilations[i],
            attrs.strides[i],
        );
        attrs.pads_begin[i] = begin.min(isize::MAX as usize) as isize;
        attrs.pads_end[i] = end.min(isize::MAX as usize) as isize;
    }
}

/// Shape of the output of a convolution with the given kernel.
pub(crate) fn output_shape(
    attrs: &ConvAttrs,
    data: &[Dim],
    kernel: &[Dim],
    out_channels: Dim,
) -> Result<PartialShape, OpError> {
    let axes = attrs.strides.len();
    if !(1..=3).contains(&axes) || data.len() != axes + 2 || kernel.len() != axes {
        bail!(
            "expected data of rank {} for {axes} spatial axes (1 to 3 are supported), found {} with a kernel {}",
            axes + 2,
            support::show(data),
            support::show(kernel)
        );
    }
    if [
        attrs.dilations.len(),
        attrs.pads_begin.len(),
        attrs.pads_end.len(),
    ] != [axes; 3]
    {
        bail!("strides, dilations and padding do not have one entry per spatial axis");
    }
    let mut attrs = attrs.clone();
    resolve(&mut attrs, data, kernel);
    let mut shape = vec![data[0], out_channels];
    for i in 0..axes {
        shape.push(match (data[i + 2], kernel[i]) {
            (_, Some(0)) => bail!("the kernel {} has an axis of length 0", support::show(kernel)),
            (Some(input), Some(kernel)) => Some(window_count(
                input,
                both_pads(attrs.pads_begin[i], attrs.pads_end[i])?,
                kernel,
                attrs.dilations[i],
                attrs.strides[i],
                false,
            )?),
            _ => None,
        });
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
    let channels = data.shape.get(1).copied().flatten();
    let shape = match (op, weights.shape) {
        (Op::Convolution(attrs), [out, input, kernel @ ..]) => {
            support::same_dim(channels, *input, "channels of data and weights")?;
            output_shape(attrs, data.shape, kernel, *out)?
        }
        (Op::GroupConvolution(attrs), [groups, out, input, kernel @ ..]) => {
            if *groups == Some(0) {
                bail!("the weights have no group");
            }
            let wanted = groups.zip(*input).map(|(g, c)| g.saturating_mul(c));
            support::same_dim(
                channels,
                wanted,
                "channels of data and of all groups of the weights",
            )?;
            let out = groups.zip(*out).map(|(g, c)| g.saturating_mul(c));
            output_shape(attrs, data.shape, kernel, out)?
        }
        _ => bail!("weights {} have too few axes", support::show(weights.shape)),
    };
    Ok(vec![support::output(element_type, shape)])
}

/// Evaluates an operation of this family, in f32 whatever the element type.
pub(crate) fn evaluate(op: &Op, inputs: &[Tensor], outputs: &[OutputInfo]) -> Result<Vec<Tensor>, OpError> {
    let shape = support::fixed(&outputs[0])?;
    let (data, weights) = (&inputs[0], &inputs[1]);
    let (attrs, groups, kernel) = match op {
        Op::Convolution(attrs) => (attrs, 1, &weights.shape()[2..]),
        Op::GroupConvolution(attrs) => (attrs, weights.shape()[0], &weights.shape()[3..]),
        _ => bail!("not an operation of this family"),
    };
    let mut attrs = attrs.clone();
    let dims = |s: &[usize]| s.iter().map(|&d| Some(d)).collect::<PartialShape>();
    resolve(&mut attrs, &dims(data.shape()), &dims(kernel));
    let geometry = Geometry::new(&attrs, groups, data.shape(), kernel, &shape);
    // One tap of every input channel of a group is laid out per output pixel.
    let pixels = shape[2..]
        .iter()
        .try_fold(data.shape()[1] / groups.max(1), |n, &d| n.checked_mul(d));
    let most = crate::limits::max_elements();
    if pixels.is_none_or(|n| n > most) {
        bail!("its input channels at every output pixel are more than {most} elements, which is the limit");
    }
    let sums = geometry.convolve_f32(&data.to_f32(), &weights.to_f32());
    Ok(vec![support::from_f32(outputs[0].element_type, &shape, &sums)?])
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(crate) fn attrs(stride: usize, pads: [isize; 2], auto_pad: AutoPad) -> ConvAttrs {
        ConvAttrs {
            strides: vec![stride],
            dilations: vec![1],
            pads_begin: vec![pads[0]],
            pads_end: vec![pads[1]],
            auto_pad,
        }
    }

    fn run(op: Op, data: &[f32], shape: &[usize], weights: &[f32], w: &[usize]) -> Tensor {
        let data = Tensor::from_slice(shape, data).unwrap();
        let weights = Tensor::from_slice(w, weights).unwrap();
        crate::ops::evaluate(&op, &[data, weights]).unwrap().remove(0)
    }

    #[test]
    fn padding_counts_as_zero() {
        let op = Op::Convolution(attrs(1, [1, 1], AutoPad::Explicit));
        let y = run(op, &[1.0, 2.0, 3.0], &[1, 1, 3], &[1.0, 10.0, 100.0], &[1, 1, 3]);
        assert_eq!(y.to_f32(), [210.0, 321.0, 32.0]);
    }

    #[test]
    fn same_padding_puts_the_odd_pixel_where_it_says() {
        for (auto, expected) in [
            (AutoPad::SameUpper, [21.0, 43.0]),
            (AutoPad::SameLower, [10.0, 32.0]),
        ] {
            let op = Op::Convolution(attrs(2, [0, 0], auto));
            let data = [1.0, 2.0, 3.0, 4.0];
            // A kernel of 3 on 4 pixels with stride 2 needs one pixel of padding.
            let y = run(op, &data, &[1, 1, 4], &[1.0, 10.0, 0.0], &[1, 1, 3]);
            assert_eq!(y.to_f32(), expected, "{auto:?}");
        }
    }

    #[test]
    fn groups_see_their_own_channels() {
        let op = Op::GroupConvolution(attrs(1, [0, 0], AutoPad::Valid));
        let y = run(op, &[1.0, 2.0, 3.0, 4.0], &[1, 2, 2], &[2.0, 3.0], &[2, 1, 1, 1]);
        assert_eq!(y.to_f32(), [2.0, 4.0, 9.0, 12.0]);
    }

    #[test]
    fn dilation_and_three_axes() {
        let a = ConvAttrs {
            strides: vec![1; 3],
            dilations: vec![1, 1, 2],
            pads_begin: vec![0; 3],
            pads_end: vec![0; 3],
            auto_pad: AutoPad::Explicit,
        };
        let data: Vec<f32> = (0..12).map(|v| v as f32).collect();
        let y = run(
            Op::Convolution(a),
            &data,
            &[1, 1, 2, 2, 3],
            &[1.0, 1.0],
            &[1, 1, 1, 1, 2],
        );
        assert_eq!(y.shape(), [1, 1, 2, 2, 1]);
        assert_eq!(y.to_f32(), [2.0, 8.0, 14.0, 20.0]);
    }

    #[test]
    fn a_window_larger_than_the_data_is_an_error() {
        let data = Tensor::from_slice(&[1, 1, 2], &[1f32, 2.0]).unwrap();
        let weights = Tensor::from_slice(&[1, 1, 3], &[1f32; 3]).unwrap();
        let op = Op::Convolution(attrs(1, [0, 0], AutoPad::Explicit));
        assert!(crate::ops::evaluate(&op, &[data, weights]).is_err());
    }
}
