//! The builder of an [`Analytics`].

use std::{ffi::OsStr, fmt, sync::Arc, time::Duration};

use matrix_sdk::Client;
use tokio::{runtime::Handle, time::timeout};

use super::{
    Analytics,
    build_error::BuildError,
    claim::{Claim, RecordKey, Taken},
    consent_record::Decisions,
    erasures::{Erasures, Target},
    shared::{Parts, Shared},
};
#[cfg(feature = "rageshake")]
use crate::recent_logs::RecentLogs;
use crate::{
    backend::{Destination, DynBackend, Recipient, identity::KnownAs, unique_names::unique_names},
    consent::{
        machine::{Machine, Save, Settings},
        policy::{Policy, member::POLICY},
        record::Record,
    },
    consent_record::AgreedPolicy,
    disclosure::{Configuration, DisclosedRecipient},
    event::{Properties, UserProperties, unix_time::unix_millis},
    guard::{Detector, Guard, GuardPolicy, TextPolicy},
    history::{History, recorded::Recorded, sent_event::Addressee},
    matrix::{
        account_data::{AccountData, sender::Sender},
        record_store::RecordStore,
        session::{self, own_identifiers},
    },
    sink::{Sink, limits::Limits},
};
#[cfg(feature = "sqlite")]
use crate::{
    disclosure::QueueFile,
    sink::queue::{
        Journal,
        sqlite::{SqliteQueue, open_settings::OpenSettings},
    },
};

/// The type of the account-data event of Element's clients, `im.vector.analytics`.
///
/// It belongs to Element: an opt-in in it is an opt-in to Element's own telemetry. Use it for an
/// app of Element's, or for one whose users are told that they decide for both; any other app
/// names a type of its own, such as `org.example.analytics`.
pub const ELEMENT_EVENT_TYPE: &str = "im.vector.analytics";

/// The longest event type, in bytes: the limit that Matrix has for events in rooms
/// (Client-Server API, "Size limits").
const MAX_EVENT_TYPE_BYTES: usize = 255;

/// The highest value of [`AnalyticsBuilder::history`].
const LONGEST_HISTORY: usize = 1000;

/// The range of [`AnalyticsBuilder::request_timeout`].
const SHORTEST_REQUEST_TIMEOUT: Duration = Duration::from_millis(10);
const LONGEST_REQUEST_TIMEOUT: Duration = Duration::from_secs(600);

/// A builder of an [`Analytics`]; created by [`Analytics::builder`].
#[must_use = "a builder does nothing until it is built"]
pub struct AnalyticsBuilder {
    client: Client,
    event_type: String,
    recipients: Vec<Recipient>,
    #[cfg(feature = "sqlite")]
    queue: Option<SqliteQueue>,
    limits: Limits,
    super_properties: Properties,
    user_properties: UserProperties,
    guard_policy: GuardPolicy,
    text_policy: TextPolicy,
    detectors: Vec<Box<dyn Detector>>,
    request_timeout: Duration,
    do_not_track: bool,
    history: Option<usize>,
    policy: Option<Policy>,
    #[cfg(feature = "rageshake")]
    recent_logs: Option<RecentLogs>,
}

impl fmt::Debug for AnalyticsBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AnalyticsBuilder")
            .field("event_type", &self.event_type)
            .field("recipients", &self.recipients)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

impl AnalyticsBuilder {
    pub(crate) fn new(client: Client, event_type: String) -> Self {
        Self {
            client,
            event_type,
            recipients: Vec::new(),
            #[cfg(feature = "sqlite")]
            queue: None,
            limits: Limits::default(),
            super_properties: Properties::new(),
            user_properties: UserProperties::new(),
            guard_policy: GuardPolicy::default(),
            text_policy: TextPolicy::default(),
            detectors: Vec::new(),
            request_timeout: Duration::from_secs(10),
            do_not_track: is_do_not_track_set(),
            history: None,
            policy: None,
            #[cfg(feature = "rageshake")]
            recent_logs: None,
        }
    }

