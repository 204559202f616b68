//! Weights of the f32 arithmetic, in vectors of output channels.

use super::super::AlignedVec;
use super::super::ties::whole;
use super::LANES;

/// Terms of a word of codes.
pub(crate) const QUAD: usize = 4;

/// Weights of vectors of output channels.
#[derive(Debug, Clone)]
pub(crate) enum Lines {
    /// As they are: `[vector of channels][term][LANES]`.
    Values(AlignedVec<f32>),
    /// Signed codes times one scale per channel, which gives the same values in a quarter of the memory: `[vector of
    /// channels][quad of terms][LANES][QUAD]`, the last quad filled up with zeros.
    Codes {
        codes: AlignedVec<i8>,
        scale: AlignedVec<f32>,
    },
}

/// The weights of one vector of channels, from some term on.
#[derive(Clone, Copy)]
pub(crate) enum Line<'a> {
    Values(&'a [f32]),
    Codes {
        /// Of whole quads; the first term is `skip` terms behind.
        quads: &'a [[i8; QUAD * LANES]],
        skip: usize,
        scale: &'a [f32; LANES],
    },
}

impl Lines {
    /// `given` has `length` terms for each channel in the order of the model; `order` says for each term of the sum which
    /// of them it is.
    pub fn new(given: &[f32], length: usize, order: &[usize]) -> Option<Self> {
        let channels = given.len() / length.max(1);
        let vectors = channels.div_ceil(LANES);
        let scales: Option<Vec<f32>> = given.chunks_exact(length.max(1)).map(scale_of).collect();
        if let Some(scales) = scales {
            let quads = length.div_ceil(QUAD);
            let len = (vectors * LANES * QUAD).checked_mul(quads)?;
            let mut codes = AlignedVec::zeroed(len);
            let mut scale = AlignedVec::zeroed(vectors * LANES);
            scale[..channels].copy_from_slice(&scales);
            for (channel, weights) in given.chunks_exact(length).enumerate() {
                let first = (channel / LANES * quads * LANES + channel % LANES) * QUAD;
                for (term, &from) in order.iter().enumerate() {
                    codes[first + term / QUAD * LANES * QUAD + term % QUAD] =
                        code_of(weights[from], scales[channel]) as i8;
                }
            }
            return Some(Self::Codes { codes, scale });
        }
        let mut values = AlignedVec::zeroed((vectors * LANES).checked_mul(length)?);
        for (channel, weights) in given.chunks_exact(length).enumerate() {
            let first = channel / LANES * length * LANES + channel % LANES;
            for (term, &from) in order.iter().enumerate() {
                values[first + term * LANES] = weights[from];
            }
        }
        Some(Self::Values(values))
    }

    /// `count` terms from term `first` on, of the vector that begins at channel `channel`; `length` as given.
    #[inline(always)]
    pub fn line(&self, channel: usize, length: usize, first: usize, count: usize) -> Line<'_> {
        let vector = channel / LANES;
        match self {
            Self::Values(values) => {
                let start = vector * length + first;
                Line::Values(&values[start * LANES..(start + count) * LANES])
            }
            Self::Codes { codes, scale } => {
                let start = vector * length.div_ceil(QUAD);
                let (from, to) = (first / QUAD, (first + count).div_ceil(QUAD));
                Line::Codes {
                    quads: &codes.as_chunks().0[start + from..start + to],
                    skip: first % QUAD,
                    scale: scale[channel..].first_chunk().unwrap_or(&[0.0; LANES]),
                }
            }
        }
    }
}

impl Line<'_> {
    /// Weight of term `term` and lane `lane`.
    #[inline(always)]
    pub fn at(&self, term: usize, lane: usize) -> f32 {
        match self {
            Line::Values(values) => values[term * LANES + lane],
            Line::Codes { quads, skip, scale } => {
                let term = term + skip;
                f32::from(quads[term / QUAD][lane * QUAD + term % QUAD]) * scale[lane]
            }
        }
    }
}

/// Codes beyond 8 bits stay so.
fn code_of(value: f32, scale: f32) -> f32 {
    whole((value / scale).clamp(-1e6, 1e6))
}

/// A scale of which all values are multiples from -128 to 127 to the last bit; none if there is none.
fn scale_of(values: &[f32]) -> Option<f32> {
    let largest = values.iter().fold(0.0_f32, |m, v| m.max(v.abs()));
    if largest == 0.0 {
        return Some(1.0);
    }
    let fits = |scale: f32| {
        scale > 0.0
            && values.iter().all(|&v| {
                let code = code_of(v, scale);
                (-128.0..=127.0).contains(&code) && code * scale == v
            })
    };
    // Mostly the largest weight has the largest code.
    let codes = [127.0_f32, 128.0]
        .into_iter()
        .chain((1..127).rev().map(|c| c as f32));
    codes
        .flat_map(|code| {
            let scale = largest / code;
            [scale, scale.next_up(), scale.next_down()]
        })
        .find(|&scale| fits(scale))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn multiples_of_a_scale_are_kept_as_codes_to_the_last_bit() {
        for scale in [0.003_712_9_f32, 1.0, 7.3e-5, 1.9e-12] {
            for largest in [127, 128, 96, 3] {
                let values: Vec<f32> = (0..40)
                    .map(|i| (i * 37 % (2 * largest) - largest) as f32 * scale)
                    .collect();
                let given: Vec<f32> = values
                    .iter()
                    .map(|v| v.clamp(-128.0 * scale, 127.0 * scale))
                    .collect();
                let order: Vec<usize> = (0..10).rev().collect();
                let lines = Lines::new(&given, 10, &order).unwrap();
                assert!(matches!(lines, Lines::Codes { .. }), "{scale} {largest}");
                for channel in 0..4 {
                    let line = lines.line(0, 10, 2, 8);
                    assert_eq!(line.at(3, channel), given[channel * 10 + 4], "{scale} {largest}");
                }
            }
        }
    }

    #[test]
    fn other_weights_are_kept_as_they_are() {
        let given = [0.1, 0.25, -0.731, 0.333_3, 0.9, 0.017];
        let lines = Lines::new(&given, 3, &[0, 1, 2]).unwrap();
        assert!(matches!(lines, Lines::Values(_)));
        assert_eq!(lines.line(0, 3, 0, 3).at(2, 1), 0.017);
    }
}
