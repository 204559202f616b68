//! Points, lines and polygons in pixels, x to the right and y down.

/// A place.
pub type Point = [f64; 2];

/// A side of a line, as seen from its first end towards its second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// On the left hand.
    Left,
    /// On the right hand.
    Right,
}

/// Twice the area of the triangle `a`, `b`, `p`; above 0 where `p` lies on the right of the way from `a` to `b`.
fn turn(a: Point, b: Point, p: Point) -> f64 {
    (b[0] - a[0]) * (p[1] - a[1]) - (b[1] - a[1]) * (p[0] - a[0])
}

/// The side of the line through `line` on which `p` lies; `None` on the line itself.
pub fn side(line: [Point; 2], p: Point) -> Option<Side> {
    match turn(line[0], line[1], p) {
        t if t > 0.0 => Some(Side::Right),
        t if t < 0.0 => Some(Side::Left),
        _ => None,
    }
}

/// Whether the way from `from` to `to`, which ends on two sides of the line, meets it between its ends.
pub fn meets(line: [Point; 2], from: Point, to: Point) -> bool {
    turn(from, to, line[0]) * turn(from, to, line[1]) <= 0.0
}

/// Whether `p` lies within the polygon, by the even-odd rule.
pub fn within(polygon: &[Point], p: Point) -> bool {
    let ends = polygon.iter().zip(polygon.iter().cycle().skip(1));
    let crossed = ends.filter(|(a, b)| {
        (a[1] > p[1]) != (b[1] > p[1]) && p[0] < (b[0] - a[0]) * (p[1] - a[1]) / (b[1] - a[1]) + a[0]
    });
    crossed.count() % 2 == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sides_are_those_of_who_walks_along_the_line() {
        // Downwards in the picture: the right hand points to smaller x.
        let line = [[10.0, 0.0], [10.0, 20.0]];
        assert_eq!(side(line, [5.0, 50.0]), Some(Side::Right));
        assert_eq!(side(line, [15.0, -3.0]), Some(Side::Left));
        assert_eq!(side(line, [10.0, 7.0]), None);
    }

    #[test]
    fn a_way_around_the_end_of_a_line_does_not_meet_it() {
        let line = [[10.0, 0.0], [10.0, 20.0]];
        assert!(meets(line, [0.0, 5.0], [20.0, 15.0]));
        assert!(!meets(line, [0.0, 25.0], [20.0, 25.0]));
    }

    #[test]
    fn a_polygon_may_have_a_dent() {
        let polygon = [[0.0, 0.0], [10.0, 0.0], [10.0, 10.0], [5.0, 2.0], [0.0, 10.0]];
        assert!(within(&polygon, [1.0, 5.0]));
        assert!(!within(&polygon, [5.0, 8.0]));
        assert!(!within(&polygon, [-1.0, 5.0]));
    }
}
