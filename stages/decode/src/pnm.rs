//! PNM pictures: P5 (grey) and P6 (RGB), 8 bits. Format: `man 5 pgm`, `man 5 ppm` of Netpbm.

use flow_frame::{Codec, ColorSpace, Frame, PixelFormat, Pool};
use nom::branch::alt;
use nom::bytes::complete::{is_not, tag, take_while1};
use nom::character::complete::{char, digit1, one_of};
use nom::combinator::{map_opt, opt};
use nom::multi::many1_count;
use nom::sequence::{pair, preceded};
use nom::{IResult, Parser};

use crate::error::MediaError;
use crate::input::Input;
use crate::media::{Demuxer, Sample, Unit, check_size, hex, time_of};

/// Longest header, comments included.
const MAX_HEADER: usize = 64 << 10;

#[derive(Debug, Clone, Copy, PartialEq)]
struct Header {
    format: PixelFormat,
    width: u64,
    height: u64,
    max: u64,
}

fn space(input: &[u8]) -> IResult<&[u8], ()> {
    let blank = take_while1(|b: u8| b.is_ascii_whitespace()).map(|_| ());
    let comment = pair(char('#'), opt(is_not("\n\r"))).map(|_| ());
    many1_count(alt((blank, comment))).map(|_| ()).parse(input)
}

fn number(input: &[u8]) -> IResult<&[u8], u64> {
    preceded(
        space,
        map_opt(digit1, |d: &[u8]| std::str::from_utf8(d).ok()?.parse().ok()),
    )
    .parse(input)
}

fn header(input: &[u8]) -> IResult<&[u8], Header> {
    let format = alt((
        tag(&b"P5"[..]).map(|_| PixelFormat::Gray),
        tag(&b"P6"[..]).map(|_| PixelFormat::Rgb),
    ));
    (format, number, number, number, one_of(&b" \t\r\n"[..]))
        .map(|(format, width, height, max, _)| Header {
            format,
            width,
            height,
            max,
        })
        .parse(input)
}

/// Bytes of header and pixels, size and format of the picture that begins `bytes`.
fn measure(bytes: &[u8], at: u64) -> Result<(usize, usize, u32, u32, PixelFormat), MediaError> {
    if let [b'P', kind @ (b'1'..=b'4' | b'7'), ..] = bytes {
        return Err(MediaError::Unsupported(format!(
            "PNM pictures of type P{} are not supported; expected P5 or P6",
            char::from(*kind)
        )));
    }
    let (rest, found) = header(bytes).map_err(|_| MediaError::Damaged {
        at,
        what: format!("expected a P5 or P6 header, found {}", hex(bytes)),
    })?;
    if found.max != 255 {
        return Err(MediaError::Unsupported(format!(
            "a PNM picture with a maximum of {}; expected 255",
            found.max
        )));
    }
    let (width, height) = check_size(found.width, found.height)?;
    let pixels = found.format.frame_bytes(width, height);
    Ok((bytes.len() - rest.len(), pixels, width, height, found.format))
}

/// Decodes one picture.
pub(crate) fn decode(bytes: &[u8], pool: &Pool) -> Result<Frame, MediaError> {
    let (header, pixels, width, height, format) = measure(bytes, 0)?;
    let Some(body) = bytes.get(header..header + pixels) else {
        return Err(MediaError::Picture {
            codec: "pnm",
            what: format!("it has {} of {pixels} bytes of pixels", bytes.len() - header),
        });
    };
    let mut data = pool.take(pixels);
    data.copy_from_slice(body);
    Frame::packed(width, height, format, ColorSpace::JPEG, data).map_err(|e| MediaError::Picture {
        codec: "pnm",
        what: e.to_string(),
    })
}

/// One or more pictures in one input.
pub(crate) struct PnmStream {
    fps: f64,
    index: u64,
}

impl PnmStream {
    pub(crate) fn open(fps: f64) -> Self {
        Self { fps, index: 0 }
    }
}

impl Demuxer for PnmStream {
    fn next(&mut self, input: &mut Input, pool: &Pool) -> Result<Option<Sample>, MediaError> {
        // Blank bytes between pictures belong to nothing.
        while let Some(b' ' | b'\t' | b'\r' | b'\n') = input.peek(1)?.first() {
            input.skip(1)?;
        }
        let at = input.position();
        // Only a header that is cut off by the window is worth a longer look.
        let mut seen = input.peek(512)?;
        if seen.is_empty() {
            return Ok(None);
        }
        if header(&seen[..seen.len().min(512)]).is_err() {
            seen = input.peek(MAX_HEADER)?;
        }
        let (header, pixels, ..) = measure(seen, at)?;
        let Some(data) = input.read_buffer(header + pixels, pool)? else {
            let have = input.len().unwrap_or(input.position()).saturating_sub(at);
            input.skip(u64::MAX)?;
            return Err(MediaError::Truncated(format!(
                "picture {} has {have} of {} bytes",
                self.index,
                header + pixels
            )));
        };
        let pts = time_of(self.index, self.fps);
        self.index += 1;
        Ok(Some(Sample {
            pts,
            unit: Unit::Encoded {
                codec: Codec::Pnm,
                data,
                keyframe: true,
            },
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MediaReader;

    #[test]
    fn comments_stand_anywhere_in_the_header() {
        let picture = b"P6 # made by hand\n2 # wide\n1\n# max\n255\n\x01\x02\x03\x04\x05\x06";
        let frame = decode(picture, &Pool::new(1)).unwrap();
        assert_eq!((frame.width(), frame.height()), (2, 1));
        assert_eq!(frame.row(0, 0), [1, 2, 3, 4, 5, 6]);
    }

    #[test]
    fn pictures_follow_each_other() {
        let stream = b"P5 1 1 255\n\x07P5 2 1 255 \x08\x09\nP6 1 1 255\n\x01".to_vec();
        let mut reader = MediaReader::open(Input::from_bytes("a", stream), None).unwrap();
        assert!(reader.next().unwrap().is_some());
        assert!(reader.next().unwrap().is_some());
        let e = reader.next().unwrap_err();
        assert!(e.to_string().contains("picture 2 has 12 of 14 bytes"), "{e}");
        assert!(reader.next().unwrap().is_none());
    }

    #[test]
    fn other_depths_and_types_are_named() {
        let e = decode(b"P5 1 1 65535\n\0\0", &Pool::new(1)).unwrap_err();
        assert!(e.to_string().contains("65535"), "{e}");
        let e = decode(b"P4 1 1\n\0", &Pool::new(1)).unwrap_err();
        assert!(e.to_string().contains("P4"), "{e}");
    }
}
