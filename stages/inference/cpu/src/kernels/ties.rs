//! Values so near the middle between two codes that the model's own f32 arithmetic may round them the other way.
//!
//! An [`Epilogue`](super::Epilogue) with [`Ties`] rounds as without, and notes a [`Doubt`] for each vector of 16
//! channels in which some value lies nearer to a tie than a margin; [`Literal`](super::literal::Literal) evaluates those
//! again.

use super::AlignedVec;

/// Channels that are evaluated again together.
pub(crate) const LANES: usize = 16;

/// A vector of [`LANES`] channels of an output pixel to evaluate again; `channel` is a multiple of [`LANES`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Doubt {
    /// Its first channel.
    pub channel: u32,
    /// Its output row.
    pub row: u32,
    /// Its output column.
    pub column: u32,
}

impl Doubt {
    /// Row and column.
    #[inline(always)]
    pub(super) fn pixel(&self) -> [usize; 2] {
        [self.row as usize, self.column as usize]
    }
}

/// Doubts of a layer, some perhaps more than once.
pub type Doubts = Vec<Doubt>;

/// How far from a whole number a value may lie before it is in doubt. Per channel, padded to whole blocks: values of
/// channels that do not exist are never in doubt.
#[derive(Debug, Clone)]
pub(crate) struct Ties {
    /// For the last rounding.
    pub near: AlignedVec<f32>,
    /// For the inner rounding; empty where there is none.
    pub mid_near: AlignedVec<f32>,
    /// The lowest and highest code: values beyond are in no doubt.
    pub low: AlignedVec<f32>,
    pub high: AlignedVec<f32>,
}

impl Ties {
    /// `margin` and `mid_margin` are distances from a tie, in codes, per channel.
    pub(super) fn new(
        channels: usize,
        margin: &[f32],
        mid_margin: Option<&[f32]>,
        [low, high]: [&[f32]; 2],
    ) -> Self {
        let near = |margin: &[f32]| {
            let mut out = AlignedVec::zeroed(low.len());
            out.fill(1.0);
            (0..channels).for_each(|c| out[c] = 0.5 - margin[c]);
            out
        };
        let rounded = |limits: &[f32]| {
            let codes: Vec<f32> = limits.iter().map(|l| l.round_ties_even()).collect();
            AlignedVec::from_slice(&codes)
        };
        Self {
            near: near(margin),
            mid_near: mid_margin.map_or_else(|| AlignedVec::zeroed(0), near),
            low: rounded(low),
            high: rounded(high),
        }
    }

    /// Whether the last rounding of `f` in channel `c` is in doubt.
    #[inline(always)]
    pub(super) fn in_doubt(&self, f: f32, c: usize) -> bool {
        off(super::epilogue::clamp(f, self.low[c], self.high[c])) > self.near[c]
    }

    /// Whether the inner rounding of `f`, clamped, in channel `c` is in doubt.
    #[inline(always)]
    pub(super) fn in_doubt_inside(&self, f: f32, c: usize) -> bool {
        off(f) > self.mid_near[c]
    }
}

/// Distance from a whole number.
fn off(f: f32) -> f32 {
    (f - f.round_ties_even()).abs()
}

/// Notes the vectors that hold the channels `channels`.
#[cold]
#[inline(never)]
pub(super) fn note(
    doubts: &mut Doubts,
    (row, column): (usize, usize),
    channels: impl Iterator<Item = usize>,
) {
    for channel in channels {
        let doubt = Doubt {
            channel: (channel / LANES * LANES) as u32,
            row: row as u32,
            column: column as u32,
        };
        if doubts.last() != Some(&doubt) {
            doubts.push(doubt);
        }
    }
}

/// The bits of a mask.
pub(super) fn bits(mask: u32) -> impl Iterator<Item = usize> {
    (0..32).filter(move |i| mask >> i & 1 != 0)
}
