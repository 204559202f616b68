//! YUV4MPEG2 files: uncompressed video with a line of text before each frame.

use std::path::Path;

use flow_frame::{Frame, PixelFormat, Range};

use crate::file::{OutputError, PartFile};
use crate::pixels::to_yuv444;

/// Place of the frame rate in the header, `F` and twice ten digits.
const RATE: u64 = 10;

/// Turns frames into the bytes of a Y4M stream. YUV and grey frames stay as they are (NV12 becomes I420), RGB and BGR
/// frames become 4:4:4, BT.601 limited range.
pub(crate) struct Y4mEncoder {
    width: u32,
    height: u32,
    format: PixelFormat,
    range: Range,
    rgb: Vec<u8>,
    bytes: Vec<u8>,
}

/// How frames of `format` are stored.
fn stored(format: PixelFormat) -> PixelFormat {
    match format {
        PixelFormat::Nv12 => PixelFormat::I420,
        PixelFormat::Rgb | PixelFormat::Bgr => PixelFormat::I444,
        same => same,
    }
}

fn stored_range(frame: &Frame) -> Range {
    match frame.format() {
        PixelFormat::Rgb | PixelFormat::Bgr => Range::Limited,
        PixelFormat::Gray => Range::Full,
        _ => frame.color().range,
    }
}

impl Y4mEncoder {
    /// An encoder for frames like `frame`.
    pub(crate) fn of(frame: &Frame) -> Self {
        Self {
            width: frame.width(),
            height: frame.height(),
            format: stored(frame.format()),
            range: stored_range(frame),
            rgb: Vec::new(),
            bytes: Vec::new(),
        }
    }

    /// The line that a stream begins with; `rate` is two numbers, `N:D`.
    pub(crate) fn header(&self, rate: &str) -> String {
        let sampling = match self.format {
            PixelFormat::I422 => "422",
            PixelFormat::I444 => "444",
            PixelFormat::Gray => "mono",
            _ => "420jpeg",
        };
        let range = match self.range {
            Range::Limited => "LIMITED",
            Range::Full => "FULL",
        };
        let (width, height) = (self.width, self.height);
        format!("YUV4MPEG2 F{rate} W{width} H{height} Ip A1:1 C{sampling} XCOLORRANGE={range}\n")
    }

    /// The line and the planes of a frame, which must be like the first; otherwise what differs.
    pub(crate) fn encode(&mut self, frame: &Frame) -> Result<&[u8], String> {
        let found = (
            frame.width(),
            frame.height(),
            stored(frame.format()),
            stored_range(frame),
        );
        if found != (self.width, self.height, self.format, self.range) {
            return Err(format!(
                "a frame of {}x{} {}; the file began with {}x{} {}",
                found.0,
                found.1,
                found.2.name(),
                self.width,
                self.height,
                self.format.name()
            ));
        }
        self.bytes.clear();
        self.bytes.extend_from_slice(b"FRAME\n");
        match frame.format() {
            PixelFormat::Rgb | PixelFormat::Bgr => to_yuv444(frame, &mut self.rgb, &mut self.bytes)?,
            PixelFormat::Nv12 => {
                self.append_plane(frame, 0);
                for first in [0, 1] {
                    for y in 0..frame.plane_layout(1).rows {
                        let row = frame.row(1, y);
                        self.bytes.extend(row.iter().skip(first).step_by(2));
                    }
                }
            }
            _ => (0..frame.plane_count()).for_each(|p| self.append_plane(frame, p)),
        }
        Ok(&self.bytes)
    }

    fn append_plane(&mut self, frame: &Frame, plane: usize) {
        for y in 0..frame.plane_layout(plane).rows {
            self.bytes.extend_from_slice(frame.row(plane, y));
        }
    }
}

/// Writes a Y4M file. YUV and grey frames are written as they are (NV12 as I420), RGB and BGR frames as 4:4:4,
/// BT.601 limited range.
pub struct Y4mWriter {
    file: PartFile,
    encoder: Y4mEncoder,
}

impl Y4mWriter {
    /// Creates the file for frames like `frame`.
    pub fn create(path: &Path, frame: &Frame) -> Result<Self, OutputError> {
        let mut file = PartFile::create(path)?;
        let encoder = Y4mEncoder::of(frame);
        // The rate is known at the end; its place is as wide as any rate.
        file.write(encoder.header("0000000025:0000000001").as_bytes())?;
        Ok(Self { file, encoder })
    }

    /// Appends a frame, which must be like the first.
    pub fn write(&mut self, frame: &Frame) -> Result<(), OutputError> {
        let bytes = self.encoder.encode(frame).map_err(|why| OutputError::Frame {
            path: self.file.path().to_path_buf(),
            why,
        })?;
        self.file.write(bytes)
    }

    /// Completes the file; it plays at `rate.0 / rate.1` frames per second.
    pub fn finish(mut self, rate: (u32, u32)) -> Result<(), OutputError> {
        let text = format!("F{:010}:{:010}", rate.0, rate.1);
        self.file.overwrite(RATE, text.as_bytes())?;
        self.file.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pixels::tests::{FORMATS, flat};

    #[test]
    fn every_format_is_written_with_its_planes() {
        for format in FORMATS {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("x.y4m");
            let frame = flat(5, 3, format, 90);
            let mut y4m = Y4mWriter::create(&path, &frame).unwrap();
            y4m.write(&frame).unwrap();
            y4m.write(&frame).unwrap();
            y4m.finish((30, 1)).unwrap();
            let file = std::fs::read(&path).unwrap();
            let end = file.iter().position(|b| *b == b'\n').unwrap();
            let header = std::str::from_utf8(&file[..end]).unwrap();
            assert!(
                header.starts_with("YUV4MPEG2 F0000000030:0000000001 W5 H3 "),
                "{header}"
            );
            let bytes = stored(format).frame_bytes(5, 3);
            assert_eq!(file.len(), end + 1 + 2 * (6 + bytes), "{format:?} {header}");
            let first = &file[end + 7..][..bytes];
            let want = if matches!(format, PixelFormat::Rgb | PixelFormat::Bgr) {
                16 + 77
            } else {
                90
            };
            assert!(
                first[..15].iter().all(|v| v.abs_diff(want) <= 1),
                "{format:?} {first:?}"
            );
            assert!(first[15..].iter().all(|v| v.abs_diff(128) <= 1), "{format:?}");
        }
    }

    #[test]
    fn nv12_chroma_is_taken_apart() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.y4m");
        let mut frame = flat(2, 2, PixelFormat::Nv12, 50);
        frame.plane_mut(1).copy_from_slice(&[11, 22]);
        let mut y4m = Y4mWriter::create(&path, &frame).unwrap();
        y4m.write(&frame).unwrap();
        y4m.finish((25, 1)).unwrap();
        assert!(std::fs::read(&path).unwrap().ends_with(&[50, 50, 50, 50, 11, 22]));
    }

    #[test]
    fn a_frame_of_another_size_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let mut y4m =
            Y4mWriter::create(&folder.path().join("x.y4m"), &flat(4, 4, PixelFormat::I420, 0)).unwrap();
        let e = y4m
            .write(&flat(6, 4, PixelFormat::I420, 0))
            .unwrap_err()
            .to_string();
        assert!(e.contains("6x4") && e.contains("4x4"), "{e}");
    }
}
