//! What the threads of the pipeline share is locked and counted with these, so
//! that a model checker can put its own in their place: see `loom/`.

pub(crate) use std::sync::{
    Mutex, MutexGuard, PoisonError,
    atomic::{AtomicBool, AtomicU64, Ordering},
};
