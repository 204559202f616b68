//! The movie box (`moov`) and the video track in it.

use nom::number::complete::{be_i32, be_i64, be_u32, be_u64};
use nom::{IResult, Parser};

use super::boxes::{Kind, child, children, descend, full_box, text};
use super::samples::SampleTable;
use crate::avcc::AvcConfig;
use crate::error::MediaError;

/// How the samples of a description are coded.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Description {
    H264(AvcConfig),
    Jpeg,
    Png,
}

/// Defaults of fragments (`trex`).
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct FragmentDefaults {
    pub(crate) description: u32,
    pub(crate) duration: u32,
    pub(crate) size: u32,
    pub(crate) flags: u32,
}

/// The first video track of a movie.
#[derive(Debug, Clone)]
pub(crate) struct VideoTrack {
    pub(crate) id: u32,
    /// Ticks a second.
    pub(crate) timescale: u64,
    pub(crate) descriptions: Vec<Description>,
    pub(crate) table: SampleTable,
    /// Media time at which the presentation begins, in ticks.
    pub(crate) begin: i64,
    /// Nanoseconds for which nothing is shown before.
    pub(crate) delay: i64,
    /// Present in fragmented files.
    pub(crate) fragments: Option<FragmentDefaults>,
}

impl VideoTrack {
    /// Reads a `moov` body that begins at byte `at`.
    pub(crate) fn parse(moov: &[u8], at: u64) -> Result<Self, MediaError> {
        let damaged = |what: String| MediaError::Damaged { at, what };
        let movie_scale = child(moov, b"mvhd").and_then(timescale).unwrap_or(1000);
        let mut others = Vec::new();
        let mut video = None;
        for (_, trak) in children(moov).filter(|(kind, _)| kind == b"trak") {
            match child(trak, b"mdia").and_then(handler) {
                Some(kind) if &kind == b"vide" && video.is_none() => video = Some(trak),
                Some(kind) => others.push(text(&kind)),
                None => {}
            }
        }
        let Some(trak) = video else {
            return Err(MediaError::NoVideo(match others.is_empty() {
                true => "there is no video track".into(),
                false => format!("there is no video track, only: {}", others.join(", ")),
            }));
        };
        let id = child(trak, b"tkhd")
            .and_then(track_id)
            .ok_or_else(|| damaged("the track header `tkhd` is missing or damaged".into()))?;
        let timescale = descend(trak, &[b"mdia", b"mdhd"])
            .and_then(timescale)
            .filter(|&scale| scale > 0)
            .ok_or_else(|| damaged("the media header `mdhd` has no timescale".into()))?;
        let stbl = descend(trak, &[b"mdia", b"minf", b"stbl"])
            .ok_or_else(|| damaged("the sample tables `stbl` are missing".into()))?;
        let descriptions = descriptions(stbl, at)?;
        let table = SampleTable::parse(stbl).map_err(damaged)?;
        let (delay, begin) = descend(trak, &[b"edts", b"elst"]).map_or((0, 0), edits);
        let fragments = child(moov, b"mvex").map(|mvex| {
            children(mvex)
                .filter(|(kind, _)| kind == b"trex")
                .filter_map(|(_, body)| fragment_defaults(body))
                .find_map(|(track, defaults)| (track == id).then_some(defaults))
                .unwrap_or_default()
        });
        Ok(Self {
            id,
            timescale,
            descriptions,
            table,
            begin,
            delay: crate::media::nanos(delay, movie_scale),
            fragments,
        })
    }

    /// Presentation time of a sample in nanoseconds; negative: before the presentation begins.
    pub(crate) fn time(&self, cts: i64) -> i64 {
        crate::media::nanos(cts.saturating_sub(self.begin), self.timescale).saturating_add(self.delay)
    }
}

/// Skips creation and modification time of `mvhd`, `mdhd` and `tkhd`, whose width depends on the version.
fn after_dates(body: &[u8]) -> Option<&[u8]> {
    let (version, _, rest) = full_box(body)?;
    rest.get(if version == 1 { 16 } else { 8 }..)
}

fn u32_at_start(bytes: &[u8]) -> Option<u32> {
    let parsed: IResult<&[u8], u32> = be_u32(bytes);
    parsed.ok().map(|(_, value)| value)
}

