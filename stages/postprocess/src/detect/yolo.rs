//! The YOLO family's heads with boxes already decoded to centre and size.

use flow::error::StageError;
use flow_frame::{BBox, Tensors};

use super::{Found, Request};
use crate::nms::Candidate;
use crate::outputs::{Output, select, tail, view};

fn output<'a>(
    tensors: &'a Tensors,
    request: &Request<'_>,
    fits: impl Fn([usize; 2]) -> bool,
    shape: &str,
) -> Result<(Output<'a>, [usize; 2]), StageError> {
    let key = request.config.outputs.boxes.as_ref();
    let fitting = |shape: &[usize]| tail(shape).filter(|axes| fits(*axes));
    let (name, tensor) = select(
        tensors,
        key,
        |s| fitting(s).is_some(),
        "boxes",
        shape,
        "outputs.boxes",
    )?;
    let output = view(name, tensor)?;
    match fitting(output.shape) {
        Some(axes) => Ok((output, axes)),
        None => Err(output.wrong_shape(shape, "outputs.boxes")),
    }
}

fn bbox((unit_x, unit_y): (f32, f32), cx: f32, cy: f32, w: f32, h: f32) -> BBox {
    BBox {
        x1: (cx - w / 2.0) * unit_x,
        y1: (cy - h / 2.0) * unit_y,
        x2: (cx + w / 2.0) * unit_x,
        y2: (cy + h / 2.0) * unit_y,
    }
}

/// `[1,N,5+C]`; score = objectness * class probability; the best class of each box counts.
pub(super) fn decode_v5(
    tensors: &Tensors,
    request: &Request<'_>,
    found: &mut Found<'_>,
) -> Result<(), StageError> {
    let fits = |[_, columns]: [usize; 2]| columns > 5;
    let (output, [_, columns]) = output(tensors, request, fits, "[1,N,5+C]")?;
    for row in output.values.chunks_exact(columns) {
        if !found.passes(row[4]) {
            continue;
        }
        let mut best = (0, f32::NEG_INFINITY);
        for (class, &p) in (0..).zip(&row[5..]) {
            if p > best.1 {
                best = (class, p);
            }
        }
        found.push(Candidate {
            bbox: bbox(request.unit, row[0], row[1], row[2], row[3]),
            class: best.0,
            score: row[4] * best.1,
        });
    }
    Ok(())
}

/// Boxes whose classes are compared at a time.
const AT_ONCE: usize = 256;

/// `[1,4+C,N]`; score = best class probability.
pub(super) fn decode_v8(
    tensors: &Tensors,
    request: &Request<'_>,
    found: &mut Found<'_>,
) -> Result<(), StageError> {
    let fits = |[rows, _]: [usize; 2]| rows > 4;
    let (output, [_, n]) = output(tensors, request, fits, "[1,4+C,N]")?;
    if n == 0 {
        return Ok(());
    }
    // Class by class, as the values lie in memory, some boxes at a time.
    let v = &output.values;
    for first in (0..n).step_by(AT_ONCE) {
        let count = AT_ONCE.min(n - first);
        let mut best = [(0_u32, f32::NEG_INFINITY); AT_ONCE];
        for (class, scores) in (0..).zip(v[4 * n..].chunks_exact(n)) {
            for (b, &p) in best.iter_mut().zip(&scores[first..first + count]) {
                if p > b.1 {
                    *b = (class, p);
                }
            }
        }
        for (i, (class, score)) in (first..first + count).zip(best) {
            if found.passes(score) {
                found.push(Candidate {
                    bbox: bbox(request.unit, v[i], v[n + i], v[2 * n + i], v[3 * n + i]),
                    class,
                    score,
                });
            }
        }
    }
    Ok(())
}
