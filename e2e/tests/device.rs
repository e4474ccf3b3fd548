//! The app under test: a client that syncs, and its analytics.

use std::{sync::Arc, time::Duration};

use futures_util::StreamExt as _;
use matrix_analytics::{
    Analytics, ConsentState, ELEMENT_EVENT_TYPE, Limits, Policy, Properties, Recipient,
};
use matrix_sdk::{
    Client, SessionMeta, SessionTokens,
    authentication::matrix::MatrixSession,
    ruma::{OwnedUserId, RoomId},
    store::RoomLoadSettings,
};
use tempfile::TempDir;

use crate::{
    syncing::{SyncKind, Syncing},
    user::{User, http_client},
    waiting::{Result, ensure, eventually, within},
    witness::{LABEL, Witness},
};

/// Short, because a new ID settles for twice this time; long enough for a busy machine.
pub(crate) const REQUEST_TIMEOUT: Duration = Duration::from_millis(1500);

/// The handling of an expired access token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tokens {
    /// The token does not expire.
    Lasting,
    /// The SDK refreshes the token.
    Refreshed,
    /// The app has to renew the token.
    Expiring,
}

/// An installation of the app: its store, and its connection to the homeserver.
#[derive(Clone, Debug)]
pub(crate) struct Install {
    pub(crate) url: String,
    pub(crate) kind: SyncKind,
    pub(crate) tokens: Tokens,
    pub(crate) request_timeout: Duration,
    pub(crate) policy: Option<Policy>,
    store: Option<Arc<TempDir>>,
}

impl Install {
    pub(crate) fn new(url: &str, kind: SyncKind) -> Self {
        let (url, tokens, request_timeout) = (url.to_owned(), Tokens::Lasting, REQUEST_TIMEOUT);
        Self { url, kind, tokens, request_timeout, policy: None, store: None }
    }

    /// Uses a store that survives the process.
    pub(crate) fn durable(mut self) -> Result<Self> {
        self.store = Some(Arc::new(tempfile::tempdir()?));
        Ok(self)
    }

    pub(crate) async fn client(&self) -> Result<Client> {
        let mut builder = Client::builder()
            .homeserver_url(&self.url)
            .http_client(http_client())
            // The server would announce its own URL, and requests would bypass the wire.
            .respect_login_well_known(false);
        if let Some(store) = &self.store {
            builder = builder.sqlite_store(store.path(), None);
        }
        if self.tokens == Tokens::Refreshed {
            builder = builder.handle_refresh_tokens();
        }
        Ok(builder.build().await?)
    }

    /// Logs in a new device of `user`.
    pub(crate) async fn log_in(&self, user: &User, password: &str) -> Result<Client> {
        let client = self.client().await?;
        let mut login = client.matrix_auth().login_username(&user.name, password);
        if self.tokens != Tokens::Lasting {
            login = login.request_refresh_token();
        }
        login.send().await?;
        Ok(client)
    }

    /// Restores the client of an earlier session.
    pub(crate) async fn restore(&self, session: MatrixSession) -> Result<Client> {
        let client = self.client().await?;
        client.matrix_auth().restore_session(session, RoomLoadSettings::default()).await?;
        Ok(client)
    }
}

/// Returns the session of a user that was created by raw HTTP.
pub(crate) fn session_of(user: &User) -> Result<MatrixSession> {
    let user_id: OwnedUserId = user.id.as_str().try_into()?;
    Ok(MatrixSession {
        meta: SessionMeta { user_id, device_id: user.device.as_str().into() },
        tokens: SessionTokens { access_token: user.token.clone(), refresh_token: None },
    })
}

/// A running app.
pub(crate) struct Device {
    pub(crate) client: Client,
    pub(crate) analytics: Analytics,
    pub(crate) witness: Witness,
    pub(crate) syncing: Syncing,
    pub(crate) install: Install,
}

impl Device {
    /// Starts the app, and waits for the homeserver's first answer.
    pub(crate) async fn start(install: Install, client: Client) -> Result<Self> {
        let device = Self::start_unconfirmed(install, client).await?;
        let is_confirmed = |state: &ConsentState| state.confirmed;
        device.until("an answer", is_confirmed).await?;
        Ok(device)
    }

    pub(crate) async fn start_unconfirmed(install: Install, client: Client) -> Result<Self> {
        let witness = Witness::default();
        let mut builder = Analytics::builder(client.clone(), ELEMENT_EVENT_TYPE)
            .request_timeout(install.request_timeout)
            // Events leave only when they are flushed.
            .limits(Limits::default().batch_max_age(Duration::from_secs(3600)))
            .backend(Recipient::new(witness.clone()).label(LABEL));
        if let Some(policy) = &install.policy {
            builder = builder.policy(policy.clone());
        }
        let analytics = builder.build().await?;
        let syncing = Syncing::start(&client, install.kind).await?;
        Ok(Self { client, analytics, witness, syncing, install })
    }

    /// Ends the app. Only its store and its session are left.
    pub(crate) async fn quit(self) -> Result<(Install, MatrixSession)> {
        let session = self.client.matrix_auth().session().ok_or("there is a session")?;
        self.analytics.shutdown(Duration::from_secs(2)).await;
        self.syncing.stop().await;
        Ok((self.install, session))
    }

    pub(crate) async fn until(
        &self,
        what: &str,
        wanted: impl Fn(&ConsentState) -> bool,
    ) -> Result<ConsentState> {
        let mut states = self.analytics.state_stream();
        let found = within(what, async {
            loop {
                let state = states.next().await.ok_or("the handle is alive")?;
                if wanted(&state) {
                    return Ok(state);
                }
            }
        });
        found.await.map_err(|error| format!("{error}; it is {:?}", self.analytics.state()))?
    }

    pub(crate) async fn until_open(&self) -> Result<String> {
        self.until("an open gate", ConsentState::is_open).await?;
        Ok(self.analytics.analytics_id().ok_or("an open gate has an ID")?.reveal().to_owned())
    }

    /// Waits until this device knows of a change that `user` made elsewhere. Where sync carries no
    /// account data, asserts that sync did not show the change, and then rechecks.
    pub(crate) async fn learns(
        &self,
        user: &User,
        what: &str,
        wanted: impl Fn(&ConsentState) -> bool,
    ) -> Result<ConsentState> {
        if !self.install.kind.carries_account_data() {
            let before = self.analytics.state();
            let room = user.create_room(&[]).await?;
            self.sees_room(&room).await?;
            ensure("a bare sync shows no change", self.analytics.state() == before)?;
            self.analytics.recheck().await?;
        }
        self.until(what, wanted).await
    }

    /// Returns whether this device sends under `id`.
    pub(crate) fn has_id(&self, id: &str) -> bool {
        self.analytics.analytics_id().is_some_and(|now| now.reveal() == id)
    }

    pub(crate) async fn sees_room(&self, room: &str) -> Result {
        let room = <&RoomId>::try_from(room)?;
        let look = async || Ok(self.client.get_room(room).map(drop));
        eventually("a room to show", look).await
    }

    pub(crate) fn capture(&self, name: &'static str) {
        self.analytics.capture_named(name, Properties::new());
    }

    /// Captures an event, and flushes.
    pub(crate) async fn send(&self, name: &'static str) {
        self.capture(name);
        self.analytics.flush(Duration::from_secs(30)).await;
    }
}
