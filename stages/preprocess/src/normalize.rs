//! From 8-bit samples to tensor elements.

use flow_frame::InputQuantization;

use crate::keys::PerChannel;

/// The default of `mean` keys.
pub(crate) fn no_mean() -> PerChannel {
    PerChannel::All(0.0)
}

/// The default of `scale` keys.
pub(crate) fn no_scale() -> PerChannel {
    PerChannel::All(1.0)
}

/// Per-channel `value = (sample - mean) / scale`, in f32, in the order of the tensor's channels.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Normalization {
    /// Subtracted first.
    pub mean: [f32; 3],
    /// Divided by second; not 0.
    pub scale: [f32; 3],
}

impl Default for Normalization {
    fn default() -> Self {
        Self {
            mean: [0.0; 3],
            scale: [1.0; 3],
        }
    }
}

impl Normalization {
    /// The value of `sample` in channel `channel` (0 to 2).
    pub fn value(&self, channel: usize, sample: u8) -> f32 {
        (f32::from(sample) - self.mean[channel]) / self.scale[channel]
    }
}

/// How samples become elements of a tensor.
#[derive(Debug, Clone, PartialEq)]
pub enum SampleMap {
    /// `f32` values.
    Float(Normalization),
    /// `u8` codes, looked up per channel.
    Codes(Box<[[u8; 256]; 3]>),
    /// The samples themselves.
    Copy,
}

impl SampleMap {
    /// `f32` elements.
    pub fn float(normalization: Normalization) -> Self {
        Self::Float(normalization)
    }

    /// `u8` elements: the normalised value rounded (ties to even) and clamped to 0..=255.
    pub fn rounded(normalization: Normalization) -> Self {
        Self::table(|c, v| normalization.value(c, v).round_ties_even() as u8)
    }

    /// The codes of a network's own input quantization: normalisation and FakeQuantize in one table, equal to
    /// applying one after the other in f32.
    pub fn quantized(normalization: Normalization, quantization: &InputQuantization) -> Self {
        Self::table(|c, v| quantization.code(normalization.value(c, v)))
    }

    fn table(code: impl Fn(usize, u8) -> u8) -> Self {
        let tables: [[u8; 256]; 3] = std::array::from_fn(|c| std::array::from_fn(|v| code(c, v as u8)));
        if tables
            .iter()
            .all(|t| t.iter().enumerate().all(|(v, &o)| v == usize::from(o)))
        {
            Self::Copy
        } else {
            Self::Codes(Box::new(tables))
        }
    }
}

/// Maps runs of samples of one channel, and single samples.
pub(crate) trait Map<T> {
    fn run(&self, channel: usize, samples: &[u8], out: &mut [T]);
    fn one(&self, channel: usize, sample: u8) -> T;
}

impl Map<f32> for Normalization {
    fn run(&self, channel: usize, samples: &[u8], out: &mut [f32]) {
        let (mean, scale) = (self.mean[channel], self.scale[channel]);
        for (o, &v) in out.iter_mut().zip(samples) {
            *o = (f32::from(v) - mean) / scale;
        }
    }
    #[inline(always)]
    fn one(&self, channel: usize, sample: u8) -> f32 {
        self.value(channel, sample)
    }
}

impl Map<u8> for [[u8; 256]; 3] {
    fn run(&self, channel: usize, samples: &[u8], out: &mut [u8]) {
        let table = &self[channel];
        for (o, &v) in out.iter_mut().zip(samples) {
            *o = table[usize::from(v)];
        }
    }
    #[inline(always)]
    fn one(&self, channel: usize, sample: u8) -> u8 {
        self[channel][usize::from(sample)]
    }
}

/// Maps each sample to itself.
pub(crate) struct Unchanged;

impl Map<u8> for Unchanged {
    fn run(&self, _: usize, samples: &[u8], out: &mut [u8]) {
        out.copy_from_slice(samples);
    }
    #[inline(always)]
    fn one(&self, _: usize, sample: u8) -> u8 {
        sample
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn tables_equal_normalising_then_quantizing(
            mean in prop::array::uniform3(-10f32..200.0), scale in prop::array::uniform3(0.5f32..200.0),
            low in -5f32..0.0, width in 0.1f32..10.0, levels in 2u32..=256,
        ) {
            let n = Normalization { mean, scale };
            let q = InputQuantization { low, high: low + width, levels };
            let map = SampleMap::quantized(n, &q);
            for c in 0..3 {
                for v in 0..=255u8 {
                    let want = q.code((f32::from(v) - mean[c]) / scale[c]);
                    let got = match &map {
                        SampleMap::Codes(t) => t.one(c, v),
                        _ => v,
                    };
                    prop_assert_eq!(got, want);
                }
            }
        }
    }

    #[test]
    fn codes_that_change_nothing_are_a_copy() {
        let n = Normalization {
            scale: [255.0; 3],
            ..Normalization::default()
        };
        let q = InputQuantization {
            low: 0.0,
            high: 1.0,
            levels: 256,
        };
        assert_eq!(SampleMap::quantized(n, &q), SampleMap::Copy);
        assert_eq!(SampleMap::rounded(Normalization::default()), SampleMap::Copy);
    }
}
