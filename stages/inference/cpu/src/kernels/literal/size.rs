//! How large the data of a sum are, on which it depends how far off its f32 value may be.

use std::ops::Range;

use super::super::View;
use super::{Arithmetic, Products, Values};

/// The size of data: `unit * sum of (code - zero)^2` over a sum's data is the square of it, as a share of the largest that the
/// data could have.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Size {
    pub zero: i32,
    pub unit: f32,
}

impl Size {
    /// For codes that mean `values`, `terms` to a sum: those of a line through zero.
    pub(crate) fn new(values: &Values, terms: usize) -> Option<Self> {
        let [z, scale, low] = values.affine()?;
        let zero = (z - low / scale).round();
        // What is nearly zero counts as zero.
        if !(0.0..=255.0).contains(&zero) || ((zero - z) * scale + low).abs() > 1e-3 * scale.abs() {
            return None;
        }
        let largest = values.0.iter().fold(0.0_f32, |m, v| m.max(v.abs()));
        let unit = scale / largest;
        Some(Self {
            zero: zero as i32,
            unit: unit * unit / terms as f32,
        })
        .filter(|size| size.unit.is_finite())
    }
}

/// Arguments of [`Size::rests`].
#[derive(Debug)]
pub(crate) struct RestsArgs<'a> {
    pub size: &'a Size,
    pub products: &'a Products,
    pub input: &'a View<'a, u8>,
    /// Output rows.
    pub rows: Range<usize>,
    /// Pixels of an output row.
    pub width: usize,
    /// For each pixel of the rows: 1 less the size of its data.
    pub rests: &'a mut Vec<f32>,
    pub squares: &'a mut Vec<u32>,
}

impl Size {
    /// Finds how large the data of each output pixel are, if they are those of windows. Those of all groups count.
    ///
    /// # Safety
    /// Those of [`Arithmetic`].
    #[inline(always)]
    pub(crate) unsafe fn rests<A: Arithmetic>(args: &mut RestsArgs<'_>) {
        let RestsArgs {
            size,
            products,
            input,
            rows,
            width,
            rests,
            squares,
        } = args;
        rests.clear();
        let Some(window) = products.taps().window().filter(|_| *width > 0) else {
            return;
        };
        let [rows_in, columns_in] = [input.layout().height, input.layout().width];
        // Input row and column of a tap, if it is inside.
        let at = |axis: usize, output: usize, tap: usize, length: usize| {
            (output * window.stride[axis] + tap * window.dilation[axis])
                .checked_sub(window.pad_begin[axis])
                .filter(|&at| at < length)
        };
        rests.resize(rows.len() * *width, 0.0);
        // Sums over the rows of the window, of each input column; and then over its columns.
        squares.resize(columns_in + *width, 0);
        let (of_columns, of_windows) = squares.split_at_mut(columns_in);
        for (y, rests) in rows.clone().zip(rests.chunks_exact_mut(*width)) {
            of_columns.fill(0);
            of_windows.fill(0);
            for tap in 0..window.kernel[0] {
                let Some(row) = at(0, y, tap, rows_in) else {
                    continue;
                };
                for (x, sum) in of_columns.iter_mut().enumerate() {
                    // SAFETY: the caller's contract.
                    *sum = sum.saturating_add(unsafe { A::squares(input.pixel(row, x), size.zero as i16) });
                }
            }
            for tap in 0..window.kernel[1] {
                for (x, sum) in of_windows.iter_mut().enumerate() {
                    if let Some(column) = at(1, x, tap, columns_in) {
                        *sum = sum.saturating_add(of_columns[column]);
                    }
                }
            }
            for (rest, &sum) in rests.iter_mut().zip(&*of_windows) {
                *rest = (1.0 - (sum as f32 * size.unit).sqrt()).max(0.0);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::literal::{Portable, Taps};
    use crate::kernels::{Layout, Window};

    /// The largest share is that of the largest data; taps in the padding count as zero.
    #[test]
    fn the_size_of_data_is_a_share_of_the_largest() {
        let values = Values((0..=255).map(|code| code as f32 * 0.5).collect());
        let window = Window {
            kernel: [1, 2],
            stride: [1, 1],
            dilation: [1, 1],
            pad_begin: [0, 0],
        };
        let products = Products::new(Taps::of(&window), 2, [2, 1, 1], 4, &[1.0; 4]).unwrap();
        let size = Size::new(&values, products.length()).unwrap();
        let codes = [255, 255, 255, 255, 0, 0];
        let input = View::new(&codes, Layout::dense(1, 3, 2)).unwrap();
        let (mut rests, mut squares) = (Vec::new(), Vec::new());
        let mut args = RestsArgs {
            size: &size,
            products: &products,
            input: &input,
            rows: 0..1,
            width: 3,
            rests: &mut rests,
            squares: &mut squares,
        };
        // SAFETY: portable arithmetic runs on every processor.
        unsafe { Size::rests::<Portable>(&mut args) };
        let half = 1.0 - 0.5_f32.sqrt();
        for (found, expected) in rests.iter().zip([0.0, half, 1.0]) {
            assert!((found - expected).abs() < 1e-6, "{rests:?}");
        }
        assert_eq!(rests.len(), 3);
    }
}
