//! Scores `[1,N,C]` and boxes `[1,N,4]` that are final but for suppression.

use flow::error::StageError;
use flow_frame::{BBox, Tensors};

use super::{Found, Request};
use crate::nms::Candidate;
use crate::outputs::{Output, OutputKey, select, tail, view};

pub(super) fn decode(
    tensors: &Tensors,
    request: &Request<'_>,
    found: &mut Found<'_>,
) -> Result<(), StageError> {
    let (boxes, scores) = pair(tensors, request)?;
    let (unit_x, unit_y) = request.unit;
    each_score(&boxes, &scores, request, found, |b| BBox {
        x1: b[0] * unit_x,
        y1: b[1] * unit_y,
        x2: b[2] * unit_x,
        y2: b[3] * unit_y,
    })
}

/// The outputs with boxes `[N,4]` and scores `[N,C]`.
pub(super) fn pair<'a>(
    tensors: &'a Tensors,
    request: &Request<'_>,
) -> Result<(Output<'a>, Output<'a>), StageError> {
    let keys = &request.config.outputs;
    let place = |key: &OutputKey| match key {
        OutputKey::Index(i) => Some(*i as usize),
        OutputKey::Name(name) => tensors.items.iter().position(|(n, _)| **n == **name),
    };
    let is_box = |shape: &[usize]| matches!(tail(shape), Some([_, 4]));
    // Two outputs of which one is known need no shape to tell the other.
    let other = |key: Option<&OutputKey>| match (key.and_then(place), tensors.items.len()) {
        (Some(known @ 0..2), 2) => Some(OutputKey::Index(1 - known as u32)),
        _ => None,
    };
    let other_boxes = other(keys.scores.as_ref());
    let (name, tensor) = select(
        tensors,
        keys.boxes.as_ref().or(other_boxes.as_ref()),
        is_box,
        "boxes",
        "[1,N,4]",
        "outputs.boxes",
    )?;
    let boxes = view(name, tensor)?;
    let Some([rows, 4]) = boxes.tail() else {
        return Err(boxes.wrong_shape("[1,N,4]", "outputs.boxes"));
    };
    let mut items = tensors.items.iter();
    let chosen = items.position(|(_, of)| std::ptr::eq(of, tensor));
    let chosen = chosen
        .and_then(|place| u32::try_from(place).ok())
        .map(OutputKey::Index);
    let other_scores = other(chosen.as_ref());
    let is_score = |shape: &[usize]| matches!(tail(shape), Some([n, c]) if n == rows && c != 4);
    let (name, tensor) = select(
        tensors,
        keys.scores.as_ref().or(other_scores.as_ref()),
        is_score,
        "scores",
        "[1,N,C]",
        "outputs.scores",
    )?;
    let scores = view(name, tensor)?;
    match scores.tail() {
        Some([n, _]) if n == rows => Ok((boxes, scores)),
        _ if scores.tail() == Some([rows]) => Ok((boxes, scores)),
        _ => Err(scores.wrong_shape(&format!("[1,{rows},C]"), "outputs.scores")),
    }
}

/// Gives a candidate for each score that passes, its box made of the row of four that `to_box` gets.
pub(super) fn each_score(
    boxes: &Output<'_>,
    scores: &Output<'_>,
    request: &Request<'_>,
    found: &mut Found<'_>,
    to_box: impl Fn(&[f32]) -> BBox,
) -> Result<(), StageError> {
    let rows = boxes.values.len() / 4;
    let classes = scores.values.len().checked_div(rows).unwrap_or(0);
    if classes == 0 {
        return Ok(());
    }
    found.classes = classes;
    found.background = request.background_of(classes);
    for (b, row) in boxes
        .values
        .chunks_exact(4)
        .zip(scores.values.chunks_exact(classes))
    {
        for (class, &score) in (0..).zip(row) {
            if found.passes(score) && Some(class) != found.background {
                let bbox = to_box(b);
                found.push(Candidate { bbox, class, score });
            }
        }
    }
    Ok(())
}
