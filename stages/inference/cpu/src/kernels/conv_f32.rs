//! f32 convolution: packed weights, checked arguments.
//!
//! The result is `clamp(sum + bias[c] (+ residual), low[c], high[c])`. The sum is a chain of fused multiply-adds
//! over kernel rows, taps and input channels, on every instruction set.

use super::error::expect_len;
use super::{
    AlignedVec, ArgError, Band, Channels, KernelTable, View, ViewMut, Window, epilogue::per_channel,
};

/// What follows an f32 sum. Every slice holds one value or one per channel.
#[derive(Debug, Clone)]
pub struct EpilogueF32 {
    pub(crate) channels: usize,
    pub(crate) bias: AlignedVec<f32>,
    pub(crate) low: AlignedVec<f32>,
    pub(crate) high: AlignedVec<f32>,
}

impl EpilogueF32 {
    /// Limits are the activation: `-inf` and `+inf` for none, `0` and `+inf` for Relu.
    ///
    /// # Errors
    /// [`ArgError`] for slices of a wrong length.
    pub fn new(channels: usize, bias: &[f32], low: &[f32], high: &[f32]) -> Result<Self, ArgError> {
        Ok(Self {
            channels,
            bias: per_channel("bias", bias, channels)?,
            low: per_channel("low limits", low, channels)?,
            high: per_channel("high limits", high, channels)?,
        })
    }

    #[inline(always)]
    pub(crate) fn apply(&self, acc: f32, c: usize, residual: Option<f32>) -> f32 {
        let mut f = acc + self.bias[c];
        if let Some(r) = residual {
            f += r;
        }
        // Operand order keeps NaN.
        let f = if f < self.low[c] { self.low[c] } else { f };
        if f > self.high[c] { self.high[c] } else { f }
    }
}

/// A block of output channels whose weights lie together.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PanelF32 {
    pub weights: usize,
    pub first: usize,
    pub channels: usize,
    pub lanes: usize,
    pub group: usize,
}

/// An f32 convolution with packed weights `[panel][ky][kx][input channel][lane]`.
#[derive(Debug, Clone)]
pub struct ConvF32 {
    pub(crate) window: Window,
    pub(crate) channels: Channels,
    pub(crate) weights: AlignedVec<f32>,
    pub(crate) panels: Vec<PanelF32>,
    pub(crate) epilogue: EpilogueF32,
    /// Input channels that are summed before they are added to the rest.
    pub(crate) block: usize,
}

impl ConvF32 {
    /// Sums input channels in blocks of at most that many; a chain of its own each, added in turn. For a kernel of one
    /// tap.
    pub fn in_blocks(self, block: usize) -> Self {
        Self {
            block: block.max(1),
            ..self
        }
    }

    /// Packs `weights`, row-major `[out_channels][in_channels / groups][kernel_y][kernel_x]`.
    ///
    /// # Errors
    /// [`ArgError`] for lengths that do not fit.
    pub fn new(
        table: &KernelTable,
        window: Window,
        channels: Channels,
        weights: &[f32],
        epilogue: EpilogueF32,
    ) -> Result<Self, ArgError> {
        window.check()?;
        channels.check()?;
        expect_len("epilogue channels", channels.output, epilogue.channels)?;
        let group_inputs = channels.input / channels.groups;
        let group_outputs = channels.output / channels.groups;
        let taps = window
            .taps()
            .checked_mul(group_inputs)
            .ok_or(ArgError::Overflow("weights"))?;
        let len = taps
            .checked_mul(channels.output)
            .ok_or(ArgError::Overflow("weights"))?;
        expect_len("weights", len, weights.len())?;
        let mut panels = Vec::new();
        let mut len = 0_usize;
        for group in 0..channels.groups {
            let mut done = 0;
            while done < group_outputs {
                let left = group_outputs - done;
                let vector = table.packing.lanes;
                let lanes = if left <= vector { vector } else { 2 * vector };
                panels.push(PanelF32 {
                    weights: len,
                    first: group * group_outputs + done,
                    channels: left.min(lanes),
                    lanes,
                    group,
                });
                len = taps
                    .checked_mul(lanes)
                    .and_then(|n| n.checked_add(len))
                    .ok_or(ArgError::Overflow("weights"))?;
                done += left.min(lanes);
            }
        }
        let spots = window.taps();
        let mut packed = AlignedVec::zeroed(len);
        for panel in &panels {
            for lane in 0..panel.channels {
                let oc = panel.first + lane;
                for ic in 0..group_inputs {
                    for tap in 0..spots {
                        packed[panel.weights + (tap * group_inputs + ic) * panel.lanes + lane] =
                            weights[(oc * group_inputs + ic) * spots + tap];
                    }
                }
            }
        }
        Ok(Self {
            window,
            channels,
            weights: packed,
            panels,
            epilogue,
            block: usize::MAX,
        })
    }

