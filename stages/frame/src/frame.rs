//! Decoded pictures.

use std::sync::{Arc, LazyLock};

use flow::packet::{Packet, Payload, PayloadFile};
use flow::ports::PortType;

use crate::{Buffer, FRAME};

/// How the samples of a frame are arranged. 8 bits a sample throughout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PixelFormat {
    /// Planar Y, U, V; chroma halved both ways.
    I420,
    /// Planar Y, U, V; chroma halved horizontally.
    I422,
    /// Planar Y, U, V; full chroma.
    I444,
    /// Planar Y, then interleaved U and V; chroma halved both ways.
    Nv12,
    /// Luma only.
    Gray,
    /// Interleaved red, green, blue.
    Rgb,
    /// Interleaved blue, green, red.
    Bgr,
}

impl PixelFormat {
    /// Lower-case name.
    pub fn name(self) -> &'static str {
        match self {
            Self::I420 => "i420",
            Self::I422 => "i422",
            Self::I444 => "i444",
            Self::Nv12 => "nv12",
            Self::Gray => "gray",
            Self::Rgb => "rgb",
            Self::Bgr => "bgr",
        }
    }

    /// Rows and bytes per row of each plane of a `width` x `height` frame, tightly packed. Odd sizes round
    /// chroma up.
    pub fn planes(self, width: u32, height: u32) -> impl Iterator<Item = (usize, usize)> {
        let (w, h) = (width as usize, height as usize);
        let (cw, ch) = (w.div_ceil(2), h.div_ceil(2));
        let (count, planes) = match self {
            Self::I420 => (3, [(h, w), (ch, cw), (ch, cw)]),
            Self::I422 => (3, [(h, w), (h, cw), (h, cw)]),
            Self::I444 => (3, [(h, w); 3]),
            Self::Nv12 => (2, [(h, w), (ch, 2 * cw), (0, 0)]),
            Self::Gray => (1, [(h, w); 3]),
            Self::Rgb | Self::Bgr => (1, [(h, 3 * w); 3]),
        };
        planes.into_iter().take(count)
    }

    /// Bytes of a tightly packed frame.
    pub fn frame_bytes(self, width: u32, height: u32) -> usize {
        self.planes(width, height).map(|(rows, row)| rows * row).sum()
    }
}

/// YUV matrix coefficients (ITU-T H.273 `matrix_coefficients`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Matrix {
    /// BT.601 (values 5 and 6).
    Bt601,
    /// BT.709 (value 1).
    Bt709,
}

/// Range of the samples (ITU-T H.273 `video_full_range_flag`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Range {
    /// Luma 16..=235, chroma 16..=240.
    Limited,
    /// 0..=255.
    Full,
}

/// What the samples of a YUV frame mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ColorSpace {
    /// Matrix coefficients.
    pub matrix: Matrix,
    /// Sample range.
    pub range: Range,
}

impl ColorSpace {
    /// What a stream without colour description gets, as common players do: BT.709 from 720 rows on, else
    /// BT.601, limited range.
    pub fn guess(height: u32) -> Self {
        Self {
            matrix: if height >= 720 {
                Matrix::Bt709
            } else {
                Matrix::Bt601
            },
            range: Range::Limited,
        }
    }

    /// JPEG's: BT.601, full range.
    pub const JPEG: Self = Self {
        matrix: Matrix::Bt601,
        range: Range::Full,
    };
}

/// Place of one plane in a frame's buffer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PlaneLayout {
    /// Offset of the first row in bytes.
    pub offset: usize,
    /// Distance between rows in bytes.
    pub stride: usize,
    /// Number of rows.
    pub rows: usize,
    /// Used bytes of a row.
    pub row_bytes: usize,
}

/// Why a frame cannot be made.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
pub enum FrameError {
    /// Width or height is zero or above [`Frame::MAX_SIDE`].
    #[error(
        "a frame of {width}x{height} pixels; each side must be from 1 to {}",
        Frame::MAX_SIDE
    )]
    Size {
        /// Width in pixels.
        width: u32,
        /// Height in pixels.
        height: u32,
    },
    /// The planes reach past the buffer.
    #[error("the planes need {need} bytes, the buffer has {have}")]
    Short {
        /// Bytes needed.
        need: usize,
        /// Bytes there.
        have: usize,
    },
}

/// Planes of a frame at most.
const MOST_PLANES: usize = 3;

/// The name of no file, shared by all frames that are from none.
fn nowhere() -> Arc<str> {
    static EMPTY: LazyLock<Arc<str>> = LazyLock::new(|| Arc::from(""));
    EMPTY.clone()
}

