//! Movie fragments (`moof`): track runs, walked without unfolding them.

use std::collections::VecDeque;

use nom::IResult;
use nom::number::complete::{be_u32, be_u64};

use super::boxes::{child, children, full_box};
use super::samples::{MAX_SAMPLES, SampleEntry};
use super::track::FragmentDefaults;

/// Flag of a sample at which decoding cannot begin (8.8.3.1).
const NOT_SYNC: u32 = 0x1_0000;

/// One `trun`, with the fields that each sample brings still in bytes.
#[derive(Debug)]
struct Run {
    left: u32,
    fields: Vec<u8>,
    at: usize,
    flags: u32,
    first_flags: Option<u32>,
    defaults: FragmentDefaults,
    /// Offset of the run's next sample; `None`: behind the run before.
    offset: Option<u64>,
}

/// The samples of one track in one fragment.
#[derive(Debug, Default)]
pub(crate) struct Fragment {
    runs: VecDeque<Run>,
    /// Where the run before ended.
    end: u64,
}

/// Takes fields in order.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn u32(&mut self) -> Option<u32> {
        let parsed: IResult<&[u8], u32> = be_u32(self.0);
        let (rest, value) = parsed.ok()?;
        self.0 = rest;
        Some(value)
    }
    fn u64(&mut self) -> Option<u64> {
        let parsed: IResult<&[u8], u64> = be_u64(self.0);
        let (rest, value) = parsed.ok()?;
        self.0 = rest;
        Some(value)
    }
    fn u32_if(&mut self, there: bool) -> Option<Option<u32>> {
        if there { self.u32().map(Some) } else { Some(None) }
    }
}

impl Fragment {
    /// Reads the runs of track `id` from a `moof` body whose box begins at `at`. `dts` is moved to where
    /// the fragment says it begins. The error names the box that is damaged.
    pub(crate) fn parse(
        moof: &[u8],
        at: u64,
        id: u32,
        track: FragmentDefaults,
        dts: &mut i64,
    ) -> Result<Self, String> {
        let mut fragment = Self {
            runs: VecDeque::new(),
            end: at,
        };
        for (_, traf) in children(moof).filter(|(kind, _)| kind == b"traf") {
            let header = child(traf, b"tfhd").ok_or("`tfhd` is missing")?;
            let Some((track_id, base, defaults)) = track_header(header, track) else {
                return Err("`tfhd` is damaged".into());
            };
            if track_id != id {
                continue;
            }
            if let Some(time) = child(traf, b"tfdt") {
                *dts = decode_time(time).ok_or("`tfdt` is damaged")?;
            }
            let base = base.unwrap_or(at);
            for (_, trun) in children(traf).filter(|(kind, _)| kind == b"trun") {
                let run = run(trun, base, defaults).ok_or("`trun` is damaged")?;
                fragment.runs.push_back(run);
            }
        }
        Ok(fragment)
    }

    /// Samples that are left.
    pub(crate) fn left(&self) -> u64 {
        self.runs.iter().map(|run| u64::from(run.left)).sum()
    }

    /// The next sample; `dts` moves on by its duration.
    pub(crate) fn next(&mut self, dts: &mut i64) -> Option<SampleEntry> {
        loop {
            let run = self.runs.front_mut()?;
            if run.left == 0 {
                self.runs.pop_front();
                continue;
            }
            let mut fields = Fields(run.fields.get(run.at..).unwrap_or_default());
            let before = fields.0.len();
            let read = (|| {
                Some((
                    fields.u32_if(run.flags & 0x100 != 0)?,
                    fields.u32_if(run.flags & 0x200 != 0)?,
                    fields.u32_if(run.flags & 0x400 != 0)?,
                    fields.u32_if(run.flags & 0x800 != 0)?,
                ))
            })();
            let Some((duration, size, flags, offset)) = read else {
                // The run declares more samples than it has entries for.
                self.runs.pop_front();
                continue;
            };
            run.at += before - fields.0.len();
            run.left -= 1;
            let size = size.unwrap_or(run.defaults.size);
            let flags = run.first_flags.take().or(flags).unwrap_or(run.defaults.flags);
            let place = run.offset.unwrap_or(self.end);
            self.end = place.saturating_add(u64::from(size));
            run.offset = Some(self.end);
            let cts = dts.saturating_add(i64::from(offset.unwrap_or(0) as i32));
            *dts = dts.saturating_add(i64::from(duration.unwrap_or(run.defaults.duration)));
            return Some(SampleEntry {
                offset: place,
                size,
                cts,
                sync: flags & NOT_SYNC == 0,
                description: (run.defaults.description as usize).saturating_sub(1),
            });
        }
    }
}

/// `tfhd` (8.8.7): track, data offset where given, defaults.
fn track_header(body: &[u8], track: FragmentDefaults) -> Option<(u32, Option<u64>, FragmentDefaults)> {
    let (_, flags, rest) = full_box(body)?;
    let mut fields = Fields(rest);
    let id = fields.u32()?;
    let base = if flags & 1 != 0 { Some(fields.u64()?) } else { None };
    Some((
        id,
        base,
        FragmentDefaults {
            description: fields.u32_if(flags & 2 != 0)?.unwrap_or(track.description),
            duration: fields.u32_if(flags & 8 != 0)?.unwrap_or(track.duration),
            size: fields.u32_if(flags & 0x10 != 0)?.unwrap_or(track.size),
            flags: fields.u32_if(flags & 0x20 != 0)?.unwrap_or(track.flags),
        },
    ))
}

/// `tfdt` (8.8.12).
fn decode_time(body: &[u8]) -> Option<i64> {
    let (version, _, rest) = full_box(body)?;
    let mut fields = Fields(rest);
    let time = if version == 1 {
        fields.u64()?
    } else {
        u64::from(fields.u32()?)
    };
    i64::try_from(time).ok()
}

/// `trun` (8.8.8).
fn run(body: &[u8], base: u64, defaults: FragmentDefaults) -> Option<Run> {
    let (_, flags, rest) = full_box(body)?;
    let mut fields = Fields(rest);
    let left = fields.u32()?;
    if left > MAX_SAMPLES {
        return None;
    }
    let offset = match fields.u32_if(flags & 1 != 0)? {
        Some(offset) => Some(base.checked_add_signed(i64::from(offset as i32))?),
        None => None,
    };
    let first_flags = fields.u32_if(flags & 4 != 0)?;
    Some(Run {
        left,
        fields: fields.0.to_vec(),
        at: 0,
        flags,
        first_flags,
        defaults,
        offset,
    })
}
