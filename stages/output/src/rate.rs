//! Frame rates of video files.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

/// Frame rate of a video file.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize, serde::Serialize, JsonSchema)]
#[serde(untagged, expecting = "expected frames per second, or `auto`")]
pub enum FrameRate {
    /// Frames per second.
    Fixed(f64),
    /// From the frames.
    Word(AutoWord),
}

/// The word `auto`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, serde::Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AutoWord {
    /// From the presentation times of the frames; 25 if they have none.
    Auto,
}

impl FrameRate {
    /// From the presentation times of the frames.
    pub const AUTO: Self = Self::Word(AutoWord::Auto);
}

impl Default for FrameRate {
    fn default() -> Self {
        Self::AUTO
    }
}

/// Rates that are offered when times are near to them.
const COMMON: [(u32, u32); 8] = [
    (24000, 1001),
    (24, 1),
    (25, 1),
    (30000, 1001),
    (30, 1),
    (50, 1),
    (60000, 1001),
    (60, 1),
];

/// Tells the rate of a stream from its presentation times.
#[derive(Debug, Default)]
pub(crate) struct Clock {
    first: Option<Duration>,
    last: Option<Duration>,
    frames: u64,
}

impl Clock {
    pub(crate) fn tick(&mut self, pts: Option<Duration>) {
        self.frames += 1;
        self.first = self.first.or(pts);
        self.last = self.last.max(pts);
    }

    /// Frames per second as a fraction.
    pub(crate) fn rate(&self, wanted: FrameRate) -> (u32, u32) {
        let fps = match (wanted, self.first, self.last) {
            (FrameRate::Fixed(fps), ..) => fps,
            (FrameRate::Word(_), Some(first), Some(last)) if last > first && self.frames > 1 => {
                (self.frames - 1) as f64 / (last - first).as_secs_f64()
            }
            (FrameRate::Word(_), ..) => 25.0,
        };
        let near = |&(n, d): &(u32, u32)| (f64::from(n) / f64::from(d) / fps - 1.0).abs() < 0.0004;
        match COMMON.into_iter().find(|r| near(r)) {
            Some(rate) => rate,
            None => ((fps.clamp(0.01, 1e6) * 1000.0).round() as u32, 1000),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_comes_from_the_times() {
        let mut clock = Clock::default();
        for i in 0..300 {
            clock.tick(Some(Duration::from_nanos(i * 33_366_667)));
        }
        assert_eq!(clock.rate(FrameRate::AUTO), (30000, 1001));
        assert_eq!(clock.rate(FrameRate::Fixed(12.5)), (12500, 1000));
        assert_eq!(Clock::default().rate(FrameRate::AUTO), (25, 1));
    }

    #[test]
    fn rates_are_numbers_or_auto() {
        assert_eq!(
            serde_json::from_str::<FrameRate>("\"auto\"").unwrap(),
            FrameRate::AUTO
        );
        assert_eq!(
            serde_json::from_str::<FrameRate>("29.97").unwrap(),
            FrameRate::Fixed(29.97)
        );
        let e = serde_json::from_str::<FrameRate>("\"fast\"")
            .unwrap_err()
            .to_string();
        assert!(e.contains("auto"), "{e}");
    }
}
