//! Promises P1 to P6 hold after the process stopped anywhere in an opt-in, an
//! opt-out, or the resumption of one.
//!
//! - [`in_process`] stops a process, its client and all its tasks before and after
//!   every write to the client's store, and before every account-data request is
//!   sent and after it was applied but before its answer came (that an answer came is
//!   the next point, or the end).
//! - [`kill`] does the same to a real process on a real SQLite store, with SIGKILL.
//! - [`store_failures`] has what a store can do other than stop.
//!
//! The points are enumerated by running until nothing is left to stop at. The tests assert
//! how many there are.
//!
//! Each time the device then restarts on what is left, and the test asks: is a no
//! that was written still a no, and the homeserver clean? Was no `true` written
//! without an opt-in? Is the gate open only for what the homeserver holds, under its
//! ID, and was nothing sent under another? Is nobody asked who has decided? Do other
//! people's members survive? Is the next start quiet? And does a client that restores
//! the retired ID open nothing?

mod in_process;
#[cfg(unix)]
mod kill;
mod store;
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

/// A member of another client, which has to survive all that is not an erasure.
const THEIRS: &str = r#""theirs":{"big":123456789012345678901234567890}"#;
/// An ID of a third client.
const OTHER_ID: &str = "7a6b5c4d3e2f1";

/// A content with the flag and the ID given, and a member of another client.
fn beside_theirs(flag: Option<bool>, id: Option<&str>) -> String {
    match content(flag, id).strip_prefix('{').unwrap() {
        "}" => format!("{{{THEIRS}}}"),
        rest => format!("{{{THEIRS},{rest}"),
    }
}

/// What an app does, one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Call {
    /// Waits for the homeserver's first answer.
    Confirm,
    OptIn,
    /// Waits until the ID that an opt-in made is in use.
    Settle,
    OptOut,
    Erase,
}

/// What an app, or the store under it, lets the test know at once.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Fact {
    OptInCalled,
    /// The future of an opt-out was polled once; `erase`: of one that erases.
    OptOutPolled {
        erase: bool,
    },
    OptOutReturned,
    /// All calls were made, and what they left to do is done.
    Complete,
    WriteBegins,
    WriteEnds,
    WriteOfNoBegins,
    /// Events were sent under this ID.
    Sent {
        id: String,
    },
}

/// Takes a fact down; what happens next waits for it.
trait Witness: Send + Sync {
    fn tell(&self, fact: Fact) -> BoxFuture<'_, ()>;
}

/// Makes `calls`. The facts are told before anything else can happen.
async fn act(analytics: &Analytics, calls: &[Call], witness: &dyn Witness) {
    analytics.capture_one("AtStart");
    for call in calls {
        match call {
            Call::Confirm => {
                analytics.confirmed().await;
                analytics.capture_one("Confirmed");
            }
            Call::OptIn => {
                witness.tell(Fact::OptInCalled).await;
                if analytics.opt_in().await.is_err() {
                    // A withdrawal overtook it, and is what goes on.
                    pending::<()>().await;
                }
                analytics.capture_one("OptedIn");
            }
            Call::Settle => {
                advance(SETTLE).await;
                analytics.until(ConsentState::is_open).await;
                analytics.capture_one("Settled");
                eventually(analytics.flush()).await;
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
                witness.tell(Fact::OptOutPolled { erase }).await;
                analytics.capture_one("OptedOut");
                opt_out.await;
                witness.tell(Fact::OptOutReturned).await;
            }
        }
    }
    // Is answered after what is left to do; offline, it fails.
    let _ = analytics.recheck().await;
    witness.tell(Fact::Complete).await;
}

/// Tells under which ID it was sent something.
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
        let id = batch.analytics_id().reveal().to_owned();
        self.witness.tell(Fact::Sent { id }).await;
        lock(&self.names).extend(batch.events().map(|event| event.name().to_owned()));
        Ok(())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What the test knows of the process that it stops.
#[derive(Clone, Debug)]
struct Told {
    /// What may hold by what the user had said before that process began.
    before: Vec<Consent>,
    /// An erasure was ordered before.
    erased_before: bool,
    opt_in_called: bool,
    opt_out_polled: bool,
    erase_polled: bool,
    /// The write now out has the no of the opt-out that was polled.
    write_has_no: bool,
    /// The no is in the store.
    no_written: bool,
    opt_out_returned: bool,
    complete: bool,
    /// What broke a promise while it ran.
    broken: Vec<String>,
}

impl Told {
    fn new(before: Vec<Consent>) -> Self {
        Self {
            before,
            erased_before: false,
            opt_in_called: false,
            opt_out_polled: false,
            erase_polled: false,
            write_has_no: false,
            no_written: false,
            opt_out_returned: false,
            complete: false,
            broken: Vec::new(),
        }
    }

    /// What is known when the next process begins.
    fn next_process(&self) -> Self {
        Self { erased_before: self.may_be_erased(), ..Self::new(self.allowed()) }
    }

    fn may_be_erased(&self) -> bool {
        self.erased_before || self.erase_polled
    }

