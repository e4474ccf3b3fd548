//! Makes an [`Analytics`].

use std::{ffi::OsStr, fmt, sync::Arc, time::Duration};

use matrix_sdk::{Client, StoreError};
use tokio::{runtime::Handle, time::timeout};

use super::{
    Analytics,
    claim::{Claim, RecordKey, Taken},
    shared::Shared,
};
use crate::{
    backend::{Backend, DynBackend},
    consent::{
        machine::{Machine, Save, Settings},
        record::Record,
    },
    guard::{Detector, Guard, GuardPolicy},
    matrix::{
        account_data::AccountData,
        record_store::{LoadError, RecordStore},
        session::{self, own_identifiers},
    },
    sink::{
        Sink,
        limits::{Limits, OverflowPolicy},
        queue::QueueError,
    },
};
#[cfg(feature = "sqlite")]
use crate::{
    consent::state::GateState,
    sink::queue::{
        Journal,
        sqlite::{SqliteQueue, open_settings::OpenSettings},
    },
};

/// The account-data event of Element's clients.
///
/// It belongs to Element: a yes in it is a yes to Element's own telemetry. Use it
/// for an app of Element's, or one whose users are told that they decide for both;
/// any other app names a type of its own, such as `org.example.analytics`.
pub const ELEMENT_EVENT_TYPE: &str = "im.vector.analytics";

/// The longest event type, in bytes: Matrix allows no longer one for events in
/// rooms (Client-Server API, "Size limits").
const MAX_EVENT_TYPE_BYTES: usize = 255;

/// What [`AnalyticsBuilder::request_timeout`] can be.
const SHORTEST_REQUEST_TIMEOUT: Duration = Duration::from_millis(10);
const LONGEST_REQUEST_TIMEOUT: Duration = Duration::from_secs(600);

