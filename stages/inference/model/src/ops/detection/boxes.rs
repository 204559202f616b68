//! Boxes by their corners, and how they suppress each other.

use std::cmp::Ordering;

use crate::error::{OpError, bail};

/// `[x1, y1, x2, y2]`.
pub(super) type Corners = [f32; 4];

/// Box `index` of a list of four numbers each.
pub(super) fn corners(values: &[f32], index: usize) -> Corners {
    [0, 1, 2, 3].map(|i| values[index * 4 + i])
}

/// Area; 0 where a corner is on the wrong side. `pixel` is 1 where corners are pixels that belong to the box,
/// else 0.
pub(super) fn area(b: &Corners, pixel: f32) -> f32 {
    if b[2] < b[0] || b[3] < b[1] {
        return 0.0;
    }
    (b[2] - b[0] + pixel) * (b[3] - b[1] + pixel)
}

/// Intersection over union; 0 for boxes that lie apart or have no area.
pub(super) fn iou(a: &Corners, b: &Corners, pixel: f32) -> f32 {
    if b[0] > a[2] || b[2] < a[0] || b[1] > a[3] || b[3] < a[1] {
        return 0.0;
    }
    iou_of_near(a, b, pixel)
}

/// Intersection over union in which boxes less than a pixel apart meet.
pub(super) fn iou_of_near(a: &Corners, b: &Corners, pixel: f32) -> f32 {
    let (area_a, area_b) = (area(a, pixel), area(b, pixel));
    if area_a <= 0.0 || area_b <= 0.0 {
        return 0.0;
    }
    let width = (a[2].min(b[2]) - a[0].max(b[0]) + pixel).max(0.0);
    let height = (a[3].min(b[3]) - a[1].max(b[1]) + pixel).max(0.0);
    let common = width * height;
    common / (area_a + area_b - common)
}

/// Those of the candidates, best first, that no better one suppresses; at most `limit`.
pub(super) fn greedy(
    candidates: impl IntoIterator<Item = usize>,
    limit: usize,
    suppresses: impl Fn(usize, usize) -> bool,
) -> Vec<usize> {
    let mut kept: Vec<usize> = Vec::new();
    for candidate in candidates {
        if kept.len() >= limit {
            break;
        }
        if !kept.iter().any(|&better| suppresses(better, candidate)) {
            kept.push(candidate);
        }
    }
    kept
}

/// Higher scores first, what is no number last.
pub(super) fn descending(a: f32, b: f32) -> Ordering {
    b.partial_cmp(&a).unwrap_or_else(|| a.is_nan().cmp(&b.is_nan()))
}

/// A count of which -1 means no limit.
pub(super) fn limit(count: i64) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}

/// The place of a batch entry that a region names.
pub(super) fn batch_of(value: f32, batches: usize) -> Result<usize, OpError> {
    if value >= 0.0 && (value as usize) < batches {
        return Ok(value as usize);
    }
    bail!("a region belongs to batch entry {value}, of which there are {batches}")
}

/// Moves and scales a box by deltas `[dx, dy, ln dw, ln dh]` relative to its centre and size; the logarithms are
/// cut at `max_log`.
pub(super) fn refine(b: &Corners, deltas: [f32; 4], max_log: f32, pixel: f32) -> Corners {
    let (width, height) = (b[2] - b[0] + pixel, b[3] - b[1] + pixel);
    let (x, y) = (b[0] + 0.5 * width, b[1] + 0.5 * height);
    let (x, y) = (deltas[0] * width + x, deltas[1] * height + y);
    let width = deltas[2].min(max_log).exp() * width;
    let height = deltas[3].min(max_log).exp() * height;
    [
        x - 0.5 * width,
        y - 0.5 * height,
        x + 0.5 * width - pixel,
        y + 0.5 * height - pixel,
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overlap_of_boxes() {
        let unit = [0.0, 0.0, 1.0, 1.0];
        assert_eq!(iou(&unit, &unit, 0.0), 1.0);
        assert_eq!(iou(&unit, &[0.5, 0.0, 1.5, 1.0], 0.0), 1.0 / 3.0);
        assert_eq!(iou(&unit, &[2.0, 0.0, 3.0, 1.0], 0.0), 0.0);
        assert_eq!(iou(&unit, &[1.0, 1.0, 0.0, 0.0], 0.0), 0.0);
        // Pixels: a box of 2x2 and one of 1x1 inside it.
        assert_eq!(iou(&unit, &[1.0, 1.0, 1.0, 1.0], 1.0), 0.25);
        let beside = [1.5, 0.0, 2.5, 1.0];
        assert_eq!(iou(&unit, &beside, 1.0), 0.0);
        assert!(iou_of_near(&unit, &beside, 1.0) > 0.0);
    }

    #[test]
    fn a_suppressed_box_suppresses_none() {
        // 0 suppresses 1, 1 would suppress 2.
        let kept = greedy(0..4, usize::MAX, |a, b| (a, b) == (0, 1) || (a, b) == (1, 2));
        assert_eq!(kept, [0, 2, 3]);
        assert_eq!(greedy(0..4, 2, |_, _| false), [0, 1]);
    }
}
