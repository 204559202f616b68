//! The operations a graph may hold, with their attributes.
//!
//! Names and meanings are those of the OpenVINO operation specification
//! (<https://docs.openvino.ai/2025/documentation/openvino-ir-format/operation-sets.html>); the last group is
//! what low precision transformations rewrite to.

use std::sync::Arc;

use crate::body::{If, Iteration};
use crate::operation::Operation;
use crate::tensor::{ElementType, Tensor};

/// An operation and its attributes.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Op {
    /// Input of the network.
    Parameter,
    /// A constant.
    Constant(Tensor),
    /// Output of the network; passes its input through.
    Result,
    /// Conversion to another element type.
    Convert(ElementType),
    /// Element-wise operation on two inputs with numpy broadcasting.
    Binary(BinaryKind),
    /// Element-wise operation on one input.
    Unary(UnaryKind),
    /// `min(max(x, low), high)`.
    Clamp {
        /// Low limit.
        min: f32,
        /// High limit.
        max: f32,
    },
    /// `x < 0 ? x * slope : x`; the slope is the second input.
    PRelu,
    /// `cond ? a : b`, numpy broadcasting.
    Select,
    /// Convolution: data `[N, C, spatial..]`, weights `[OC, C, spatial..]`.
    Convolution(ConvAttrs),
    /// Grouped convolution: weights `[G, OC/G, C/G, spatial..]`.
    GroupConvolution(ConvAttrs),
    /// Transposed convolution: data `[N, C, spatial..]`, weights `[C, OC, spatial..]`, optional third input: the
    /// spatial lengths of the output.
    ConvolutionBackpropData(DeconvAttrs),
    /// Grouped transposed convolution: weights `[G, C/G, OC/G, spatial..]`.
    GroupConvolutionBackpropData(DeconvAttrs),
    /// Matrix product with numpy batch broadcasting.
    MatMul {
        /// Transpose the last two axes of the first input.
        transpose_a: bool,
        /// Transpose the last two axes of the second input.
        transpose_b: bool,
    },
    /// Maximum pooling (first output; opset8's second output, the indices, where used).
    MaxPool(PoolAttrs),
    /// Average pooling.
    AvgPool {
        /// Windows.
        pool: PoolAttrs,
        /// Leave padding out of the average.
        exclude_pad: bool,
    },
    /// Reduction over the axes in the second input.
    Reduce {
        /// How.
        kind: ReduceKind,
        /// Keep reduced axes with length 1.
        keep_dims: bool,
    },
    /// Reshape to the second input.
    Reshape {
        /// A 0 in the pattern copies the input's axis.
        special_zero: bool,
    },
    /// Permutation of axes by the second input.
    Transpose,
    /// Removes axes of length 1 (all, or those in the second input).
    Squeeze,
    /// Inserts axes of length 1 at the places in the second input.
    Unsqueeze,
    /// Concatenation along an axis (may be negative).
    Concat {
        /// The axis.
        axis: i64,
    },
    /// Split into equal parts along the axis in the second input.
    Split {
        /// Number of parts.
        num_splits: usize,
    },
    /// Split into parts of the lengths in the third input along the axis in the second.
    VariadicSplit,
    /// Slice-8: inputs data, start, stop, step, optional axes.
    Slice,
    /// StridedSlice-1.
    StridedSlice(StridedSliceAttrs),
    /// Gather-1/7/8: inputs data, indices, axis.
    Gather {
        /// Leading axes shared by data and indices.
        batch_dims: i64,
    },
    /// GatherND-5/8.
    GatherNd {
        /// Leading axes shared by data and indices.
        batch_dims: usize,
    },
    /// Interpolate-4/11.
    Interpolate(InterpolateAttrs),
    /// MVN-1 and MVN-6: values less their mean, divided by their standard deviation where wanted. MVN-6 has the
    /// axes as its second input.
    Mvn(MvnAttrs),
    /// NormalizeL2-1: division by the Euclidean norm along the axes in the second input.
    NormalizeL2 {
        /// What keeps the norm from zero.
        eps: f32,
        /// How.
        eps_mode: EpsMode,
    },
    /// Softmax along an axis (may be negative).
    Softmax {
        /// The axis.
        axis: i64,
    },
    /// The shape of the input as a 1-D tensor.
    ShapeOf(ElementType),
    /// The k largest or smallest along an axis: values, indices.
    TopK(TopKAttrs),
    /// Padding: inputs data, pads begin, pads end, optional value.
    Pad(PadMode),
    /// Broadcast to the shape in the second input (numpy rules).
    Broadcast,
    /// Broadcast to what the shapes of the input and the second input have in common (`mode="bidirectional"`).
    BroadcastBidirectional,
    /// FakeQuantize-1: inputs data, input low, input high, output low, output high.
    FakeQuantize {
        /// Number of levels.
        levels: u32,
    },
    /// If-8: inputs condition, then what the bodies take.
    If(Arc<If>),
    /// Loop-5 and TensorIterator-1.
    Iteration(Arc<Iteration>),
    /// Any other operation, which states what it is itself.
    Standard(Arc<dyn Operation>),

    /// What a FakeQuantize becomes: f32 in, 8-bit codes out.
    Quantize(Quantize),
    /// 8-bit codes or 32-bit sums in, f32 out: `(q - zero_point) * scale`.
    Dequantize(Dequantize),
    /// Integer convolution, one input (data codes) and constant weight codes as the second input; exact i32
    /// sums out: `sum over taps of (q - data_zero_point) * (w - weight_zero_point[oc])`. Padding counts as
    /// `q = data_zero_point`.
    QuantizedConvolution(QuantizedConv),
    /// Integer transposed convolution (deconvolution), one input (data codes) and constant weight codes as the
    /// second input; exact i32 sums out. Each data code scatters over its taps:
    /// `y[in * stride - pad_begin + tap * dilation] += (q - data_zero_point) * (w[tap] - weight_zero_point[oc])`.
    QuantizedDeconvolution(QuantizedDeconv),
    /// Integer matrix product of data codes and constant weight codes `[K, N]` or `[N, K]`; exact i32 sums out.
    QuantizedMatMul(QuantizedMatMul),
    /// Integer matrix product of two tensors of codes, either computed or constant, with the axes, transposition
    /// and batch broadcasting of MatMul; exact i32 sums out: `sum over k of (a - zero_point_a) * (b - zero_point_b)`.
    QuantizedBatchMatMul(QuantizedBatchMatMul),
    /// Element-wise function of 8-bit codes by table: `q_out = table[q as index]`.
    Lookup(Lookup),
}