    /// Bytes of packed weights.
    pub fn weight_bytes(&self) -> usize {
        size_of_val(&self.weights[..])
    }

    /// Number of blocks of output channels, the unit in which a team splits them.
    pub fn panels(&self) -> usize {
        self.panels.len()
    }

    /// First output channel of a block, if there is such a block.
    pub fn first_channel(&self, panel: usize) -> Option<usize> {
        self.panels.get(panel).map(|panel| panel.first)
    }
}

/// Checked arguments of one run of a convolution `C`.
#[derive(Debug)]
pub struct F32Args<'a, C> {
    pub(crate) conv: &'a C,
    pub(crate) input: View<'a, f32>,
    pub(crate) residual: Option<View<'a, f32>>,
    pub(crate) output: ViewMut<'a, f32>,
}

/// Arguments of a [`ConvF32`].
pub type ConvF32Args<'a> = F32Args<'a, ConvF32>;

/// Arguments of a [`DepthwiseF32`].
pub type DepthwiseF32Args<'a> = F32Args<'a, DepthwiseF32>;

/// What arguments are checked against.
trait Layer {
    fn window(&self) -> &Window;
    fn input_channels(&self) -> usize;
    fn epilogue(&self) -> &EpilogueF32;
}

impl Layer for ConvF32 {
    fn window(&self) -> &Window {
        &self.window
    }
    fn input_channels(&self) -> usize {
        self.channels.input
    }
    fn epilogue(&self) -> &EpilogueF32 {
        &self.epilogue
    }
}

impl Layer for DepthwiseF32 {
    fn window(&self) -> &Window {
        &self.window
    }
    fn input_channels(&self) -> usize {
        self.epilogue.channels
    }
    fn epilogue(&self) -> &EpilogueF32 {
        &self.epilogue
    }
}

#[allow(private_bounds, reason = "there are no other layers")]
impl<'a, C: Layer> F32Args<'a, C> {
    /// Checks once that every read and write lies in its buffer.
    ///
    /// # Errors
    /// [`ArgError`] naming what does not fit.
    pub fn new(
        conv: &'a C,
        input: View<'a, f32>,
        residual: Option<View<'a, f32>>,
        output: ViewMut<'a, f32>,
    ) -> Result<Self, ArgError> {
        let layout = output.layout();
        expect_len("input channels", conv.input_channels(), input.layout().channels)?;
        expect_len("output channels", conv.epilogue().channels, layout.channels)?;
        if let Some(residual) = &residual {
            expect_len("residual height", layout.height, residual.layout().height)?;
            expect_len("residual width", layout.width, residual.layout().width)?;
            expect_len("residual channels", layout.channels, residual.layout().channels)?;
        }
        conv.window().check_reads(input.layout(), layout)?;
        Ok(Self {
            conv,
            input,
            residual,
            output,
        })
    }
}

impl<'a> ConvF32Args<'a> {
    /// All rows and panels.
    pub fn whole(&self) -> Band {
        Band {
            rows: 0..self.output.layout().height,
            panels: 0..self.conv.panels.len(),
        }
    }

    /// The part of `band` that exists.
    pub(crate) fn limit(&self, band: &Band) -> (std::ops::Range<usize>, &'a [PanelF32]) {
        let height = self.output.layout().height;
        let rows = band.rows.start.min(height)..band.rows.end.min(height);
        let end = band.panels.end.min(self.conv.panels.len());
        (rows, &self.conv.panels[band.panels.start.min(end)..end])
    }
}

/// An f32 depthwise convolution, weights `[tap][channel]`.
#[derive(Debug, Clone)]
pub struct DepthwiseF32 {
    pub(crate) window: Window,
    /// Channels padded to whole blocks.
    pub(crate) padded: usize,
    pub(crate) taps: AlignedVec<f32>,
    pub(crate) epilogue: EpilogueF32,
}

impl DepthwiseF32 {
    /// Bytes of packed weights.
    pub fn weight_bytes(&self) -> usize {
        size_of_val(&self.taps[..])
    }

    /// Arranges `weights`, row-major `[channels][1][kernel_y][kernel_x]`.
    ///
    /// # Errors
    /// [`ArgError`] for lengths that do not fit.
    pub fn new(window: Window, weights: &[f32], epilogue: EpilogueF32) -> Result<Self, ArgError> {
        window.check()?;
        let channels = epilogue.channels;
        let spots = window.taps();
        let len = spots.checked_mul(channels).ok_or(ArgError::Overflow("weights"))?;
        expect_len("weights", len, weights.len())?;
        let padded = epilogue.bias.len();
        let mut taps = AlignedVec::zeroed(spots.checked_mul(padded).ok_or(ArgError::Overflow("weights"))?);
        for c in 0..channels {
            for tap in 0..spots {
                taps[tap * padded + c] = weights[c * spots + tap];
            }
        }
        Ok(Self {
            window,
            padded,
            taps,
            epilogue,
        })
    }
}