    /// Sends events to `backend`, in addition to those added before. A [`Recipient`] also
    /// declares whose service that is, for [`Analytics::disclosure`].
    pub fn backend(mut self, backend: impl Into<Recipient>) -> Self {
        self.recipients.push(backend.into());
        self
    }

    /// Keeps waiting events in a file as well, so that they outlive the process; in memory only
    /// if not set.
    #[cfg(feature = "sqlite")]
    pub fn queue(mut self, queue: SqliteQueue) -> Self {
        self.queue = Some(queue);
        self
    }

    /// Sets properties of every event, such as the name and the version of the app. A property
    /// of the event itself wins. Replaces the properties of an earlier call.
    ///
    /// They apply from the first event on, and again after every withdrawal, so they can be
    /// set before the user was asked.
    /// [`Analytics::set_super_properties`] adds others at run time.
    pub fn super_properties(mut self, properties: impl Into<Properties>) -> Self {
        self.super_properties = properties.into();
        self
    }

    /// Sets properties of the user. Replaces the properties of an earlier call.
    ///
    /// They leave with the first events after each opening of the gate: after an opt-in, after
    /// a change of the ID, and after a restart. So they can be set before the user was asked.
    /// [`Analytics::set_user_properties`] adds others at run time.
    pub fn user_properties(mut self, properties: impl Into<UserProperties>) -> Self {
        self.user_properties = properties.into();
        self
    }

    /// Sets what happens to an event in which something personal is found; it is redacted if
    /// not set.
    pub fn guard_policy(mut self, policy: GuardPolicy) -> Self {
        self.guard_policy = policy;
        self
    }

    /// Sets which texts may leave at all; all of them if not set, after the guard has inspected
    /// them. [`TextPolicy::Refuse`] is recommended for new apps.
    pub fn text_policy(mut self, policy: TextPolicy) -> Self {
        self.text_policy = policy;
        self
    }

    /// Treats the findings of `detector` as personal, in addition to those added before.
    pub fn detector(mut self, detector: impl Detector) -> Self {
        self.detectors.push(Box::new(detector));
        self
    }

    /// Sets the longest wait for one request to the homeserver; 10 s if not set, at least 10 ms
    /// and at most 10 min.
    ///
    /// A new ID is used once it has held for twice this time, so that two devices that opt in at
    /// once end on the same ID. All apps of an account should use about the same value.
    pub fn request_timeout(mut self, request_timeout: Duration) -> Self {
        self.request_timeout =
            request_timeout.clamp(SHORTEST_REQUEST_TIMEOUT, LONGEST_REQUEST_TIMEOUT);
        self
    }

    /// Keeps the newest `events` sent events in memory, for [`Analytics::history`]; none if not
    /// set. At least 1 and at most 1000, and at most 4 MiB. With `SqliteQueue::keep_history`, a
    /// durable queue keeps them in its file as well.
    ///
    /// An event counts once for each recipient. The history is wiped whenever queued events
    /// are: at a withdrawal here or elsewhere, at a change of the ID, when the consent is not
    /// confirmed, at a veto of this device, and at the end of the session.
    pub fn history(mut self, events: usize) -> Self {
        self.history = Some(events.clamp(1, LONGEST_HISTORY));
        self
    }

    /// Opens the gate only if the user agreed to `policy`; after any opt-in if not set.
    ///
    /// An opt-in then writes into the account's event which version the user agreed to, when,
    /// and to which recipients. The event keeps the newest eight versions, so that devices with
    /// different versions of the app do not ask in turns. An opt-out removes them all.
    ///
    /// If the account has no such entry for `policy`, the gate stays
    /// [`Closed(PolicyNotAgreed)`](crate::ClosedReason::PolicyNotAgreed) and
    /// [`Analytics::should_ask`] returns `true`. If the user agrees, call
    /// [`Analytics::opt_in`], which keeps the ID; otherwise [`Analytics::opt_out`]. Under one ID,
    /// each device asks at most once for each version, even if another client removes the entries.
    pub fn policy(mut self, policy: Policy) -> Self {
        self.policy = Some(policy);
        self
    }

