//! Sums of products with constant weights.

use super::super::super::View;
use super::super::{Arithmetic, Coded, Doubt, LANES, Lines, QUAD, SIDE, Values};
use super::{Decode, Memory, Taps, size};

/// Words of codes that are put side by side at a time: 4 KiB of data and as much of weights.
const WORDS: usize = 64;

/// A convolution, a transposed convolution or a matrix product.
#[derive(Debug, Clone)]
pub(crate) struct Products {
    taps: Taps,
    /// Input channels of a group.
    inputs: usize,
    /// Output channels of a group.
    outputs: usize,
    /// Terms that are summed apart before they are added to the rest.
    block: usize,
    /// Terms are taps in order, in them inputs.
    weights: Lines,
}

impl Products {
    /// With weights `[output channel][input of its group][kernel row][kernel column]`; `block` terms are summed
    /// apart. `None` if their number is another.
    pub fn new(
        taps: Taps,
        columns: usize,
        [inputs, outputs, channels]: [usize; 3],
        block: usize,
        given: &[f32],
    ) -> Option<Self> {
        let all = taps.places().len();
        let length = all.checked_mul(inputs)?;
        if outputs == 0 || length == 0 || given.len() != length.checked_mul(channels)? {
            return None;
        }
        let order: Vec<usize> = taps
            .places()
            .iter()
            .flat_map(|&[ky, kx]| (0..inputs).map(move |input| input * all + ky * columns + kx))
            .collect();
        Some(Self {
            block: block.min(taps.chain().saturating_mul(inputs)),
            taps,
            inputs,
            outputs,
            weights: Lines::new(given, length, &order)?,
        })
    }

    /// Terms of a sum.
    pub fn length(&self) -> usize {
        self.taps.places().len() * self.inputs
    }

    /// In the order of the sum.
    pub fn taps(&self) -> &Taps {
        &self.taps
    }

    /// Input channels of a group.
    pub fn inputs(&self) -> usize {
        self.inputs
    }

    /// Output channels of a group.
    pub fn outputs(&self) -> usize {
        self.outputs
    }

    /// Terms that are summed apart before they are added to the rest.
    pub fn block(&self) -> usize {
        self.block
    }

    /// Terms are taps in order, in them inputs.
    pub fn weights(&self) -> &Lines {
        &self.weights
    }

