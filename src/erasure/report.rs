//! The progress of erasures, for the app.

use std::{collections::BTreeMap, time::SystemTime};

use serde::{Deserialize, Serialize, Serializer};

use crate::{backend::ErasureError, event::unix_time, named::named};

/// The progress of one erasure request, in an [`OptOutReceipt`](crate::OptOutReceipt).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ErasureReceipt {
    /// The label of the recipient, as the app set it; its host or its name, if it has none.
    pub recipient: String,
    /// When the user withdrew.
    #[serde(serialize_with = "rfc3339")]
    pub withdrawn_at: SystemTime,
    /// The state of the request.
    pub state: ErasureState,
    /// The cause of the last failure, if there was one.
    pub cause: Option<ErasureCause>,
    /// The number of tries in this and earlier processes.
    pub tries: u32,
    /// Where a pending request is kept.
    pub kept_in: ErasureStorage,
}

fn rfc3339<S: Serializer>(time: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&unix_time::rfc3339(*time))
}

/// The state of an erasure request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErasureState {
    /// The recipient has accepted the request.
    Done,
    /// The request was given up: the recipient did not accept it in time. Ask it in another way.
    Failed,
    /// The request waits for its first or its next try.
    Pending,
}

named!(ErasureState { Done => "done", Failed => "failed", Pending => "pending" });

/// Where a pending erasure request is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErasureStorage {
    /// In the encrypted file of the durable queue: it is carried out even if the process ends.
    File,
    /// In memory: it is lost when the last [`Analytics`](crate::Analytics) is dropped.
    Memory,
}

named!(ErasureStorage { File => "file", Memory => "memory" });

/// The reason why a recipient has not accepted an erasure request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ErasureCause {
    /// More erasures waited than are remembered.
    Displaced,
    /// This device has lost the request: the queue file is damaged, or the client's store was
    /// replaced before the ID was found.
    Lost,
    /// The recipient's endpoint is not one: it answered with HTTP 404 or a redirect, or without
    /// the confirmation that an erasure needs.
    Misconfigured,
    /// The app no longer has a recipient of this label with an erasure.
    NoEndpoint,
    /// This device has used an analytics ID that the account no longer holds: another device or
    /// client has removed it, or the account could not be read in time. If the account held another
    /// ID, that one has a request of its own.
    NoIdentifier,
    /// The app's [`Erasure`](crate::Erasure) panicked, or its backend in
    /// [`Backend::stored_identifier`](crate::Backend::stored_identifier).
    Panicked,
    /// The recipient refuses the request.
    Rejected,
    /// The recipient asked to wait.
    Throttled,
    /// The recipient refuses the credentials of the app.
    Unauthorized,
    /// There was no answer, or the recipient had an internal error.
    Unreachable,
}

named!(ErasureCause {
    Displaced => "displaced",
    Lost => "lost",
    Misconfigured => "misconfigured",
    NoEndpoint => "no_endpoint",
    NoIdentifier => "no_identifier",
    Panicked => "panicked",
    Rejected => "rejected",
    Throttled => "throttled",
    Unauthorized => "unauthorized",
    Unreachable => "unreachable",
});

impl From<&ErasureError> for ErasureCause {
    fn from(error: &ErasureError) -> Self {
        match error {
            ErasureError::Misconfigured(_) => Self::Misconfigured,
            ErasureError::Rejected(_) => Self::Rejected,
            ErasureError::Throttled { .. } => Self::Throttled,
            ErasureError::Unauthorized(_) => Self::Unauthorized,
            ErasureError::Unreachable(_) => Self::Unreachable,
        }
    }
}

/// The counters of erasure requests, in [`Stats`](crate::Stats).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ErasureStats {
    /// Requests that wait, those of earlier processes included.
    pub pending: u64,
    /// Tries of requests in this process.
    pub tries: u64,
    /// Requests that a recipient has accepted in this process.
    pub done: u64,
    /// Requests that were given up in this process, or in an earlier one and not yet reported by
    /// a receipt; by the cause of the last failure.
    pub failed: BTreeMap<ErasureCause, u64>,
    /// The cause of the last failed try in this process.
    pub last_cause: Option<ErasureCause>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cause_is_read_by_its_name_and_no_two_have_the_same() {
        for cause in ErasureCause::ALL {
            let name = serde_json::to_string(cause).unwrap();
            assert_eq!(serde_json::from_str::<ErasureCause>(&name).unwrap(), *cause);
        }
        assert_eq!(ErasureState::ALL.map_names(), ["done", "failed", "pending"]);
        assert_eq!(ErasureStorage::ALL.map_names(), ["file", "memory"]);
    }

    trait Names {
        fn map_names(&self) -> Vec<String>;
    }

    impl<T: std::fmt::Display> Names for [T] {
        fn map_names(&self) -> Vec<String> {
            self.iter().map(ToString::to_string).collect()
        }
    }
}