    fn hear(&mut self, fact: &Fact, content: Option<&str>) {
        match fact {
            Fact::OptInCalled => self.opt_in_called = true,
            Fact::OptOutPolled { erase } => {
                self.opt_out_polled = true;
                self.erase_polled |= erase;
            }
            Fact::OptOutReturned => {
                self.opt_out_returned = true;
                if !self.no_written {
                    self.broken.push("the opt-out returned before it was written".to_owned());
                }
            }
            Fact::Complete => self.complete = true,
            // A record is copied before it is brought together with what is stored.
            Fact::WriteBegins => self.write_has_no = false,
            Fact::WriteOfNoBegins => self.write_has_no = self.opt_out_polled,
            Fact::WriteEnds => self.no_written |= self.write_has_no,
            Fact::Sent { id } => {
                let standing_no = self.before == [Consent::Denied] && !self.opt_in_called;
                if self.opt_out_polled || standing_no {
                    self.broken.push("sent after a no".to_owned());
                }
                if content != Some(&beside_theirs(Some(true), Some(id)))
                    && content != Some(&crate::support::content(Some(true), Some(id)))
                {
                    self.broken.push("sent under what the homeserver does not hold".to_owned());
                }
            }
        }
    }

    /// Which decisions a restart may find.
    fn allowed(&self) -> Vec<Consent> {
        if self.no_written {
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

/// The ID that is never to be used again after a no.
#[derive(Clone, Debug)]
enum Retired {
    /// The last that an opt-in made, or this one that the account had before.
    Known(Option<String>),
    /// One that the device never saw.
    Unknown,
}

/// Alice's account and one device of hers.
struct Account {
    server: AccountDataServer,
    login: DeviceLogin,
    told: Mutex<Told>,
    opt_out_polled: Notify,
}

impl Witness for Account {
    fn tell(&self, fact: Fact) -> BoxFuture<'_, ()> {
        // Not in the future: a stopped process had no chance to wait for it.
        self.hear(&fact);
        Box::pin(std::future::ready(()))
    }
}

impl Account {
    async fn new(held: Option<&str>) -> Arc<Self> {
        let server = AccountDataServer::start().await;
        if let Some(held) = held {
            server.set_content(ALICE, ELEMENT_EVENT_TYPE, held);
        }
        // A name of its own: an `Analytics` leaves what it could not save to the next one of
        // its device in this process, which here stands for processes that know nothing of
        // each other.
        static DEVICES: AtomicUsize = AtomicUsize::new(0);
        let number = DEVICES.fetch_add(1, Ordering::Relaxed);
        let login = server.add_device(ALICE, &format!("PHONE{number}"));
        Arc::new(Self {
            server,
            login,
            told: Mutex::new(Told::new(vec![Consent::Undecided])),
            opt_out_polled: Notify::new(),
        })
    }

    fn hear(&self, fact: &Fact) {
        let content = self.content();
        lock(&self.told).hear(fact, content.as_deref());
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

    /// The methods and bodies of the requests since the last call.
    fn take_requests(&self) -> Vec<(AccountDataMethod, String)> {
        let requests = self.server.requests();
        self.server.clear_requests();
        requests.into_iter().map(|request| (request.method, request.body)).collect()
    }

    /// Begins the life of a process.
    fn process_begins(&self, before: Consent) {
        *lock(&self.told) = Told::new(vec![before]);
    }

    /// Begins the life of a process after one that was stopped.
    fn next_process_begins(&self) {
        let mut told = lock(&self.told);
        *told = told.next_process();
    }

    /// Checks what a restart finds, on a store that `open` opens anew each time.
    ///
    /// `retired` is the ID that the account had before, if a withdrawal retires it.
    async fn check_restart(
        self: &Arc<Self>,
        open: impl AsyncFn() -> StoreConfig,
        retired: &Retired,
        case: &str,
    ) {
        let told = lock(&self.told).clone();
        let held_before = self.content();
        assert_eq!(told.broken, Vec::<String>::new(), "{case}: {told:?}");
        let made = self.take_requests().into_iter().rev().find_map(|(method, body)| {
            (method == AccountDataMethod::Put).then(|| id_in(&body)).flatten()
        });
        let retired = match retired {
            // A device remembers the last ID that it retired.
            Retired::Known(before) => made.or_else(|| before.clone()),
            Retired::Unknown => None,
        };
        let allowed = told.allowed();
        self.next_process_begins();

        let (analytics, names) = self.start(open().await, self.clone()).await;
        analytics.capture_one("AtRestart");
        let state = analytics.until(|state| state.confirmed && !state.removal_pending).await;
        let case =
            format!("{case}: {told:?} -> {state:?}, {held_before:?} -> {:?}", self.content());
        analytics.capture_one("Later");
        eventually(analytics.flush()).await;
        eventually(analytics.recheck()).await.unwrap();

        let held = self.content();
        assert!(allowed.contains(&state.decision), "{case}");
        assert_eq!(analytics.state(), state, "{case}");
        assert_eq!(lock(&self.told).broken, Vec::<String>::new(), "{case}");
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
        // Other people's members survive, and nobody said yes in this process.
        let theirs =
            |held: &Option<String>| held.as_ref().is_some_and(|held| held.contains(THEIRS));
        assert!(told.may_be_erased() || theirs(&held) == theirs(&held_before), "{case}");
        for (method, body) in self.take_requests() {
            assert!(method != AccountDataMethod::Put || flag_in(&body) != Some(true), "{case}");
        }
        drop(analytics);

        // It is over: the next start only asks.
        let (analytics, _) = self.start(open().await, self.clone()).await;
        analytics.confirmed().await;
        assert_eq!(analytics.state(), state, "{case}");
        assert_eq!(self.take_requests().len(), 1, "{case}");
        if state.decision != Consent::Denied {
            return;
        }

        // A client that restores the ID of before is no new yes.
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

/// A client of Alice's device, which may be in another process than its homeserver.
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

/// The flag of a content.
fn flag_in(content: &str) -> Option<bool> {
    let content: serde_json::Value = serde_json::from_str(content).unwrap();
    content.get("pseudonymousAnalyticsOptIn").and_then(serde_json::Value::as_bool)
}
