//! Media inputs: recognised by their content, read packet by packet.

use std::time::Duration;

use flow_frame::{Buffer, Codec, Frame, Pool};

use crate::error::MediaError;
use crate::input::Input;
use crate::{annexb, avi, mjpeg, mp4, pnm, still, y4m};

/// Largest picture in pixels (8192 x 8192): what a header may make a decoder allocate for.
pub const MAX_PIXELS: u64 = 1 << 26;
/// Largest coded picture in bytes.
pub const MAX_PACKET: u64 = 128 << 20;
/// Frame rate of media that carry no times.
pub(crate) const DEFAULT_FPS: f64 = 25.0;
/// Bytes that recognising looks at.
const PROBE: usize = 1024;

/// Format of an input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// ISO base media: MP4, MOV, fragmented MP4.
    Mp4,
    /// AVI.
    Avi,
    /// YUV4MPEG2.
    Y4m,
    /// H.264 byte stream.
    AnnexB,
    /// One or more JPEG pictures.
    Jpeg,
    /// One or more PNM pictures.
    Pnm,
    /// One PNG picture.
    Png,
    /// One BMP picture.
    Bmp,
}

/// Picture data of one packet.
#[derive(Debug)]
pub enum Unit {
    /// An access unit for a decoder.
    Encoded {
        /// How it is coded.
        codec: Codec,
        /// The bytes.
        data: Buffer,
        /// Whether decoding can begin here.
        keyframe: bool,
    },
    /// A frame: the input holds raw pictures.
    Frame(Frame),
}

/// One packet of an input.
#[derive(Debug)]
pub struct Sample {
    /// Presentation time in nanoseconds; negative: to be decoded but not shown (an edit begins later).
    pub pts: i64,
    /// The picture.
    pub unit: Unit,
}

impl Sample {
    /// The presentation time, with times before the start at zero.
    pub fn time(&self) -> Duration {
        Duration::from_nanos(self.pts.max(0) as u64)
    }
}

/// Reads the packets of one format.
pub(crate) trait Demuxer: Send {
    /// The next packet in stored order, or `None` at the end. After a recoverable error it can be called
    /// again.
    fn next(&mut self, input: &mut Input, pool: &Pool) -> Result<Option<Sample>, MediaError>;

    /// Number of packets the input declares, where it does.
    fn declared(&self) -> Option<u64> {
        None
    }
}

/// A media input opened for reading.
///
/// ```
/// use flow_decode::{Input, MediaReader};
/// let y4m = b"YUV4MPEG2 W2 H2 F25:1 Cmono\nFRAME\n\x10\x20\x30\x40".to_vec();
/// let mut reader = MediaReader::open(Input::from_bytes("two.y4m", y4m), None)?;
/// assert!(reader.next()?.is_some());
/// assert!(reader.next()?.is_none());
/// # Ok::<(), flow_decode::MediaError>(())
/// ```
pub struct MediaReader {
    input: Input,
    format: Format,
    demuxer: Box<dyn Demuxer>,
    pool: Pool,
    ended: bool,
}

impl MediaReader {
    /// Recognises the input and reads its headers. `fps` times the pictures of media that carry no times
    /// of their own (25 where `None`).
    pub fn open(mut input: Input, fps: Option<f64>) -> Result<Self, MediaError> {
        let format = recognise(input.peek(PROBE)?)?;
        let fps_or_default = fps.unwrap_or(DEFAULT_FPS);
        let demuxer: Box<dyn Demuxer> = match format {
            Format::Mp4 => Box::new(mp4::Mp4::open(&mut input)?),
            Format::Avi => Box::new(avi::Avi::open(&mut input)?),
            Format::Y4m => Box::new(y4m::Y4m::open(&mut input)?),
            Format::AnnexB => Box::new(annexb::AnnexB::open(fps)),
            Format::Jpeg => Box::new(mjpeg::Mjpeg::open(fps_or_default)),
            Format::Pnm => Box::new(pnm::PnmStream::open(fps_or_default)),
            Format::Png => Box::new(still::Still::open(Codec::Png)),
            Format::Bmp => Box::new(still::Still::open(Codec::Bmp)),
        };
        Ok(Self {
            input,
            format,
            demuxer,
            pool: Pool::new(8),
            ended: false,
        })
    }

    /// The format found.
    pub fn format(&self) -> Format {
        self.format
    }

    /// Name of the input.
    pub fn name(&self) -> &std::sync::Arc<str> {
        self.input.name()
    }

    /// Number of packets the input declares, where it does.
    pub fn declared(&self) -> Option<u64> {
        self.demuxer.declared()
    }

    /// Takes buffers from `pool`, so that several readings of one source share them.
    #[must_use]
    pub fn with_pool(mut self, pool: Pool) -> Self {
        self.pool = pool;
        self
    }

    /// The next packet in stored order, or `None` at the end.
    ///
    /// After an error that is [`MediaError::recoverable`] the next call goes on where reading next can;
    /// after another the input has ended.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> Result<Option<Sample>, MediaError> {
        if self.ended {
            return Ok(None);
        }
        let result = self.demuxer.next(&mut self.input, &self.pool);
        self.ended = match &result {
            Ok(sample) => sample.is_none(),
            Err(e) => !e.recoverable(),
        };
        result
    }
}

