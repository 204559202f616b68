//! YUV4MPEG2: a text header, then raw frames. Format: `man yuv4mpeg` of mjpegtools.

use flow_frame::{ColorSpace, Frame, PixelFormat, Pool, Range};
use nom::bytes::complete::{is_not, tag, take_till};
use nom::character::complete::char;
use nom::multi::many0;
use nom::sequence::preceded;
use nom::{IResult, Parser};

use crate::error::MediaError;
use crate::input::Input;
use crate::media::{Demuxer, Sample, Unit, check_size, hex, nanos};

/// Longest header line; real ones have about 60 bytes.
const MAX_LINE: usize = 4096;

#[derive(Debug, Clone, PartialEq)]
struct Header {
    width: u32,
    height: u32,
    format: PixelFormat,
    color: ColorSpace,
    /// Frames per second as a fraction.
    rate: (u64, u64),
}

pub(crate) struct Y4m {
    header: Header,
    index: u64,
}

/// A line `MAGIC P1 P2 ...` without its line feed: the parameters.
fn parameters<'a>(magic: &'static str, line: &'a [u8]) -> IResult<&'a [u8], Vec<&'a [u8]>> {
    let (rest, found) = preceded(
        tag(magic.as_bytes()),
        many0(preceded(char(' '), take_till(|b| b == b' '))),
    )
    .parse(line)?;
    let (rest, ()) = nom::combinator::eof(rest).map(|(rest, _)| (rest, ()))?;
    Ok((rest, found))
}

fn number(text: &[u8]) -> Option<u64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// `A:B`.
fn ratio(text: &[u8]) -> Option<(u64, u64)> {
    let parsed: IResult<&[u8], (&[u8], &[u8])> =
        (is_not(":"), preceded(char(':'), nom::combinator::rest)).parse(text);
    let (_, (a, b)) = parsed.ok()?;
    Some((number(a)?, number(b)?))
}

fn header(line: &[u8]) -> Result<Header, MediaError> {
    let damaged = |what: String| MediaError::Damaged { at: 0, what };
    let (_, found) = parameters("YUV4MPEG2", line)
        .map_err(|_| damaged(format!("expected a YUV4MPEG2 header line, found {}", hex(line))))?;
    let (mut width, mut height, mut rate) = (None, None, (25, 1));
    let (mut format, mut range) = (PixelFormat::I420, Range::Limited);
    for parameter in found {
        let Some((&key, value)) = parameter.split_first() else {
            continue;
        };
        let bad = || {
            damaged(format!(
                "parameter `{}` of the YUV4MPEG2 header has no readable value",
                String::from_utf8_lossy(parameter)
            ))
        };
        match key {
            b'W' => width = Some(number(value).ok_or_else(bad)?),
            b'H' => height = Some(number(value).ok_or_else(bad)?),
            b'F' => match ratio(value).ok_or_else(bad)? {
                // 0:0 means unknown.
                (0, _) | (_, 0) => {}
                known => rate = known,
            },
            b'C' => {
                format = match value {
                    b"420jpeg" | b"420mpeg2" | b"420paldv" | b"420" => PixelFormat::I420,
                    b"422" => PixelFormat::I422,
                    b"444" => PixelFormat::I444,
                    b"mono" => PixelFormat::Gray,
                    other => {
                        return Err(MediaError::Unsupported(format!(
                            "Y4M sampling `{}` is not supported; expected 420jpeg, 420mpeg2, 420paldv, 420, \
                             422, 444 or mono with 8 bits (ffmpeg: `-pix_fmt yuv420p`)",
                            String::from_utf8_lossy(other)
                        )));
                    }
                }
            }
            b'X' if value == b"COLORRANGE=FULL" => range = Range::Full,
            _ => {}
        }
    }
    let (Some(width), Some(height)) = (width, height) else {
        return Err(damaged(
            "the YUV4MPEG2 header names no width (W) or height (H)".into(),
        ));
    };
    let (width, height) = check_size(width, height)?;
    let color = ColorSpace {
        range,
        ..ColorSpace::guess(height)
    };
    Ok(Header {
        width,
        height,
        format,
        color,
        rate,
    })
}

/// Takes a line without its line feed; `None` at the end of the input.
fn line<T>(input: &mut Input, then: impl FnOnce(&[u8]) -> T) -> Result<Option<T>, MediaError> {
    let at = input.position();
    // A live pipe holds a line and the frame behind it, and no byte more, so none beyond the line is waited for.
    let mut want = 1;
    loop {
        let seen = input.peek(want)?;
        if seen.is_empty() {
            return Ok(None);
        }
        if let Some(end) = seen.iter().take(MAX_LINE).position(|&b| b == b'\n') {
            let result = then(&seen[..end]);
            input.skip(end as u64 + 1)?;
            return Ok(Some(result));
        }
        if seen.len() < want {
            return Err(MediaError::Truncated(format!(
                "a Y4M header line is cut off at byte {at}"
            )));
        }
        if seen.len() >= MAX_LINE {
            return Err(MediaError::Damaged {
                at,
                what: format!("expected a Y4M header line, found {}", hex(seen)),
            });
        }
        want = seen.len() + 1;
    }
}

