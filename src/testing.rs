//! Test doubles for the integration tests of apps (feature `testing`).
//!
//! [`AccountDataServer`] mocks the account-data part of a Matrix homeserver: a stateful
//! mock for any number of users, devices and event types, over real HTTP on the loopback
//! interface. It reproduces the measured answers of Synapse 1.163, delivers changes
//! through both kinds of sync, and can simulate every [`Fault`].
//!
//! [`RecordingBackend`] keeps the events it receives, [`FailingBackend`] fails on
//! command, and [`contract::check`] is the test suite that every
//! [`Backend`](crate::Backend) must pass. [`GuardProbe`] shows how the guard treats a
//! text, and [`consent_state`] creates states for tests of a settings page.
//!
//! These items are for tests only: functions panic where a test should fail. The guide's
//! [tour](crate::guide::tour) has a complete test of an app: it opts in, captures, sees the
//! event recorded, and opts out.
//!
//! # Before you write a test
//!
//! - Run tests with `DO_NOT_TRACK` unset or empty: the builder obeys it, and the gate
//!   stays closed. `env -u DO_NOT_TRACK cargo test` unsets it once. To unset it for all
//!   developers, add `DO_NOT_TRACK = { value = "", force = true }` under `[env]` in
//!   `.cargo/config.toml`.
//! - Do not pause Tokio's time. Paused time jumps to the next timer whenever the runtime
//!   waits for a socket, so every timeout expires at once and no request is ever
//!   answered. The only real-time wait is the settle time of a new ID. Shorten it with
//!   [`request_timeout`](crate::AnalyticsBuilder::request_timeout), or opt the account in
//!   with [`AccountDataServer::set_content`], which has no settle time.
//! - To test a restart, use a client with a store on disk
//!   ([`AccountDataServer::client_with`]): `client_with(&device, |builder|
//!   builder.sqlite_store(directory, None))`. An in-memory store does not remember the
//!   opt-in.
//!
//! # Example
//!
//! Two devices share one account: the second receives the first one's change through
//! sync, and the first one then runs into a server error.
//!
//! ```
//! use matrix_analytics::testing::{AccountDataMethod, AccountDataServer, Fault};
//! use matrix_sdk::{
//!     config::SyncSettings,
//!     ruma::{events::GlobalAccountDataEventType, serde::Raw},
//! };
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let homeserver = AccountDataServer::start().await;
//! let phone = homeserver.add_device("@alice:example.org", "PHONE");
//! let laptop = homeserver.add_device("@alice:example.org", "LAPTOP");
//! let phone_client = homeserver.client(&phone).await?;
//! let laptop_client = homeserver.client(&laptop).await?;
//!
//! let event_type = GlobalAccountDataEventType::from("org.example.settings");
//! let content = Raw::from_json_string(r#"{"theme":"dark"}"#.to_owned())?;
//! phone_client.account().set_account_data_raw(event_type.clone(), content.clone()).await?;
//! assert_eq!(
//!     homeserver.content("@alice:example.org", "org.example.settings").as_deref(),
//!     Some(r#"{"theme":"dark"}"#),
//! );
//!
//! laptop_client.sync_once(SyncSettings::new()).await?;
//! let seen = laptop_client.account().account_data_raw(event_type.clone()).await?;
//! assert_eq!(seen.map(|raw| raw.json().get().to_owned()).as_deref(), Some(r#"{"theme":"dark"}"#));
//!
//! homeserver.fail_next_on(AccountDataMethod::Put, Fault::ServerError(502));
//! assert!(phone_client.account().set_account_data_raw(event_type, content).await.is_err());
//! let statuses: Vec<_> = homeserver.requests().iter().map(|request| request.status()).collect();
//! assert_eq!(statuses, [Some(200), Some(502)]);
//! # Ok(())
//! # }
//! ```

mod consent;
pub mod contract;
mod events;
mod failing;
mod fault;
mod guard_probe;
mod homeserver;
mod recording;

pub use self::{
    consent::consent_state,
    events::{batch, event, event_at, with_user_properties},
    failing::{DeliveryFailure, FailingBackend},
    fault::{Fault, FaultRule},
    guard_probe::GuardProbe,
    homeserver::{
        AccountDataMethod, AccountDataRequest, AccountDataServer, ClientError, DeviceLogin,
        InitialSync, Msc3391, Outcome,
    },
    recording::{ReceivedBatch, ReceivedEvent, RecordingBackend},
};
#[cfg(feature = "sqlite")]
pub use crate::sink::queue::sqlite::HangingDisk;
