//! The error of a durable queue.

use crate::backend::BoxError;

/// The reason why a durable queue cannot be used.
///
/// A failure to write events later is not reported by any call. The events wait in memory,
/// and [`QueueStats`](crate::QueueStats) counts them.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum QueueError {
    /// The file is open in another process, or in another [`Analytics`](crate::Analytics), or was
    /// since this one shut down.
    #[error("the queue file is in use")]
    InUse,
    /// One of the queue's paths leads to a link, a file with several names, or something
    /// other than a regular file. It was not changed, and no link was followed.
    #[error("a queue file is not a regular file with a single name")]
    NotARegularFile,
    /// The content of the file could not be deleted.
    #[error("the queue file could not be wiped")]
    NotWiped(#[source] BoxError),
    /// The file was written by a newer version of this crate.
    #[error("the queue file was written by a newer version")]
    Newer,
    /// The file is a database of another program. It was not changed.
    #[error("the queue file is a database of another program")]
    NotOurs,
    /// The file cannot be opened, created or written. The source has the cause. It may
    /// contain the path, so the text of this error does not include it.
    #[error("the queue file cannot be opened")]
    Open(#[source] BoxError),
    /// The file is encrypted with another passphrase, or no passphrase was given.
    #[error("the passphrase of the queue is missing or wrong")]
    Passphrase,
}
