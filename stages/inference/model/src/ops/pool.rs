//! MaxPool and AvgPool.

use super::attributes::Attributes;
use super::convolution::{AUTO_PAD, auto_pads, both_pads, window_count};
use super::support::{self, Input};
use crate::error::{OpError, bail};
use crate::graph::{Dim, OutputInfo};
use crate::op::{AutoPad, Op, PoolAttrs};
use crate::tensor::{ElementType, Tensor};

/// Longest window along an axis.
const MAX_KERNEL: usize = 65536;

/// Reads an operation of this family; `None` if it is of another.
pub(crate) fn parse(a: &Attributes) -> Result<Option<Op>, OpError> {
    if !matches!(a.kind, "MaxPool" | "AvgPool") {
        return Ok(None);
    }
    let kernel: Vec<usize> = a.list("kernel", None)?;
    let axes = kernel.len();
    let pool = PoolAttrs {
        strides: a.list("strides", Some(&vec![1; axes]))?,
        dilations: a.list("dilations", Some(&vec![1; axes]))?,
        pads_begin: a.list("pads_begin", Some(&vec![0; axes]))?,
        pads_end: a.list("pads_end", Some(&vec![0; axes]))?,
        auto_pad: a.word("auto_pad", &AUTO_PAD, Some(AutoPad::Explicit))?,
        ceil: a.word("rounding_type", &[("floor", false), ("ceil", true)], Some(false))?,
        kernel,
    };
    for (name, list) in [
        ("strides", &pool.strides),
        ("dilations", &pool.dilations),
        ("pads_begin", &pool.pads_begin),
        ("pads_end", &pool.pads_end),
    ] {
        if list.len() != axes {
            bail!(
                "attribute `{name}` has {} entries, `kernel` has {axes}: one per spatial axis",
                list.len()
            );
        }
    }
    if [&pool.kernel, &pool.strides, &pool.dilations]
        .iter()
        .any(|l| l.contains(&0))
    {
        bail!("attributes `kernel`, `strides` and `dilations`: expected positive numbers, found 0");
    }
    Ok(Some(if a.kind == "MaxPool" {
        Op::MaxPool(pool)
    } else {
        let exclude_pad = match a.get("exclude-pad") {
            Some(_) => a.flag("exclude-pad", None)?,
            None => a.flag("exclude_pad", None)?,
        };
        Op::AvgPool { pool, exclude_pad }
    }))
}

fn attributes(op: &Op) -> Result<&PoolAttrs, OpError> {
    match op {
        Op::MaxPool(pool) | Op::AvgPool { pool, .. } => Ok(pool),
        _ => bail!("not an operation of this family"),
    }
}

/// Writes the padding that `auto_pad` chooses into `pads_begin` and `pads_end`, where axes are fixed.
pub(crate) fn resolve(pool: &mut PoolAttrs, data: &[Dim]) {
    if pool.auto_pad == AutoPad::Explicit {
        return;
    }
    for i in 0..pool.kernel.len() {
        if let Some(Some(input)) = data.get(i + 2) {
            (pool.pads_begin[i], pool.pads_end[i]) = auto_pads(
                pool.auto_pad,
                *input,
                pool.kernel[i],
                pool.dilations[i],
                pool.strides[i],
            );
        }
    }
}

