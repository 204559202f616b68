//! The sample tables of a track (`stbl`), walked without unfolding them.
//!
//! A run in a table can stand for four thousand million samples in eight bytes, so tables stay as runs and
//! a cursor moves over them.

use nom::multi::fold_many0;
use nom::number::complete::{be_u16, be_u32, be_u64};
use nom::{IResult, Parser};

use super::boxes::{child, full_box};

/// Most samples a track may declare: a month at 30 frames a second.
pub(crate) const MAX_SAMPLES: u32 = 100_000_000;

/// Where a sample lies and when it is decoded and shown.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct SampleEntry {
    pub(crate) offset: u64,
    pub(crate) size: u32,
    /// Presentation time in the track's timescale, before edits.
    pub(crate) cts: i64,
    pub(crate) sync: bool,
    /// Index of the sample description, from 0.
    pub(crate) description: usize,
}

#[derive(Debug, Clone, PartialEq)]
enum Sizes {
    Same(u32),
    Each(Vec<u32>),
}

/// `stbl`, its tables as runs.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct SampleTable {
    /// Runs of (samples, duration).
    durations: Vec<(u32, u32)>,
    /// Runs of (samples, offset from decoding to presentation); empty: no offsets.
    offsets: Vec<(u32, i32)>,
    /// Runs of (first chunk from 1, samples in each chunk, sample description from 1).
    chunk_runs: Vec<(u32, u32, u32)>,
    chunks: Vec<u64>,
    sizes: Sizes,
    count: u32,
    /// Numbers from 1 of the samples at which decoding can begin; `None`: all.
    sync: Option<Vec<u32>>,
}

/// Reads the entries of a table: a count, then entries. More entries than there are bytes are not an error
/// here: whoever misses samples says so.
fn entries<'a, T>(
    body: &'a [u8],
    one: impl Parser<&'a [u8], Output = T, Error = nom::error::Error<&'a [u8]>>,
) -> Option<Vec<T>> {
    let (_, _, rest) = full_box(body)?;
    let counted: IResult<&[u8], u32> = be_u32(rest);
    let (rest, count) = counted.ok()?;
    let all: IResult<&[u8], Vec<T>> = fold_many0(one, Vec::new, |mut all, entry| {
        all.push(entry);
        all
    })
    .parse(rest);
    let (_, mut all) = all.ok()?;
    all.truncate(count as usize);
    Some(all)
}

impl SampleTable {
    /// Reads an `stbl` body. The error names the table that is missing or damaged.
    pub(crate) fn parse(stbl: &[u8]) -> Result<Self, String> {
        fn required<T>(name: &str, table: Option<T>) -> Result<T, String> {
            table.ok_or_else(|| format!("the sample table `{name}` is missing or damaged"))
        }
        let durations = required(
            "stts",
            child(stbl, b"stts").and_then(|b| entries(b, (be_u32, be_u32))),
        )?;
        let offsets = match child(stbl, b"ctts") {
            // Version 0 is unsigned by the letter, but writers store negative offsets in it all the same.
            Some(body) => required("ctts", entries(body, (be_u32, be_u32.map(|v| v as i32))))?,
            None => Vec::new(),
        };
        let chunk_runs = required(
            "stsc",
            child(stbl, b"stsc").and_then(|b| entries(b, (be_u32, be_u32, be_u32))),
        )?;
        let chunks = match (child(stbl, b"stco"), child(stbl, b"co64")) {
            (Some(body), _) => required("stco", entries(body, be_u32.map(u64::from)))?,
            (None, Some(body)) => required("co64", entries(body, be_u64))?,
            (None, None) => return required("stco", None),
        };
        let (sizes, count) = match (child(stbl, b"stsz"), child(stbl, b"stz2")) {
            (Some(body), _) => required("stsz", fixed_or_listed(body))?,
            (None, Some(body)) => required("stz2", compact_sizes(body))?,
            (None, None) => return required("stsz", None),
        };
        if count > MAX_SAMPLES {
            return Err(format!("it declares {count} samples, the limit is {MAX_SAMPLES}"));
        }
        let sync = match child(stbl, b"stss") {
            Some(body) => Some(required("stss", entries(body, be_u32))?),
            None => None,
        };
        Ok(Self {
            durations,
            offsets,
            chunk_runs,
            chunks,
            sizes,
            count,
            sync,
        })
    }

    /// The table of a track without samples.
    pub(crate) fn empty() -> Self {
        Self {
            durations: Vec::new(),
            offsets: Vec::new(),
            chunk_runs: Vec::new(),
            chunks: Vec::new(),
            sizes: Sizes::Same(0),
            count: 0,
            sync: None,
        }
    }

    /// Number of samples declared.
    pub(crate) fn count(&self) -> u32 {
        self.count
    }
}

/// `stsz`: one size for all, or a list.
fn fixed_or_listed(body: &[u8]) -> Option<(Sizes, u32)> {
    let (_, _, rest) = full_box(body)?;
    let parsed: IResult<&[u8], (u32, u32)> = (be_u32, be_u32).parse(rest);
    let (list, (same, count)) = parsed.ok()?;
    if same != 0 {
        return Some((Sizes::Same(same), count));
    }
    let all = list
        .chunks_exact(4)
        .take(count as usize)
        .map(|b| u32::from_be_bytes([b[0], b[1], b[2], b[3]]))
        .collect();
    Some((Sizes::Each(all), count))
}

