//! AVI (RIFF), also of several RIFF lists (OpenDML): the first video stream, read in stored order without
//! its index. Formats: Microsoft's AVIMAINHEADER, AVISTREAMHEADER and recommended 8-bit YUV formats.

use flow_frame::{Codec, ColorSpace, Frame, PixelFormat, Pool};
use nom::bytes::complete::take;
use nom::number::complete::le_u32;
use nom::{IResult, Parser};

use crate::bmp::{self, Dib};
use crate::error::MediaError;
use crate::h264;
use crate::input::Input;
use crate::media::{Demuxer, MAX_PACKET, Sample, Unit, hex, nanos};

/// Largest header list.
const MAX_HEADERS: u64 = 16 << 20;

type FourCc = [u8; 4];

#[derive(Debug, Clone, PartialEq)]
enum Coding {
    Jpeg,
    Png,
    H264,
    /// Rows from the bottom up, or from the top down, in blue, green, red.
    Dib(Dib),
    /// Y, U and V planes; `swapped`: V comes before U.
    Planar {
        swapped: bool,
    },
    Nv12,
    /// Y0 U Y1 V.
    Yuy2,
    Gray,
}

#[derive(Debug, Clone, PartialEq)]
struct Stream {
    /// Two digits that begin the names of the stream's chunks.
    number: [u8; 2],
    coding: Coding,
    width: u32,
    height: u32,
    /// Ticks per frame, and ticks per second.
    scale: u32,
    rate: u32,
    frames: u32,
}

pub(crate) struct Avi {
    stream: Stream,
    index: u64,
    shortage_told: bool,
    chunk: Vec<u8>,
}

fn chunk_header(input: &[u8]) -> IResult<&[u8], (FourCc, u32)> {
    let (rest, (id, size)) = (take(4usize), le_u32).parse(input)?;
    let mut kind = [0; 4];
    kind.copy_from_slice(id);
    Ok((rest, (kind, size)))
}

/// Chunks of a list's body; ends at the first that reaches past it.
fn chunks(body: &[u8]) -> impl Iterator<Item = (FourCc, &[u8])> {
    let mut rest = body;
    std::iter::from_fn(move || {
        let (after, (kind, size)) = chunk_header(rest).ok()?;
        let (chunk, tail) = after.split_at_checked(size as usize)?;
        rest = tail.get(size as usize % 2..).unwrap_or_default();
        Some((kind, chunk))
    })
}

/// Body of a `LIST` chunk of that type.
fn list<'a>((kind, body): (FourCc, &'a [u8]), name: &FourCc) -> Option<&'a [u8]> {
    (&kind == b"LIST").then(|| body.strip_prefix(name)).flatten()
}

fn text(kind: &[u8]) -> String {
    kind.iter()
        .map(|&b| {
            if b.is_ascii_graphic() || b == b' ' {
                char::from(b)
            } else {
                '?'
            }
        })
        .collect()
}

/// Reads the headers of the first video stream.
fn stream(hdrl: &[u8], at: u64) -> Result<Stream, MediaError> {
    let damaged = |what: &str| MediaError::Damaged {
        at,
        what: what.into(),
    };
    let total = chunks(hdrl)
        .find(|(kind, _)| kind == b"avih")
        .and_then(|(_, avih)| le_u32_at(avih, 16))
        .unwrap_or(0);
    let streams = chunks(hdrl).filter_map(|chunk| list(chunk, b"strl"));
    for (number, strl) in streams.enumerate().take(100) {
        let part = |name: &FourCc| chunks(strl).find(|(kind, _)| kind == name).map(|(_, body)| body);
        let header = part(b"strh").ok_or_else(|| damaged("a stream header `strh` is missing"))?;
        if !header.starts_with(b"vids") {
            continue;
        }
        let format = part(b"strf").ok_or_else(|| damaged("a stream format `strf` is missing"))?;
        let (after, info) = bmp::info(format).map_err(|_| damaged("the stream format `strf` is cut off"))?;
        let (width, height) = info.size()?;
        let coding = match &info.compression.to_le_bytes() {
            b"MJPG" | b"mjpg" | b"JPEG" | b"jpeg" | b"AVRn" | b"dmb1" => Coding::Jpeg,
            b"MPNG" | b"png " => Coding::Png,
            b"H264" | b"h264" | b"X264" | b"x264" | b"avc1" | b"AVC1" => Coding::H264,
            b"I420" | b"IYUV" => Coding::Planar { swapped: false },
            b"YV12" => Coding::Planar { swapped: true },
            b"NV12" => Coding::Nv12,
            b"YUY2" | b"YUYV" => Coding::Yuy2,
            b"Y800" | b"Y8  " | b"GREY" => Coding::Gray,
            [0..=3, 0, 0, 0] => Coding::Dib(info.dib(after, 0)?),
            other => {
                return Err(MediaError::Unsupported(format!(
                    "the video stream is `{}`; expected MJPG, H264, MPNG, raw RGB, I420, IYUV, YV12, NV12, \
                     YUY2 or Y800 (use `type: ffmpeg` for others)",
                    text(other)
                )));
            }
        };
        let field =
            |at: usize| le_u32_at(header, at).ok_or_else(|| damaged("the stream header `strh` is cut off"));
        let (scale, rate, length) = (field(20)?, field(24)?, field(32)?);
        let (scale, rate) = if scale == 0 || rate == 0 {
            (1, 25)
        } else {
            (scale, rate)
        };
        return Ok(Stream {
            number: [b'0' + (number / 10) as u8, b'0' + (number % 10) as u8],
            coding,
            width,
            height,
            scale,
            rate,
            frames: if length > 0 { length } else { total },
        });
    }
    Err(MediaError::NoVideo("there is no video stream".into()))
}

