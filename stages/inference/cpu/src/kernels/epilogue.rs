//! What follows an integer sum: scale, bias, inner rounding, residual, clamp, rounding to codes.
//!
//! One order of f32 operations holds on every instruction set, multiply then add, never fused:
//!
//! ```text
//! f = acc as f32 * scale[c] + bias[c]
//! f = round_ties_even(clamp(f, mid.low, mid.high)) * mid.scale[c] + mid.offset[c]    where there is a mid; some only clamp
//! f = f + (residual as f32 * residual.scale[c] + residual.offset[c])                 where there is one
//! f = clamp(f, low[c], high[c])                                       activation and range of the codes
//! q = round_ties_even(f) as u8, then table[q] where there is a table;  or f itself
//! ```
//!
//! `clamp(f, lo, hi)` is `m = f > lo ? f : lo; m < hi ? m : hi`, which sends NaN to `lo`.

use super::aligned::Plain;
use super::ties::{Refined, Ties};
use super::{AlignedVec, ArgError, error::expect_len};

/// Channels to which per-channel arrays are padded: the widest block a kernel handles at once.
pub const CHANNEL_BLOCK: usize = 64;

/// Rounding inside a chain of operations, such as a FakeQuantize between a convolution and an addition, or a clamp there.
#[derive(Debug, Clone, PartialEq)]
pub struct MidSpec {
    /// Whether values are rounded, not only clamped.
    pub rounds: bool,
    /// Lowest code, a whole number; or the low limit.
    pub low: f32,
    /// Highest code.
    pub high: f32,
    /// From the code to the domain of what follows: one value or one per channel.
    pub scale: Vec<f32>,
    /// Added after `scale`.
    pub offset: Vec<f32>,
}

/// From the residual's codes to the domain in which it is added.
#[derive(Debug, Clone, PartialEq)]
pub struct ResidualSpec {
    /// One value or one per channel.
    pub scale: Vec<f32>,
    /// One value or one per channel.
    pub offset: Vec<f32>,
}

/// Element type that an epilogue ends in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OutputKind {
    /// Codes; `low` and `high` lie in 0..=255.
    U8,
    /// Real values, or codes not rounded.
    F32,
}

/// What to build an [`Epilogue`] from. Every `Vec` holds one value or one per channel.
#[derive(Debug, Clone, PartialEq)]
pub struct EpilogueSpec {
    /// Multiplied to the sum.
    pub scale: Vec<f32>,
    /// Added.
    pub bias: Vec<f32>,
    /// Inner rounding.
    pub mid: Option<MidSpec>,
    /// Second input.
    pub residual: Option<ResidualSpec>,
    /// Low limit before the last rounding: activation and code range joined. `-inf` for none (f32 output).
    pub low: Vec<f32>,
    /// High limit; `+inf` for none.
    pub high: Vec<f32>,
    /// Element type of the output.
    pub output: OutputKind,
    /// Codes to codes, after the rounding (codes only).
    pub table: Option<Box<[u8; 256]>>,
}

impl EpilogueSpec {
    /// `clamp(round(acc * scale + bias), 0, 255)`.
    pub fn requantize(scale: Vec<f32>, bias: Vec<f32>) -> Self {
        Self {
            scale,
            bias,
            mid: None,
            residual: None,
            low: vec![0.0],
            high: vec![255.0],
            output: OutputKind::U8,
            table: None,
        }
    }

    /// `acc * scale + bias` as f32.
    pub fn dequantize(scale: Vec<f32>, bias: Vec<f32>) -> Self {
        Self {
            low: vec![f32::NEG_INFINITY],
            high: vec![f32::INFINITY],
            output: OutputKind::F32,
            ..Self::requantize(scale, bias)
        }
    }
}

/// Inner rounding, arrays padded.
#[derive(Debug, Clone)]
pub(crate) struct Mid {
    pub rounds: bool,
    pub low: f32,
    pub high: f32,
    pub scale: AlignedVec<f32>,
    pub offset: AlignedVec<f32>,
}

/// Residual affine, arrays padded.
#[derive(Debug, Clone)]
pub(crate) struct Residual {
    pub scale: AlignedVec<f32>,
    pub offset: AlignedVec<f32>,
}

/// A checked epilogue: see the module for its formula. Per-channel arrays are padded to [`CHANNEL_BLOCK`].
#[derive(Debug, Clone)]
pub struct Epilogue {
    pub(crate) channels: usize,
    pub(crate) scale: AlignedVec<f32>,
    pub(crate) bias: AlignedVec<f32>,
    pub(crate) mid: Option<Mid>,
    pub(crate) residual: Option<Residual>,
    pub(crate) low: AlignedVec<f32>,
    pub(crate) high: AlignedVec<f32>,
    /// Limits of the codes, rounded: clamping after the rounding equals clamping before it.
    pub(crate) low_code: AlignedVec<u8>,
    pub(crate) high_code: AlignedVec<u8>,
    pub(crate) output: OutputKind,
    pub(crate) table: Option<Box<[u8; 256]>>,
    /// Which roundings are in doubt; none unless asked for.
    pub(crate) ties: Option<Box<Ties>>,
}

