//! The operations a graph may hold, with their attributes.
//!
//! Names and meanings are those of the OpenVINO operation specification
//! (<https://docs.openvino.ai/2025/documentation/openvino-ir-format/operation-sets.html>); the last group is
//! what low precision transformations rewrite to.

mod attributes;
mod elementwise;
mod quantized;
mod window;

use std::sync::Arc;

pub use attributes::*;
pub use elementwise::*;
pub use quantized::*;
pub use window::*;

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
