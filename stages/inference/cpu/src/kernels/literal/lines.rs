//! Weights of the f32 arithmetic, in vectors of output channels.

use super::super::AlignedVec;
use super::LANES;

/// Weights `[vector of channels][term][LANES]`.
#[derive(Debug, Clone)]
pub(crate) enum Lines {
    /// As they are.
    Values(AlignedVec<f32>),
    /// Signed codes times one scale per channel, which gives the same values in a quarter of the memory.
    Codes {
        codes: AlignedVec<i8>,
        scale: AlignedVec<f32>,
    },
}

/// The weights of one vector of channels, from some term on.
#[derive(Clone, Copy)]
pub(crate) enum Line<'a> {
    Values(&'a [f32]),
    Codes(&'a [i8], &'a [f32; LANES]),
}

impl Lines {
    /// `given` has `length` terms for each channel in the order of the model; `order` says for each term of the sum which
    /// of them it is.
    pub fn new(given: &[f32], length: usize, order: &[usize]) -> Option<Self> {
        let channels = given.len() / length.max(1);
        let len = channels.next_multiple_of(LANES).checked_mul(length)?;
        let place = |channel: usize, term: usize| (channel / LANES * length + term) * LANES + channel % LANES;
        let scales: Option<Vec<f32>> = given.chunks_exact(length.max(1)).map(scale_of).collect();
        if let Some(scales) = scales {
            let mut codes = AlignedVec::zeroed(len);
            let mut scale = AlignedVec::zeroed(channels.next_multiple_of(LANES));
            scale[..channels].copy_from_slice(&scales);
            for (channel, weights) in given.chunks_exact(length).enumerate() {
                for (term, &from) in order.iter().enumerate() {
                    codes[place(channel, term)] = code_of(weights[from], scales[channel]) as i8;
                }
            }
            return Some(Self::Codes { codes, scale });
        }
        let mut values = AlignedVec::zeroed(len);
        for (channel, weights) in given.chunks_exact(length).enumerate() {
            for (term, &from) in order.iter().enumerate() {
                values[place(channel, term)] = weights[from];
            }
        }
        Some(Self::Values(values))
    }

    /// `count` terms from term `first` on, of the vector that begins at channel `channel`; `length` as given.
    #[inline(always)]
    pub fn line(&self, channel: usize, length: usize, first: usize, count: usize) -> Line<'_> {
        let range =
            (channel / LANES * length + first) * LANES..(channel / LANES * length + first + count) * LANES;
        match self {
            Self::Values(values) => Line::Values(&values[range]),
            Self::Codes { codes, scale } => {
                let scale = scale[channel..].first_chunk().unwrap_or(&[0.0; LANES]);
                Line::Codes(&codes[range], scale)
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
            Line::Codes(codes, scale) => f32::from(codes[term * LANES + lane]) * scale[lane],
        }
    }
}

fn code_of(value: f32, scale: f32) -> f32 {
    (value / scale).round_ties_even()
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
