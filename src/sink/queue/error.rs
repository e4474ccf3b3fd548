//! What can go wrong with a durable queue.

use crate::backend::BoxError;

/// Why a durable queue cannot be used.
///
/// What goes wrong later, while events are written, is no error of any call: they
/// wait in memory, and [`QueueStats`](crate::QueueStats) counts them.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum QueueError {
    /// Another process, or another [`Analytics`](crate::Analytics), has the file
    /// open.
    #[error("the file of the queue is in use")]
    InUse,
    /// In the place of a file of the queue there is a link, a file that has another name
    /// too, or no regular file at all. It was not touched, and no link was followed.
    #[error("in the place of a file of the queue there is something else")]
    NotARegularFile,
    /// What is in the file could not be deleted.
    #[error("the file of the queue could not be wiped")]
    NotWiped(#[source] BoxError),
    /// The file was written by a newer version of this crate.
    #[error("the file of the queue was written by a newer version")]
    Newer,
    /// The file is a database of something else. It was not touched.
    #[error("the file of the queue is a database of something else")]
    NotOurs,
    /// The file cannot be opened, made or written. The source says why, and may name
    /// the path, so it is no part of this error's text.
    #[error("the file of the queue cannot be opened")]
    Open(#[source] BoxError),
    /// The file is encrypted with another passphrase, or no passphrase was given.
    #[error("the passphrase of the queue is missing or wrong")]
    Passphrase,
}
