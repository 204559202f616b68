//! JPEG pictures one behind the other: a still is a stream of one. Markers: ITU-T T.81, annex B.

use flow_frame::{Codec, Pool};

use crate::error::MediaError;
use crate::input::Input;
use crate::media::{Demuxer, MAX_PACKET, Sample, Unit, time_of};

const SOI: u8 = 0xD8;
const EOI: u8 = 0xD9;
const SOS: u8 = 0xDA;
const APP2: u8 = 0xE2;

pub(crate) struct Mjpeg {
    fps: f64,
    index: u64,
    /// The first picture says that what follows it are its own companions (previews, gain maps).
    single: bool,
}

/// Where a scan over a picture that is still arriving stands.
#[derive(Debug, Default)]
struct Scan {
    at: usize,
    in_entropy: bool,
    multi_picture: bool,
}

#[derive(Debug, PartialEq)]
enum Found {
    /// The picture ends before this offset.
    End(usize),
    /// The next picture begins here although this one has not ended.
    Restart(usize),
    /// More bytes are needed.
    More,
}

impl Scan {
    /// Goes on over `bytes`, which begin with SOI.
    fn run(&mut self, bytes: &[u8]) -> Found {
        loop {
            if self.in_entropy {
                // Entropy-coded data ends at a marker; FF 00 is a stuffed byte, FF D0..D7 are restarts.
                match bytes.get(self.at..).unwrap_or_default() {
                    [] | [0xFF] => return Found::More,
                    [0xFF, 0x00 | 0xD0..=0xD7, ..] => self.at += 2,
                    [0xFF, 0xFF, ..] => self.at += 1,
                    [0xFF, ..] => self.in_entropy = false,
                    plain => {
                        self.at += plain.iter().position(|&b| b == 0xFF).unwrap_or(plain.len());
                    }
                }
                continue;
            }
            match bytes.get(self.at..).unwrap_or_default() {
                [] | [0xFF] => return Found::More,
                [0xFF, EOI, ..] => return Found::End(self.at + 2),
                [0xFF, SOI, ..] if self.at > 0 => return Found::Restart(self.at),
                // SOI, TEM and restarts stand alone; FF FF is a fill byte.
                [0xFF, SOI | 0x01 | 0xD0..=0xD7, ..] => self.at += 2,
                [0xFF, 0xFF, ..] => self.at += 1,
                [0xFF, marker, high, low, ..] => {
                    let length = usize::from(u16::from_be_bytes([*high, *low]));
                    if *marker == APP2 {
                        match bytes.get(self.at + 4..self.at + 8) {
                            None if length >= 6 => return Found::More,
                            name => self.multi_picture |= name == Some(&b"MPF\0"[..]),
                        }
                    }
                    self.in_entropy = *marker == SOS;
                    self.at += 2 + length.max(2);
                }
                [0xFF, ..] => return Found::More,
                // Bytes between segments belong to nothing; decoders step over them as well.
                other => self.at += other.iter().position(|&b| b == 0xFF).unwrap_or(other.len()),
            }
        }
    }
}

impl Mjpeg {
    pub(crate) fn open(fps: f64) -> Self {
        Self {
            fps,
            index: 0,
            single: false,
        }
    }

    /// Skips to the next SOI; `false` at the end of the input.
    fn find_start(input: &mut Input) -> Result<bool, MediaError> {
        loop {
            // No more than is there: a live pipe holds a picture and nothing behind it.
            let seen = input.peek(3)?;
            if let Some(start) = seen.windows(3).position(|w| w == [0xFF, SOI, 0xFF]) {
                input.skip(start as u64)?;
                return Ok(true);
            }
            let pass = seen.len().saturating_sub(2);
            if seen.len() < 3 {
                return Ok(false);
            }
            input.skip(pass as u64)?;
        }
    }
}

impl Demuxer for Mjpeg {
    fn next(&mut self, input: &mut Input, pool: &Pool) -> Result<Option<Sample>, MediaError> {
        if self.single || !Self::find_start(input)? {
            return Ok(None);
        }
        let at = input.position();
        let mut scan = Scan::default();
        let mut want = 3;
        let size = loop {
            let seen = input.peek(want)?;
            match scan.run(seen) {
                Found::End(size) => break size,
                Found::Restart(size) => {
                    self.index += 1;
                    input.skip(size as u64)?;
                    return Err(MediaError::Packet {
                        at,
                        what: "the JPEG picture has no end (EOI): another begins inside it".into(),
                    });
                }
                Found::More if seen.len() < want => {
                    let have = seen.len();
                    self.single = true;
                    return Err(MediaError::Truncated(format!(
                        "the JPEG picture at byte {at} has no end (EOI) within its {have} bytes"
                    )));
                }
                Found::More if seen.len() as u64 > MAX_PACKET => {
                    input.skip(3)?;
                    return Err(MediaError::Packet {
                        at,
                        what: format!("the JPEG picture has no end (EOI) within {MAX_PACKET} bytes"),
                    });
                }
                Found::More => want = seen.len() + 1,
            }
        };
        if self.index == 0 {
            self.single = scan.multi_picture;
        }
        let Some(data) = input.read_buffer(size, pool)? else {
            return Err(MediaError::Truncated(format!(
                "the JPEG picture at byte {at} is cut off"
            )));
        };
        let pts = time_of(self.index, self.fps);
        self.index += 1;
        Ok(Some(Sample {
            pts,
            unit: Unit::Encoded {
                codec: Codec::Jpeg,
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

    /// A picture of segments that hold markers as data, and stuffed bytes in its entropy-coded part.
    const PICTURE: [u8; 24] = [
        0xFF, SOI, 0xFF, 0xE0, 0, 6, 0xFF, EOI, 0xFF, SOI, 0xFF, SOS, 0, 2, 0xFF, 0x00, 7, 0xFF, 0xD3, 8,
        0xFF, 0xFF, 0xFF, EOI,
    ];

    fn sizes(bytes: Vec<u8>) -> Vec<Result<usize, String>> {
        let mut reader = MediaReader::open(Input::from_bytes("a", bytes), Some(10.0)).unwrap();
        let mut found = Vec::new();
        loop {
            match reader.next() {
                Ok(None) => return found,
                Ok(Some(Sample {
                    unit: Unit::Encoded { data, .. },
                    ..
                })) => found.push(Ok(data.len())),
                Ok(Some(_)) => panic!("JPEG is encoded"),
                Err(e) => found.push(Err(e.to_string())),
            }
        }
    }

    #[test]
    fn markers_inside_data_do_not_split() {
        let two = [&PICTURE[..], &[0, 0], &PICTURE].concat();
        assert_eq!(sizes(two), [Ok(24), Ok(24)]);
    }

    #[test]
    fn a_picture_without_end_is_one_error() {
        let found = sizes([&PICTURE[..22], &PICTURE, &PICTURE[..20]].concat());
        assert_eq!(found.len(), 3);
        assert!(found[0].as_ref().unwrap_err().contains("another begins"));
        assert_eq!(found[1], Ok(24));
        assert!(found[2].as_ref().unwrap_err().contains("cut short"));
    }

    #[test]
    fn companions_of_a_still_are_not_frames() {
        let mut still = PICTURE[..2].to_vec();
        still.extend([0xFF, APP2, 0, 6]);
        still.extend(b"MPF\0");
        still.extend(&PICTURE[2..]);
        let all = [still, PICTURE.to_vec()].concat();
        assert_eq!(sizes(all), [Ok(32)]);
    }
}
