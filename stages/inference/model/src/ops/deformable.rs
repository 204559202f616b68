//! DeformableConvolution: a convolution whose taps another input moves.

use std::ops::RangeInclusive;

use super::attributes::{Attributes, word_of};
use super::convolution::{AUTO_PAD, output_shape, parse_attributes, resolve};
use super::support::{self, Input};
use crate::error::{OpError, bail};
use crate::graph::{Dim, OutputInfo};
use crate::op::{ConvAttrs, Op};
use crate::operation::Operation;
use crate::tensor::Tensor;

/// DeformableConvolution-1/8: data `[N, C, H, W]`, offsets `[N, DG * KH * KW * 2, OH, OW]` (rows, then columns, of each tap),
/// weights `[OC, C / group, KH, KW]`, optional mask `[N, DG * KH * KW, OH, OW]` of factors. Pixels between pixels are
/// interpolated; channels are in `DG` groups with offsets of their own.
#[derive(Debug, Clone)]
struct Deformable {
    conv: ConvAttrs,
    group: usize,
    deformable_group: usize,
    /// Zeros around the image take part in interpolation; otherwise what begins outside is zero altogether.
    pad_with_zeros: bool,
}

/// Reads an operation of this family; `None` if it is of another.
pub(crate) fn parse(a: &Attributes) -> Result<Option<Op>, OpError> {
    if a.kind != "DeformableConvolution" {
        return Ok(None);
    }
    let (group, deformable_group) = (a.size("group", Some(1))?, a.size("deformable_group", Some(1))?);
    let conv = parse_attributes(a)?;
    if group == 0 || deformable_group == 0 || conv.strides.len() != 2 {
        bail!("expected two spatial axes and at least one group");
    }
    Ok(Some(Op::standard(Deformable {
        conv,
        group,
        deformable_group,
        pad_with_zeros: a.flag("bilinear_interpolation_pad", Some(false))?,
    })))
}

impl Deformable {
    /// The value of a plane at a place between pixels.
    fn sample(&self, plane: &[f64], [height, width]: [usize; 2], y: f64, x: f64) -> f64 {
        let (h, w) = (height as f64, width as f64);
        let inside = if self.pad_with_zeros {
            y > -1.0 && x > -1.0 && y < h && x < w
        } else {
            y >= 0.0 && x >= 0.0 && y < h && x < w
        };
        if !inside {
            return 0.0;
        }
        let (top, left) = (y.floor(), x.floor());
        let pixel = |row: f64, column: f64| {
            let (row, column) = if self.pad_with_zeros {
                if row < 0.0 || column < 0.0 || row >= h || column >= w {
                    return 0.0;
                }
                (row, column)
            } else {
                (row.min(h - 1.0), column.min(w - 1.0))
            };
            plane[row as usize * width + column as usize]
        };
        let (dy, dx) = (y - top, x - left);
        pixel(top, left) * (1.0 - dy) * (1.0 - dx)
            + pixel(top, left + 1.0) * (1.0 - dy) * dx
            + pixel(top + 1.0, left) * dy * (1.0 - dx)
            + pixel(top + 1.0, left + 1.0) * dy * dx
    }
}

