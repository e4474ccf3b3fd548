//! Promises P1 to P6 hold wherever the process stops during an opt-in, an opt-out, or the
//! resumption of one.
//!
//! - [`in_process`] stops a process, with its client and all its tasks, before and after each write
//!   to the client's store, before each account-data request is sent, and after it is applied but
//!   before it is answered. (The moment after the answer is the next point, or the end.)
//! - [`kill`] stops a real process on a real SQLite store with SIGKILL.
//! - [`store_failures`] covers stores that fail instead of stopping.
//!
//! The points are enumerated: a run continues until there is no further point to stop at. The tests
//! assert their numbers.
//!
//! After each stop, the device restarts on the store and account left behind, and the test checks
//! that a written opt-out is still an opt-out and the homeserver is clean; that `true` was written
//! only by an opt-in; that the gate is open only for an opt-in that the homeserver holds, under its
//! ID, and that no event was sent under another; that a user who has decided is not asked again;
//! that members of other clients survive; that the following start sends nothing but its GET; and
//! that a client that restores the retired ID opens nothing.

mod in_process;
#[cfg(unix)]
mod kill;
pub(crate) mod store;
mod store_failures;

use std::{
    future::pending,
    pin::pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    task::Poll,
};

use futures_util::future::BoxFuture;
use matrix_analytics::{
    Analytics, Backend, Batch, Consent, ConsentState, DeliveryError, ELEMENT_EVENT_TYPE, Prompt,
    testing::{AccountDataMethod, AccountDataServer, DeviceLogin},
};
use matrix_sdk::{
    Client, SessionMeta, SessionTokens,
    authentication::matrix::MatrixSession,
    config::{RequestConfig, StoreConfig},
    store::RoomLoadSettings,
};
use tokio::{sync::Notify, time::advance};

use crate::support::{
    ALICE, AnalyticsExt as _, SETTLE, content, eventually, id_in, plain_http_client,
};

/// A member of another client. It must survive everything except an erasure.
const THEIRS: &str = r#""theirs":{"big":123456789012345678901234567890}"#;
/// The ID of a third client.
const OTHER_ID: &str = "7a6b5c4d3e2f1";

/// Returns event content with the given flag and ID, and a member of another client.
fn content_with_theirs(flag: Option<bool>, id: Option<&str>) -> String {
    match content(flag, id).strip_prefix('{').unwrap() {
        "}" => format!("{{{THEIRS}}}"),
        rest => format!("{{{THEIRS},{rest}"),
    }
}

/// One step of an app. Steps run in sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Call {
    /// Waits for the homeserver's first answer.
    Confirm,
    OptIn,
    /// Waits until the ID created by the opt-in is in use.
    Settle,
    OptOut,
    Erase,
}

/// A fact that the app, or the store under it, reports to the test as it happens.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Fact {
    OptInCalled,
    /// The future of an opt-out was polled once; `erase` if it erases the event.
    OptOutPolled {
        erase: bool,
    },
    OptOutReturned,
    /// All calls have returned, and the work that they left is done.
    Complete,
    WriteBegins,
    WriteEnds,
    WriteOfOptOutBegins,
    /// Events were sent under this ID.
    Sent {
        id: String,
    },
}

/// Records facts. The reporter waits until its fact is recorded.
trait Witness: Send + Sync {
    fn report(&self, fact: Fact) -> BoxFuture<'_, ()>;
}

/// Makes `calls`. Each fact is recorded before the next step.
async fn make_calls(analytics: &Analytics, calls: &[Call], witness: &dyn Witness) {
    analytics.capture_one("AtStart");
    for call in calls {
        match call {
            Call::Confirm => {
                analytics.confirmed().await;
                analytics.capture_one("Confirmed");
            }
            Call::OptIn => {
                witness.report(Fact::OptInCalled).await;
                // A withdrawal may have superseded it: the next call is made all the same.
                if analytics.opt_in().await.is_err() {
                    pending::<()>().await;
                }
                analytics.capture_one("OptedIn");
            }
            Call::Settle => {
                advance(SETTLE).await;
                analytics.until(ConsentState::is_open).await;
                analytics.capture_one("Settled");
                eventually(analytics.flush_all()).await;
            }
            Call::OptOut | Call::Erase => {
                let erase = *call == Call::Erase;
                let opt_out = analytics.opt_out();
                let opt_out = if erase { opt_out.erase_event() } else { opt_out };
                let mut opt_out = pin!(opt_out.into_future());
                std::future::poll_fn(|context| {
                    assert!(opt_out.as_mut().poll(context).is_pending());
                    Poll::Ready(())
                })
                .await;
                witness.report(Fact::OptOutPolled { erase }).await;
                analytics.capture_one("OptedOut");
                opt_out.await;
                witness.report(Fact::OptOutReturned).await;
            }
        }
    }
    // Answered after all outstanding work; it fails when offline.
    let _ = analytics.recheck().await;
    witness.report(Fact::Complete).await;
}

