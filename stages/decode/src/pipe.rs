//! Reading from pipes without missing a stop: a thread reads, its consumer waits with an eye on the flag.

use std::io::{self, Read};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use flow::stage::StopFlag;

use crate::input::Stopped;

/// Bytes of one chunk.
const CHUNK: usize = 256 << 10;
/// Chunks on their way at most.
const DEPTH: usize = 4;

/// The reading end; reads fail once the flag is set.
pub(crate) struct StoppableReader {
    full: Receiver<io::Result<Vec<u8>>>,
    /// Returns chunks to the thread for use again.
    empty: SyncSender<Vec<u8>>,
    chunk: Vec<u8>,
    at: usize,
    stopping: StopFlag,
}

impl StoppableReader {
    /// Begins to read `from` on a thread of its own, which ends with the reader or at the end of `from`.
    pub(crate) fn new(mut from: impl Read + Send + 'static, stopping: StopFlag) -> io::Result<Self> {
        let (send_full, full) = sync_channel::<io::Result<Vec<u8>>>(DEPTH);
        let (empty, take_empty) = sync_channel::<Vec<u8>>(DEPTH + 2);
        std::thread::Builder::new()
            .name("pipe reader".into())
            .spawn(move || {
                loop {
                    let mut chunk = take_empty.try_recv().unwrap_or_default();
                    chunk.resize(CHUNK, 0);
                    let message = match from.read(&mut chunk) {
                        Ok(0) => return,
                        Ok(got) => {
                            chunk.truncate(got);
                            Ok(chunk)
                        }
                        Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                        Err(e) => Err(e),
                    };
                    let failed = message.is_err();
                    if send_full.send(message).is_err() || failed {
                        return;
                    }
                }
            })?;
        Ok(Self {
            full,
            empty,
            chunk: Vec::new(),
            at: 0,
            stopping,
        })
    }
}

impl Read for StoppableReader {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        while self.at == self.chunk.len() {
            // A chunk that does not fit is simply let go.
            let _ = self.empty.try_send(std::mem::take(&mut self.chunk));
            self.at = 0;
            match self.full.recv_timeout(Duration::from_millis(50)) {
                Ok(chunk) => self.chunk = chunk?,
                Err(RecvTimeoutError::Disconnected) => return Ok(0),
                Err(RecvTimeoutError::Timeout) if self.stopping.is_set() => {
                    return Err(io::Error::other(Stopped));
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
        let n = out.len().min(self.chunk.len() - self.at);
        out[..n].copy_from_slice(&self.chunk[self.at..self.at + n]);
        self.at += n;
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_arrive_in_order() {
        let bytes: Vec<u8> = (0..CHUNK * 3 + 7).map(|i| (i % 251) as u8).collect();
        let mut reader = StoppableReader::new(io::Cursor::new(bytes.clone()), StopFlag::default()).unwrap();
        let mut read = Vec::new();
        reader.read_to_end(&mut read).unwrap();
        assert!(read == bytes);
    }

    #[test]
    fn a_stop_ends_a_read_that_waits() {
        struct Never(std::sync::mpsc::Receiver<()>);
        impl Read for Never {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                let _ = self.0.recv();
                Ok(0)
            }
        }
        let (keep, never) = std::sync::mpsc::channel();
        let stopping = StopFlag::default();
        let mut reader = StoppableReader::new(Never(never), stopping.clone()).unwrap();
        stopping.set();
        let e = reader.read(&mut [0; 4]).unwrap_err();
        assert!(e.get_ref().unwrap().is::<Stopped>());
        drop(keep);
    }
}
