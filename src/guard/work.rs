//! Counts the bytes that the guard looks at one by one, so that a test can see
//! that they grow with the text and no faster.

#[cfg(test)]
thread_local! {
    static BYTES: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

/// Notes that `bytes` more were looked at.
#[inline]
pub(super) fn looked_at(bytes: usize) {
    #[cfg(test)]
    BYTES.set(BYTES.get() + bytes);
    #[cfg(not(test))]
    let _ = bytes;
}

/// What was counted on this thread since the last call.
#[cfg(test)]
pub(super) fn take() -> usize {
    BYTES.take()
}
