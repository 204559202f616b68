//! Mean average precision, as COCO defines it.

use std::collections::BTreeMap;

use flow_frame::Detection;

use super::same_class;

/// Points of recall at which precision is read.
const POINTS: usize = 101;

/// Average precision over frames: for each class the mean of the best precision at 101 points of recall from 0 to 1; the
/// mean over classes that are truly there, and over thresholds of the intersection over union.
///
/// COCO's evaluation (`pycocotools`), without its limits on sizes and numbers of boxes and without crowds.
#[derive(Debug)]
pub struct MeanAveragePrecision {
    thresholds: Vec<f32>,
    classes: BTreeMap<String, Class>,
}

#[derive(Debug, Default)]
struct Class {
    truth: u64,
    /// Scores of detections, and for each threshold whether it matches a true box.
    found: Vec<(f32, Vec<bool>)>,
}

impl Default for MeanAveragePrecision {
    /// COCO's thresholds: 0.50, 0.55, .. 0.95.
    fn default() -> Self {
        Self::at((0..10).map(|i| 0.5 + 0.05 * i as f32).collect())
    }
}

impl MeanAveragePrecision {
    /// At these thresholds of the intersection over union.
    pub fn at(thresholds: Vec<f32>) -> Self {
        Self {
            thresholds,
            classes: BTreeMap::new(),
        }
    }

    /// Adds a frame. Detections are taken best score first; each takes the true box of its class that it overlaps most
    /// and that is still free, if that overlap is enough.
    pub fn add(&mut self, found: &[Detection], truth: &[Detection]) {
        for t in truth {
            self.class(t).truth += 1;
        }
        let mut found: Vec<&Detection> = found.iter().collect();
        found.sort_by(|a, b| b.score.total_cmp(&a.score));
        let thresholds = self.thresholds.clone();
        let mut taken = vec![vec![false; truth.len()]; thresholds.len()];
        for d in found {
            let mut hits = Vec::with_capacity(thresholds.len());
            for (threshold, taken) in thresholds.iter().zip(&mut taken) {
                let best = truth
                    .iter()
                    .enumerate()
                    .filter(|(i, t)| !taken[*i] && same_class(t, d))
                    .map(|(i, t)| (i, t.bbox.iou(&d.bbox)))
                    .filter(|(_, overlap)| overlap >= threshold)
                    .max_by(|a, b| a.1.total_cmp(&b.1));
                hits.push(best.is_some());
                if let Some((i, _)) = best {
                    taken[i] = true;
                }
            }
            self.class(d).found.push((d.score, hits));
        }
    }

    fn class(&mut self, d: &Detection) -> &mut Class {
        let name = match &*d.label {
            "" => d.class.to_string(),
            label => label.to_owned(),
        };
        self.classes.entry(name).or_default()
    }

    /// The mean, from 0 to 1. Where nothing is truly there: 1 if nothing was found, else 0.
    pub fn value(&mut self) -> f64 {
        let (mut sum, mut count) = (0.0, 0usize);
        let mut any = false;
        for class in self.classes.values_mut() {
            any |= !class.found.is_empty();
            if class.truth == 0 {
                continue;
            }
            class.found.sort_by(|a, b| b.0.total_cmp(&a.0));
            for at in 0..self.thresholds.len() {
                let hits = class.found.iter().map(|(_, hits)| hits[at]);
                sum += average_precision(hits, class.truth);
                count += 1;
            }
        }
        match count {
            0 => f64::from(u8::from(!any)),
            _ => sum / count as f64,
        }
    }
}

/// Average precision of detections, best score first, of which `truth` should be hits.
fn average_precision(hits: impl Iterator<Item = bool>, truth: u64) -> f64 {
    let (mut right, mut curve) = (0u64, Vec::new());
    for (found, hit) in (1u64..).zip(hits) {
        right += u64::from(hit);
        curve.push((right as f64 / truth as f64, right as f64 / found as f64));
    }
    // The best precision at this recall or a greater one.
    let mut best = 0.0f64;
    for point in curve.iter_mut().rev() {
        best = best.max(point.1);
        point.1 = best;
    }
    let at = |recall: f64| {
        let place = curve.partition_point(|(r, _)| *r < recall - 1e-9);
        curve.get(place).map_or(0.0, |(_, precision)| *precision)
    };
    (0..POINTS)
        .map(|i| at(i as f64 / (POINTS - 1) as f64))
        .sum::<f64>()
        / POINTS as f64
}

#[cfg(test)]
mod tests {
    use flow_frame::BBox;

    use super::*;

    fn at(x: f32, class: u32, score: f32) -> Detection {
        Detection {
            bbox: BBox {
                x1: x,
                y1: 0.0,
                x2: x + 10.0,
                y2: 10.0,
            },
            class,
            label: "".into(),
            score,
            track: None,
        }
    }

    fn map(frames: &[(&[Detection], &[Detection])], thresholds: &[f32]) -> f64 {
        let mut map = MeanAveragePrecision::at(thresholds.to_vec());
        frames.iter().for_each(|(found, truth)| map.add(found, truth));
        map.value()
    }

    #[test]
    fn what_is_found_as_it_is_scores_one_whatever_weak_boxes_follow() {
        let truth = [at(0.0, 0, 1.0), at(50.0, 1, 1.0)];
        let found = [at(0.0, 0, 0.9), at(50.0, 1, 0.6), at(200.0, 0, 0.1)];
        assert_eq!(map(&[(&found, &truth)], &[0.5, 0.95]), 1.0);
        assert_eq!(map(&[(&[], &[])], &[0.5]), 1.0);
        assert_eq!(map(&[(&found, &[])], &[0.5]), 0.0);
        assert_eq!(map(&[(&[], &truth)], &[0.5]), 0.0);
    }

    #[test]
    fn a_wrong_box_with_a_better_score_costs_precision_and_a_missed_one_recall() {
        let truth = [at(0.0, 0, 1.0), at(50.0, 0, 1.0)];
        // Precision 1/2 up to recall 1/2: of 101 points 51.
        let found = [at(200.0, 0, 0.9), at(0.0, 0, 0.8)];
        assert!((map(&[(&found, &truth)], &[0.5]) - 0.5 * 51.0 / 101.0).abs() < 1e-12);
        // Precision 1 up to recall 1/2, then 2/3.
        let found = [at(0.0, 0, 0.9), at(200.0, 0, 0.8), at(50.0, 0, 0.7)];
        assert!((map(&[(&found, &truth)], &[0.5]) - (51.0 + 50.0 * 2.0 / 3.0) / 101.0).abs() < 1e-12);
        // A second box on the same object is wrong; order is over all frames.
        let found = [at(0.0, 0, 0.9), at(1.0, 0, 0.8)];
        assert!((map(&[(&found, &truth)], &[0.5]) - 51.0 / 101.0).abs() < 1e-12);
    }

    #[test]
    fn a_box_that_is_off_counts_up_to_its_overlap() {
        let truth = [at(0.0, 0, 1.0)];
        // 8 of 12 pixels: 0.67.
        assert_eq!(map(&[(&[at(2.0, 0, 0.9)], &truth)], &[0.5, 0.65, 0.7, 0.95]), 0.5);
        assert_eq!(map(&[(&[at(0.0, 1, 0.9)], &truth)], &[0.5]), 0.0, "another class");
    }
}
