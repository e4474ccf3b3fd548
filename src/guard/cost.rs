//! Counts the bytes that the guard reads one by one, so that a test can check that the
//! cost grows linearly with the text.

#[cfg(test)]
thread_local! {
    static BYTES: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

/// Records that `bytes` more bytes were read.
#[inline]
pub(super) fn add(bytes: usize) {
    #[cfg(test)]
    BYTES.set(BYTES.get() + bytes);
    #[cfg(not(test))]
    let _ = bytes;
}

/// Returns the count of this thread and resets it.
#[cfg(test)]
pub(super) fn take() -> usize {
    BYTES.take()
}
