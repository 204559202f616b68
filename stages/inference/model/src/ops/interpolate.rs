//! Interpolate-4 and Interpolate-11.

use super::attributes::Attributes;
use super::support::{self, Input};
use crate::error::{OpError, bail};
use crate::graph::{Dim, OutputInfo, PartialShape};
use crate::op::{CoordinateMode, InterpolateAttrs, InterpolateMode, NearestMode, Op};
use crate::tensor::Tensor;

/// Names of modes.
pub(crate) const MODES: [(&str, InterpolateMode); 6] = [
    ("nearest", InterpolateMode::Nearest),
    ("linear", InterpolateMode::Linear),
    ("linear_onnx", InterpolateMode::LinearOnnx),
    ("cubic", InterpolateMode::Cubic),
    ("bilinear_pillow", InterpolateMode::BilinearPillow),
    ("bicubic_pillow", InterpolateMode::BicubicPillow),
];
/// Names of coordinate modes.
pub(crate) const COORDINATES: [(&str, CoordinateMode); 5] = [
    ("half_pixel", CoordinateMode::HalfPixel),
    ("pytorch_half_pixel", CoordinateMode::PytorchHalfPixel),
    ("asymmetric", CoordinateMode::Asymmetric),
    ("tf_half_pixel_for_nn", CoordinateMode::TfHalfPixelForNn),
    ("align_corners", CoordinateMode::AlignCorners),
];
/// Names of nearest modes.
pub(crate) const NEAREST: [(&str, NearestMode); 5] = [
    ("round_prefer_floor", NearestMode::RoundPreferFloor),
    ("round_prefer_ceil", NearestMode::RoundPreferCeil),
    ("floor", NearestMode::Floor),
    ("ceil", NearestMode::Ceil),
    ("simple", NearestMode::Simple),
];

/// Reads an operation of this family; `None` if it is of another.
pub(crate) fn parse(a: &Attributes) -> Result<Option<Op>, OpError> {
    // Interpolate-1 has other attributes and another meaning.
    if a.kind != "Interpolate" || !(4..=15).contains(&a.opset) {
        return Ok(None);
    }
    let version = if a.opset >= 11 { 11 } else { 4 };
    Ok(Some(Op::Interpolate(InterpolateAttrs {
        mode: a.word("mode", &MODES, None)?,
        by_scales: a.word(
            "shape_calculation_mode",
            &[("sizes", false), ("scales", true)],
            None,
        )?,
        coordinates: a.word(
            "coordinate_transformation_mode",
            &COORDINATES,
            Some(CoordinateMode::HalfPixel),
        )?,
        nearest: a.word("nearest_mode", &NEAREST, Some(NearestMode::RoundPreferFloor))?,
        antialias: a.flag("antialias", Some(false))?,
        cube_coeff: a.float("cube_coeff", Some(-0.75))?,
        pads_begin: a.list("pads_begin", Some(&[]))?,
        pads_end: a.list("pads_end", Some(&[]))?,
        version,
    })))
}

/// Axes, output lengths and scales of the interpolated axes.
struct Plan {
    axes: Vec<usize>,
    /// Output lengths, one per entry of `axes`.
    lengths: Vec<usize>,
    /// Scales, one per entry of `axes`.
    scales: Vec<f32>,
}

/// Axis lengths with padding.
fn padded(attrs: &InterpolateAttrs, shape: &[Dim]) -> Result<PartialShape, OpError> {
    let rank = shape.len();
    if attrs.pads_begin.len() > rank || attrs.pads_end.len() > rank {
        bail!("padding has more entries than the data have axes, {rank}");
    }
    let pad = |list: &[usize], i: usize| list.get(i).copied().unwrap_or(0);
    shape
        .iter()
        .enumerate()
        .map(|(i, d)| match d {
            None => Ok(None),
            Some(d) => match d
                .checked_add(pad(&attrs.pads_begin, i))
                .and_then(|d| d.checked_add(pad(&attrs.pads_end, i)))
            {
                Some(d) => Ok(Some(d)),
                None => bail!("padding is too large"),
            },
        })
        .collect()
}