fn timescale(body: &[u8]) -> Option<u64> {
    u32_at_start(after_dates(body)?).map(u64::from)
}

fn track_id(tkhd: &[u8]) -> Option<u32> {
    u32_at_start(after_dates(tkhd)?)
}

fn handler(mdia: &[u8]) -> Option<Kind> {
    let (_, _, rest) = full_box(child(mdia, b"hdlr")?)?;
    rest.get(4..8)?.try_into().ok()
}

/// Delay before the first edit in movie ticks, and the media time at which that edit begins. Further edits
/// are not followed.
fn edits(elst: &[u8]) -> (i64, i64) {
    let Some((version, _, rest)) = full_box(elst) else {
        return (0, 0);
    };
    let mut rest = rest.get(4..).unwrap_or_default();
    let mut delay = 0i64;
    loop {
        let entry: IResult<&[u8], (u64, i64, u32)> = if version == 1 {
            (be_u64, be_i64, be_u32).parse(rest)
        } else {
            (be_u32.map(u64::from), be_i32.map(i64::from), be_u32).parse(rest)
        };
        match entry {
            // A media time of -1 is an empty edit.
            Ok((after, (duration, -1, _))) => {
                delay = delay.saturating_add(i64::try_from(duration).unwrap_or(i64::MAX));
                rest = after;
            }
            Ok((_, (_, begin, _))) => return (delay, begin.max(0)),
            Err(_) => return (delay, 0),
        }
    }
}

fn fragment_defaults(trex: &[u8]) -> Option<(u32, FragmentDefaults)> {
    let (_, _, rest) = full_box(trex)?;
    let parsed: IResult<&[u8], (u32, u32, u32, u32, u32)> =
        (be_u32, be_u32, be_u32, be_u32, be_u32).parse(rest);
    let (_, (track, description, duration, size, flags)) = parsed.ok()?;
    Some((
        track,
        FragmentDefaults {
            description,
            duration,
            size,
            flags,
        },
    ))
}

/// Bytes of a visual sample entry before its boxes (12.1.3).
const VISUAL_ENTRY: usize = 78;

fn descriptions(stbl: &[u8], at: u64) -> Result<Vec<Description>, MediaError> {
    let damaged = |what: &str| MediaError::Damaged {
        at,
        what: what.into(),
    };
    let stsd = child(stbl, b"stsd")
        .and_then(full_box)
        .and_then(|(_, _, rest)| rest.get(4..))
        .ok_or_else(|| damaged("the sample descriptions `stsd` are missing or damaged"))?;
    let mut found = Vec::new();
    for (kind, body) in children(stsd) {
        found.push(match &kind {
            b"avc1" | b"avc3" => {
                let config = body
                    .get(VISUAL_ENTRY..)
                    .and_then(|boxes| child(boxes, b"avcC"))
                    .and_then(|record| AvcConfig::parse(record).ok())
                    .ok_or_else(|| damaged("the H.264 configuration `avcC` is missing or damaged"))?;
                Description::H264(config.1)
            }
            b"jpeg" | b"mjpg" | b"mjpa" => Description::Jpeg,
            b"png " => Description::Png,
            other => {
                let name = match other {
                    b"hvc1" | b"hev1" => "H.265".into(),
                    b"av01" => "AV1".into(),
                    b"vp09" => "VP9".into(),
                    b"mp4v" => "MPEG-4 part 2".into(),
                    b"encv" => "encrypted".into(),
                    other => format!("`{}`", text(other)),
                };
                return Err(MediaError::Unsupported(format!(
                    "the video track is {name}; expected H.264, JPEG or PNG (use `type: ffmpeg` for others)"
                )));
            }
        });
    }
    match found.is_empty() {
        true => Err(damaged("there is no sample description in `stsd`")),
        false => Ok(found),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_edit_delays_and_the_next_begins_later() {
        let mut elst = vec![0, 0, 0, 0, 0, 0, 0, 2];
        elst.extend([0, 0, 0, 100, 0xFF, 0xFF, 0xFF, 0xFF, 0, 1, 0, 0]);
        elst.extend([0, 0, 3, 0, 0, 0, 4, 0, 0, 1, 0, 0]);
        assert_eq!(edits(&elst), (100, 1024));
        assert_eq!(edits(&elst[..8]), (0, 0));
        assert_eq!(edits(&[]), (0, 0));
    }
}
