//! NMSRotated: suppression of boxes that are turned.

use std::ops::RangeInclusive;

use super::nms::{self, Limits};
use crate::error::OpError;
use crate::graph::OutputInfo;
use crate::op::Op;
use crate::operation::Operation;
use crate::ops::attributes::Attributes;
use crate::ops::support::{self, Input};
use crate::tensor::{ElementType, Tensor};

/// NMSRotated-13: inputs boxes `[N, boxes, 5]` (centre, width, height, angle in radians), scores
/// `[N, classes, boxes]`, the most boxes per class, the overlap from which on a box suppresses another and the score
/// to be exceeded. Outputs as of NonMaxSuppression-9.
#[derive(Debug, Clone)]
struct NmsRotated {
    sort: bool,
    output_type: ElementType,
    clockwise: bool,
}

/// Reads an operation of this family; `None` if it is of another.
pub(super) fn parse(a: &Attributes) -> Result<Option<Op>, OpError> {
    if a.kind != "NMSRotated" {
        return Ok(None);
    }
    Ok(Some(Op::standard(NmsRotated {
        sort: a.flag("sort_result_descending", Some(true))?,
        output_type: a.element_type("output_type", Some(ElementType::I64))?,
        clockwise: a.flag("clockwise", Some(true))?,
    })))
}

type Point = (f64, f64);

/// The corners of a turned box, one after another.
fn corners(b: &[f32], clockwise: bool) -> Vec<Point> {
    let [x, y, width, height, angle] = [0, 1, 2, 3, 4].map(|i| f64::from(b[i]));
    let (sin, cos) = if clockwise { angle } else { -angle }.sin_cos();
    let turned = |dx: f64, dy: f64| (x + dx * cos - dy * sin, y + dx * sin + dy * cos);
    let (w, h) = (width / 2.0, height / 2.0);
    vec![turned(-w, -h), turned(w, -h), turned(w, h), turned(-w, h)]
}

/// Twice the area to the left of `a -> b` that `p` spans.
fn side(a: Point, b: Point, p: Point) -> f64 {
    (b.0 - a.0) * (p.1 - a.1) - (b.1 - a.1) * (p.0 - a.0)
}

/// Area that two convex polygons of one orientation have in common: the first is cut along each edge of the second
/// (Sutherland and Hodgman).
fn common_area(first: &[Point], second: &[Point]) -> f64 {
    let mut polygon = first.to_vec();
    for (i, &a) in second.iter().enumerate() {
        let b = second[(i + 1) % second.len()];
        let mut cut = Vec::with_capacity(polygon.len() + 1);
        for (j, &p) in polygon.iter().enumerate() {
            let q = polygon[(j + 1) % polygon.len()];
            let (at_p, at_q) = (side(a, b, p), side(a, b, q));
            if at_p >= 0.0 {
                cut.push(p);
            }
            if (at_p > 0.0 && at_q < 0.0) || (at_p < 0.0 && at_q > 0.0) {
                let t = at_p / (at_p - at_q);
                cut.push((p.0 + t * (q.0 - p.0), p.1 + t * (q.1 - p.1)));
            }
        }
        polygon = cut;
    }
    let Some(&origin) = polygon.first() else {
        return 0.0;
    };
    let triangles = polygon.windows(2).map(|edge| side(origin, edge[0], edge[1]));
    triangles.sum::<f64>().abs() / 2.0
}

fn iou(a: &[f32], b: &[f32], clockwise: bool) -> f32 {
    let area = |b: &[f32]| f64::from(b[2]) * f64::from(b[3]);
    if area(a) <= 0.0 || area(b) <= 0.0 {
        return 0.0;
    }
    let common = common_area(&corners(a, clockwise), &corners(b, clockwise));
    (common / (area(a) + area(b) - common)) as f32
}

impl Operation for NmsRotated {
    fn type_name(&self) -> &'static str {
        "NMSRotated"
    }

    fn opset(&self) -> u32 {
        13
    }

    fn attributes(&self) -> Vec<(&'static str, String)> {
        vec![
            ("sort_result_descending", self.sort.to_string()),
            ("output_type", self.output_type.to_string()),
            ("clockwise", self.clockwise.to_string()),
        ]
    }

    fn input_count(&self) -> RangeInclusive<usize> {
        5..=5
    }

    fn infer(&self, inputs: &[Input]) -> Result<Vec<OutputInfo>, OpError> {
        nms::infer_outputs(inputs, 5, self.output_type)
    }

    fn evaluate(&self, inputs: &[Tensor], _: &[OutputInfo]) -> Result<Vec<Tensor>, OpError> {
        let [batches, count, _] = support::lengths(&inputs[0], "the boxes")?;
        let [_, classes, _] = support::lengths(&inputs[1], "the scores")?;
        let (boxes, scores) = (inputs[0].to_f32(), inputs[1].to_f32());
        let limits = Limits::new(inputs)?;
        let mut selected = Vec::new();
        for batch in 0..batches {
            let of = |i: usize| &boxes[(batch * count + i) * 5..][..5];
            let overlap = |a: usize, b: usize| iou(of(a), of(b), self.clockwise);
            let scores = &scores[batch * classes * count..][..classes * count];
            selected.extend(limits.select_classes(batch, scores, count, overlap));
        }
        nms::outputs(selected, self.sort, self.output_type, inputs[1].element_type())
    }

    fn decides_lengths(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overlap_of_turned_boxes() {
        let near = |a: &[f32], b: &[f32], expected: f32| {
            let found = iou(a, b, true);
            assert!((found - expected).abs() < 1e-6, "{found} is not {expected}");
        };
        let square = [0.0, 0.0, 2.0, 2.0, 0.0];
        near(&square, &square, 1.0);
        near(&square, &[0.0, 0.0, 2.0, 2.0, std::f32::consts::FRAC_PI_2], 1.0);
        near(&square, &[1.0, 0.0, 2.0, 2.0, 0.0], 1.0 / 3.0);
        near(&square, &[9.0, 0.0, 2.0, 2.0, 0.3], 0.0);
        // A square turned by 45 degrees cuts off four corners: an octagon is left.
        let octagon = 8.0 * (2f32.sqrt() - 1.0);
        near(
            &square,
            &[0.0, 0.0, 2.0, 2.0, std::f32::consts::FRAC_PI_4],
            octagon / (8.0 - octagon),
        );
    }
}
