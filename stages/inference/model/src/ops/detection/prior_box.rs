//! PriorBox: the default boxes of SSD.

use std::ops::RangeInclusive;

use crate::error::{OpError, bail};
use crate::graph::{Dim, OutputInfo};
use crate::op::Op;
use crate::operation::Operation;
use crate::ops::attributes::Attributes;
use crate::ops::support::{self, Input};
use crate::tensor::{ElementType, Tensor};

/// PriorBox-1/8: inputs size of the feature map `[2]` (height, width) and of the image `[2]`. Output
/// `[2, height * width * boxes * 4]`: corners relative to the image, and variances.
#[derive(Debug, Clone)]
struct PriorBox {
    min_size: Vec<f32>,
    max_size: Vec<f32>,
    aspect_ratio: Vec<f32>,
    density: Vec<f32>,
    fixed_ratio: Vec<f32>,
    fixed_size: Vec<f32>,
    clip: bool,
    flip: bool,
    step: f32,
    offset: f32,
    variance: Vec<f32>,
    scale_all_sizes: bool,
    /// Order of the boxes: minimum, maximum, ratios rather than minimum, ratios, maximum.
    min_max_first: bool,
    opset: u32,
}

/// Reads an operation of this family; `None` if it is of another.
pub(super) fn parse(a: &Attributes) -> Result<Option<Op>, OpError> {
    if a.kind != "PriorBox" {
        return Ok(None);
    }
    let list = |name: &str| a.list::<f32>(name, Some(&[]));
    let prior_box = PriorBox {
        min_size: list("min_size")?,
        max_size: list("max_size")?,
        aspect_ratio: list("aspect_ratio")?,
        density: list("density")?,
        fixed_ratio: list("fixed_ratio")?,
        fixed_size: list("fixed_size")?,
        clip: a.flag("clip", Some(false))?,
        flip: a.flag("flip", Some(false))?,
        step: a.float("step", Some(0.0))?,
        offset: a.float("offset", None)?,
        variance: list("variance")?,
        scale_all_sizes: a.flag("scale_all_sizes", Some(true))?,
        min_max_first: a.flag("min_max_aspect_ratios_order", Some(true))?,
        opset: if a.opset < 8 { 1 } else { 8 },
    };
    prior_box.check()?;
    Ok(Some(Op::standard(prior_box)))
}

/// A box around a place: centre, half its size, and whether it is cut at the image.
struct Around {
    x: f32,
    y: f32,
    half_width: f32,
    half_height: f32,
    cut: bool,
}

impl PriorBox {
    fn check(&self) -> Result<(), OpError> {
        let positive = |v: &f32| v.is_finite() && *v > 0.0;
        if !self.aspect_ratio.iter().chain(&self.fixed_ratio).all(positive) {
            bail!("attributes `aspect_ratio` and `fixed_ratio`: expected numbers above 0");
        }
        let plain = self.fixed_ratio.is_empty() && self.density.is_empty() && self.ratios().len() == 1;
        if self.density.len() < self.fixed_size.len() && !plain {
            bail!("attribute `density`: expected one number for each of `fixed_size`");
        }
        if !self.density.iter().all(|d| (1.0..=64.0).contains(d)) {
            bail!("attribute `density`: expected numbers from 1 to 64");
        }
        if ![0, 1, 4].contains(&self.variance.len()) {
            bail!(
                "attribute `variance`: expected 0, 1 or 4 numbers, found {}",
                self.variance.len()
            );
        }
        Ok(())
    }

    /// Width over height of the boxes, 1 first, each once.
    fn ratios(&self) -> Vec<f32> {
        let mut ratios = vec![1.0f32];
        for &ratio in &self.aspect_ratio {
            if ratios.iter().all(|r| (ratio - r).abs() >= 1e-6) {
                ratios.push(ratio);
                if self.flip {
                    ratios.push(1.0 / ratio);
                }
            }
        }
        ratios
    }