/// Type and shape of the outputs; MaxPool has the indices of the maxima as its second.
pub(crate) fn infer(op: &Op, inputs: &[Input]) -> Result<Vec<OutputInfo>, OpError> {
    let data = &inputs[0];
    let mut pool = attributes(op)?.clone();
    let axes = pool.kernel.len();
    if !(1..=3).contains(&axes) || data.shape.len() != axes + 2 {
        bail!(
            "expected data of rank {} for {axes} spatial axes (1 to 3 are supported), found {}",
            axes + 2,
            support::show(data.shape)
        );
    }
    if let Some(kernel) = pool.kernel.iter().find(|&&k| k > MAX_KERNEL) {
        bail!("attribute `kernel`: expected at most {MAX_KERNEL} along an axis, found {kernel}");
    }
    resolve(&mut pool, data.shape);
    let mut shape = data.shape[..2].to_vec();
    for i in 0..axes {
        let Some(input) = data.shape[i + 2] else {
            shape.push(None);
            continue;
        };
        let signed = |pad: usize| isize::try_from(pad).unwrap_or(isize::MAX);
        let pads = both_pads(signed(pool.pads_begin[i]), signed(pool.pads_end[i]))?;
        let (kernel, dilation, stride) = (pool.kernel[i], pool.dilations[i], pool.strides[i]);
        shape.push(Some(window_count(
            input, pads, kernel, dilation, stride, pool.ceil,
        )?));
    }
    let mut outputs = vec![support::output(data.element_type, shape.clone())];
    if matches!(op, Op::MaxPool(_)) {
        outputs.push(support::output(ElementType::I64, shape));
    } else if !data.element_type.is_float() {
        bail!("expected a floating point input, found {}", data.element_type);
    }
    Ok(outputs)
}

fn three<T: Copy>(values: &[T], fill: T) -> [T; 3] {
    let mut full = [fill; 3];
    full[3 - values.len()..].copy_from_slice(values);
    full
}

