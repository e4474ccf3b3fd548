//! Access to matrix-sdk. No other module calls its `Client`.

pub(crate) mod account_data;
pub(crate) mod client;
#[cfg(feature = "health")]
pub(crate) mod health;
pub(crate) mod record_store;
pub(crate) mod session;
pub(crate) mod sync;