/// The axes and the sizes or scales given for them; `None` where they are not known.
type Given = (Vec<usize>, Option<Vec<i64>>, Option<Vec<f64>>);

fn given(attrs: &InterpolateAttrs, inputs: &[Input]) -> Result<Given, OpError> {
    let rank = inputs[0].shape.len();
    let (sizes, scales, axes) = if attrs.version >= 11 {
        (inputs.get(1), inputs.get(1), inputs.get(2))
    } else {
        (inputs.get(1), inputs.get(2), inputs.get(3))
    };
    let axes = match axes {
        None => (0..rank).collect(),
        Some(axes) => match axes.integers() {
            Some(axes) => support::axes(&axes, rank)?,
            None => bail!("the axes must be a constant"),
        },
    };
    let sizes = sizes.filter(|_| !attrs.by_scales).and_then(Input::integers);
    let scales = scales
        .filter(|_| attrs.by_scales)
        .and_then(|s| s.value.map(Tensor::to_f64));
    let count = sizes.as_ref().map(Vec::len).or(scales.as_ref().map(Vec::len));
    if count.is_some_and(|c| c != axes.len()) {
        bail!(
            "expected one size or scale per axis ({}), found {}",
            axes.len(),
            count.unwrap_or(0)
        );
    }
    Ok((axes, sizes, scales))
}

/// Output length by a scale: rounded down after adding 1e-5.
fn scaled(length: usize, scale: f64) -> Result<usize, OpError> {
    let scaled = (length as f64 * scale + 1e-5).floor();
    if scale > 0.0 && (0.0..1e9).contains(&scaled) {
        Ok(scaled as usize)
    } else {
        bail!("scale {scale} of an axis of {length}: expected a positive scale and at most 1e9 elements")
    }
}

/// Type and shape of the output.
pub(crate) fn infer(attrs: &InterpolateAttrs, inputs: &[Input]) -> Result<Vec<OutputInfo>, OpError> {
    let data = &inputs[0];
    let padded = padded(attrs, data.shape)?;
    let mut shape = padded.clone();
    let (axes, sizes, scales) = given(attrs, inputs)?;
    for (i, &axis) in axes.iter().enumerate() {
        shape[axis] = match (&sizes, &scales, padded[axis]) {
            (Some(sizes), ..) => match usize::try_from(sizes[i]) {
                Ok(size) => Some(size),
                Err(_) => bail!("size {} is negative", sizes[i]),
            },
            (_, Some(scales), Some(length)) => Some(scaled(length, scales[i])?),
            _ => None,
        };
    }
    Ok(vec![support::output(data.element_type, shape)])
}

fn plan(
    attrs: &InterpolateAttrs,
    inputs: &[Input],
    padded: &[usize],
    shape: &[usize],
) -> Result<Plan, OpError> {
    let (axes, _, scales) = given(attrs, inputs)?;
    let scales = match scales {
        Some(scales) => scales.into_iter().map(|s| s as f32).collect(),
        None => axes.iter().map(|&a| shape[a] as f32 / padded[a] as f32).collect(),
    };
    Ok(Plan {
        lengths: axes.iter().map(|&a| shape[a]).collect(),
        scales,
        axes,
    })
}

/// Input coordinate of an output index, each step rounded to f32.
fn coordinate(mode: CoordinateMode, out: usize, scale: f32, out_length: usize, in_length: usize) -> f32 {
    let x = out as f32;
    if scale == 1.0 || out_length == in_length {
        return x;
    }
    match mode {
        CoordinateMode::HalfPixel => (x + 0.5) / scale - 0.5,
        CoordinateMode::PytorchHalfPixel if out_length > 1 => (x + 0.5) / scale - 0.5,
        CoordinateMode::PytorchHalfPixel => 0.0,
        CoordinateMode::Asymmetric => x / scale,
        CoordinateMode::TfHalfPixelForNn => (x + 0.5) / scale,
        CoordinateMode::AlignCorners if out_length == 1 => 0.0,
        CoordinateMode::AlignCorners => x * ((in_length as f32 - 1.0) / (out_length as f32 - 1.0)),
    }
}

