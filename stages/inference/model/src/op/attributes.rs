//! Attributes of all other operations of the specification.

use crate::tensor::ElementType;

/// Reductions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[allow(missing_docs, reason = "the names are those of the operation specification")]
pub enum ReduceKind {
    Mean,
    Sum,
    Max,
    Min,
    Prod,
    L1,
    L2,
    LogicalAnd,
    LogicalOr,
}

/// Attributes of StridedSlice: one entry per axis of the slice specification, true where the mask bit is set.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct StridedSliceAttrs {
    /// Begin is ignored.
    pub begin_mask: Vec<bool>,
    /// End is ignored.
    pub end_mask: Vec<bool>,
    /// A new axis is inserted.
    pub new_axis_mask: Vec<bool>,
    /// The axis is removed.
    pub shrink_axis_mask: Vec<bool>,
    /// Stands for all axes in between.
    pub ellipsis_mask: Vec<bool>,
}

/// Interpolation modes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the names are those of the operation specification")]
pub enum InterpolateMode {
    Nearest,
    Linear,
    LinearOnnx,
    Cubic,
    BilinearPillow,
    BicubicPillow,
}

/// How an output coordinate leads to an input coordinate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the names are those of the operation specification")]
pub enum CoordinateMode {
    HalfPixel,
    PytorchHalfPixel,
    Asymmetric,
    TfHalfPixelForNn,
    AlignCorners,
}

/// Rounding of nearest interpolation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the names are those of the operation specification")]
pub enum NearestMode {
    RoundPreferFloor,
    RoundPreferCeil,
    Floor,
    Ceil,
    Simple,
}

/// Attributes of Interpolate-4/11.
#[derive(Debug, Clone, PartialEq)]
pub struct InterpolateAttrs {
    /// Mode.
    pub mode: InterpolateMode,
    /// True: the second input holds scales; false: sizes.
    pub by_scales: bool,
    /// Coordinates.
    pub coordinates: CoordinateMode,
    /// Rounding of nearest.
    pub nearest: NearestMode,
    /// Antialiasing of linear and cubic when shrinking.
    pub antialias: bool,
    /// Cubic coefficient.
    pub cube_coeff: f32,
    /// Padding before, per axis of the input.
    pub pads_begin: Vec<usize>,
    /// Padding after.
    pub pads_end: Vec<usize>,
    /// Version 4 and 11 hold (data, sizes, scales, axes) and (data, scales_or_sizes, axes).
    pub version: u32,
}

/// Attributes of MVN.
#[derive(Debug, Clone, PartialEq)]
pub struct MvnAttrs {
    /// Over which axes mean and variance go.
    pub axes: MvnAxes,
    /// Divide by the standard deviation; otherwise only the mean is taken away.
    pub normalize_variance: bool,
    /// What keeps the divisor from zero; positive.
    pub eps: f32,
    /// `sqrt(variance) + eps` rather than `sqrt(variance + eps)`.
    pub eps_outside: bool,
}

/// Axes of MVN.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum MvnAxes {
    /// The second input lists them (MVN-6).
    Input,
    /// All but batch and channels (MVN-1).
    Spatial,
    /// All but the batch (MVN-1).
    AllButBatch,
    /// These (MVN-1).
    List(Vec<i64>),
}

/// What NormalizeL2 does with epsilon.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EpsMode {
    /// `sqrt(sum + eps)`.
    Add,
    /// `sqrt(max(sum, eps))`.
    Max,
}

/// Attributes of TopK.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TopKAttrs {
    /// The axis.
    pub axis: i64,
    /// Largest rather than smallest.
    pub max: bool,
    /// Order of the result.
    pub sort: TopKSort,
    /// Element type of the indices.
    pub index_type: ElementType,
    /// Equal values keep their order (TopK-11).
    pub stable: bool,
}

/// Order of a TopK result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the names are those of the operation specification")]
pub enum TopKSort {
    None,
    Value,
    Index,
}

/// Modes of Pad.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the names are those of the operation specification")]
pub enum PadMode {
    Constant,
    Edge,
    Reflect,
    Symmetric,
}
