//! Heap storage aligned to cache lines, so that vector loads of packed weights never cross one.

use std::ops::{Deref, DerefMut};

/// Alignment of every packed array, in bytes: one cache line, one zmm register.
pub const ALIGNMENT: usize = 64;

#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([u8; ALIGNMENT]);

/// A number type whose every bit pattern is a value.
///
/// # Safety
/// Implemented only for types that accept every bit pattern, have no padding and align to 64 bytes or less.
pub unsafe trait Plain: Copy + 'static {}
// SAFETY: plain machine numbers.
unsafe impl Plain for u8 {}
// SAFETY: plain machine numbers.
unsafe impl Plain for i8 {}
// SAFETY: plain machine numbers.
unsafe impl Plain for i16 {}
// SAFETY: plain machine numbers.
unsafe impl Plain for i32 {}
// SAFETY: plain machine numbers.
unsafe impl Plain for f32 {}

/// A fixed-length array of numbers that starts on a cache line; zero at first.
#[derive(Clone)]
pub struct AlignedVec<T> {
    lines: Vec<Line>,
    len: usize,
    number: std::marker::PhantomData<T>,
}

impl<T: Plain> AlignedVec<T> {
    /// `len` zeros.
    pub fn zeroed(len: usize) -> Self {
        let lines = len.saturating_mul(size_of::<T>()).div_ceil(ALIGNMENT);
        Self {
            lines: vec![Line([0; ALIGNMENT]); lines],
            len,
            number: std::marker::PhantomData,
        }
    }

    /// A copy of `values`.
    pub fn from_slice(values: &[T]) -> Self {
        let mut vec = Self::zeroed(values.len());
        vec.copy_from_slice(values);
        vec
    }
}

impl<T: Plain> Default for AlignedVec<T> {
    fn default() -> Self {
        Self::zeroed(0)
    }
}

impl<T: Plain> Deref for AlignedVec<T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        // SAFETY: `lines` holds at least `len` numbers, initialised and aligned to 64 bytes (`Plain`).
        unsafe { std::slice::from_raw_parts(self.lines.as_ptr().cast(), self.len) }
    }
}

impl<T: Plain> DerefMut for AlignedVec<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as in `deref`, and `self` is borrowed exclusively.
        unsafe { std::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast(), self.len) }
    }
}

impl<T: Plain + std::fmt::Debug> std::fmt::Debug for AlignedVec<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.iter().take(16)).finish()
    }
}