/// Why an [`Analytics`] could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// Another [`Analytics`] for the same user, event type and store is alive in this
    /// process: clone that one instead.
    #[error("there is an Analytics for this account and event type already")]
    AlreadyBuilt,
    /// The event type is empty, over-long, has white space, a slash or a control
    /// character, or belongs to the Matrix specification (`m.…`).
    #[error("the event type cannot be one for analytics")]
    EventType,
    /// What this device remembers was written by a newer version of this crate.
    #[error("the local record was written by a newer version")]
    NewerRecord,
    /// There is no Tokio runtime to run the background tasks.
    #[error("there is no Tokio runtime")]
    NoRuntime,
    /// The client is not logged in.
    #[error("the client has no session")]
    NoSession,
    /// The durable queue cannot be used.
    #[error(transparent)]
    Queue(#[from] QueueError),
    /// What this device remembers could not be read, so that a withdrawal may be
    /// among it.
    #[error("the client's store could not be read")]
    Store(#[source] StoreError),
    /// The client's store did not answer in time: what this device remembers could not be
    /// read, or an [`Analytics`] that was dropped a moment ago is still writing to it.
    #[error("the client's store did not answer in time")]
    StoreTimeout,
}

/// Sets up an [`Analytics`]: what to ask the account for, and where events go.
#[must_use = "a builder does nothing until it is built"]
pub struct AnalyticsBuilder {
    client: Client,
    event_type: String,
    backends: Vec<Box<dyn DynBackend>>,
    #[cfg(feature = "sqlite")]
    queue: Option<SqliteQueue>,
    limits: Limits,
    guard_policy: GuardPolicy,
    detectors: Vec<Box<dyn Detector>>,
    request_timeout: Duration,
    do_not_track: bool,
}

impl From<LoadError> for BuildError {
    fn from(error: LoadError) -> Self {
        match error {
            LoadError::NewerVersion(_) => Self::NewerRecord,
            LoadError::Store(error) => Self::Store(error),
        }
    }
}

impl fmt::Debug for AnalyticsBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AnalyticsBuilder")
            .field("event_type", &self.event_type)
            .field("backends", &self.backends)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

impl AnalyticsBuilder {
    pub(crate) fn new(client: Client, event_type: String) -> Self {
        Self {
            client,
            event_type,
            backends: Vec::new(),
            #[cfg(feature = "sqlite")]
            queue: None,
            limits: Limits::default(),
            guard_policy: GuardPolicy::default(),
            detectors: Vec::new(),
            request_timeout: Duration::from_secs(10),
            do_not_track: is_do_not_track_set(),
        }
    }

    /// Sends events to `backend`, beside those added before.
    pub fn backend(mut self, backend: impl Backend) -> Self {
        self.backends.push(Box::new(backend));
        self
    }

    /// Keeps what waits for a backend in a file, too, so that it outlives the process;
    /// in memory only if not set.
    #[cfg(feature = "sqlite")]
    pub fn queue(mut self, queue: SqliteQueue) -> Self {
        self.queue = Some(queue);
        self
    }

    /// What becomes of an event in which something personal is found; redacted if
    /// not set.
    pub fn guard_policy(mut self, policy: GuardPolicy) -> Self {
        self.guard_policy = policy;
        self
    }

    /// Also keeps back what `detector` finds, beside those added before.
    pub fn detector(mut self, detector: impl Detector) -> Self {
        self.detectors.push(Box::new(detector));
        self
    }

    /// The longest wait for one request to the homeserver; 10 s if not set, at
    /// least 10 ms and at most 10 min.
    ///
    /// A new ID is used once it has held for twice this time, so that two devices
    /// that opt in at once end on the same ID: all apps of an account should use
    /// about the same bound.
    pub fn request_timeout(mut self, request_timeout: Duration) -> Self {
        self.request_timeout =
            request_timeout.clamp(SHORTEST_REQUEST_TIMEOUT, LONGEST_REQUEST_TIMEOUT);
        self
    }

    /// Acts as if `DO_NOT_TRACK` were set, whatever the environment says.
    pub fn do_not_track(mut self) -> Self {
        self.do_not_track = true;
        self
    }

    /// The most events that one request carries; 100 if not set, at least 1.
    pub fn batch_max_events(mut self, events: usize) -> Self {
        self.limits.batch_events = events.max(1);
        self
    }

    /// The most bytes of events that one request carries; 1 MiB if not set.
    ///
    /// An event counts as for [`intake_max_bytes`](Self::intake_max_bytes); one that is
    /// larger than this has a request of its own.
    pub fn batch_max_bytes(mut self, bytes: usize) -> Self {
        self.limits.batch_bytes = bytes;
        self
    }

    /// How long a captured event may wait for company; 10 s if not set. It waits for less
    /// if there are events for a whole request before, or if they fill half of
    /// [`intake_max_bytes`](Self::intake_max_bytes).
    ///
    /// What was captured in this time is in memory only, and is lost with the
    /// process.
    pub fn batch_max_age(mut self, age: Duration) -> Self {
        self.limits.batch_age = age;
        self
    }

    /// How many captured events wait in memory to be batched; 10,000 if not set,
    /// at least 1.
    pub fn intake_max_events(mut self, events: usize) -> Self {
        self.limits.intake_events = events.max(1);
        self
    }

    /// How many bytes of captured events wait in memory to be batched; 8 MiB if not
    /// set.
    ///
    /// For this limit, [`batch_max_bytes`](Self::batch_max_bytes) and
    /// [`queue_max_bytes`](Self::queue_max_bytes), an event counts with its name, with its
    /// properties and the super properties as JSON, as they were captured, and with 160
    /// bytes for what is around them.
    pub fn intake_max_bytes(mut self, bytes: usize) -> Self {
        self.limits.intake_bytes = bytes;
        self
    }

    /// How many events wait for each backend; 10,000 if not set, at least 1.
    pub fn queue_max_events(mut self, events: usize) -> Self {
        self.limits.queue_events = events.max(1);
        self
    }

    /// How many bytes of events wait for each backend; 8 MiB if not set.
    ///
    /// An event counts as for [`intake_max_bytes`](Self::intake_max_bytes). One that is
    /// larger than all of this is dropped, counted as
    /// [`TooLarge`](crate::DropReason::TooLarge), and makes no other leave.
    pub fn queue_max_bytes(mut self, bytes: usize) -> Self {
        self.limits.queue_bytes = bytes;
        self
    }

    /// How long an event waits for a backend before it is dropped; a day if not
    /// set.
    pub fn queue_max_age(mut self, age: Duration) -> Self {
        self.limits.queue_age = age;
        self
    }

    /// Which event goes when the queue is full; the oldest if not set.
    pub fn overflow_policy(mut self, policy: OverflowPolicy) -> Self {
        self.limits.overflow = policy;
        self
    }

    /// The longest time that a backend may take for one batch; 30 s if not set.
    pub fn send_timeout(mut self, time: Duration) -> Self {
        self.limits.send_time = time;
        self
    }

    /// Starts watching the account, and returns the handle.
    ///
    /// Waits for this device's store and for the file of a durable queue, not for the
    /// network: the homeserver is asked in the background. An [`Analytics`] that was dropped
    /// a moment ago saves first what it has to save. Both waits for the store are bounded by
    /// the [`request_timeout`](Self::request_timeout).
    ///
    /// In a process there is one [`Analytics`] for each store, user and event type. Two
    /// processes, or two clients on one directory, may have one each: what one of them saves
    /// is brought together with what the other has saved, and the more closed value wins. One
    /// learns of the other's changes when it saves something itself.
    ///
    /// # Errors
    ///
    /// [`BuildError`].
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, no task was started. The thread of a durable queue may still
    /// be opening its file; it then closes the file again and ends.
    pub async fn build(self) -> Result<Analytics, BuildError> {
        let runtime = Handle::try_current().map_err(|_| BuildError::NoRuntime)?;
        if !is_event_type(&self.event_type) {
            return Err(BuildError::EventType);
        }
        let user = session::user(&self.client).ok_or(BuildError::NoSession)?;
        let records = RecordStore::new(self.client.clone(), &self.event_type, &user);
        let place = RecordKey {
            store: records.store_address(),
            key: records.key().to_vec(),
            session: session::homeserver_and_device(&self.client),
        };
        let claim = timeout(self.request_timeout, Claim::take(place)).await;
        let claim = claim.map_err(|_| BuildError::StoreTimeout)?;
        let mut claim = claim.map_err(|Taken| BuildError::AlreadyBuilt)?;
        let stored = timeout(self.request_timeout, records.load()).await;
        let stored = stored.map_err(|_| BuildError::StoreTimeout)??;
        let record = match claim.unsaved() {
            Some(Save { base, record }) => Record::merge(base, record, &stored),
            None => stored.clone(),
        };
        let settings =
            Settings { do_not_track: self.do_not_track, request_timeout: self.request_timeout };
        let machine = Machine::new(record, stored, settings, fastrand::f64());
        let guard = Arc::new(Guard::new(self.guard_policy, self.detectors));
        // Before anything is restored.
        guard.know(own_identifiers(&self.client));
        #[cfg(feature = "sqlite")]
        let journal = match self.queue {
            Some(queue) => {
                let backends: Vec<_> = self.backends.iter().map(|backend| backend.name()).collect();
                // A gate that is closed has nothing to wait for.
                let closed = matches!(machine.gate(), GateState::Closed(_));
                let keep = (!closed).then(|| machine.epoch());
                let (age, guard) = (self.limits.queue_age, guard.clone());
                let setup = OpenSettings::new(&self.event_type, &user, &backends, age, guard);
                Some(Journal::open(queue, setup, keep).await?)
            }
            None => None,
        };
        let account_data = AccountData::new(
            self.client.clone(),
            user,
            &self.event_type,
            self.request_timeout,
            claim.request_lock(),
        );
        let sink = Sink::new(self.backends, self.limits, guard);
        #[cfg(feature = "sqlite")]
        let sink = match journal {
            Some((journal, restored)) => sink.with_journal(journal, restored),
            None => sink,
        };
        let inner = Shared::new(runtime, self.client, machine, account_data, records, sink);
        claim.take_over();
        Ok(Analytics::start(inner, self.event_type, claim))
    }
}

fn is_event_type(event_type: &str) -> bool {
    let bad = |c: char| c.is_control() || c.is_whitespace() || c == '/';
    !event_type.is_empty()
        && event_type.len() <= MAX_EVENT_TYPE_BYTES
        && !event_type.starts_with("m.")
        && !event_type.contains(bad)
}

#[expect(clippy::disallowed_methods, reason = "the one variable of the environment that is read")]
fn is_do_not_track_set() -> bool {
    asks_not_to_track(std::env::var_os("DO_NOT_TRACK").as_deref())
}

/// Anything but an empty value or `0` asks not to be tracked
/// (consoledonottrack.com).
fn asks_not_to_track(value: Option<&OsStr>) -> bool {
    value.is_some_and(|value| !value.is_empty() && value != "0")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn do_not_track_is_set_by_anything_but_nothing_and_zero() {
        for (value, set) in [
            (None, false),
            (Some(""), false),
            (Some("0"), false),
            (Some("1"), true),
            (Some("false"), true),
        ] {
            assert_eq!(asks_not_to_track(value.map(OsStr::new)), set, "{value:?}");
        }
    }

    #[test]
    fn an_event_type_of_the_specification_or_a_malformed_one_is_refused() {
        for bad in ["", "m.direct", "a b", "a/b", "a\nb", &"x".repeat(256)] {
            assert!(!is_event_type(bad), "{bad:?}");
        }
        assert!(is_event_type(ELEMENT_EVENT_TYPE));
        assert!(is_event_type("org.example.analytics"));
    }
}
