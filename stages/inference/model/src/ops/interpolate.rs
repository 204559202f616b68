//! Interpolate-4 and Interpolate-11.

use super::attributes::Attributes;
use crate::error::OpError;
use crate::op::{CoordinateMode, InterpolateAttrs, InterpolateMode, NearestMode, Op};

/// Names of modes.
pub(crate) const MODES: [(&str, InterpolateMode); 4] = [
    ("nearest", InterpolateMode::Nearest),
    ("linear", InterpolateMode::Linear),
    ("linear_onnx", InterpolateMode::LinearOnnx),
    ("cubic", InterpolateMode::Cubic),
];
/// Names of coordinate modes.
pub(crate) const COORDINATES: [(&str, CoordinateMode); 5] = [
    ("half_pixel", CoordinateMode::HalfPixel),
    ("pytorch_half_pixel", CoordinateMode::PytorchHalfPixel),
    ("asymmetric", CoordinateMode::Asymmetric),
    ("tf_half_pixel_for_nn", CoordinateMode::TfHalfPixelForNn),
    ("align_corners", CoordinateMode::AlignCorners),
];
/// Names of nearest modes.
pub(crate) const NEAREST: [(&str, NearestMode); 5] = [
    ("round_prefer_floor", NearestMode::RoundPreferFloor),
    ("round_prefer_ceil", NearestMode::RoundPreferCeil),
    ("floor", NearestMode::Floor),
    ("ceil", NearestMode::Ceil),
    ("simple", NearestMode::Simple),
];

/// Reads an operation of this family; `None` if it is of another.
pub(crate) fn parse(a: &Attributes) -> Result<Option<Op>, OpError> {
    // Interpolate-1 has other attributes and another meaning.
    if a.kind != "Interpolate" || !(4..=15).contains(&a.opset) {
        return Ok(None);
    }
    let version = if a.opset >= 11 { 11 } else { 4 };
    if version == 4 {
        a.expect_inputs(3, 4)?;
    } else {
        a.expect_inputs(2, 3)?;
    }
    Ok(Some(Op::Interpolate(InterpolateAttrs {
        mode: a.word("mode", &MODES, None)?,
        by_scales: a.word(
            "shape_calculation_mode",
            &[("sizes", false), ("scales", true)],
            None,
        )?,
        coordinates: a.word(
            "coordinate_transformation_mode",
            &COORDINATES,
            Some(CoordinateMode::HalfPixel),
        )?,
        nearest: a.word("nearest_mode", &NEAREST, Some(NearestMode::RoundPreferFloor))?,
        antialias: a.flag("antialias", Some(false))?,
        cube_coeff: a.float("cube_coeff", Some(-0.75))?,
        pads_begin: a.list("pads_begin", Some(&[]))?,
        pads_end: a.list("pads_end", Some(&[]))?,
        version,
    })))
}
