//! What is evaluated again before the operations: one file per kind of root.

mod depthwise;
mod matrices;
mod products;
mod taps;
mod windows;

pub(crate) use depthwise::Depthwise;
pub(crate) use matrices::Matrices;
pub(crate) use products::Products;
pub(crate) use taps::Taps;
pub(crate) use windows::{Count, Windows};

use super::super::View;
use super::{Arithmetic, Doubt, LANES, SIDE, Values, fused_by};

/// What is evaluated before the operations.
#[derive(Debug, Clone)]
pub(crate) enum Root {
    /// Convolution, transposed convolution or product with constant weights, in groups or not.
    Products(Products),
    /// The same with one channel per group.
    Depthwise(Depthwise),
    /// Product of two activations.
    Matrices(Matrices),
    /// Sum or mean over a window.
    Windows(Windows),
    /// The value of the code itself.
    Identity,
}

/// Codes that a root is evaluated from.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Data<'a> {
    /// An image.
    Image(&'a View<'a, u8>),
    /// Two matrices, from their first element on.
    Matrices([&'a [u8]; 2]),
}

/// How codes become values.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Decode<'a> {
    /// `fma(code - z, scale, low)`, for arithmetic that has the instruction.
    Affine([f32; 3]),
    Table(&'a Values),
}

impl Decode<'_> {
    /// The values of codes of neighbouring channels from `first` on.
    #[inline(always)]
    fn all<A: Arithmetic>(&self, codes: &[u8], first: usize, to: &mut [f32]) {
        match self {
            Decode::Affine([z, scale, low]) => {
                for (to, &code) in to.iter_mut().zip(codes) {
                    *to = fused_by::<A>(f32::from(code) - z, *scale, *low);
                }
            }
            Decode::Table(values) => {
                for (i, (to, &code)) in to.iter_mut().zip(codes).enumerate() {
                    *to = values.of(code, first + i);
                }
            }
        }
    }
}

/// Memory that evaluation works in.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    /// `[side][term]`.
    columns: Vec<f32>,
    /// `[term][LANES]`.
    weights: Vec<f32>,
    /// `[lane][term]`.
    codes: Vec<u8>,
}

/// f32 results of a root: [`SIDE`] vectors.
pub(super) type Sums = [[f32; LANES]; SIDE];

impl Root {
    /// The f32 results for up to [`SIDE`] vectors of an output of so many channels.
    ///
    /// # Safety
    /// Those of [`Arithmetic`].
    #[inline(always)]
    pub(super) unsafe fn evaluate<A: Arithmetic>(
        &self,
        data: Data<'_>,
        (doubts, channels): (&[Doubt], usize),
        decode: Decode<'_>,
        memory: &mut Memory,
    ) -> Sums {
        // SAFETY: the caller's contract.
        unsafe {
            match (self, data) {
                (Root::Depthwise(root), Data::Image(view)) => {
                    root.evaluate::<A>(view, (doubts, channels), decode)
                }
                (Root::Matrices(root), Data::Matrices(matrices)) => {
                    root.evaluate::<A>(matrices, (doubts, channels), decode, memory)
                }
                (Root::Windows(root), Data::Image(view)) => {
                    root.evaluate::<A>(view, (doubts, channels), decode)
                }
                (Root::Identity, Data::Image(view)) => identity::<A>(view, (doubts, channels), decode),
                // Lowering pairs roots with their data; sums of products are evaluated by themselves.
                _ => [[0.0; LANES]; SIDE],
            }
        }
    }
}

#[inline(always)]
fn identity<A: Arithmetic>(
    view: &View<'_, u8>,
    (doubts, channels): (&[Doubt], usize),
    decode: Decode<'_>,
) -> Sums {
    let mut sums = [[0.0; LANES]; SIDE];
    for (sums, doubt) in sums.iter_mut().zip(doubts) {
        let [y, x] = doubt.pixel();
        *sums = vector::<A>(view, (y, x), doubt.channel as usize, channels, decode);
    }
    sums
}

/// The values of the vector of channels from `channel` on of a pixel; zeros beyond the last of `channels`.
#[inline(always)]
fn vector<A: Arithmetic>(
    view: &View<'_, u8>,
    (y, x): (usize, usize),
    channel: usize,
    channels: usize,
    decode: Decode<'_>,
) -> [f32; LANES] {
    let mut values = [0.0; LANES];
    let codes = &view.pixel(y, x)[channel..channels.min(channel + LANES)];
    match codes.first_chunk::<LANES>() {
        Some(codes) => decode.all::<A>(codes, channel, &mut values),
        None => decode.all::<A>(codes, channel, &mut values[..codes.len()]),
    }
    values
}

/// Rows and columns of an image.
#[inline(always)]
fn size(view: &View<'_, u8>) -> [usize; 2] {
    [view.layout().height, view.layout().width]
}