impl Y4m {
    pub(crate) fn open(input: &mut Input) -> Result<Self, MediaError> {
        match line(input, header)? {
            Some(header) => Ok(Self {
                header: header?,
                index: 0,
            }),
            None => Err(MediaError::NoVideo("the Y4M input is empty".into())),
        }
    }
}

impl Demuxer for Y4m {
    fn next(&mut self, input: &mut Input, pool: &Pool) -> Result<Option<Sample>, MediaError> {
        let at = input.position();
        match line(input, |line| {
            parameters("FRAME", line).map(|_| ()).map_err(|_| hex(line))
        }) {
            Ok(None) => return Ok(None),
            Ok(Some(Ok(()))) => {}
            Ok(Some(Err(found))) => {
                return Err(MediaError::Damaged {
                    at,
                    what: format!("expected a Y4M FRAME line, found {found}"),
                });
            }
            Err(MediaError::Truncated(what)) => {
                input.skip(MAX_LINE as u64)?;
                return Err(MediaError::Truncated(what));
            }
            Err(e) => return Err(e),
        }
        let h = &self.header;
        let bytes = h.format.frame_bytes(h.width, h.height);
        let from = input.position();
        let Some(data) = input.read_buffer(bytes, pool)? else {
            let have = input.len().unwrap_or(input.position()).saturating_sub(from);
            input.skip(bytes as u64)?;
            return Err(MediaError::Truncated(format!(
                "frame {} has {have} of {bytes} bytes",
                self.index
            )));
        };
        let frame =
            Frame::packed(h.width, h.height, h.format, h.color, data).map_err(|e| MediaError::Packet {
                at,
                what: e.to_string(),
            })?;
        let ticks = i64::try_from(u128::from(self.index) * u128::from(h.rate.1)).unwrap_or(i64::MAX);
        self.index += 1;
        Ok(Some(Sample {
            pts: nanos(ticks, h.rate.0),
            unit: Unit::Frame(frame),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MediaReader;

    fn clip(tag: &str, frames: usize, bytes: usize) -> Vec<u8> {
        let mut out = format!("YUV4MPEG2 W4 H2 F30000:1001 Ip A1:1 {tag}\n").into_bytes();
        for i in 0..frames {
            out.extend(b"FRAME Ip\n");
            out.extend((0..bytes).map(|b| (b + i) as u8));
        }
        out
    }

    #[test]
    fn every_sampling_has_its_planes() {
        for (tag, format, bytes) in [
            ("C420jpeg", PixelFormat::I420, 12),
            ("C420paldv XCOLORRANGE=FULL", PixelFormat::I420, 12),
            ("", PixelFormat::I420, 12),
            ("C422", PixelFormat::I422, 16),
            ("C444", PixelFormat::I444, 24),
            ("Cmono", PixelFormat::Gray, 8),
        ] {
            let input = Input::from_bytes("a.y4m", clip(tag, 3, bytes));
            let mut reader = MediaReader::open(input, None).unwrap();
            let mut seen = 0u8;
            while let Some(sample) = reader.next().unwrap() {
                let Unit::Frame(frame) = sample.unit else {
                    panic!("Y4M gives frames")
                };
                assert_eq!(frame.format(), format, "{tag}");
                assert_eq!(frame.row(0, 1)[0], 4 + seen, "{tag}");
                assert_eq!(frame.color().range == Range::Full, tag.contains("FULL"));
                assert_eq!(sample.pts, nanos(i64::from(seen) * 1001, 30000));
                seen += 1;
            }
            assert_eq!(seen, 3);
        }
    }

    #[test]
    fn a_cut_clip_gives_what_is_whole_and_says_what_is_missing() {
        let mut bytes = clip("C420jpeg", 3, 12);
        bytes.truncate(bytes.len() - 5);
        let mut reader = MediaReader::open(Input::from_bytes("a.y4m", bytes), None).unwrap();
        assert!(reader.next().unwrap().is_some());
        assert!(reader.next().unwrap().is_some());
        let e = reader.next().unwrap_err();
        assert!(e.recoverable());
        assert!(e.to_string().contains("frame 2 has 7 of 12 bytes"), "{e}");
        assert!(reader.next().unwrap().is_none());
    }

    #[test]
    fn deep_samplings_are_named() {
        let e = MediaReader::open(Input::from_bytes("a", clip("C420p10", 1, 24)), None)
            .err()
            .unwrap();
        assert!(e.to_string().contains("420p10"), "{e}");
    }
}
