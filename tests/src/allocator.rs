//! The system's allocator, which says when it is asked for memory.

use std::alloc::{GlobalAlloc, Layout, System};

/// Calls a function whenever a block is asked for or changes its size; that may allocate only if it minds calling itself.
pub struct Watched(pub fn());

// SAFETY: the system's allocator does the work.
#[allow(unsafe_code, reason = "an allocator is unsafe by nature")]
unsafe impl GlobalAlloc for Watched {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        self.0();
        // SAFETY: the caller's contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: the caller's contract.
        unsafe { System.dealloc(memory, layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        self.0();
        // SAFETY: the caller's contract.
        unsafe { System.realloc(memory, layout, size) }
    }
}
