//! A counting allocator: the calls of each thread, and on request the live bytes.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    sync::atomic::{AtomicBool, AtomicIsize, Ordering::Relaxed},
};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

thread_local! {
    static CALLS: Cell<u64> = const { Cell::new(0) };
}

/// Whether `LIVE` is maintained. All threads write to it, which would slow them down.
static KEEPS_LIVE: AtomicBool = AtomicBool::new(false);
static LIVE: AtomicIsize = AtomicIsize::new(0);

struct Counting;

/// Returns how often this thread has allocated memory.
pub(crate) fn calls() -> u64 {
    CALLS.get()
}

/// Starts counting, so that results of [`live_bytes`] can be compared.
pub(crate) fn keep_live_bytes() {
    KEEPS_LIVE.store(true, Relaxed);
}

/// Returns the number of bytes on the heap, from an arbitrary starting point.
pub(crate) fn live_bytes() -> isize {
    LIVE.load(Relaxed)
}

fn count(grown: usize, shrunk: usize) {
    CALLS.set(CALLS.get() + u64::from(grown > 0));
    if KEEPS_LIVE.load(Relaxed) {
        LIVE.fetch_add(grown.cast_signed() - shrunk.cast_signed(), Relaxed);
    }
}

// SAFETY: every call is passed to the system's allocator unchanged.
#[expect(unsafe_code, reason = "an allocator has no other interface")]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size(), 0);
        // SAFETY: the caller keeps the contract of the system's allocator.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(0, layout.size());
        // SAFETY: the caller keeps the contract of the system's allocator.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size, layout.size());
        // SAFETY: the caller keeps the contract of the system's allocator.
        unsafe { System.realloc(pointer, layout, size) }
    }
}
