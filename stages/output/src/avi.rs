//! AVI files of JPEG pictures (RIFF, Motion JPEG) with an index.

use std::path::Path;

use crate::file::{OutputError, PartFile};

/// Largest file: RIFF sizes are 32 bits, and many readers take them as signed.
const LIMIT: u64 = i32::MAX as u64;
/// Place of the size of the outer RIFF chunk.
const RIFF_SIZE: u64 = 4;
/// Places in the headers, which have a fixed length.
const MICROS_PER_FRAME: u64 = 32;
const TOTAL_FRAMES: u64 = 48;
const MAX_CHUNK: u64 = 60;
const SCALE: u64 = 128;
const STREAM_LENGTH: u64 = 140;
const STREAM_CHUNK: u64 = 144;
const MOVI_SIZE: u64 = 216;
/// Place of the word `movi`, which index offsets count from.
const MOVI: u64 = 220;

/// Writes a Motion JPEG AVI file. Lengths, index and frame rate are filled in by [`AviWriter::finish`].
pub struct AviWriter {
    file: PartFile,
    width: u32,
    height: u32,
    /// Offset from `movi` and length of each picture.
    index: Vec<(u32, u32)>,
    largest: u32,
    limit: u64,
}

impl AviWriter {
    /// Creates the file for pictures of `width` x `height` pixels.
    pub fn create(path: &Path, width: u32, height: u32) -> Result<Self, OutputError> {
        let mut file = PartFile::create(path)?;
        file.write(&headers(width, height))?;
        Ok(Self {
            file,
            width,
            height,
            index: Vec::new(),
            largest: 0,
            limit: LIMIT,
        })
    }

    /// Width and height of the pictures.
    pub fn size(&self) -> (u32, u32) {
        (self.width, self.height)
    }

    /// Appends one JPEG picture.
    ///
    /// # Errors
    /// [`OutputError::Full`] if the file would pass 2 GiB; what is in it stays valid.
    pub fn write(&mut self, jpeg: &[u8]) -> Result<(), OutputError> {
        // With the picture come its chunk header, its index entry, and padding.
        let end = self.file.position() + jpeg.len() as u64 + 16 * (self.index.len() as u64 + 1) + 32;
        if end > self.limit {
            return Err(OutputError::Full {
                path: self.file.path().to_path_buf(),
                limit: self.limit,
            });
        }
        let at = (self.file.position() - MOVI) as u32;
        let length = jpeg.len() as u32;
        self.file.write(b"00dc")?;
        self.file.write(&length.to_le_bytes())?;
        self.file.write(jpeg)?;
        if length % 2 == 1 {
            self.file.write(&[0])?;
        }
        self.index.push((at, length));
        self.largest = self.largest.max(length);
        Ok(())
    }

    /// Completes the file; it plays at `rate.0 / rate.1` frames per second.
    pub fn finish(mut self, rate: (u32, u32)) -> Result<(), OutputError> {
        let movi_end = self.file.position();
        self.file.write(b"idx1")?;
        self.file.write(&(16 * self.index.len() as u32).to_le_bytes())?;
        for (offset, length) in &self.index {
            self.file.write(b"00dc")?;
            // AVIIF_KEYFRAME
            for word in [0x10, *offset, *length] {
                self.file.write(&word.to_le_bytes())?;
            }
        }
        let frames = self.index.len() as u32;
        let micros = (1e6 * f64::from(rate.1) / f64::from(rate.0)).round() as u32;
        let riff = (self.file.position() - 8) as u32;
        let movi = (movi_end - MOVI) as u32;
        for (at, value) in [
            (RIFF_SIZE, riff),
            (MICROS_PER_FRAME, micros),
            (TOTAL_FRAMES, frames),
            (MAX_CHUNK, self.largest),
            (SCALE, rate.1),
            (SCALE + 4, rate.0),
            (STREAM_LENGTH, frames),
            (STREAM_CHUNK, self.largest),
            (MOVI_SIZE, movi),
        ] {
            self.file.overwrite(at, &value.to_le_bytes())?;
        }
        self.file.finish()
    }
}