impl Op {
    /// An operation that states what it is itself.
    pub fn standard(operation: impl Operation + 'static) -> Self {
        Self::Standard(Arc::new(operation))
    }

    /// Name of the operation as model files spell it; the integer operations have their own.
    pub fn type_name(&self) -> &'static str {
        let named = |name: Option<&'static str>| name.unwrap_or("unknown");
        match self {
            Self::Parameter => "Parameter",
            Self::Constant(_) => "Const",
            Self::Result => "Result",
            Self::Convert(_) => "Convert",
            Self::Binary(BinaryKind::DivideTruncating) => "Divide",
            Self::Binary(kind) => named(
                crate::ops::BINARY_NAMES
                    .iter()
                    .find(|n| n.1 == *kind)
                    .map(|n| n.0),
            ),
            Self::Unary(kind) => kind.type_name(),
            Self::Clamp { .. } => "Clamp",
            Self::PRelu => "PReLU",
            Self::Select => "Select",
            Self::Convolution(_) => "Convolution",
            Self::GroupConvolution(_) => "GroupConvolution",
            Self::ConvolutionBackpropData(_) => "ConvolutionBackpropData",
            Self::GroupConvolutionBackpropData(_) => "GroupConvolutionBackpropData",
            Self::MatMul { .. } => "MatMul",
            Self::MaxPool(_) => "MaxPool",
            Self::AvgPool { .. } => "AvgPool",
            Self::Reduce { kind, .. } => named(
                crate::ops::REDUCE_NAMES
                    .iter()
                    .find(|n| n.1 == *kind)
                    .map(|n| n.0),
            ),
            Self::Reshape { .. } => "Reshape",
            Self::Transpose => "Transpose",
            Self::Squeeze => "Squeeze",
            Self::Unsqueeze => "Unsqueeze",
            Self::Concat { .. } => "Concat",
            Self::Split { .. } => "Split",
            Self::VariadicSplit => "VariadicSplit",
            Self::Slice => "Slice",
            Self::StridedSlice(_) => "StridedSlice",
            Self::Gather { .. } => "Gather",
            Self::GatherNd { .. } => "GatherND",
            Self::Interpolate(_) => "Interpolate",
            Self::Mvn(_) => "MVN",
            Self::NormalizeL2 { .. } => "NormalizeL2",
            Self::Softmax { .. } => "SoftMax",
            Self::ShapeOf(_) => "ShapeOf",
            Self::TopK(_) => "TopK",
            Self::Pad(_) => "Pad",
            Self::Broadcast | Self::BroadcastBidirectional => "Broadcast",
            Self::FakeQuantize { .. } => "FakeQuantize",
            Self::If(_) => "If",
            Self::Iteration(iteration) => iteration.type_name(),
            Self::Standard(operation) => operation.type_name(),
            Self::Quantize(_) => "Quantize",
            Self::Dequantize(_) => "Dequantize",
            Self::QuantizedConvolution(_) => "QuantizedConvolution",
            Self::QuantizedDeconvolution(_) => "QuantizedDeconvolution",
            Self::QuantizedMatMul(_) => "QuantizedMatMul",
            Self::QuantizedBatchMatMul(_) => "QuantizedBatchMatMul",
            Self::Lookup(_) => "Lookup",
        }
    }
}