/// The nearest index of a coordinate.
fn nearest(mode: NearestMode, x: f32, scale: f32) -> f32 {
    let half = x - x.floor() == 0.5;
    match mode {
        NearestMode::RoundPreferFloor if half => x.floor(),
        NearestMode::RoundPreferCeil if half => x.ceil(),
        NearestMode::RoundPreferFloor | NearestMode::RoundPreferCeil => x.round(),
        NearestMode::Floor => x.floor(),
        NearestMode::Ceil => x.ceil(),
        NearestMode::Simple if scale < 1.0 => x.ceil(),
        NearestMode::Simple => x.trunc(),
    }
}

/// Input indices and weights of one output index of one axis. Every mode is separable by axis.
fn taps(
    attrs: &InterpolateAttrs,
    out: usize,
    scale: f32,
    out_length: usize,
    in_length: usize,
    antialias: bool,
) -> Vec<(usize, f64)> {
    let last = in_length as f32 - 1.0;
    let x = coordinate(attrs.coordinates, out, scale, out_length, in_length);
    let index = |x: f32| x.clamp(0.0, last) as usize;
    match attrs.mode {
        InterpolateMode::Nearest => vec![(index(nearest(attrs.nearest, x, scale)), 1.0)],
        InterpolateMode::Linear if antialias => triangle(x, scale, in_length),
        InterpolateMode::Linear | InterpolateMode::LinearOnnx => {
            let x = x.clamp(0.0, last);
            let (left, right) = (x.floor(), (x.floor() + 1.0).min(last));
            let weights = match left == right {
                true => [0.5, 0.5],
                false => [right - x, x - left],
            };
            vec![
                (index(left), f64::from(weights[0])),
                (index(right), f64::from(weights[1])),
            ]
        }
        InterpolateMode::Cubic => {
            // Keys' cubic convolution kernel.
            let (a, floor) = (attrs.cube_coeff, x.floor());
            let m = x - floor;
            let weights = [
                a * (m - 1.0) * (m - 1.0) * m,
                ((a + 2.0) * m - (a + 3.0)) * m * m + 1.0,
                (((-a - 2.0) * m + (2.0 * a + 3.0)) * m - a) * m,
                -a * m * m * (m - 1.0),
            ];
            let place = |(k, weight): (usize, f32)| (index(floor + k as f32 - 1.0), f64::from(weight));
            weights.into_iter().enumerate().map(place).collect()
        }
        InterpolateMode::BilinearPillow => {
            pillow(out, out_length, in_length, 1.0, |d| (1.0 - d.abs()).max(0.0))
        }
        InterpolateMode::BicubicPillow => {
            let a = f64::from(attrs.cube_coeff);
            pillow(out, out_length, in_length, 2.0, |d| match d.abs() {
                d if d < 1.0 => ((a + 2.0) * d - (a + 3.0)) * d * d + 1.0,
                d if d < 2.0 => (((d - 5.0) * d + 8.0) * d - 4.0) * a,
                _ => 0.0,
            })
        }
    }
}

/// A triangle around a coordinate, widened when shrinking; weights sum to 1 over the taps inside.
fn triangle(x: f32, scale: f32, in_length: usize) -> Vec<(usize, f64)> {
    let (x, a) = (f64::from(x), f64::from(scale));
    let radius = if scale > 1.0 { 2.0 } else { (2.0 / a).ceil() };
    normalized(x.round() - radius, x.round() + radius, in_length, |i| {
        a * (1.0 - (a * (x - i)).abs()).max(0.0)
    })
}

