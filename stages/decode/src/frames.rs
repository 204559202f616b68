//! The frames of an input one after another, without a pipeline.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use flow::error::StageError;
use flow::packet::{Header, Packet, PacketId};
use flow::stage::{Emitter, Stage};
use flow_frame::{Codec, Encoded, Frame, Pool};

use crate::decode::Decode;
use crate::error::MediaError;
use crate::input::Input;
use crate::media::{MediaReader, Sample, Unit};
use crate::playback::Preroll;

/// Decodes a clip or a picture frame by frame, in display order. A few frames are in memory at a time.
///
/// ```
/// use flow_decode::{FrameReader, Input, MediaReader};
/// let y4m = b"YUV4MPEG2 W2 H2 F25:1 Cmono\nFRAME\n\x10\x20\x30\x40FRAME\n\x50\x60\x70\x80".to_vec();
/// let mut frames = FrameReader::new(MediaReader::open(Input::from_bytes("two.y4m", y4m), None)?);
/// let mut seen = Vec::new();
/// while let Some((place, frame)) = frames.next(&|_| true)? {
///     seen.push((place, frame.width()));
/// }
/// assert_eq!(seen, [(0, 2), (1, 2)]);
/// # Ok::<(), flow_decode::FrameError>(())
/// ```
pub struct FrameReader {
    reader: MediaReader,
    decoder: Decode,
    ready: Collected,
    /// Packets read, which is the place of the next one.
    read: u64,
    ended: bool,
}

/// Why an input cannot be read on.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The container.
    #[error(transparent)]
    Media(#[from] MediaError),
    /// The decoder.
    #[error("{}", .0.message)]
    Decoder(StageError),
}

/// What the decoder gave and nobody has taken.
#[derive(Default)]
struct Collected {
    frames: VecDeque<(u64, Arc<Frame>)>,
    failed: u64,
}

impl Emitter for Collected {
    fn emit(&mut self, packet: Packet) {
        if let Some(frame) = packet.shared_payload::<Frame>() {
            self.frames.push_back((packet.header.id.seq, frame));
        }
    }

    /// Frames before the start of the presentation.
    fn drop_packet(&mut self, _: &Header, _: &'static str) {}

    fn fail(&mut self, _: &Header, _: StageError) {
        self.failed += 1;
    }
}

impl FrameReader {
    /// Frames of an opened input.
    pub fn new(reader: MediaReader) -> Self {
        Self {
            reader: reader.with_pool(Pool::new(8)),
            decoder: Decode::new(),
            ready: Collected::default(),
            read: 0,
            ended: false,
        }
    }

    /// Number of packets in the file, each of which is a frame where nothing is damaged. Reads the whole file, but
    /// decodes nothing, unless the file declares the number.
    ///
    /// # Errors
    /// If the file cannot be opened or is of no known format.
    pub fn count(path: &Path) -> Result<u64, MediaError> {
        let mut reader = open(path)?;
        if let Some(declared) = reader.declared() {
            return Ok(declared);
        }
        let mut count = 0;
        loop {
            match reader.next() {
                Ok(Some(_)) => count += 1,
                Ok(None) => return Ok(count),
                Err(e) if e.recoverable() => {}
                // What was read before the damage can be decoded.
                Err(_) if count > 0 => return Ok(count),
                Err(e) => return Err(e),
            }
        }
    }

    /// Opens a file, recognised by its content.
    ///
    /// # Errors
    /// If it cannot be opened or is of no known format.
    pub fn open(path: &Path) -> Result<Self, MediaError> {
        Ok(Self::new(open(path)?))
    }

