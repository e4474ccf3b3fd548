//! The clients of others, as they are known to behave.

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum ForeignClient {
    /// Element Android overwrites the event with an ID alone.
    Overwrites,
    /// Element iOS writes the two members, with an ID of its own if it saw none.
    WritesTwoKeys,
    /// Element Web at an opt-in: the flag, then the ID.
    FlagFirst,
    /// … of which the ID is left to write.
    ThenId,
    /// Element Web at an opt-out keeps the ID.
    SaysNo,
    /// Element Web writes another setting into its cached copy.
    RestoresCached,
    /// A `null` or an empty ID.
    WritesFalsyId,
    Erases,
    /// Another device of the user opts in under an ID of its own.
    OptsIn,
}

pub(super) const FOREIGN_CLIENTS: &[ForeignClient] = &[
    ForeignClient::Overwrites,
    ForeignClient::WritesTwoKeys,
    ForeignClient::FlagFirst,
    ForeignClient::SaysNo,
    ForeignClient::RestoresCached,
    ForeignClient::WritesFalsyId,
    ForeignClient::Erases,
];

/// A device that says yes, and a client that restores what it has cached.
pub(super) const YES_AND_RESTORED: &[ForeignClient] =
    &[ForeignClient::OptsIn, ForeignClient::RestoresCached];

impl ForeignClient {
    pub(super) fn waits(self) -> bool {
        !matches!(self, Self::Overwrites | Self::Erases | Self::OptsIn)
    }
}
