//! H.264 byte streams (Annex B), cut into access units (7.4.1.2.3).

use flow_frame::{Codec, Pool};

use crate::error::MediaError;
use crate::h264::{self, Sps};
use crate::input::Input;
use crate::media::{DEFAULT_FPS, Demuxer, MAX_PACKET, Sample, Unit, time_of};

/// Whether the first bytes are those of an H.264 byte stream.
pub(crate) fn looks_like(head: &[u8]) -> bool {
    let zeros = head.iter().take_while(|&&b| b == 0).count();
    if !(2..=8).contains(&zeros) || head.get(zeros) != Some(&1) {
        return false;
    }
    let Some(&header) = head.get(zeros + 1) else {
        return false;
    };
    // Parameter sets, delimiters and slices begin a stream; 0x00 0x00 0x01 with others is MPEG.
    header & 0x80 == 0
        && match header & 0x1F {
            h264::SPS | h264::PPS | h264::IDR => header & 0x60 != 0,
            h264::AUD | h264::SEI => header & 0x60 == 0,
            h264::SLICE => true,
            _ => false,
        }
}

pub(crate) struct AnnexB {
    /// Frame rate that was asked for.
    fps: Option<f64>,
    /// Frame rate of the stream.
    stream_fps: Option<f64>,
    index: u64,
    unit: Vec<u8>,
    has_slice: bool,
    keyframe: bool,
}

impl AnnexB {
    pub(crate) fn open(fps: Option<f64>) -> Self {
        Self {
            fps,
            stream_fps: None,
            index: 0,
            unit: Vec::new(),
            has_slice: false,
            keyframe: false,
        }
    }

    fn take_unit(&mut self, pool: &Pool) -> Option<Sample> {
        if !self.has_slice {
            self.unit.clear();
            return None;
        }
        let mut data = pool.take(self.unit.len());
        data.copy_from_slice(&self.unit);
        self.unit.clear();
        self.has_slice = false;
        let fps = self.fps.or(self.stream_fps).unwrap_or(DEFAULT_FPS);
        let sample = Sample {
            pts: time_of(self.index, fps),
            unit: Unit::Encoded {
                codec: Codec::H264,
                data,
                keyframe: std::mem::take(&mut self.keyframe),
            },
        };
        self.index += 1;
        Some(sample)
    }

    /// Whether a NAL unit begins an access unit, given that the current one has a slice.
    fn begins_unit(nal: &[u8]) -> bool {
        match h264::nal_type(nal) {
            Some(h264::AUD | h264::SPS | h264::PPS | h264::SEI | 14..=18) => true,
            Some(h264::SLICE..=2 | h264::IDR) => h264::first_macroblock(nal) == Some(0),
            _ => false,
        }
    }
}

/// Bytes to the end of the NAL unit that follows the start code at the input's position; both start code
/// and unit are in the window then. `None`: no start code.
fn whole_nal(input: &mut Input) -> Result<Option<(usize, usize)>, MediaError> {
    // No more is waited for than the next start code: a live pipe may hold nothing behind it.
    let mut want = 4;
    let (mut begin, mut scanned) = (None, 0);
    loop {
        let at = input.position();
        let seen = input.peek(want)?;
        let end = seen.len() < want;
        if begin.is_none() {
            begin = h264::find_start_code(seen, scanned).map(|i| i + 3);
            scanned = begin.unwrap_or(seen.len().saturating_sub(2));
        }
        if let Some(begin) = begin {
            if let Some(next) = h264::find_start_code(seen, scanned.max(begin)) {
                return Ok(Some((begin, next)));
            }
            scanned = seen.len().saturating_sub(2).max(begin);
            if end {
                return Ok(Some((begin, seen.len())));
            }
        } else if end {
            return Ok(None);
        }
        if seen.len() as u64 >= MAX_PACKET {
            let limit = MAX_PACKET;
            input.skip(limit)?;
            return Err(MediaError::Packet {
                at,
                what: format!("no NAL unit ends within {limit} bytes"),
            });
        }
        want = seen.len() + 1;
    }
}

impl Demuxer for AnnexB {
    fn next(&mut self, input: &mut Input, pool: &Pool) -> Result<Option<Sample>, MediaError> {
        loop {
            let Some((begin, end)) = whole_nal(input)? else {
                return Ok(self.take_unit(pool));
            };
            let window = input.peek(end)?;
            let nal = &window[begin..end.min(window.len())];
            if self.has_slice && Self::begins_unit(nal) {
                // The unit is whole; this NAL unit is read again for the next one.
                return Ok(self.take_unit(pool));
            }
            match h264::nal_type(nal) {
                Some(h264::SPS) => {
                    if let Some(sps) = Sps::parse(nal) {
                        self.stream_fps = sps.fps.or(self.stream_fps);
                    }
                }
                Some(h264::IDR) => {
                    self.keyframe = true;
                    self.has_slice = true;
                }
                Some(h264::SLICE..=4) => self.has_slice = true,
                _ => {}
            }
            if (self.unit.len() + nal.len()) as u64 > MAX_PACKET {
                self.unit.clear();
                self.has_slice = false;
                let at = input.position();
                input.skip(end as u64)?;
                return Err(MediaError::Packet {
                    at,
                    what: format!("an access unit of more than {MAX_PACKET} bytes"),
                });
            }
            self.unit.extend([0, 0, 0, 1]);
            let used = nal.iter().rposition(|&b| b != 0).map_or(0, |last| last + 1);
            self.unit.extend(&nal[..used]);
            input.skip(end as u64)?;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MediaReader;

    fn units(bytes: Vec<u8>) -> Vec<(usize, bool)> {
        let mut reader = MediaReader::open(Input::from_bytes("a.h264", bytes), None).unwrap();
        let mut found = Vec::new();
        while let Some(sample) = reader.next().unwrap() {
            let Unit::Encoded { data, keyframe, .. } = sample.unit else {
                panic!("access units are encoded")
            };
            found.push((data.len(), keyframe));
        }
        found
    }

    #[test]
    fn slices_of_one_picture_stay_together() {
        let nal = |bytes: &[u8]| [&[0, 0, 1][..], bytes].concat();
        // 0x80 in a slice: first_mb_in_slice = 0; 0x40 (010): 1.
        let stream = [
            nal(&[0x67, 66, 0, 30, 9]),
            nal(&[0x68, 9]),
            nal(&[0x65, 0x80, 1]),
            nal(&[0x65, 0x40, 1]),
            nal(&[0x41, 0x80, 1]),
            nal(&[0x06, 5]),
            nal(&[0x41, 0x80, 1]),
        ]
        .concat();
        let found = units(stream);
        assert_eq!(found.len(), 3);
        assert_eq!(found[0], ((4 + 5) + (4 + 2) + (4 + 3) + (4 + 3), true));
        assert_eq!(found[1], (4 + 3, false));
        assert_eq!(found[2], ((4 + 2) + (4 + 3), false));
    }

    #[test]
    fn a_real_stream_has_its_pictures() {
        let found = units(include_bytes!("../tests/data/bframes.h264").to_vec());
        assert_eq!(found.len(), 20);
        assert!(found[0].1);
    }
}