    /// For values of any channels, up to [`LANES`] of them.
    ///
    /// # Safety
    /// Those of [`Arithmetic`].
    #[inline(always)]
    pub(in super::super) unsafe fn evaluate<A: Arithmetic>(
        &self,
        view: &View<'_, u8>,
        doubts: &[Doubt],
        (decode, values): (Decode<'_>, &Values),
        memory: &mut Memory,
    ) -> [f32; LANES] {
        // SAFETY: the caller's contract.
        unsafe {
            match (&self.weights, decode) {
                (Lines::Codes { codes, scale }, Decode::Affine(affine)) => {
                    let inside = |doubt: &Doubt| {
                        let mut taps = 0;
                        self.taps.visit(size(view), doubt.pixel(), |_, _, _| taps += 1);
                        taps == self.taps.places().len()
                    };
                    // Taps in the padding add nothing: they need a code that means it.
                    let zero = values.0[..256].iter().position(|&value| value == 0.0);
                    if let Some(zero) = zero.or_else(|| doubts.iter().all(inside).then_some(0)) {
                        let weights = (codes.as_chunks().0.as_chunks().0, &scale[..]);
                        return self.of_codes::<A>(
                            view,
                            doubts,
                            (zero as u8, affine),
                            weights,
                            &mut memory.codes,
                        );
                    }
                    self.of_values::<A>(view, doubts, decode, &mut memory.columns)
                }
                _ => self.of_values::<A>(view, doubts, decode, &mut memory.columns),
            }
        }
    }

    /// From the codes of data and weights.
    ///
    /// # Safety
    /// Those of [`Arithmetic`], which has an instruction for `a * b + c`.
    #[inline(always)]
    unsafe fn of_codes<A: Arithmetic>(
        &self,
        view: &View<'_, u8>,
        doubts: &[Doubt],
        (zero, affine): (u8, [f32; 3]),
        (codes, scales): (&[[[i8; QUAD]; LANES]], &[f32]),
        columns: &mut Vec<u8>,
    ) -> [f32; LANES] {
        let length = self.length();
        // A word may be read from any term on.
        let pitch = length + QUAD;
        columns.resize(pitch * LANES, 0);
        let quads = length.div_ceil(QUAD);
        let mut scale = [0.0; LANES];
        for ((column, doubt), scale) in columns.chunks_exact_mut(pitch).zip(doubts).zip(&mut scale) {
            let channel = doubt.channel as usize;
            let first = channel / self.outputs * self.inputs;
            *scale = scales[channel];
            let mut next = 0;
            self.taps.visit(size(view), doubt.pixel(), |tap, y, x| {
                column[next * self.inputs..tap * self.inputs].fill(zero);
                column[tap * self.inputs..][..self.inputs]
                    .copy_from_slice(&view.pixel(y, x)[first..first + self.inputs]);
                next = tap + 1;
            });
            column[next * self.inputs..length].fill(zero);
        }
        let mut sums = [0.0; LANES];
        let mut data = [[[0; QUAD]; LANES]; WORDS];
        let mut weights = [[[0; QUAD]; LANES]; WORDS];
        let mut start = 0;
        while start < length {
            let end = length.min(start + self.block);
            let mut part = [0.0; LANES];
            while start < end {
                let terms = (WORDS * QUAD).min(end - start);
                let words = terms.div_ceil(QUAD);
                for (lane, doubt) in doubts.iter().enumerate() {
                    let channel = doubt.channel as usize;
                    let column = &columns[lane * pitch + start..][..words * QUAD];
                    for (data, word) in data.iter_mut().zip(column.as_chunks().0) {
                        data[lane] = *word;
                    }
                    let (vector, lane_of) = (channel / LANES * quads, channel % LANES);
                    let line = &codes[vector..vector + quads];
                    if start.is_multiple_of(QUAD) {
                        for (weights, quad) in weights[..words].iter_mut().zip(&line[start / QUAD..]) {
                            weights[lane] = quad[lane_of];
                        }
                    } else {
                        for (i, weights) in weights[..words].iter_mut().enumerate() {
                            weights[lane] = std::array::from_fn(|k| {
                                let term = (start + i * QUAD + k).min(length - 1);
                                line[term / QUAD][lane_of][term % QUAD]
                            });
                        }
                    }
                }
                let coded = Coded {
                    terms,
                    data: &data,
                    affine,
                    weights: &weights,
                    scale: &scale,
                };
                // SAFETY: the caller's contract.
                unsafe { A::of_codes(&mut part, &coded) };
                start += terms;
            }
            sums.iter_mut().zip(part).for_each(|(sum, part)| *sum += part);
        }
        sums
    }

    /// From their values.
    ///
    /// # Safety
    /// Those of [`Arithmetic`].
    #[inline(always)]
    unsafe fn of_values<A: Arithmetic>(
        &self,
        view: &View<'_, u8>,
        doubts: &[Doubt],
        decode: Decode<'_>,
        columns: &mut Vec<f32>,
    ) -> [f32; LANES] {
        let length = self.length();
        columns.resize(length * SIDE, 0.0);
        let mut out = [0.0; LANES];
        for (doubts, out) in doubts.chunks(SIDE).zip(out.chunks_exact_mut(SIDE)) {
            for (column, doubt) in columns.chunks_exact_mut(length).zip(doubts) {
                // Taps in the padding add nothing.
                column.fill(0.0);
                let first = doubt.channel as usize / self.outputs * self.inputs;
                self.taps.visit(size(view), doubt.pixel(), |tap, y, x| {
                    let codes = &view.pixel(y, x)[first..first + self.inputs];
                    decode.all::<A>(codes, first, &mut column[tap * self.inputs..][..self.inputs]);
                });
            }
            let mut start = 0;
            while start < length {
                let terms = self.block.min(length - start);
                let channel = |side: usize| doubts[side.min(doubts.len() - 1)].channel as usize;
                let lines = std::array::from_fn(|side| {
                    let first = channel(side) / LANES * LANES;
                    self.weights.line(first, length, start, terms)
                });
                let parts = std::array::from_fn(|side| &columns[side * length + start..][..terms]);
                // SAFETY: the caller's contract.
                let part = unsafe { A::chain(terms, lines, parts) };
                for (side, (sum, part)) in out.iter_mut().zip(part).enumerate() {
                    *sum += part[channel(side) % LANES];
                }
                start += terms;
            }
        }
        out
    }
}
