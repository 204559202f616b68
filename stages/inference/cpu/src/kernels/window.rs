//! Sliding windows of convolutions and pools, and the check that all their reads lie in image and halo.

use super::{ArgError, Halo, Layout};

/// A two-dimensional sliding window; pairs are (y, x).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Window {
    /// Taps.
    pub kernel: [usize; 2],
    /// Steps between outputs.
    pub stride: [usize; 2],
    /// Steps between taps.
    pub dilation: [usize; 2],
    /// Padding before the first pixel; padding after follows from the output size.
    pub pad_begin: [usize; 2],
}

impl Window {
    /// One tap, stride 1, no padding.
    pub const POINT: Window = Window {
        kernel: [1, 1],
        stride: [1, 1],
        dilation: [1, 1],
        pad_begin: [0, 0],
    };

    /// Number of taps.
    pub fn taps(&self) -> usize {
        self.kernel[0].saturating_mul(self.kernel[1])
    }

    /// # Errors
    /// [`ArgError`] for a zero or an absurdly large number.
    pub(crate) fn check(&self) -> Result<(), ArgError> {
        let positive = [self.kernel, self.stride, self.dilation];
        let positive = positive.as_flattened();
        if positive.contains(&0) {
            return Err(ArgError::Empty);
        }
        if positive.iter().chain(&self.pad_begin).any(|&n| n > 1 << 20) {
            return Err(ArgError::Overflow("window"));
        }
        Ok(())
    }

    /// First and last input coordinate along `axis` that `outputs` outputs read.
    pub(crate) fn reach(&self, axis: usize, outputs: usize) -> Result<(isize, isize), ArgError> {
        let outputs = isize::try_from(outputs).map_err(|_| ArgError::Overflow("output"))?;
        let last = (outputs - 1)
            .checked_mul(self.stride[axis] as isize)
            .and_then(|l| {
                l.checked_add(((self.kernel[axis] - 1) * self.dilation[axis]) as isize)?
                    .checked_sub(self.pad_begin[axis] as isize)
            })
            .ok_or(ArgError::Overflow("output"))?;
        Ok((-(self.pad_begin[axis] as isize), last))
    }

    /// The halo that an input of `height` x `width` needs for an output of `out_height` x `out_width`.
    ///
    /// # Errors
    /// [`ArgError`] where sizes pass the address space or are zero.
    pub fn halo(
        &self,
        height: usize,
        width: usize,
        out_height: usize,
        out_width: usize,
    ) -> Result<Halo, ArgError> {
        self.check()?;
        let after = |axis: usize, input: usize, outputs: usize| -> Result<usize, ArgError> {
            let (_, last) = self.reach(axis, outputs)?;
            Ok(usize::try_from(last + 1).unwrap_or(0).saturating_sub(input))
        };
        Ok(Halo {
            top: self.pad_begin[0],
            left: self.pad_begin[1],
            bottom: after(0, height, out_height)?,
            right: after(1, width, out_width)?,
        })
    }

    /// Checks that the outputs of `output` read only pixels of `input` and its halo; returns the last row
    /// and the last column read.
    pub(crate) fn check_reads(&self, input: &Layout, output: &Layout) -> Result<(isize, isize), ArgError> {
        let (h, w) = (input.height, input.width);
        let need = self.halo(h, w, output.height, output.width)?;
        let have = input.halo;
        for (what, needed, available) in [
            ("halo above the input", need.top, have.top),
            ("halo left of the input", need.left, have.left),
            ("halo below the input", need.bottom, have.bottom),
            ("halo right of the input", need.right, have.right),
        ] {
            if needed > available {
                return Err(ArgError::OutOfBounds {
                    what,
                    needed,
                    available,
                });
            }
        }
        Ok((self.reach(0, output.height)?.1, self.reach(1, output.width)?.1))
    }
}
