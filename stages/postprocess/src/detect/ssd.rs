//! Box offsets against priors: SSD, RetinaFace and their kin.
//!
//! Formula: Liu et al., SSD (arXiv 1512.02325), with the variances of its Caffe implementation: centre =
//! prior centre + offset * variance * prior size, size = prior size * exp(offset * variance).

use flow::error::StageError;
use flow_frame::{BBox, Tensors};
use schemars::JsonSchema;
use serde::Deserialize;

use super::{Found, Request, decoded_boxes};
use crate::classify::softmax;
use crate::outputs::{select, tail, view};

/// How scores become probabilities.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, serde::Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// They are probabilities.
    #[default]
    None,
    /// Each by itself.
    Sigmoid,
    /// Over the classes of a box.
    Softmax,
}

/// Priors laid out on grids: for each feature map, each cell, each size one square, centred in the cell.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PriorGrid {
    /// Input pixels per cell of each feature map, such as `[8, 16, 32, 64]`.
    pub steps: Vec<u32>,
    /// Sides in input pixels of the squares of each feature map, such as `[[10, 16, 24], [32, 48]]`.
    pub min_sizes: Vec<Vec<f32>>,
}

/// Boxes as centre x, centre y, width, height in fractions of the input.
pub struct Priors(Vec<f32>);

/// Largest number of priors that are laid out.
const MAX_PRIORS: usize = 1 << 20;

impl PriorGrid {
    /// What is wrong with it, if something is.
    pub(super) fn fault(&self) -> Option<String> {
        if self.steps.is_empty() || self.steps.len() != self.min_sizes.len() {
            return Some(format!(
                "{} steps, {} lists of sizes",
                self.steps.len(),
                self.min_sizes.len()
            ));
        }
        let sound = |v: &f32| v.is_finite() && *v > 0.0;
        let good = self.steps.iter().all(|s| *s > 0)
            && self
                .min_sizes
                .iter()
                .all(|m| !m.is_empty() && m.iter().all(sound));
        (!good).then(|| "a step or size is not above 0".into())
    }

    /// The priors of an input of `width` x `height` pixels; `None` if there are more than a million.
    pub fn lay_out(&self, width: f32, height: f32) -> Option<Priors> {
        let mut all = Vec::new();
        for (&step, sizes) in self.steps.iter().zip(&self.min_sizes) {
            let columns = (width / step as f32).ceil();
            let rows = (height / step as f32).ceil();
            let count = rows as usize * columns as usize * sizes.len();
            if all.len() / 4 + count > MAX_PRIORS {
                return None;
            }
            for row in 0..rows as usize {
                for column in 0..columns as usize {
                    for size in sizes {
                        let cx = (column as f32 + 0.5) / columns;
                        let cy = (row as f32 + 0.5) / rows;
                        all.extend([cx, cy, size / width, size / height]);
                    }
                }
            }
        }
        Some(Priors(all))
    }
}

/// Priors and, where they state them, their variances: four numbers each.
struct Known {
    priors: Priors,
    variances: Option<Vec<f32>>,
}

pub(super) fn decode(
    tensors: &Tensors,
    request: &Request<'_>,
    found: &mut Found<'_>,
) -> Result<(), StageError> {
    let config = request.config;
    let (mut boxes, mut scores) = decoded_boxes::pair(tensors, request)?;
    let rows = boxes.values.len() / 4;
    let known = match &config.priors {
        Some(grid) => grid
            .lay_out(request.input.0, request.input.1)
            .map(|priors| Known {
                priors,
                variances: None,
            }),
        None => Some(given(tensors, request, rows)?),
    };
    let Some(known) = known.filter(|k| k.priors.0.len() == rows * 4) else {
        return Err(boxes.wrong_shape("one row for each prior that `priors` describes", "outputs.boxes"));
    };
    let classes = scores.values.len().checked_div(rows).unwrap_or(0);
    if classes == 0 {
        return Ok(());
    }
    match config.activation.unwrap_or_default() {
        Activation::None => {}
        Activation::Sigmoid => {
            for v in scores.values.to_mut() {
                *v = 1.0 / (1.0 + (-*v).exp());
            }
        }
        Activation::Softmax => scores.values.to_mut().chunks_exact_mut(classes).for_each(softmax),
    }
    let stated = config.variances.unwrap_or([0.1, 0.1, 0.2, 0.2]);
    let per_box = known.variances.filter(|_| config.variances.is_none());
    for (i, (offset, prior)) in boxes
        .values
        .to_mut()
        .chunks_exact_mut(4)
        .zip(known.priors.0.chunks_exact(4))
        .enumerate()
    {
        let variance = match &per_box {
            Some(v) => &v[4 * i..][..4],
            None => &stated[..],
        };
        let corners = apply(offset, prior, variance, request.unit);
        offset.copy_from_slice(&corners);
    }
    decoded_boxes::each_score(&boxes, &scores, request, found, |b| BBox {
        x1: b[0],
        y1: b[1],
        x2: b[2],
        y2: b[3],
    })
}

/// Corners of the box that `offset` makes of `prior`.
fn apply(offset: &[f32], prior: &[f32], variance: &[f32], (unit_x, unit_y): (f32, f32)) -> [f32; 4] {
    let cx = prior[0] + offset[0] * variance[0] * prior[2];
    let cy = prior[1] + offset[1] * variance[1] * prior[3];
    let w = prior[2] * (offset[2] * variance[2]).exp();
    let h = prior[3] * (offset[3] * variance[3]).exp();
    [
        (cx - w / 2.0) * unit_x,
        (cy - h / 2.0) * unit_y,
        (cx + w / 2.0) * unit_x,
        (cy + h / 2.0) * unit_y,
    ]
}

/// Priors that the network gives: as PriorBox does, `[1,2,N*4]` (corners, then variances), or `[1,N,4]` corners.
fn given(tensors: &Tensors, request: &Request<'_>, rows: usize) -> Result<Known, StageError> {
    let key = request.config.outputs.priors.as_ref();
    let is_prior_box = |shape: &[usize]| matches!(tail(shape), Some([2, n]) if n == rows * 4);
    let (name, tensor) = select(
        tensors,
        key,
        is_prior_box,
        "priors",
        "[1,2,N*4]",
        "outputs.priors",
    )?;
    let output = view(name, tensor)?;
    let (corners, variances) = match output.tail() {
        Some([2, n]) if n % 4 == 0 => {
            let (corners, variances) = output.values.split_at(n);
            (corners.to_vec(), Some(variances.to_vec()))
        }
        Some([_, 4]) => (output.values.to_vec(), None),
        _ => return Err(output.wrong_shape("[1,2,N*4] or [1,N,4]", "outputs.priors")),
    };
    let centres = corners
        .chunks_exact(4)
        .flat_map(|b| [(b[0] + b[2]) / 2.0, (b[1] + b[3]) / 2.0, b[2] - b[0], b[3] - b[1]])
        .collect();
    Ok(Known {
        priors: Priors(centres),
        variances,
    })
}
