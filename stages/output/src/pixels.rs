//! Frames as planar YUV and JPEG pictures.

use flow_frame::{Frame, PixelFormat, packed_samples};
pub(crate) use flow_frame::{to_png, to_rgb};
use jpeg_encoder::{ColorType, Encoder, SamplingFactor};
use yuv::{BufferStoreMut, YuvConversionMode, YuvPlanarImageMut, YuvRange, YuvStandardMatrix, rgb_to_yuv444};

/// Appends an RGB or BGR frame to `out` as planar Y, U, V at full chroma, BT.601 limited range. `rgb` is
/// working memory.
pub(crate) fn to_yuv444(frame: &Frame, rgb: &mut Vec<u8>, out: &mut Vec<u8>) -> Result<(), String> {
    let (width, height) = (frame.width(), frame.height());
    let samples = width as usize * height as usize;
    rgb.resize(3 * samples, 0);
    to_rgb(frame, rgb)?;
    let start = out.len();
    out.resize(start + 3 * samples, 0);
    let (y, rest) = out[start..].split_at_mut(samples);
    let (u, v) = rest.split_at_mut(samples);
    let mut image = YuvPlanarImageMut {
        y_plane: BufferStoreMut::Borrowed(y),
        y_stride: width,
        u_plane: BufferStoreMut::Borrowed(u),
        u_stride: width,
        v_plane: BufferStoreMut::Borrowed(v),
        v_stride: width,
        width,
        height,
    };
    let mode = YuvConversionMode::Balanced;
    rgb_to_yuv444(
        &mut image,
        rgb,
        3 * width,
        YuvRange::Limited,
        YuvStandardMatrix::Bt601,
        mode,
    )
    .map_err(|e| e.to_string())
}

/// Appends `frame` to `out` as a JPEG picture of `quality` 1 to 100; `rgb` is working memory.
pub(crate) fn to_jpeg(
    frame: &Frame,
    quality: u8,
    rgb: &mut Vec<u8>,
    out: &mut Vec<u8>,
) -> Result<(), String> {
    let (width, height) = (frame.width() as u16, frame.height() as u16);
    let (samples, format) = packed_samples(frame, rgb)?;
    let color = match format {
        PixelFormat::Gray => ColorType::Luma,
        PixelFormat::Bgr => ColorType::Bgr,
        _ => ColorType::Rgb,
    };
    let mut encoder = Encoder::new(out, quality);
    encoder.set_sampling_factor(SamplingFactor::F_2_2);
    encoder
        .encode(samples, width, height, color)
        .map_err(|e| e.to_string())
}

/// A frame as a JPEG picture of `quality` 1 to 100.
///
/// # Errors
/// When the picture is larger than JPEG can hold, or its samples cannot be converted.
pub fn jpeg(frame: &Frame, quality: u8) -> Result<Vec<u8>, String> {
    let (mut rgb, mut out) = (Vec::new(), Vec::new());
    if frame.width().max(frame.height()) > u32::from(u16::MAX) {
        return Err(format!(
            "a JPEG picture has at most 65535 pixels a side, and the frame {}x{}",
            frame.width(),
            frame.height()
        ));
    }
    to_jpeg(frame, quality.clamp(1, 100), &mut rgb, &mut out)?;
    Ok(out)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use flow_frame::{Buffer, ColorSpace};

    pub(crate) const FORMATS: [PixelFormat; 7] = [
        PixelFormat::I420,
        PixelFormat::I422,
        PixelFormat::I444,
        PixelFormat::Nv12,
        PixelFormat::Gray,
        PixelFormat::Rgb,
        PixelFormat::Bgr,
    ];

    /// A frame of one grey.
    pub(crate) fn flat(width: u32, height: u32, format: PixelFormat, luma: u8) -> Frame {
        let mut data = Buffer::zeroed(format.frame_bytes(width, height));
        data.fill(luma);
        let mut frame = Frame::packed(width, height, format, ColorSpace::JPEG, data).unwrap();
        for plane in 1..frame.plane_count() {
            frame.plane_mut(plane).fill(128);
        }
        frame
    }

    #[test]
    fn every_format_and_odd_size_becomes_rgb_jpeg_and_png() {
        for format in FORMATS {
            for (w, h) in [(1, 1), (7, 5), (16, 8)] {
                let frame = flat(w, h, format, 77);
                let mut rgb = vec![0; (3 * w * h) as usize];
                to_rgb(&frame, &mut rgb).unwrap();
                assert!(
                    rgb.iter().all(|v| v.abs_diff(77) <= 1),
                    "{format:?} {w}x{h} {rgb:?}"
                );

                let (mut jpeg, mut png, mut scratch) = (Vec::new(), Vec::new(), Vec::new());
                to_jpeg(&frame, 90, &mut scratch, &mut jpeg).unwrap();
                let pixels = zune_jpeg::JpegDecoder::new(std::io::Cursor::new(&jpeg))
                    .decode()
                    .unwrap();
                assert!(pixels.iter().all(|v| v.abs_diff(77) <= 3), "{format:?}");
                to_png(&frame, &mut scratch, &mut png).unwrap();
                let mut reader = png::Decoder::new(std::io::Cursor::new(&png)).read_info().unwrap();
                let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
                let info = reader.next_frame(&mut pixels).unwrap();
                assert_eq!((info.width, info.height), (w, h));
                assert!(pixels.iter().all(|v| v.abs_diff(77) <= 1), "{format:?}");
            }
        }
    }

    #[test]
    fn colours_keep_their_places() {
        let data = [200, 10, 20, 30, 180, 40];
        let bgr = Frame::packed(2, 1, PixelFormat::Bgr, ColorSpace::JPEG, Buffer::copy_of(&data)).unwrap();
        let mut png = Vec::new();
        to_png(&bgr, &mut Vec::new(), &mut png).unwrap();
        let mut reader = png::Decoder::new(std::io::Cursor::new(&png)).read_info().unwrap();
        let mut pixels = vec![0; 6];
        reader.next_frame(&mut pixels).unwrap();
        assert_eq!(pixels, [20, 10, 200, 40, 180, 30]);
    }
}
