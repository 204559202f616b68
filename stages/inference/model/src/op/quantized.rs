//! What low precision transformations rewrite to: quantizations, and operations on codes.

use super::ConvAttrs;
use crate::tensor::ElementType;

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