    /// The next frame in display order with its place among the packets, from 0; `None` at the end. Damaged frames are
    /// left out and counted. Frames that `wanted` refuses may be left out where that saves decoding them; others of them
    /// come all the same.
    ///
    /// # Errors
    /// If the decoder cannot go on.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self, wanted: &dyn Fn(u64) -> bool) -> Result<Option<(u64, Arc<Frame>)>, FrameError> {
        loop {
            if let Some(frame) = self.ready.frames.pop_front() {
                return Ok(Some(frame));
            }
            if self.ended {
                return Ok(None);
            }
            match self.reader.next() {
                Ok(Some(sample)) => {
                    let place = self.read;
                    self.read += 1;
                    self.decode(sample, place, wanted)?;
                }
                Ok(None) => self.end()?,
                Err(e) if e.recoverable() => self.ready.failed += 1,
                Err(_) => {
                    self.ready.failed += 1;
                    self.end()?;
                }
            }
        }
    }

    /// Packets so far that gave no frame.
    pub fn failed(&self) -> u64 {
        self.ready.failed
    }

    fn decode(&mut self, sample: Sample, place: u64, wanted: &dyn Fn(u64) -> bool) -> Result<(), FrameError> {
        let Sample { pts, unit } = sample;
        let encoded = match unit {
            Unit::Frame(frame) => {
                self.ready.frames.push_back((place, Arc::new(frame)));
                return Ok(());
            }
            Unit::Encoded {
                codec,
                data,
                keyframe,
            } => Encoded {
                codec,
                data,
                keyframe,
                origin: Arc::from(""),
            },
        };
        if encoded.codec != Codec::H264 && !wanted(place) {
            return Ok(());
        }
        let header = Header {
            id: PacketId {
                stream: "clip".into(),
                epoch: 0,
                seq: place,
            },
            captured: Instant::now(),
            pts: Some(Duration::from_nanos(pts.max(0) as u64)),
        };
        let mut packet = Packet::new(header, Arc::new(encoded));
        if pts < 0 {
            packet.attach(Arc::new(Preroll {
                before: Duration::from_nanos(pts.unsigned_abs()),
            }));
        }
        let result = self.decoder.process(packet, &mut self.ready);
        self.settled(result)
    }

    fn end(&mut self) -> Result<(), FrameError> {
        self.ended = true;
        let result = self.decoder.flush(&"clip".into(), &mut self.ready);
        self.settled(result)
    }

    /// Counts what is damaged; what the decoder cannot get over ends the reading.
    fn settled(&mut self, result: Result<(), StageError>) -> Result<(), FrameError> {
        match result {
            Err(e) if !e.recoverable => Err(FrameError::Decoder(e)),
            Err(_) => {
                self.ready.failed += 1;
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }
}

fn open(path: &Path) -> Result<MediaReader, MediaError> {
    let input = Input::open(path).map_err(|e| MediaError::Open(Arc::new(e)))?;
    MediaReader::open(input, None)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn two(second: &[u8]) -> Vec<u8> {
        let mut bytes = b"P6 1 1 255\n\x01\x02\x03".to_vec();
        bytes.extend_from_slice(second);
        bytes
    }

    #[test]
    fn frames_are_counted_without_decoding_and_read_in_order() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("two.ppm");
        std::fs::write(&path, two(b"P6 1 1 255\n\x04\x05\x06")).unwrap();
        assert_eq!(FrameReader::count(&path).unwrap(), 2);
        let mut frames = FrameReader::open(&path).unwrap();
        let mut seen = Vec::new();
        while let Some((place, frame)) = frames.next(&|_| true).unwrap() {
            seen.push((place, frame.row(0, 0).to_vec()));
        }
        assert_eq!(seen, [(0, vec![1, 2, 3]), (1, vec![4, 5, 6])]);
        assert_eq!(frames.failed(), 0);
    }

    #[test]
    fn what_is_cut_off_is_counted_and_what_comes_before_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("torn.ppm");
        std::fs::write(&path, two(b"P6 9 9 255\n\x04")).unwrap();
        let mut frames = FrameReader::open(&path).unwrap();
        assert!(frames.next(&|_| true).unwrap().is_some());
        assert!(frames.next(&|_| true).unwrap().is_none());
        assert_eq!(frames.failed(), 1);
    }
}
