//! YUV frames to RGB.

use std::ops::Range as Rows;

use yuv::{
    YuvBiPlanarImage, YuvConversionMode, YuvPlanarImage, YuvRange, YuvStandardMatrix, yuv_nv12_to_bgr,
    yuv_nv12_to_rgb, yuv420_to_bgr, yuv420_to_rgb, yuv422_to_bgr, yuv422_to_rgb, yuv444_to_bgr,
    yuv444_to_rgb,
};

use crate::{ColorOrder, ColorSpace, Frame, Matrix, PixelFormat, Range};

/// Why rows of a frame could not be converted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum YuvToRgbError {
    /// The frame holds no YUV samples with chroma.
    #[error("expected a YUV frame, found {}", .0.name())]
    Format(PixelFormat),
    /// The conversion refused the frame or the output.
    #[error("{0}")]
    Refused(String),
}

/// Converts rows of a YUV frame to interleaved RGB, or BGR where `order` is that: `3 * width` bytes a row, the
/// first of `rows` at the start of `out`.
///
/// The frame's own matrix and range hold. Each chroma sample stands for all the pixels it covers; luma below
/// black counts as black. A result is within two levels of the definition in ITU-T H.273.
///
/// # Errors
/// [`YuvToRgbError`] for frames of other formats, and for rows that the frame or `out` lacks.
pub fn yuv_to_rgb(
    frame: &Frame,
    rows: Rows<usize>,
    order: ColorOrder,
    out: &mut [u8],
) -> Result<(), YuvToRgbError> {
    let halved = match frame.format() {
        PixelFormat::I420 | PixelFormat::Nv12 => 2,
        PixelFormat::I422 | PixelFormat::I444 => 1,
        other => return Err(YuvToRgbError::Format(other)),
    };
    if rows.is_empty() {
        return Ok(());
    }
    let stride = 3 * frame.width() as usize;
    if rows.end > frame.height() as usize || out.len() / stride < rows.len() {
        return Err(YuvToRgbError::Refused(format!(
            "rows {rows:?} of a {}x{} frame into {} bytes",
            frame.width(),
            frame.height(),
            out.len()
        )));
    }
    // Pairs of rows share chroma from even rows on.
    let paired = rows.start.is_multiple_of(halved);
    let first = if paired { rows.end } else { rows.start + 1 };
    let (now, later) = out.split_at_mut((first - rows.start) * stride);
    convert(frame, rows.start..first, halved, order, now)?;
    if first == rows.end {
        return Ok(());
    }
    convert(frame, first..rows.end, halved, order, later)
}

/// [`yuv_to_rgb`] of rows of the frame that begin a pair, or of one row.
fn convert(
    frame: &Frame,
    rows: Rows<usize>,
    halved: usize,
    order: ColorOrder,
    out: &mut [u8],
) -> Result<(), YuvToRgbError> {
    let ColorSpace { matrix, range } = frame.color();
    let matrix = match matrix {
        Matrix::Bt601 => YuvStandardMatrix::Bt601,
        Matrix::Bt709 => YuvStandardMatrix::Bt709,
    };
    let range = match range {
        Range::Limited => YuvRange::Limited,
        Range::Full => YuvRange::Full,
    };
    let chroma = rows.start / halved..rows.end.div_ceil(halved);
    let plane = |index: usize, rows: &Rows<usize>| {
        let layout = frame.plane_layout(index);
        let bytes = &frame.plane(index)[rows.start * layout.stride..];
        let len = (rows.len() - 1) * layout.stride + layout.row_bytes;
        // A single row may end with the buffer, before its stride does.
        let stride = if rows.len() == 1 {
            layout.row_bytes
        } else {
            layout.stride
        };
        (&bytes[..len], stride as u32)
    };
    let (width, height) = (frame.width(), rows.len() as u32);
    let (y_plane, y_stride) = plane(0, &rows);
    let bgr = order == ColorOrder::Bgr;
    let result = if frame.format() == PixelFormat::Nv12 {
        let (uv_plane, uv_stride) = plane(1, &chroma);
        let image = YuvBiPlanarImage {
            y_plane,
            y_stride,
            uv_plane,
            uv_stride,
            width,
            height,
        };
        let convert = if bgr { yuv_nv12_to_bgr } else { yuv_nv12_to_rgb };
        convert(&image, out, 3 * width, range, matrix, YuvConversionMode::Balanced)
    } else {
        let ((u_plane, u_stride), (v_plane, v_stride)) = (plane(1, &chroma), plane(2, &chroma));
        let image = YuvPlanarImage {
            y_plane,
            y_stride,
            u_plane,
            u_stride,
            v_plane,
            v_stride,
            width,
            height,
        };
        let convert = match (frame.format(), bgr) {
            (PixelFormat::I420, false) => yuv420_to_rgb,
            (PixelFormat::I420, true) => yuv420_to_bgr,
            (PixelFormat::I422, false) => yuv422_to_rgb,
            (PixelFormat::I422, true) => yuv422_to_bgr,
            (_, false) => yuv444_to_rgb,
            (_, true) => yuv444_to_bgr,
        };
        convert(&image, out, 3 * width, range, matrix)
    };
    result.map_err(|e| YuvToRgbError::Refused(e.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Buffer;
    use proptest::prelude::*;

    const FORMATS: [PixelFormat; 4] = [
        PixelFormat::I420,
        PixelFormat::I422,
        PixelFormat::I444,
        PixelFormat::Nv12,
    ];

    proptest! {
        #[test]
        fn rows_are_those_of_the_whole_frame(
            bytes in proptest::collection::vec(any::<u8>(), 1..200), w in 1u32..40, h in 1u32..8,
            format in prop::sample::select(&FORMATS[..]), a in 0usize..8, b in 0usize..8,
            order in prop::sample::select(vec![ColorOrder::Rgb, ColorOrder::Bgr]),
        ) {
            let data: Vec<u8> = bytes.iter().copied().cycle().take(format.frame_bytes(w, h)).collect();
            let frame = Frame::packed(w, h, format, ColorSpace::JPEG, Buffer::copy_of(&data)).unwrap();
            let (height, stride) = (h as usize, 3 * w as usize);
            let mut whole = vec![0; stride * height];
            yuv_to_rgb(&frame, 0..height, order, &mut whole).unwrap();
            let rows = a.min(b).min(height)..a.max(b).min(height);
            let mut part = vec![0; stride * rows.len()];
            yuv_to_rgb(&frame, rows.clone(), order, &mut part).unwrap();
            prop_assert_eq!(&part[..], &whole[rows.start * stride..rows.end * stride]);
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let of = |format: PixelFormat| {
            Frame::packed(
                4,
                2,
                format,
                ColorSpace::JPEG,
                Buffer::zeroed(format.frame_bytes(4, 2)),
            )
            .unwrap()
        };
        let run =
            |format, rows, len: usize| yuv_to_rgb(&of(format), rows, ColorOrder::Rgb, &mut vec![0; len]);
        assert_eq!(
            run(PixelFormat::Gray, 0..1, 12),
            Err(YuvToRgbError::Format(PixelFormat::Gray))
        );
        assert!(run(PixelFormat::I420, 0..3, 36).is_err());
        assert!(run(PixelFormat::I420, 0..2, 23).is_err());
        assert_eq!(run(PixelFormat::I420, 0..2, 24), Ok(()));
    }
}