/// A decoded picture. Planes lie in one buffer, each with its own stride.
#[derive(Debug, Clone)]
pub struct Frame {
    width: u32,
    height: u32,
    format: PixelFormat,
    color: ColorSpace,
    planes: [PlaneLayout; MOST_PLANES],
    plane_count: usize,
    data: Buffer,
    origin: Arc<str>,
}

impl Frame {
    /// Largest width and height.
    pub const MAX_SIDE: u32 = 16_384;

    /// A frame over a tightly packed buffer.
    pub fn packed(
        width: u32,
        height: u32,
        format: PixelFormat,
        color: ColorSpace,
        data: Buffer,
    ) -> Result<Self, FrameError> {
        if width == 0 || height == 0 || width > Self::MAX_SIDE || height > Self::MAX_SIDE {
            return Err(FrameError::Size { width, height });
        }
        let mut offset = 0;
        let mut planes = [PlaneLayout::default(); MOST_PLANES];
        let mut plane_count = 0;
        for (plane, (rows, row_bytes)) in planes.iter_mut().zip(format.planes(width, height)) {
            *plane = PlaneLayout {
                offset,
                stride: row_bytes,
                rows,
                row_bytes,
            };
            offset += rows * row_bytes;
            plane_count += 1;
        }
        if offset > data.len() {
            return Err(FrameError::Short {
                need: offset,
                have: data.len(),
            });
        }
        Ok(Self {
            width,
            height,
            format,
            color,
            planes,
            plane_count,
            data,
            origin: nowhere(),
        })
    }

    /// Names the file the frame is from.
    #[must_use]
    pub fn from_origin(mut self, origin: Arc<str>) -> Self {
        self.origin = origin;
        self
    }

    /// Width in pixels.
    pub fn width(&self) -> u32 {
        self.width
    }
    /// Height in pixels.
    pub fn height(&self) -> u32 {
        self.height
    }
    /// Arrangement of the samples.
    pub fn format(&self) -> PixelFormat {
        self.format
    }
    /// Meaning of YUV samples; for RGB and grey frames it has no effect.
    pub fn color(&self) -> ColorSpace {
        self.color
    }
    /// Name of the file the frame is from; empty where it does not matter.
    pub fn origin(&self) -> &Arc<str> {
        &self.origin
    }
    /// Number of planes.
    pub fn plane_count(&self) -> usize {
        self.plane_count
    }
    /// Layout of plane `index`.
    ///
    /// # Panics
    /// If there is no such plane.
    pub fn plane_layout(&self, index: usize) -> PlaneLayout {
        self.planes[..self.plane_count][index]
    }
    /// Bytes of plane `index` from its first row's first byte to its last row's last used byte.
    ///
    /// # Panics
    /// If there is no such plane.
    pub fn plane(&self, index: usize) -> &[u8] {
        let p = self.plane_layout(index);
        &self.data[p.offset..p.offset + p.stride * (p.rows - 1) + p.row_bytes]
    }
    /// The same, to write to.
    ///
    /// # Panics
    /// If there is no such plane.
    pub fn plane_mut(&mut self, index: usize) -> &mut [u8] {
        let p = self.plane_layout(index);
        &mut self.data[p.offset..p.offset + p.stride * (p.rows - 1) + p.row_bytes]
    }
    /// Row `row` of plane `index`.
    ///
    /// # Panics
    /// If there is no such plane or row.
    pub fn row(&self, index: usize, row: usize) -> &[u8] {
        let p = self.plane_layout(index);
        assert!(row < p.rows, "row {row} of {}", p.rows);
        &self.data[p.offset + row * p.stride..][..p.row_bytes]
    }
}

impl Payload for Frame {
    fn port_type(&self) -> PortType {
        FRAME
    }
    fn bytes(&self) -> usize {
        self.data.len()
    }
    fn shape_key(&self) -> u64 {
        flow::packet::shape_key([u64::from(self.width), u64::from(self.height), self.format as u64])
    }
    fn files(&self, _: &Packet) -> Vec<PayloadFile> {
        crate::files::frame(self).into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_sizes_round_chroma_up() {
        assert!(PixelFormat::I420.planes(5, 3).eq([(3, 5), (2, 3), (2, 3)]));
        assert_eq!(PixelFormat::I420.frame_bytes(5, 3), 27);
    }

    #[test]
    fn a_short_buffer_is_refused() {
        let e = Frame::packed(4, 4, PixelFormat::Rgb, ColorSpace::JPEG, Buffer::zeroed(47)).unwrap_err();
        assert_eq!(e, FrameError::Short { need: 48, have: 47 });
    }
}