/// Taps as the Pillow library chooses them: a filter around the middle of the output pixel, widened when shrinking.
fn pillow(
    out: usize,
    out_length: usize,
    in_length: usize,
    support: f64,
    filter: impl Fn(f64) -> f64,
) -> Vec<(usize, f64)> {
    if out_length == in_length {
        return vec![(out, 1.0)];
    }
    let scale = in_length as f64 / out_length as f64;
    let width = scale.max(1.0);
    let (centre, reach) = ((out as f64 + 0.5) * scale, support * width);
    let (from, to) = (
        (centre - reach + 0.5).trunc(),
        (centre + reach + 0.5).trunc() - 1.0,
    );
    normalized(from, to, in_length, |i| filter((i - centre + 0.5) / width))
}

/// The indices from `from` to `to` that exist, with weights that sum to 1.
fn normalized(from: f64, to: f64, length: usize, weight: impl Fn(f64) -> f64) -> Vec<(usize, f64)> {
    let (from, to) = (
        from.max(0.0) as usize,
        to.min(length as f64 - 1.0).max(0.0) as usize,
    );
    let mut taps: Vec<(usize, f64)> = (from..=to).map(|i| (i, weight(i as f64))).collect();
    taps.retain(|t| t.1 != 0.0);
    let sum: f64 = taps.iter().map(|t| t.1).sum();
    taps.iter_mut().for_each(|t| t.1 /= sum);
    taps
}

/// Blends two neighbours along the `i`-th interpolated axis of `count` in the rounding of linear
/// interpolation: along the last axis the second product is rounded and the first added to it in one step,
/// along the others the other way round.
fn blend(values: [f64; 2], weights: [f64; 2], i: usize, count: usize) -> f64 {
    let [(a, wa), (b, wb)] = [0, 1].map(|k| (values[k] as f32, weights[k] as f32));
    f64::from(if i + 1 == count {
        a.mul_add(wa, b * wb)
    } else {
        b.mul_add(wb, a * wa)
    })
}

/// Whether two neighbours are blended as [`blend`] does, in f32.
fn blends(attrs: &InterpolateAttrs, antialias: bool) -> bool {
    match attrs.mode {
        InterpolateMode::Linear => !antialias,
        mode => mode == InterpolateMode::LinearOnnx,
    }
}

/// Evaluates the operation. Linear interpolation of floats works in f32, the last axis first, in the order that
/// `docs/numerics.md` states; every other mode sums in f64. Integers are rounded to nearest, ties away from zero.
pub(crate) fn evaluate(
    attrs: &InterpolateAttrs,
    tensors: &[Tensor],
    outputs: &[OutputInfo],
) -> Result<Vec<Tensor>, OpError> {
    let data = &tensors[0];
    let shapes = support::shapes(tensors);
    let inputs = support::known(tensors, &shapes);
    let shape = support::fixed(&outputs[0])?;
    let dims: PartialShape = data.shape().iter().map(|&d| Some(d)).collect();
    let mut current: Vec<usize> = padded(attrs, &dims)?.into_iter().flatten().collect();
    // Axes change one after another: what lies between may be larger than both ends.
    let largest = current.iter().zip(&shape).map(|(&a, &b)| a.max(b).max(1));
    let most = crate::limits::max_elements();
    if largest
        .clone()
        .try_fold(1usize, usize::checked_mul)
        .is_none_or(|n| n > most)
    {
        bail!(
            "on the way from {current:?} to {shape:?} there are more than {most} elements, which is the limit"
        );
    }
    let plan = plan(attrs, &inputs, &current, &shape)?;
    let antialias = attrs.antialias && plan.scales.iter().any(|&s| s < 1.0);
    let mut values = pad_with_zeros(data, &attrs.pads_begin, &current);
    let count = plan.axes.len();
    let in_f32 = blends(attrs, antialias) && data.element_type().is_float();
    for (i, &axis) in plan.axes.iter().enumerate().rev() {
        let (out_length, in_length) = (plan.lengths[i], current[axis]);
        if in_length == 0 && out_length != 0 {
            bail!("axis {axis} has no element to interpolate from");
        }
        let all: Vec<_> = (0..out_length)
            .map(|o| taps(attrs, o, plan.scales[i], out_length, in_length, antialias))
            .collect();
        let outer: usize = current[..axis].iter().product();
        let inner: usize = current[axis + 1..].iter().product();
        let mut next = Vec::with_capacity(outer * out_length * inner);
        for o in 0..outer {
            for taps in &all {
                for j in 0..inner {
                    let at = |k: usize| (o * in_length + k) * inner + j;
                    next.push(match **taps {
                        [(k, a), (l, b)] if in_f32 => blend([values[at(k)], values[at(l)]], [a, b], i, count),
                        _ => taps.iter().map(|&(k, w)| values[at(k)] * w).sum(),
                    });
                }
            }
        }
        current[axis] = out_length;
        values = next;
    }
    if !data.element_type().is_float() {
        values.iter_mut().for_each(|v: &mut f64| *v = v.round());
    }
    Ok(vec![Tensor::from_f64(data.element_type(), &shape, &values)?])
}

