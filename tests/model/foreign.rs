//! Other clients, as they are known to behave.

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum ForeignClient {
    /// Element Android overwrites the event with an ID alone.
    Overwrites,
    /// Element iOS writes both members, with an ID of its own if it saw none.
    WritesTwoKeys,
    /// Element Web writes the flag at an opt-in, then the ID.
    FlagFirst,
    /// Element Web has written the flag, and writes the ID next.
    ThenId,
    /// Element Web keeps the ID at an opt-out.
    OptsOut,
    /// Element Web writes another setting into its cached copy.
    RestoresCached,
    /// A client writes `null` or an empty ID.
    WritesFalsyId,
    Erases,
    /// Another device of the user opts in under an ID of its own.
    OptsIn,
    /// The user opts out on another device, and opts in again with a client that asks for no
    /// policy.
    OutAndIn,
    /// The client opts in next.
    ThenIn,
}

pub(super) const FOREIGN_CLIENTS: &[ForeignClient] = &[
    ForeignClient::Overwrites,
    ForeignClient::WritesTwoKeys,
    ForeignClient::FlagFirst,
    ForeignClient::OptsOut,
    ForeignClient::RestoresCached,
    ForeignClient::WritesFalsyId,
    ForeignClient::Erases,
];

/// A device that opts in, and a client that restores its cached copy.
pub(super) const OPT_IN_AND_RESTORED: &[ForeignClient] =
    &[ForeignClient::OptsIn, ForeignClient::RestoresCached];

impl ForeignClient {
    pub(super) fn waits(self) -> bool {
        !matches!(self, Self::Overwrites | Self::Erases | Self::OptsIn)
    }
}