impl UnaryKind {
    /// Name of the operation as model files spell it.
    pub fn type_name(self) -> &'static str {
        match self {
            Self::Relu => "ReLU",
            Self::Sigmoid => "Sigmoid",
            Self::Tanh => "Tanh",
            Self::Exp => "Exp",
            Self::Log => "Log",
            Self::Sqrt => "Sqrt",
            Self::Abs => "Abs",
            Self::Negative => "Negative",
            Self::Floor => "Floor",
            Self::Ceiling => "Ceiling",
            Self::HSwish => "HSwish",
            Self::HSigmoid => "HSigmoid",
            Self::Swish { .. } => "Swish",
            Self::Elu { .. } => "Elu",
            Self::Gelu { .. } => "Gelu",
            Self::Mish => "Mish",
            Self::SoftPlus => "SoftPlus",
            Self::SoftSign => "SoftSign",
            Self::Erf => "Erf",
            Self::Sign => "Sign",
            Self::Sin => "Sin",
            Self::Cos => "Cos",
            Self::Tan => "Tan",
            Self::Asin => "Asin",
            Self::Acos => "Acos",
            Self::Atan => "Atan",
            Self::Sinh => "Sinh",
            Self::Cosh => "Cosh",
            Self::Asinh => "Asinh",
            Self::Acosh => "Acosh",
            Self::Atanh => "Atanh",
            Self::Round { .. } => "Round",
            Self::LogicalNot => "LogicalNot",
        }
    }
}

/// Element-wise operations on two inputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[allow(missing_docs, reason = "the names are those of the operation specification")]
pub enum BinaryKind {
    Add,
    Subtract,
    Multiply,
    Divide,
    /// Division of integers that truncates towards zero (`m_pythondiv="false"`); `Divide` rounds down.
    DivideTruncating,
    Power,
    Maximum,
    Minimum,
    Mod,
    FloorMod,
    SquaredDifference,
    Equal,
    NotEqual,
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
    LogicalAnd,
    LogicalOr,
    LogicalXor,
}

/// Element-wise operations on one input.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
#[allow(missing_docs, reason = "the names are those of the operation specification")]
pub enum UnaryKind {
    Relu,
    Sigmoid,
    Tanh,
    Exp,
    Log,
    Sqrt,
    Abs,
    Negative,
    Floor,
    Ceiling,
    HSwish,
    HSigmoid,
    Swish {
        beta: f32,
    },
    Elu {
        alpha: f32,
    },
    Gelu {
        tanh: bool,
    },
    Mish,
    SoftPlus,
    SoftSign,
    Erf,
    Sign,
    Sin,
    Cos,
    Tan,
    Asin,
    Acos,
    Atan,
    Sinh,
    Cosh,
    Asinh,
    Acosh,
    Atanh,
    /// To an integer, halves to the even one or away from zero.
    Round {
        half_to_even: bool,
    },
    LogicalNot,
}

/// How automatic padding is chosen (`auto_pad`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum AutoPad {
    /// `pads_begin` and `pads_end` say it.
    #[default]
    Explicit,
    /// Output = ceil(input / stride), the odd pixel at the end.
    SameUpper,
    /// The odd pixel at the beginning.
    SameLower,
    /// None.
    Valid,
}

/// Attributes of a convolution; one entry per spatial axis.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ConvAttrs {
    /// Strides.
    pub strides: Vec<usize>,
    /// Dilations.
    pub dilations: Vec<usize>,
    /// Padding before. Where shapes are fixed, shape inference writes here and in `pads_end` what `auto_pad`
    /// chooses, so that these are the padding whatever `auto_pad` says; it stays for other input shapes.
    pub pads_begin: Vec<isize>,
    /// Padding after.
    pub pads_end: Vec<isize>,
    /// Automatic padding.
    pub auto_pad: AutoPad,
}

/// Attributes of a transposed convolution; one entry per spatial axis.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct DeconvAttrs {
    /// Strides, dilations and padding: what is cut from the full output; negative values append zeros. Where
    /// shapes are fixed, shape inference writes here what `auto_pad` and the wanted output lengths (third input)
    /// come to.
    pub conv: ConvAttrs,
    /// Pixels appended to each output axis. With padding as shape inference writes it,
    /// `out = (in - 1) * stride + (kernel - 1) * dilation + 1 - pad_begin - pad_end + output_padding`.
    pub output_padding: Vec<usize>,
}

