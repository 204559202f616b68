//! The memory of a request: one arena, and slices of it for one step at a time.

use std::ops::Range;

use crate::kernels::AlignedVec;

/// One allocation that holds every activation of a request.
#[derive(Debug)]
pub(crate) struct Arena {
    bytes: AlignedVec<u8>,
}

/// Bytes of the arena or of somebody else.
#[derive(Debug, Clone)]
pub(crate) enum Place<'a> {
    Arena(Range<usize>),
    Outside(&'a [u8]),
}

impl Arena {
    /// A zeroed arena.
    pub fn new(bytes: usize) -> Self {
        Self {
            bytes: AlignedVec::zeroed(bytes),
        }
    }

    /// A range to read.
    pub fn read(&self, range: Range<usize>) -> &[u8] {
        &self.bytes[range]
    }

    /// A range to write.
    pub fn write(&mut self, range: Range<usize>) -> &mut [u8] {
        &mut self.bytes[range]
    }

    /// Up to `N` places to read and one range to write, at the same time; `None` if the range to write meets
    /// a place to read or a range leaves the arena.
    pub fn split<'a, const N: usize>(
        &'a mut self,
        reads: [Option<Place<'a>>; N],
        write: Range<usize>,
    ) -> Option<([&'a [u8]; N], &'a mut [u8])> {
        let len = self.bytes.len();
        let inside = |r: &Range<usize>| r.start <= r.end && r.end <= len;
        let apart = reads.iter().flatten().all(|place| match place {
            Place::Arena(r) => inside(r) && (r.end <= write.start || write.end <= r.start),
            Place::Outside(_) => true,
        });
        if !apart || !inside(&write) {
            return None;
        }
        let base = self.bytes.as_mut_ptr();
        let reads = reads.map(|place| match place {
            None => &[][..],
            Some(Place::Outside(bytes)) => bytes,
            // SAFETY: inside the arena, which is borrowed exclusively for `'a`, and apart from `write`.
            Some(Place::Arena(r)) => unsafe {
                std::slice::from_raw_parts(base.add(r.start), r.end - r.start)
            },
        });
        // SAFETY: inside the arena, which is borrowed exclusively for `'a`, and apart from all reads.
        let write = unsafe { std::slice::from_raw_parts_mut(base.add(write.start), write.end - write.start) };
        Some((reads, write))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_never_reads_what_it_writes() {
        let mut arena = Arena::new(128);
        assert!(arena.split([Some(Place::Arena(0..64)), None], 64..128).is_some());
        assert!(arena.split([Some(Place::Arena(0..65)), None], 64..128).is_none());
        assert!(arena.split([Some(Place::Arena(0..64)), None], 64..129).is_none());
        assert!(arena.split([Some(Place::Outside(&[1])), None], 0..128).is_some());
    }
}
