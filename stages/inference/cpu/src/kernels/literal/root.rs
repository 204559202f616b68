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
use super::{Arithmetic, Doubt, LANES, SIDE, Values};

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

/// Memory that evaluation works in.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    /// `[term][SIDE]`.
    columns: Vec<f32>,
    /// `[term][LANES]`.
    weights: Vec<f32>,
}

/// f32 results of a root: [`SIDE`] vectors.
pub(super) type Sums = [[f32; LANES]; SIDE];

impl Root {
    /// The f32 results for up to [`SIDE`] vectors of the same channels, of which `used` are there.
    ///
    /// # Safety
    /// Those of [`Arithmetic`].
    #[inline(always)]
    pub(super) unsafe fn evaluate<A: Arithmetic>(
        &self,
        data: Data<'_>,
        (doubts, used): (&[Doubt], usize),
        values: &Values,
        memory: &mut Memory,
    ) -> Sums {
        // SAFETY: the caller's contract.
        unsafe {
            match (self, data) {
                (Root::Products(root), Data::Image(view)) => {
                    root.evaluate::<A>(view, (doubts, used), values, &mut memory.columns)
                }
                (Root::Depthwise(root), Data::Image(view)) => {
                    root.evaluate::<A>(view, (doubts, used), values)
                }
                (Root::Matrices(root), Data::Matrices(matrices)) => {
                    root.evaluate::<A>(matrices, (doubts, used), values, memory)
                }
                (Root::Windows(root), Data::Image(view)) => root.evaluate(view, (doubts, used), values),
                (Root::Identity, Data::Image(view)) => identity(view, (doubts, used), values),
                // Lowering pairs roots with their data.
                _ => [[0.0; LANES]; SIDE],
            }
        }
    }
}

#[inline(always)]
fn identity(view: &View<'_, u8>, (doubts, used): (&[Doubt], usize), values: &Values) -> Sums {
    let mut sums = [[0.0; LANES]; SIDE];
    for (sums, doubt) in sums.iter_mut().zip(doubts) {
        let channel = doubt.channel as usize;
        for (i, sum) in sums[..used].iter_mut().enumerate() {
            let code = view.at(doubt.row as isize, doubt.column as isize, channel + i);
            *sum = values.of(code, channel + i);
        }
    }
    sums
}

/// Rows and columns of an image.
#[inline(always)]
fn size(view: &View<'_, u8>) -> [usize; 2] {
    [view.layout().height, view.layout().width]
}