/// Recognises a format by its first bytes.
pub(crate) fn recognise(head: &[u8]) -> Result<Format, MediaError> {
    let unsupported = |what: &str| {
        Err(MediaError::Unsupported(format!(
            "it is {what}, which is not read here; use `type: ffmpeg`"
        )))
    };
    let mp4_kinds: [&[u8]; 10] = [
        b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"moof", b"styp", b"sidx", b"pnot",
    ];
    match head {
        [] => Err(MediaError::Unrecognised {
            found: "the input is empty".into(),
        }),
        [_, _, _, _, b'f', b't', b'y', b'p', brand @ ..]
            if [b"heic", b"heix", b"mif1", b"avif"]
                .iter()
                .any(|b| brand.starts_with(&b[..])) =>
        {
            unsupported("an HEIF or AVIF picture")
        }
        [_, _, _, _, rest @ ..] if mp4_kinds.iter().any(|kind| rest.starts_with(kind)) => Ok(Format::Mp4),
        [b'R', b'I', b'F', b'F', _, _, _, _, rest @ ..] if rest.starts_with(b"AVI ") => Ok(Format::Avi),
        [b'R', b'I', b'F', b'F', _, _, _, _, rest @ ..] if rest.starts_with(b"WEBP") => {
            unsupported("a WebP picture")
        }
        _ if head.starts_with(b"YUV4MPEG2") => Ok(Format::Y4m),
        _ if picture_codec(head) == Some(Codec::Jpeg) => Ok(Format::Jpeg),
        _ if picture_codec(head) == Some(Codec::Png) => Ok(Format::Png),
        _ if picture_codec(head) == Some(Codec::Bmp) => Ok(Format::Bmp),
        _ if picture_codec(head) == Some(Codec::Pnm) => Ok(Format::Pnm),
        _ if annexb::looks_like(head) => Ok(Format::AnnexB),
        [0x1A, 0x45, 0xDF, 0xA3, ..] => unsupported("Matroska or WebM"),
        [b'G', b'I', b'F', b'8', ..] => unsupported("a GIF picture"),
        [b'F', b'L', b'V', ..] => unsupported("Flash video"),
        [b'O', b'g', b'g', b'S', ..] => unsupported("Ogg"),
        [b'I', b'I', 42, 0, ..] | [b'M', b'M', 0, 42, ..] => unsupported("a TIFF picture"),
        [0, 0, 1, 0xBA, ..] => unsupported("an MPEG program stream"),
        _ if head[0] == 0x47 && head.get(188) == Some(&0x47) => unsupported("an MPEG transport stream"),
        _ => Err(MediaError::Unrecognised {
            found: format!("unknown content: it begins with {}", hex(head)),
        }),
    }
}

/// Codec of a still picture by its first bytes.
pub fn picture_codec(head: &[u8]) -> Option<Codec> {
    match head {
        [0xFF, 0xD8, 0xFF, ..] => Some(Codec::Jpeg),
        [0x89, b'P', b'N', b'G', b'\r', b'\n', 0x1A, b'\n', ..] => Some(Codec::Png),
        [b'B', b'M', ..]
            if matches!(
                head.get(14..18),
                Some([12 | 40 | 52 | 56 | 64 | 108 | 124, 0, 0, 0])
            ) =>
        {
            Some(Codec::Bmp)
        }
        [b'P', b'1'..=b'7', b' ' | b'\t' | b'\r' | b'\n' | b'#', ..] => Some(Codec::Pnm),
        _ => None,
    }
}

/// The first bytes for a message: hex, and text where it is text.
pub(crate) fn hex(bytes: &[u8]) -> String {
    let shown = &bytes[..bytes.len().min(12)];
    let digits: Vec<String> = shown.iter().map(|b| format!("{b:02x}")).collect();
    let text: String = shown
        .iter()
        .map(|&b| {
            if b.is_ascii_graphic() || b == b' ' {
                char::from(b)
            } else {
                '.'
            }
        })
        .collect();
    format!("{} \"{text}\"", digits.join(" "))
}

/// Checks the size of a picture against the limits of frames and memory.
pub(crate) fn check_size(width: u64, height: u64) -> Result<(u32, u32), MediaError> {
    let side = u64::from(Frame::MAX_SIDE);
    for (what, value) in [("the width in pixels", width), ("the height in pixels", height)] {
        if value == 0 || value > side {
            return Err(MediaError::Limit {
                what,
                value,
                limit: side,
            });
        }
    }
    if width * height > MAX_PIXELS {
        return Err(MediaError::Limit {
            what: "the number of pixels",
            value: width * height,
            limit: MAX_PIXELS,
        });
    }
    Ok((width as u32, height as u32))
}

/// Time of picture `index` at `fps` pictures a second, in nanoseconds.
pub(crate) fn time_of(index: u64, fps: f64) -> i64 {
    // A float cast saturates, so that no rate can overflow.
    (index as f64 * 1e9 / fps).round() as i64
}

/// `value / timescale` seconds in nanoseconds, saturating.
pub(crate) fn nanos(value: i64, timescale: u64) -> i64 {
    let wide = i128::from(value) * 1_000_000_000 / i128::from(timescale.max(1));
    wide.clamp(i128::from(i64::MIN), i128::from(i64::MAX)) as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_formats_are_named() {
        let e = recognise(&[0x1A, 0x45, 0xDF, 0xA3, 0]).unwrap_err();
        assert!(e.to_string().contains("Matroska"), "{e}");
        let e = recognise(b"hello, world").unwrap_err();
        assert!(e.to_string().contains("68 65 6c"), "{e}");
        assert!(matches!(e, MediaError::Unrecognised { .. }));
    }

    #[test]
    fn sizes_have_limits() {
        assert!(check_size(8192, 8192).is_ok());
        assert!(check_size(8193, 8192).is_err());
        assert!(check_size(0, 5).is_err());
        assert!(check_size(16385, 1).is_err());
    }
}