/// `values`, one or one per channel, as an array padded with zeros.
pub(crate) fn per_channel(
    what: &'static str,
    values: &[f32],
    channels: usize,
) -> Result<AlignedVec<f32>, ArgError> {
    // One block more: a group's last block may begin at any channel.
    let padded = channels
        .checked_next_multiple_of(CHANNEL_BLOCK)
        .and_then(|n| n.checked_add(CHANNEL_BLOCK))
        .ok_or(ArgError::Overflow(what))?;
    let mut out = AlignedVec::zeroed(padded);
    if let [value] = values {
        out[..channels].fill(*value);
    } else {
        expect_len(what, channels, values.len())?;
        out[..channels].copy_from_slice(values);
    }
    Ok(out)
}

fn check_finite(what: &'static str, values: &[f32]) -> Result<(), ArgError> {
    match values.iter().find(|v| !v.is_finite()) {
        Some(&v) => Err(ArgError::Value {
            what,
            expected: "a finite number",
            found: v.into(),
        }),
        None => Ok(()),
    }
}

impl Epilogue {
    /// Checks and pads `spec` for `channels` output channels.
    ///
    /// # Errors
    /// [`ArgError`] for arrays of a wrong length, numbers that are not finite, limits that cross, limits
    /// outside 0..=255 for codes, or a table without codes.
    pub fn new(channels: usize, spec: &EpilogueSpec) -> Result<Self, ArgError> {
        if channels == 0 {
            return Err(ArgError::Empty);
        }
        check_finite("epilogue scale", &spec.scale)?;
        check_finite("epilogue bias", &spec.bias)?;
        let low = per_channel("epilogue low limits", &spec.low, channels)?;
        let high = per_channel("epilogue high limits", &spec.high, channels)?;
        for (&l, &h) in low.iter().zip(high.iter()) {
            if l.is_nan() || h.is_nan() || l > h {
                return Err(ArgError::Value {
                    what: "epilogue low limit",
                    expected: "at most the high limit",
                    found: l.into(),
                });
            }
            if spec.output == OutputKind::U8 && !(l >= 0.0 && h <= 255.0) {
                return Err(ArgError::Value {
                    what: "epilogue limit of codes",
                    expected: "0..=255",
                    found: if l >= 0.0 { h.into() } else { l.into() },
                });
            }
        }
        let mid = match &spec.mid {
            None => None,
            Some(mid) => {
                if mid.rounds {
                    check_finite("inner rounding", &[mid.low, mid.high])?;
                }
                check_finite("inner scale", &mid.scale)?;
                check_finite("inner offset", &mid.offset)?;
                let far = mid.low < -65_536.0 || mid.high > 65_536.0;
                if mid.low.is_nan() || mid.high.is_nan() || mid.low > mid.high || mid.rounds && far {
                    return Err(ArgError::Value {
                        what: "inner rounding limit",
                        expected: "low <= high within +-65536",
                        found: mid.low.into(),
                    });
                }
                Some(Mid {
                    rounds: mid.rounds,
                    low: mid.low,
                    high: mid.high,
                    scale: per_channel("inner scale", &mid.scale, channels)?,
                    offset: per_channel("inner offset", &mid.offset, channels)?,
                })
            }
        };
        let residual = match &spec.residual {
            None => None,
            Some(residual) => {
                check_finite("residual scale", &residual.scale)?;
                check_finite("residual offset", &residual.offset)?;
                Some(Residual {
                    scale: per_channel("residual scale", &residual.scale, channels)?,
                    offset: per_channel("residual offset", &residual.offset, channels)?,
                })
            }
        };
        if spec.table.is_some() && spec.output == OutputKind::F32 {
            return Err(ArgError::Mismatch {
                what: "table entries after an f32 output",
                expected: 0,
                found: 256,
            });
        }
        let codes = |limits: &[f32]| {
            let codes: Vec<u8> = limits.iter().map(|l| l.round_ties_even() as u8).collect();
            AlignedVec::from_slice(&codes)
        };
        Ok(Self {
            channels,
            low_code: codes(&low),
            high_code: codes(&high),
            scale: per_channel("epilogue scale", &spec.scale, channels)?,
            bias: per_channel("epilogue bias", &spec.bias, channels)?,
            mid,
            residual,
            low,
            high,
            output: spec.output,
            table: spec.table.clone(),
            ties: None,
        })
    }

