//! Passes account data from sync to the consent machine.

use std::sync::Arc;

use matrix_sdk::event_handler::EventHandlerHandle;
use tokio::time::Instant;

use super::shared::Shared;
use crate::matrix::sync;

/// Passes every account-data event in sync to the machine.
pub(super) fn watch_account_data(shared: &Arc<Shared>, event_type: String) -> EventHandlerHandle {
    let weak = Arc::downgrade(shared);
    sync::watch_account_data(&shared.client, event_type, move |content| {
        let Some(shared) = weak.upgrade() else { return };
        let now = Instant::now();
        shared.apply(|machine| machine.handle_sync_delivers(now));
        if content.is_some() {
            let seen = shared.account_data.observe(content);
            shared.apply(|machine| machine.handle_synced(&seen, now));
        }
    })
}
