//! Byte buffers that return to their pool when dropped.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use crossbeam::queue::ArrayQueue;

/// Alignment of every buffer in bytes: a cache line, and what 512-bit loads like.
pub(crate) const ALIGN: usize = 64;

#[repr(C, align(64))]
#[derive(Clone, Copy)]
struct Line([u8; ALIGN]);

/// A byte buffer of fixed length, aligned to 64 bytes. Dropped, it goes back to the pool it came from.
pub struct Buffer {
    lines: Vec<Line>,
    len: usize,
    home: Option<Arc<ArrayQueue<Vec<Line>>>>,
}

impl Buffer {
    /// A zeroed buffer of `len` bytes that belongs to no pool.
    pub fn zeroed(len: usize) -> Self {
        Self {
            lines: vec![Line([0; ALIGN]); len.div_ceil(ALIGN)],
            len,
            home: None,
        }
    }

    /// A buffer with a copy of `bytes` that belongs to no pool.
    pub fn copy_of(bytes: &[u8]) -> Self {
        let mut buffer = Self::zeroed(bytes.len());
        buffer.copy_from_slice(bytes);
        buffer
    }
}

impl Deref for Buffer {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        // SAFETY: `Line` is 64 plain bytes without padding, and `len <= lines.len() * ALIGN` by construction.
        unsafe { std::slice::from_raw_parts(self.lines.as_ptr().cast(), self.len) }
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `deref`, and `&mut self` makes the access exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast(), self.len) }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if let Some(home) = self.home.take() {
            // A full pool lets the memory go.
            let _ = home.push(std::mem::take(&mut self.lines));
        }
    }
}

impl Clone for Buffer {
    fn clone(&self) -> Self {
        Self {
            lines: self.lines.clone(),
            len: self.len,
            home: None,
        }
    }
}

impl std::fmt::Debug for Buffer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Buffer({} bytes)", self.len)
    }
}

/// A bounded pool of buffers. It keeps at most `capacity` free buffers; it never limits how many are out.
#[derive(Clone)]
pub struct Pool {
    free: Arc<ArrayQueue<Vec<Line>>>,
}

impl Pool {
    /// A pool that keeps up to `capacity` (at least 1) free buffers.
    pub fn new(capacity: usize) -> Self {
        Self {
            free: Arc::new(ArrayQueue::new(capacity.max(1))),
        }
    }

    /// A buffer of `len` bytes with unspecified content (never uninitialised memory).
    pub fn take(&self, len: usize) -> Buffer {
        let mut lines = self.free.pop().unwrap_or_default();
        lines.resize(len.div_ceil(ALIGN), Line([0; ALIGN]));
        Buffer {
            lines,
            len,
            home: Some(self.free.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_buffer_is_used_again() {
        let pool = Pool::new(2);
        let first = pool.take(100);
        let place = first.as_ptr();
        assert_eq!(place as usize % ALIGN, 0);
        drop(first);
        let second = pool.take(90);
        assert_eq!(second.as_ptr(), place);
        assert_eq!(second.len(), 90);
    }

    #[test]
    fn a_full_pool_does_not_grow() {
        let pool = Pool::new(1);
        let (a, b) = (pool.take(10), pool.take(10));
        drop(a);
        drop(b);
        assert_eq!(pool.free.len(), 1);
    }
}
