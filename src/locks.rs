//! The locks and atomics that the threads of the pipeline share.
//!
//! They are named in one place so that `loom/` can compile the same files with its own.

pub(crate) use std::sync::{
    Mutex, MutexGuard, PoisonError,
    atomic::{AtomicBool, AtomicU64, Ordering},
};
