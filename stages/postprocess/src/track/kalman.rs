//! Where a box will be next: a Kalman filter of constant velocity.

use flow_frame::BBox;

/// Standard deviations against the height of the box, as in Wojke et al., "Simple Online and Realtime Tracking with a
/// Deep Association Metric" (2017), whose filter ByteTrack uses.
const POSITION: f64 = 1.0 / 20.0;
const VELOCITY: f64 = 1.0 / 160.0;
/// Those of the aspect ratio, which has no unit: first seen, from step to step, measured, and of its velocity.
const ASPECT_FIRST: f64 = 1e-2;
const ASPECT_STEP: f64 = 1e-2;
const ASPECT_MEASURED: f64 = 1e-1;
const ASPECT_VELOCITY: f64 = 1e-5;

/// One number and its velocity per step, with their covariance.
///
/// All noise of the model is independent from number to number, so that its eight-dimensional filter falls apart into
/// four of these, to the same result.
#[derive(Debug, Clone, Copy)]
struct Axis {
    value: f64,
    velocity: f64,
    /// Variances of both, and their covariance.
    of_value: f64,
    of_velocity: f64,
    shared: f64,
}

impl Axis {
    fn new(value: f64, value_std: f64, velocity_std: f64) -> Self {
        Self {
            value,
            velocity: 0.0,
            of_value: value_std * value_std,
            of_velocity: velocity_std * velocity_std,
            shared: 0.0,
        }
    }

    fn predict(&mut self, value_std: f64, velocity_std: f64) {
        self.value += self.velocity;
        self.of_value += 2.0 * self.shared + self.of_velocity + value_std * value_std;
        self.shared += self.of_velocity;
        self.of_velocity += velocity_std * velocity_std;
    }

    fn update(&mut self, measured: f64, std: f64) {
        let spread = self.of_value + std * std;
        let (gain, velocity_gain) = (self.of_value / spread, self.shared / spread);
        let surprise = measured - self.value;
        self.value += gain * surprise;
        self.velocity += velocity_gain * surprise;
        self.of_velocity -= velocity_gain * self.shared;
        self.of_value -= gain * self.of_value;
        self.shared -= gain * self.shared;
    }
}

/// The state of one box: centre, aspect ratio (width by height) and height.
#[derive(Debug, Clone)]
pub(crate) struct Kalman {
    x: Axis,
    y: Axis,
    aspect: Axis,
    height: Axis,
}

fn measures(bbox: &BBox) -> [f64; 4] {
    let [x1, y1, x2, y2] = [bbox.x1, bbox.y1, bbox.x2, bbox.y2].map(f64::from);
    let (width, height) = (x2 - x1, y2 - y1);
    [(x1 + x2) / 2.0, (y1 + y2) / 2.0, width / height, height]
}

impl Kalman {
    /// A box that was seen once, of a width and height above 0.
    pub(crate) fn new(bbox: &BBox) -> Self {
        let [x, y, aspect, height] = measures(bbox);
        let (place, speed) = (2.0 * POSITION * height, 10.0 * VELOCITY * height);
        Self {
            x: Axis::new(x, place, speed),
            y: Axis::new(y, place, speed),
            aspect: Axis::new(aspect, ASPECT_FIRST, ASPECT_VELOCITY),
            height: Axis::new(height, place, speed),
        }
    }

    /// Goes on by one step. One that is out of sight does not grow or shrink.
    pub(crate) fn predict(&mut self, in_sight: bool) {
        let height = self.height.value;
        if !in_sight {
            self.height.velocity = 0.0;
        }
        let (place, speed) = (POSITION * height, VELOCITY * height);
        self.x.predict(place, speed);
        self.y.predict(place, speed);
        self.aspect.predict(ASPECT_STEP, ASPECT_VELOCITY);
        self.height.predict(place, speed);
    }

    /// Learns where the box is.
    pub(crate) fn update(&mut self, bbox: &BBox) {
        let [x, y, aspect, height] = measures(bbox);
        let place = POSITION * self.height.value;
        self.x.update(x, place);
        self.y.update(y, place);
        self.aspect.update(aspect, ASPECT_MEASURED);
        self.height.update(height, place);
    }

    /// Where the box is held to be.
    pub(crate) fn bbox(&self) -> BBox {
        let height = self.height.value.max(0.0);
        let width = (self.aspect.value * height).max(0.0);
        let (x, y) = (self.x.value, self.y.value);
        BBox {
            x1: (x - width / 2.0) as f32,
            y1: (y - height / 2.0) as f32,
            x2: (x + width / 2.0) as f32,
            y2: (y + height / 2.0) as f32,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(x: f32, y: f32) -> BBox {
        BBox {
            x1: x,
            y1: y,
            x2: x + 20.0,
            y2: y + 40.0,
        }
    }

    #[test]
    fn a_steady_walk_is_foreseen() {
        let mut kalman = Kalman::new(&at(0.0, 0.0));
        for step in 1..=20 {
            kalman.predict(true);
            kalman.update(&at(3.0 * step as f32, -(step as f32)));
        }
        for _ in 0..5 {
            kalman.predict(false);
        }
        let found = kalman.bbox();
        let wanted = at(75.0, -25.0);
        assert!(found.iou(&wanted) > 0.9, "{found:?}");
        assert!((found.y2 - found.y1 - 40.0).abs() < 0.5);
    }

    #[test]
    fn one_update_weighs_prediction_and_measurement() {
        // By hand: std 4 of the place first, 2 for the step and 2 for the measurement, 2.5 of the velocity; the variance
        // before the update is 16 + 6.25 + 4, so that 26.25 / 30.25 of the surprise of 10 are taken over.
        let mut kalman = Kalman::new(&at(0.0, 0.0));
        kalman.predict(true);
        kalman.update(&at(10.0, 0.0));
        let middle = f64::from(kalman.bbox().x1 + kalman.bbox().x2) / 2.0;
        assert!((middle - (10.0 + 10.0 * 26.25 / 30.25)).abs() < 1e-4, "{middle}");
        assert!((kalman.x.velocity - 10.0 * 6.25 / 30.25).abs() < 1e-9);
    }
}
