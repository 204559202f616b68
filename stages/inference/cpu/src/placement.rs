//! How the elements of a value lie in its buffer.

use crate::kernels::{Halo, Layout};
use crate::nest::row_major;

/// A value `[N, C, H, W]`, or `[N, C, W]` with one row, stored as NHWC with padded channels and a halo. All lengths
/// in elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Image {
    /// Axes of the value: 3 or 4.
    pub rank: usize,
    /// Pictures.
    pub batch: usize,
    /// Channels with a meaning.
    pub channels: usize,
    /// Rows.
    pub height: usize,
    /// Pixels per row.
    pub width: usize,
    /// Distance of neighbouring pixels; at least `channels`.
    pub pixel_stride: usize,
    /// The halo.
    pub halo: Halo,
}

impl Image {
    /// Distance of neighbouring rows.
    pub fn row_pitch(&self) -> usize {
        (self.halo.left + self.width + self.halo.right) * self.pixel_stride
    }
    /// Distance of neighbouring pictures.
    pub fn image_pitch(&self) -> usize {
        (self.halo.top + self.height + self.halo.bottom) * self.row_pitch()
    }
    /// Place of pixel (0, 0) of the first picture.
    pub fn origin(&self) -> usize {
        self.halo.top * self.row_pitch() + self.halo.left * self.pixel_stride
    }
    /// Picture `n` as kernels see it.
    pub fn layout(&self, n: usize) -> Layout {
        Layout {
            height: self.height,
            width: self.width,
            channels: self.channels,
            pixel_stride: self.pixel_stride,
            row_pitch: self.row_pitch(),
            halo: self.halo,
            origin: n * self.image_pitch() + self.origin(),
        }
    }
    /// Elements of all pictures with their halos; `None` on overflow.
    pub fn elements(&self) -> Option<usize> {
        let width = self
            .width
            .checked_add(self.halo.left)?
            .checked_add(self.halo.right)?;
        let height = self
            .height
            .checked_add(self.halo.top)?
            .checked_add(self.halo.bottom)?;
        width
            .checked_mul(self.pixel_stride)?
            .checked_mul(height)?
            .checked_mul(self.batch)
    }
}

/// Where the elements of a value lie, in elements from the start of its buffer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Placement {
    /// Dense, row-major.
    Plain {
        /// Axis lengths.
        shape: Vec<usize>,
    },
    /// NHWC.
    Image(Image),
}

impl Placement {
    /// Dense row-major.
    pub fn plain(shape: &[usize]) -> Self {
        Self::Plain {
            shape: shape.to_vec(),
        }
    }

    /// The logical shape; `[N, C, H, W]` or `[N, C, W]` for an image.
    pub fn shape(&self) -> Vec<usize> {
        match self {
            Self::Plain { shape } => shape.clone(),
            Self::Image(i) if i.rank == 3 => vec![i.batch, i.channels, i.width],
            Self::Image(i) => vec![i.batch, i.channels, i.height, i.width],
        }
    }

    /// Distance of neighbours along each logical axis.
    pub fn strides(&self) -> Vec<usize> {
        match self {
            Self::Plain { shape } => row_major(shape),
            Self::Image(i) if i.rank == 3 => vec![i.image_pitch(), 1, i.pixel_stride],
            Self::Image(i) => vec![i.image_pitch(), 1, i.row_pitch(), i.pixel_stride],
        }
    }

    /// Place of the first element.
    pub fn offset(&self) -> usize {
        match self {
            Self::Plain { .. } => 0,
            Self::Image(i) => i.origin(),
        }
    }

    /// The images in it as kernels see them: each picture, or for a plain value of shape `[.., C]` one row of
    /// pixels with `C` channels.
    pub fn layouts(&self) -> Vec<Layout> {
        match self {
            Self::Plain { shape } => {
                let channels = shape.last().copied().unwrap_or(1);
                let pixels = shape.iter().rev().skip(1).product();
                vec![Layout::dense(1, pixels, channels)]
            }
            Self::Image(i) => (0..i.batch).map(|n| i.layout(n)).collect(),
        }
    }

    /// Elements of the buffer, halo and channel padding included; `None` on overflow.
    pub fn elements(&self) -> Option<usize> {
        match self {
            Self::Plain { shape } => shape.iter().try_fold(1_usize, |n, &d| n.checked_mul(d)),
            Self::Image(i) => i.elements(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_puts_channels_innermost_and_the_halo_around() {
        let image = Placement::Image(Image {
            rank: 4,
            batch: 2,
            channels: 3,
            height: 4,
            width: 5,
            pixel_stride: 16,
            halo: Halo {
                top: 1,
                bottom: 0,
                left: 2,
                right: 1,
            },
        });
        let row = (2 + 5 + 1) * 16;
        assert_eq!(image.strides(), [5 * row, 1, row, 16]);
        assert_eq!(image.offset(), row + 32);
        assert_eq!(image.elements(), Some(2 * 5 * row));
    }
}
