//! MP4 and MOV (ISO/IEC 14496-12): the first video track, from sample tables or fragments.
//!
//! Rotation (`tkhd` matrix) and all edits but the first are not applied.

mod boxes;
mod fragments;
mod samples;
mod track;

use flow_frame::{Codec, Pool};

use crate::error::MediaError;
use crate::h264;
use crate::input::Input;
use crate::media::{Demuxer, MAX_PACKET, Sample, Unit, hex};
use boxes::{BoxHeader, MAX_HEADER};
use fragments::Fragment;
use samples::{Cursor, SampleEntry, SampleTable};
use track::{Description, VideoTrack};

/// Largest `moov` or `moof` box: ten hours at 60 frames a second need a tenth of it.
const MAX_HEADER_BOX: u64 = 256 << 20;

pub(crate) struct Mp4 {
    track: VideoTrack,
    cursor: Cursor,
    /// Samples of the tables that lie outside the file.
    missing: u64,
    missing_told: bool,
    fragment: Option<Fragment>,
    fragment_dts: i64,
    /// Where the next box of the file begins.
    next_box: u64,
    /// Sample description of the sample before.
    description: Option<usize>,
    sample: Vec<u8>,
    unit: Vec<u8>,
}

/// Reads the header of the box at the input's position without taking it; `None` at the end.
fn box_header(input: &mut Input) -> Result<Option<BoxHeader>, MediaError> {
    let at = input.position();
    let seen = input.peek(MAX_HEADER)?;
    if seen.is_empty() {
        return Ok(None);
    }
    match boxes::header(seen) {
        Ok((_, header)) => Ok(Some(header)),
        Err(_) if seen.len() < MAX_HEADER => Err(MediaError::Truncated(format!(
            "the box at byte {at} is cut off in its header"
        ))),
        Err(_) => Err(MediaError::Damaged {
            at,
            what: format!("expected a box header, found {}", hex(seen)),
        }),
    }
}

/// Reads the body of a box whose header begins at the input's position.
fn box_body(input: &mut Input, header: BoxHeader) -> Result<Vec<u8>, MediaError> {
    let at = input.position();
    let size = match header.size {
        Some(size) => size,
        None => input.remaining().unwrap_or(MAX_HEADER_BOX),
    };
    if size > MAX_HEADER_BOX {
        return Err(MediaError::Limit {
            what: "the size of a header box in bytes",
            value: size,
            limit: MAX_HEADER_BOX,
        });
    }
    input.skip(header.header)?;
    let mut body = Vec::new();
    let want = size.saturating_sub(header.header) as usize;
    if !input.read_vec(want, &mut body)? && header.size.is_some() {
        return Err(MediaError::Damaged {
            at,
            what: format!(
                "the box `{}` of {size} bytes reaches past the end of the input",
                boxes::text(&header.kind)
            ),
        });
    }
    Ok(body)
}

impl Mp4 {
    pub(crate) fn open(input: &mut Input) -> Result<Self, MediaError> {
        let track = loop {
            let at = input.position();
            let header = match box_header(input) {
                Ok(Some(header)) => header,
                Ok(None) | Err(MediaError::Truncated(_)) => {
                    return Err(MediaError::NoVideo(
                        "there is no movie header (`moov`): the file is cut short, or was never finished"
                            .into(),
                    ));
                }
                Err(e) => return Err(e),
            };
            match &header.kind {
                b"moov" => {
                    let body = box_body(input, header)?;
                    break VideoTrack::parse(&body, at)?;
                }
                b"mdat" if !input.seekable() => {
                    return Err(MediaError::NotSeekable(
                        "the movie header (`moov`) comes after the pictures, and a pipe cannot go back; give \
                         a file, or rewrite it with `ffmpeg -i in -c copy -movflags faststart out.mp4`"
                            .into(),
                    ));
                }
                _ => {}
            }
            match header.size {
                Some(size) => input.skip(size)?,
                None => input.skip(u64::MAX)?,
            }
        };
        let next_box = input.position();
        Ok(Self {
            track,
            cursor: Cursor::default(),
            missing: 0,
            missing_told: false,
            fragment: None,
            fragment_dts: 0,
            next_box,
            description: None,
            sample: Vec::new(),
            unit: Vec::new(),
        })
    }

    /// The next sample of the tables that lies inside the file.
    fn next_of_table(&mut self, input: &Input) -> Option<SampleEntry> {
        while let Some(entry) = self.cursor.next(&self.track.table) {
            let end = entry.offset.saturating_add(u64::from(entry.size));
            if input.len().is_some_and(|len| end > len) {
                self.missing += 1;
            } else if entry.size > 0 {
                return Some(entry);
            }
        }
        None
    }

