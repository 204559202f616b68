//! JPEG pictures through zune-jpeg.

use flow_frame::{Buffer, ColorSpace, Frame, PixelFormat, Pool};
use nom::number::{Endianness, u16 as number_u16, u32 as number_u32};
use nom::{IResult, Parser};
use zune_core::bytestream::ZCursor;
use zune_core::colorspace::ColorSpace as Samples;
use zune_core::options::DecoderOptions;
use zune_jpeg::JpegDecoder;

use crate::error::MediaError;
use crate::media::check_size;

pub(crate) fn decode(bytes: &[u8], pool: &Pool) -> Result<Frame, MediaError> {
    let failed = |what: String| MediaError::Picture { codec: "jpeg", what };
    let side = Frame::MAX_SIDE as usize;
    // Without strict mode a picture that is cut in half decodes "well", its rest grey.
    let options = DecoderOptions::default()
        .set_strict_mode(true)
        .set_max_width(side)
        .set_max_height(side);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(bytes), options);
    decoder.decode_headers().map_err(|e| failed(e.to_string()))?;
    let (width, height) = decoder
        .dimensions()
        .ok_or_else(|| failed("it has no size".into()))?;
    let (width, height) = check_size(width as u64, height as u64)?;
    let (samples, format) = match decoder.input_colorspace() {
        Some(Samples::Luma) => (Samples::Luma, PixelFormat::Gray),
        Some(_) => (Samples::RGB, PixelFormat::Rgb),
        None => return Err(failed("it has no colour space".into())),
    };
    decoder.set_options(options.jpeg_set_out_colorspace(samples));
    let mut data = pool.take(format.frame_bytes(width, height));
    decoder
        .decode_into(&mut data)
        .map_err(|e| failed(e.to_string()))?;
    let turn = decoder
        .exif()
        .and_then(|exif| orientation(exif))
        .unwrap_or(Turn::NONE);
    let (width, height, data) = match turn {
        Turn::NONE => (width, height, data),
        turn => turn.apply(width, height, format, &data, pool),
    };
    Frame::packed(width, height, format, ColorSpace::JPEG, data).map_err(|e| failed(e.to_string()))
}

/// How the rows and columns of the stored picture become those of the upright one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Turn {
    /// Stored rows are columns of the upright picture.
    swap: bool,
    /// The upright picture reads stored x from its end.
    flip_x: bool,
    /// The upright picture reads stored y from its end.
    flip_y: bool,
}

impl Turn {
    const NONE: Self = Self {
        swap: false,
        flip_x: false,
        flip_y: false,
    };

    /// By EXIF orientation 1 to 8 (EXIF 2.32, tag 274: the stored place of the visual row 0 and column 0).
    fn of(orientation: u16) -> Option<Self> {
        let (swap, flip_x, flip_y) = match orientation {
            1 => (false, false, false),
            2 => (false, true, false),
            3 => (false, true, true),
            4 => (false, false, true),
            5 => (true, false, false),
            6 => (true, false, true),
            7 => (true, true, true),
            8 => (true, true, false),
            _ => return None,
        };
        Some(Self { swap, flip_x, flip_y })
    }

    fn apply(
        self,
        width: u32,
        height: u32,
        format: PixelFormat,
        stored: &[u8],
        pool: &Pool,
    ) -> (u32, u32, Buffer) {
        let pixel = if format == PixelFormat::Gray { 1 } else { 3 };
        let (w, h) = (width as usize, height as usize);
        let (out_w, out_h) = if self.swap { (h, w) } else { (w, h) };
        let mut out = pool.take(w * h * pixel);
        for (y, row) in out.chunks_exact_mut(out_w * pixel).enumerate() {
            for (x, place) in row.chunks_exact_mut(pixel).enumerate() {
                let (sx, sy) = if self.swap { (y, x) } else { (x, y) };
                let sx = if self.flip_x { w - 1 - sx } else { sx };
                let sy = if self.flip_y { h - 1 - sy } else { sy };
                place.copy_from_slice(&stored[(sy * w + sx) * pixel..][..pixel]);
            }
        }
        (out_w as u32, out_h as u32, out)
    }
}