    /// Boxes per place as OpenVINO counts them, which with `fixed_ratio` may be fewer than there are: then the
    /// last boxes are cut off.
    fn count(&self) -> usize {
        let ratios = self.ratios().len();
        let mut count = if !self.fixed_size.is_empty() {
            ratios * self.fixed_size.len()
        } else if self.scale_all_sizes {
            ratios * self.min_size.len() + self.max_size.len()
        } else {
            (ratios + self.min_size.len()).saturating_sub(1)
        };
        let each = if self.fixed_ratio.is_empty() {
            ratios
        } else {
            self.fixed_ratio.len()
        };
        for density in &self.density {
            let density = *density as usize;
            count += each * (density * density - 1);
        }
        count
    }

    /// A grid of boxes of one fixed size.
    fn dense(&self, size: usize, ratio: Option<f32>, center: (f32, f32), boxes: &mut Vec<Around>) {
        let fixed = self.fixed_size[size];
        let density = self.density.get(size).map_or(1, |d| *d as usize);
        let shift = (fixed / density as f32) as i64 as f32;
        let (half_width, half_height) = match ratio {
            Some(ratio) => (fixed * 0.5 * ratio.sqrt(), fixed * 0.5 / ratio.sqrt()),
            None => (fixed.trunc() * 0.5, fixed.trunc() * 0.5),
        };
        // The corner of the grid lies on a whole pixel.
        let half = (fixed as usize / 2) as f32;
        for row in 0..density {
            for column in 0..density {
                boxes.push(Around {
                    x: center.0 - half + shift / 2.0 + column as f32 * shift,
                    y: center.1 - half + shift / 2.0 + row as f32 * shift,
                    half_width,
                    half_height,
                    cut: true,
                });
            }
        }
    }

    /// The boxes around one place, given minimum sizes in pixels.
    fn around(&self, center: (f32, f32), min_size: &[f32]) -> Vec<Around> {
        let mut boxes = Vec::new();
        let ratios = self.ratios();
        for size in 0..self.fixed_size.len() {
            if !self.fixed_ratio.is_empty() {
                for &ratio in &self.fixed_ratio {
                    self.dense(size, Some(ratio), center, &mut boxes);
                }
                continue;
            }
            if !self.density.is_empty() {
                self.dense(size, None, center, &mut boxes);
            }
            for &ratio in &ratios[1..] {
                self.dense(size, Some(ratio), center, &mut boxes);
            }
        }
        let centred = |half_width: f32, half_height: f32| Around {
            x: center.0,
            y: center.1,
            half_width,
            half_height,
            cut: false,
        };
        for (i, &min) in min_size.iter().enumerate() {
            boxes.push(centred(min * 0.5, min * 0.5));
            let largest = self.max_size.get(i).map(|max| (min * max).sqrt() * 0.5);
            let largest = largest.map(|half| centred(half, half));
            let of_ratios = if self.scale_all_sizes {
                Some(min)
            } else if i + 1 == min_size.len() {
                Some(min_size[0])
            } else {
                None
            };
            let others = of_ratios.into_iter().flat_map(|size| {
                let of_ratio = move |ratio: &f32| (size * 0.5 * ratio.sqrt(), size * 0.5 / ratio.sqrt());
                ratios[1..].iter().map(of_ratio)
            });
            let others = others.map(|(width, height)| centred(width, height));
            if self.min_max_first {
                boxes.extend(largest.into_iter().chain(others));
            } else {
                boxes.extend(others.chain(largest));
            }
        }
        boxes
    }
}

/// Height and width in a tensor of two numbers.
pub(super) fn size(values: &[i64], what: &str) -> Result<(usize, usize), OpError> {
    match *values {
        [height, width] => match (usize::try_from(height), usize::try_from(width)) {
            (Ok(height), Ok(width)) => Ok((height, width)),
            _ => bail!("{what}: expected lengths of 0 or more, found {height} and {width}"),
        },
        _ => bail!(
            "{what}: expected height and width, found {} numbers",
            values.len()
        ),
    }
}

/// Type and shape of the output for so many boxes per place.
pub(super) fn infer_grid(inputs: &[Input], boxes: usize) -> Result<Vec<OutputInfo>, OpError> {
    support::integers(&inputs[0], "the size of the feature map")?;
    support::integers(&inputs[1], "the size of the image")?;
    let length: Dim = match inputs[0].integers() {
        None => None,
        Some(values) => {
            let (height, width) = size(&values, "the size of the feature map")?;
            let length = height
                .checked_mul(width)
                .and_then(|n| n.checked_mul(boxes)?.checked_mul(4));
            match length {
                Some(length) => Some(length),
                None => bail!("{height} x {width} places with {boxes} boxes each are too many"),
            }
        }
    };
    Ok(vec![support::output(ElementType::F32, vec![Some(2), length])])
}

