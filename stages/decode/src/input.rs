//! Bytes to parse: a file, standard input, a pipe or memory, read in bounded steps.

use std::fs::File;
use std::io::{self, Cursor, Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::Arc;

use flow_frame::{Buffer, Pool};

use crate::error::MediaError;

/// Bytes read from the system at a time.
const CHUNK: usize = 64 << 10;
/// Memory taken on the word of a header alone when the length of the input is unknown.
const TRUSTED: usize = 8 << 20;

trait ReadSeek: Read + Seek + Send {}
impl<T: Read + Seek + Send> ReadSeek for T {}

enum Reader {
    Seekable(Box<dyn ReadSeek>),
    Stream(Box<dyn Read + Send>),
}

impl Reader {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        loop {
            let result = match self {
                Self::Seekable(r) => r.read(out),
                Self::Stream(r) => r.read(out),
            };
            match result {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                other => return other,
            }
        }
    }
}

/// An input being read: a window of unread bytes over a seekable or streaming reader.
///
/// Memory is bounded by what a parser asks to see at once, never by what the input declares.
pub struct Input {
    name: Arc<str>,
    reader: Reader,
    len: Option<u64>,
    window: Vec<u8>,
    head: usize,
    position: u64,
}

impl Input {
    /// Opens a file. Pipes and devices are read as streams.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let meta = file.metadata()?;
        let name = Arc::from(path.display().to_string());
        if meta.is_dir() {
            return Err(io::Error::new(
                io::ErrorKind::IsADirectory,
                "it is a folder; use `type: images` for a folder of pictures",
            ));
        }
        Ok(if meta.is_file() {
            Self::new(name, Reader::Seekable(Box::new(file)), Some(meta.len()))
        } else {
            Self::new(name, Reader::Stream(Box::new(file)), None)
        })
    }

    /// Reads bytes in memory.
    pub fn from_bytes(name: &str, bytes: Vec<u8>) -> Self {
        let len = bytes.len() as u64;
        Self::new(
            Arc::from(name),
            Reader::Seekable(Box::new(Cursor::new(bytes))),
            Some(len),
        )
    }

    /// Reads a stream that cannot seek.
    pub fn from_stream(name: &str, reader: impl Read + Send + 'static) -> Self {
        Self::new(Arc::from(name), Reader::Stream(Box::new(reader)), None)
    }

    fn new(name: Arc<str>, reader: Reader, len: Option<u64>) -> Self {
        Self {
            name,
            reader,
            len,
            window: Vec::new(),
            head: 0,
            position: 0,
        }
    }

    /// Name for messages: the path as given.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Offset of the next unread byte.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Length, where known.
    pub fn len(&self) -> Option<u64> {
        self.len
    }

    /// Whether the input is known to be empty.
    pub fn is_empty(&self) -> bool {
        self.len == Some(0)
    }

    /// Whether any offset can be reached.
    pub fn seekable(&self) -> bool {
        matches!(self.reader, Reader::Seekable(_))
    }

    /// Unread bytes, where the length is known.
    pub fn remaining(&self) -> Option<u64> {
        self.len.map(|len| len.saturating_sub(self.position))
    }

    /// At least `n` unread bytes without taking them; fewer only at the end of the input.
    pub fn peek(&mut self, n: usize) -> Result<&[u8], MediaError> {
        if self.window.len() - self.head < n {
            self.window.drain(..self.head);
            self.head = 0;
            while self.window.len() < n {
                let have = self.window.len();
                let step = (n - have).clamp(CHUNK, TRUSTED);
                self.window.resize(have + step, 0);
                let got = self.reader.read(&mut self.window[have..]);
                self.window
                    .truncate(have + got.as_ref().map_or(0, |got| (*got).min(step)));
                match got {
                    Ok(0) => break,
                    Ok(_) => {}
                    Err(e) => return Err(read_error(self.position, e)),
                }
            }
        }
        Ok(&self.window[self.head..])
    }

    /// Exactly `n` unread bytes without taking them, or `None` at the end of the input.
    pub fn peek_exact(&mut self, n: usize) -> Result<Option<&[u8]>, MediaError> {
        Ok(self.peek(n)?.get(..n))
    }

    /// Takes `n` bytes away unread. Past the end nothing is left to read.
    pub fn skip(&mut self, n: u64) -> Result<(), MediaError> {
        let buffered = (self.window.len() - self.head) as u64;
        if n <= buffered {
            self.head += n as usize;
            self.position += n;
            return Ok(());
        }
        let target = self.position.saturating_add(n);
        self.window.clear();
        self.head = 0;
        match &mut self.reader {
            Reader::Seekable(reader) => {
                // The system takes no offset far past the end; nothing lies there either.
                let place = target.min(self.len.unwrap_or(0));
                reader
                    .seek(SeekFrom::Start(place))
                    .map_err(|e| read_error(target, e))?;
                self.position = target;
            }
            Reader::Stream(_) => {
                self.position += buffered;
                let mut scratch = vec![0; CHUNK];
                while self.position < target {
                    let step = (target - self.position).min(CHUNK as u64) as usize;
                    match self.reader.read(&mut scratch[..step]) {
                        Ok(0) => break,
                        Ok(got) => self.position += got as u64,
                        Err(e) => return Err(read_error(self.position, e)),
                    }
                }
            }
        }
        Ok(())
    }

    /// Goes to `target`; backwards only where the input is seekable.
    pub fn seek(&mut self, target: u64) -> Result<(), MediaError> {
        if target >= self.position {
            return self.skip(target - self.position);
        }
        let Reader::Seekable(reader) = &mut self.reader else {
            return Err(MediaError::NotSeekable(format!(
                "byte {target} is wanted after byte {} and a pipe cannot go back; give a file, or rewrite \
                 it with `ffmpeg -i in -c copy -movflags faststart out.mp4`",
                self.position
            )));
        };
        self.window.clear();
        self.head = 0;
        reader
            .seek(SeekFrom::Start(target))
            .map_err(|e| read_error(target, e))?;
        self.position = target;
        Ok(())
    }

    /// Fills `out` as far as the input goes; returns the bytes read.
    pub fn read(&mut self, out: &mut [u8]) -> Result<usize, MediaError> {
        let buffered = (self.window.len() - self.head).min(out.len());
        out[..buffered].copy_from_slice(&self.window[self.head..self.head + buffered]);
        self.head += buffered;
        self.position += buffered as u64;
        let mut done = buffered;
        while done < out.len() {
            match self.reader.read(&mut out[done..]) {
                Ok(0) => break,
                Ok(got) => {
                    done += got;
                    self.position += got as u64;
                }
                Err(e) => return Err(read_error(self.position, e)),
            }
        }
        Ok(done)
    }

    /// Reads `len` bytes into `out`, replacing what it held; `false` if the input ends first, with `out`
    /// holding what there was. Memory grows with what arrives.
    pub fn read_vec(&mut self, len: usize, out: &mut Vec<u8>) -> Result<bool, MediaError> {
        out.clear();
        if self.remaining().is_some_and(|left| left < len as u64) {
            return Ok(false);
        }
        while out.len() < len {
            let have = out.len();
            let step = (len - have).min(TRUSTED);
            out.resize(have + step, 0);
            let got = self.read(&mut out[have..])?;
            out.truncate(have + got);
            if got < step {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Reads `len` bytes into a buffer of `pool`; `None` if the input ends first.
    pub fn read_buffer(&mut self, len: usize, pool: &Pool) -> Result<Option<Buffer>, MediaError> {
        let trusted = match self.remaining() {
            Some(left) if left < len as u64 => return Ok(None),
            Some(_) => true,
            None => len <= TRUSTED,
        };
        if trusted {
            let mut buffer = pool.take(len);
            return Ok((self.read(&mut buffer)? == len).then_some(buffer));
        }
        let mut bytes = Vec::new();
        if !self.read_vec(len, &mut bytes)? {
            return Ok(None);
        }
        let mut buffer = pool.take(len);
        buffer.copy_from_slice(&bytes);
        Ok(Some(buffer))
    }
}

fn read_error(at: u64, error: io::Error) -> MediaError {
    if error.get_ref().is_some_and(|e| e.is::<Stopped>()) {
        return MediaError::Stopped;
    }
    MediaError::Read {
        at,
        source: Arc::new(error),
    }
}

/// Marks the `io::Error` of a reader that gave up waiting because the pipeline stops.
#[derive(Debug, thiserror::Error)]
#[error("the pipeline stops")]
pub(crate) struct Stopped;

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives one byte at a time, as a slow pipe does.
    struct Drip(Vec<u8>, usize);
    impl Read for Drip {
        fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
            match (self.0.get(self.1), out.first_mut()) {
                (Some(byte), Some(place)) => {
                    *place = *byte;
                    self.1 += 1;
                    Ok(1)
                }
                _ => Ok(0),
            }
        }
    }

    #[test]
    fn a_pipe_and_memory_read_alike() {
        let bytes: Vec<u8> = (0..200).collect();
        for mut input in [
            Input::from_bytes("m", bytes.clone()),
            Input::from_stream("p", Drip(bytes.clone(), 0)),
        ] {
            assert_eq!(input.peek(4).unwrap()[..4], [0, 1, 2, 3]);
            input.skip(10).unwrap();
            let mut out = [0; 5];
            assert_eq!(input.read(&mut out).unwrap(), 5);
            assert_eq!(out, [10, 11, 12, 13, 14]);
            input.seek(100).unwrap();
            assert_eq!(input.position(), 100);
            assert_eq!(input.peek(1).unwrap()[0], 100);
            let mut rest = Vec::new();
            assert!(!input.read_vec(101, &mut rest).unwrap());
            assert_eq!(input.peek(1).unwrap().len().min(1), usize::from(input.seekable()));
        }
    }

    #[test]
    fn a_pipe_cannot_go_back() {
        let mut input = Input::from_stream("p", Cursor::new(vec![0; 10]));
        input.skip(5).unwrap();
        assert!(matches!(input.seek(2), Err(MediaError::NotSeekable(_))));
    }

    #[test]
    fn a_declared_length_takes_no_memory_by_itself() {
        let mut input = Input::from_stream("p", Cursor::new(vec![0; 10]));
        let mut out = Vec::new();
        assert!(!input.read_vec(usize::MAX / 2, &mut out).unwrap());
        assert!(out.capacity() <= 2 * TRUSTED);
    }
}
