//! OpenVINO's DetectionOutput: a finished list `[1,1,N,7]` of image, class, score, x1, y1, x2, y2.

use flow::error::StageError;
use flow_frame::{BBox, Tensors};

use super::{Found, Request};
use crate::nms::Candidate;
use crate::outputs::{select, tail, view};

pub(super) fn decode(
    tensors: &Tensors,
    request: &Request<'_>,
    found: &mut Found<'_>,
) -> Result<(), StageError> {
    let key = request.config.outputs.boxes.as_ref();
    let fits = |shape: &[usize]| matches!(tail(shape), Some([_, 7]));
    let (name, tensor) = select(tensors, key, fits, "detections", "[1,1,N,7]", "outputs.boxes")?;
    let output = view(name, tensor)?;
    if !fits(output.shape) {
        return Err(output.wrong_shape("[1,1,N,7]", "outputs.boxes"));
    }
    let (unit_x, unit_y) = request.unit;
    for row in output.values.chunks_exact(7) {
        // An image index below 0 ends the list; NaN is no index either.
        if row[0].is_nan() || row[0] < 0.0 {
            break;
        }
        if row[1].is_nan() || row[1] < 0.0 {
            continue;
        }
        found.push(Candidate {
            bbox: BBox {
                x1: row[3] * unit_x,
                y1: row[4] * unit_y,
                x2: row[5] * unit_x,
                y2: row[6] * unit_y,
            },
            class: row[1] as u32,
            score: row[2],
        });
    }
    Ok(())
}
