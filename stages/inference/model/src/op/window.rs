//! Attributes of operations that slide a window: convolutions and poolings.

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

impl PoolAttrs {
    /// Whether some window lies in the padding altogether, for these lengths of the spatial axes of input and output.
    pub fn has_empty_window(&self, input: &[usize], output: &[usize]) -> bool {
        let axes = self.kernel.len().min(input.len()).min(output.len());
        (0..axes).any(|axis| {
            let step = self.dilations.get(axis).copied().unwrap_or(1);
            let (stride, begin) = (self.strides[axis], self.pads_begin[axis]);
            (0..output[axis]).any(|out| {
                (0..self.kernel[axis]).all(|k| {
                    let at = (out * stride + k * step).checked_sub(begin);
                    at.is_none_or(|at| at >= input[axis])
                })
            })
        })
    }
}
