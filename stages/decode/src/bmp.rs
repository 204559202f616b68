//! BMP pictures, and the device-independent bitmaps (DIB) that AVI holds: 8 bits with a palette, 24 and 32
//! bits, rows in both orders, no compression. Format: Microsoft's BITMAPINFOHEADER.

use flow_frame::{ColorSpace, Frame, PixelFormat, Pool};
use nom::bytes::complete::{tag, take};
use nom::number::complete::{le_i32, le_u16, le_u32};
use nom::sequence::preceded;
use nom::{IResult, Parser};

use crate::error::MediaError;
use crate::media::check_size;

const BI_RGB: u32 = 0;
const BI_BITFIELDS: u32 = 3;
const BI_ALPHABITFIELDS: u32 = 6;

/// How the pixels of a bitmap are stored.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Dib {
    pub(crate) width: u32,
    pub(crate) height: u32,
    top_down: bool,
    layout: Pixels,
}

#[derive(Debug, Clone, PartialEq)]
enum Pixels {
    /// Indices into a palette of blue, green, red, unused.
    Palette(Vec<[u8; 4]>),
    Bgr,
    /// Four bytes; the places of blue, green and red among them.
    Four([usize; 3]),
}

/// Fields of a BITMAPINFOHEADER (or of the older core header) as they stand there.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Info {
    width: i32,
    height: i32,
    bits: u16,
    /// Compression: a number, or the four characters of a codec in AVI.
    pub(crate) compression: u32,
    colors: u32,
    core: bool,
}

/// Parses an info header; `rest` is what follows the fields that are read.
pub(crate) fn info(input: &[u8]) -> IResult<&[u8], Info> {
    let (rest, size) = le_u32(input)?;
    if size == 12 {
        let (rest, (width, height, _, bits)) = (le_u16, le_u16, le_u16, le_u16).parse(rest)?;
        return Ok((
            rest,
            Info {
                width: i32::from(width),
                height: i32::from(height),
                bits,
                compression: BI_RGB,
                colors: 0,
                core: true,
            },
        ));
    }
    let (rest, (width, height, _, bits, compression, _, _, _, colors, _)) = (
        le_i32, le_i32, le_u16, le_u16, le_u32, le_u32, le_u32, le_u32, le_u32, le_u32,
    )
        .parse(rest)?;
    Ok((
        rest,
        Info {
            width,
            height,
            bits,
            compression,
            colors,
            core: false,
        },
    ))
}

impl Info {
    /// Width and height as a picture.
    pub(crate) fn size(&self) -> Result<(u32, u32), MediaError> {
        check_size(
            u64::from(self.width.max(0).unsigned_abs()),
            u64::from(self.height.unsigned_abs()),
        )
    }

    /// The layout of an uncompressed bitmap. `after` begins behind the fields of the header: masks and
    /// palette are taken from there; `extra` is the size of the header's fields that were not read.
    pub(crate) fn dib(&self, after: &[u8], extra: usize) -> Result<Dib, MediaError> {
        let unsupported = |what: String| {
            MediaError::Unsupported(format!(
                "the bitmap has {what}; expected 8 (palette), 24 or 32 bits without compression"
            ))
        };
        let (width, height) = self.size()?;
        let layout = match (self.bits, self.compression) {
            (8, BI_RGB) => {
                let entry = if self.core { 3 } else { 4 };
                let colors = match self.colors {
                    0 => 256,
                    n => n.min(256) as usize,
                };
                let palette = after.get(extra..).unwrap_or_default();
                let mut palette: Vec<[u8; 4]> = palette
                    .chunks_exact(entry)
                    .take(colors)
                    .map(|c| [c[0], c[1], c[2], 0])
                    .collect();
                // An index without an entry is black.
                palette.resize(256, [0; 4]);
                Pixels::Palette(palette)
            }
            (24, BI_RGB) => Pixels::Bgr,
            (32, BI_RGB) => Pixels::Four([0, 1, 2]),
            (32, BI_BITFIELDS | BI_ALPHABITFIELDS) => {
                let masks: IResult<&[u8], (u32, u32, u32)> = (le_u32, le_u32, le_u32).parse(after);
                let (_, (red, green, blue)) =
                    masks.map_err(|_| unsupported("bit fields without masks".into()))?;
                let place = |mask: u32| match mask {
                    0xFF => Ok(0),
                    0xFF00 => Ok(1),
                    0xFF_0000 => Ok(2),
                    0xFF00_0000 => Ok(3),
                    other => Err(unsupported(format!("a bit field of mask {other:#010x}"))),
                };
                Pixels::Four([place(blue)?, place(green)?, place(red)?])
            }
            (bits, compression) => {
                return Err(unsupported(format!(
                    "{bits} bits a pixel and compression {compression}"
                )));
            }
        };
        Ok(Dib {
            width,
            height,
            top_down: self.height < 0,
            layout,
        })
    }
}

impl Dib {
    /// Bytes of a stored row; rows begin at multiples of four.
    fn row_bytes(&self) -> usize {
        let pixel = match self.layout {
            Pixels::Palette(_) => 1,
            Pixels::Bgr => 3,
            Pixels::Four(_) => 4,
        };
        (self.width as usize * pixel).next_multiple_of(4)
    }