    /// Lets kernels note values nearer than `margin` (codes, per channel) to a tie of the last rounding, and nearer than
    /// `mid_margin` to one of the inner rounding; what is refined replaces that of the first.
    pub(crate) fn with_ties(mut self, margin: &[f32], mid_margin: &[f32], refined: Option<&Refined>) -> Self {
        let mid_margin = self.mid.as_ref().filter(|mid| mid.rounds).map(|_| mid_margin);
        self.ties = Some(Box::new(Ties::new(&self, margin, mid_margin, refined)));
        self
    }

    /// For pixels of `times` as many channels: those of so many neighbouring pixels.
    ///
    /// Only plain epilogues have no more arrays than are repeated here.
    pub(crate) fn repeated(&self, times: usize) -> Self {
        fn repeat<T: Plain>(values: &AlignedVec<T>, channels: usize, times: usize) -> AlignedVec<T> {
            let mut all = values[..channels].repeat(times);
            let padding = &values[values.len() - 1..];
            all.extend(padding.repeat(all.len().next_multiple_of(CHANNEL_BLOCK) - all.len() + CHANNEL_BLOCK));
            AlignedVec::from_slice(&all)
        }
        let channels = self.channels;
        let ties = self.ties.as_ref().map(|ties| {
            Box::new(Ties {
                near: repeat(&ties.near, channels, times),
                mid_near: AlignedVec::zeroed(0),
                spread: repeat(&ties.spread, channels, times),
                slope: ties.slope,
                lowest: ties.lowest,
                any_code: ties.any_code,
                low: repeat(&ties.low, channels, times),
                high: repeat(&ties.high, channels, times),
            })
        });
        Self {
            channels: channels * times,
            scale: repeat(&self.scale, channels, times),
            bias: repeat(&self.bias, channels, times),
            mid: None,
            residual: None,
            low: repeat(&self.low, channels, times),
            high: repeat(&self.high, channels, times),
            low_code: repeat(&self.low_code, channels, times),
            high_code: repeat(&self.high_code, channels, times),
            output: self.output,
            table: None,
            ties,
        }
    }

    /// Number of output channels.
    pub fn channels(&self) -> usize {
        self.channels
    }

    /// Element type of the output.
    pub fn output(&self) -> OutputKind {
        self.output
    }

    /// Whether a second input is added.
    pub fn has_residual(&self) -> bool {
        self.residual.is_some()
    }

    /// Whether no value before the last rounding leaves the range of an i32, for sums up to `magnitude[c]`: then
    /// rounding may come before the clamp.
    pub(crate) fn fits_i32(&self, magnitude: &[f64]) -> bool {
        let affine = |m: f64, scale: f32, offset: f32| m * f64::from(scale.abs()) + f64::from(offset.abs());
        magnitude.iter().take(self.channels).enumerate().all(|(c, &m)| {
            let mut m = affine(m, self.scale[c], self.bias[c]);
            if let Some(mid) = &self.mid {
                let code = f64::from(mid.low.abs().max(mid.high.abs()));
                m = affine(code, mid.scale[c], mid.offset[c]);
            }
            if let Some(r) = &self.residual {
                m += affine(255.0, r.scale[c], r.offset[c]);
            }
            m < f64::from(1 << 30)
        })
    }

    /// Codes without inner rounding, residual or table.
    pub(crate) fn is_plain(&self) -> bool {
        self.output == OutputKind::U8 && self.mid.is_none() && self.residual.is_none() && self.table.is_none()
    }

    /// The value of channel `c` before the last rounding.
    #[inline(always)]
    pub(crate) fn apply(&self, acc: i32, c: usize, residual: impl FnOnce() -> u8) -> f32 {
        self.apply_scaled(acc, self.scale[c], c, residual)
    }

    /// [`apply`](Self::apply) with another scale.
    #[inline(always)]
    pub(crate) fn apply_scaled(&self, acc: i32, scale: f32, c: usize, residual: impl FnOnce() -> u8) -> f32 {
        let mut f = acc as f32 * scale + self.bias[c];
        if let Some(mid) = &self.mid {
            f = clamp(f, mid.low, mid.high);
            if mid.rounds {
                f = f.round_ties_even();
            }
            f = f * mid.scale[c] + mid.offset[c];
        }
        if let Some(r) = &self.residual {
            f += f32::from(residual()) * r.scale[c] + r.offset[c];
        }
        clamp(f, self.low[c], self.high[c])
    }

    /// A value from [`apply`](Self::apply) as a code.
    #[inline(always)]
    pub(crate) fn code(&self, f: f32) -> u8 {
        let q = f.round_ties_even() as u8;
        self.table.as_ref().map_or(q, |t| t[usize::from(q)])
    }
}

/// `min(max(f, lo), hi)` with the operand order of `maxps` and `minps`: NaN becomes `lo`.
#[inline(always)]
pub(crate) fn clamp(f: f32, lo: f32, hi: f32) -> f32 {
    let f = if f > lo { f } else { lo };
    if f < hi { f } else { hi }
}