    /// Empties `logs` when the session ends: when the app calls [`Analytics::end_session`], or
    /// when the homeserver no longer accepts the token.
    #[cfg(feature = "rageshake")]
    pub fn recent_logs(mut self, logs: RecentLogs) -> Self {
        self.recent_logs = Some(logs);
        self
    }

    /// Acts as if `DO_NOT_TRACK` were set, whatever the environment holds.
    pub fn do_not_track(mut self) -> Self {
        self.do_not_track = true;
        self
    }

    /// Sets how much is kept and sent, and for how long; [`Limits::default`] if not set.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Starts to watch the account, and returns the handle.
    ///
    /// Waits for this device's store and for the file of a durable queue, not for the network:
    /// the homeserver is asked in the background. If the file has an opt-out with erasures that
    /// the store lacks, because the process ended in it, the opt-out is made again. An
    /// [`Analytics`] that was dropped a moment ago saves its changes first. The waits for that, for
    /// the record of consent and for the record of decisions are bounded by the
    /// [`request_timeout`](Self::request_timeout) each. `build` succeeds even if the record of
    /// decisions cannot be read.
    ///
    /// A process can have one [`Analytics`] for each store, user and event type. Two processes,
    /// or two clients on one directory, can have one each: their changes are merged, and the
    /// more closed value wins. Each learns of the other's changes when it saves its own.
    ///
    /// # Errors
    ///
    /// [`BuildError`].
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, no task is started. The thread of a durable queue may still be
    /// opening its file; it then closes the file again and ends.
    pub async fn build(mut self) -> Result<Analytics, BuildError> {
        let runtime = Handle::try_current().map_err(|_| BuildError::NoRuntime)?;
        if !is_event_type(&self.event_type) {
            return Err(BuildError::EventType);
        }
        self.super_properties.check().map_err(BuildError::SuperProperties)?;
        self.user_properties.check().map_err(BuildError::UserProperties)?;
        let policy = self.policy.map(|policy| checked(policy, &self.recipients)).transpose()?;
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
        #[cfg_attr(not(feature = "sqlite"), expect(unused_mut, reason = "a file may change it"))]
        let mut machine = Machine::new(record, stored, settings, fastrand::f64())
            .with_policy(policy.clone(), unix_millis());
        let agreed =
            policy.as_ref().map(|policy| AgreedPolicy { version: policy.version().to_owned() });
        let guard = Guard::new(self.guard_policy, self.detectors);
        let guard = Arc::new(guard.with_text_policy(self.text_policy));
        let all_known_as = Recipient::all_known_as(&self.recipients)?;
        let configuration = Configuration {
            recipients: self.recipients.iter().map(DisclosedRecipient::new).collect(),
            #[cfg(feature = "sqlite")]
            queue: self.queue.as_ref().map(|queue| {
                let has_history = self.history.is_some() && queue.keeps_history();
                QueueFile::new(queue.described(), has_history)
            }),
            #[cfg(not(feature = "sqlite"))]
            queue: None,
            queue_age: self.limits.queue_age,
            history: self.history,
            policy_member: policy.is_some().then_some(POLICY),
        };
        let history = self.history.map(|most| Arc::new(History::new(most)));
        let names = configuration.recipients.iter().map(|recipient| recipient.name.clone());
        let names_of_backends: Vec<_> = self.recipients.iter().map(|r| r.backend.name()).collect();
        let unique_names = unique_names(&names_of_backends);
        let targets = Target::take_all(&mut self.recipients);
        #[cfg_attr(not(feature = "sqlite"), expect(unused_mut, reason = "a file may fill it"))]
        let mut erasures = Erasures::new(targets, &self.limits);
        let lanes: Vec<_> = unique_names.iter().zip(&all_known_as).map(lane_name).collect();
        let backends = self.recipients.into_iter().map(|recipient| recipient.backend);
        let mut backends: Vec<_> = backends.collect();
        if let Some(history) = &history {
            let recorded = |((backend, name), lane)| -> Box<dyn DynBackend> {
                let to = Arc::new(Addressee { backend: lane, name });
                Box::new(Recorded { backend, to, history: history.clone() })
            };
            backends = backends.into_iter().zip(names).zip(lanes.clone()).map(recorded).collect();
        }
        // Before anything is restored.
        guard.know(own_identifiers(&self.client));
        #[cfg(feature = "sqlite")]
        let journal = match self.queue {
            Some(queue) => {
                let keep = machine.keep_events().then(|| machine.epoch());
                let (age, guard) = (self.limits.queue_age, guard.clone());
                let keeps_erasures = queue.is_encrypted();
                let kept_history = history.clone().filter(|_| queue.keeps_history());
                let setup = OpenSettings::new(&self.event_type, &user, lanes, age, guard)
                    .with_history(kept_history);
                let (journal, mut restored) = Journal::open(queue, setup, keep).await?;
                if keeps_erasures {
                    let found = std::mem::take(&mut restored.erasures);
                    erasures.keep_in(journal.clone(), &found, &mut machine);
                }
                Some((journal, restored))
            }
            None => None,
        };
        let account_data = AccountData::new(
            self.client.clone(),
            Sender::new(self.client.clone()),
            user,
            &self.event_type,
            self.request_timeout,
            claim.request_lock(),
        )
        .with_policy(policy);
        let destinations = backends
            .into_iter()
            .zip(all_known_as)
            .map(|(backend, known_as)| Destination { backend, known_as })
            .collect();
        let sink = Sink::new(destinations, self.limits, guard)
            .with_properties(self.super_properties, self.user_properties);
        #[cfg(feature = "sqlite")]
        let sink = match journal {
            Some((journal, restored)) => sink.with_journal(journal, restored),
            None => sink,
        };
        let decisions = Decisions::load(
            runtime.clone(),
            records.clone(),
            &configuration.recipients,
            agreed,
            machine.known_decision(),
            self.request_timeout,
        );
        let decisions = decisions.await;
        let parts = Parts {
            runtime,
            client: self.client,
            account_data,
            record_store: records,
            sink,
            configuration,
            history,
            erasures,
            decisions,
            #[cfg(feature = "rageshake")]
            recent_logs: self.recent_logs,
        };
        let inner = Shared::new(machine, parts);
        claim.take_over();
        Ok(Analytics::start(inner, self.event_type, claim))
    }
}

/// Returns the name of a recipient in the file of a durable queue. An event that waits for a
/// recipient is never sent to one that knows the person by another identifier.
fn lane_name((name, known_as): (&String, &KnownAs)) -> String {
    match known_as.tag() {
        Some(tag) => format!("{name}/{tag}"),
        None => name.clone(),
    }
}

/// Returns `policy` if it is valid and, where it names recipients, names each of these.
fn checked(policy: Policy, recipients: &[Recipient]) -> Result<Arc<Policy>, BuildError> {
    policy.check().map_err(BuildError::Policy)?;
    let unnamed = recipients.iter().find(|recipient| !policy.allows(&recipient.public_label()));
    match unnamed {
        Some(recipient) => Err(BuildError::NotInPolicy { recipient: recipient.shown_name() }),
        None => Ok(Arc::new(policy)),
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

/// Returns whether `value` asks not to be tracked: it does unless it is empty or `0`
/// (consoledonottrack.com).
fn asks_not_to_track(value: Option<&OsStr>) -> bool {
    value.is_some_and(|value| !value.is_empty() && value != "0")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn do_not_track_is_set_unless_it_is_empty_or_zero() {
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