/// The orientation in EXIF data (a TIFF file), where there is one.
fn orientation(exif: &[u8]) -> Option<Turn> {
    const ORIENTATION: u16 = 0x0112;
    let endianness = match exif.get(..2)? {
        b"II" => Endianness::Little,
        b"MM" => Endianness::Big,
        _ => return None,
    };
    let u16_at = |at: usize| -> Option<u16> {
        let parsed: IResult<&[u8], u16> = number_u16(endianness).parse(exif.get(at..)?);
        parsed.ok().map(|(_, value)| value)
    };
    let directory: IResult<&[u8], u32> = number_u32(endianness).parse(exif.get(4..)?);
    let directory = directory.ok()?.1 as usize;
    let entries = u16_at(directory)?;
    let entry = (0..usize::from(entries))
        .map(|i| directory + 2 + 12 * i)
        .find(|&at| u16_at(at) == Some(ORIENTATION))?;
    Turn::of(u16_at(entry + 8)?)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use jpeg_encoder::{ColorType, Encoder};

    /// A JPEG of `width` x `height` pixels in RGB, 95 per cent quality.
    pub(crate) fn encode(width: u16, height: u16, rgb: &[u8], exif_orientation: Option<u8>) -> Vec<u8> {
        let mut out = Vec::new();
        let mut encoder = Encoder::new(&mut out, 95);
        if let Some(orientation) = exif_orientation {
            let mut exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0".to_vec();
            exif.push(orientation);
            exif.extend([0; 6]);
            encoder.add_app_segment(1, exif).unwrap();
        }
        encoder.encode(rgb, width, height, ColorType::Rgb).unwrap();
        out
    }

    /// Red on the left, blue on the right, the lower half darker.
    fn scene() -> Vec<u8> {
        let mut rgb = Vec::new();
        for y in 0..16 {
            for x in 0..32 {
                let v = if y < 8 { 220 } else { 110 };
                rgb.extend(if x < 16 { [v, 0, 0] } else { [0, 0, v] });
            }
        }
        rgb
    }

    fn near(frame: &Frame, x: usize, y: usize, expected: [u8; 3]) -> bool {
        let found = &frame.row(0, y)[3 * x..3 * x + 3];
        found.iter().zip(expected).all(|(&a, b)| a.abs_diff(b) < 30)
    }

    #[test]
    fn pixels_come_back() {
        let frame = decode(&encode(32, 16, &scene(), None), &Pool::new(1)).unwrap();
        assert_eq!((frame.width(), frame.height()), (32, 16));
        assert_eq!(frame.format(), PixelFormat::Rgb);
        assert!(near(&frame, 2, 2, [220, 0, 0]));
        assert!(near(&frame, 30, 14, [0, 0, 110]));
    }

    #[test]
    fn exif_turns_the_picture_upright() {
        // 6: the camera was turned left, so the picture is turned right: the left edge becomes the top.
        let frame = decode(&encode(32, 16, &scene(), Some(6)), &Pool::new(1)).unwrap();
        assert_eq!((frame.width(), frame.height()), (16, 32));
        assert!(near(&frame, 14, 2, [220, 0, 0]));
        assert!(near(&frame, 2, 2, [110, 0, 0]));
        assert!(near(&frame, 14, 30, [0, 0, 220]));
        let frame = decode(&encode(32, 16, &scene(), Some(3)), &Pool::new(1)).unwrap();
        assert!(near(&frame, 2, 2, [0, 0, 110]));
    }

    #[test]
    fn half_a_picture_is_an_error() {
        let mut rgb = Vec::new();
        for i in 0..64 * 64 * 3u32 {
            rgb.push((i.wrapping_mul(2_654_435_761) >> 24) as u8);
        }
        let whole = encode(64, 64, &rgb, None);
        assert!(decode(&whole, &Pool::new(1)).is_ok());
        let e = decode(&whole[..whole.len() / 2], &Pool::new(1)).unwrap_err();
        assert!(matches!(e, MediaError::Picture { codec: "jpeg", .. }));
    }

    #[test]
    fn grey_stays_grey() {
        let mut out = Vec::new();
        Encoder::new(&mut out, 95)
            .encode(&[77; 64], 8, 8, ColorType::Luma)
            .unwrap();
        let frame = decode(&out, &Pool::new(1)).unwrap();
        assert_eq!(frame.format(), PixelFormat::Gray);
        assert!(frame.row(0, 3)[3].abs_diff(77) < 3);
    }
}