/// Boxes and variances as the output holds them.
pub(super) fn grid_output(mut boxes: Vec<f32>, variance: &[f32]) -> Result<Vec<Tensor>, OpError> {
    let length = boxes.len();
    let one = [variance.first().copied().unwrap_or(0.1)];
    let cycle = if variance.len() == 4 { variance } else { &one };
    boxes.extend((0..length).map(|i| cycle[i % cycle.len()]));
    Ok(vec![Tensor::from_slice(&[2, length], &boxes)?])
}

impl Operation for PriorBox {
    fn type_name(&self) -> &'static str {
        "PriorBox"
    }

    fn opset(&self) -> u32 {
        self.opset
    }

    fn attributes(&self) -> Vec<(&'static str, String)> {
        let list = |values: &[f32]| values.iter().map(f32::to_string).collect::<Vec<_>>().join(",");
        let mut attributes = vec![
            ("min_size", list(&self.min_size)),
            ("max_size", list(&self.max_size)),
            ("aspect_ratio", list(&self.aspect_ratio)),
            ("density", list(&self.density)),
            ("fixed_ratio", list(&self.fixed_ratio)),
            ("fixed_size", list(&self.fixed_size)),
            ("clip", self.clip.to_string()),
            ("flip", self.flip.to_string()),
            ("step", self.step.to_string()),
            ("offset", self.offset.to_string()),
            ("variance", list(&self.variance)),
            ("scale_all_sizes", self.scale_all_sizes.to_string()),
        ];
        if self.opset >= 8 {
            attributes.push(("min_max_aspect_ratios_order", self.min_max_first.to_string()));
        }
        attributes
    }

    fn input_count(&self) -> RangeInclusive<usize> {
        2..=2
    }

    fn infer(&self, inputs: &[Input]) -> Result<Vec<OutputInfo>, OpError> {
        infer_grid(inputs, self.count())
    }

    fn evaluate(&self, inputs: &[Tensor], outputs: &[OutputInfo]) -> Result<Vec<Tensor>, OpError> {
        let (height, width) = size(&inputs[0].to_i64(), "the size of the feature map")?;
        let (image_height, image_width) = size(&inputs[1].to_i64(), "the size of the image")?;
        // The size of the feature map is no axis: it is bounded only where there are boxes.
        if support::fixed(&outputs[0])?.contains(&0) {
            return grid_output(Vec::new(), &self.variance);
        }
        let (image_height, image_width) = (image_height as f32, image_width as f32);
        let mut step = self.step;
        let mut min_size = self.min_size.clone();
        if !self.scale_all_sizes {
            // Sizes and step are relative to the image.
            step = if step == -1.0 {
                image_height / height as f32
            } else {
                step * image_height
            };
            min_size.iter_mut().for_each(|size| *size *= image_height);
        }
        let (scale_x, scale_y) = (1.0 / image_width, 1.0 / image_height);
        let mut boxes = Vec::new();
        for row in 0..height {
            for column in 0..width {
                let (x, y) = (column as f32, row as f32);
                let center = if step == 0.0 {
                    let (step_x, step_y) = (image_width / width as f32, image_height / height as f32);
                    ((x + 0.5) * step_x, (y + 0.5) * step_y)
                } else {
                    ((self.offset + x) * step, (self.offset + y) * step)
                };
                for b in self.around(center, &min_size) {
                    let mut corners = [
                        (b.x - b.half_width) * scale_x,
                        (b.y - b.half_height) * scale_y,
                        (b.x + b.half_width) * scale_x,
                        (b.y + b.half_height) * scale_y,
                    ];
                    if b.cut {
                        corners = [
                            corners[0].max(0.0),
                            corners[1].max(0.0),
                            corners[2].min(1.0),
                            corners[3].min(1.0),
                        ];
                    }
                    boxes.extend(corners.map(|c| if self.clip { c.clamp(0.0, 1.0) } else { c }));
                }
            }
        }
        boxes.resize(height * width * self.count() * 4, 0.0);
        grid_output(boxes, &self.variance)
    }
}