/// Everything before the first picture: RIFF AVI, hdrl with avih and one strl (strh, strf), and the list movi.
fn headers(width: u32, height: u32) -> Vec<u8> {
    let mut h = Vec::with_capacity(224);
    let tag = |h: &mut Vec<u8>, t: &[u8; 4]| h.extend_from_slice(t);
    let words = |h: &mut Vec<u8>, w: &[u32]| w.iter().for_each(|w| h.extend_from_slice(&w.to_le_bytes()));
    tag(&mut h, b"RIFF");
    words(&mut h, &[0]);
    tag(&mut h, b"AVI ");
    tag(&mut h, b"LIST");
    words(&mut h, &[192]);
    tag(&mut h, b"hdrl");
    tag(&mut h, b"avih");
    // size, microseconds per frame, bytes per second, padding, flags (AVIF_HASINDEX), frames, initial frames,
    // streams, largest chunk, width, height, 4 reserved
    words(
        &mut h,
        &[56, 0, 0, 0, 0x10, 0, 0, 1, 0, width, height, 0, 0, 0, 0],
    );
    tag(&mut h, b"LIST");
    words(&mut h, &[116]);
    tag(&mut h, b"strl");
    tag(&mut h, b"strh");
    words(&mut h, &[56]);
    tag(&mut h, b"vids");
    tag(&mut h, b"MJPG");
    // flags, priority and language, initial frames, scale, rate, start, length, largest chunk, quality (none
    // stated), sample size
    words(&mut h, &[0, 0, 0, 0, 0, 0, 0, 0, u32::MAX, 0]);
    // rectangle of the picture: left, top, right, bottom
    for side in [0, 0, width as u16, height as u16] {
        h.extend_from_slice(&side.to_le_bytes());
    }
    tag(&mut h, b"strf");
    // BITMAPINFOHEADER: size, width, height, planes and bits, compression, bytes, resolution twice, colours twice
    words(&mut h, &[40, 40, width, height, 1 | (24 << 16)]);
    tag(&mut h, b"MJPG");
    words(&mut h, &[width * height * 3, 0, 0, 0, 0]);
    tag(&mut h, b"LIST");
    words(&mut h, &[0]);
    tag(&mut h, b"movi");
    h
}

#[cfg(test)]
mod tests {
    use super::*;
    use nom::bytes::complete::{tag, take};
    use nom::number::complete::le_u32;
    use nom::{IResult, Parser};

    type Chunks<'a> = Vec<(&'a [u8], &'a [u8])>;

    fn chunk(i: &[u8]) -> IResult<&[u8], (&[u8], &[u8])> {
        let (i, (id, size)) = (take(4usize), le_u32).parse(i)?;
        let (i, body) = take(size as usize).parse(i)?;
        let (i, _) = take(size as usize % 2).parse(i)?;
        Ok((i, (id, body)))
    }

    fn chunks(i: &[u8]) -> Chunks<'_> {
        let (rest, all) = nom::multi::many0(chunk).parse(i).unwrap();
        assert!(rest.is_empty(), "{} bytes left", rest.len());
        all
    }

    fn list<'a>(chunks: &Chunks<'a>, kind: &[u8]) -> Chunks<'a> {
        let body = chunks
            .iter()
            .find(|(id, b)| *id == b"LIST" && b.starts_with(kind))
            .unwrap()
            .1;
        self::chunks(&body[4..])
    }

    fn word(body: &[u8], index: usize) -> u32 {
        u32::from_le_bytes(body[4 * index..][..4].try_into().unwrap())
    }

    #[test]
    fn the_file_reads_back_as_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.avi");
        let pictures: [&[u8]; 3] = [b"first", b"second", b"3"];
        let mut avi = AviWriter::create(&path, 320, 240).unwrap();
        pictures.iter().for_each(|p| avi.write(p).unwrap());
        avi.finish((30000, 1001)).unwrap();

        let file = std::fs::read(&path).unwrap();
        let (rest, (_, size, _)) = (tag::<_, _, ()>(&b"RIFF"[..]), le_u32, tag(&b"AVI "[..]))
            .parse(&file[..])
            .unwrap();
        assert_eq!(size as usize + 8, file.len());
        let top = chunks(rest);
        let hdrl = list(&top, b"hdrl");
        let avih = hdrl[0].1;
        assert_eq!(
            (avih.len(), word(avih, 0), word(avih, 4), word(avih, 7)),
            (56, 33367, 3, 6)
        );
        assert_eq!((word(avih, 8), word(avih, 9)), (320, 240));
        let strl = list(&hdrl, b"strl");
        let strh = strl[0].1;
        assert_eq!(
            (&strh[..8], word(strh, 5), word(strh, 6)),
            (&b"vidsMJPG"[..], 1001, 30000)
        );
        assert_eq!(word(strh, 8), 3);
        assert_eq!((strl[1].0, strl[1].1.len()), (&b"strf"[..], 40));
        let movi = list(&top, b"movi");
        assert_eq!(movi.iter().map(|(_, b)| *b).collect::<Vec<_>>(), pictures);
        let (id, index) = top.last().unwrap();
        assert_eq!((*id, index.len()), (&b"idx1"[..], 48));
        for (i, picture) in pictures.iter().enumerate() {
            let at = 220 + word(index, 4 * i + 2) as usize;
            let length = word(index, 4 * i + 3) as usize;
            assert_eq!(&file[at..at + 4], b"00dc");
            assert_eq!(&file[at + 8..at + 8 + length], *picture);
        }
    }

    #[test]
    fn a_full_file_says_so_and_stays_valid() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.avi");
        let mut avi = AviWriter::create(&path, 16, 16).unwrap();
        avi.limit = 1000;
        let mut written = 0;
        let e = loop {
            match avi.write(&[7; 100]) {
                Ok(()) => written += 1,
                Err(e) => break e,
            }
        };
        assert_eq!(e.code(), flow::error::Code("E0703"));
        avi.finish((25, 1)).unwrap();
        let file = std::fs::read(&path).unwrap();
        assert!(file.len() <= 1000 && written > 3);
        assert_eq!(word(&file, 12), written);
    }
}
