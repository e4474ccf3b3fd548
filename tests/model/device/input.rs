//! What can happen to a device, and how it begins.

use super::super::content::{Content, Id};
use crate::consent::{
    machine::{FailureKind, Session},
    record::Removal,
};

/// What happens to a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Input {
    // The app.
    OptIn,
    DropOptIn,
    OptOut(Removal),
    Deny,
    Allow,
    EndSession,
    Recheck,
    /// The last handle is dropped, and another one is built, which waits for the save of
    /// the first.
    Rebuild,
    // The driver and the disk.
    Go,
    Saved,
    SaveFailed {
        is_written: bool,
    },
    // The network.
    Read(Content),
    Applied,
    /// The homeserver says that it applied the write, and has not.
    Lied,
    Answered,
    Failed(FailureKind),
    /// … and the homeserver asked to be left alone.
    AskedToWait,
    DetachedEnded,
    Synced(Content),
    /// Sync carried account data of another type.
    Delivered,
    SessionIs(Session),
    MissedSessionChanges,
    // Time, and the end of it.
    SaveRetryDue,
    RetryDue,
    RequestedWaitOver,
    Settled,
    RecheckDue,
    Crash,
    /// An opt-in under this ID was written to the server.
    YesWritten(Id),
    /// This device's own.
    OwnYesWritten(Id),
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Kind {
    pub(crate) do_not_track: bool,
    pub(crate) has_quick_disk: bool,
}

/// What a device remembers when a run begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Memory {
    Nothing,
    /// The user opted in, under [`Id::OLD`].
    Yes,
    /// The user opted out, and the account has still to be cleaned.
    NoPending,
    /// The user opted out, and the account was clean.
    No,
    Unreadable,
}