/// Evaluates an operation of this family.
pub(crate) fn evaluate(op: &Op, inputs: &[Tensor], outputs: &[OutputInfo]) -> Result<Vec<Tensor>, OpError> {
    let shape = support::fixed(&outputs[0])?;
    let data = &inputs[0];
    let mut pool = attributes(op)?.clone();
    let dims: Vec<Dim> = data.shape().iter().map(|&d| Some(d)).collect();
    resolve(&mut pool, &dims);
    let [in_d, in_h, in_w] = three(&data.shape()[2..], 1);
    let [out_d, out_h, out_w] = three(&shape[2..], 1);
    let kernel = three(&pool.kernel, 1);
    let lengths = [in_d, in_h, in_w];
    let (strides, dilations) = (three(&pool.strides, 1), three(&pool.dilations, 1));
    let (begin, end) = (three(&pool.pads_begin, 0), three(&pool.pads_end, 0));

    // The input indices one output index sees along an axis.
    let window = |axis: usize, out: usize| -> Vec<usize> {
        let places =
            (0..kernel[axis]).map(|k| (out * strides[axis] + k * dilations[axis]).checked_sub(begin[axis]));
        places.flatten().filter(|&at| at < lengths[axis]).collect()
    };
    // Padding counts as places of the window, also beyond its end where sizes are rounded up; as in OpenVINO's CPU
    // plugin only if there is padding at all.
    let padded = begin.iter().chain(&end).any(|&p| p > 0);
    let area: usize = kernel.iter().product();
    let windows = |axis: usize, count: usize| -> Vec<_> { (0..count).map(|o| window(axis, o)).collect() };
    let (zs, ys, xs) = (windows(0, out_d), windows(1, out_h), windows(2, out_w));

    let values = data.to_f64();
    let plane = in_d * in_h * in_w;
    let planes = data.shape()[0] * data.shape()[1];
    let mut means = Vec::new();
    let mut indices = Vec::new();
    let mut empty = Vec::new();
    for p in 0..planes {
        for z in &zs {
            for y in &ys {
                for x in &xs {
                    let inside = z.iter().flat_map(|z| {
                        y.iter()
                            .flat_map(move |y| x.iter().map(move |x| (z * in_h + y) * in_w + x))
                    });
                    let places = inside.map(|i| p * plane + i);
                    if let Op::AvgPool { exclude_pad, .. } = op {
                        let (sum, count) = places.fold((0f32, 0), |(s, n), i| (s + values[i] as f32, n + 1));
                        let count = if *exclude_pad || !padded { count } else { area };
                        means.push(if count == 0 { 0.0 } else { sum / count as f32 });
                    } else {
                        // The first of equal maxima.
                        let best = places.reduce(|a, b| if values[b] > values[a] { b } else { a });
                        match best {
                            Some(best) => indices.push(best),
                            // As OpenVINO's CPU plugin: the lowest f32, and the first element of the plane.
                            None if data.element_type().is_float() && plane > 0 => {
                                empty.push(indices.len());
                                indices.push(p * plane);
                            }
                            None => bail!("a window lies in the padding altogether"),
                        }
                    }
                }
            }
        }
    }
    if matches!(op, Op::AvgPool { .. }) {
        return Ok(vec![support::from_f32(data.element_type(), &shape, &means)?]);
    }
    // Indices count within a batch entry's channel planes from the first axis on (attribute `axis` 0).
    let flat: Vec<i128> = indices.iter().map(|&i| i as i128).collect();
    let mut maxima = support::take(data, &shape, &indices)?;
    if !empty.is_empty() {
        let mut values = maxima.to_f64();
        empty.iter().for_each(|&i| values[i] = f64::from(f32::MIN));
        maxima = Tensor::from_f64(data.element_type(), &shape, &values)?;
    }
    Ok(vec![maxima, Tensor::from_i128(ElementType::I64, &shape, &flat)?])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(kernel: usize, stride: usize, pads: [usize; 2], ceil: bool) -> PoolAttrs {
        PoolAttrs {
            kernel: vec![kernel],
            strides: vec![stride],
            dilations: vec![1],
            pads_begin: vec![pads[0]],
            pads_end: vec![pads[1]],
            auto_pad: AutoPad::Explicit,
            ceil,
        }
    }

    fn run(op: &Op, data: &[f32]) -> Vec<Tensor> {
        let data = Tensor::from_slice(&[1, 1, data.len()], data).unwrap();
        crate::ops::evaluate(op, &[data]).unwrap()
    }

    #[test]
    fn a_window_without_elements_gives_the_lowest_number() {
        let pool = PoolAttrs {
            dilations: vec![2],
            ..pool(2, 1, [1, 1], false)
        };
        assert!(pool.has_empty_window(&[1], &[1]) && !pool.has_empty_window(&[2], &[2]));
        let data = Tensor::from_slice(&[1, 2, 1], &[3.0_f32, 4.0]).unwrap();
        let y = crate::ops::evaluate(&Op::MaxPool(pool), &[data]).unwrap();
        assert_eq!(y[0].to_f32(), [f32::MIN; 2]);
        assert_eq!(y[1].to_i64(), [0, 1]);
    }

    #[test]
    fn maxima_ignore_padding_and_tell_their_index() {
        let y = run(&Op::MaxPool(pool(2, 2, [1, 1], false)), &[-1.0, -5.0, -3.0, -2.0]);
        assert_eq!(y[0].to_f32(), [-1.0, -3.0, -2.0]);
        assert_eq!(y[1].to_i64(), [0, 2, 3]);
    }

    #[test]
    fn averages_with_and_without_padding() {
        let op = |exclude_pad| Op::AvgPool {
            pool: pool(2, 2, [1, 1], false),
            exclude_pad,
        };
        assert_eq!(run(&op(true), &[2.0, 4.0, 6.0, 8.0])[0].to_f32(), [2.0, 5.0, 8.0]);
        assert_eq!(
            run(&op(false), &[2.0, 4.0, 6.0, 8.0])[0].to_f32(),
            [1.0, 5.0, 4.0]
        );
    }

    #[test]
    fn sizes_may_round_up() {
        assert_eq!(
            run(&Op::MaxPool(pool(2, 2, [0, 0], true)), &[1.0, 2.0, 3.0])[0].to_f32(),
            [2.0, 3.0]
        );
        assert_eq!(
            run(&Op::MaxPool(pool(2, 2, [0, 0], false)), &[1.0, 2.0, 3.0])[0].to_f32(),
            [2.0]
        );
    }
}