/// Where the values along one axis of an interpolation come from.
#[derive(Debug, Clone)]
pub struct AxisTaps {
    /// The axis.
    pub axis: usize,
    /// Per output index: input indices and their weights.
    pub taps: Vec<Vec<(usize, f64)>>,
    /// Whether two taps are blended in f32: for the first axis the second product is rounded and the first added to it
    /// in one step, for the others the other way round. All else is summed in f64. The same for all axes.
    pub in_f32: bool,
}

/// The passes of an interpolation without padding, in the order in which evaluation makes them; `None` with padding.
/// Weighted sums along one axis after another are the whole operation.
///
/// # Errors
/// If sizes, scales or axes are not known or do not fit, or an axis has no element to interpolate from.
pub fn axis_taps(
    attrs: &InterpolateAttrs,
    inputs: &[Input],
    from: &[usize],
    to: &[usize],
) -> Result<Option<Vec<AxisTaps>>, OpError> {
    if attrs.pads_begin.iter().chain(&attrs.pads_end).any(|&p| p > 0) {
        return Ok(None);
    }
    let plan = plan(attrs, inputs, from, to)?;
    let antialias = attrs.antialias && plan.scales.iter().any(|&s| s < 1.0);
    let passes = plan.axes.iter().enumerate().rev().map(|(i, &axis)| {
        let (out_length, in_length) = (plan.lengths[i], from[axis]);
        if in_length == 0 {
            bail!("axis {axis} has no element to interpolate from");
        }
        Ok(AxisTaps {
            axis,
            in_f32: blends(attrs, antialias),
            taps: (0..out_length)
                .map(|o| taps(attrs, o, plan.scales[i], out_length, in_length, antialias))
                .collect(),
        })
    });
    passes.collect::<Result<Vec<_>, OpError>>().map(Some)
}

