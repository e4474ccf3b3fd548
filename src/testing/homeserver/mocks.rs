//! The two wiremock mocks that make up the homeserver.

use std::{
    convert, io, mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::watch;
use wiremock::{Match, Mock, MockServer, Request, Respond, ResponseTemplate};

use super::{
    AccountDataMethod, AccountDataServer,
    reply::{Decision, Reply},
    route::Route,
    state::{Moment, State},
};

pub(super) struct Shared {
    pub(super) uri: String,
    scope: Scope,
    state: Mutex<State>,
    /// The first mock's decision about the current request, for the mock that carries it
    /// out.
    decision: Mutex<Option<Decision>>,
    /// Counts client activity, to wake up waiting tests.
    pub(super) activity: watch::Sender<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    AccountData,
    Everything,
}

impl Shared {
    pub(super) async fn mount(server: &MockServer, scope: Scope) -> Arc<Self> {
        let shared = Arc::new(Self {
            uri: server.uri(),
            scope,
            state: Mutex::default(),
            decision: Mutex::default(),
            activity: watch::Sender::new(0),
        });
        // The order matters: wiremock asks mocks of equal priority in the order of
        // mounting.
        Mock::given(Answering(Arc::clone(&shared)))
            .respond_with(Answering(Arc::clone(&shared)))
            .with_priority(AccountDataServer::PRIORITY)
            .named("account data")
            .mount(server)
            .await;
        Mock::given(Resetting(Arc::clone(&shared)))
            .respond_with_err(|_: &Request| io::Error::from(io::ErrorKind::ConnectionReset))
            .with_priority(AccountDataServer::PRIORITY)
            .named("account data, connection reset")
            .mount(server)
            .await;
        shared
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn decision(&self) -> MutexGuard<'_, Option<Decision>> {
        self.decision.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Applies a request. Returns `None` if the request is for another mock.
    fn decide(self: &Arc<Self>, request: &Request) -> Option<Decision> {
        let route = Route::of(request)?;
        if self.scope == Scope::AccountData && !route.is_account_data() {
            return None;
        }
        let decision = match route {
            Route::AccountData(path) => {
                let method = path.method;
                let has_hooks = !path.is_of_specification();
                if has_hooks {
                    self.run_hook(method, Moment::BeforeApplied);
                }
                let decision = self.state().account_data(path, request);
                if has_hooks {
                    self.run_hook(method, Moment::BeforeAnswered);
                }
                decision
            }
            other => Decision::Answer(self.state().other(&other, request)),
        };
        self.activity.send_modify(|count| *count += 1);
        Some(decision)
    }

    /// Runs the hook without holding the lock, so that it can change the state.
    fn run_hook(self: &Arc<Self>, method: AccountDataMethod, moment: Moment) {
        let hook = {
            let mut state = self.state();
            state
                .hooks
                .iter()
                .position(|hook| hook.method == method && hook.moment == moment)
                .map(|index| state.hooks.remove(index))
        };
        if let Some(hook) = hook {
            (hook.action)(&AccountDataServer { shared: Arc::clone(self), _server: None });
        }
    }
}

impl State {
    fn other(&mut self, route: &Route, request: &Request) -> Reply {
        let reply = match route {
            Route::AccountData(_) | Route::AccountDataWrongMethod => Ok(Reply::unrecognized(405)),
            Route::Filter => self.filter(request),
            Route::KeysQuery => self.keys_query(request),
            Route::KeysUpload => self.keys_upload(request),
            Route::Login => Ok(self.login(request)),
            Route::LoginFlows => Ok(Self::login_flows()),
            Route::Logout => self.logout(request),
            Route::LogoutAll => self.logout_all(request),
            Route::Refresh => Ok(self.refresh(request)),
            Route::SlidingSync => self.sliding_sync(request),
            Route::Sync => self.sync(request),
            Route::Versions => Ok(self.versions()),
            Route::Whoami => self.whoami(request),
        };
        reply.unwrap_or_else(convert::identity)
    }
}

/// The first mock: applies a request and answers it, unless the connection is to be
/// reset.
///
/// A matcher with side effects is sound here, because wiremock handles one request at a
/// time, tries matchers in order until one matches, and calls the responder right after
/// that.
struct Answering(Arc<Shared>);

impl Match for Answering {
    fn matches(&self, request: &Request) -> bool {
        let decision = self.0.decide(request);
        let answers = matches!(decision, Some(Decision::Answer(_)));
        *self.0.decision() = decision;
        answers
    }
}

impl Respond for Answering {
    fn respond(&self, _: &Request) -> ResponseTemplate {
        match mem::take(&mut *self.0.decision()) {
            Some(Decision::Answer(reply)) => reply.into_template(),
            Some(Decision::Reset) | None => ResponseTemplate::new(500),
        }
    }
}

/// The second mock: tried only for requests that the first one did not answer.
struct Resetting(Arc<Shared>);

impl Match for Resetting {
    fn matches(&self, _: &Request) -> bool {
        matches!(self.0.decision().take(), Some(Decision::Reset))
    }
}
