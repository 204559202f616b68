//! PNG pictures through the png crate.

use std::io::Cursor;

use flow_frame::{ColorSpace, Frame, PixelFormat, Pool};
use png::{BitDepth, ColorType, Decoder, Limits, Transformations};

use crate::error::MediaError;
use crate::media::{MAX_PIXELS, check_size};

pub(crate) fn decode(bytes: &[u8], pool: &Pool) -> Result<Frame, MediaError> {
    let failed = |what: String| MediaError::Picture { codec: "png", what };
    let limits = Limits {
        bytes: 4 * MAX_PIXELS as usize,
    };
    let mut decoder = Decoder::new_with_limits(Cursor::new(bytes), limits);
    decoder.set_ignore_text_chunk(true);
    // Palettes and small depths become 8 bits, 16 bits lose their lower half.
    decoder.set_transformations(Transformations::EXPAND | Transformations::STRIP_16);
    let mut reader = decoder.read_info().map_err(|e| failed(e.to_string()))?;
    let (width, height) = (reader.info().width, reader.info().height);
    check_size(u64::from(width), u64::from(height))?;
    let (color, depth) = reader.output_color_type();
    let (format, channels) = match (color, depth) {
        (ColorType::Grayscale, BitDepth::Eight) => (PixelFormat::Gray, 1),
        (ColorType::GrayscaleAlpha, BitDepth::Eight) => (PixelFormat::Gray, 2),
        (ColorType::Rgb, BitDepth::Eight) => (PixelFormat::Rgb, 3),
        (ColorType::Rgba, BitDepth::Eight) => (PixelFormat::Rgb, 4),
        (color, depth) => {
            return Err(failed(format!(
                "samples of {color:?} {depth:?} are not supported"
            )));
        }
    };
    let size = reader
        .output_buffer_size()
        .ok_or_else(|| failed("its size overflows".into()))?;
    let mut samples = pool.take(size);
    reader
        .next_frame(&mut samples)
        .map_err(|e| failed(e.to_string()))?;
    let kept = if format == PixelFormat::Gray { 1 } else { 3 };
    let data = if kept == channels {
        samples
    } else {
        let mut data = pool.take(format.frame_bytes(width, height));
        for (out, pixel) in data.chunks_exact_mut(kept).zip(samples.chunks_exact(channels)) {
            out.copy_from_slice(&pixel[..kept]);
        }
        data
    };
    Frame::packed(width, height, format, ColorSpace::JPEG, data).map_err(|e| failed(e.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encode(color: ColorType, depth: BitDepth, palette: Option<Vec<u8>>, data: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        let mut encoder = png::Encoder::new(&mut out, 2, 1);
        encoder.set_color(color);
        encoder.set_depth(depth);
        if let Some(palette) = palette {
            encoder.set_palette(palette);
        }
        encoder.write_header().unwrap().write_image_data(data).unwrap();
        out
    }

    #[test]
    fn every_kind_becomes_eight_bits_without_alpha() {
        let palette = Some(vec![9, 8, 7, 6, 5, 4]);
        let cases = [
            (
                ColorType::Rgb,
                BitDepth::Eight,
                None,
                vec![1, 2, 3, 4, 5, 6],
                vec![1, 2, 3, 4, 5, 6],
            ),
            (
                ColorType::Rgba,
                BitDepth::Eight,
                None,
                vec![1, 2, 3, 0, 4, 5, 6, 9],
                vec![1, 2, 3, 4, 5, 6],
            ),
            (
                ColorType::GrayscaleAlpha,
                BitDepth::Eight,
                None,
                vec![7, 0, 8, 0],
                vec![7, 8],
            ),
            (
                ColorType::Grayscale,
                BitDepth::Sixteen,
                None,
                vec![7, 99, 8, 99],
                vec![7, 8],
            ),
            (
                ColorType::Grayscale,
                BitDepth::One,
                None,
                vec![0b0100_0000],
                vec![0, 255],
            ),
            (
                ColorType::Indexed,
                BitDepth::One,
                palette,
                vec![0b1000_0000],
                vec![6, 5, 4, 9, 8, 7],
            ),
        ];
        for (color, depth, palette, stored, expected) in cases {
            let bytes = encode(color, depth, palette, &stored);
            let frame = decode(&bytes, &Pool::new(2)).unwrap();
            assert_eq!(frame.row(0, 0), expected, "{color:?} {depth:?}");
        }
    }

    #[test]
    fn a_cut_picture_is_an_error() {
        let bytes = encode(ColorType::Rgb, BitDepth::Eight, None, &[1, 2, 3, 4, 5, 6]);
        assert!(decode(&bytes[..bytes.len() - 20], &Pool::new(2)).is_err());
    }
}