/// A backend that reports the ID of each batch.
struct Service {
    witness: Arc<dyn Witness>,
    names: Arc<Mutex<Vec<String>>>,
}

impl Service {
    fn new(witness: Arc<dyn Witness>) -> Self {
        Self { witness, names: Arc::default() }
    }
}

impl Backend for Service {
    fn name(&self) -> &'static str {
        "service"
    }

    async fn send(&self, batch: &Batch) -> Result<(), DeliveryError> {
        let id = batch.distinct_id().to_owned();
        self.witness.report(Fact::Sent { id }).await;
        lock(&self.names).extend(batch.events().map(|event| event.name().to_owned()));
        Ok(())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The state of one process, as reported to the test.
#[derive(Clone, Debug)]
struct Observed {
    /// The decisions that are possible from before this process.
    before: Vec<Consent>,
    /// Whether an erasure was ordered by an earlier process.
    erased_before: bool,
    opt_in_called: bool,
    opt_out_polled: bool,
    erase_polled: bool,
    /// Whether the write in progress contains the opt-out that was polled.
    write_has_opt_out: bool,
    /// Whether the opt-out is in the store.
    opt_out_written: bool,
    opt_out_returned: bool,
    complete: bool,
    /// Broken promises, as noticed while the process ran.
    violations: Vec<String>,
}

impl Observed {
    fn new(before: Vec<Consent>) -> Self {
        Self {
            before,
            erased_before: false,
            opt_in_called: false,
            opt_out_polled: false,
            erase_polled: false,
            write_has_opt_out: false,
            opt_out_written: false,
            opt_out_returned: false,
            complete: false,
            violations: Vec::new(),
        }
    }

    /// Returns the initial state for the process after this one.
    fn next_process(&self) -> Self {
        Self { erased_before: self.may_be_erased(), ..Self::new(self.allowed()) }
    }

    fn may_be_erased(&self) -> bool {
        self.erased_before || self.erase_polled
    }

    fn note(&mut self, fact: &Fact, content: Option<&str>) {
        match fact {
            Fact::OptInCalled => self.opt_in_called = true,
            Fact::OptOutPolled { erase } => {
                self.opt_out_polled = true;
                self.erase_polled |= erase;
            }
            Fact::OptOutReturned => {
                self.opt_out_returned = true;
                if !self.opt_out_written {
                    self.violations.push("the opt-out returned before it was written".to_owned());
                }
            }
            Fact::Complete => self.complete = true,
            // The record is copied before it is merged with the stored one.
            Fact::WriteBegins => self.write_has_opt_out = false,
            Fact::WriteOfOptOutBegins => self.write_has_opt_out = self.opt_out_polled,
            Fact::WriteEnds => self.opt_out_written |= self.write_has_opt_out,
            Fact::Sent { id } => {
                let standing_opt_out = self.before == [Consent::Denied] && !self.opt_in_called;
                if self.opt_out_polled || standing_opt_out {
                    self.violations.push("sent after an opt-out".to_owned());
                }
                if content != Some(&content_with_theirs(Some(true), Some(id)))
                    && content != Some(&crate::support::content(Some(true), Some(id)))
                {
                    self.violations
                        .push("sent under an ID that the homeserver does not hold".to_owned());
                }
            }
        }
    }

    /// Returns the decisions that a restart may find.
    fn allowed(&self) -> Vec<Consent> {
        if self.opt_out_written {
            return vec![Consent::Denied];
        }
        if self.complete && self.opt_in_called {
            return vec![Consent::Granted];
        }
        let mut allowed = self.before.clone();
        if self.opt_in_called {
            allowed.push(Consent::Granted);
        }
        if self.opt_out_polled {
            allowed.push(Consent::Denied);
        }
        allowed
    }
}

/// The ID that must never be used again after an opt-out.
#[derive(Clone, Debug)]
enum Retired {
    /// The ID of the last opt-in, or else this one, which the account had before.
    Known(Option<String>),
    /// An ID that the device never saw.
    Unknown,
}

/// Alice's account, and one of her devices.
struct Account {
    server: AccountDataServer,
    login: DeviceLogin,
    observed: Mutex<Observed>,
    opt_out_polled: Notify,
}

impl Witness for Account {
    fn report(&self, fact: Fact) -> BoxFuture<'_, ()> {
        // Recorded outside the future, because a stopped process does not poll it.
        self.note(&fact);
        Box::pin(std::future::ready(()))
    }
}