    /// The next sample of the fragments, reading on to the next fragment where needed.
    fn next_of_fragments(&mut self, input: &mut Input) -> Result<Option<SampleEntry>, MediaError> {
        let Some(defaults) = self.track.fragments else {
            return Ok(None);
        };
        loop {
            if let Some(fragment) = &mut self.fragment {
                while let Some(entry) = fragment.next(&mut self.fragment_dts) {
                    let end = entry.offset.saturating_add(u64::from(entry.size));
                    if input.len().is_some_and(|len| end > len) {
                        let missing = fragment.left() + 1;
                        self.fragment = None;
                        self.next_box = u64::MAX;
                        return Err(MediaError::Truncated(format!(
                            "{missing} samples of the last fragment are missing"
                        )));
                    }
                    if entry.size > 0 {
                        return Ok(Some(entry));
                    }
                }
                self.fragment = None;
            }
            if self.next_box == u64::MAX || input.len().is_some_and(|len| self.next_box >= len) {
                return Ok(None);
            }
            input.seek(self.next_box)?;
            let at = self.next_box;
            let header = match box_header(input) {
                Ok(None) => return Ok(None),
                Ok(Some(header)) => header,
                Err(e) => {
                    self.next_box = u64::MAX;
                    return Err(e);
                }
            };
            self.next_box = header.size.map_or(u64::MAX, |size| at.saturating_add(size));
            if &header.kind == b"moof" {
                if input.len().is_some_and(|len| self.next_box > len) {
                    self.next_box = u64::MAX;
                    return Err(MediaError::Truncated(format!(
                        "the fragment at byte {at} is cut off in its header"
                    )));
                }
                let body = box_body(input, header)?;
                let fragment = Fragment::parse(&body, at, self.track.id, defaults, &mut self.fragment_dts)
                    .map_err(|what| MediaError::Packet {
                        at,
                        what: format!("the fragment is damaged: {what}"),
                    })?;
                self.fragment = Some(fragment);
            }
        }
    }

    /// Moves [`Self::next_box`] behind the boxes that begin before `offset`, which a pipe would not let us
    /// read again.
    fn pass_boxes(&mut self, input: &mut Input, offset: u64) -> Result<(), MediaError> {
        while !input.seekable() && self.next_box <= offset && self.next_box >= input.position() {
            input.seek(self.next_box)?;
            let Some(header) = box_header(input)? else {
                return Ok(());
            };
            self.next_box = header
                .size
                .map_or(u64::MAX, |size| self.next_box.saturating_add(size));
        }
        Ok(())
    }

    fn read(&mut self, input: &mut Input, entry: SampleEntry, pool: &Pool) -> Result<Sample, MediaError> {
        let at = entry.offset;
        let packet = |what: String| MediaError::Packet { at, what };
        if u64::from(entry.size) > MAX_PACKET {
            return Err(packet(format!(
                "a sample of {} bytes; the limit is {MAX_PACKET}",
                entry.size
            )));
        }
        self.pass_boxes(input, at)?;
        input.seek(at)?;
        if !input.read_vec(entry.size as usize, &mut self.sample)? {
            self.next_box = u64::MAX;
            let left = self.fragment.take().map_or(0, |f| f.left());
            let of_table = u64::from(self.track.table.count() - self.cursor.passed());
            self.cursor = Cursor::default();
            self.track.table = SampleTable::empty();
            return Err(MediaError::Truncated(format!(
                "the sample at byte {at} has {} of {} bytes; {} samples are missing",
                self.sample.len(),
                entry.size,
                left + of_table + 1
            )));
        }
        let description = self.track.descriptions.get(entry.description).ok_or_else(|| {
            packet(format!(
                "there is no sample description {}",
                entry.description + 1
            ))
        })?;
        let (codec, keyframe) = match description {
            Description::H264(config) => {
                let new = self.description.replace(entry.description) != Some(entry.description);
                config
                    .to_annexb(&self.sample, entry.sync || new, &mut self.unit)
                    .map_err(packet)?;
                (Codec::H264, entry.sync || h264::has_idr(&self.unit))
            }
            Description::Jpeg => (Codec::Jpeg, true),
            Description::Png => (Codec::Png, true),
        };
        let bytes = match codec {
            Codec::H264 => &self.unit,
            _ => &self.sample,
        };
        let mut data = pool.take(bytes.len());
        data.copy_from_slice(bytes);
        Ok(Sample {
            pts: self.track.time(entry.cts),
            unit: Unit::Encoded {
                codec,
                data,
                keyframe,
            },
        })
    }
}

impl Demuxer for Mp4 {
    fn next(&mut self, input: &mut Input, pool: &Pool) -> Result<Option<Sample>, MediaError> {
        if let Some(entry) = self.next_of_table(input) {
            return self.read(input, entry, pool).map(Some);
        }
        let total = u64::from(self.track.table.count());
        let missing = self.missing + (total - u64::from(self.cursor.passed()));
        if missing > 0 && !self.missing_told {
            self.missing_told = true;
            return Err(MediaError::Truncated(format!(
                "{missing} of {total} samples are missing"
            )));
        }
        match self.next_of_fragments(input)? {
            Some(entry) => self.read(input, entry, pool).map(Some),
            None => Ok(None),
        }
    }

    fn declared(&self) -> Option<u64> {
        self.track
            .fragments
            .is_none()
            .then(|| u64::from(self.track.table.count()))
    }
}