/// `stz2`: sizes of 4, 8 or 16 bits.
fn compact_sizes(body: &[u8]) -> Option<(Sizes, u32)> {
    let (_, _, rest) = full_box(body)?;
    let (field, rest) = (*rest.get(3)?, rest.get(4..)?);
    let counted: IResult<&[u8], u32> = be_u32(rest);
    let (list, count) = counted.ok()?;
    let all: Vec<u32> = match field {
        4 => list
            .iter()
            .flat_map(|&b| [u32::from(b >> 4), u32::from(b & 15)])
            .take(count as usize)
            .collect(),
        8 => list.iter().take(count as usize).map(|&b| u32::from(b)).collect(),
        16 => {
            let wide: IResult<&[u8], Vec<u32>> = fold_many0(be_u16, Vec::new, |mut all, v| {
                all.push(u32::from(v));
                all
            })
            .parse(list);
            let mut all = wide.ok()?.1;
            all.truncate(count as usize);
            all
        }
        _ => return None,
    };
    Some((Sizes::Each(all), count))
}

/// A place in a [`SampleTable`].
#[derive(Debug, Clone, Default)]
pub(crate) struct Cursor {
    sample: u32,
    chunk: usize,
    in_chunk: u32,
    /// Offset of the next sample in its chunk.
    into_chunk: u64,
    chunk_run: usize,
    duration: Run,
    offset: Run,
    sync: usize,
    dts: i64,
}

/// A place in a list of runs.
#[derive(Debug, Clone, Default)]
struct Run {
    index: usize,
    used: u32,
}

impl Run {
    /// The value for the next sample; `None` behind the last run.
    fn take<T: Copy>(&mut self, runs: &[(u32, T)]) -> Option<T> {
        loop {
            let &(count, value) = runs.get(self.index)?;
            if self.used < count {
                self.used += 1;
                return Some(value);
            }
            self.index += 1;
            self.used = 0;
        }
    }
}

impl Cursor {
    /// Number of samples passed.
    pub(crate) fn passed(&self) -> u32 {
        self.sample
    }

    /// The next sample, or `None` where the tables end.
    pub(crate) fn next(&mut self, table: &SampleTable) -> Option<SampleEntry> {
        if self.sample >= table.count {
            return None;
        }
        let size = match &table.sizes {
            Sizes::Same(size) => *size,
            Sizes::Each(all) => *all.get(self.sample as usize)?,
        };
        let (per_chunk, description) = loop {
            let chunk_number = u32::try_from(self.chunk).ok()?.checked_add(1)?;
            while let Some(&(first, ..)) = table.chunk_runs.get(self.chunk_run + 1) {
                if first > chunk_number {
                    break;
                }
                self.chunk_run += 1;
            }
            let &(_, per_chunk, description) = table.chunk_runs.get(self.chunk_run)?;
            if self.in_chunk < per_chunk {
                break (per_chunk, description);
            }
            self.chunk += 1;
            self.in_chunk = 0;
            self.into_chunk = 0;
            if self.chunk >= table.chunks.len() {
                return None;
            }
        };
        let offset = table.chunks.get(self.chunk)?.checked_add(self.into_chunk)?;
        debug_assert!(self.in_chunk < per_chunk);
        self.in_chunk += 1;
        self.into_chunk += u64::from(size);
        self.sample += 1;
        let cts = self
            .dts
            .saturating_add(i64::from(self.offset.take(&table.offsets).unwrap_or(0)));
        let duration = self.duration.take(&table.durations).unwrap_or(0);
        self.dts = self.dts.saturating_add(i64::from(duration));
        let sync = match &table.sync {
            None => true,
            Some(numbers) => {
                while numbers.get(self.sync).is_some_and(|&n| n < self.sample) {
                    self.sync += 1;
                }
                numbers.get(self.sync) == Some(&self.sample)
            }
        };
        Some(SampleEntry {
            offset,
            size,
            cts,
            sync,
            description: (description as usize).saturating_sub(1),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> SampleTable {
        SampleTable {
            durations: vec![(3, 10), (2, 20)],
            offsets: vec![(1, 5), (4, -5)],
            chunk_runs: vec![(1, 2, 1), (3, 1, 1)],
            chunks: vec![100, 200, 300],
            sizes: Sizes::Each(vec![1, 2, 3, 4, 5]),
            count: 5,
            sync: Some(vec![1, 4]),
        }
    }

    fn walk(table: &SampleTable) -> Vec<SampleEntry> {
        let mut cursor = Cursor::default();
        std::iter::from_fn(|| cursor.next(table)).collect()
    }

    #[test]
    fn runs_unfold_to_places_and_times() {
        let all = walk(&table());
        let places: Vec<_> = all.iter().map(|s| (s.offset, s.size)).collect();
        assert_eq!(places, [(100, 1), (101, 2), (200, 3), (203, 4), (300, 5)]);
        let times: Vec<_> = all.iter().map(|s| s.cts).collect();
        assert_eq!(times, [5, 5, 15, 25, 45]);
        let sync: Vec<_> = all.iter().map(|s| s.sync).collect();
        assert_eq!(sync, [true, false, false, true, false]);
    }

    #[test]
    fn missing_chunks_end_the_walk() {
        let mut table = table();
        table.chunks.truncate(2);
        assert_eq!(walk(&table).len(), 4);
    }

    #[test]
    fn compact_sizes_of_every_width() {
        let body = |field: u8, list: &[u8]| [&[0, 0, 0, 0, 0, 0, 0, field, 0, 0, 0, 3][..], list].concat();
        let read = |b: &[u8]| compact_sizes(b).unwrap();
        assert_eq!(read(&body(4, &[0x12, 0x30])), (Sizes::Each(vec![1, 2, 3]), 3));
        assert_eq!(read(&body(8, &[1, 2, 3])), (Sizes::Each(vec![1, 2, 3]), 3));
        assert_eq!(
            read(&body(16, &[0, 1, 0, 2, 1, 0])),
            (Sizes::Each(vec![1, 2, 256]), 3)
        );
    }
}