fn le_u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let parsed: IResult<&[u8], u32> = le_u32(bytes.get(at..)?);
    parsed.ok().map(|(_, value)| value)
}

/// Takes the header of the next chunk, stepping into lists that hold frames; `None` at the end.
fn next_chunk(input: &mut Input) -> Result<Option<(FourCc, u32)>, MediaError> {
    loop {
        let at = input.position();
        let seen = input.peek(12)?;
        let seen_len = seen.len() as u64;
        let Ok((_, (kind, size))) = chunk_header(seen) else {
            let zeros = seen.iter().all(|&b| b == 0);
            input.skip(seen_len)?;
            return match zeros {
                true => Ok(None),
                false => Err(MediaError::Truncated(format!(
                    "a chunk header is cut off at byte {at}"
                ))),
            };
        };
        let name = seen.get(8..12);
        match (&kind, name) {
            (b"RIFF", Some(b"AVI " | b"AVIX")) | (b"LIST", Some(b"movi" | b"rec ")) => input.skip(12)?,
            (b"RIFF", found) => {
                return Err(MediaError::Damaged {
                    at,
                    what: format!(
                        "expected a RIFF list `AVIX`, found `{}`",
                        text(found.unwrap_or_default())
                    ),
                });
            }
            // Writers fill up files with zeros.
            (&[0, 0, 0, 0], _) => return Ok(None),
            (kind, _) if !kind.iter().all(|&b| b.is_ascii_graphic() || b == b' ') => {
                return Err(MediaError::Damaged {
                    at,
                    what: format!("expected a chunk, found {}", hex(seen)),
                });
            }
            _ => {
                input.skip(8)?;
                return Ok(Some((kind, size)));
            }
        }
    }
}

impl Avi {
    pub(crate) fn open(input: &mut Input) -> Result<Self, MediaError> {
        loop {
            let at = input.position();
            let truncated = || {
                MediaError::NoVideo("the AVI input is cut short: it has no stream headers (`hdrl`)".into())
            };
            let (kind, size) = match next_chunk(input) {
                Ok(found) => found.ok_or_else(truncated)?,
                Err(MediaError::Truncated(_)) => return Err(truncated()),
                Err(e) => return Err(e),
            };
            let name = input.peek(4)?.get(..4);
            if &kind == b"LIST" && name == Some(b"hdrl") {
                if u64::from(size) > MAX_HEADERS {
                    return Err(MediaError::Limit {
                        what: "the size of the AVI headers in bytes",
                        value: u64::from(size),
                        limit: MAX_HEADERS,
                    });
                }
                let mut body = Vec::new();
                if !input.read_vec(size as usize, &mut body)? {
                    return Err(truncated());
                }
                input.skip(u64::from(size % 2))?;
                return Ok(Self {
                    stream: stream(body.get(4..).unwrap_or_default(), at)?,
                    index: 0,
                    shortage_told: false,
                    chunk: Vec::new(),
                });
            }
            input.skip(u64::from(size) + u64::from(size % 2))?;
        }
    }

    /// Whether a chunk holds a frame of the stream: `00dc` (compressed) or `00db` (bitmap).
    fn is_frame(&self, kind: FourCc) -> bool {
        kind[..2] == self.stream.number && matches!(&kind[2..], b"dc" | b"db")
    }

