//! Account-data events that arrive in sync.

use std::{borrow::Cow, sync::Arc};

use matrix_sdk::{
    Client,
    event_handler::{EventHandlerHandle, RawEvent},
    ruma::events::AnyGlobalAccountDataEvent,
};
use serde::Deserialize;
use serde_json::value::RawValue;

/// Calls `handle` for each account-data event in sync, with its content if it is of
/// `event_type`, else with `None`. This covers both classic and sliding sync.
pub(crate) fn watch_account_data(
    client: &Client,
    event_type: String,
    handle: impl Fn(Option<&RawValue>) + Send + Sync + 'static,
) -> EventHandlerHandle {
    #[derive(Deserialize)]
    struct SyncedEvent<'a> {
        #[serde(borrow, rename = "type")]
        event_type: Cow<'a, str>,
        #[serde(borrow)]
        content: &'a RawValue,
    }

    let handle = Arc::new(handle);
    let event_type: Arc<str> = event_type.into();
    client.add_event_handler(move |_: AnyGlobalAccountDataEvent, raw: RawEvent| {
        let (handle, event_type) = (handle.clone(), event_type.clone());
        async move {
            let event = serde_json::from_str::<SyncedEvent<'_>>(raw.get()).ok();
            let ours = event.filter(|event| *event.event_type == *event_type);
            handle(ours.map(|event| event.content));
        }
    })
}

/// Removes the handler that [`watch_account_data`] added.
pub(crate) fn stop_watching(client: &Client, handler: EventHandlerHandle) {
    client.remove_event_handler(handler);
}