/// The values with zeros around, `begin` of them before each axis.
fn pad_with_zeros(data: &Tensor, begin: &[usize], shape: &[usize]) -> Vec<f64> {
    let values = data.to_f64();
    if data.shape() == shape {
        return values;
    }
    let strides = support::strides(shape);
    let start: usize = begin.iter().zip(&strides).map(|(b, s)| b * *s as usize).sum();
    let mut padded = vec![0.0; shape.iter().product()];
    let places = support::offsets(data.shape(), &strides, start as isize);
    for (value, at) in values.into_iter().zip(places) {
        padded[at] = value;
    }
    padded
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(attrs: InterpolateAttrs, x: &[f32], size: i64) -> Vec<f32> {
        let x = Tensor::from_slice(&[1, x.len()], x).unwrap();
        let list = |v| Tensor::from_slice(&[1], &[v]).unwrap();
        crate::ops::evaluate(&Op::Interpolate(attrs), &[x, list(size), list(1i64)]).unwrap()[0].to_f32()
    }

    fn attrs(mode: InterpolateMode, coordinates: CoordinateMode, nearest: NearestMode) -> InterpolateAttrs {
        InterpolateAttrs {
            mode,
            by_scales: false,
            coordinates,
            nearest,
            antialias: false,
            cube_coeff: -0.75,
            pads_begin: vec![],
            pads_end: vec![],
            version: 11,
        }
    }

    #[test]
    fn nearest_by_floor_repeats() {
        let a = attrs(
            InterpolateMode::Nearest,
            CoordinateMode::Asymmetric,
            NearestMode::Floor,
        );
        assert_eq!(run(a, &[1.0, 2.0], 4), [1.0, 1.0, 2.0, 2.0]);
    }

    #[test]
    fn nearest_modes_differ_at_half() {
        let x = [0.0, 1.0, 2.0, 3.0];
        let of = |n| {
            run(
                attrs(InterpolateMode::Nearest, CoordinateMode::HalfPixel, n),
                &x,
                2,
            )
        };
        assert_eq!(of(NearestMode::RoundPreferFloor), [0.0, 2.0]);
        assert_eq!(of(NearestMode::RoundPreferCeil), [1.0, 3.0]);
        assert_eq!(of(NearestMode::Ceil), [1.0, 3.0]);
        assert_eq!(of(NearestMode::Simple), [1.0, 3.0]);
    }

    #[test]
    fn linear_modes() {
        let at = |m, c| run(attrs(m, c, NearestMode::Floor), &[0.0, 4.0], 4);
        let half = [0.0, 1.0, 3.0, 4.0];
        assert_eq!(at(InterpolateMode::LinearOnnx, CoordinateMode::HalfPixel), half);
        assert_eq!(at(InterpolateMode::Linear, CoordinateMode::HalfPixel), half);
        let corners = at(InterpolateMode::LinearOnnx, CoordinateMode::AlignCorners);
        assert!((corners[1] - 4.0 / 3.0).abs() < 1e-6 && corners[3] == 4.0);
        assert_eq!(
            at(InterpolateMode::LinearOnnx, CoordinateMode::Asymmetric),
            [0.0, 2.0, 4.0, 4.0]
        );
    }

    #[test]
    fn antialiasing_averages_when_shrinking() {
        let mut a = attrs(
            InterpolateMode::Linear,
            CoordinateMode::HalfPixel,
            NearestMode::Floor,
        );
        a.antialias = true;
        let y = run(a, &[0.0, 0.0, 8.0, 0.0, 0.0, 0.0, 0.0, 0.0], 2);
        assert!(y[0] > 1.0 && y[0] < 4.0, "{y:?}");
    }

    #[test]
    fn cubic_keeps_constants_and_reaches_its_points() {
        let a = attrs(
            InterpolateMode::Cubic,
            CoordinateMode::Asymmetric,
            NearestMode::Floor,
        );
        let y = run(a.clone(), &[1.0, 5.0, 2.0, 7.0], 8);
        assert_eq!([y[0], y[2], y[4], y[6]], [1.0, 5.0, 2.0, 7.0]);
        assert!(run(a, &[3.0; 4], 9).iter().all(|v| (v - 3.0).abs() < 1e-6));
    }

    #[test]
    fn scales_and_padding() {
        let mut a = attrs(
            InterpolateMode::Nearest,
            CoordinateMode::Asymmetric,
            NearestMode::Floor,
        );
        a.by_scales = true;
        a.pads_begin = vec![0, 1];
        let x = Tensor::from_slice(&[1, 2], &[1f32, 2.0]).unwrap();
        let scale = Tensor::from_slice(&[1], &[2f32]).unwrap();
        let axes = Tensor::from_slice(&[1], &[1i64]).unwrap();
        let y = crate::ops::evaluate(&Op::Interpolate(a), &[x, scale, axes]).unwrap();
        assert_eq!(y[0].to_f32(), [0.0, 0.0, 1.0, 1.0, 2.0, 2.0]);
    }
}
