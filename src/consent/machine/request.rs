//! The requests of an operation, and their failures.

use std::time::Duration;

use super::{Action, LastAnswer};
use crate::{
    analytics_id::AnalyticsId,
    consent::{content::Change, policy::Agreement},
};

#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(test, derive(Hash))]
pub(super) enum Request {
    /// The first read of an operation.
    Read,
    /// The read after an opt-in whose write got no answer.
    ReadBack(OptInPlan, BeforeWrite),
    /// The read after an opt-in that kept its ID and whose write was acknowledged.
    Confirm(OptInPlan),
    /// The read after the write of a removal or of a clean-up.
    Verify,
    /// The write that removes a restored ID. Once it was read back, it is not made again in
    /// this epoch.
    CleanUp {
        epoch: u64,
    },
    Remove(Change),
    OptIn(OptInPlan),
}

impl Request {
    pub(super) fn action(&self) -> Action {
        match self {
            Self::Read => Action::Get,
            Self::ReadBack(..) | Self::Confirm(_) | Self::Verify => Action::GetAgain,
            Self::CleanUp { .. } => Action::Put(Change::OptOut),
            Self::Remove(change) => Action::Put(change.clone()),
            Self::OptIn(plan) => Action::Put(plan.change()),
        }
    }
}

/// The write that an `opt_in()` makes after its first read.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(test, derive(Hash))]
pub(super) struct OptInPlan {
    pub(super) id: AnalyticsId,
    /// Whether the ID is a new one, and not the account's.
    pub(super) is_minted: bool,
    /// Whether the account was read without this agreement after a first write.
    pub(super) is_repeated: bool,
    pub(super) agreement: Option<Agreement>,
    /// The time of day of the read before the write, in milliseconds since 1970.
    pub(super) read_on: u64,
}

impl OptInPlan {
    pub(super) fn change(&self) -> Change {
        Change::OptIn(self.id.clone(), self.agreement.clone())
    }
}

/// The state before a write that got no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(test, derive(Hash))]
pub(super) struct BeforeWrite {
    pub(super) answer: LastAnswer,
    pub(super) fetch_wanted: bool,
}

/// A request that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Failure {
    pub(crate) kind: FailureKind,
    /// The wait that the homeserver asked for.
    pub(crate) retry_after: Option<Duration>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum FailureKind {
    /// There was no conclusive answer. A write may have been applied, or may still be.
    Unanswered,
    /// The homeserver refused the request.
    Refused,
    /// The homeserver grants guests no account data.
    Guest,
    /// An administrator locked the account, or the homeserver forbids the request.
    Locked,
}