impl Account {
    async fn new(held: Option<&str>) -> Arc<Self> {
        let server = AccountDataServer::start().await;
        if let Some(held) = held {
            server.set_content(ALICE, ELEMENT_EVENT_TYPE, held);
        }
        // Each account needs a unique device name. An `Analytics` hands its unsaved record to the
        // next one for the same device in this process, but here the two stand for separate
        // processes.
        static DEVICES: AtomicUsize = AtomicUsize::new(0);
        let number = DEVICES.fetch_add(1, Ordering::Relaxed);
        let login = server.add_device(ALICE, &format!("PHONE{number}"));
        Arc::new(Self {
            server,
            login,
            observed: Mutex::new(Observed::new(vec![Consent::Undecided])),
            opt_out_polled: Notify::new(),
        })
    }

    fn note(&self, fact: &Fact) {
        let content = self.content();
        lock(&self.observed).note(fact, content.as_deref());
        if matches!(fact, Fact::OptOutPolled { .. }) {
            self.opt_out_polled.notify_one();
        }
    }

    fn content(&self) -> Option<String> {
        self.server.content(ALICE, ELEMENT_EVENT_TYPE)
    }

    fn set_content(&self, content: &str) {
        self.server.set_content(ALICE, ELEMENT_EVENT_TYPE, content);
    }

    /// Returns the methods and bodies of the requests since the last call.
    fn take_requests(&self) -> Vec<(AccountDataMethod, String)> {
        let requests = self.server.requests();
        self.server.clear_requests();
        requests.into_iter().map(|request| (request.method, request.body)).collect()
    }

    /// Resets the state for a process that starts after `before`.
    fn process_begins(&self, before: Consent) {
        *lock(&self.observed) = Observed::new(vec![before]);
    }

    /// Resets the state for a process that starts after one that was stopped.
    fn next_process_begins(&self) {
        let mut observed = lock(&self.observed);
        *observed = observed.next_process();
    }