    fn unit(&self, bytes: &[u8], at: u64, pool: &Pool) -> Result<Unit, MediaError> {
        let encoded = |codec, keyframe| {
            let mut data = pool.take(bytes.len());
            data.copy_from_slice(bytes);
            Unit::Encoded {
                codec,
                data,
                keyframe,
            }
        };
        let Stream { width, height, .. } = self.stream;
        let frame = match &self.stream.coding {
            Coding::Jpeg => return Ok(encoded(Codec::Jpeg, true)),
            Coding::Png => return Ok(encoded(Codec::Png, true)),
            Coding::H264 => return Ok(encoded(Codec::H264, h264::has_idr(bytes))),
            Coding::Dib(dib) => dib.frame(bytes, pool),
            Coding::Planar { swapped } => {
                raw(PixelFormat::I420, width, height, bytes, pool).map(|mut frame| {
                    if *swapped {
                        let u = frame.plane(1).to_vec();
                        let v = frame.plane(2).to_vec();
                        frame.plane_mut(1).copy_from_slice(&v);
                        frame.plane_mut(2).copy_from_slice(&u);
                    }
                    frame
                })
            }
            Coding::Nv12 => raw(PixelFormat::Nv12, width, height, bytes, pool),
            Coding::Gray => raw(PixelFormat::Gray, width, height, bytes, pool),
            Coding::Yuy2 => yuy2(width, height, bytes, pool),
        };
        frame.map(Unit::Frame).map_err(|e| MediaError::Packet {
            at,
            what: e.to_string(),
        })
    }
}

fn short(need: usize, have: usize) -> MediaError {
    MediaError::Unsupported(format!("the raw frame has {have} of {need} bytes"))
}

/// A frame whose planes are stored as they stand in memory.
fn raw(format: PixelFormat, width: u32, height: u32, bytes: &[u8], pool: &Pool) -> Result<Frame, MediaError> {
    let need = format.frame_bytes(width, height);
    let mut data = pool.take(need);
    data.copy_from_slice(bytes.get(..need).ok_or_else(|| short(need, bytes.len()))?);
    Frame::packed(width, height, format, ColorSpace::guess(height), data)
        .map_err(|e| MediaError::Unsupported(e.to_string()))
}

/// Unpacks Y0 U Y1 V to planes.
fn yuy2(width: u32, height: u32, bytes: &[u8], pool: &Pool) -> Result<Frame, MediaError> {
    let (w, h) = (width as usize, height as usize);
    let (chroma, row) = (w.div_ceil(2), 4 * w.div_ceil(2));
    let need = row * h;
    let bytes = bytes.get(..need).ok_or_else(|| short(need, bytes.len()))?;
    let mut data = pool.take(PixelFormat::I422.frame_bytes(width, height));
    let (luma, rest) = data.split_at_mut(w * h);
    let (u, v) = rest.split_at_mut(chroma * h);
    for (y, packed) in bytes.chunks_exact(row).enumerate() {
        let luma = &mut luma[y * w..][..w];
        for (x, value) in luma.iter_mut().enumerate() {
            *value = packed[2 * x];
        }
        for (x, four) in packed.chunks_exact(4).enumerate() {
            u[y * chroma + x] = four[1];
            v[y * chroma + x] = four[3];
        }
    }
    Frame::packed(width, height, PixelFormat::I422, ColorSpace::guess(height), data)
        .map_err(|e| MediaError::Unsupported(e.to_string()))
}

impl Demuxer for Avi {
    fn next(&mut self, input: &mut Input, pool: &Pool) -> Result<Option<Sample>, MediaError> {
        loop {
            let (kind, size) = match next_chunk(input) {
                Ok(Some(found)) => found,
                Ok(None) => break,
                // Whether frames are missing is told below.
                Err(MediaError::Truncated(_)) if self.stream.frames > 0 => break,
                Err(e) => return Err(e),
            };
            let at = input.position();
            let padded = u64::from(size) + u64::from(size % 2);
            if !self.is_frame(kind) {
                input.skip(padded)?;
                continue;
            }
            let index = self.index;
            self.index += 1;
            // An empty chunk repeats the frame before.
            if size == 0 {
                continue;
            }
            if u64::from(size) > MAX_PACKET {
                input.skip(padded)?;
                return Err(MediaError::Packet {
                    at,
                    what: format!("a frame of {size} bytes; the limit is {MAX_PACKET}"),
                });
            }
            if !input.read_vec(size as usize, &mut self.chunk)? {
                input.skip(u64::MAX)?;
                self.shortage_told = true;
                return Err(MediaError::Truncated(format!(
                    "frame {index} is cut off; {} of {} frames are missing",
                    u64::from(self.stream.frames).saturating_sub(index),
                    self.stream.frames
                )));
            }
            input.skip(u64::from(size % 2))?;
            let unit = self.unit(&self.chunk, at, pool)?;
            let ticks = i64::try_from(u128::from(index) * u128::from(self.stream.scale)).unwrap_or(i64::MAX);
            return Ok(Some(Sample {
                pts: nanos(ticks, u64::from(self.stream.rate)),
                unit,
            }));
        }
        Ok(None)
    }

    fn declared(&self) -> Option<u64> {
        (self.stream.frames > 0).then_some(u64::from(self.stream.frames))
    }
}
