//! What sync shows of the account data.

use std::{borrow::Cow, sync::Arc};

use matrix_sdk::{
    event_handler::{EventHandlerHandle, RawEvent},
    ruma::events::AnyGlobalAccountDataEvent,
};
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::time::Instant;

use super::shared::Inner;

/// Lets every account-data event of `event_type` that sync carries reach the
/// machine: classic and sliding sync both call the handler.
pub(super) fn watch_account_data(inner: &Arc<Inner>, event_type: String) -> EventHandlerHandle {
    #[derive(Deserialize)]
    struct SyncedEvent<'a> {
        #[serde(borrow, rename = "type")]
        event_type: Cow<'a, str>,
        #[serde(borrow)]
        content: &'a RawValue,
    }

    let weak = Arc::downgrade(inner);
    let event_type: Arc<str> = event_type.into();
    inner.client.add_event_handler(move |_: AnyGlobalAccountDataEvent, raw: RawEvent| {
        let (inner, event_type) = (weak.clone(), event_type.clone());
        async move {
            let Some(inner) = inner.upgrade() else { return };
            let now = Instant::now();
            inner.apply(|machine| machine.handle_sync_delivers(now));
            if let Ok(event) = serde_json::from_str::<SyncedEvent<'_>>(raw.get())
                && *event.event_type == *event_type
            {
                let seen = inner.account_data.observe(Some(event.content));
                inner.apply(|machine| machine.handle_synced(&seen, now));
            }
        }
    })
}
