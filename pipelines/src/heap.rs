//! How much memory the program holds: an allocator that counts what another one hands out.
//!
//! Resident memory says what the system has given; what the program has asked for and not given back says whether
//! something is kept that should not be. The two together tell a leak from an allocator whose pages fill up.

use std::alloc::{GlobalAlloc, Layout};
use std::cell::Cell;
use std::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering};

/// Counters, so that threads seldom write to the same cache line.
const STRIPES: usize = 64;

#[repr(align(128))]
struct Stripe {
    /// Bytes handed out less bytes given back by the threads of the stripe; below 0 where they free what others allocate.
    bytes: AtomicI64,
    /// The same of blocks.
    blocks: AtomicI64,
    /// Blocks handed out since the start.
    allocations: AtomicU64,
}

static COUNTS: [Stripe; STRIPES] = [const {
    Stripe {
        bytes: AtomicI64::new(0),
        blocks: AtomicI64::new(0),
        allocations: AtomicU64::new(0),
    }
}; STRIPES];

/// Threads that have allocated.
static THREADS: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    /// Neither its initial value nor its end allocates.
    static STRIPE: Cell<usize> = const { Cell::new(usize::MAX) };
}

fn count(bytes: i64, blocks: i64) {
    let stripe = STRIPE.get();
    let stripe = if stripe < STRIPES {
        stripe
    } else {
        let next = THREADS.fetch_add(1, Ordering::Relaxed) % STRIPES;
        STRIPE.set(next);
        next
    };
    if let Some(counts) = COUNTS.get(stripe) {
        counts.bytes.fetch_add(bytes, Ordering::Relaxed);
        if blocks != 0 {
            counts.blocks.fetch_add(blocks, Ordering::Relaxed);
        }
        if blocks >= 0 {
            counts.allocations.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// What the program has asked for and not given back, C code left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heap {
    /// Bytes.
    pub bytes: u64,
    /// Blocks.
    pub blocks: u64,
    /// Calls that handed out memory since the start.
    pub allocations: u64,
}

/// The heap as it is; `None` where the program does not use [`Counting`].
pub fn live() -> Option<Heap> {
    let sum = |of: fn(&Stripe) -> i64| COUNTS.iter().map(of).sum::<i64>();
    let bytes = sum(|stripe| stripe.bytes.load(Ordering::Relaxed));
    let blocks = sum(|stripe| stripe.blocks.load(Ordering::Relaxed));
    let allocations = COUNTS
        .iter()
        .map(|stripe| stripe.allocations.load(Ordering::Relaxed));
    let allocations = allocations.sum();
    (allocations > 0).then(|| Heap {
        bytes: u64::try_from(bytes).unwrap_or(0),
        blocks: u64::try_from(blocks).unwrap_or(0),
        allocations,
    })
}

/// Counts what the allocator inside hands out; see [`live`].
pub struct Counting<A>(pub A);

/// A size as a difference; no block is larger than `isize::MAX`.
fn signed(size: usize) -> i64 {
    size as i64
}

// SAFETY: the allocator inside does the work and is given what the caller gives; counting allocates nothing.
#[allow(unsafe_code, reason = "an allocator is unsafe by nature")]
unsafe impl<A: GlobalAlloc> GlobalAlloc for Counting<A> {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(signed(layout.size()), 1);
        // SAFETY: the caller's contract.
        unsafe { self.0.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(signed(layout.size()), 1);
        // SAFETY: the caller's contract.
        unsafe { self.0.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        count(-signed(layout.size()), -1);
        // SAFETY: the caller's contract.
        unsafe { self.0.dealloc(memory, layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(signed(size) - signed(layout.size()), 0);
        // SAFETY: the caller's contract.
        unsafe { self.0.realloc(memory, layout, size) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::alloc::System;

    #[test]
    #[allow(unsafe_code, reason = "the allocator is called by hand")]
    fn what_is_given_back_is_not_counted_any_more() {
        let layout = Layout::from_size_align(100, 8).unwrap();
        let of_thread = || COUNTS[STRIPE.get()].bytes.load(Ordering::Relaxed);
        let allocator = Counting(System);
        count(0, 0);
        let before = of_thread();
        // SAFETY: the block is used within its size and given back with the layout it has.
        unsafe {
            let block = allocator.alloc_zeroed(layout);
            assert_eq!((of_thread() - before, *block), (100, 0));
            let block = allocator.realloc(block, layout, 300);
            assert_eq!(of_thread() - before, 300);
            allocator.dealloc(block, Layout::from_size_align(300, 8).unwrap());
        }
        assert_eq!(of_thread(), before);
        assert!(live().unwrap().allocations > 0);
    }
}
