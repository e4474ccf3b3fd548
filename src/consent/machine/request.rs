//! The requests of an operation, and how one fails.

use std::time::Duration;

use super::Action;
use crate::{analytics_id::AnalyticsId, consent::content::Change};

#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(test, derive(Hash))]
pub(super) enum Request {
    /// The first read of an operation.
    Read,
    /// After an opt-in whose write got no answer.
    ReadBack(OptInPlan),
    /// After an opt-in that kept this ID, and whose write was answered.
    Confirm(AnalyticsId),
    /// After the write of a removal or of a clean-up.
    Verify,
    /// Of an ID that was restored: once in this epoch.
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
            Self::ReadBack(_) | Self::Confirm(_) | Self::Verify => Action::GetAgain,
            Self::CleanUp { .. } => Action::Put(Change::OptOut),
            Self::Remove(change) => Action::Put(change.clone()),
            Self::OptIn(plan) => Action::Put(plan.change()),
        }
    }
}

/// What an `opt_in()` writes after its first read.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(test, derive(Hash))]
pub(super) enum OptInPlan {
    /// The account's ID is kept and the flag is written.
    Keep(AnalyticsId),
    /// A new ID is written.
    Mint(AnalyticsId),
}

impl OptInPlan {
    pub(super) fn id(&self) -> &AnalyticsId {
        let (Self::Keep(id) | Self::Mint(id)) = self;
        id
    }

    pub(super) fn change(&self) -> Change {
        Change::OptIn(self.id().clone())
    }
}

/// A request that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Failure {
    pub(crate) kind: FailureKind,
    /// How long the homeserver asked to be left alone.
    pub(crate) retry_after: Option<Duration>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum FailureKind {
    /// There was no answer, or none that tells: a write may have been applied, or may
    /// still be.
    Unanswered,
    /// The homeserver refused it.
    Refused,
    /// The homeserver lets guests have no account data.
    Guest,
    /// The homeserver says nothing of this user any more: an administrator locked the
    /// account, or the homeserver forbids the request.
    Locked,
}
