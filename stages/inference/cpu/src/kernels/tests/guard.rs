//! Buffers between two unreadable pages.

use std::ops::{Deref, DerefMut};

use crate::kernels::Plain;

const PAGE: usize = 4096;

/// `len` elements that end (or begin) at an unreadable page: an access outside ends the test.
pub struct Guarded<T> {
    map: *mut u8,
    map_len: usize,
    data: *mut T,
    len: usize,
}

impl<T: Plain> Guarded<T> {
    /// Zeroed; `at_end`: the byte after the last element is unreadable, else the one before the first.
    pub fn new(len: usize, at_end: bool) -> Self {
        let bytes = len * size_of::<T>();
        let inner = bytes.next_multiple_of(PAGE);
        let map_len = inner + 2 * PAGE;
        // SAFETY: a fresh anonymous mapping; both guard pages lie inside it.
        unsafe {
            let map = libc::mmap(
                std::ptr::null_mut(),
                map_len,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            );
            assert_ne!(map, libc::MAP_FAILED);
            let map: *mut u8 = map.cast();
            assert_eq!(libc::mprotect(map.cast(), PAGE, libc::PROT_NONE), 0);
            assert_eq!(
                libc::mprotect(map.add(PAGE + inner).cast(), PAGE, libc::PROT_NONE),
                0
            );
            let data = map.add(PAGE + if at_end { inner - bytes } else { 0 });
            Self {
                map,
                map_len,
                data: data.cast(),
                len,
            }
        }
    }
}

impl<T> Drop for Guarded<T> {
    fn drop(&mut self) {
        // SAFETY: the mapping made in `new`.
        unsafe { libc::munmap(self.map.cast(), self.map_len) };
    }
}

impl<T: Plain> Deref for Guarded<T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        // SAFETY: `len` elements inside the mapping, zeroed by the system.
        unsafe { std::slice::from_raw_parts(self.data, self.len) }
    }
}

impl<T: Plain> DerefMut for Guarded<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as above, borrowed exclusively.
        unsafe { std::slice::from_raw_parts_mut(self.data, self.len) }
    }
}
