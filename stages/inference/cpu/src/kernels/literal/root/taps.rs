//! The taps of a window, in the order in which a model sums them.

use super::super::super::Window;

/// Taps of a convolution, or of a transposed one.
#[derive(Debug, Clone)]
pub(crate) struct Taps {
    stride: [usize; 2],
    dilation: [usize; 2],
    pad: [isize; 2],
    transposed: bool,
    /// Row and column in the kernel, in the order of the sum.
    places: Vec<[usize; 2]>,
    /// Taps that are summed apart before they are added to the rest.
    chain: usize,
}

impl Taps {
    /// Taps of a convolution: row by row.
    pub fn of(window: &Window) -> Self {
        let [rows, columns] = window.kernel;
        Self {
            stride: window.stride,
            dilation: window.dilation,
            pad: window.pad_begin.map(|p| p as isize),
            transposed: false,
            places: (0..rows)
                .flat_map(|y| (0..columns).map(move |x| [y, x]))
                .collect(),
            chain: usize::MAX,
        }
    }

    /// Taps of a transposed convolution: row by row; with a kernel of even width (strides 1, 2, 4) column by column,
    /// each summed apart; backwards where all strides are 1.
    pub fn transposed(kernel: [usize; 2], stride: [usize; 2], dilation: [usize; 2], pad: [isize; 2]) -> Self {
        let [rows, columns] = kernel;
        let apart = columns.is_multiple_of(2) && [1, 2, 4].contains(&stride[1]);
        let mut places: Vec<[usize; 2]> = if apart {
            (0..columns)
                .flat_map(|x| (0..rows).map(move |y| [y, x]))
                .collect()
        } else {
            (0..rows)
                .flat_map(|y| (0..columns).map(move |x| [y, x]))
                .collect()
        };
        if stride == [1, 1] {
            places.reverse();
        }
        Self {
            stride,
            dilation,
            pad,
            transposed: true,
            places,
            chain: if apart { rows } else { usize::MAX },
        }
    }

    /// Row and column in the kernel of each tap, in order.
    pub fn places(&self) -> &[[usize; 2]] {
        &self.places
    }

    /// Taps that are summed apart before they are added to the rest.
    pub fn chain(&self) -> usize {
        self.chain
    }

    /// The window, of a convolution.
    pub fn window(&self) -> Option<Window> {
        let [rows, columns] = self.places.last()?;
        (!self.transposed).then(|| Window {
            kernel: [rows + 1, columns + 1],
            stride: self.stride,
            dilation: self.dilation,
            pad_begin: self.pad.map(|pad| pad.unsigned_abs()),
        })
    }

    /// The coordinate along `axis` that the place of a tap has over an output pixel, inside an input of that length.
    #[inline(always)]
    fn at(&self, axis: usize, output: usize, place: usize, length: usize) -> Option<usize> {
        let (output, stride) = (output as isize, self.stride[axis] as isize);
        let offset = (place * self.dilation[axis]) as isize;
        let at = if self.transposed {
            let at = output + self.pad[axis] - offset;
            (at % stride == 0).then_some(at / stride)?
        } else {
            output * stride + offset - self.pad[axis]
        };
        usize::try_from(at).ok().filter(|&at| at < length)
    }

    /// Calls `tap(index, row, column)` for each tap over an output pixel that lies inside the input of that size.
    #[inline(always)]
    pub fn visit(&self, size: [usize; 2], pixel: [usize; 2], mut tap: impl FnMut(usize, usize, usize)) {
        let at = |axis: usize, place: usize| self.at(axis, pixel[axis], place, size[axis]);
        for (index, &[ky, kx]) in self.places.iter().enumerate() {
            if let Some(y) = at(0, ky)
                && let Some(x) = at(1, kx)
            {
                tap(index, y, x);
            }
        }
    }
}
