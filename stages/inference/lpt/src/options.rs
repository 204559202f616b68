//! How to transform.

use std::collections::BTreeSet;

/// Options of a transformation.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Options {
    /// Where to round.
    pub numerics: Numerics,
    /// What the target runs on codes.
    pub limits: Limits,
    /// Names of layers that stay in floating point.
    pub float_layers: BTreeSet<String>,
}

/// Where a quantized model rounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Numerics {
    /// Wherever the model has a FakeQuantize: the result equals what calibration measured.
    #[default]
    Literal,
    /// As OpenVINO's CPU plugin: the FakeQuantize between a convolution and the addition of a residual only
    /// clips, zero points between two codes are rounded to the nearest, and branches that meet in a Concat in
    /// front of a convolution are brought to one scale, which loses levels.
    OpenVino,
}

/// Operations that the target runs on codes. What is off stays in floating point with a reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Convolution and GroupConvolution.
    pub convolution: bool,
    /// MatMul with constant weights.
    pub matmul: bool,
    /// Element-wise functions by table.
    pub lookup: bool,
    /// Zero points of weights other than 0.
    pub weight_zero_points: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            convolution: true,
            matmul: true,
            lookup: true,
            weight_zero_points: true,
        }
    }
}