/// Attributes of a pooling; one entry per spatial axis.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PoolAttrs {
    /// Window.
    pub kernel: Vec<usize>,
    /// Strides.
    pub strides: Vec<usize>,
    /// Dilations (MaxPool-8).
    pub dilations: Vec<usize>,
    /// Padding before; written by shape inference as of [`ConvAttrs`].
    pub pads_begin: Vec<usize>,
    /// Padding after.
    pub pads_end: Vec<usize>,
    /// Automatic padding.
    pub auto_pad: AutoPad,
    /// Round the output size up (`rounding_type="ceil"`).
    pub ceil: bool,
}

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

/// A quantization from f32 to codes of an 8-bit type, `low..=high` being the codes used: `low` plus the level
/// on which [`crate::ops::fake_quantize::level`] puts the value, which is exactly FakeQuantize's own.
///
/// Limits hold one value, or one per index of `axis`. `il > ih` is legal (inverted interval). NaN becomes `low`.
#[derive(Debug, Clone, PartialEq)]
pub struct Quantize {
    /// Input low limits.
    pub input_low: Vec<f32>,
    /// Input high limits.
    pub input_high: Vec<f32>,
    /// Axis along which limits vary; `None` for one value.
    pub axis: Option<usize>,
    /// Number of levels; `high - low + 1`.
    pub levels: u32,
    /// Lowest code.
    pub low: i32,
    /// Highest code.
    pub high: i32,
    /// U8 or I8.
    pub element_type: ElementType,
}

/// A dequantization as a value: `(q - zero_point) * scale`, every step (the conversion of `q` too) rounded to
/// f32.
///
/// Scale and zero point hold one value, or one per index of `axis`.
#[derive(Debug, Clone, PartialEq)]
pub struct Dequantize {
    /// Scales, never zero, finite; may be negative.
    pub scale: Vec<f32>,
    /// Zero points. Exact FakeQuantize limits may put zero between two codes, so these are floats.
    pub zero_point: Vec<f32>,
    /// Axis along which they vary; `None` for one value each.
    pub axis: Option<usize>,
}

/// Attributes of an integer convolution.
#[derive(Debug, Clone, PartialEq)]
pub struct QuantizedConv {
    /// Strides, dilations and explicit padding.
    pub conv: ConvAttrs,
    /// Number of groups; weights are `[OC, C/groups, spatial..]`.
    pub groups: usize,
    /// Zero point of the data codes: one value, or for depthwise one per channel.
    pub data_zero_point: Vec<i32>,
    /// Zero points of the weight codes: one value or one per output channel.
    pub weight_zero_point: Vec<i32>,
}

/// Attributes of an integer matrix product with constant weights.
#[derive(Debug, Clone, PartialEq)]
pub struct QuantizedMatMul {
    /// Weights are `[N, K]` rather than `[K, N]`.
    pub transpose_b: bool,
    /// Zero point of the data codes.
    pub data_zero_point: i32,
    /// Zero points of the weight codes: one value or one per column `N`.
    pub weight_zero_point: Vec<i32>,
}

/// Attributes of an integer transposed convolution.
#[derive(Debug, Clone, PartialEq)]
pub struct QuantizedDeconv {
    /// Strides, dilations and explicit padding (what is cut from the full output).
    pub conv: ConvAttrs,
    /// Pixels appended to each output axis, one entry per spatial axis:
    /// `out = (in - 1) * stride + (kernel - 1) * dilation + 1 - pad_begin - pad_end + output_padding`.
    pub output_padding: Vec<usize>,
    /// Number of groups; weights are `[OC, C/groups, spatial..]`, as of [`QuantizedConv`], and taps are not
    /// flipped.
    pub groups: usize,
    /// Zero point of the data codes: one value, or for depthwise one per channel.
    pub data_zero_point: Vec<i32>,
    /// Zero points of the weight codes: one value or one per output channel.
    pub weight_zero_point: Vec<i32>,
}

/// Attributes of an integer product of two matrices of codes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuantizedBatchMatMul {
    /// Transpose the last two axes of the first input.
    pub transpose_a: bool,
    /// Transpose the last two axes of the second input.
    pub transpose_b: bool,
    /// Zero point of the first input's codes.
    pub zero_point_a: i32,
    /// Zero point of the second input's codes.
    pub zero_point_b: i32,
}

/// A function of 8-bit codes.
#[derive(Debug, Clone, PartialEq)]
pub struct Lookup {
    /// 256 output codes, indexed by the input code as an unsigned byte (`code as u8`).
    pub table: Box<[u8; 256]>,
    /// Element type of the output codes.
    pub element_type: ElementType,
}
