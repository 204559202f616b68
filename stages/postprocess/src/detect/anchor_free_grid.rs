//! FastestDet's head: one box per cell of a grid, without anchors.
//!
//! Formula: dog-qiuqiu/FastestDet, `utils/tool.py` (BSD-3-Clause): score = objectness^0.6 * class^0.4,
//! centre = (tanh(t) + cell) / grid, size = sigmoid(t).

use flow::error::StageError;
use flow_frame::{BBox, Tensors};

use super::{Found, Request};
use crate::nms::Candidate;
use crate::outputs::{select, tail, view};

/// Channels before the class probabilities: objectness, x, y, width, height.
const HEAD: usize = 5;

pub(super) fn decode(
    tensors: &Tensors,
    request: &Request<'_>,
    found: &mut Found<'_>,
) -> Result<(), StageError> {
    let key = request.config.outputs.boxes.as_ref();
    let fits = |shape: &[usize]| matches!(tail(shape), Some([c, _, _]) if c > HEAD);
    let (name, tensor) = select(tensors, key, fits, "the grid", "[1,5+C,H,W]", "outputs.boxes")?;
    let output = view(name, tensor)?;
    let Some([channels, rows, columns]) = output.tail() else {
        return Err(output.wrong_shape("[1,5+C,H,W]", "outputs.boxes"));
    };
    if channels <= HEAD || rows == 0 || columns == 0 {
        return Err(output.wrong_shape("[1,5+C,H,W] with at least one class", "outputs.boxes"));
    }
    let (unit_x, unit_y) = request.unit;
    let threshold = found.threshold;
    let passes = |score| score >= threshold;
    anchor_free_grid(&output.values, rows, columns, passes, |mut c| {
        c.bbox.x1 *= unit_x;
        c.bbox.y1 *= unit_y;
        c.bbox.x2 *= unit_x;
        c.bbox.y2 *= unit_y;
        found.push(c);
    });
    Ok(())
}

/// Gives the box of each cell whose score passes to `take`, as fractions of the input. `values` is `[5+C, rows, columns]`.
pub fn anchor_free_grid(
    values: &[f32],
    rows: usize,
    columns: usize,
    passes: impl Fn(f32) -> bool,
    mut take: impl FnMut(Candidate),
) {
    let cells = rows * columns;
    for cell in 0..cells {
        let at = |channel: usize| values.get(channel * cells + cell).copied().unwrap_or(f32::NAN);
        let classes = values.get(HEAD * cells..).unwrap_or_default();
        let mut best = (0, f32::NEG_INFINITY);
        for (class, &p) in (0..).zip(classes.iter().skip(cell).step_by(cells)) {
            if p > best.1 {
                best = (class, p);
            }
        }
        let score = at(0).powf(0.6) * best.1.powf(0.4);
        if !passes(score) {
            continue;
        }
        let (row, column) = ((cell / columns) as f32, (cell % columns) as f32);
        let cx = (at(1).tanh() + column) / columns as f32;
        let cy = (at(2).tanh() + row) / rows as f32;
        let (w, h) = (sigmoid(at(3)), sigmoid(at(4)));
        take(Candidate {
            bbox: BBox {
                x1: cx - w / 2.0,
                y1: cy - h / 2.0,
                x2: cx + w / 2.0,
                y2: cy + h / 2.0,
            },
            class: best.0,
            score,
        });
    }
}

fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}
