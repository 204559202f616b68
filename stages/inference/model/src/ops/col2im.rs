//! Col2Im: columns of windows summed into an image.

use std::ops::RangeInclusive;

use super::attributes::Attributes;
use super::convolution::window_count;
use super::support::{self, Input};
use crate::error::{OpError, bail};
use crate::graph::OutputInfo;
use crate::op::Op;
use crate::operation::Operation;
use crate::tensor::Tensor;

/// Col2Im-15: data `[N, C * KH * KW, L]` (the batch may be missing), lengths of the output, lengths of the kernel. Column `l`
/// holds the `l`-th window of the padded image; overlapping windows add up.
#[derive(Debug, Clone)]
struct Col2Im {
    strides: Vec<usize>,
    dilations: Vec<usize>,
    pads_begin: Vec<usize>,
    pads_end: Vec<usize>,
}

/// Reads an operation of this family; `None` if it is of another.
pub(crate) fn parse(a: &Attributes) -> Result<Option<Op>, OpError> {
    if a.kind != "Col2Im" {
        return Ok(None);
    }
    let op = Col2Im {
        strides: a.list("strides", Some(&[1, 1]))?,
        dilations: a.list("dilations", Some(&[1, 1]))?,
        pads_begin: a.list("pads_begin", Some(&[0, 0]))?,
        pads_end: a.list("pads_end", Some(&[0, 0]))?,
    };
    let lists = [&op.strides, &op.dilations, &op.pads_begin, &op.pads_end];
    if lists.iter().any(|l| l.len() != 2) || lists[..2].iter().any(|l| l.contains(&0)) {
        bail!("expected two numbers per attribute, strides and dilations above 0");
    }
    if lists.iter().any(|l| l.iter().any(|&v| v > 1 << 30)) {
        bail!("expected strides, dilations and padding below 2^30");
    }
    Ok(Some(Op::standard(op)))
}

/// Two positive lengths.
fn pair(values: &[i64], what: &str) -> Result<[usize; 2], OpError> {
    match values {
        [a, b] if (1..1 << 30).contains(a) && (1..1 << 30).contains(b) => Ok([*a as usize, *b as usize]),
        _ => bail!("{what}: expected two positive lengths, found {values:?}"),
    }
}

impl Col2Im {
    /// Number of windows along both axes.
    fn windows(&self, image: [usize; 2], kernel: [usize; 2]) -> Result<[usize; 2], OpError> {
        let along = |i: usize| {
            let pads = (self.pads_begin[i] + self.pads_end[i]) as isize;
            window_count(
                image[i],
                pads,
                kernel[i],
                self.dilations[i],
                self.strides[i],
                false,
            )
        };
        Ok([along(0)?, along(1)?])
    }
}

impl Operation for Col2Im {
    fn type_name(&self) -> &'static str {
        "Col2Im"
    }

    fn opset(&self) -> u32 {
        15
    }

    fn attributes(&self) -> Vec<(&'static str, String)> {
        let list = |l: &[usize]| l.iter().map(usize::to_string).collect::<Vec<_>>().join(", ");
        vec![
            ("strides", list(&self.strides)),
            ("dilations", list(&self.dilations)),
            ("pads_begin", list(&self.pads_begin)),
            ("pads_end", list(&self.pads_end)),
        ]
    }

    fn input_count(&self) -> RangeInclusive<usize> {
        3..=3
    }

    fn infer(&self, inputs: &[Input]) -> Result<Vec<OutputInfo>, OpError> {
        let data = &inputs[0];
        support::integers(&inputs[1], "the output")?;
        support::integers(&inputs[2], "the kernel")?;
        let (mut shape, rows, columns) = match data.shape {
            [rows, columns] => (Vec::new(), *rows, *columns),
            [batch, rows, columns] => (vec![*batch], *rows, *columns),
            other => bail!("expected data of rank 2 or 3, found {}", support::show(other)),
        };
        let kernel = inputs[2].integers().map(|k| pair(&k, "the kernel")).transpose()?;
        let image = inputs[1].integers().map(|i| pair(&i, "the output")).transpose()?;
        let channels = match (rows, kernel.map(|[h, w]| h * w)) {
            (Some(rows), Some(taps)) if rows % taps != 0 => {
                bail!("{rows} rows are not a multiple of {taps} taps")
            }
            (Some(rows), Some(taps)) => Some(rows / taps),
            _ => None,
        };
        if let (Some(image), Some(kernel)) = (image, kernel) {
            let [h, w] = self.windows(image, kernel)?;
            support::same_dim(columns, h.checked_mul(w), "columns and windows")?;
        }
        shape.push(channels);
        shape.extend([0, 1].map(|i| image.map(|image| image[i])));
        Ok(vec![support::output(data.element_type, shape)])
    }

    fn evaluate(&self, inputs: &[Tensor], outputs: &[OutputInfo]) -> Result<Vec<Tensor>, OpError> {
        let shape = support::fixed(&outputs[0])?;
        let kernel = pair(&inputs[2].to_i64(), "the kernel")?;
        let [height, width] = pair(&inputs[1].to_i64(), "the output")?;
        let [down, across] = self.windows([height, width], kernel)?;
        let taps = kernel[0] * kernel[1];
        let data = inputs[0].to_f64();
        let mut sums = vec![0.0; support::product(&shape)];
        let place = |window: usize, tap: usize, axis: usize, length: usize| {
            let at = window * self.strides[axis] + tap * self.dilations[axis];
            at.checked_sub(self.pads_begin[axis]).filter(|&at| at < length)
        };
        for (row, values) in data.chunks_exact((down * across).max(1)).enumerate() {
            let (plane, tap) = (row / taps, row % taps);
            for (window, value) in values.iter().enumerate() {
                let y = place(window / across, tap / kernel[1], 0, height);
                let x = place(window % across, tap % kernel[1], 1, width);
                if let (Some(y), Some(x)) = (y, x) {
                    sums[(plane * height + y) * width + x] += value;
                }
            }
        }
        Ok(vec![Tensor::from_f64(inputs[0].element_type(), &shape, &sums)?])
    }
}
