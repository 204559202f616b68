//! Colours of classes.

/// A bright colour of class `class`, the same everywhere; neighbours differ most. RGB.
pub fn color_of(class: u32) -> [u8; 3] {
    // Steps of the golden ratio spread hues evenly, however many there are.
    let hue = (f64::from(class) * 0.618_033_988_749_895 + 0.33).fract() * 6.0;
    let (floor, value) = (40.0, 255.0);
    let channel = |offset: f64| {
        let distance = (hue + offset).rem_euclid(6.0);
        let level = (2.0 - (distance - 3.0).abs()).clamp(0.0, 1.0);
        (floor + (value - floor) * level) as u8
    };
    [channel(3.0), channel(1.0), channel(5.0)]
}

/// Black or white, whichever is read better on `background`.
pub(super) fn ink_on(background: [u8; 3]) -> [u8; 3] {
    let [r, g, b] = background.map(u32::from);
    if r * 299 + g * 587 + b * 114 > 128_000 {
        [0; 3]
    } else {
        [255; 3]
    }
}
