//! Frames as packed RGB samples and PNG pictures.

use crate::{ColorOrder, Frame, PixelFormat, yuv_to_rgb};

/// Writes `frame` to `out` as packed RGB, 3 * width * height bytes.
///
/// # Errors
/// When the samples cannot be converted, or `out` is too small.
pub fn to_rgb(frame: &Frame, out: &mut [u8]) -> Result<(), String> {
    let height = frame.height() as usize;
    if !matches!(
        frame.format(),
        PixelFormat::Rgb | PixelFormat::Bgr | PixelFormat::Gray
    ) {
        return yuv_to_rgb(frame, 0..height, ColorOrder::Rgb, out).map_err(|e| e.to_string());
    }
    for (y, out) in out
        .chunks_exact_mut(3 * frame.width() as usize)
        .take(height)
        .enumerate()
    {
        let samples = frame.row(0, y);
        match frame.format() {
            PixelFormat::Rgb => out.copy_from_slice(samples),
            PixelFormat::Bgr => {
                for (o, s) in out.chunks_exact_mut(3).zip(samples.chunks_exact(3)) {
                    o.copy_from_slice(&[s[2], s[1], s[0]]);
                }
            }
            _ => {
                for (o, &s) in out.chunks_exact_mut(3).zip(samples) {
                    o.fill(s);
                }
            }
        }
    }
    Ok(())
}

/// Packed samples that an encoder takes: grey frames as they are, RGB and BGR in their order, others as RGB, for which
/// `rgb` is working memory.
///
/// # Errors
/// When the samples cannot be converted.
pub fn packed_samples<'a>(frame: &'a Frame, rgb: &'a mut Vec<u8>) -> Result<(&'a [u8], PixelFormat), String> {
    let format = frame.format();
    let layout = frame.plane_layout(0);
    let tight = layout.stride == layout.row_bytes;
    if tight && matches!(format, PixelFormat::Rgb | PixelFormat::Gray | PixelFormat::Bgr) {
        return Ok((frame.plane(0), format));
    }
    rgb.resize(3 * frame.width() as usize * frame.height() as usize, 0);
    to_rgb(frame, rgb)?;
    Ok((rgb, PixelFormat::Rgb))
}

/// Appends `frame` to `out` as a PNG picture; `rgb` is working memory.
///
/// # Errors
/// When the samples cannot be converted.
pub fn to_png(frame: &Frame, rgb: &mut Vec<u8>, out: &mut Vec<u8>) -> Result<(), String> {
    let mut encoder = png::Encoder::new(&mut *out, frame.width(), frame.height());
    encoder.set_depth(png::BitDepth::Eight);
    encoder.set_color(match frame.format() {
        PixelFormat::Gray => png::ColorType::Grayscale,
        _ => png::ColorType::Rgb,
    });
    let write = |samples: &[u8]| {
        let mut writer = encoder.write_header()?;
        writer.write_image_data(samples)?;
        writer.finish()
    };
    let written = if frame.format() == PixelFormat::Bgr {
        rgb.resize(3 * frame.width() as usize * frame.height() as usize, 0);
        to_rgb(frame, rgb)?;
        write(rgb)
    } else {
        write(packed_samples(frame, rgb)?.0)
    };
    written.map_err(|e| e.to_string())
}
