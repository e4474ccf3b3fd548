//! The inputs of a device, and its initial state.

use super::super::content::{Content, Id};
use crate::consent::{
    machine::{FailureKind, Session},
    record::Removal,
};

/// An event that a device reacts to.
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
    /// The last handle is dropped and a new one is built, which waits for the last save.
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
    /// The homeserver acknowledges a write without applying it.
    Lied,
    Answered,
    Failed(FailureKind),
    /// The homeserver refused the request and asked to wait.
    AskedToWait,
    DetachedEnded,
    Synced(Content),
    /// Sync carried account data of another type.
    Delivered,
    SessionIs(Session),
    MissedSessionChanges,
    // Time and crashes.
    SaveRetryDue,
    RetryDue,
    RequestedWaitOver,
    Settled,
    /// The settle time ended long ago, because the device slept or had no network.
    SettledLongAgo,
    RecheckDue,
    Crash,
    /// A year passes.
    Ages,
    /// The clock of the device goes back by a year.
    ClockGoesBack,
    /// Another client or device wrote an opt-in under this ID to the server.
    OptInWritten(Id),
    /// This device wrote an opt-in under this ID to the server.
    OwnOptInWritten(Id),
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Kind {
    pub(crate) do_not_track: bool,
    pub(crate) has_quick_disk: bool,
    pub(crate) policy: Option<u8>,
}

/// The record of a device when a run begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Memory {
    Nothing,
    /// The user opted in under [`Id::OLD`].
    OptedIn,
    /// The user opted in under [`Id::OLD`], and agreed to the policy on this device.
    AgreedHere,
    /// The user opted in under [`Id::OLD`], and the account had an agreement to the policy.
    SawAgreement,
    /// The user opted out, and the removal from the account is pending.
    RemovalPending,
    /// The user opted out, and the account is clean.
    OptedOut,
    Unreadable,
}