impl Operation for Deformable {
    fn type_name(&self) -> &'static str {
        "DeformableConvolution"
    }

    fn opset(&self) -> u32 {
        8
    }

    fn attributes(&self) -> Vec<(&'static str, String)> {
        let list = |l: &[usize]| l.iter().map(usize::to_string).collect::<Vec<_>>().join(", ");
        let pads = |l: &[isize]| l.iter().map(isize::to_string).collect::<Vec<_>>().join(", ");
        vec![
            ("strides", list(&self.conv.strides)),
            ("dilations", list(&self.conv.dilations)),
            ("pads_begin", pads(&self.conv.pads_begin)),
            ("pads_end", pads(&self.conv.pads_end)),
            ("auto_pad", word_of(&AUTO_PAD, &self.conv.auto_pad)),
            ("group", self.group.to_string()),
            ("deformable_group", self.deformable_group.to_string()),
            ("bilinear_interpolation_pad", self.pad_with_zeros.to_string()),
        ]
    }

    fn input_count(&self) -> RangeInclusive<usize> {
        3..=4
    }

    fn infer(&self, inputs: &[Input]) -> Result<Vec<OutputInfo>, OpError> {
        let data = &inputs[0];
        support::floats(data, "the data")?;
        for other in &inputs[1..] {
            support::same_type(data, other)?;
        }
        let [batch, channels, ..] = support::dims::<4>(data, "the data")?;
        let [out, per_group, rows, columns] = support::dims::<4>(&inputs[2], "the weights")?;
        let times = |dim: Dim, n: usize| dim.and_then(|d| d.checked_mul(n));
        support::same_dim(
            channels,
            times(per_group, self.group),
            "channels of data and of all groups",
        )?;
        let divides = |dim: Dim, n: usize| dim.is_none_or(|d| d % n == 0);
        if !divides(out, self.group) || !divides(channels, self.deformable_group) {
            bail!("groups do not divide the channels");
        }
        let mut shape = output_shape(&self.conv, data.shape, &[rows, columns], out)?;
        let taps = rows.zip(columns).and_then(|(r, c)| r.checked_mul(c));
        for (input, per_tap, what) in [(1, 2, "the offsets"), (3, 1, "the mask")] {
            let Some(input) = inputs.get(input) else { continue };
            let [n, c, h, w] = support::dims::<4>(input, what)?;
            let wanted = taps.and_then(|t| t.checked_mul(self.deformable_group * per_tap));
            support::same_dim(c, wanted, what)?;
            support::same_dim(n, batch, what)?;
            shape[2] = support::same_dim(shape[2], h, what)?;
            shape[3] = support::same_dim(shape[3], w, what)?;
        }
        Ok(vec![support::output(data.element_type, shape)])
    }

    fn evaluate(&self, inputs: &[Tensor], outputs: &[OutputInfo]) -> Result<Vec<Tensor>, OpError> {
        let shape = support::fixed(&outputs[0])?;
        let [batch, channels, height, width] = support::lengths(&inputs[0], "the data")?;
        let [out, per_group, rows, columns] = support::lengths(&inputs[2], "the weights")?;
        let mut conv = self.conv.clone();
        let shapes = support::shapes(inputs);
        resolve(&mut conv, &shapes[0], &shapes[2][2..]);
        let (data, offsets, weights) = (inputs[0].to_f64(), inputs[1].to_f64(), inputs[2].to_f64());
        let mask = inputs.get(3).map(Tensor::to_f64);
        let (taps, pixels) = (rows * columns, shape[2] * shape[3]);
        let (plane, per_deformable) = (height * width, channels / self.deformable_group);
        let mut sums = vec![0.0; support::product(&shape)];
        for n in 0..batch {
            for pixel in 0..pixels {
                let (y, x) = (pixel / shape[3], pixel % shape[3]);
                for (c, tap) in (0..channels).flat_map(|c| (0..taps).map(move |t| (c, t))) {
                    let at = (n * self.deformable_group + c / per_deformable) * taps + tap;
                    let offset = |i: usize| offsets[(at * 2 + i) * pixels + pixel];
                    let place = |out: usize, tap: usize, axis: usize| {
                        (out * conv.strides[axis] + tap * conv.dilations[axis]) as f64
                            - conv.pads_begin[axis] as f64
                    };
                    let (row, column) = (
                        place(y, tap / columns, 0) + offset(0),
                        place(x, tap % columns, 1) + offset(1),
                    );
                    let image = &data[(n * channels + c) * plane..][..plane];
                    let factor = mask.as_ref().map_or(1.0, |m| m[at * pixels + pixel]);
                    let value = self.sample(image, [height, width], row, column) * factor;
                    let (group, within) = (c / per_group, c % per_group);
                    let per_out = out / self.group;
                    for oc in group * per_out..(group + 1) * per_out {
                        sums[(n * out + oc) * pixels + pixel] +=
                            value * weights[(oc * per_group + within) * taps + tap];
                    }
                }
            }
        }
        Ok(vec![Tensor::from_f64(inputs[0].element_type(), &shape, &sums)?])
    }
}