    /// Decodes stored rows to a BGR frame.
    pub(crate) fn frame(&self, pixels: &[u8], pool: &Pool) -> Result<Frame, MediaError> {
        let failed = |what: String| MediaError::Picture { codec: "bmp", what };
        let (width, height) = (self.width as usize, self.height as usize);
        let row_bytes = self.row_bytes();
        // The padding of the last row is left out by some writers.
        let need = row_bytes * (height - 1)
            + match self.layout {
                Pixels::Palette(_) => width,
                Pixels::Bgr => 3 * width,
                Pixels::Four(_) => 4 * width,
            };
        if pixels.len() < need {
            return Err(failed(format!(
                "it has {} of {need} bytes of pixels",
                pixels.len()
            )));
        }
        let mut data = pool.take(3 * width * height);
        let rows = data.chunks_exact_mut(3 * width).enumerate();
        for (y, out) in rows {
            let stored = if self.top_down { y } else { height - 1 - y };
            let row = &pixels[stored * row_bytes..];
            match &self.layout {
                Pixels::Bgr => out.copy_from_slice(&row[..3 * width]),
                Pixels::Palette(palette) => {
                    for (pixel, &index) in out.chunks_exact_mut(3).zip(row) {
                        pixel.copy_from_slice(&palette[usize::from(index)][..3]);
                    }
                }
                Pixels::Four([blue, green, red]) => {
                    for (pixel, four) in out.chunks_exact_mut(3).zip(row.chunks_exact(4)) {
                        pixel.copy_from_slice(&[four[*blue], four[*green], four[*red]]);
                    }
                }
            }
        }
        Frame::packed(self.width, self.height, PixelFormat::Bgr, ColorSpace::JPEG, data)
            .map_err(|e| failed(e.to_string()))
    }
}

/// Decodes a BMP file.
pub(crate) fn decode(bytes: &[u8], pool: &Pool) -> Result<Frame, MediaError> {
    let failed = |what: &str| MediaError::Picture {
        codec: "bmp",
        what: what.into(),
    };
    let file: IResult<&[u8], u32> = preceded((tag(&b"BM"[..]), take(8usize)), le_u32).parse(bytes);
    let (rest, pixels_at) = file.map_err(|_| failed("the file header is damaged"))?;
    let (after, info) = info(rest).map_err(|_| failed("the info header is cut off"))?;
    let header_size = rest
        .first_chunk::<4>()
        .map_or(0, |b| u32::from_le_bytes(*b) as usize);
    let read = rest.len() - after.len();
    let dib = info.dib(after, header_size.saturating_sub(read))?;
    let pixels = bytes
        .get(pixels_at as usize..)
        .ok_or_else(|| failed("the pixels begin past the end of the file"))?;
    dib.frame(pixels, pool)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(bits: u16, height: i32, compression: u32, palette: &[u8], pixels: &[u8]) -> Vec<u8> {
        let at = 14 + 40 + palette.len() as u32;
        let mut out = b"BM".to_vec();
        out.extend([0; 8]);
        out.extend(at.to_le_bytes());
        out.extend(40u32.to_le_bytes());
        out.extend(2i32.to_le_bytes());
        out.extend(height.to_le_bytes());
        out.extend(1u16.to_le_bytes());
        out.extend(bits.to_le_bytes());
        out.extend(compression.to_le_bytes());
        out.extend([0; 20]);
        out.extend(palette);
        out.extend(pixels);
        out
    }

    fn rows(file: &[u8]) -> Vec<Vec<u8>> {
        let frame = decode(file, &Pool::new(1)).unwrap();
        assert_eq!(frame.format(), PixelFormat::Bgr);
        (0..frame.height() as usize)
            .map(|y| frame.row(0, y).to_vec())
            .collect()
    }

    #[test]
    fn rows_in_both_orders() {
        let pixels = [1, 2, 3, 4, 5, 6, 0, 0, 7, 8, 9, 10, 11, 12, 0, 0];
        let up = rows(&file(24, 2, BI_RGB, &[], &pixels));
        let down = rows(&file(24, -2, BI_RGB, &[], &pixels));
        assert_eq!(up, [[7, 8, 9, 10, 11, 12], [1, 2, 3, 4, 5, 6]]);
        assert_eq!(down, [[1, 2, 3, 4, 5, 6], [7, 8, 9, 10, 11, 12]]);
    }

    #[test]
    fn palettes_and_bit_fields() {
        let palette = [1, 2, 3, 0, 4, 5, 6, 0];
        assert_eq!(rows(&file(8, 1, BI_RGB, &palette, &[1, 0])), [[4, 5, 6, 1, 2, 3]]);
        let masks = [0xFF, 0, 0, 0, 0, 0xFF, 0, 0, 0, 0, 0xFF, 0];
        let rgba = file(32, 1, BI_BITFIELDS, &masks, &[1, 2, 3, 9, 4, 5, 6, 9]);
        assert_eq!(rows(&rgba), [[3, 2, 1, 6, 5, 4]]);
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let e = decode(&file(8, 1, 1, &[], &[0; 8]), &Pool::new(1)).unwrap_err();
        assert!(e.to_string().contains("compression 1"), "{e}");
        let e = decode(&file(24, 2, BI_RGB, &[], &[0; 8]), &Pool::new(1)).unwrap_err();
        assert!(e.to_string().contains("8 of 14"), "{e}");
        assert!(decode(&file(24, i32::MIN, BI_RGB, &[], &[]), &Pool::new(1)).is_err());
    }
}
