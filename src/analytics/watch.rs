//! Hands what sync shows of the account data to the consent machine.

use std::sync::Arc;

use matrix_sdk::event_handler::EventHandlerHandle;
use tokio::time::Instant;

use super::shared::Shared;
use crate::matrix::sync;

/// Lets every account-data event that sync carries reach the machine.
pub(super) fn watch_account_data(inner: &Arc<Shared>, event_type: String) -> EventHandlerHandle {
    let weak = Arc::downgrade(inner);
    sync::watch_account_data(&inner.client, event_type, move |content| {
        let Some(inner) = weak.upgrade() else { return };
        let now = Instant::now();
        inner.apply(|machine| machine.handle_sync_delivers(now));
        if content.is_some() {
            let seen = inner.account_data.observe(content);
            inner.apply(|machine| machine.handle_synced(&seen, now));
        }
    })
}
