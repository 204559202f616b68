//! The Theil-Sen slope with its confidence interval: a trend that a few outliers do not move.

use serde::Serialize;

/// A slope, in units of y per unit of x.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Trend {
    /// Median of the slopes of all pairs of points.
    pub slope: f64,
    /// Lower end of its 95 % confidence interval.
    pub lower: f64,
    /// Upper end.
    pub upper: f64,
}

/// Most points that are paired, so that the slopes stay below 32,000; more are thinned out evenly.
const MOST: usize = 250;

/// Slope of `points` (x, y) after Theil and Sen; its 95 % confidence interval is that of Sen (1968), from the variance
/// of Kendall's statistic n (n - 1) (2 n + 5) / 18. `None` below 8 points. Points that depend on their neighbours, as
/// memory does, make the interval narrower than it should be.
pub fn theil_sen(points: &[(f64, f64)]) -> Option<Trend> {
    let step = points.len().div_ceil(MOST).max(1);
    let points: Vec<(f64, f64)> = points.iter().copied().step_by(step).collect();
    let count = points.len();
    if count < 8 {
        return None;
    }
    let mut slopes = Vec::with_capacity(count * (count - 1) / 2);
    for (i, (x1, y1)) in points.iter().enumerate() {
        for (x2, y2) in points.iter().skip(i + 1) {
            let slope = (y2 - y1) / (x2 - x1);
            if slope.is_finite() {
                slopes.push(slope);
            }
        }
    }
    slopes.sort_by(f64::total_cmp);
    let n = count as f64;
    // 1.96 is the 97.5 % point of the normal distribution.
    let spread = 1.96 * (n * (n - 1.0) * (2.0 * n + 5.0) / 18.0).sqrt();
    let all = slopes.len() as f64;
    let lower = ((all - spread) / 2.0).floor().max(0.0) as usize;
    let upper = (((all + spread) / 2.0).ceil() as usize).min(slopes.len().checked_sub(1)?);
    let middle = slopes.len() / 2;
    let median = match slopes.len() % 2 {
        1 => *slopes.get(middle)?,
        _ => (slopes.get(middle.checked_sub(1)?)? + slopes.get(middle)?) / 2.0,
    };
    Some(Trend {
        slope: median,
        lower: *slopes.get(lower)?,
        upper: *slopes.get(upper)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Between -1 and 1, the same each time.
    fn noise(i: usize) -> f64 {
        let n = (i as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let n = (n ^ (n >> 29)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        (n >> 11) as f64 / (1_u64 << 52) as f64 - 1.0
    }

    #[test]
    fn a_line_is_found_beneath_noise_and_outliers() {
        let points: Vec<_> = (0..100)
            .map(|i| {
                let outlier = if i % 20 == 3 { 500.0 } else { 0.0 };
                (i as f64, 3.0 * i as f64 + noise(i) + outlier)
            })
            .collect();
        let trend = theil_sen(&points).unwrap();
        assert!((trend.slope - 3.0).abs() < 0.05, "{trend:?}");
        assert!(trend.lower < 3.0 && 3.0 < trend.upper, "{trend:?}");
        assert!(trend.upper - trend.lower < 0.5, "{trend:?}");
    }

    #[test]
    fn noise_alone_is_no_trend() {
        let points: Vec<_> = (0..300).map(|i| (i as f64, noise(i))).collect();
        let trend = theil_sen(&points).unwrap();
        assert!(trend.lower <= 0.0 && 0.0 <= trend.upper, "{trend:?}");
    }

    #[test]
    fn few_points_and_points_at_one_place_give_none() {
        assert_eq!(theil_sen(&[(0.0, 1.0), (1.0, 2.0)]), None);
        assert_eq!(theil_sen(&[(0.0, 1.0); 20]), None);
    }
}