    /// Restarts twice, and checks each state; `open` opens the store for each restart.
    ///
    /// `retired` is the ID that the account had before, if a withdrawal retires it.
    async fn check_restart(
        self: &Arc<Self>,
        open: impl AsyncFn() -> StoreConfig,
        retired: &Retired,
        case: &str,
    ) {
        let observed = lock(&self.observed).clone();
        let held_before = self.content();
        assert_eq!(observed.violations, Vec::<String>::new(), "{case}: {observed:?}");
        let made = self.take_requests().into_iter().rev().find_map(|(method, body)| {
            (method == AccountDataMethod::Put).then(|| id_in(&body)).flatten()
        });
        let retired = match retired {
            // The device remembers only the last ID that it retired.
            Retired::Known(before) => made.or_else(|| before.clone()),
            Retired::Unknown => None,
        };
        let allowed = observed.allowed();
        self.next_process_begins();

        let (analytics, names) = self.start(open().await, self.clone()).await;
        analytics.capture_one("AtRestart");
        let state = analytics.until(|state| state.confirmed && !state.removal_pending).await;
        let case =
            format!("{case}: {observed:?} -> {state:?}, {held_before:?} -> {:?}", self.content());
        analytics.capture_one("Later");
        eventually(analytics.flush_all()).await;
        eventually(analytics.recheck()).await.unwrap();

        let held = self.content();
        assert!(allowed.contains(&state.decision), "{case}");
        assert_eq!(analytics.state(), state, "{case}");
        assert_eq!(lock(&self.observed).violations, Vec::<String>::new(), "{case}");
        let names = lock(&names).clone();
        let from_before = names.iter().any(|name| name != "AtRestart" && name != "Later");
        assert!(!from_before, "{case}: {names:?}");
        let flag_and_id = held.as_deref().map(|held| (flag_in(held), id_in(held)));
        match state.decision {
            Consent::Granted => {
                assert!(state.is_open(), "{case}");
                let id = analytics.analytics_id().map(|id| id.reveal().to_owned());
                assert!(id.is_some(), "{case}");
                assert_eq!(flag_and_id, Some((Some(true), id)), "{case}");
                assert!(names.contains(&"Later".to_owned()), "{case}");
                assert_eq!(state.prompt(), Prompt::DontAsk, "{case}");
            }
            Consent::Denied => {
                assert!(!analytics.is_open() && names.is_empty(), "{case}");
                let clean = [Some((Some(false), None)), Some((None, None)), None];
                assert!(clean.contains(&flag_and_id), "{case}");
                assert_eq!(state.prompt(), Prompt::DontAsk, "{case}");
            }
            Consent::Undecided => {
                assert!(!analytics.is_open() && names.is_empty(), "{case}");
                assert_eq!(state.prompt(), Prompt::Ask, "{case}");
                assert_eq!(held, held_before, "{case}");
            }
            _ => unreachable!("{case}"),
        }
        // Members of other clients survive, and this process writes no opt-in.
        let theirs =
            |held: &Option<String>| held.as_ref().is_some_and(|held| held.contains(THEIRS));
        assert!(observed.may_be_erased() || theirs(&held) == theirs(&held_before), "{case}");
        for (method, body) in self.take_requests() {
            assert!(method != AccountDataMethod::Put || flag_in(&body) != Some(true), "{case}");
        }
        drop(analytics);

        // Nothing is left to do: the next start only reads.
        let (analytics, _) = self.start(open().await, self.clone()).await;
        analytics.confirmed().await;
        assert_eq!(analytics.state(), state, "{case}");
        assert_eq!(self.take_requests().len(), 1, "{case}");
        if state.decision != Consent::Denied {
            return;
        }

        // A client that restores the previous ID does not opt in.
        if let Some(retired) = retired {
            self.process_begins(Consent::Denied);
            self.set_content(&content(Some(true), Some(&retired)));
            let now = eventually(analytics.recheck()).await.unwrap();
            assert_eq!(now.decision, Consent::Denied, "{case}: {retired} was restored");
            assert_eq!(self.content().unwrap(), content(Some(false), None), "{case}");
        }
    }

    async fn client(&self, homeserver: &str, store: StoreConfig) -> Client {
        client_of(homeserver, &self.login.device_id, &self.login.access_token, store).await
    }

    async fn start(
        &self,
        store: StoreConfig,
        witness: Arc<dyn Witness>,
    ) -> (Analytics, Arc<Mutex<Vec<String>>>) {
        let client = self.client(self.server.uri(), store).await;
        start(client, witness).await
    }
}

async fn start(client: Client, witness: Arc<dyn Witness>) -> (Analytics, Arc<Mutex<Vec<String>>>) {
    let service = Service::new(witness);
    let names = service.names.clone();
    let analytics =
        Analytics::builder(client, ELEMENT_EVENT_TYPE).backend(service).build().await.unwrap();
    (analytics, names)
}

/// Creates a client for Alice's device. It may run in another process than its homeserver.
pub(crate) async fn client_of(
    homeserver: &str,
    device_id: &str,
    access_token: &str,
    store: StoreConfig,
) -> Client {
    let client = Client::builder()
        .homeserver_url(homeserver)
        .http_client(plain_http_client())
        .request_config(RequestConfig::new().disable_retry())
        .store_config(store)
        .build()
        .await
        .unwrap();
    let meta = SessionMeta { user_id: ALICE.try_into().unwrap(), device_id: device_id.into() };
    let tokens = SessionTokens { access_token: access_token.to_owned(), refresh_token: None };
    let session = MatrixSession { meta, tokens };
    client.matrix_auth().restore_session(session, RoomLoadSettings::default()).await.unwrap();
    client
}

/// Returns the flag in `content`.
fn flag_in(content: &str) -> Option<bool> {
    let content: serde_json::Value = serde_json::from_str(content).unwrap();
    content.get("pseudonymousAnalyticsOptIn").and_then(serde_json::Value::as_bool)
}
